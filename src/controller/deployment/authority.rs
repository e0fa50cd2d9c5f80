//! By what right: the current spec is judged, kept when it is accepted, and every kept revision is judged anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kube::{Resource as _, ResourceExt as _};
use serde_json::Value;

use super::{Subject, resource, status::Draft};
use crate::{
    api::{AcceptedRevision, ConditionType, HostingDeploymentSpec, OnExpiry, Permission, Reason},
    capability::{self, Expectation, Nanos, Refusal, RevocationKey},
    controller::{
        context::{Context, Memory, Served, stored_time},
        error::Error,
        revisions::{Due, Revision, Revisions, kept_form},
        revocation, tombstone,
    },
    plan::{
        authorise::{Accepted, Highest, Rules, Standing, authorise, links},
        conditions::Value as ConditionValue,
        expiry::soon,
        validate::{Wanted, wanted},
    },
};

/// A revision that may be served now.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    pub accepted: Accepted,
    pub wanted: Wanted,
    /// Until when it may be served: its expiry, and what its `onExpiry` adds.
    pub until: Nanos,
}

/// What may be done for an object.
#[derive(Debug, Default)]
pub(super) struct Authority {
    /// Revisions that may be served, newest first.
    pub candidates: Vec<Candidate>,
    /// Why the current spec is not accepted.
    pub refusal: Option<Refusal>,
    /// What became of that: which revision was restored, or that nothing is left.
    pub instead: Option<String>,
    /// When a verdict changes by the passing of time alone.
    pub next_change: Option<Duration>,
    /// Accepted revisions of which something is still to be told.
    pub untold: Vec<(Revision, Accepted)>,
    /// The owner that the spec names has signed for this object before. Else it is anybody's word who that is.
    pub of_owner: bool,
}

/// Judges the current spec and all kept revisions.
pub(super) async fn establish(
    subject: &Subject,
    context: &Context,
    served: &Served,
    draft: &mut Draft,
) -> Result<Authority, Error> {
    let now = context.clock.now();
    let mut kept = revisions(subject, context).await?;
    let current = kept_form(&subject.namespace, &subject.name, &subject.raw_spec);
    let known = kept.iter().any(|revision| revision.object == current);
    // Before anything is judged: a revocation from now on finds this object, and one before now is seen by the verdicts.
    note_links(subject, context, &kept, (!known).then_some(&current));
    let answers = Mutex::default();
    let revoked = |key: &_| answered(&answers, key, context);
    let anchors = [context.provider().clone()];
    let judge = |envelope: &[u8], expectation: &Expectation<'_>| {
        context.verdicts.judge(&context.revocations, envelope, expectation)
    };
    let rules = |highest| Rules {
        judge: &judge,
        provider: context.provider(),
        anchors: &anchors,
        revoked: &revoked,
        denied: &served.terms.denied,
        highest,
        rollback: served.terms.rollback,
        now,
    };
    let standings = |kept: &[Revision]| -> Vec<(HostingDeploymentSpec, Standing)> {
        kept.iter()
            .filter_map(|revision| {
                let spec = serde_json::from_value(revision.object.get("spec")?.clone()).ok()?;
                Some((spec, authorise(&revision.object, &rules(None))))
            })
            .collect()
    };
    let mut judged = standings(&kept);
    let mut highest = highest_of(&judged);
    if highest.is_none() {
        // Nothing kept says it any more, also when all of it was revoked: what was recorded does.
        let buried = tombstone::highest(context, &subject.namespace, &subject.name).await?;
        highest = buried.into_iter().chain(recorded_highest(subject)).max_by_key(|highest| highest.time);
    }

    let standing = authorise(&current, &rules(highest.as_ref()));
    let used = if rests_on_revoked(subject, context) {
        let otherwise = Rules { revoked: &|_| false, denied: &BTreeSet::new(), ..rules(None) };
        let objects = kept.iter().map(|revision| &revision.object).chain([&current]);
        newly_used(context, objects, &otherwise)
    } else {
        Vec::new()
    };
    for (key, link) in used {
        revocation::used(context, &key, link).await;
    }
    let refusal = match standing {
        Standing::Valid(accepted) => {
            context.metrics.token_verdict("Accepted");
            if !known {
                let served = subject.status.release.as_deref();
                let due = if is_told(subject, context) { Due::Accepted } else { Due::Nothing };
                let keeping = store(subject, context).keep(&kept, current.clone(), due, served).await;
                kept = keeping.map_err(Error::api(format!(
                    "keeping the accepted revision of {}/{}",
                    subject.namespace, subject.name
                )))?;
                judged.insert(0, (subject.spec.clone(), Standing::Valid(accepted.clone())));
                context.remember(&subject.uid, |memory| remember(&kept, memory));
            }
            if !known || !is_last_accepted(subject, &accepted) {
                let revision = kept.iter().find(|revision| revision.object == current);
                draft.accepted(subject, context, &accepted, revision).await;
            }
            state_acceptance(draft, &accepted, now);
            None
        }
        Standing::Expired { refusal, .. } | Standing::Refused(refusal) => {
            context.metrics.token_verdict(refusal.reason.code());
            Some(refusal)
        }
    };
    order(&mut judged, subject, served.terms.rollback);
    let of_owner =
        judged.iter().any(|(spec, standing)| spec.owner == subject.spec.owner && standing.accepted().is_some());
    let (candidates, next_change) = candidates(judged, served, now);
    let instead = refusal.as_ref().and_then(|refusal| instead(subject, refusal, known, candidates.first()));
    if let Some(refusal) = &refusal {
        state_refusal(draft, refusal, instead.as_deref());
    }
    if let Some(newest) = candidates.first() {
        let ends = newest.accepted.not_after.to_timestamp().as_second();
        context.metrics.token_expires(&subject.namespace, &subject.name, ends);
        draft.status.accepted_revision = Some(AcceptedRevision {
            digest: newest.accepted.digest.clone(),
            signer: newest.accepted.signer.to_string(),
            time: stored_time(newest.accepted.signed),
            not_after: stored_time(newest.accepted.not_after),
        });
    }
    let untold = untold(&kept, &rules(None));
    Ok(Authority { candidates, refusal, instead, next_change, untold, of_owner })
}

