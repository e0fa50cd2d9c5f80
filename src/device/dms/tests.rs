//! Replies as `dms-protocol.md` writes them down, not as our own encoder would.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::{
    capability::{Capability, Did},
    device::{CallError, DeviceClient, DeviceTarget, PreparedCall},
};

mod fixtures;
mod logs;

const ID: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// Answers from a list and keeps what it was asked.
#[derive(Default)]
struct Scripted {
    replies: Mutex<VecDeque<Value>>,
    asked: Mutex<Vec<(String, Value)>>,
}

impl Scripted {
    fn with(replies: impl IntoIterator<Item = Value>) -> Self {
        Self { replies: Mutex::new(replies.into_iter().collect()), asked: Mutex::default() }
    }

    fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl DeviceClient for Scripted {
    async fn call(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        expires_in: Duration,
    ) -> Result<Value, CallError> {
        self.asked.lock().unwrap().push((behaviour.to_owned(), request));
        self.replies.lock().unwrap().pop_front().ok_or_else(|| CallError::Silent {
            did: target.did.to_string(),
            behaviour: behaviour.to_owned(),
            waited: expires_in,
        })
    }

    fn prepare(&self, _: &DeviceTarget, _: &str, _: Value, _: Duration) -> Result<PreparedCall, CallError> {
        panic!("nothing here is prepared")
    }

    async fn send(&self, _: &DeviceTarget, _: &str, _: PreparedCall, _: Duration) -> Result<Value, CallError> {
        panic!("nothing here is sent")
    }
}

fn target() -> DeviceTarget {
    let did = Did::parse("did:key:z6Mko9hTggMwjSTEaJaPUfE6tqcy2xvU6BnNq3e3o8qVBiyH").unwrap();
    DeviceTarget { did, addresses: vec![], grant: None }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn peers_self_gives_addresses_one_by_one() {
    let client = Scripted::with([parsed(
        r#"{"id":"12D3KooWX","listen_addr":"/ip4/127.0.0.1/tcp/9000, /ip4/10.0.0.1/udp/9000/quic-v1,"}"#,
    )]);
    let reply = peers_self(&client, &target()).await.unwrap();
    assert_eq!(reply.id, "12D3KooWX");
    let addresses: Vec<&str> = reply.addresses().collect();
    assert_eq!(addresses, ["/ip4/127.0.0.1/tcp/9000", "/ip4/10.0.0.1/udp/9000/quic-v1"]);
    assert_eq!(client.asked(), [("/dms/node/peers/self".to_owned(), json!({}))]);
}

#[test]
fn new_is_taken_or_refused() {
    let taken = deployment_new_reply(&target(), json!({"Status": "OK", "EnsembleID": ID})).unwrap();
    assert_eq!(taken, NewReply { status: NewStatus::Ok, ensemble_id: ID.into(), error: String::new() });

    let refused =
        deployment_new_reply(&target(), json!({"Status": "ERROR", "Error": "requested deployment time too short"}));
    let expected = NewReply {
        status: NewStatus::Error,
        ensemble_id: String::new(),
        error: "requested deployment time too short".into(),
    };
    assert_eq!(refused.unwrap(), expected);

    for wrong in [json!({"Status": "OK"}), json!({}), json!([]), json!({"Status": "MAYBE"}), Value::Null] {
        let error = deployment_new_reply(&target(), wrong.clone()).unwrap_err();
        assert!(matches!(error, CallError::BadReply { .. }), "{wrong}: {error}");
    }
}

#[test]
fn replies_are_written_with_the_names_of_the_protocol() {
    let taken = NewReply { status: NewStatus::Ok, ensemble_id: ID.into(), error: String::new() };
    assert_eq!(json!(taken), json!({"Status": "OK", "EnsembleID": ID}));
    let refused = NewReply { status: NewStatus::Error, ensemble_id: String::new(), error: "no".into() };
    assert_eq!(json!(refused), json!({"Status": "ERROR", "Error": "no"}));
    let status = StatusReply { state: Some(DeploymentState::Preparing.into()), ..StatusReply::default() };
    assert_eq!(json!(status), json!({"status": "Preparing", "error": ""}));
    assert_eq!(json!(ListPage::default()), json!({"deployments": [], "has_more": false}));
}

#[tokio::test]
async fn status_holds_usage_by_allocation() {
    let full = parsed(&format!(
        r#"{{"status":"Running","error":"","allocation_info":{{"{ID}_device.web":{{
            "allocation_id":"{ID}_device.web","status":"running","heartbeat_seq":7,"has_health_check":false,"health":null,
            "resource_limit":{{"cpu":{{"cores":0}}}},
            "resource_usage":{{"cpu_usage_percent":1.5,"memory_used_bytes":4096,"memory_limit_bytes":8192,
              "network_rx_bytes":18446744073709551615,"network_tx_bytes":2}},
            "dns_name":"web","ip":"10.1.2.3","timestamp":"2026-01-01T00:00:00Z"}}}},"allocation_usage":null}}"#
    ));
    let client = Scripted::with([full]);
    let usage = ResourceUsage {
        cpu_usage_percent: 1.5,
        memory_used_bytes: 4096,
        memory_limit_bytes: 8192,
        network_rx_bytes: u64::MAX,
        network_tx_bytes: 2,
    };
    let key = format!("{ID}_device.web");
    let info = AllocationInfo {
        allocation_id: key.clone(),
        status: "running".into(),
        resource_usage: usage,
        dns_name: "web".into(),
    };
    let expected = StatusReply {
        state: Some(DeploymentState::Running.into()),
        error: String::new(),
        allocations: BTreeMap::from([(key, info)]),
    };
    assert_eq!(deployment_status(&client, &target(), ID, true).await.unwrap(), expected);
    let request = json!({"id": ID, "include_usage": true});
    assert_eq!(client.asked(), [("/dms/node/deployment/status".to_owned(), request)]);
}

