//! Deployments: taken, listed, stopped, deleted; and what goes wrong on purpose.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::MINUTES;
use super::rig::{Rig, WAIT, until};
use crate::device::dms::{DeploymentState, ListPage, Manifest, NewReply, path, tolerant};
use crate::plan::tag::{Installation, Marks};

#[tokio::test]
async fn a_deployment_lives_from_new_to_delete() {
    let mut rig = Rig::start().await;
    let id = rig.running(WAIT, &[0]).await;

    let port = rig.port_of(&id).await;
    assert_eq!(rig.written(&id, "listen").await, format!("127.0.0.1:{port}"));
    let peer = rig.node_key.did().peer_id();
    let manifest = rig.call(path::DEPLOYMENT_MANIFEST, json!({"id": id})).await;
    let expected = json!({"manifest": {
        "id": id, "metadata": {"owner": "tests"},
        "allocations": {"device.web": {"id": format!("{id}_device.web"), "node_id": "device", "type": "service",
            "dns_name": "web", "ports": {port.to_string(): 8080}, "status": "running"}},
        "nodes": {"device": {"id": "device", "peer": peer, "pub_address": ["192.0.2.1"], "allocations": ["web"]}}}});
    assert_eq!(manifest, expected);

    let list = rig.call(path::DEPLOYMENT_LIST, json!({})).await;
    let now = rig.now().to_string();
    let entry = json!({"orchestrator_id": id, "status": "Running", "created_at": now, "updated_at": now,
                       "metadata": {"owner": "tests"}});
    assert_eq!(list, json!({"deployments": [entry], "total": 1, "has_more": false}));

    let pid = rig.written(&id, "pid").await;
    let too_early = rig.call(path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id})).await;
    assert_eq!(too_early["ok"], false, "{too_early}");
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await, json!({"OK": true, "Error": ""}));
    assert!(!super::rig::is_alive(&pid), "the child outlived its deployment");
    let over = rig.status(&id).await;
    assert_eq!((over.state, over.allocations.len()), (Some(DeploymentState::Completed.into()), 0));
    let again = rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await;
    assert_eq!(again, json!({"OK": false, "Error": "deployment is not running"}));

    let deleted = rig.call(path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id})).await;
    assert_eq!(deleted, json!({"ok": true, "error": ""}));
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["deployments"], json!([]));
    assert!(!rig.directory.path().join("deployments").join(&id).exists());
    let gone = rig.status(&id).await;
    assert!(gone.state.is_none() && gone.error.contains(&id), "{gone:?}");
    assert!(rig.manifest(&id).await.manifest.is_none());
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], false);
    assert_eq!(rig.call(path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id})).await["ok"], false);
    rig.stop().await;
}

#[tokio::test]
async fn new_asks_for_59_seconds() {
    let mut rig = Rig::start().await;
    let request = rig.request(WAIT, &[]);
    let short = Duration::from_nanos(58_999_999_999);
    let refused = rig.call_for(path::DEPLOYMENT_NEW, request.clone(), short).await;
    assert_eq!(refused, json!({"Status": "ERROR", "Error": "requested deployment time too short"}));
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["total"], 0);
    let taken = rig.call_for(path::DEPLOYMENT_NEW, request, Duration::from_secs(59)).await;
    assert_eq!(taken["Status"], "OK");
    rig.stop().await;
}

#[tokio::test]
async fn a_request_without_an_ensemble_is_refused_with_words() {
    let mut rig = Rig::start().await;
    for wrong in [Value::Null, json!({}), json!({"Ensemble": {"v1": {"allocations": []}}})] {
        let reply: NewReply = serde_json::from_value(rig.call(path::DEPLOYMENT_NEW, wrong).await).unwrap();
        assert!(reply.ensemble_id.is_empty() && !reply.error.is_empty(), "{reply:?}");
    }
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["total"], 0);
    rig.stop().await;
}

#[tokio::test]
async fn the_same_message_is_taken_once() {
    let mut rig = Rig::start().await;
    let request = rig.request(WAIT, &[]);
    let envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    let id = rig.reply_to(&envelope).await["EnsembleID"].as_str().unwrap().to_owned();
    rig.send(&envelope).await;
    until("it is dropped", || rig.node.dropped().contains_key("Replayed")).await;

    // Not even after a restart and when the first one is gone.
    rig.until_state(&id, DeploymentState::Running).await;
    let mut rig = rig.restart().await;
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    assert_eq!(rig.call(path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id})).await["ok"], true);
    rig.send(&envelope).await;
    until("it is dropped again", || rig.node.dropped().contains_key("Replayed")).await;
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["total"], 0);

    // The same request in another message is another deployment.
    let other = rig.new_deployment(request).await;
    assert_ne!(other, id);
    rig.stop().await;
}

