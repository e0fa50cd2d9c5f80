//! Revocations. A correctly signed one is in force while its object is there; once it matters here it is copied into the
//! operator's namespace and stays in force when the object goes.
//!
//! Anybody may make revocations of tokens of their own, so what a stranger signs must fill neither memory nor storage: of
//! each namespace only so many count, and a copy is made only of what an anchor signed, or of what a chain that begins at
//! an anchor was refused for.

mod book;
mod copies;

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{
    Api, Client, Resource as _, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;

use self::book::Offered;
pub use self::book::{Revocation, RevocationBook, Source};
use super::{
    Guarded,
    context::{Context, Wake},
    error::Error,
    events,
};
use crate::{
    api::{CapabilityRevocation, CapabilityRevocationStatus, ConditionType, Reason, names::FIELD_MANAGER},
    capability::{Did, Nanos, Refusal, RevocationKey, Token, verify_revocation},
    device::dms::TokenList,
    plan::{
        conditions::{Outcome, conditions},
        retention::REVOCATIONS_PER_NAMESPACE,
    },
};

const STAYS: &str = "the revocation is in force, and stays so when this object is deleted";

/// A revocation, if its signature is that of the issuer that it names. Its own expiry does not matter.
pub(super) fn read(token: &str) -> Result<Revocation, Refusal> {
    let token = token.trim();
    let parsed = Token::parse(token.as_bytes())?;
    let key = verify_revocation(&parsed)?;
    Ok(Revocation { key, expires: parsed.expires(), token: token.to_owned() })
}

impl Source {
    fn of(object: &impl ResourceExt) -> Self {
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any() }
    }
}

/// Reads what is in force: the copies kept in the operator's namespace, then the objects of all namespaces.
///
/// # Errors
/// Whatever the API server says. Nothing may be judged before this went well.
pub async fn load(
    book: &RevocationBook,
    client: &Client,
    namespace: &str,
    anchor: &Did,
    now: Nanos,
) -> kube::Result<()> {
    copies::load(book, client, namespace).await?;
    let api: Api<Guarded<CapabilityRevocation>> = Api::all(client.clone());
    let mut objects = api.list(&ListParams::default()).await?.items;
    objects.sort_by_cached_key(age);
    for object in objects {
        let Ok(readable) = &object.0 else { continue };
        // What is refused is told of at its pass.
        if let Ok(revocation) = read(&readable.spec.token) {
            let source = Source::of(readable);
            let exempt = source.namespace == namespace || revocation.key.issuer == *anchor;
            let _ = book.offer(&revocation, &source, exempt, 0, now);
        }
    }
    Ok(())
}

/// The oldest first; of one second, by name.
fn age(object: &impl ResourceExt) -> (Option<jiff::Timestamp>, Option<String>, String) {
    (object.creation_timestamp().map(|at| at.0), object.namespace(), object.name_any())
}

/// One pass over a revocation.
///
/// # Errors
/// [`Error`], tried again.
pub async fn reconcile(object: Arc<CapabilityRevocation>, context: Arc<Context>) -> Result<Action, Error> {
    let outcome = match read(&object.spec.token) {
        Ok(revocation) => take_in(&object, &revocation, &context).await?,
        Err(refusal) => Outcome::Stalled(Reason::RevocationRefused, refusal.to_string()),
    };
    let next = match &outcome {
        // Room comes when another one goes, which nobody tells.
        Outcome::Stalled(Reason::RevocationQuotaExceeded, _) => context.settings.resync,
        _ => context.settings.resync * 10,
    };
    publish_status(&object, &context, &outcome).await?;
    Ok(Action::requeue(next))
}

/// Puts a revocation in force, which wakes what rests on the token, and keeps a copy where it matters here.
async fn take_in(object: &CapabilityRevocation, revocation: &Revocation, context: &Context) -> Result<Outcome, Error> {
    let (source, key) = (Source::of(object), &revocation.key);
    let anchored = key.issuer == *context.provider();
    let exempt = anchored || source.namespace == context.settings.namespace;
    let waiting = if exempt { 0 } else { waiting_before(object, context) };
    match context.revocations.offer(revocation, &source, exempt, waiting, context.clock.now()) {
        Offered::New => {
            context.wake(Wake::Revoked(key.clone()));
            tell(revocation, context).await;
        }
        Offered::Known => {}
        Offered::OverQuota => {
            let message = format!(
                "namespace {} has {REVOCATIONS_PER_NAMESPACE} revocations in force, and no more count. Delete those that \
                 are not needed any more, or ask the provider to create this one in the operator's namespace",
                source.namespace
            );
            return Ok(Outcome::Stalled(Reason::RevocationQuotaExceeded, message));
        }
    }
    if anchored {
        // The copy first: a status that says "stays so" must survive a crash.
        copies::keep(context, key, None).await?;
    }
    Ok(Outcome::Ready(match context.revocations.kept(key) {
        Some(_) => STAYS.to_owned(),
        None => format!(
            "the revocation is in force while this object exists: no chain that was accepted or refused here so far \
             contains the token from {} to {} that it takes back",
            key.issuer, key.subject
        ),
    }))
}

