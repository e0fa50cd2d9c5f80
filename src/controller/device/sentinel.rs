//! The record by which a list from a device is known to be whole.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;

use super::Fault;
use crate::{
    api::{Reason, ReplySpelling, names::metadata},
    controller::context::Context,
    device::{
        DeviceTarget,
        dms::{self, spelling_of_status},
    },
};

/// The sentinel's request lives just long enough to be taken: a device wants 59 s.
const WINDOW: Duration = Duration::from_secs(70);

/// What a look at the sentinel showed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Its id.
    pub id: String,
    /// How the device spells its replies, if that could be told.
    pub spelling: Option<ReplySpelling>,
}

/// Sees to it that the device has its sentinel.
pub(super) async fn see_to(
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    known: Option<String>,
) -> Result<Found, Fault> {
    match known {
        Some(id) => still_there(context, device, target, id).await,
        None => find_or_plant(context, target).await,
    }
}

/// Seen once a pass over a deployment needs it; here it is only asked whether it still exists.
async fn still_there(context: &Context, device: &str, target: &DeviceTarget, id: String) -> Result<Found, Fault> {
    let client = context.device_client.as_ref();
    let reply = client
        .call(target, dms::path::DEPLOYMENT_STATUS, dms::deployment_status_request(&id, false), dms::READ_WINDOW)
        .await?;
    let spelling = spelling_of_status(&reply);
    let dms::StatusReply { state, error, .. } = dms::deployment_status_reply(target, reply)?;
    if state.is_some() {
        return Ok(Found { id, spelling });
    }
    let all = dms::deployment_list_all(client, target, &BTreeMap::new()).await?;
    let listed = |id: &String| all.iter().any(|entry| &entry.id == id);
    if listed(&id) {
        return Ok(Found { id, spelling });
    }
    let recorded = context.recorded_ids(device, "");
    if !recorded.is_empty() && recorded.iter().all(listed) {
        // Only the sentinel is gone, as an ended deployment that somebody pruned.
        return Ok(Found { id: plant(context, target, marks(context)).await?, spelling });
    }
    if all.is_empty() && !error.to_ascii_lowercase().contains("not found") {
        // That is also how a device answers whose store is away for a moment.
        return Err(Fault::refused(format!("the device cannot tell its deployments: {error}")));
    }
    Err(Fault::person(
        Reason::SentinelLost,
        format!(
            "the device answers, but no longer knows the record {id} by which its list is known to be whole: it lost its \
             state. Once nothing runs there any more that it does not know of, take it as it is now with \
             `kubectl hosting device adopt {device}`"
        ),
    ))
}

async fn find_or_plant(context: &Context, target: &DeviceTarget) -> Result<Found, Fault> {
    let marks = marks(context);
    let found = dms::deployment_list_all(context.device_client.as_ref(), target, &marks).await?;
    let ours = found.into_iter().find(|entry| marks.iter().all(|(key, value)| entry.metadata.get(key) == Some(value)));
    let id = match ours {
        Some(entry) => entry.id,
        None => plant(context, target, marks).await?,
    };
    let request = dms::deployment_status_request(&id, false);
    let reply = context.device_client.call(target, dms::path::DEPLOYMENT_STATUS, request, dms::READ_WINDOW).await;
    Ok(Found { id, spelling: reply.ok().as_ref().and_then(spelling_of_status) })
}

fn marks(context: &Context) -> BTreeMap<String, String> {
    [
        (metadata::INSTALLATION.to_owned(), context.identity.installation.id().to_owned()),
        (metadata::SENTINEL.to_owned(), "true".to_owned()),
    ]
    .into()
}

/// Leaves a deployment on the device that no executor takes, so that it fails at its deadline and stays in the list.
/// A second one does no harm.
async fn plant(context: &Context, target: &DeviceTarget, marks: BTreeMap<String, String>) -> Result<String, Fault> {
    let peer = target.did.peer_id();
    let request = json!({"Ensemble": {"v1": {
        "escalation_strategy": "teardown",
        "allocations": {"sentinel": {
            "executor": "null",
            "type": "task",
            "resources": {
                "cpu": {"clock_speed": 1_000_000_000_u64, "cores": 1},
                "ram": {"size": 1_u64 << 20},
                "disk": {"size": 1_u64 << 20},
            },
            "execution": {"type": "null"},
            "failure_recovery": "stay_down",
        }},
        "nodes": {"device": {"allocations": ["sentinel"], "failure_recovery": "stay_down", "peer": peer}},
        "metadata": marks,
    }}});
    let client = context.device_client.as_ref();
    let call = client.prepare(target, dms::path::DEPLOYMENT_NEW, request, WINDOW)?;
    let reply = client.send(target, dms::path::DEPLOYMENT_NEW, call, dms::READ_WINDOW).await?;
    let reply = dms::deployment_new_reply(target, reply)?;
    if reply.ensemble_id.is_empty() {
        return Err(Fault::refused(format!(
            "the device refused the record by which its list is known to be whole: {}",
            reply.error
        )));
    }
    Ok(reply.ensemble_id)
}
