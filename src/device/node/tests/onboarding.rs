//! What the node offers: it gives no more than that, and nothing when it offers nothing.

use serde_json::{Value, json};

use super::{
    MINUTES,
    rig::{Rig, WAIT, config},
};
use crate::device::{
    dms::{DeploymentState, NodeStatuses, ResourceSummary, Resources, ResourcesReply, Size, path, tolerant},
    node::{Node, NodeConfig, NodeError, durable, durable::StateError},
};

fn resources(cores: f64, memory: f64, disk: f64) -> Value {
    json!({"cpu": {"cores": cores, "clock_speed": 1e9}, "ram": {"size": memory}, "disk": {"size": disk}})
}

async fn onboard(rig: &mut Rig, resources: Value) -> Value {
    rig.call(path::ONBOARDING_ONBOARD, json!({"NoGPU": true, "Config": {"onboarded_resources": resources}})).await
}

async fn told(rig: &mut Rig, path: &str) -> (f64, f64, f64) {
    let ResourcesReply { ok, resources, error } = tolerant::decode(rig.call(path, json!({})).await).unwrap();
    assert!(ok && error.is_empty(), "{path}: {error}");
    let Resources { cpu, ram, disk } = resources;
    (cpu.cores * cpu.clock_speed / 1e9, ram.size, disk.size)
}

#[tokio::test]
async fn a_node_that_is_not_onboarded_deploys_nothing() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.call(path::ONBOARDING_OFFBOARD, json!({})).await, json!({"success": true}));
    let again = rig.call(path::ONBOARDING_OFFBOARD, json!({})).await;
    assert!(again["success"] == false && again["error"].as_str().unwrap().contains("not onboarded"), "{again}");
    let mut rig = rig.restart().await;
    assert_eq!(rig.call(path::ONBOARDING_STATUS, json!({})).await, json!({"onboarded": false}), "after a restart");
    assert_eq!(told(&mut rig, path::RESOURCES_FREE).await, (0.0, 0.0, 0.0));
    assert_eq!(told(&mut rig, path::RESOURCES_ONBOARDED).await, (0.0, 0.0, 0.0));
    assert_eq!(told(&mut rig, path::HARDWARE_SPEC).await, (40.0, 10_000.0, 10_000.0));

    let request = rig.request(WAIT, &[]);
    let id = rig.new_deployment(request.clone()).await;
    assert_eq!(rig.status(&id).await.state, Some(DeploymentState::Preparing.into()));
    rig.pass(MINUTES);
    rig.until_state(&id, DeploymentState::Failed).await;
    assert!(!rig.directory.path().join("deployments").join(&id).exists(), "something ran");

    let waiting = rig.new_deployment(request).await;
    let done = onboard(&mut rig, resources(2.0, 200.0, 100.0)).await;
    assert_eq!(done, json!({"success": true, "config": {"onboarded_resources": resources(2.0, 200.0, 100.0)}}));
    rig.until_state(&waiting, DeploymentState::Running).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_is_offered_is_given_once() {
    let mut rig = Rig::start().await;
    // Two deployments fit by their processors and their disk, and one by its memory.
    assert_eq!(onboard(&mut rig, resources(1.0, 150.0, 20.0)).await["success"], true);
    let first = rig.running(WAIT, &[]).await;
    let request = rig.request(WAIT, &[]);
    let second = rig.new_deployment(request).await;
    assert_eq!(told(&mut rig, path::RESOURCES_ALLOCATED).await, (0.5, 100.0, 10.0));
    assert_eq!(told(&mut rig, path::RESOURCES_FREE).await, (0.5, 50.0, 10.0));
    assert_eq!(rig.status(&second).await.state, Some(DeploymentState::Preparing.into()));

    let refused = rig.call(path::ONBOARDING_OFFBOARD, json!({})).await;
    assert!(refused["error"].as_str().unwrap().contains("running"), "{refused}");
    for (wanted, why) in [
        (resources(0.25, 150.0, 20.0), "processors in use"),
        (resources(40.5, 150.0, 20.0), "processors asked for"),
        (resources(1.0, 10_001.0, 20.0), "memory asked for"),
        (resources(1.0, 150.0, 10_001.0), "disk asked for"),
        (resources(1.0, 150.0, -1.0), "disk asked for"),
        (resources(0.0, 150.0, 20.0), "more than zero"),
        (json!({}), "more than zero"),
        (json!("all"), "invalid type"),
    ] {
        let refused = onboard(&mut rig, wanted.clone()).await;
        assert_eq!(refused["success"], false, "{wanted}");
        assert!(refused["error"].as_str().unwrap().contains(why), "{wanted}: {refused}");
    }
    let mut rig = rig.restart().await;
    assert_eq!(told(&mut rig, path::RESOURCES_ONBOARDED).await, (1.0, 150.0, 20.0), "after a restart");

    // What was given comes back when the deployment has ended, and so the second one gets it.
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": first})).await["OK"], true);
    rig.until_state(&second, DeploymentState::Running).await;
    let statuses: NodeStatuses = tolerant::decode(rig.call(path::NODE_STATUS, json!({})).await).unwrap();
    let status = &statuses[&rig.node_key.did().peer_id()];
    assert!(status.onboarded && status.did == rig.node_key.did().as_str(), "{status:?}");
    let ResourceSummary { total, onboarded, allocated, free } = status.resources;
    let memory = [total, onboarded, allocated, free].map(|resources| resources.ram);
    assert_eq!(memory, [10_000.0, 150.0, 100.0, 50.0].map(|size| Size { size }));
    let (cores, memory, _) = told(&mut rig, path::HARDWARE_USAGE).await;
    assert!(cores >= 0.0 && memory > 100_000.0, "the child uses {cores} cores and {memory} bytes");
    let public = rig.call(path::PUBLIC_STATUS, json!({})).await;
    assert_eq!(public, json!({"Status": "OK", "Resources": resources(1.0, 150.0, 20.0)}));
    assert_eq!(rig.call(path::HEALTHCHECK, json!("me")).await, json!({"OK": true, "Error": ""}));
    rig.stop().await;
}

#[tokio::test]
async fn a_node_starts_as_it_is_told_and_goes_on_as_it_was() {
    let rig = Rig::start().await;
    let (directory, node_key, caller, clock) = rig.stop().await;
    let config = config(directory.path(), &node_key, &caller, &clock);
    let offered = async |onboarded| {
        let node = Node::open(NodeConfig { onboarded, ..config.clone() }, vec![]).await.unwrap();
        node.0.lifecycle.onboarding.offered().map(|amounts| amounts.to_resources().ram.size)
    };
    assert_eq!(offered(true).await, Some(10_000.0));
    assert_eq!(offered(false).await, None);
    let kept = json!({"schema": 1, "onboarded": resources(1.0, 20_000.0, 20.0)}).to_string();
    std::fs::write(directory.path().join("onboarding.json"), kept).unwrap();
    durable::crash_before_rename(directory.path(), br#"{"schema":1,"onboarded":null}"#);
    assert_eq!(offered(false).await, Some(10_000.0), "not more than the machine has now");
    std::fs::write(directory.path().join("onboarding.json"), r#"{"schema":2}"#).unwrap();
    let error = Node::open(config.clone(), vec![]).await.unwrap_err();
    assert!(matches!(&error, NodeError::State(StateError::Damaged { .. })), "{error}");
}