/// Tells everybody who listens. Whom it does not reach is told by whoever asks there next.
async fn tell(revocation: &Revocation, context: &Context) {
    let Ok(token) = serde_json::from_str(&revocation.token) else { return };
    let list = TokenList { list: vec![token] };
    match context.broadcaster.tell_of_revocations(list, &context.grants(), context.clock.now()).await {
        Ok(()) => {
            tracing::info!(issuer = %revocation.key.issuer, subject = %revocation.key.subject, "told of a revocation");
        }
        Err(error) => tracing::debug!(%error, "nobody was told of a revocation"),
    }
}

/// How many older objects of the namespace wait for room.
fn waiting_before(object: &CapabilityRevocation, context: &Context) -> usize {
    let before = |other: &CapabilityRevocation| other.namespace() == object.namespace() && age(other) < age(object);
    let waits = |other: &CapabilityRevocation| {
        let conditions = other.status.iter().flat_map(|status| &status.conditions);
        conditions
            .filter(|condition| condition.type_ == ConditionType::Stalled.as_str())
            .any(|stalled| stalled.reason == Reason::RevocationQuotaExceeded.as_str())
    };
    let objects = context.revocation_objects.state();
    objects.iter().filter_map(|other| other.0.as_ref().ok()).filter(|other| before(other) && waits(other)).count()
}

/// Operators of other providers see the same object, and what matters to one of them may not matter here: where it is in
/// force, or kept, that stands. Otherwise two of them would write for ever.
fn is_less(outcome: &Outcome, before: &[Condition]) -> bool {
    let ready = |condition: &&Condition| condition.type_ == ConditionType::Ready.as_str() && condition.status == "True";
    before.iter().find(ready).is_some_and(|ready| match outcome {
        Outcome::Ready(message) => ready.message == STAYS && message != STAYS,
        Outcome::Reconciling(..) | Outcome::Stalled(..) => true,
    })
}

async fn publish_status(object: &CapabilityRevocation, context: &Context, outcome: &Outcome) -> Result<(), Error> {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    if is_less(outcome, &before.conditions) {
        return Ok(());
    }
    let status = CapabilityRevocationStatus {
        observed_generation: generation,
        conditions: conditions(&[], outcome, &before.conditions, generation, context.clock.now()),
    };
    if status == before {
        return Ok(());
    }
    let Source { namespace, name } = Source::of(object);
    let api: Api<CapabilityRevocation> = Api::namespaced(context.client.clone(), &namespace);
    let patch = json!({"apiVersion": "hosting.nunet.io/v1alpha1", "kind": "CapabilityRevocation", "status": status});
    api.patch_status(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::api(format!("writing the status of CapabilityRevocation {namespace}/{name}")))?;
    events::changes(context, &object.object_ref(&()), &before.conditions, &status.conditions).await;
    Ok(())
}

/// A chain that begins at an anchor was refused for this revocation, so it stays in force from now on. `link` is the end of
/// the token. Where no copy can be made now, it is tried again later, and the revocation stays in force meanwhile.
pub(super) async fn used(context: &Context, key: &RevocationKey, link: Nanos) {
    context.revocations.note_used(key, link);
    if let Err(error) = copies::keep(context, key, Some(link)).await {
        tracing::warn!(%error, "a revocation that was used could not be kept; tried again later");
    }
}

/// Lets go of what nothing holds any more, for ever, as often as everything is looked at again.
pub async fn sweep(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.settings.resync).await;
        for (key, link) in context.revocations.overdue() {
            used(&context, &key, link).await;
        }
        if !context.clock.suspect() {
            release(&context).await;
            purge(&context).await;
        }
    }
}

/// Lets go of what only objects held that are gone. The API server is asked: a watch that is behind would miss objects.
async fn release(context: &Context) {
    let mut gone = context.revocations.holders();
    if gone.is_empty() {
        return;
    }
    let api: Api<CapabilityRevocation> = Api::all(context.client.clone());
    match api.list_metadata(&ListParams::default()).await {
        Ok(found) => {
            for object in found.items {
                gone.remove(&Source::of(&object));
            }
            context.revocations.release(&gone);
        }
        Err(error) => tracing::warn!(%error, "the revocations could not be listed; none is let go of"),
    }
}

/// Copies go once the token has ended, with all that its end permits, and no spec that is known rests on it.
async fn purge(context: &Context) {
    let Ok(served) = context.serving() else { return };
    let due = context.revocations.due(context.clock.now(), served.terms.keep_expired_for);
    if due.is_empty() {
        return;
    }
    let Some(in_use) = context.links_in_use() else { return };
    let mut gone = BTreeSet::new();
    for (key, copy) in due.into_iter().filter(|(key, _)| !in_use.contains(key)) {
        match copies::delete(context, &copy).await {
            Ok(()) => drop(gone.insert(key)),
            Err(error) => tracing::warn!(%error, "a revocation that is over stays a little longer"),
        }
    }
    context.revocations.forget(&gone);
}