/// What was told meanwhile stays told.
fn remember(kept: &[Revision], memory: &mut Memory) {
    let before = memory.revisions.take().unwrap_or_default();
    let due = |revision: &Revision| before.iter().find(|known| known.name == revision.name).map(|known| known.due);
    let kept = kept.iter().map(|revision| Revision { due: due(revision).unwrap_or(revision.due), ..revision.clone() });
    memory.revisions = Some(kept.collect());
}

/// Whether anybody but those who watch the object is told of it.
fn is_told(subject: &Subject, context: &Context) -> bool {
    let webhook = context
        .serving()
        .is_ok_and(|served| served.spec.notices.as_ref().is_some_and(|notices| notices.webhook.is_some()));
    webhook || context.subscriptions.of(&subject.owner).is_some()
}

fn untold(kept: &[Revision], rules: &Rules<'_>) -> Vec<(Revision, Accepted)> {
    let due = kept.iter().filter(|revision| revision.due != Due::Nothing);
    due.filter_map(|revision| Some((revision.clone(), authorise(&revision.object, rules).accepted()?.clone())))
        .collect()
}

/// The newest statement that the status says was accepted, cut to whole seconds.
pub(super) fn recorded_highest(subject: &Subject) -> Option<Highest> {
    subject.status.accepted_revision.as_ref().map(Highest::from)
}

fn is_recorded(subject: &Subject, accepted: &Accepted) -> bool {
    subject.status.accepted_revision.as_ref().is_some_and(|recorded| recorded.digest == accepted.digest)
}

/// Whether the status says that this very signature was the last to be accepted.
fn is_last_accepted(subject: &Subject, accepted: &Accepted) -> bool {
    let recorded = subject.status.accepted_revision.as_ref();
    let this = (&accepted.digest, stored_time(accepted.signed));
    recorded.is_some_and(|recorded| (&recorded.digest, recorded.time.clone()) == this)
}

/// The first one that holds is served.
fn order(judged: &mut [(HostingDeploymentSpec, Standing)], subject: &Subject, rollback: Permission) {
    match rollback {
        // The order of acceptance is kept beside the object, where others may write; the signed time is not theirs.
        Permission::Refuse => judged.sort_by_key(|(_, standing)| std::cmp::Reverse(signed(standing))),
        // What is applied now goes first, also when it was accepted before; else what was served last.
        Permission::Allow => judged.sort_by_key(|(spec, standing)| match standing {
            Standing::Valid(_) | Standing::Expired { .. } if *spec == subject.spec => 0,
            Standing::Valid(accepted) | Standing::Expired { accepted, .. } if is_recorded(subject, accepted) => 1,
            Standing::Valid(_) | Standing::Expired { .. } | Standing::Refused(_) => 2,
        }),
    }
}

fn state_refusal(draft: &mut Draft, refusal: &Refusal, instead: Option<&str>) {
    let message = match instead {
        Some(instead) => format!("{instead}, because {refusal}"),
        None => refusal.to_string(),
    };
    draft.state(ConditionType::TokenVerified, ConditionValue::False, Reason::Token(refusal.reason), message);
}

/// The first answer about a link stands for the whole pass: a revocation that comes while it judges would be seen by one
/// verdict and not by the other, and what was just taken back would be what is restored. It brings a pass of its own.
fn answered(answers: &Mutex<BTreeMap<RevocationKey, bool>>, key: &RevocationKey, context: &Context) -> bool {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    *answers.entry(key.clone()).or_insert_with(|| context.revocations.revoked(key))
}

/// Remembers on which links the object rests, so that the revocation of one finds it.
fn note_links(subject: &Subject, context: &Context, kept: &[Revision], unknown: Option<&Value>) {
    if unknown.is_none() && context.remember(&subject.uid, |memory| memory.links.is_some()) {
        return;
    }
    let objects = kept.iter().map(|revision| &revision.object).chain(unknown);
    let found: BTreeSet<RevocationKey> = objects.flat_map(links).map(|link| link.key).collect();
    context.remember(&subject.uid, |memory| memory.links = Some(found));
}

