//! The end of a HostingDeployment: what it started is stopped, by recorded ids and checked tags, never by its spec;
//! then a tombstone is written; then the finalizer goes.

use std::{collections::BTreeSet, time::Duration};

use kube::{ResourceExt as _, runtime::controller::Action};

use super::{
    Subject,
    apply::{self, Carried, Place},
    authority, measure, observe,
    status::Draft,
};
use crate::{
    api::{
        Reason,
        names::{ANNOTATION_CLEANUP, CLEANUP_ABANDON},
    },
    capability::Nanos,
    controller::{
        context::Context,
        error::Error,
        events,
        revisions::Revisions,
        tombstone::{self, Tombstone},
    },
    plan::{
        authorise::{Highest, SKEW},
        conditions::Outcome,
        decide::{Decision, Phase, Record, decide},
    },
};

/// How long what is left is kept when the provider cannot be asked.
const RETAIN: Duration = Duration::from_hours(168);

/// One pass over an object that is being deleted. `Ok` lets the finalizer go.
pub(super) async fn pass(subject: &Subject, context: &Context) -> Result<Action, Error> {
    let abandon = subject.object.annotations().get(ANNOTATION_CLEANUP).is_some_and(|value| value == CLEANUP_ABANDON);
    if abandon {
        return conclude(subject, context, true).await;
    }
    if context.clock.suspect() {
        return hold(
            subject,
            context,
            Reason::ClockSuspect,
            "the clocks disagree; nothing is stopped until they agree",
        )
        .await;
    }
    let Some(record) = &subject.status.deployment else { return conclude(subject, context, false).await };
    apply::close_site(subject, context, &subject.uid, record.attempt);
    let (sight, details) = observe::observe(subject, context, &record.device).await;
    measure::take(subject, context, &sight, &details);
    let Decision { steps, phase } = decide(false, &subject.record(), &sight, context.clock.now(), SKEW);
    if matches!(phase, Phase::Idle) {
        return conclude(subject, context, false).await;
    }
    let mut draft = Draft::new(subject, context.clock.now());
    let place = Place { device: &record.device, selector: None };
    let carried = apply::carry_out(subject, context, &place, &steps, &mut draft).await?;
    let phase = match carried {
        Carried::Hindered(reason, message) => Phase::Stalled { reason, message },
        Carried::Nothing | Carried::Changed | Carried::Asked => phase,
    };
    let (reason, message) = match phase {
        Phase::Pending { message, .. } => (Reason::Deleting, message),
        Phase::Unknown { reason, message } | Phase::Stalled { reason, message } => (
            reason,
            format!(
                "it is being deleted, and what it started on device {} cannot be stopped yet: {message}. To finish \
                 without the device, set the annotation {ANNOTATION_CLEANUP}={CLEANUP_ABANDON}",
                record.device
            ),
        ),
        Phase::Running | Phase::Idle => (Reason::Deleting, "it is being deleted".to_owned()),
    };
    hold_with(subject, context, draft, reason, message).await
}

async fn hold(subject: &Subject, context: &Context, reason: Reason, message: &str) -> Result<Action, Error> {
    let draft = Draft::new(subject, context.clock.now());
    hold_with(subject, context, draft, reason, message.to_owned()).await
}

/// Reports why the object is still there. The error keeps the finalizer; it is no failure.
async fn hold_with(
    subject: &Subject,
    context: &Context,
    mut draft: Draft,
    reason: Reason,
    message: String,
) -> Result<Action, Error> {
    draft.write(subject, context, &Outcome::Reconciling(reason, message.clone())).await?;
    Err(Error::Holding(message))
}

/// Records what is left, tells of it, and lets the object go.
async fn conclude(subject: &Subject, context: &Context, abandoned: bool) -> Result<Action, Error> {
    let tombstone = left_behind(subject, context, abandoned).await?;
    // Who may create objects but was never granted anything leaves nothing that would fill this namespace.
    if !tombstone.is_empty() {
        tombstone::write(context, &tombstone).await?;
    }
    if let Some(site) = subject.site() {
        context.sites.remove(&site);
    }
    context.metrics.forget_deployment(&subject.namespace, &subject.name);
    let (reason, note) = if abandoned {
        let left = match &tombstone.record {
            Some((device, id)) => format!("deployment {id} on device {device} may still run"),
            None => "nothing was recorded on a device".to_owned(),
        };
        (Reason::Abandoned, format!("deleted without the device: {left}; recorded until {}", tombstone.until))
    } else {
        (Reason::CleanedUp, format!("nothing runs any more; its releases are kept until at least {}", tombstone.until))
    };
    events::publish(context, &subject.reference(), abandoned, reason.as_str(), "Delete", &note).await;
    Ok(Action::await_change())
}

async fn left_behind(subject: &Subject, context: &Context, abandoned: bool) -> Result<Tombstone, Error> {
    let mut revisions = Revisions::of(&context.client, &subject.namespace, {
        use kube::Resource as _;
        subject.object.owner_ref(&super::resource()).unwrap_or_default()
    })
    .list()
    .await
    .map_err(Error::api(format!("reading the revisions of {}/{}", subject.namespace, subject.name)))?;
    // A deletion in the foreground takes owned objects away first; what is remembered, and the status, still tell.
    revisions.extend(context.remember(&subject.uid, |memory| memory.revisions.clone()).unwrap_or_default());
    let mut releases: BTreeSet<String> = revisions
        .iter()
        .filter_map(|revision| revision.object.pointer("/spec/content/release")?.as_str().map(str::to_owned))
        .collect();
    releases.extend(subject.status.release.clone());
    let retain = context.serving().map_or(RETAIN, |served| served.terms.retain_after_delete);
    let record = match subject.record() {
        Record::Bound { id, .. } => subject.status.deployment.as_ref().map(|record| (record.device.clone(), id)),
        Record::Open { attempt, .. } if abandoned => {
            subject.status.deployment.as_ref().map(|record| (record.device.clone(), format!("attempt-{attempt}")))
        }
        Record::Open { .. } | Record::None { .. } => None,
    };
    Ok(Tombstone {
        namespace: subject.namespace.clone(),
        name: subject.name.clone(),
        uid: subject.uid.clone(),
        owner: subject.owner.to_string(),
        releases: releases.into_iter().collect(),
        highest: revisions
            .iter()
            .filter_map(|revision| signed(&revision.object))
            .chain(authority::recorded_highest(subject))
            .max_by_key(|highest| highest.time),
        record,
        abandoned,
        until: deleted_at(subject, context).plus(retain),
    })
}

/// From the deletion on, so that writing the tombstone twice writes the same.
fn deleted_at(subject: &Subject, context: &Context) -> Nanos {
    subject
        .object
        .metadata
        .deletion_timestamp
        .as_ref()
        .map_or_else(|| context.clock.now(), |at| Nanos::from_timestamp(at.0))
}

/// What an accepted revision's envelope states. It was judged when it was kept.
fn signed(object: &serde_json::Value) -> Option<Highest> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let bytes = STANDARD.decode(crate::controller::revisions::invocation(object)).ok()?;
    let envelope = crate::capability::Envelope::parse(&bytes).ok()?;
    let statement: crate::plan::authorise::Statement = serde_json::from_slice(&envelope.message).ok()?;
    Some(Highest { time: statement.time, digest: statement.digest })
}
