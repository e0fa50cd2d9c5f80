//! The status: drafted in the course of a pass, replaced only when it differs, one writer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, ObjectMeta, PostParams},
    runtime::controller::Action,
};
use serde_json::json;

use super::{
    Subject,
    authority::Authority,
    content::Provided,
    observe::{self, Details},
    resource,
};
use crate::{
    api::{Access, ConditionType, HostingDeploymentStatus, Reason},
    capability::Nanos,
    controller::{context::Context, error::Error, events, revisions::Revision},
    metrics::Stage,
    plan::{
        authorise::Accepted,
        build::SITE_PORT,
        conditions::{Outcome, Statement, Value, conditions},
        decide::{Phase, Sight},
    },
};

/// A status in the making.
pub(super) struct Draft {
    /// What will be written, but for the conditions.
    pub status: HostingDeploymentStatus,
    parts: BTreeMap<ConditionType, Statement>,
    now: Nanos,
    /// What the API server holds.
    stored: HostingDeploymentStatus,
    version: Option<String>,
    /// Time spent writing so far.
    pub writing: Duration,
    /// The acceptance has an Event of its own.
    accepted: bool,
}

impl Draft {
    pub fn new(subject: &Subject, now: Nanos) -> Self {
        Self {
            status: subject.status.clone(),
            parts: BTreeMap::new(),
            now,
            stored: subject.status.clone(),
            version: subject.object.resource_version(),
            writing: Duration::ZERO,
            accepted: false,
        }
    }

    /// Tells of a spec that was accepted and is not the one that the status names. Its condition may say the same as before,
    /// of another spec. What an earlier pass told, and could not write down, is not told again.
    pub async fn accepted(
        &mut self,
        subject: &Subject,
        context: &Context,
        accepted: &Accepted,
        revision: Option<&Revision>,
    ) {
        let Accepted { digest, signer, signed, not_after, links: _ } = accepted;
        self.accepted = true;
        let this = Some((digest.clone(), *signed));
        if context.remember(&subject.uid, |memory| std::mem::replace(&mut memory.acceptance_told, this.clone())) == this
        {
            return;
        }
        let note = format!(
            "the spec with digest {} was accepted: signed by {signer} at {signed}, valid until {not_after}",
            &digest[..digest.len().min(12)]
        );
        let (reason, kind) = (Reason::Verified.as_str(), ConditionType::TokenVerified.as_str());
        let kept = revision.map(|revision| revision.reference(&subject.namespace));
        events::publish_related(context, &subject.reference(), kept, false, reason, kind, &note).await;
    }

    /// States one part.
    pub fn state(&mut self, kind: ConditionType, value: Value, reason: Reason, message: impl Into<String>) {
        self.parts.insert(kind, Statement { kind, value, reason, message: message.into() });
    }

    /// States what was seen on the device.
    pub fn saw(&mut self, sight: &Sight, phase: &Phase) {
        if let Some((reachable, reason)) = observe::reachable(sight) {
            let (value, message) = match sight {
                Sight::Seen { .. } => (Value::True, "the device answers".to_owned()),
                Sight::Unknown { message, .. } => (Value::Unknown, message.clone()),
            };
            debug_assert_eq!(reachable, value == Value::True);
            self.state(ConditionType::DeviceReachable, value, reason, message);
        }
        let (value, reason, message) = match phase {
            Phase::Running => (Value::True, Reason::Running, "it runs on the device".to_owned()),
            Phase::Idle => (Value::False, Reason::Stopped, "nothing runs on a device".to_owned()),
            Phase::Pending { reason, message, .. } => (Value::False, *reason, message.clone()),
            Phase::Unknown { reason, message } | Phase::Stalled { reason, message } => {
                (Value::Unknown, *reason, message.clone())
            }
        };
        self.state(ConditionType::Deployed, value, reason, message);
    }

    /// What the pass came to.
    pub fn sum_up(
        &mut self,
        subject: &Subject,
        context: &Context,
        authority: &Authority,
        files: &Provided,
        phase: &Phase,
        details: &Details,
    ) -> Outcome {
        // A site that started anew says that it serves nothing yet; one that was not heard since this process started
        // says nothing.
        if let Some(report) = subject.site().and_then(|site| context.sites.report_of(&site)) {
            self.status.release = report.serving.map(|release| release.to_string());
        }
        if matches!(phase, Phase::Idle) {
            self.status.release = None;
            self.status.url = None;
        }
        let public = files.serving.as_ref().map(|serving| serving.wanted.access == Access::Public);
        match public {
            Some(true) => self.status.url = details.manifest.as_ref().and_then(address).or(self.status.url.take()),
            Some(false) => self.status.url = None,
            None => {}
        }
        self.outcome(authority, files, phase)
    }

