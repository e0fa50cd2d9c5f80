//! The driver of HostingDevices: a heartbeat, and what it shows of the device: whether it answers, offers resources, still
//! has its sentinel and holds a grant that is good for something.

pub(super) mod adopt;
mod grant;
mod sentinel;

use std::{sync::Arc, time::Duration};

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;
use tokio::time::Instant;

use self::grant::TakenBack;
use super::{
    context::{Context, DeviceHealth, SILENCES, Watched, contradiction, stored_time, target},
    error::Error,
    events, revocation,
};
use crate::{
    api::{
        ConditionType, HostingDevice, HostingDeviceStatus, Reachability, Reason, SentinelRecord, names::FIELD_MANAGER,
    },
    capability::Token,
    device::{
        CallError, DeviceTarget,
        dms::{self, path},
    },
    plan::{
        backoff,
        conditions::{Outcome, Statement, Value, conditions},
        reach::Reach,
    },
};

/// Pause between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Pause after a heartbeat that failed, or that spoke against those before it.
const RETRY: Duration = Duration::from_secs(3);
/// At every so-manieth heartbeat it is asked whether the device offers resources.
const ONBOARDING_EVERY: u32 = 4;
const CONSISTENT: &str = "what the device answers fits together";

/// What stood in the way of a heartbeat.
struct Fault {
    reason: Reason,
    message: String,
    kind: FaultKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultKind {
    /// Nothing usable came; it is asked again.
    Silent,
    /// It answered, and said no; it is asked again.
    Refused,
    /// It was not asked, or asking again changes nothing.
    Person,
}

impl Fault {
    const fn person(reason: Reason, message: String) -> Self {
        Self { reason, message, kind: FaultKind::Person }
    }

    const fn refused(message: String) -> Self {
        Self { reason: Reason::DeviceRefused, message, kind: FaultKind::Refused }
    }

    /// Whether the device answered; `None` when it was not asked.
    fn answered(&self) -> Option<bool> {
        match (self.kind, self.reason) {
            (FaultKind::Silent, _) => Some(false),
            (FaultKind::Refused, _) | (FaultKind::Person, Reason::SentinelLost | Reason::DeviceContradicts) => {
                Some(true)
            }
            (FaultKind::Person, _) => None,
        }
    }
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let reason = reason(&error);
        let kind = match reason {
            Reason::GrantInsufficient | Reason::DeviceContradicts => FaultKind::Person,
            Reason::DeviceUnreadable => FaultKind::Refused,
            _ => FaultKind::Silent,
        };
        Self { reason, message: error.to_string(), kind }
    }
}

/// The reason by which a failed call is reported.
#[must_use]
pub const fn reason(error: &CallError) -> Reason {
    match error {
        CallError::NotSent { .. } | CallError::Silent { .. } => Reason::DeviceSilent,
        CallError::BadReply { .. } => Reason::DeviceUnreadable,
        CallError::NotGranted { .. } => Reason::GrantInsufficient,
        CallError::Contradiction { .. } => Reason::DeviceContradicts,
    }
}

