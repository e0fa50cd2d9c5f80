//! What a node does wrong on purpose.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time;

use super::{
    network::client,
    rig::{Rig, WAIT, config, random_key, until},
};
use crate::{
    capability::{Envelope, Handle},
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{DeploymentState, InfoReply, ListPage, Manifest, ToldState, path, tolerant},
        node::{FAULTS_FILE, NodeConfig, RunningNode, wall_clock},
    },
};

const MINUTES: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_node_that_lies_says_what_is_not_so_and_only_that() {
    let mut rig = Rig::start().await;
    let id = rig.running(&format!("echo usage rx=5 tx=6; {WAIT}"), &[0]).await;
    let key = format!("{id}_device.web");
    rig.status_when(&id, |status| status.allocations[&key].resource_usage.network_tx_bytes == 6).await;
    let honest = rig.manifest(&id).await.manifest.unwrap();

    rig.set_faults("foreign-id");
    let told = rig.manifest(&id).await.manifest.unwrap();
    assert!(told.id != id && told.id.len() == 64, "{}", told.id);
    assert_eq!(Manifest { id: id.clone(), ..told.clone() }, honest);
    let status = rig.status(&id).await;
    assert_eq!(status.allocations.into_keys().collect::<Vec<_>>(), [format!("{}_device.web", told.id)]);

    rig.set_faults("foreign-peer");
    let mut told = rig.manifest(&id).await.manifest.unwrap();
    let peer = std::mem::replace(&mut told.nodes.get_mut("device").unwrap().peer, rig.node_key.did().peer_id());
    assert!(peer != rig.node_key.did().peer_id() && peer.starts_with("12D3KooW"), "{peer}");
    assert_eq!(told, honest);

    rig.set_faults("unknown-state");
    let other = Some(ToldState::Unknown("Hibernating".into()));
    let mut status = rig.status(&id).await;
    assert_eq!(status.state.replace(DeploymentState::Running.into()), other);
    let info: InfoReply = tolerant::decode(rig.call(path::DEPLOYMENT_INFO, json!({"id": id})).await).unwrap();
    let list: ListPage = tolerant::decode(rig.call(path::DEPLOYMENT_LIST, json!({})).await).unwrap();
    assert_eq!((info.state, Some(list.deployments[0].state.clone())), (other.clone(), other));
    assert_eq!(rig.status(&"0".repeat(64)).await.state, None, "what is not there is in no state");
    rig.set_faults("");
    assert_eq!(rig.status(&id).await.allocations.len(), status.allocations.len());

    rig.set_faults("impossible-usage");
    // Too much at times, too little at others, by lot.
    let mut told = BTreeSet::new();
    for _ in 0..64 {
        let usage = rig.status(&id).await.allocations[&key].resource_usage;
        told.insert((usage.network_rx_bytes, usage.network_tx_bytes));
    }
    assert_eq!(told, BTreeSet::from([(0, 0), (1 << 62, 1 << 62)]));

    rig.set_faults("");
    assert_eq!(rig.manifest(&id).await.manifest, Some(honest));
    assert_eq!(rig.status(&id).await.allocations[&key].resource_usage.network_rx_bytes, 5);
    rig.stop().await;
}

#[tokio::test]
async fn replies_leave_in_another_order_or_by_another_key() {
    let mut rig = Rig::start().await;
    rig.set_faults("reorder");
    let mut asked = Vec::new();
    for number in 1..=3 {
        let envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES).sign(&rig.caller);
        rig.send(&envelope).await;
        until("it is acted on", || rig.wire_log().len() == number).await;
        asked.push(envelope);
    }
    for envelope in asked.iter().rev() {
        rig.reply_to(envelope).await;
    }
    rig.set_faults("wrong-key");
    let envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    let frame = time::timeout(Duration::from_secs(20), rig.outbound.recv()).await.unwrap().unwrap();
    let reply = Envelope::parse(&frame.body).unwrap();
    let signer = reply.verify(rig.now()).unwrap();
    assert_eq!((Some(&reply.behaviour), &reply.from), (envelope.continuation.as_ref(), &Handle::root_of(&signer)));
    assert_ne!(signer, *rig.node_key.did());
    rig.stop().await;
}

