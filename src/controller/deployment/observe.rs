//! What the device says of an object's deployment.
//!
//! The device is asked for what carries this object's names. What it does not show is absent only when a list that
//! also shows the sentinel, or else every id recorded for the device, does not show it either: DMS answers errors
//! with an empty list.

use std::collections::BTreeMap;

use super::Subject;
use crate::{
    api::{Reason, names::metadata},
    controller::{context::Context, device},
    device::{
        CallError, DeviceClient, DeviceTarget,
        dms::{self, AllocationInfo, DeploymentState, ListEntry, Manifest},
    },
    plan::{
        decide::{Own, Progress, Record, Sight},
        tag::Marks,
    },
};

/// What else was learnt on the way.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// Manifest of the recorded deployment, while it runs.
    pub manifest: Option<Manifest>,
    /// What its one allocation uses, while it runs.
    pub usage: Option<AllocationInfo>,
    /// Marks of the recorded deployment.
    pub marks: Option<Marks>,
    /// Why the device refused or gave up, in its own words.
    pub fault: Option<String>,
}

/// Looks at the device.
pub(super) async fn observe(subject: &Subject, context: &Context, device: &str) -> (Sight, Details) {
    let mut details = Details::default();
    let sight = match context.target(device) {
        Ok(target) => match look(subject, context, device, &target, &mut details).await {
            Ok(sight) => sight,
            Err(error) => {
                context.metrics.device_call_failed(device);
                Sight::Unknown { reason: device::reason(&error), message: error.to_string() }
            }
        },
        Err((reason, message)) => Sight::Unknown { reason, message },
    };
    (sight, details)
}

async fn look(
    subject: &Subject,
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    details: &mut Details,
) -> Result<Sight, CallError> {
    let client = context.device_client.as_ref();
    let filter = BTreeMap::from([
        (metadata::INSTALLATION.to_owned(), context.identity.installation.id().to_owned()),
        (metadata::NAMESPACE.to_owned(), subject.namespace.clone()),
        (metadata::NAME.to_owned(), subject.name.clone()),
    ]);
    let mut own = Vec::new();
    let mut marked = BTreeMap::new();
    for entry in dms::deployment_list_all(client, target, &filter).await? {
        if let Some(marks) = ours(subject, context, target, &entry.metadata) {
            own.push(seen(&entry, &marks));
            marked.insert(entry.id, marks);
        }
    }
    let record = subject.record();
    let mut foreign = false;
    if let Record::Bound { id, .. } = &record {
        if !marked.contains_key(id) {
            match by_id(subject, context, target, id).await? {
                Found::Ours(found) => {
                    let (found, marks) = *found;
                    own.push(found);
                    marked.insert(id.clone(), marks);
                }
                Found::Foreign => foreign = true,
                Found::Nothing => {}
            }
        }
        details.marks = marked.get(id).cloned();
        if own.iter().any(|found| &found.id == id && found.progress == Progress::Running) {
            running(client, target, id, details).await?;
        }
    }
    let complete = needs_proof(&record, &own) && whole_list(subject, context, device, target).await?;
    Ok(Sight::Seen { own, foreign, complete })
}

/// The marks, when the tag is ours and they name this object on this device. The uid may be an older object's: names
/// are unique, so no such object is alive.
fn ours(
    subject: &Subject,
    context: &Context,
    target: &DeviceTarget,
    metadata: &BTreeMap<String, String>,
) -> Option<Marks> {
    let marks = context.identity.installation.recognise(metadata)?;
    (marks.namespace == subject.namespace && marks.name == subject.name && marks.device == target.did).then_some(marks)
}

enum Found {
    Ours(Box<(Own, Marks)>),
    Foreign,
    Nothing,
}

async fn by_id(subject: &Subject, context: &Context, target: &DeviceTarget, id: &str) -> Result<Found, CallError> {
    let client = context.device_client.as_ref();
    let Some(manifest) = dms::deployment_manifest(client, target, id).await?.manifest else {
        return Ok(Found::Nothing);
    };
    let Some(marks) = ours(subject, context, target, &manifest.metadata) else { return Ok(Found::Foreign) };
    let Some(state) = dms::deployment_status(client, target, id, false).await?.state else { return Ok(Found::Nothing) };
    let found = Own {
        id: id.to_owned(),
        attempt: marks.attempt,
        digest: marks.digest.clone(),
        progress: progress(state),
        created: String::new(),
    };
    Ok(Found::Ours(Box::new((found, marks))))
}

fn seen(entry: &ListEntry, marks: &Marks) -> Own {
    Own {
        id: entry.id.clone(),
        attempt: marks.attempt,
        digest: marks.digest.clone(),
        progress: progress(entry.state),
        created: entry.created_at.map(|at| at.to_string()).unwrap_or_default(),
    }
}

const fn progress(state: DeploymentState) -> Progress {
    match state {
        DeploymentState::Preparing
        | DeploymentState::Generating
        | DeploymentState::Committing
        | DeploymentState::Provisioning => Progress::Starting,
        DeploymentState::Running => Progress::Running,
        DeploymentState::ShuttingDown => Progress::Stopping,
        DeploymentState::Failed => Progress::Failed,
        DeploymentState::Completed => Progress::Completed,
    }
}

async fn running(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
    details: &mut Details,
) -> Result<(), CallError> {
    details.manifest = dms::deployment_manifest(client, target, id).await?.manifest;
    let status = dms::deployment_status(client, target, id, true).await?;
    details.usage = status.allocations.into_values().next();
    details.fault = Some(status.error).filter(|error| !error.is_empty());
    Ok(())
}

/// Whether a decision would rest on something not being there.
fn needs_proof(record: &Record, own: &[Own]) -> bool {
    match record {
        Record::None { .. } => false,
        Record::Open { .. } => own.is_empty(),
        Record::Bound { id, .. } => !own.iter().any(|found| &found.id == id),
    }
}

async fn whole_list(
    subject: &Subject,
    context: &Context,
    device: &str,
    target: &DeviceTarget,
) -> Result<bool, CallError> {
    let all = dms::deployment_list_all(context.device_client.as_ref(), target, &BTreeMap::new()).await?;
    let shows = |id: &String| all.iter().any(|entry| &entry.id == id);
    let recorded = context.recorded_ids(device, &subject.uid);
    Ok(match context.health(device).sentinel {
        Some(sentinel) => shows(&sentinel) && recorded.iter().all(shows),
        None => !recorded.is_empty() && recorded.iter().all(shows),
    })
}

/// Whether a sight came from the device at all.
pub(super) const fn reachable(sight: &Sight) -> Option<(bool, Reason)> {
    match sight {
        Sight::Seen { .. } => Some((true, Reason::Reachable)),
        Sight::Unknown { reason: reason @ (Reason::DeviceSilent | Reason::GrantInsufficient), .. } => {
            Some((false, *reason))
        }
        Sight::Unknown { .. } => None,
    }
}