/// One pass over a device.
///
/// # Errors
/// [`Error`], tried again.
pub async fn reconcile(object: Arc<HostingDevice>, context: Arc<Context>) -> Result<Action, Error> {
    let name = object.name_any();
    let before = object.status.clone().unwrap_or_default();
    let mut watched = context.watched(&name, known(&object, &before));
    let now = context.clock.now().to_timestamp();
    if adopt::acquits(&object, &before, now) {
        // Told first: what it is accused of from here on is later than what was seen to.
        context.acquit(&name);
        publish_status(&object, &context, &before, acquitted(&before, &context)).await?;
        return Ok(Action::requeue(Duration::ZERO));
    }
    let known_sentinel = before.sentinel.as_ref().map(|record| record.id.clone());
    let adopting = adopt::is_due(&object, &before, now);
    let target = target(&object);
    let seen = match &target {
        Ok(target) if let Some(taken_back) = taken_back(target, &context) => {
            let TakenBack { key, ends, message } = taken_back;
            revocation::used(&context, &key, ends).await;
            Err(Fault::person(Reason::GrantInsufficient, message))
        }
        Ok(target) => {
            let expected = known_sentinel.clone().filter(|_| !adopting);
            tokio::select! {
                seen = beat(&context, &name, target, expected, &mut watched) => seen,
                // Nothing is lost: a sentinel that was asked for is found by its marks.
                () = context.lanes.closed() => return Ok(Action::await_change()),
            }
        }
        Err((reason, message)) => Err(Fault::person(*reason, message.clone())),
    };
    if let Err(Fault { reason: Reason::DeviceContradicts, message, .. }) = &seen {
        watched.contradiction.get_or_insert_with(|| message.clone());
    }
    let answered = seen.as_ref().map_or_else(Fault::answered, |_| Some(true));
    // Of a device that cannot be asked nothing is known.
    watched.reach = answered.map_or_else(Reach::default, |answered| watched.reach.after(answered));
    // Whoever was accused meanwhile stays so.
    let watched = context.set_watched(&name, watched);
    // What was told of an earlier spec says nothing of this one.
    let held = watched.reach.in_doubt() && before.observed_generation == object.metadata.generation;
    let outcome = outcome(&name, &seen, &watched, held).filter(|outcome| {
        // Until its new sentinel is there, the loss that is being settled stays told.
        !adopting || !matches!(outcome, Outcome::Reconciling(..))
    });
    let outcome = outcome.map(|outcome| as_told(outcome, &object, &before));
    let pause = pause(&seen, &watched);
    let silences = if answered == Some(false) { (context.health(&name).silences + 1).min(SILENCES) } else { 0 };
    let ready = outcome.as_ref().map_or_else(|| context.health(&name).ready, |now| matches!(now, Outcome::Ready(_)));
    let sentinel = seen.as_ref().ok().cloned().or(known_sentinel);
    let told = (object.uid(), object.metadata.generation, object.labels().clone());
    context.set_health(&name, Some(DeviceHealth { ready, sentinel: sentinel.clone(), silences, object: told }));
    let grant = target.ok().and_then(|target| target.grant);
    let status = status(&object, &context, &before, &watched, (sentinel, grant.as_ref()), outcome.as_ref());
    publish_status(&object, &context, &before, status).await?;
    context.metrics.device_ready(&name, ready);
    Ok(Action::requeue(backoff::Backoff { first: pause, cap: pause }.pause(1, rand::random())))
}

fn taken_back(target: &DeviceTarget, context: &Context) -> Option<TakenBack> {
    grant::taken_back(target.grant.as_ref()?, &|key| context.revocations.revoked(key))
}

/// What the status of a device tells a process that has just started.
fn known(object: &HostingDevice, before: &HostingDeviceStatus) -> Watched {
    Watched {
        uid: object.uid(),
        reach: Reach::known(before.reachability.map(|reachability| reachability == Reachability::Reachable)),
        onboarded: before.onboarded,
        spelling: before.reply_spelling,
        contradiction: contradiction(before),
        // What its status says was asked not long ago.
        beats: u32::from(before.onboarded.is_some()),
    }
}

/// Asks the device for a sign of life, sees to its sentinel, and now and then asks whether it offers resources. The id of
/// the sentinel.
async fn beat(
    context: &Context,
    device: &str,
    target: &DeviceTarget,
    sentinel: Option<String>,
    watched: &mut Watched,
) -> Result<String, Fault> {
    let client = context.device_client.as_ref();
    let started = Instant::now();
    let told = dms::peers_self(client, target).await?;
    context.metrics.device_heartbeat(device, started.elapsed());
    let own = target.did.peer_id();
    if told.id != own {
        let message = format!("the device says that it is peer {:?}, and the connection proved {own}", told.id);
        return Err(Fault::person(Reason::DeviceContradicts, message));
    }
    let sentinel::Found { id, spelling } = sentinel::see_to(context, device, target, sentinel).await?;
    let due = watched.beats.is_multiple_of(ONBOARDING_EVERY);
    watched.beats = watched.beats.wrapping_add(1);
    watched.spelling = spelling.or(watched.spelling);
    let may_ask = |behaviour| target.grant.as_ref().is_none_or(|grant| path::allows(grant.capabilities(), behaviour));
    // A node that does not serve this, or could not tell, is none the worse for it.
    if due
        && may_ask(path::ONBOARDING_STATUS)
        && let Ok(reply) = dms::onboarding_status(client, target).await
        && reply.error.is_empty()
    {
        watched.onboarded = Some(reply.onboarded);
    }
    if due
        && may_ask(path::RESOURCES_FREE)
        && let Ok(reply) = dms::resources_free(client, target).await
        && reply.error.is_empty()
    {
        let dms::Resources { cpu, ram, disk } = reply.resources;
        context.metrics.device_free(device, cpu.cores, ram.size, disk.size);
    }
    Ok(id)
}