#[tokio::test]
async fn status_is_read_in_old_spelling_and_with_an_error() {
    let client = Scripted::with([
        json!({"Status": "Running", "Error": ""}),
        json!({"status": 5, "error": ""}),
        json!({"status": "", "error": "failed to get deployment"}),
        json!({"unrelated": true}),
    ]);
    let read = |state, error: &str| StatusReply { state, error: error.into(), ..StatusReply::default() };
    let ask = || async { deployment_status(&client, &target(), ID, false).await };
    assert_eq!(ask().await.unwrap(), read(Some(DeploymentState::Running.into()), ""));
    assert_eq!(ask().await.unwrap(), read(Some(DeploymentState::Failed.into()), ""));
    assert_eq!(ask().await.unwrap(), read(None, "failed to get deployment"));
    assert!(matches!(ask().await, Err(CallError::BadReply { .. })));
    assert!(matches!(ask().await, Err(CallError::Silent { .. })));
}

#[tokio::test]
async fn manifest_gives_ports_and_addresses() {
    let text = format!(
        r#"{{"manifest":{{"id":"{ID}","metadata":{{"owner":"interop"}},
          "orchestrator":{{"id":{{"pub":""}},"did":{{}},"addr":{{}}}},
          "allocations":{{"device.web":{{"id":"{ID}_device.web","node_id":"device","type":"service","handle":{{}},
            "dns_name":"web","priv_addr":"10.1.2.3","ports":{{"16500":80}},"healthcheck":{{}},"status":"running",
            "redundancy_group":"","is_standby":false}}}},
          "nodes":{{"device":{{"id":"device","peer":"12D3KooWX","handle":{{}},"PUB_ADDRESS":["192.0.2.7"],"location":{{}},
            "allocations":["web"],"redundancy_role":"primary","standby_nodes":null,"status":"active"}}}},
          "subnet":{{"join":false}},"contracts":{{}}}}}}"#
    );
    let old = text.replace("PUB_ADDRESS\":[\"192.0.2.7\"]", "pub_addrss\":\"192.0.2.7\"");
    assert_ne!(old, text);
    let client = Scripted::with([parsed(&text), parsed(&old), json!({"error": "not found"}), json!({})]);
    let allocation = ManifestAllocation {
        id: format!("{ID}_device.web"),
        node_id: "device".into(),
        kind: "service".into(),
        dns_name: "web".into(),
        ports: BTreeMap::from([(16500, 80)]),
        status: "running".into(),
    };
    let node = ManifestNode {
        id: "device".into(),
        peer: "12D3KooWX".into(),
        pub_address: vec!["192.0.2.7".into()],
        allocations: vec!["web".into()],
    };
    let manifest = Manifest {
        id: ID.into(),
        metadata: BTreeMap::from([("owner".into(), "interop".into())]),
        allocations: BTreeMap::from([("device.web".into(), allocation)]),
        nodes: BTreeMap::from([("device".into(), node)]),
    };
    let ask = || async { deployment_manifest(&client, &target(), ID).await };
    let expected = ManifestReply { manifest: Some(manifest), error: String::new() };
    assert_eq!(ask().await.unwrap(), expected);
    assert_eq!(ask().await.unwrap(), expected);
    assert_eq!(ask().await.unwrap(), ManifestReply { manifest: None, error: "not found".into() });
    assert!(matches!(ask().await, Err(CallError::BadReply { .. })));
    // What is written is read again as the same, and with ports as Go writes them.
    let written = json!(expected);
    assert_eq!(written["manifest"]["allocations"]["device.web"]["ports"], json!({"16500": 80}));
    assert_eq!(tolerant::decode::<ManifestReply>(written).unwrap(), expected);
}

