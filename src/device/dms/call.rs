//! The behaviours as functions over a [`DeviceClient`].

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::{
    DeploymentState, ListEntry, ListPage, ManifestReply, NewReply, OnboardingReply, Outcome, PeersSelf, ResourcesReply,
    StatusReply, ensemble, path, tolerant,
};
use crate::{
    device::{CallError, DeviceClient, DeviceTarget},
    plan::build::EnsembleSpec,
};

/// How long a question about state may take.
pub const READ_WINDOW: Duration = Duration::from_secs(15);
/// How long a shutdown or delete may take: a device gives each allocation 15 s and each subnet 10 s to go.
pub const CHANGE_WINDOW: Duration = Duration::from_mins(1);
/// Deployments asked for in one page of a list.
pub const PAGE: u64 = 100;
/// Pages read before a list counts as unreadable.
pub const MAX_PAGES: usize = 100;

/// Which deployments to list; the default asks for the first page of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// Only those whose metadata holds all of these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// From the so-manieth on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Only those in one of these states, by number.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "numbers")]
    pub status: Vec<DeploymentState>,
    /// Only the one with this id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
}

fn numbers<S: serde::Serializer>(states: &[DeploymentState], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(states.iter().map(|state| state.number()))
}

/// Peer ID and addresses of the device: the cheapest question there is, hence the heartbeat.
///
/// # Errors
/// [`CallError`]; silence says nothing about what runs there.
pub async fn peers_self(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<PeersSelf, CallError> {
    ask(client, target, path::PEERS_SELF, json!({}), READ_WINDOW).await
}

/// The payload of `deployment/new`.
#[must_use]
pub fn deployment_new_request(spec: &EnsembleSpec) -> Value {
    json!({"Ensemble": ensemble::encode(spec)})
}

/// Reads the reply of `deployment/new`, which is sent by [`DeviceClient::send`] since it goes out only once.
///
/// # Errors
/// [`CallError::BadReply`], when it is none, also when it says OK without an id.
pub fn deployment_new_reply(target: &DeviceTarget, reply: Value) -> Result<NewReply, CallError> {
    let reply: NewReply = read(target, path::DEPLOYMENT_NEW, reply)?;
    if reply.status == super::NewStatus::Ok && reply.ensemble_id.is_empty() {
        return Err(bad(target, path::DEPLOYMENT_NEW, "it says OK and names no id"));
    }
    Ok(reply)
}

/// State of one deployment, with what its allocations have used when `include_usage`.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`StatusReply::error`].
pub async fn deployment_status(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
    include_usage: bool,
) -> Result<StatusReply, CallError> {
    let request = deployment_status_request(id, include_usage);
    deployment_status_reply(target, client.call(target, path::DEPLOYMENT_STATUS, request, READ_WINDOW).await?)
}

/// The payload of `deployment/status`.
#[must_use]
pub fn deployment_status_request(id: &str, include_usage: bool) -> Value {
    json!({"id": id, "include_usage": include_usage})
}

/// Reads the reply of `deployment/status`, for those who also want to see how it is spelt.
///
/// # Errors
/// [`CallError::BadReply`], when it is none.
pub fn deployment_status_reply(target: &DeviceTarget, reply: Value) -> Result<StatusReply, CallError> {
    let reply: StatusReply = read(target, path::DEPLOYMENT_STATUS, reply)?;
    if reply.state.is_none() && reply.error.is_empty() {
        return Err(bad(target, path::DEPLOYMENT_STATUS, "it has neither a state nor an error"));
    }
    Ok(reply)
}

/// Manifest of one deployment.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`ManifestReply::error`].
pub async fn deployment_manifest(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
) -> Result<ManifestReply, CallError> {
    let reply: ManifestReply = ask(client, target, path::DEPLOYMENT_MANIFEST, json!({"ID": id}), READ_WINDOW).await?;
    if reply.manifest.is_none() && reply.error.is_empty() {
        return Err(bad(target, path::DEPLOYMENT_MANIFEST, "it has neither a manifest nor an error"));
    }
    Ok(reply)
}

/// One page of the deployments of a device. An empty page proves nothing: devices answer it on errors too.
///
/// # Errors
/// [`CallError`].
pub async fn deployment_list(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    query: &ListQuery,
) -> Result<ListPage, CallError> {
    let request =
        serde_json::to_value(query).map_err(|error| bad(target, path::DEPLOYMENT_LIST, &error.to_string()))?;
    ask(client, target, path::DEPLOYMENT_LIST, request, READ_WINDOW).await
}

/// All deployments whose metadata holds `metadata` (empty: all there are), page by page. Each id comes once.
///
/// # Errors
/// [`CallError`]; [`CallError::BadReply`] also when the pages do not end within [`MAX_PAGES`], do not advance, give fewer
/// than the device says there are, or disagree about how many: a list known to be incomplete is never handed out as one.
pub async fn deployment_list_all(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    metadata: &BTreeMap<String, String>,
) -> Result<Vec<ListEntry>, CallError> {
    let mut found: BTreeMap<String, ListEntry> = BTreeMap::new();
    let (mut offset, mut first_total) = (0, None);
    for _ in 0..MAX_PAGES {
        let query = ListQuery {
            metadata: metadata.clone(),
            limit: Some(PAGE),
            offset: (offset > 0).then_some(offset),
            ..ListQuery::default()
        };
        let ListPage { deployments, total, has_more, next_offset } = deployment_list(client, target, &query).await?;
        found.extend(deployments.into_iter().map(|entry| (entry.id.clone(), entry)));
        // With a filter `total` counts the hits of a page in some versions, so only the whole list can be counted.
        if metadata.is_empty() && *first_total.get_or_insert(total) != total {
            // What followed a deletion has moved up, and one of it may stand on no page.
            return Err(bad(target, path::DEPLOYMENT_LIST, "it changed while its pages were read"));
        }
        if !has_more {
            let counted = u64::try_from(found.len()).unwrap_or(u64::MAX);
            if metadata.is_empty() && total.is_some_and(|total| total > counted) {
                return Err(bad(target, path::DEPLOYMENT_LIST, "its pages hold fewer deployments than it counts"));
            }
            return Ok(found.into_values().collect());
        }
        match next_offset {
            Some(next) if next > offset => offset = next,
            _ => return Err(bad(target, path::DEPLOYMENT_LIST, "it says that more follows and not where")),
        }
    }
    Err(bad(target, path::DEPLOYMENT_LIST, &format!("it goes on after {MAX_PAGES} pages of {PAGE}")))
}

/// Stops a running deployment. A device answers with OK only while it is Running.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`Outcome::error`].
pub async fn deployment_shutdown(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
) -> Result<Outcome, CallError> {
    ask(client, target, path::DEPLOYMENT_SHUTDOWN, json!({"ID": id}), CHANGE_WINDOW).await
}

/// Removes the record of a deployment. It stops nothing: shut down first.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`Outcome::error`].
pub async fn deployment_delete(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
) -> Result<Outcome, CallError> {
    ask(client, target, path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id}), CHANGE_WINDOW).await
}

/// What the device has left to give away.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`ResourcesReply::error`].
pub async fn resources_free(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<ResourcesReply, CallError> {
    ask(client, target, path::RESOURCES_FREE, json!({}), READ_WINDOW).await
}

/// Whether the device offers its resources.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`OnboardingReply::error`].
pub async fn onboarding_status(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<OnboardingReply, CallError> {
    ask(client, target, path::ONBOARDING_STATUS, json!({}), READ_WINDOW).await
}

async fn ask<T: DeserializeOwned>(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    behaviour: &str,
    request: Value,
    window: Duration,
) -> Result<T, CallError> {
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
