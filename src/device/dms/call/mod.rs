//! The behaviours as functions over a [`DeviceClient`]. Each needs no capability but those that the owner of a device
//! grants to the operator ([`super::path::GRANTED`]).

pub mod deployment;
pub mod logs;
pub mod node;

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::tolerant;
use crate::device::{CallError, DeviceClient, DeviceTarget};

/// How long a question about state may take.
pub const READ_WINDOW: Duration = Duration::from_secs(15);
/// How long a shutdown or delete may take: a device gives each allocation 15 s and each subnet 10 s to go.
pub const CHANGE_WINDOW: Duration = Duration::from_mins(1);

async fn ask<T: DeserializeOwned>(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    behaviour: &str,
    request: &(impl Serialize + Sync),
    window: Duration,
) -> Result<T, CallError> {
    let request = serde_json::to_value(request).map_err(|error| bad(target, behaviour, &error.to_string()))?;
    let reply = client.call(target, behaviour, request, window).await?;
    read(target, behaviour, reply)
}

/// Every reply read here is an object: decoding anything else into defaults would invent an answer.
fn read<T: DeserializeOwned>(target: &DeviceTarget, behaviour: &str, reply: Value) -> Result<T, CallError> {
    if !reply.is_object() {
        return Err(bad(target, behaviour, "it is not a JSON object"));
    }
    tolerant::decode(reply).map_err(|error| bad(target, behaviour, &error.to_string()))
}

fn bad(target: &DeviceTarget, behaviour: &str, cause: &str) -> CallError {
    CallError::BadReply { did: target.did.to_string(), behaviour: behaviour.to_owned(), cause: cause.to_owned() }
}
