//! The driver of HostingDeployments.
//!
//! ```text
//! dereference → validate → authorise → observe → plan → apply → publish status
//! ```
//!
//! `dereference` (here: provider, namespace, revisions), `observe`, `apply` and `status` do IO; `validate`, `authorise`
//! and `decide` live in [`crate::plan`] and do none. An object that cannot be read keeps what runs as it is.

mod apply;
mod authority;
mod cleanup;
mod content;
mod measure;
mod observe;
mod status;
mod tell;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::BoxFuture};
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    runtime::{
        controller::Action,
        finalizer::{Event, finalizer},
        reflector::ObjectRef,
    },
};
use serde_json::Value;

use self::{
    apply::{Carried, Place},
    content::{Fault, Provided},
    status::Draft,
};
use super::{
    context::{Context, Served, recorded_device, status_of},
    error::Error,
    events,
    lanes::Turn,
};
use crate::{
    api::{
        HostingDeployment, HostingDeploymentSpec, HostingDeploymentStatus, ObjectReference, Reason,
        names::{ANNOTATION_SUSPEND, FINALIZER},
    },
    capability::{Capability, Did},
    gateway::site_protocol::SiteName,
    metrics::Stage,
    plan::{
        backoff,
        conditions::Outcome,
        decide::{Decision, Phase, Progress, Record, Sight, Step, decide},
        validate::namespace_allowed,
    },
};

/// Longest pass. Publishing a large release is the slowest part.
const LIMIT: Duration = Duration::from_mins(10);

/// Pause before a pass over an object that the watch shows in a version already replaced.
const STALE: Duration = Duration::from_secs(1);

/// One HostingDeployment as a pass sees it.
pub(super) struct Subject {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    pub generation: Option<i64>,
    /// As received, with every field that this version does not know.
    pub raw_spec: Value,
    pub spec: HostingDeploymentSpec,
    pub owner: Did,
    pub status: HostingDeploymentStatus,
    pub object: Arc<DynamicObject>,
}

/// How the API server is asked for HostingDeployments whose raw JSON matters.
#[must_use]
pub fn resource() -> ApiResource {
    ApiResource::erase::<HostingDeployment>(&())
}

/// One pass over a HostingDeployment, bounded in time.
///
/// # Errors
/// [`Error`], tried again with growing pauses.
pub async fn reconcile(object: Arc<DynamicObject>, context: Arc<Context>) -> Result<Action, Error> {
    let name = format!("HostingDeployment {}/{}", object.namespace().unwrap_or_default(), object.name_any());
    // The turn at the device comes first: what is judged must not have grown old in a queue, and the queue is no part of
    // the pass.
    let mut turn = None;
    let mut object = object;
    if let Some(device) = recorded_device(&object) {
        let Some(taken) = context.lanes.at(&device).await else { return Ok(Action::await_change()) };
        turn = Some(taken);
        let latest = ObjectRef::from_obj_with(&*object, resource());
        object = context.deployments.get(&latest).unwrap_or(object);
    }
    match tokio::time::timeout(LIMIT, route(object, context, turn)).await {
        Ok(result) => result,
        Err(_) => Err(Error::Timeout { object: name, limit: LIMIT }),
    }
}

async fn route(object: Arc<DynamicObject>, context: Arc<Context>, turn: Option<Turn>) -> Result<Action, Error> {
    if !context.serves(&object) && context.is_neighbour(&object) {
        return report_not_served(&object, &context).await;
    }
    if !context.serves(&object) {
        return Ok(Action::await_change());
    }
    let subject = match Subject::read(&object) {
        Ok(subject) => Arc::new(subject),
        Err(cause) => return report_unreadable(&object, &context, &cause).await,
    };
    let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &subject.namespace, &resource());
    let uid = subject.uid.clone();
    let gone = object.metadata.deletion_timestamp.is_some();
    let about = format!("HostingDeployment {}/{}", subject.namespace, subject.name);
    let result = finalizer(&api, FINALIZER, object, |event| {
        let (subject, context) = (Arc::clone(&subject), Arc::clone(&context));
        // Boxed by its own call: the compiler cannot see through the whole type that it may move between threads.
        match event {
            Event::Apply(_) => applied(subject, context, turn),
            Event::Cleanup(_) => cleaned(subject, context, turn),
        }
    })
    .await;
    if gone && result.is_ok() {
        context.forget(&uid);
    }
    result.map_err(|error| match error {
        kube::runtime::finalizer::Error::ApplyFailed(error) | kube::runtime::finalizer::Error::CleanupFailed(error) => {
            error
        }
        other => Error::Finalizer { object: about, cause: other.to_string() },
    })
}

