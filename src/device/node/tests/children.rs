//! Children: taken up again, started again, counted, and gone when their node is.

use std::{net::TcpListener, time::Duration};

use serde_json::json;

use super::rig::{Rig, WAIT, is_alive, until};
use crate::device::dms::{DeploymentState, ResourceUsage, StatusReply, Stream, ToldState, path};

#[tokio::test]
async fn a_restart_keeps_ids_and_ports() {
    let mut rig = Rig::start().await;
    let id = rig.running(WAIT, &[0]).await;
    let request = rig.request("exit", &[]);
    let mut unrunnable = request.clone();
    unrunnable["Ensemble"]["v1"]["allocations"]["web"]["executor"] = json!("null");
    let waiting = rig.new_deployment(unrunnable).await;
    let port = rig.port_of(&id).await;
    let pid = rig.written(&id, "pid").await;
    let before = rig.node.0.lifecycle.store.get(&id).await.unwrap();
    assert_eq!(before.allocations["device.web"].incarnation, 1);

    let (directory, node_key, caller, clock) = rig.stop().await;
    assert!(!is_alive(&pid), "the child outlived its node");
    let inside = directory.path().join("deployments").join(&id).join("device.web");
    std::fs::remove_file(inside.join("listen")).unwrap();
    let mut rig = Rig::start_in(directory, node_key, caller, clock).await;

    let status = rig.status_when(&id, |status| status.allocations.values().all(|info| info.status == "running")).await;
    assert_eq!(status.state, Some(DeploymentState::Running.into()));
    assert_eq!(status.allocations.into_keys().collect::<Vec<_>>(), [format!("{id}_device.web")]);
    assert_eq!(rig.port_of(&id).await, port);
    assert_eq!(rig.written(&id, "listen").await, format!("127.0.0.1:{port}"));
    let after = rig.node.0.lifecycle.store.get(&id).await.unwrap();
    assert_eq!(after.allocations["device.web"].incarnation, 2);

    // What had not begun to run waits on, and still fails at its deadline.
    assert_eq!(rig.status(&waiting).await.state, Some(DeploymentState::Preparing.into()));
    rig.pass(Duration::from_mins(5));
    rig.until_state(&waiting, DeploymentState::Failed).await;
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    let rig = rig.restart().await;
    let left: Vec<_> = rig.node.0.lifecycle.store.all().await.into_iter().map(|record| record.state).collect();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|state| state.is_over()), "{left:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_child_that_ends_is_started_again() {
    let mut rig = Rig::start().await;
    // The first process ends at once, the second stays.
    let script = format!("if [ -e once ]; then {WAIT}; fi; : > once; echo usage rx=3 tx=4");
    let id = rig.running(&script, &[0]).await;
    rig.written(&id, "pid").await;
    let status = rig.status_when(&id, |status| status.allocations.values().all(|info| info.status == "running")).await;
    let usage = status.allocations[&format!("{id}_device.web")].resource_usage;
    assert_eq!((usage.network_rx_bytes, usage.network_tx_bytes), (3, 4));
    assert_eq!(rig.node.0.lifecycle.store.get(&id).await.unwrap().allocations["device.web"].incarnation, 2);
    rig.stop().await;
}

#[tokio::test]
async fn one_that_shall_stay_down_stays_down() {
    let mut rig = Rig::start().await;
    let mut request = rig.request("exit 3", &[]);
    request["Ensemble"]["v1"]["allocations"]["web"]["failure_recovery"] = json!("stay_down");
    let id = rig.new_deployment(request).await;
    let stopped = rig.status_when(&id, |status| status.allocations.values().any(|info| info.status == "stopped")).await;
    assert_eq!(stopped.state, Some(DeploymentState::Running.into()));
    assert_eq!(rig.node.0.lifecycle.store.get(&id).await.unwrap().allocations["device.web"].incarnation, 1);
    rig.stop().await;
}

#[tokio::test]
async fn counters_go_on_over_incarnations() {
    let mut rig = Rig::start().await;
    let id = rig.running(&format!("echo usage rx=1 tx=1; echo usage rx=10 tx=20; echo text; {WAIT}"), &[]).await;
    let key = format!("{id}_device.web");
    let counted = |usage: &ResourceUsage, rx, tx| (usage.network_rx_bytes, usage.network_tx_bytes) == (rx, tx);
    let status = rig.status_when(&id, |status| counted(&status.allocations[&key].resource_usage, 10, 20)).await;
    assert!(status.allocations[&key].resource_usage.memory_used_bytes > 0, "{status:?}");
    let mut rig = rig.restart().await;
    rig.status_when(&id, |status| counted(&status.allocations[&key].resource_usage, 20, 40)).await;
    let reply = rig.call(path::DEPLOYMENT_STATUS, json!({"id": id})).await;
    assert_eq!(reply["allocation_info"][&key]["resource_usage"]["network_rx_bytes"], 0, "not asked for");
    let log = rig.node.0.lifecycle.log_of(&id, "device.web").read(Stream::Stdout, 0, 100).unwrap();
    assert_eq!(log.bytes, b"text\ntext\n");
    rig.stop().await;
}