fn page(ids: &[&str], total: u64, next: Option<u64>) -> Value {
    let deployments: Vec<Value> = ids
        .iter()
        .map(|id| {
            json!({"orchestrator_id": id, "status": "Running", "created_at": "2026-01-01T00:00:00.5Z",
                   "updated_at": "0001-01-01T00:00:00Z", "metadata": {"Owner": "a"}})
        })
        .collect();
    let mut page = json!({"deployments": deployments, "total": total, "has_more": next.is_some()});
    if let Some(next) = next {
        page["next_offset"] = json!(next);
    }
    page
}

fn entry(id: &str) -> ListEntry {
    ListEntry {
        id: id.into(),
        state: DeploymentState::Running.into(),
        created_at: Some("2026-01-01T00:00:00.5Z".parse().unwrap()),
        updated_at: None,
        metadata: BTreeMap::from([("Owner".into(), "a".into())]),
    }
}

#[tokio::test]
async fn a_list_is_followed_to_its_last_page() {
    let client =
        Scripted::with([page(&["a", "b"], 4, Some(2)), page(&["b", "c"], 4, Some(3)), page(&["c", "d"], 4, None)]);
    let found = deployment_list_all(&client, &target(), &BTreeMap::new()).await.unwrap();
    assert_eq!(found, [entry("a"), entry("b"), entry("c"), entry("d")]);
    let offsets: Vec<Value> = client.asked().iter().map(|(_, request)| request["offset"].clone()).collect();
    assert_eq!(offsets, [Value::Null, json!(1), json!(2)], "pages overlap by one");
    // A device that gives one at a time cannot be asked for two.
    let client = Scripted::with([page(&["a"], 2, Some(1)), page(&["b"], 2, None)]);
    assert_eq!(deployment_list_all(&client, &target(), &BTreeMap::new()).await.unwrap(), [entry("a"), entry("b")]);
}

#[tokio::test]
async fn a_list_that_is_known_to_be_incomplete_is_an_error() {
    let unfiltered = BTreeMap::new();
    for pages in [
        vec![page(&["a"], 2, None)],
        vec![page(&["a"], 2, Some(0))],
        vec![json!({"deployments": [], "total": 5, "has_more": true})],
        vec![page(&["a"], 2, Some(1))],
        // "a" is deleted between the pages, and so "c" moves from the second to the first.
        vec![page(&["a", "b"], 4, Some(2)), page(&["d"], 3, None)],
        vec![page(&["a", "b"], 3, Some(2)), page(&["b", "c", "d"], 4, None)],
        // The same, and another one takes the place of "a": as many as before.
        vec![page(&["a", "b"], 3, Some(2)), page(&["c", "d"], 3, None)],
        (1..=u64::try_from(MAX_PAGES).unwrap()).map(|next| page(&["a"], 1, Some(next))).collect(),
    ] {
        let client = Scripted::with(pages.clone());
        let result = deployment_list_all(&client, &target(), &unfiltered).await;
        assert!(result.is_err(), "{pages:?} gave {result:?}");
    }
}

#[tokio::test]
async fn with_a_filter_the_total_is_not_held_against_the_list() {
    let client = Scripted::with([page(&["a"], 9, None)]);
    let filter = BTreeMap::from([("Owner".to_owned(), "a".to_owned())]);
    assert_eq!(deployment_list_all(&client, &target(), &filter).await.unwrap(), [entry("a")]);
    assert_eq!(client.asked()[0].1, json!({"metadata": {"Owner": "a"}, "limit": PAGE}));
}

