//! Events: one per change, never one per pass, and never a reason for a pass to fail.

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::runtime::events::{Event, EventType};

use super::context::Context;
use crate::{
    api::{ConditionType, Reason},
    plan::conditions,
};

/// Events carry at most 1 kB of text.
const NOTE_LIMIT: usize = 1000;

/// Tells of each condition that changed and that somebody would want to know of.
pub async fn changes(context: &Context, about: &ObjectReference, before: &[Condition], after: &[Condition]) {
    let changed = conditions::changed(before, after);
    // The summary repeats the reason of a part; one Event for both is enough.
    let of_parts: Vec<&str> =
        changed.iter().filter(|condition| !is_summary(condition)).map(|condition| condition.reason.as_str()).collect();
    for condition in &changed {
        let quiet = condition.reason == Reason::Progressing.as_str()
            || condition.reason == Reason::Creating.as_str()
            || condition.type_ == ConditionType::Reconciling.as_str()
            || condition.type_ == ConditionType::Stalled.as_str()
            || (is_summary(condition) && of_parts.contains(&condition.reason.as_str()));
        if !quiet {
            let warning = condition.status != "True" || condition.reason == Reason::TokenExpiringSoon.as_str();
            publish(context, about, warning, &condition.reason, &condition.type_, &condition.message).await;
        }
    }
}

fn is_summary(condition: &Condition) -> bool {
    [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled]
        .iter()
        .any(|kind| kind.as_str() == condition.type_)
}

/// Publishes one Event. What repeats within minutes is counted at the first, whose note stays.
pub async fn publish(
    context: &Context,
    about: &ObjectReference,
    warning: bool,
    reason: &str,
    action: &str,
    note: &str,
) {
    publish_related(context, about, None, warning, reason, action, note).await;
}

/// The same with the other object that it is about, too: for each of these it is an Event of its own.
pub async fn publish_related(
    context: &Context,
    about: &ObjectReference,
    related: Option<ObjectReference>,
    warning: bool,
    reason: &str,
    action: &str,
    note: &str,
) {
    let mut end = note.len().min(NOTE_LIMIT);
    while !note.is_char_boundary(end) {
        end -= 1;
    }
    let event = Event {
        type_: if warning { EventType::Warning } else { EventType::Normal },
        reason: reason.to_owned(),
        note: Some(note[..end].to_owned()),
        action: action.to_owned(),
        secondary: related,
    };
    context.metrics.event(warning, reason);
    if let Err(error) = context.recorder.publish(&event, about).await {
        tracing::warn!(%error, reason, "an Event could not be published");
    }
}
