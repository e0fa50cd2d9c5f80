//! Deployments: begun, looked at, listed, stopped, forgotten.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{CHANGE_WINDOW, READ_WINDOW, ask, bad, read};
use crate::{
    device::{
        CallError, DeviceClient, DeviceTarget,
        dms::{
            DeleteRequest, DeploymentId, Ensembles, InfoReply, InfoRequest, ListEntry, ListPage, ListQuery,
            ManifestReply, NewReply, NewRequest, NewStatus, Outcome, PruneRequest, StatusReply, StatusRequest,
            UpdateRequest, ensemble, path,
        },
    },
    plan::build::EnsembleSpec,
};

/// Deployments asked for in one page of a list.
pub const PAGE: u64 = 100;
/// Pages read before a list counts as unreadable.
pub const MAX_PAGES: usize = 100;
/// An update is refused when it expires earlier than about two minutes from now; this is asked for in full.
pub const UPDATE_WINDOW: Duration = Duration::from_mins(5);

/// The payload of `deployment/new`.
#[must_use]
pub fn deployment_new_request(spec: &EnsembleSpec) -> Value {
    json!(NewRequest { ensemble: ensemble_of(spec) })
}

/// Reads the reply of `deployment/new`, which is sent by [`DeviceClient::send`] since it goes out only once.
///
/// # Errors
/// [`CallError::BadReply`], when it is none, also when it says OK without an id.
pub fn deployment_new_reply(target: &DeviceTarget, reply: Value) -> Result<NewReply, CallError> {
    let reply: NewReply = read(target, path::DEPLOYMENT_NEW, reply)?;
    if reply.status == NewStatus::Ok && reply.ensemble_id.is_empty() {
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
    json!(StatusRequest { id: id.to_owned(), include_usage })
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
    let request = DeploymentId { id: id.to_owned() };
    let reply: ManifestReply = ask(client, target, path::DEPLOYMENT_MANIFEST, &request, READ_WINDOW).await?;
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
    ask(client, target, path::DEPLOYMENT_LIST, query, READ_WINDOW).await
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
    // Pages of the whole list overlap by one, so that one that moved up between them is missed no more.
    let mut last: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let query = ListQuery {
            metadata: metadata.clone(),
            limit: Some(PAGE),
            offset: (offset > 0).then_some(offset),
            ..ListQuery::default()
        };
        let ListPage { deployments, total, has_more, next_offset } = deployment_list(client, target, &query).await?;
        let expected = last.take();
        if expected.is_some_and(|expected| deployments.first().is_none_or(|first| first.id != expected)) {
            return Err(bad(target, path::DEPLOYMENT_LIST, "it changed while its pages were read"));
        }
        let (own, count) = (deployments.last().map(|entry| entry.id.clone()), deployments.len());
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
            Some(next) if metadata.is_empty() && count > 1 && next > offset + 1 => (offset, last) = (next - 1, own),
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
    change(client, target, path::DEPLOYMENT_SHUTDOWN, &DeploymentId { id: id.to_owned() }, CHANGE_WINDOW).await
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
    change(client, target, path::DEPLOYMENT_DELETE, &DeleteRequest { id: id.to_owned() }, CHANGE_WINDOW).await
}

/// Replaces the ensemble of a running deployment. It counts as done when the device says so.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`Outcome::error`].
pub async fn deployment_update(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
    spec: &EnsembleSpec,
) -> Result<Outcome, CallError> {
    let request = UpdateRequest { id: id.to_owned(), ensemble: ensemble_of(spec) };
    change(client, target, path::DEPLOYMENT_UPDATE, &request, UPDATE_WINDOW).await
}

/// State, manifest and allocations of one deployment in one answer.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`InfoReply::error`].
pub async fn deployment_info(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    request: &InfoRequest,
) -> Result<InfoReply, CallError> {
    let reply: InfoReply = ask(client, target, path::DEPLOYMENT_INFO, request, READ_WINDOW).await?;
    if reply.state.is_none() && reply.error.is_empty() {
        return Err(bad(target, path::DEPLOYMENT_INFO, "it has neither a state nor an error"));
    }
    Ok(reply)
}

/// Removes the records of deployments that are over.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`Outcome::error`].
pub async fn deployment_prune(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    request: &PruneRequest,
) -> Result<Outcome, CallError> {
    change(client, target, path::DEPLOYMENT_PRUNE, request, CHANGE_WINDOW).await
}

fn ensemble_of(spec: &EnsembleSpec) -> Ensembles {
    let v1 = ensemble::encode(spec).get_mut("v1").map(Value::take).unwrap_or_default();
    Ensembles { v1 }
}

/// Asks for a change. Its reply says that it was done, or why not: one that says neither is none.
async fn change(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    behaviour: &str,
    request: &(impl Serialize + Sync),
    window: Duration,
) -> Result<Outcome, CallError> {
    let reply: Outcome = ask(client, target, behaviour, request, window).await?;
    if !reply.ok && reply.error.is_empty() {
        return Err(bad(target, behaviour, "it says neither that it was done nor why not"));
    }
    Ok(reply)
}