#[tokio::test]
async fn an_old_list_is_a_map_of_states() {
    let client = Scripted::with([json!({"Deployments": {"Ab": "Running", "c": 7}})]);
    let bare = |id: &str, state| ListEntry {
        id: id.into(),
        state: ToldState::Known(state),
        created_at: None,
        updated_at: None,
        metadata: BTreeMap::new(),
    };
    let expected = [bare("Ab", DeploymentState::Running), bare("c", DeploymentState::Completed)];
    assert_eq!(deployment_list_all(&client, &target(), &BTreeMap::new()).await.unwrap(), expected);
}

/// One deployment in a state that is not known does not hide the others.
#[tokio::test]
async fn a_list_with_a_state_that_is_not_known_is_read() {
    let mut given = page(&["a", "b", "c", "d"], 4, None);
    given["deployments"][1]["status"] = json!("Hibernating");
    given["deployments"][2]["status"] = json!(9);
    given["deployments"][3].as_object_mut().unwrap().remove("status");
    let client = Scripted::with([given, json!({"Deployments": {"Ab": "Hibernating", "c": 7}})]);
    let told = |id, name: &str| ListEntry { state: ToldState::Unknown(name.into()), ..entry(id) };
    let expected = [entry("a"), told("b", "Hibernating"), told("c", "9"), told("d", "")];
    assert_eq!(deployment_list_all(&client, &target(), &BTreeMap::new()).await.unwrap(), expected);
    let old = deployment_list_all(&client, &target(), &BTreeMap::new()).await.unwrap();
    let states: Vec<&str> = old.iter().map(|entry| entry.state.name()).collect();
    assert_eq!(states, ["Hibernating", "Completed"]);

    let client = Scripted::with([json!({"status": "Hibernating", "error": ""}), json!({"status": 9, "error": ""})]);
    for name in ["Hibernating", "9"] {
        let read = deployment_status(&client, &target(), ID, false).await.unwrap();
        assert_eq!(read.state, Some(ToldState::Unknown(name.into())));
    }
}

#[test]
fn a_query_names_states_by_number() {
    let query = ListQuery {
        status: vec![DeploymentState::Running, DeploymentState::Failed],
        id: ID.into(),
        ..ListQuery::default()
    };
    assert_eq!(json!(query), json!({"status": [4, 5], "id": ID}));
    assert_eq!(json!(ListQuery::default()), json!({}));
}

#[tokio::test]
async fn shutdown_and_delete_tell_their_outcome() {
    let client =
        Scripted::with([json!({"OK": false, "Error": "deployment is not running"}), json!({"ok": true, "error": ""})]);
    let refused = deployment_shutdown(&client, &target(), ID).await.unwrap();
    assert_eq!(refused, Outcome { ok: false, error: "deployment is not running".into() });
    let done = deployment_delete(&client, &target(), ID).await.unwrap();
    assert_eq!(done, Outcome { ok: true, error: String::new() });
    assert_eq!(
        client.asked(),
        [
            ("/dms/node/deployment/shutdown".to_owned(), json!({"ID": ID})),
            ("/dms/node/deployment/delete".to_owned(), json!({"orchestrator_id": ID})),
        ]
    );
}

#[tokio::test]
async fn resources_and_onboarding_are_read() {
    let client = Scripted::with([
        parsed(
            r#"{"OK":false,"Resources":{"cpu":{"clock_speed":2.4e9,"cores":3.5},"gpus":null,"ram":{"size":1024},
                "disk":{"size":2048}}}"#,
        ),
        json!({"onboarded": true}),
    ]);
    let expected = ResourcesReply {
        ok: false,
        resources: Resources {
            cpu: Cpu { clock_speed: 2.4e9, cores: 3.5 },
            ram: Size { size: 1024.0 },
            disk: Size { size: 2048.0 },
        },
        error: String::new(),
    };
    assert_eq!(resources_free(&client, &target()).await.unwrap(), expected);
    let onboarding = onboarding_status(&client, &target()).await.unwrap();
    assert_eq!(onboarding, OnboardingReply { onboarded: true, error: String::new() });
}