/// What the heartbeat comes to; `None` while it speaks against those before it, and `held`: then everything stays as it was
/// told.
fn outcome(device: &str, seen: &Result<String, Fault>, watched: &Watched, held: bool) -> Option<Outcome> {
    if let Some(contradiction) = &watched.contradiction {
        let message = format!(
            "{contradiction}. Nothing new goes there: see that the device is what it says it is, and take it again with \
             `kubectl hosting device adopt {device}`"
        );
        return Some(Outcome::Stalled(Reason::DeviceContradicts, message));
    }
    match seen {
        Err(Fault { reason, message, kind: FaultKind::Person }) => Some(Outcome::Stalled(*reason, message.clone())),
        _ if held => None,
        Err(Fault { reason, message, kind: FaultKind::Silent | FaultKind::Refused }) => {
            Some(Outcome::Reconciling(*reason, message.clone()))
        }
        Ok(_) if watched.onboarded == Some(false) => Some(Outcome::Reconciling(
            Reason::NotOnboarded,
            "the device answers and offers no resources: its owner has to onboard it".to_owned(),
        )),
        Ok(_) => Some(Outcome::Ready("the device answers".to_owned())),
    }
}

fn pause(seen: &Result<String, Fault>, watched: &Watched) -> Duration {
    match seen {
        Ok(_) | Err(Fault { kind: FaultKind::Person, .. }) if !watched.reach.in_doubt() => HEARTBEAT,
        _ => RETRY,
    }
}

/// Forgets devices whose objects are gone, for ever: no pass comes for those.
pub async fn forget_gone(context: Arc<Context>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        context.forget_gone();
        let devices = context.devices.state();
        for name in context.known_devices() {
            if !devices.iter().any(|device| device.name_any() == name) {
                context.set_health(&name, None);
                context.forget_watched(&name);
                context.metrics.forget_device(&name);
            }
        }
    }
}

fn status(
    object: &HostingDevice,
    context: &Context,
    before: &HostingDeviceStatus,
    watched: &Watched,
    (sentinel, grant): (Option<String>, Option<&Token>),
    outcome: Option<&Outcome>,
) -> HostingDeviceStatus {
    let (generation, now) = (object.metadata.generation, context.clock.now());
    let Watched { reach, onboarded, spelling, contradiction, beats: _, uid: _ } = watched;
    let credible = match (contradiction, reach.reachable()) {
        (Some(contradiction), _) => Some((Value::False, Reason::DeviceContradicts, contradiction.clone())),
        (None, Some(_)) => Some((Value::True, Reason::Consistent, CONSISTENT.to_owned())),
        (None, None) => None,
    };
    let credible =
        credible.map(|(value, reason, message)| Statement { kind: ConditionType::Credible, value, reason, message });
    let parts: Vec<Statement> = grant
        .map(|grant| grant::statement(grant, &|key| context.revocations.revoked(key), now))
        .into_iter()
        .chain(credible)
        .collect();
    HostingDeviceStatus {
        observed_generation: generation,
        sentinel: sentinel.map(|id| SentinelRecord { id }),
        reachability: reach
            .reachable()
            .map(|reachable| if reachable { Reachability::Reachable } else { Reachability::Unreachable }),
        onboarded: *onboarded,
        reply_spelling: *spelling,
        grant_expires: grant.map(|grant| stored_time(grant.not_after())),
        conditions: match outcome {
            Some(outcome) => conditions(&parts, outcome, &before.conditions, generation, now),
            None => before.conditions.clone(),
        },
    }
}

/// The words of a silence differ from one to the next (refused, too late, dialled again later); its status does not.
fn as_told(outcome: Outcome, object: &HostingDevice, before: &HostingDeviceStatus) -> Outcome {
    let told = before.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str());
    match (outcome, told) {
        (Outcome::Reconciling(Reason::DeviceSilent, message), Some(told))
            if told.reason == Reason::DeviceSilent.as_str()
                && told.status == "False"
                && told.observed_generation == object.metadata.generation =>
        {
            tracing::debug!(device = %object.name_any(), message, "still silent");
            Outcome::Reconciling(Reason::DeviceSilent, told.message.clone())
        }
        (outcome, _) => outcome,
    }
}

/// The status without what a person has seen to.
fn acquitted(before: &HostingDeviceStatus, context: &Context) -> HostingDeviceStatus {
    let mut status = before.clone();
    for condition in status.conditions.iter_mut().filter(|found| found.type_ == ConditionType::Credible.as_str()) {
        "True".clone_into(&mut condition.status);
        Reason::Consistent.as_str().clone_into(&mut condition.reason);
        CONSISTENT.clone_into(&mut condition.message);
        condition.last_transition_time = stored_time(context.clock.now());
    }
    status
}

async fn publish_status(
    object: &HostingDevice,
    context: &Context,
    before: &HostingDeviceStatus,
    status: HostingDeviceStatus,
) -> Result<(), Error> {
    if &status == before {
        return Ok(());
    }
    let api: Api<HostingDevice> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let patch = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
        // Written by a pass over an older version, it could take the record of the sentinel away.
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "status": status,
    });
    api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::api(format!("writing the status of HostingDevice {}", object.name_any())))?;
    events::changes(context, &object.object_ref(&()), &before.conditions, &status.conditions).await;
    Ok(())
}