/// Whether a link that was noted is taken back. Mostly none is, and then no chain has to be read again.
fn rests_on_revoked(subject: &Subject, context: &Context) -> bool {
    context.remember(&subject.uid, |memory| {
        memory.links.as_ref().is_none_or(|links| links.iter().any(|key| context.revocations.revoked(key)))
    })
}

/// The revocations for which one of these objects is refused that would otherwise be accepted, where that is news, each with
/// the end of its token. Whether a link is genuine is not known before: it is refused before its signature is checked.
fn newly_used<'a>(
    context: &Context,
    objects: impl Iterator<Item = &'a Value>,
    otherwise: &Rules<'_>,
) -> Vec<(RevocationKey, Nanos)> {
    let mut used = Vec::new();
    for object in objects {
        let mut news = links(object);
        news.retain(|link| context.revocations.unsettled(&link.key, link.expires));
        if !news.is_empty() && !matches!(authorise(object, otherwise), Standing::Refused(_)) {
            used.extend(news.into_iter().map(|link| (link.key, link.expires)));
        }
    }
    used
}

/// What became of a spec that was accepted once and whose right was taken away.
fn instead(subject: &Subject, refusal: &Refusal, known: bool, newest: Option<&Candidate>) -> Option<String> {
    let taken = matches!(refusal.reason, capability::Reason::Revoked | capability::Reason::Denied);
    if !taken || !known {
        return None;
    }
    match newest {
        Some(Candidate { accepted, wanted, until: _ }) => {
            let (Accepted { signed, signer, .. }, release) = (accepted, &wanted.release);
            Some(format!("restored revision of {signed}, signed by {signer}, with release {release}"))
        }
        None if subject.status.deployment.is_some() => Some("stopped, as nothing accepted before holds".to_owned()),
        None => None,
    }
}

fn state_acceptance(draft: &mut Draft, accepted: &Accepted, now: Nanos) {
    let Accepted { signer, signed, not_after, digest: _, links: _ } = accepted;
    let verified = format!("signed by {signer}, valid until {not_after}");
    let (reason, message) = if now < soon(*signed, *not_after) {
        (Reason::Verified, verified)
    } else {
        let message = format!("{verified}: it ends soon. Run `kubectl hosting sign --renew` and apply the result");
        (Reason::TokenExpiringSoon, message)
    };
    draft.state(ConditionType::TokenVerified, ConditionValue::True, reason, message);
}

/// The kept revisions: read once, then remembered, since only this process writes them.
async fn revisions(subject: &Subject, context: &Context) -> Result<Vec<Revision>, Error> {
    if let Some(kept) = context.remember(&subject.uid, |memory| memory.revisions.clone()) {
        return Ok(kept);
    }
    let kept = store(subject, context)
        .list()
        .await
        .map_err(Error::api(format!("reading the revisions of {}/{}", subject.namespace, subject.name)))?;
    context.remember(&subject.uid, |memory| memory.revisions = Some(kept.clone()));
    Ok(kept)
}

fn store(subject: &Subject, context: &Context) -> Revisions {
    let mut owner = subject.object.owner_ref(&resource()).unwrap_or_default();
    owner.name = subject.object.name_any();
    owner.controller = None;
    Revisions::of(&context.client, &subject.namespace, owner)
}

fn signed(standing: &Standing) -> Option<Nanos> {
    standing.accepted().map(|accepted| accepted.signed)
}

fn highest_of(judged: &[(HostingDeploymentSpec, Standing)]) -> Option<Highest> {
    judged.iter().filter_map(|(_, standing)| standing.highest()).max_by_key(|highest| highest.time)
}

/// Newest first. An expired revision is not followed by older ones: expiry ends the work, it does not roll it back.
/// A refused one, say by a revocation, is passed over.
fn candidates(
    judged: Vec<(HostingDeploymentSpec, Standing)>,
    served: &Served,
    now: Nanos,
) -> (Vec<Candidate>, Option<Duration>) {
    let mut found = Vec::new();
    let mut next_change: Option<Duration> = None;
    let mut at = |then: Nanos| {
        let wait = then.since(now) + Duration::from_millis(1);
        next_change = Some(next_change.map_or(wait, |earlier| earlier.min(wait)));
    };
    for (spec, standing) in judged {
        let wanted = wanted(&spec);
        let grace = match wanted.on_expiry {
            OnExpiry::Stop => Duration::ZERO,
            OnExpiry::Keep => served.terms.keep_expired_for,
        };
        match standing {
            Standing::Valid(accepted) => {
                let soon = soon(accepted.signed, accepted.not_after);
                if soon > now {
                    at(soon);
                }
                at(accepted.not_after);
                let until = accepted.not_after.plus(grace);
                found.push(Candidate { accepted, wanted, until });
            }
            Standing::Expired { accepted, .. } => {
                let until = accepted.not_after.plus(grace);
                if now <= until {
                    at(until);
                    found.push(Candidate { accepted, wanted, until });
                }
                break;
            }
            Standing::Refused(_) => {}
        }
    }
    (found, next_change)
}
