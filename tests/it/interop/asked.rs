//! Go asks our node for all it serves. Each reply is read by Go's structs of the newest release: no member more, none of
//! another type, none in another spelling.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    capability::Key,
    device::dms::{self, path},
    plan::build::EnsembleSpec,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{GoCaller, GoPeer, OurNode, SOON, grant, ours::hello, seed};
use crate::timed::Timed;

#[tokio::test]
async fn our_node_tells_of_itself_as_go_reads_it() {
    let _timed = Timed::start();
    let caller = seed();
    let did = Key::from_seed(caller).did().clone();
    let node = OurNode::start(&[&did]).await;
    let nothing = json!({});
    let mut go = GoCaller::start(&node, caller, &[]);
    let who = go.reply(path::PEERS_SELF, nothing.clone()).await;
    assert_eq!(who["id"], json!(node.peer_id()));
    let hello = go.reply(path::PUBLIC_HELLO, Value::Null).await;
    assert_eq!(hello["DID"]["uri"], json!(node.did()));
    let status = go.reply(path::PUBLIC_STATUS, nothing.clone()).await;
    assert_eq!((&status["Status"], &status["Resources"]["cpu"]["cores"]), (&json!("OK"), &json!(4.0)));
    let status = go.reply(path::NODE_STATUS, nothing.clone()).await;
    let status = &status[node.peer_id()];
    assert_eq!((&status["did"], &status["network"]["p2p"]), (&json!(node.did()), &who));
    assert_eq!(go.reply(path::HEALTHCHECK, json!("")).await, json!({"OK": true, "Error": ""}));
    assert_eq!(go.reply(path::ONBOARDING_STATUS, nothing.clone()).await["onboarded"], json!(true));
    let trusted = go.reply(path::CAP_LIST, json!({"Context": "dms"})).await;
    assert_eq!(trusted["Roots"], json!([{ "uri": did }]));
    offers_resources(&mut go).await;
    assert_eq!(node.drops(), 0);
    node.stop().await;
}

/// It stops to, and begins again with less; it cannot offer more than there is.
async fn offers_resources(go: &mut GoCaller) {
    let cores =
        async |go: &mut GoCaller, behaviour| go.reply(behaviour, json!({})).await["Resources"]["cpu"]["cores"].clone();
    assert_eq!(cores(go, path::HARDWARE_SPEC).await, json!(4.0));
    assert_eq!(cores(go, path::HARDWARE_USAGE).await, json!(0.0));
    assert_eq!(go.reply(path::ONBOARDING_OFFBOARD, json!({})).await["success"], true);
    assert_eq!(go.reply(path::ONBOARDING_STATUS, json!({})).await["onboarded"], false);
    for (offered, taken) in [(5.0, false), (2.0, true)] {
        let resources =
            json!({"cpu": {"clock_speed": 1e9, "cores": offered}, "ram": {"size": 1e6}, "disk": {"size": 1e6}});
        let request = json!({"NoGPU": true, "Config": {"onboarded_resources": resources}});
        let reply = go.reply(path::ONBOARDING_ONBOARD, request).await;
        assert_eq!(reply["success"], taken, "{reply}");
    }
    assert_eq!(go.reply(path::ONBOARDING_STATUS, json!({})).await["onboarded"], true);
    assert_eq!(cores(go, path::RESOURCES_ONBOARDED).await, json!(2.0));
}

