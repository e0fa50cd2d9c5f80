//! What the device says of an object's deployment.
//!
//! The device is asked for what carries this object's names. What it does not show is absent only when a list that
//! also shows the sentinel, or else every id recorded for the device, does not show it either: DMS answers errors
//! with an empty list.

use std::collections::BTreeMap;

use super::Subject;
use crate::{
    api::{Reason, names::metadata},
    controller::{
        context::{Context, SILENCES},
        device,
    },
    device::{
        CallError, DeviceClient, DeviceTarget,
        dms::{self, AllocationInfo, DeploymentState, ListEntry, Manifest, ToldState},
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

/// The device of this name, provided that it still is the node on which the recorded deployment was begun.
pub(super) fn target_of(subject: &Subject, context: &Context, device: &str) -> Result<DeviceTarget, (Reason, String)> {
    let target = context.target(device)?;
    let recorded = subject.status.deployment.as_ref().filter(|record| record.device == device);
    match recorded.and_then(|record| record.did.as_deref()).filter(|did| *did != target.did.as_str()) {
        None => Ok(target),
        Some(did) => Err((
            Reason::DeviceNotFound,
            format!(
                "HostingDevice {device} is another node now ({}): what runs on {did} cannot be told. Let the HostingDevice \
                 name that node again, or delete this object with the annotation hosting.nunet.io/cleanup=Abandon",
                target.did
            ),
        )),
    }
}

/// Looks at the device.
pub(super) async fn observe(subject: &Subject, context: &Context, device: &str) -> (Sight, Details) {
    let mut details = Details::default();
    if context.health(device).silences >= SILENCES {
        // Its heartbeat waits for an answer; a hundred objects need not do so too.
        let message =
            format!("device {device} did not answer its last {SILENCES} heartbeats; the next one is under way");
        return (Sight::Unknown { reason: Reason::DeviceSilent, message }, details);
    }
    let sight = match target_of(subject, context, device) {
        Ok(target) => match look(subject, context, device, &target, &mut details).await {
            Ok(sight) => sight,
            Err(error) => {
                context.metrics.device_call_failed(device);
                if matches!(error, CallError::Contradiction { .. }) {
                    context.accuse(device, &error.to_string());
                }
                Sight::Unknown { reason: device::reason(&error), message: error.to_string() }
            }
        },
        Err((reason, message)) => Sight::Unknown { reason, message },
    };
    (believed(context, device, sight), details)
}

/// Who was caught once is not believed that something has ended.
fn believed(context: &Context, device: &str, sight: Sight) -> Sight {
    let ended = |own: &Own| matches!(own.progress, Progress::Failed | Progress::Completed);
    match sight {
        Sight::Seen { own, .. } if own.iter().any(ended) && !context.credible(device) => {
            let message =
                format!("device {device} says that the deployment has ended, and has contradicted itself before");
            Sight::Unknown { reason: Reason::DeviceContradicts, message }
        }
        sight => sight,
    }
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
    let mut shown = Shown::new();
    take_ours(subject, context, target, &dms::deployment_list_all(client, target, &filter).await?, &mut shown);
    let record = subject.record();
    let mut foreign = false;
    if let Record::Bound { id, .. } = &record
        && !shown.contains_key(id)
    {
        match by_id(subject, context, target, id).await? {
            Found::Ours(found) => drop(shown.insert(id.clone(), *found)),
            Found::Foreign => foreign = true,
            Found::Nothing => {}
        }
    }
    let complete = needs_proof(&record, &shown) && prove(subject, context, device, target, &mut shown).await?;
    if let Record::Bound { id, .. } = &record
        && let Some((found, marks)) = shown.get(id)
    {
        details.marks = Some(marks.clone());
        if found.progress == Progress::Running {
            running(client, target, id, details).await?;
        }
    }
    Ok(Sight::Seen { own: shown.into_values().map(|(own, _)| own).collect(), foreign, complete })
}

/// What is ours, by id.
type Shown = BTreeMap<String, (Own, Marks)>;

fn take_ours(subject: &Subject, context: &Context, target: &DeviceTarget, list: &[ListEntry], shown: &mut Shown) {
    for entry in list {
        if let Some(marks) = ours(subject, context, target, &entry.metadata) {
            shown.entry(entry.id.clone()).or_insert_with(|| (seen(entry, &marks), marks));
        }
    }
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
    is_of(&manifest, target, id)?;
    let Some(marks) = ours(subject, context, target, &manifest.metadata) else { return Ok(Found::Foreign) };
    fits(&manifest, target, id)?;
    let status = dms::deployment_status(client, target, id, false).await?;
    let Some(state) = status.state else {
        // It has a manifest, so it is there; how far it is cannot be told.
        let what = status.error;
        return Err(CallError::BadReply {
            did: target.did.to_string(),
            behaviour: dms::path::DEPLOYMENT_STATUS.to_owned(),
            cause: format!("deployment {id} has a manifest and no state: {what}"),
        });
    };
    let found = Own {
        id: id.to_owned(),
        attempt: marks.attempt,
        digest: marks.digest.clone(),
        progress: progress(&state),
        created: String::new(),
    };
    Ok(Found::Ours(Box::new((found, marks))))
}

/// Whether a manifest can be that of the deployment asked for, on the node asked.
fn is_of(manifest: &Manifest, target: &DeviceTarget, id: &str) -> Result<(), CallError> {
    if manifest.id.is_empty() || manifest.id == id {
        return Ok(());
    }
    let cause = format!("asked for deployment {id}, it told of {}", manifest.id);
    Err(contradiction(target, dms::path::DEPLOYMENT_MANIFEST, cause))
}

/// Whether it also runs on the node asked, as everything that we start does.
fn fits(manifest: &Manifest, target: &DeviceTarget, id: &str) -> Result<(), CallError> {
    is_of(manifest, target, id)?;
    let (peer, named) = (target.did.peer_id(), |text: &str| !text.is_empty());
    match manifest.nodes.values().find(|node| named(&node.peer) && node.peer != peer) {
        Some(other) => {
            let cause = format!("deployment {id} is said to run on peer {}", other.peer);
            Err(contradiction(target, dms::path::DEPLOYMENT_MANIFEST, cause))
        }
        None => Ok(()),
    }
}

fn contradiction(target: &DeviceTarget, behaviour: &str, cause: String) -> CallError {
    CallError::Contradiction { did: target.did.to_string(), behaviour: behaviour.to_owned(), cause }
}

fn seen(entry: &ListEntry, marks: &Marks) -> Own {
    Own {
        id: entry.id.clone(),
        attempt: marks.attempt,
        digest: marks.digest.clone(),
        progress: progress(&entry.state),
        created: entry.created_at.map(|at| at.to_string()).unwrap_or_default(),
    }
}

fn progress(state: &ToldState) -> Progress {
    let state = match state {
        ToldState::Known(state) => state,
        ToldState::Unknown(name) => return Progress::Unknown(name.clone()),
    };
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
    let manifest = dms::deployment_manifest(client, target, id).await?.manifest;
    if let Some(manifest) = &manifest {
        fits(manifest, target, id)?;
    }
    let status = dms::deployment_status(client, target, id, true).await?;
    if let Some(other) = status.allocations.keys().find(|allocation| !allocation.starts_with(id)) {
        let cause = format!("asked for deployment {id}, it told of allocation {other}");
        return Err(contradiction(target, dms::path::DEPLOYMENT_STATUS, cause));
    }
    details.manifest = manifest;
    details.usage = status.allocations.into_values().next();
    details.fault = Some(status.error).filter(|error| !error.is_empty());
    Ok(())
}

/// Whether a decision would rest on something not being there.
fn needs_proof(record: &Record, shown: &Shown) -> bool {
    match record {
        Record::None { .. } => false,
        Record::Open { .. } => shown.is_empty(),
        Record::Bound { id, .. } => !shown.contains_key(id),
    }
}

/// Asks for the whole list, and says whether it is known to be whole. What a filtered list left out, by an error say, is
/// there all the same, so this one is searched too.
async fn prove(
    subject: &Subject,
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    shown: &mut Shown,
) -> Result<bool, CallError> {
    let client = context.device_client.as_ref();
    let all = dms::deployment_list_all(client, target, &BTreeMap::new()).await?;
    take_ours(subject, context, target, &all, shown);
    let listed = |id: &String| all.iter().any(|entry| &entry.id == id);
    let sentinel = context.health(device).sentinel;
    let recorded = context.recorded_ids(device, &subject.uid);
    // Older nodes list no metadata: what is not known otherwise is looked at by its manifest.
    for entry in all.iter().filter(|entry| entry.metadata.is_empty()) {
        if shown.contains_key(&entry.id) || sentinel.as_ref() == Some(&entry.id) || recorded.contains(&entry.id) {
            continue;
        }
        let manifest = dms::deployment_manifest(client, target, &entry.id).await?.manifest;
        let Some(manifest) = manifest else { continue };
        if let Some(marks) = ours(subject, context, target, &manifest.metadata) {
            fits(&manifest, target, &entry.id)?;
            shown.insert(entry.id.clone(), (seen(entry, &marks), marks));
        }
    }
    // Who was caught once proves nothing any more.
    if !context.credible(device) {
        return Ok(false);
    }
    // The list shows the recorded id, although its manifest could not be had: it is there.
    if matches!(subject.record(), Record::Bound { id, .. } if listed(&id)) {
        return Ok(false);
    }
    Ok(match sentinel {
        Some(sentinel) => listed(&sentinel) && recorded.iter().all(listed),
        None => !recorded.is_empty() && recorded.iter().all(listed),
    })
}

/// Whether a sight came from the device at all.
pub(super) const fn reachable(sight: &Sight) -> Option<(bool, Reason)> {
    match sight {
        Sight::Seen { .. } => Some((true, Reason::Reachable)),
        Sight::Unknown {
            reason:
                reason @ (Reason::DeviceSilent
                | Reason::DeviceUnreadable
                | Reason::GrantInsufficient
                | Reason::DeviceContradicts),
            ..
        } => Some((false, *reason)),
        Sight::Unknown { .. } => None,
    }
}
