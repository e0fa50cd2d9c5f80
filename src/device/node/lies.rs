//! What a node that lies answers.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    faults::{Fate, Kind},
    serving::{Behaviour, OfDeployments, OfNode},
};
use crate::capability::Key;

/// More bytes than any machine has sent.
const ABSURD: u64 = 1 << 62;
/// A state that no version has.
const NO_STATE: &str = "Hibernating";

/// Makes an answer untrue, as the fate of its message wants.
pub(super) fn tell(behaviour: Behaviour, fate: &Fate, payload: &mut Value) {
    let other_peer = |peer: &str| json!(Key::from_seed(Sha256::digest(peer).into()).did().peer_id());
    if behaviour == Behaviour::Node(OfNode::PeersSelf) && fate.is(Kind::ForeignPeer) {
        change(payload.pointer_mut("/id"), other_peer);
    }
    if behaviour == Behaviour::Deployment(OfDeployments::Manifest) {
        if fate.is(Kind::ForeignId) {
            change(payload.pointer_mut("/manifest/id"), |id| json!(hex::encode(Sha256::digest(id))));
        }
        if fate.is(Kind::ForeignPeer) {
            for node in payload.pointer_mut("/manifest/nodes").and_then(Value::as_object_mut).into_iter().flatten() {
                change(node.1.get_mut("peer"), other_peer);
            }
        }
    }
    if let (Behaviour::Deployment(asked), true) = (behaviour, fate.is(Kind::UnknownState)) {
        misname_states(asked, payload);
    }
    if behaviour == Behaviour::Deployment(OfDeployments::Status) {
        if fate.is(Kind::ForeignId) {
            rename_allocations(payload);
        }
        if fate.is(Kind::ImpossibleUsage) {
            // Now too much, now less than was told before.
            let bytes = if fate.lot.is_multiple_of(2) { ABSURD } else { 0 };
            for (_, info) in payload.get_mut("allocation_info").and_then(Value::as_object_mut).into_iter().flatten() {
                for counter in ["network_rx_bytes", "network_tx_bytes"] {
                    if let Some(usage) = info.get_mut("resource_usage").and_then(Value::as_object_mut) {
                        usage.insert(counter.to_owned(), json!(bytes));
                    }
                }
            }
        }
    }
}

fn change(value: Option<&mut Value>, other: impl FnOnce(&str) -> Value) {
    if let Some(value) = value {
        *value = other(value.as_str().unwrap_or_default());
    }
}

/// Where a state is told, another one is.
fn misname_states(asked: OfDeployments, payload: &mut Value) {
    let misname = |status: Option<&mut Value>| {
        if let Some(status) = status.filter(|status| status.as_str().is_some_and(|state| !state.is_empty())) {
            *status = json!(NO_STATE);
        }
    };
    match asked {
        OfDeployments::Status | OfDeployments::Info => misname(payload.get_mut("status")),
        OfDeployments::List => {
            for entry in payload.get_mut("deployments").and_then(Value::as_array_mut).into_iter().flatten() {
                misname(entry.get_mut("status"));
            }
        }
        _ => {}
    }
}

/// As if they were those of another deployment.
fn rename_allocations(payload: &mut Value) {
    let Some(all) = payload.get_mut("allocation_info").and_then(Value::as_object_mut) else { return };
    *all = std::mem::take(all)
        .into_iter()
        .map(|(id, mut info)| {
            let (deployment, key) = id.split_once('_').unwrap_or((&id, ""));
            let other = format!("{}_{key}", hex::encode(Sha256::digest(deployment)));
            if let Some(info) = info.as_object_mut() {
                info.insert("allocation_id".to_owned(), json!(other));
            }
            (other, info)
        })
        .collect();
}