#[tokio::test]
async fn our_node_takes_tokens_and_revocations_from_go() {
    let _timed = Timed::start();
    let (root, guest) = (seed(), seed());
    let node = OurNode::start(&[Key::from_seed(root).did()]).await;
    let mut go = GoCaller::start(&node, root, &[]);
    let mut guest_of_node = GoCaller::start(&node, guest, &[]);
    let ask = json!({"behaviour": path::PEERS_SELF, "message": {}, "wait": 300});
    guest_of_node.send(ask.clone()).await;
    assert_eq!(guest_of_node.line().await["event"], "silent");
    let token = grant(&Key::from_seed(root), Key::from_seed(guest).did(), "/dms/node/peers");
    let list = |token: &dms_operator::capability::Token| json!({"Token": {"tok": [serde_json::from_slice::<Value>(&token.to_json()).unwrap()]}});
    let done = json!({"OK": true, "Error": ""});
    assert_eq!(go.reply(path::CAP_REQUIRE, list(&token)).await, done);
    // No longer than the anchor.
    guest_of_node.reply_to(json!({"behaviour": path::PEERS_SELF, "message": {}})).await;
    let revocation = dms_operator::capability::Token::revoke(&Key::from_seed(root), &token).unwrap();
    assert_eq!(go.reply(path::CAP_REVOKE, list(&revocation)).await, done);
    guest_of_node.send(ask).await;
    assert_eq!(guest_of_node.line().await["event"], "silent");
    let trusted = go.reply(path::CAP_LIST, json!({"Context": "dms"})).await;
    assert_eq!(trusted["Revoke"], list(&revocation)["Token"], "{trusted}");
    node.stop().await;
}

#[tokio::test]
async fn our_node_connects_to_a_go_peer_and_tells_how_far_it_is() {
    let _timed = Timed::start();
    let caller = seed();
    let did = Key::from_seed(caller).did().clone();
    let (node, other) = (OurNode::start(&[&did]).await, GoPeer::serve(&[&did], &[]).await);
    let (mut go, there) = (GoCaller::start(&node, caller, &[]), other.target.did.peer_id());
    assert_eq!(go.reply(path::PEERS_LIST, json!({})).await, json!({"Peers": [did.peer_id()]}));
    let unseen = go.reply(path::PEERS_PING, json!({ "Host": there })).await;
    assert!(unseen["Error"] != "" && unseen["RTT"] == 0, "{unseen}");
    let bare = go.reply(path::PEERS_CONNECT, json!({"Address": other.target.addresses[0]})).await;
    assert!(bare["Status"] == "" && bare["Error"] != "", "{bare}");
    let connected = go.reply(path::PEERS_CONNECT, json!({"Address": other.address()})).await;
    assert_eq!(connected, json!({"Status": "CONNECTED", "Error": ""}));
    let mut both = [did.peer_id(), there.clone()];
    both.sort();
    assert_eq!(go.reply(path::PEERS_LIST, json!({})).await, json!({ "Peers": both }));
    assert_eq!(go.reply(path::PEERS_PING, json!({ "Host": there })).await["Error"], "");
    assert_eq!(node.drops(), 0);
    node.stop().await;
}

fn with_metadata(spec: EnsembleSpec, owner: &str) -> EnsembleSpec {
    EnsembleSpec { metadata: [("owner".to_owned(), owner.to_owned())].into(), ..spec }
}

