//! The node over real TCP, asked by the operator's own client.

use std::{collections::BTreeMap, sync::Arc, sync::atomic::AtomicU64, time::Duration};

use serde_json::Value;
use tokio::time;

use super::rig::{WAIT, config, own_image, random_key};
use crate::{
    capability::Key,
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{self, DeploymentState, path},
        libp2p::{DmsClient, Link, LinkConfig},
        node::{Clock, NodeConfig, RunningNode, wall_clock},
    },
    plan::build::{AllocationSpec, EnsembleSpec, PortSpec},
};

pub async fn client(key: &Key) -> DmsClient {
    let inboxes = vec!["user-1".to_owned()];
    let (link, arrived) =
        Link::start(LinkConfig { key: key.clone(), listen: vec![], inboxes, topics: None }).await.unwrap();
    DmsClient::new(link, arrived, key.clone())
}

#[tokio::test]
async fn the_operators_client_deploys_over_tcp() {
    let directory = tempfile::tempdir().unwrap();
    let (node_key, caller) = (random_key(), random_key());
    let config = NodeConfig {
        clock: wall_clock(),
        ..config(directory.path(), &node_key, &caller, &Arc::new(AtomicU64::new(0)))
    };
    let node = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".into()]).await.unwrap();
    assert_eq!(node.addresses().len(), 1);
    let target = DeviceTarget { did: node_key.did().clone(), addresses: node.addresses().to_vec(), grant: None };
    let client = client(&caller).await;

    let about = dms::peers_self(&client, &target).await.unwrap();
    assert_eq!(about.id, node_key.did().peer_id());
    assert_eq!(about.addresses().collect::<Vec<_>>(), node.addresses());

    let spec = EnsembleSpec {
        peer: about.id,
        allocations: vec![AllocationSpec {
            name: "web".into(),
            image: own_image(),
            args: vec!["-c".into(), WAIT.into()],
            env: vec![],
            cpu_millis: 100,
            memory_bytes: 1,
            disk_bytes: 1,
            ports: vec![PortSpec { public: 0, private: 80 }],
        }],
        metadata: BTreeMap::from([("a".into(), "b".into())]),
    };
    let request = dms::deployment_new_request(&spec);
    let call = client.prepare(&target, path::DEPLOYMENT_NEW, request, Duration::from_mins(5)).unwrap();
    let reply = client.send(&target, path::DEPLOYMENT_NEW, call, Duration::from_secs(10)).await.unwrap();
    let id = dms::deployment_new_reply(&target, reply).unwrap().ensemble_id;

    let deadline = time::Instant::now() + Duration::from_secs(20);
    while dms::deployment_status(&client, &target, &id, true).await.unwrap().state
        != Some(DeploymentState::Running.into())
    {
        assert!(time::Instant::now() < deadline);
        time::sleep(Duration::from_millis(10)).await;
    }
    let manifest = dms::deployment_manifest(&client, &target, &id).await.unwrap().manifest.unwrap();
    assert_eq!((manifest.metadata, manifest.allocations["device.web"].ports.len()), (spec.metadata.clone(), 1));
    let listed = dms::deployment_list_all(&client, &target, &spec.metadata).await.unwrap();
    assert_eq!(listed.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), [id.as_str()]);
    assert!(dms::onboarding_status(&client, &target).await.unwrap().onboarded);
    assert!(dms::resources_free(&client, &target).await.unwrap().resources.cpu.cores > 39.8);
    assert!(dms::deployment_shutdown(&client, &target, &id).await.unwrap().ok);
    assert!(dms::deployment_delete(&client, &target, &id).await.unwrap().ok);
    assert_eq!(dms::deployment_list_all(&client, &target, &BTreeMap::new()).await.unwrap(), []);

    let stranger = self::client(&random_key()).await;
    let silence = stranger.call(&target, path::PEERS_SELF, Value::Null, Duration::from_secs(1)).await;
    let Err(CallError::Silent { waited, .. }) = silence else { panic!("{silence:?}") };
    assert!(waited < Duration::from_secs(15), "it waited for {waited:?}");
    assert_eq!(node.node().dropped(), BTreeMap::from([("NotAnchored", 1)]));
    node.stop().await;
    let gone = client.call(&target, path::PEERS_SELF, Value::Null, Duration::from_secs(2)).await;
    assert!(gone.is_err(), "{gone:?}");
}

#[tokio::test]
async fn a_node_whose_clock_is_ahead_is_understood() {
    let directory = tempfile::tempdir().unwrap();
    let (node_key, caller) = (random_key(), random_key());
    // A second less than the clocks of all parties may differ, for the way there.
    let clock: Clock = Arc::new(|| wall_clock()().plus(Duration::from_secs(29)));
    let config = NodeConfig { clock, ..config(directory.path(), &node_key, &caller, &Arc::default()) };
    let node = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".into()]).await.unwrap();
    let target = DeviceTarget { did: node_key.did().clone(), addresses: node.addresses().to_vec(), grant: None };
    let client = client(&caller).await;
    // However short the wait for the reply.
    let call = client.call(&target, path::PEERS_SELF, Value::Null, Duration::from_secs(5)).await;
    assert_eq!(call.unwrap()["id"], node_key.did().peer_id());
    node.stop().await;
}