#[tokio::test]
async fn a_child_sees_its_own_environment_only() {
    let mut rig = Rig::start().await;
    let id = rig.running("export -p > env; echo done > done; while read line; do :; done", &[]).await;
    rig.written(&id, "done").await;
    let env = rig.written(&id, "env").await;
    let mut names: Vec<&str> = env.lines().filter_map(|line| line.strip_prefix("export ")?.split('=').next()).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    assert_eq!(names, ["GIVEN", "HOSTING_LISTEN", "HOSTING_PARENT_PIPE", "PORT"]);
    for line in ["GIVEN='a=b'", "HOSTING_LISTEN='127.0.0.1:0'", "HOSTING_PARENT_PIPE='1'", "PORT='0'"] {
        assert!(env.contains(line), "{line} in {env}");
    }
    rig.stop().await;
}

#[tokio::test]
async fn one_that_does_not_listen_to_the_pipe_is_ended_all_the_same() {
    let mut rig = Rig::start().await;
    let id = rig.running("echo $$ > pid; while :; do sleep 1; done", &[]).await;
    let pid = rig.written(&id, "pid").await;
    assert!(is_alive(&pid));
    rig.stop().await;
    assert!(!is_alive(&pid));
}

#[tokio::test]
async fn a_port_in_use_is_waited_for() {
    let mut rig = Rig::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let request = rig.request(WAIT, &[port]);
    let id = rig.new_deployment(request.clone()).await;
    let rival = rig.new_deployment(request).await;
    assert_eq!(rig.status(&id).await.state, Some(DeploymentState::Preparing.into()));
    drop(taken);
    let store = &rig.node.0.lifecycle.store;
    let running = async || store.all().await.iter().filter(|record| record.state == DeploymentState::Running).count();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while running().await == 0 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // One of the two has it; the other waits until its deadline.
    rig.pass(Duration::from_mins(5));
    let mut states = Vec::new();
    for id in [&id, &rival] {
        let known = |status: &StatusReply| status.state.as_ref().and_then(ToldState::known);
        let ended = |state| matches!(state, Some(DeploymentState::Running | DeploymentState::Failed));
        let settled = rig.status_when(id, |status| ended(known(status))).await;
        states.push(known(&settled).unwrap());
    }
    states.sort();
    assert_eq!(states, [DeploymentState::Running, DeploymentState::Failed]);
    rig.stop().await;
}

#[tokio::test]
async fn a_program_that_is_missing_fails_at_the_deadline() {
    let mut rig = Rig::start().await;
    let mut request = rig.request(WAIT, &[0]);
    // A value with a zero byte cannot be given to any process.
    request["Ensemble"]["v1"]["allocations"]["web"]["execution"]["params"]["environment"] = json!(["GIVEN=\u{0}"]);
    let id = rig.new_deployment(request).await;
    rig.until_state(&id, DeploymentState::Provisioning).await;
    assert_eq!(rig.node.0.lifecycle.at_work(), [id.as_str()]);
    rig.pass(Duration::from_mins(5));
    rig.until_state(&id, DeploymentState::Failed).await;
    until("no work is left", || rig.node.0.lifecycle.at_work().is_empty()).await;
    let manifest = rig.manifest(&id).await.manifest.unwrap();
    assert_eq!(manifest.allocations["device.web"].status, "stopped");
    rig.stop().await;
}

/// A deployment whose process cannot be started until the file is removed.
async fn held_back(rig: &mut Rig) -> (String, std::path::PathBuf) {
    let in_the_way = rig.directory.path().join("deployments");
    std::fs::write(&in_the_way, "").unwrap();
    let request = rig.request(WAIT, &[0]);
    let id = rig.new_deployment(request).await;
    rig.until_state(&id, DeploymentState::Provisioning).await;
    (id, in_the_way)
}

#[tokio::test]
async fn a_start_on_a_full_disk_is_kept_later() {
    let mut rig = Rig::start().await;
    let (id, in_the_way) = held_back(&mut rig).await;
    rig.fill_disk();
    std::fs::remove_file(in_the_way).unwrap();
    let pid = rig.written(&id, "pid").await;
    rig.doing_on_a_full_disk(&id, "running").await;
    rig.empty_disk();
    rig.until_state(&id, DeploymentState::Running).await;
    assert!(is_alive(&pid), "it was stopped for the disk");
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    rig.stop().await;
}

#[tokio::test]
async fn a_failure_on_a_full_disk_is_kept_later() {
    let mut rig = Rig::start().await;
    let (id, _in_the_way) = held_back(&mut rig).await;
    rig.fill_disk();
    rig.pass(Duration::from_mins(5));
    rig.doing_on_a_full_disk(&id, "stopped").await;
    rig.empty_disk();
    rig.until_state(&id, DeploymentState::Failed).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_end_on_a_full_disk_is_kept_later() {
    let mut rig = Rig::start().await;
    let slow = format!("trap '' TERM; {WAIT}; while [ ! -e go ]; do sleep 0.01; done");
    let id = rig.running(&slow, &[]).await;
    let pid = rig.written(&id, "pid").await;
    let request = rig.envelope(&rig.caller, path::DEPLOYMENT_SHUTDOWN, &json!({"ID": id}), Duration::from_mins(5));
    let request = request.sign(&rig.caller);
    rig.send(&request).await;
    rig.until_state(&id, DeploymentState::ShuttingDown).await;
    rig.fill_disk();
    std::fs::write(rig.directory.path().join("deployments").join(&id).join("device.web/go"), "").unwrap();
    let reply = rig.reply_to(&request).await;
    assert!(reply["OK"] == false && reply["Error"].as_str().unwrap().contains("could not write"), "{reply}");
    assert!(!is_alive(&pid));
    rig.empty_disk();
    rig.until_state(&id, DeploymentState::Completed).await;
    rig.stop().await;
}