fn applied(
    subject: Arc<Subject>,
    context: Arc<Context>,
    turn: Option<Turn>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move { pass(&subject, &context, turn).await })
}

fn cleaned(
    subject: Arc<Subject>,
    context: Arc<Context>,
    turn: Option<Turn>,
) -> BoxFuture<'static, Result<Action, Error>> {
    Box::pin(async move {
        let result = cleanup::pass(&subject, &context).await;
        drop(turn);
        result
    })
}

impl Subject {
    fn read(object: &Arc<DynamicObject>) -> Result<Self, String> {
        let raw_spec = object.data.get("spec").cloned().ok_or("it has no spec")?;
        let spec: HostingDeploymentSpec =
            serde_json::from_value(raw_spec.clone()).map_err(|error| error.to_string())?;
        let owner = Did::parse(&spec.owner).map_err(|error| format!("spec.owner: {error}"))?;
        Ok(Self {
            namespace: object.namespace().ok_or("it has no namespace")?,
            name: object.name_any(),
            uid: object.uid().ok_or("it has no uid")?,
            generation: object.metadata.generation,
            raw_spec,
            spec,
            owner,
            status: status_of(object).map_err(|error| format!("status: {error}"))?,
            object: Arc::clone(object),
        })
    }

    /// The capability path of an action on this object.
    pub fn capability(&self, action: &str) -> Option<Capability> {
        Capability::parse(&format!("/hosting/{}/{action}/{}", self.namespace, self.name)).ok()
    }

    /// The name of its site. An object's names always make one; the type cannot know.
    pub fn site(&self) -> Option<SiteName> {
        SiteName::new(&self.namespace, &self.name).ok()
    }

    /// What the status says about the deployment.
    pub fn record(&self) -> Record {
        match &self.status.deployment {
            None => Record::None { attempts: 0 },
            Some(record) => match &record.id {
                None => Record::Open {
                    attempt: record.attempt,
                    expires: crate::capability::Nanos::from_timestamp(record.expires.0),
                },
                Some(id) => Record::Bound { attempt: record.attempt, id: id.clone() },
            },
        }
    }

    pub fn reference(&self) -> k8s_openapi::api::core::v1::ObjectReference {
        self.object.object_ref(&resource())
    }
}

/// An object that its kind's schema let through but that this version cannot read: told once a generation.
async fn report_unreadable(object: &DynamicObject, context: &Context, cause: &str) -> Result<Action, Error> {
    let generation = object.metadata.generation;
    let uid = object.uid().unwrap_or_default();
    let told = context.remember(&uid, |memory| std::mem::replace(&mut memory.reported, generation) == generation);
    if !told {
        let note = format!(
            "the object cannot be read, so nothing is changed for it: {cause}. Correct its spec and sign it again"
        );
        let about = object.object_ref(&resource());
        events::publish(context, &about, true, Reason::InvalidObject.as_str(), "Read", &note).await;
        tracing::warn!(namespace = ?object.namespace(), name = %object.name_any(), cause, "an object cannot be read");
    }
    Ok(Action::await_change())
}

/// An object that names another HostingProvider of the namespace that this operator alone works for.
async fn report_not_served(object: &Arc<DynamicObject>, context: &Context) -> Result<Action, Error> {
    let Ok(subject) = Subject::read(object) else { return Ok(Action::await_change()) };
    let ObjectReference { namespace, name } = &subject.spec.provider_ref;
    let message = format!(
        "nobody serves HostingProvider {namespace}/{name}: the operator of that namespace serves {}. Create the object anew \
         with this provider",
        context.settings.provider
    );
    let mut draft = Draft::new(&subject, context.clock.now());
    draft.write(&subject, context, &Outcome::Stalled(Reason::NotServed, message)).await?;
    Ok(Action::await_change())
}