    fn outcome(&self, authority: &Authority, files: &Provided, phase: &Phase) -> Outcome {
        if let Phase::Stalled { reason, message } = phase {
            return Outcome::Stalled(*reason, message.clone());
        }
        if let Some(refusal) = &authority.refusal {
            let kept = if authority.candidates.is_empty() { "" } else { " What was accepted before goes on." };
            let message = match &authority.instead {
                Some(instead) => {
                    let fault = files.fault.as_ref().filter(|_| files.serving.is_none());
                    let but = fault.map(|fault| format!(" It is not served yet: {}", fault.message));
                    format!("{instead}, because {refusal}{}", but.unwrap_or_default())
                }
                None => format!("{refusal}{kept}"),
            };
            return Outcome::Stalled(Reason::Token(refusal.reason), message);
        }
        if let Some(fault) = &files.fault {
            let kept = if files.serving.is_some() { " The release before goes on being served." } else { "" };
            let message = format!("{}{kept}", fault.message);
            return if fault.stalled {
                Outcome::Stalled(fault.reason, message)
            } else {
                Outcome::Reconciling(fault.reason, message)
            };
        }
        match (phase, &files.serving) {
            (Phase::Running, Some(serving)) if serving.wanted.access != Access::Public => Outcome::Stalled(
                Reason::PrivateAccessNotAvailable,
                "the content is published and its site server runs, but this version has no gateway for content that is \
                 not public, so the site answers 403 to everybody. Use access: Public where the provider permits it"
                    .to_owned(),
            ),
            (Phase::Running, Some(serving)) if self.status.release.as_ref() == Some(&serving.wanted.release) => {
                Outcome::Ready(match &self.status.url {
                    Some(url) => format!("release {} is served at {url}", serving.wanted.release),
                    None => format!("release {} is served", serving.wanted.release),
                })
            }
            (Phase::Running, _) => Outcome::Reconciling(
                Reason::SiteNotReporting,
                "the site server runs and has not yet reported that it serves the release".to_owned(),
            ),
            (Phase::Idle, _) => Outcome::Reconciling(Reason::Progressing, "nothing runs yet".to_owned()),
            (Phase::Pending { reason, message, .. } | Phase::Unknown { reason, message }, _) => {
                Outcome::Reconciling(*reason, message.clone())
            }
            (Phase::Stalled { reason, message }, _) => Outcome::Stalled(*reason, message.clone()),
        }
    }

    fn compute(&self, subject: &Subject, outcome: &Outcome) -> HostingDeploymentStatus {
        let parts: Vec<Statement> = self.parts.values().cloned().collect();
        let before = &self.stored.conditions;
        let mut all = conditions(&parts, outcome, before, subject.generation, self.now);
        // A part that this pass did not come to keeps what was said of it.
        let summary =
            [ConditionType::Ready, ConditionType::Reconciling, ConditionType::Stalled].map(ConditionType::as_str);
        let unsaid = before
            .iter()
            .filter(|old| !summary.contains(&old.type_.as_str()) && !all.iter().any(|new| new.type_ == old.type_));
        let unsaid: Vec<_> = unsaid.cloned().collect();
        all.extend(unsaid);
        HostingDeploymentStatus { observed_generation: subject.generation, conditions: all, ..self.status.clone() }
    }

    /// Writes the status as it stands, under the version that was read.
    ///
    /// # Errors
    /// [`Error::Conflict`] when somebody else wrote the object meanwhile.
    pub async fn write(&mut self, subject: &Subject, context: &Context, outcome: &Outcome) -> Result<(), Error> {
        let status = self.compute(subject, outcome);
        if status == self.stored {
            return Ok(());
        }
        let about = format!("the status of HostingDeployment {}/{}", subject.namespace, subject.name);
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &subject.namespace, &resource());
        let object = DynamicObject {
            types: Some(kube::api::TypeMeta::resource::<crate::api::HostingDeployment>()),
            metadata: ObjectMeta {
                name: Some(subject.name.clone()),
                namespace: Some(subject.namespace.clone()),
                uid: Some(subject.uid.clone()),
                resource_version: self.version.clone(),
                ..ObjectMeta::default()
            },
            data: json!({"spec": subject.raw_spec, "status": status}),
        };
        let started = Instant::now();
        let written = api.replace_status(&subject.name, &PostParams::default(), &object).await;
        self.writing += started.elapsed();
        context.metrics.stage_ended(Stage::Status, started.elapsed());
        let written = written.map_err(Error::api(format!("writing {about}")))?;
        if let Some(replaced) = std::mem::replace(&mut self.version, written.resource_version()) {
            context.remember(&subject.uid, |memory| memory.note_replaced(replaced));
        }
        let after = status.conditions.iter().filter(|condition| {
            let told = condition.type_ == ConditionType::TokenVerified.as_str()
                && condition.reason == Reason::Verified.as_str();
            !(told && self.accepted)
        });
        let after: Vec<_> = after.cloned().collect();
        events::changes(context, &subject.reference(), &self.stored.conditions, &after).await;
        context.remember(&subject.uid, |memory| memory.acceptance_told = None);
        self.stored = status;
        Ok(())
    }

    /// Takes the version of a live read as the one to write under.
    pub fn based_on(&mut self, live: &DynamicObject) {
        self.version = live.resource_version();
    }
}

/// Where the manifest says the site is reached.
fn address(manifest: &crate::device::dms::Manifest) -> Option<String> {
    let port = manifest
        .allocations
        .values()
        .flat_map(|allocation| &allocation.ports)
        .find_map(|(public, private)| (*private == SITE_PORT).then_some(*public))?;
    let host = manifest.nodes.values().flat_map(|node| &node.pub_address).next()?;
    Some(if host.contains(':') { format!("http://[{host}]:{port}/") } else { format!("http://{host}:{port}/") })
}

/// Publishes the status and says when to look again.
pub(super) async fn finish(
    subject: &Subject,
    context: &Context,
    mut draft: Draft,
    outcome: Outcome,
    next: Duration,
) -> Result<Action, Error> {
    draft.write(subject, context, &outcome).await?;
    Ok(Action::requeue(next))
}
