//! What a node that lies answers.

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    behaviours::Behaviour,
    faults::{Fate, Kind},
};
use crate::capability::Key;

/// More bytes than any machine has sent.
const ABSURD: u64 = 1 << 62;

/// Makes an answer untrue, as the fate of its message wants.
pub(super) fn tell(behaviour: Behaviour, fate: &Fate, payload: &mut Value) {
    if behaviour == Behaviour::Manifest {
        if fate.is(Kind::ForeignId) {
            change(payload.pointer_mut("/manifest/id"), |id| json!(hex::encode(Sha256::digest(id))));
        }
        if fate.is(Kind::ForeignPeer) {
            for node in payload.pointer_mut("/manifest/nodes").and_then(Value::as_object_mut).into_iter().flatten() {
                let other = |peer: &str| json!(Key::from_seed(Sha256::digest(peer).into()).did().peer_id());
                change(node.1.get_mut("peer"), other);
            }
        }
    }
    if behaviour == Behaviour::Status {
        if fate.is(Kind::ForeignId) {
            rename_allocations(payload);
        }
        if fate.is(Kind::ImpossibleUsage) {
            // In turns: too much, and less than was told before.
            let bytes = if fate.number.is_multiple_of(2) { ABSURD } else { 0 };
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