/// The pipeline.
async fn pass(subject: &Subject, context: &Context, mut turn: Option<Turn>) -> Result<Action, Error> {
    let Some(own) = context.lanes.own().await else { return Ok(Action::await_change()) };
    if is_stale(subject, context) {
        return Ok(Action::requeue(STALE));
    }
    let mut draft = Draft::new(subject, context.clock.now());
    let served = match dereference(context) {
        Ok(served) => served,
        Err(outcome) => return status::finish(subject, context, draft, outcome, Duration::from_secs(5)).await,
    };
    let judging = authority::establish(subject, context, &served, &mut draft);
    let authority = timed(context, Stage::Authorise, judging).await?;
    let suspended = subject.object.annotations().get(ANNOTATION_SUSPEND).is_some_and(|on| on == "true");
    // The annotation is not signed: it holds an object still only as long as that has its right.
    let still = suspended && authority.refusal.is_none() && !authority.candidates.is_empty();
    // A store that does not answer holds up publishing, and no verdict.
    drop(own);
    let files = match admitted(subject, context, &served) {
        _ if still => Provided::default(),
        Ok(()) => {
            let Some(_publishing) = context.lanes.publishing().await else { return Ok(Action::await_change()) };
            let providing = content::provide(subject, context, &served, &authority, &mut draft).boxed();
            timed(context, Stage::Publish, providing).await
        }
        Err(fault) => Provided::held(fault),
    };
    // What runs by right goes on while the store does not answer; only something new waits for its files.
    let wanted = files.serving.is_some() || (subject.status.deployment.is_some() && !authority.candidates.is_empty());

    let device = apply::device_for(subject, context, &files);
    if let (Ok(device), None) = (&device, &turn) {
        match tokio::time::timeout(STALE, context.lanes.at(device)).await {
            Ok(Some(taken)) => turn = Some(taken),
            Ok(None) => return Ok(Action::await_change()),
            Err(_) => return Ok(Action::requeue(STALE)),
        }
    }
    let _turn = turn;
    let (sight, details) = match &device {
        Ok(device) => timed(context, Stage::Observe, observe::observe(subject, context, device)).await,
        Err((reason, message)) => {
            (Sight::Unknown { reason: *reason, message: message.clone() }, observe::Details::default())
        }
    };
    let decision = decide(wanted, &subject.record(), &sight, context.clock.now(), crate::plan::authorise::SKEW);
    measure::take(subject, context, &sight, &details);
    if still {
        let resync = context.settings.resync;
        return Ok(Action::requeue(authority.next_change.map_or(resync, |change| change.min(resync))));
    }
    apply::direct_site(subject, context, &authority, &files, &details);
    let Decision { mut steps, phase } = decision;
    if files.serving.is_none() || suspended {
        steps.retain(|step| !matches!(step, Step::Begin { .. }));
    }
    let phase = after_end(subject, context, &sight, &mut steps).unwrap_or(phase);
    draft.saw(&sight, &phase);
    let (started, written) = (Instant::now(), draft.writing);
    let carried = match &device {
        Ok(device) => {
            let selector = files.serving.as_ref().and_then(|serving| serving.wanted.selector.as_ref());
            let place = Place { device, selector };
            apply::carry_out(subject, context, &place, &steps, &mut draft).boxed().await?
        }
        Err(_) => Carried::Nothing,
    };
    context.metrics.stage_ended(Stage::Apply, started.elapsed().saturating_sub(draft.writing - written));
    let outcome = match &carried {
        Carried::Hindered(reason, message) => Outcome::Reconciling(*reason, message.clone()),
        Carried::Nothing | Carried::Changed | Carried::Asked => {
            draft.sum_up(subject, context, &authority, &files, &phase, &details)
        }
    };
    tell::owner(subject, context, &authority, &outcome);
    let next = next_look(subject, context, &phase, &outcome, &carried, authority.next_change);
    if carried == Carried::Changed && draft.writing > written {
        // What was just recorded is looked at next; there is nothing to add to it.
        return Ok(Action::requeue(next));
    }
    status::finish(subject, context, draft, outcome, next).await
}

/// The watch is behind what this process has written itself; a pass over it would only end in a conflict.
fn is_stale(subject: &Subject, context: &Context) -> bool {
    let version = subject.object.resource_version();
    version.is_some_and(|version| context.remember(&subject.uid, |memory| memory.replaced.contains(&version)))
}

/// Counts how long a stage took.
async fn timed<T>(context: &Context, stage: Stage, work: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let result = work.await;
    context.metrics.stage_ended(stage, started.elapsed());
    result
}