#[tokio::test]
async fn an_attempt_that_is_asked_for_twice_is_one_deployment() {
    let mut rig = Rig::start().await;
    let mut request = rig.request(WAIT, &[0]);
    let device = rig.node_key.did().clone();
    let marks = Marks {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "0b2f".into(),
        attempt: 1,
        device,
        digest: "ab".repeat(32),
    };
    let ours = Installation::new("one".into(), rand::random());
    request["Ensemble"]["v1"]["metadata"] = json!(ours.mark(&marks));
    let id = rig.new_deployment(request.clone()).await;
    assert_eq!(rig.new_deployment(request.clone()).await, id);
    rig.until_state(&id, DeploymentState::Running).await;
    let mut rig = rig.restart().await;
    assert_eq!(rig.new_deployment(request.clone()).await, id);
    assert_eq!((page(&mut rig, json!({})).await.total, rig.node.0.lifecycle.at_work()), (Some(1), vec![id.clone()]));
    assert_eq!(rig.node.0.lifecycle.store.get(&id).await.unwrap().allocations["device.web"].incarnation, 2);

    let mut next = request.clone();
    next["Ensemble"]["v1"]["metadata"] = json!(ours.mark(&Marks { attempt: 2, ..marks }));
    assert_ne!(rig.new_deployment(next).await, id);
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    assert_ne!(rig.new_deployment(request).await, id, "it is over");
    rig.stop().await;
}

#[tokio::test]
async fn only_what_is_over_is_pruned() {
    let mut rig = Rig::start().await;
    let (old, young, running) =
        (rig.running(WAIT, &[]).await, rig.running(WAIT, &[]).await, rig.running(WAIT, &[]).await);
    for id in [&old, &young] {
        assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    }
    rig.pass(Duration::from_hours(1));
    let refused = rig.call(path::DEPLOYMENT_PRUNE, json!({})).await;
    assert!(refused["ok"] == false && refused["error"].as_str().unwrap().contains("before"), "{refused}");
    let refused = rig.call(path::DEPLOYMENT_PRUNE, json!({"before": "tomorrow"})).await;
    assert!(refused["error"].as_str().unwrap().contains("tomorrow"), "{refused}");
    assert_eq!(rig.call(path::DEPLOYMENT_PRUNE, json!({"before": "2h"})).await, json!({"ok": true, "error": ""}));
    assert_eq!(page(&mut rig, json!({})).await.total, Some(3), "nothing is so old");
    assert_eq!(rig.call(path::DEPLOYMENT_PRUNE, json!({"before": "30m"})).await["ok"], true);
    assert_eq!(page(&mut rig, json!({})).await.total, Some(1));
    assert!(!rig.directory.path().join("deployments").join(&old).exists());
    assert_eq!(rig.call(path::DEPLOYMENT_PRUNE, json!({"all": true})).await["ok"], true);
    assert_eq!(rig.status(&running).await.state, Some(DeploymentState::Running.into()));
    rig.stop().await;
}

#[tokio::test]
async fn an_update_is_refused_and_changes_nothing() {
    let mut rig = Rig::start().await;
    let id = rig.running(WAIT, &[]).await;
    let pid = rig.written(&id, "pid").await;
    let mut request = rig.request("exit", &[]);
    for (which, why) in [(id.as_str(), "does not update"), ("other", "failed to get orchestrator")] {
        request["EnsembleID"] = json!(which);
        let refused = rig.call(path::DEPLOYMENT_UPDATE, request.clone()).await;
        assert!(refused["OK"] == false && refused["Error"].as_str().unwrap().contains(why), "{refused}");
    }
    assert!(super::rig::is_alive(&pid));
    assert_eq!(rig.status(&id).await.state, Some(DeploymentState::Running.into()));
    rig.stop().await;
}

#[tokio::test]
async fn what_cannot_run_here_fails_at_its_deadline() {
    let mut rig = Rig::start().await;
    let mut null = rig.request(WAIT, &[]);
    null["Ensemble"]["v1"]["allocations"]["web"]["executor"] = json!("null");
    let mut foreign = rig.request(WAIT, &[]);
    let image = format!("nginx@sha256:{}", "cd".repeat(32));
    foreign["Ensemble"]["v1"]["allocations"]["web"]["execution"]["params"]["image"] = json!(image);
    let mut ids = Vec::new();
    for request in [null, foreign] {
        ids.push(rig.new_deployment(request).await);
    }
    rig.pass(Duration::from_secs(300 - 16));
    for id in &ids {
        let status = rig.status(id).await;
        assert_eq!(status.state, Some(DeploymentState::Preparing.into()));
        let refused = rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await;
        assert_eq!(refused, json!({"OK": false, "Error": "deployment is not running"}));
    }
    rig.pass(Duration::from_secs(1));
    for id in &ids {
        rig.until_state(id, DeploymentState::Failed).await;
        let manifest: Manifest = rig.manifest(id).await.manifest.unwrap();
        assert_eq!((manifest.metadata["owner"].as_str(), manifest.allocations.len()), ("tests", 0));
        assert!(!rig.directory.path().join("deployments").join(id).exists(), "something ran");
    }
    until("no work is left", || rig.node.0.lifecycle.at_work().is_empty()).await;
    rig.stop().await;
}

async fn page(rig: &mut Rig, query: Value) -> ListPage {
    tolerant::decode(rig.call(path::DEPLOYMENT_LIST, query).await).unwrap()
}