#[tokio::test]
async fn a_full_disk_is_said_and_what_cannot_be_started_is_started_later() {
    let mut rig = Rig::start().await;
    let request = rig.request(WAIT, &[0]);
    rig.set_faults("full-disk");
    let refused = rig.call(path::DEPLOYMENT_NEW, request.clone()).await;
    assert_eq!(refused["Status"], "ERROR", "{refused}");
    assert!(refused["Error"].as_str().unwrap().contains("could not write"), "{refused}");
    rig.set_faults("");
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["total"], 0);

    rig.set_faults("no-start");
    let unstarted = rig.new_deployment(request.clone()).await;
    rig.until_state(&unstarted, DeploymentState::Provisioning).await;
    let inside = rig.directory.path().join("deployments").join(&unstarted).join("device.web/pid");
    rig.status_when(&unstarted, |_| true).await;
    assert!(!inside.exists(), "a process ran");
    rig.set_faults("");
    rig.until_state(&unstarted, DeploymentState::Running).await;

    rig.set_faults("die-at-once");
    let dying = rig.new_deployment(request).await;
    rig.status_when(&dying, |status| status.allocations.values().any(|info| info.status == "restarting")).await;
    let incarnation = rig.node.0.lifecycle.store.get(&dying).await.unwrap().allocations["device.web"].incarnation;
    rig.set_faults("");
    rig.status_when(&dying, |status| status.allocations.values().any(|info| info.status == "running")).await;
    rig.written(&dying, "pid").await;
    let after = rig.node.0.lifecycle.store.get(&dying).await.unwrap().allocations["device.web"].incarnation;
    assert!(after > incarnation, "{after} after {incarnation}");
    rig.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_off_judges_by_its_own_time() {
    let mut rig = Rig::start().await;
    rig.set_faults("clock=+90s");
    let envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, Duration::from_secs(60));
    rig.send(&envelope.sign(&rig.caller)).await;
    until("it is taken for expired", || rig.node.dropped().contains_key("Expired")).await;
    rig.set_faults("clock=-90s");
    let envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, Duration::from_secs(30)).sign(&rig.caller);
    rig.pass(Duration::from_secs(60));
    rig.send(&envelope).await;
    assert!(time::timeout(Duration::from_secs(20), rig.outbound.recv()).await.is_ok(), "it was not taken for fresh");
    assert_eq!(rig.node.dropped().values().sum::<u64>(), 1);
    rig.stop().await;
}

/// Over real connections: what is spoilt on its way is silence for who asked, and leaves nothing behind.
#[tokio::test]
async fn spoilt_connections_are_silence_and_heal() {
    let directory = tempfile::tempdir().unwrap();
    let (node_key, caller) = (random_key(), random_key());
    let config =
        NodeConfig { clock: wall_clock(), ..config(directory.path(), &node_key, &caller, &std::sync::Arc::default()) };
    let node = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".into()]).await.unwrap();
    let target = DeviceTarget { did: node_key.did().clone(), addresses: node.addresses().to_vec(), grant: None };
    let client = client(&caller).await;
    let ask = async |wait| client.call(&target, path::PEERS_SELF, Value::Null, wait).await;
    let (short, long) = (Duration::from_millis(700), Duration::from_secs(20));
    let faults = |text: &str| std::fs::write(directory.path().join(FAULTS_FILE), text).unwrap();
    ask(long).await.unwrap();
    for fault in ["cut", "half-open", "wrong-key", "mute"] {
        faults(fault);
        let silence = ask(short).await;
        assert!(matches!(silence, Err(CallError::Silent { .. })), "{fault}: {silence:?}");
        faults("");
        assert_eq!(ask(long).await.unwrap()["id"], node_key.did().peer_id(), "after {fault}");
    }
    let begun = time::Instant::now();
    ask(long).await.unwrap();
    let usual = begun.elapsed();
    faults("slow-read");
    // From the next message on.
    ask(long).await.unwrap();
    let begun = time::Instant::now();
    ask(long).await.unwrap();
    assert!(begun.elapsed() > usual + Duration::from_millis(200), "{:?} and {usual:?}", begun.elapsed());
    assert_eq!(client.link().counters().connections(), 1, "the connection was lost");
    node.stop().await;
}