/// A deployment that ended on the device is begun anew after a pause that grows with the attempts.
fn after_end(subject: &Subject, context: &Context, sight: &Sight, steps: &mut Vec<Step>) -> Option<Phase> {
    let again = steps.iter().find_map(|step| match step {
        Step::Begin { attempt } if *attempt > 1 => Some(*attempt),
        Step::Begin { .. } | Step::Adopt { .. } | Step::Stop { .. } | Step::Forget { .. } => None,
    });
    let now = context.clock.now();
    let since = context.remember(&subject.uid, |memory| {
        memory.ended_since = again.and(memory.ended_since.or(Some(now)));
        memory.ended_since
    })?;
    let attempt = again?;
    let until = since.plus(backoff::OUTSIDE.pause(u32::try_from(attempt - 1).unwrap_or(u32::MAX), 0));
    if now >= until {
        return None;
    }
    steps.retain(|step| !matches!(step, Step::Begin { .. }));
    let failed = match (subject.record(), sight) {
        (Record::Bound { id, .. }, Sight::Seen { own, .. }) => {
            own.iter().find(|own| own.id == id).map(|own| own.progress == Progress::Failed)
        }
        _ => None,
    };
    let (reason, what) = match failed {
        Some(true) => (Reason::DeploymentFailed, "the deployment failed on the device"),
        Some(false) => (Reason::DeploymentFailed, "the deployment ended on the device"),
        None => (Reason::Creating, "the deployment is not on the device"),
    };
    Some(Phase::Pending { reason, message: format!("{what}; attempt {attempt} begins in a while"), until: Some(until) })
}

/// What verdicts rest on: a clock to be believed, and the provider's terms.
fn dereference(context: &Context) -> Result<Arc<Served>, Outcome> {
    if context.clock.suspect() {
        return Err(Outcome::Reconciling(
            Reason::ClockSuspect,
            "this machine's clock jumped, or it and the API server's disagree by more than 30s; nothing is admitted or \
             stopped until they agree. Check NTP"
                .to_owned(),
        ));
    }
    context.serving().map_err(|(reason, message)| Outcome::Reconciling(reason, message))
}

/// Whether the provider takes something new from here. What runs by right goes on all the same.
fn admitted(subject: &Subject, context: &Context, served: &Served) -> Result<(), Fault> {
    let ObjectReference { namespace, name } = &subject.spec.provider_ref;
    if !context.providers.state().iter().any(|provider| provider.name_any() == *name) {
        let message = format!("HostingProvider {namespace}/{name} does not exist any more; it is awaited");
        return Err(Fault::wait(Reason::ProviderNotReady, message));
    }
    let Some(labels) = context.labels_of(&subject.namespace) else {
        let message = format!("the labels of namespace {} were not read yet", subject.namespace);
        return Err(Fault::wait(Reason::ProviderNotReady, message));
    };
    if namespace_allowed(&served.spec, &context.settings.namespace, &subject.namespace, &labels) {
        return Ok(());
    }
    Err(Fault::stall(
        Reason::NamespaceNotAllowed,
        format!(
            "HostingProvider {namespace}/{name} does not take deployments from namespace {}. Ask the provider to extend \
             spec.allowedNamespaces",
            subject.namespace
        ),
    ))
}

/// Whether a device is what stands in the way: it may be well again before its next heartbeat tells.
const fn waits_for_device(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::DeviceSilent
            | Reason::DeviceUnreadable
            | Reason::DeviceRefused
            | Reason::DeviceContradicts
            | Reason::OutcomeUnknown
    )
}

/// When to look again: soon while something starts, with growing pauses while something outside fails, at the next
/// expiry, and in any case at the resync.
fn next_look(
    subject: &Subject,
    context: &Context,
    phase: &Phase,
    outcome: &Outcome,
    carried: &Carried,
    next_change: Option<Duration>,
) -> Duration {
    let jitter: u8 = rand::random();
    let pause = context.remember(&subject.uid, |memory| match (carried, phase, outcome) {
        (Carried::Changed, _, _) => {
            memory.looks = 0;
            memory.conflicts = 0;
            Duration::from_millis(50)
        }
        (Carried::Asked, _, _) | (Carried::Nothing, Phase::Pending { .. }, _) => {
            memory.looks = memory.looks.saturating_add(1);
            backoff::STARTING.pause(memory.looks, jitter)
        }
        (_, _, Outcome::Reconciling(reason, _)) => {
            memory.failures = memory.failures.saturating_add(1);
            let pauses = if waits_for_device(*reason) { backoff::SILENT } else { backoff::OUTSIDE };
            pauses.pause(memory.failures, jitter)
        }
        _ => {
            memory.looks = 0;
            memory.failures = 0;
            memory.conflicts = 0;
            backoff::Backoff { first: context.settings.resync, cap: context.settings.resync }.pause(1, jitter)
        }
    });
    next_change.map_or(pause, |change| change.min(pause))
}