#[tokio::test]
async fn our_node_deploys_as_go_reads_it() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut go = GoCaller::start(&node, caller, &[]);
    let request = dms::deployment_new_request(&with_metadata(hello(&node.peer_id()), "go"));
    let short = json!({"behaviour": path::DEPLOYMENT_NEW, "message": request, "lives": 58_000});
    let short = go.reply_to(short).await;
    assert_eq!(short, json!({"Status": "ERROR", "Error": "requested deployment time too short"}));
    let new = go.reply(path::DEPLOYMENT_NEW, request).await;
    let id = new["EnsembleID"].as_str().unwrap().to_owned();
    let deadline = Instant::now() + SOON;
    let status = loop {
        let status = go.reply(path::DEPLOYMENT_STATUS, json!({"id": id, "include_usage": true})).await;
        if status["status"] == "Running" {
            break status;
        }
        assert!(Instant::now() < deadline, "still {status}");
        sleep(Duration::from_millis(10)).await;
    };
    let full = format!("{id}_device.web");
    assert_eq!(status["allocation_info"][&full]["allocation_id"], json!(full));
    let manifest = go.reply(path::DEPLOYMENT_MANIFEST, json!({ "ID": id })).await["manifest"].clone();
    assert_eq!((&manifest["id"], &manifest["metadata"]), (&json!(id), &json!({"owner": "go"})));
    assert_eq!(manifest["allocations"]["device.web"]["ports"].as_object().unwrap().len(), 1);
    assert_eq!(manifest["nodes"]["device"]["peer"], json!(node.peer_id()));
    let info = json!({"id": id, "include_usage": true, "include_logs": true, "allocation_names": ["web"]});
    let info = go.reply(path::DEPLOYMENT_INFO, info).await;
    assert_eq!((&info["status"], &info["manifest"]["id"]), (&json!("Running"), &json!(id)));
    let list = go.reply(path::DEPLOYMENT_LIST, json!({"metadata": {"owner": "go"}, "status": [4], "limit": 1})).await;
    assert_eq!(list["deployments"][0]["orchestrator_id"], json!(id), "{list}");
    for what in [path::RESOURCES_ONBOARDED, path::RESOURCES_ALLOCATED, path::RESOURCES_FREE] {
        assert_eq!(go.reply(what, json!({})).await["error"], Value::Null, "{what}");
    }
    reads_logs(&mut go, &id).await;
    let update =
        json!({"EnsembleID": id, "Ensemble": dms::deployment_new_request(&hello(&node.peer_id()))["Ensemble"]});
    let update = go.reply(path::DEPLOYMENT_UPDATE, update).await;
    assert_eq!(update["OK"], false, "our node updates nothing: {update}");
    let done = json!({"OK": true, "Error": ""});
    assert_eq!(go.reply(path::DEPLOYMENT_SHUTDOWN, json!({ "ID": id })).await, done);
    assert_eq!(go.reply(path::DEPLOYMENT_SHUTDOWN, json!({ "ID": id })).await["Error"], "deployment is not running");
    assert_eq!(go.reply(path::DEPLOYMENT_PRUNE, json!({"before": "1d"})).await["ok"], true);
    let deleted = go.reply(path::DEPLOYMENT_DELETE, json!({ "orchestrator_id": id })).await;
    assert_eq!(deleted, json!({"ok": true, "error": ""}));
    let list = go.reply(path::DEPLOYMENT_LIST, json!({})).await;
    assert_eq!((&list["deployments"], &list["total"]), (&json!([]), &json!(0)));
    assert_eq!(node.drops(), 0);
    node.stop().await;
}

async fn reads_logs(go: &mut GoCaller, id: &str) {
    let behaviour = path::allocation_logs(id);
    for (stream, text) in [("stdout", "hello\n"), ("stderr", "alas\n")] {
        let deadline = Instant::now() + SOON;
        let (mut got, mut offset) = (Vec::new(), 0);
        while got != text.as_bytes() {
            let request =
                json!({"AllocName": "device.web", "ack": offset, "offset": offset, "max_bytes": 3, "Stream": stream});
            let chunk = go.reply(&behaviour, request).await;
            let data = STANDARD.decode(chunk["data"].as_str().unwrap_or_default()).unwrap();
            assert!(data.len() <= 3, "{chunk}");
            offset += data.len();
            got.extend(data);
            assert!(Instant::now() < deadline, "{stream} is {got:?}");
        }
    }
    let of = json!({"EnsembleID": id, "AllocationName": "device.web"});
    let written = go.reply(path::DEPLOYMENT_LOGS, of.clone()).await;
    assert_ne!(written["LogsWrittenTo"], "", "{written}");
    let follow = json!({"EnsembleID": id, "AllocationName": "device.web", "Follow": true, "FollowIntervalSeconds": 1});
    let begun = go.reply(path::DEPLOYMENT_LOGS_ASYNC, follow).await;
    assert_eq!((&begun["Status"], &begun["FollowInterval"]), (&json!("running"), &json!("1s")));
    let deadline = Instant::now() + SOON;
    while go.reply(path::DEPLOYMENT_LOGS_ASYNC_STATUS, of.clone()).await["BytesWritten"] != json!(11) {
        assert!(Instant::now() < deadline, "the log is not written");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(go.reply(path::DEPLOYMENT_LOGS_ASYNC_STOP, of).await["Status"], "stopped");
}