#[tokio::test]
async fn a_list_is_paged_then_filtered() {
    let mut rig = Rig::start().await;
    let mut ids = Vec::new();
    for colour in ["red", "blue", "red"] {
        let mut request = rig.request(WAIT, &[]);
        request["Ensemble"]["v1"]["metadata"] = json!({"colour": colour, "Shape": "round"});
        ids.push(rig.new_deployment(request).await);
        rig.pass(Duration::from_secs(1));
    }
    let found = |page: &ListPage| page.deployments.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>();

    let all = page(&mut rig, Value::Null).await;
    assert_eq!((found(&all), all.total, all.has_more, all.next_offset), (ids.clone(), Some(3), false, None));
    let red = page(&mut rig, json!({"metadata": {"colour": "red"}})).await;
    assert_eq!((found(&red), red.total), (vec![ids[0].clone(), ids[2].clone()], Some(2)));
    for none in [json!({"colour": "green"}), json!({"Colour": "red"}), json!({"colour": "red", "Shape": "flat"})] {
        assert_eq!(found(&page(&mut rig, json!({"metadata": none})).await), Vec::<String>::new());
    }

    let first = page(&mut rig, json!({"limit": 2})).await;
    assert_eq!((found(&first), first.total, first.next_offset), (ids[..2].to_vec(), Some(3), Some(2)));
    let second = page(&mut rig, json!({"limit": 2, "offset": 2})).await;
    assert_eq!((found(&second), second.has_more, second.next_offset), (ids[2..].to_vec(), false, None));
    assert_eq!(found(&page(&mut rig, json!({"offset": 99})).await), Vec::<String>::new());

    let middle = rig.node.0.lifecycle.store.get(&ids[1]).await.unwrap().created_at;
    let (after, before) = (json!({"created_after": middle.to_string()}), json!({"created_before": middle.to_string()}));
    assert_eq!(found(&page(&mut rig, after).await), ids[2..]);
    assert_eq!(found(&page(&mut rig, before).await), ids[..1]);
    let never = json!({"updated_before": middle.minus(Duration::from_hours(1)).to_string()});
    assert_eq!(found(&page(&mut rig, never).await), Vec::<String>::new());
    let ever = json!({"updated_after": middle.minus(Duration::from_hours(1)).to_string()});
    assert_eq!(found(&page(&mut rig, ever).await), ids);

    let blue = page(&mut rig, json!({"limit": 1, "metadata": {"colour": "blue"}})).await;
    assert_eq!((found(&blue), blue.has_more, blue.total), (vec![], true, Some(0)), "as DMS filters: behind the cut");

    rig.until_state(&ids[1], DeploymentState::Running).await;
    let running = page(&mut rig, json!({"status": [4], "id": ids[1]})).await;
    assert_eq!(found(&running), [ids[1].clone()]);
    assert_eq!(found(&page(&mut rig, json!({"status": [7]})).await), Vec::<String>::new());
    // What it cannot read is an empty list too, without a word.
    let unread = rig.call(path::DEPLOYMENT_LIST, json!({"limit": "many"})).await;
    assert_eq!(unread, json!({"deployments": [], "total": 0, "has_more": false}));
    rig.stop().await;
}

#[tokio::test]
async fn faults_can_be_switched_while_it_runs() {
    let mut rig = Rig::start().await;
    let request = rig.request(WAIT, &[]);
    rig.new_deployment(request.clone()).await;

    rig.set_faults("list-empty");
    assert_eq!(page(&mut rig, json!({})).await.deployments, []);
    rig.set_faults("drop-new-reply");
    let envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    until("it is taken", || rig.wire_log().len() == 3).await;
    assert_eq!(page(&mut rig, json!({})).await.total, Some(2), "taken, and the first reply is that of the list");

    rig.set_faults("duplicate-reply");
    let envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    let first = rig.reply_to(&envelope).await;
    assert_eq!(rig.reply_to(&envelope).await, first);

    rig.set_faults("drop-replies");
    let envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    until("it is taken", || rig.wire_log().len() == 6).await;
    rig.set_faults("drop-requests");
    let envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES).sign(&rig.caller);
    rig.send(&envelope).await;
    until("it is lost", || rig.node.dropped().contains_key("Fault")).await;
    rig.set_faults("");
    assert_eq!(page(&mut rig, json!({})).await.total, Some(3));

    rig.set_faults("delay=300");
    let begun = std::time::Instant::now();
    rig.new_deployment(request).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    rig.stop().await;
}

#[tokio::test]
async fn many_at_once_get_different_ports() {
    let mut rig = Rig::start().await;
    let request = rig.request(WAIT, &[0]);
    let mut waiting = BTreeSet::new();
    for _ in 0..20 {
        waiting.insert(rig.new_deployment(request.clone()).await);
    }
    let mut ports = BTreeSet::new();
    for id in &waiting {
        rig.until_state(id, DeploymentState::Running).await;
        ports.insert(rig.port_of(id).await);
    }
    assert_eq!((waiting.len(), ports.len()), (20, 20));
    rig.stop().await;
}
