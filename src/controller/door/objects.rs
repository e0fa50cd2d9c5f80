//! Changes objects on their owner's behalf. The request carries its right: a chain that begins at the provider and gives
//! exactly this. What is applied carries its own, too: the signed invocation in its spec, judged here as in every pass.

use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde_json::{Map, Value, json};

use super::{Door, admits, request::Target};
use crate::{
    api::{
        GROUP, Reason, VERSION,
        door::{ApplyRequest, Confirmation, Declined, DeleteRequest},
        names::FIELD_MANAGER_OF_DOOR,
    },
    capability::{
        Action, Capability, Did, Envelope, Expectation, KnownDids, Nanos, RevocationKey, judge_message,
        parse_known_tokens,
    },
    controller::{
        context::{Context, Served, status_of},
        deployment::resource,
        revisions::kept_form,
        tombstone,
    },
    device::actor::Asked,
    plan::{
        authorise::{Highest, Rules, Standing, authorise},
        login::read,
    },
};

/// What labels and annotations of the operator begin with; they steer it, and no signature covers them.
const OWN_PREFIX: &str = "hosting.nunet.io/";
const KIND: &str = "HostingDeployment";
/// What the API server says, with the status 500, of fields that the kind does not have.
const NOT_TYPED: &str = "failed to create typed patch object";
/// How often an object is looked at anew that changes between the look and the change: its status may do so at any time.
const LOOKS: u32 = 4;

/// Applies the object of a request.
pub(super) async fn apply(
    door: &Door,
    context: &Context,
    served: &Served,
    asked: &Asked,
    target: &Target,
) -> Result<Confirmation, Declined> {
    let ApplyRequest { object } = read(&asked.envelope.message, "change")?;
    let written = to_write(&object, target, context)?;
    let owner = written.pointer("/spec/owner").and_then(Value::as_str).unwrap_or_default();
    let owner = Did::parse(owner)
        .map_err(|error| Declined::new(Reason::DidRefused, format!("spec.owner can't be used: {error}")))?;
    check_right(context, served, asked, target, "apply", &owner)?;
    door.take(asked)?;
    check_namespace(context, served, target)?;

    // One that is created shows no version to compare, so no other request may come in between.
    let turn = door.turn(target);
    let _turn = turn.lock().await;
    for _ in 0..LOOKS {
        if let Some(done) = apply_to_what_stands(context, served, &written, target, asked.at).await? {
            return Ok(done);
        }
    }
    Err(changed_meanwhile("applied", target))
}

/// Judges an object by what stands now and applies it there; `None` when that was changed meanwhile.
async fn apply_to_what_stands(
    context: &Context,
    served: &Served,
    written: &Value,
    target: &Target,
    now: Nanos,
) -> Result<Option<Confirmation>, Declined> {
    let before = live(context, target).await?;
    if before.as_ref().is_some_and(|before| before.metadata.deletion_timestamp.is_some()) {
        let Target { namespace, name } = target;
        let message = format!("HostingDeployment {namespace}/{name} is being deleted. Ask again once it is gone");
        return Err(Declined::new(Reason::Deleting, message));
    }
    let stands = before.as_ref().map(|before| judge_object(context, served, target, &before.data, None, now));
    let recorded = recorded_highest(context, target, before.as_ref()).await?;
    let highest = recorded.into_iter().chain(stands.and_then(|standing| standing.highest()));
    let highest = highest.max_by_key(|highest| highest.time);
    match judge_object(context, served, target, written, highest.as_ref(), now) {
        Standing::Valid(_) => {}
        Standing::Expired { accepted: _, refusal } | Standing::Refused(refusal) => return Err(refusal.into()),
    }

    let mut written = written.clone();
    let version = before.as_ref().and_then(|before| before.metadata.resource_version.clone());
    if let (Some(version), Some(metadata)) = (version, written.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert("resourceVersion".to_owned(), Value::String(version));
    }
    let params = PatchParams::apply(FIELD_MANAGER_OF_DOOR).force().validation_strict();
    let applied = match api(context, target).patch(&target.name, &params, &Patch::Apply(&written)).await {
        Ok(applied) => applied,
        Err(kube::Error::Api(status)) if status.code == 409 => return Ok(None),
        Err(error) => return Err(not_done(&error, "applied", target)),
    };
    let change = match &before {
        None => "created",
        Some(before) if before.metadata.generation == applied.metadata.generation => "unchanged",
        Some(_) => "changed",
    };
    let message = format!(
        "HostingDeployment {}/{} is {change}. `kubectl describe hd -n {0} {1}` shows how it goes on",
        target.namespace, target.name
    );
    Ok(Some(confirmation(&applied, target, message)))
}

/// Deletes the object of a request.
pub(super) async fn delete(
    door: &Door,
    context: &Context,
    served: &Served,
    asked: &Asked,
    target: &Target,
) -> Result<Confirmation, Declined> {
    let DeleteRequest { uid } = read(&asked.envelope.message, "deletion")?;
    let owner = granted_to(&asked.envelope, context.provider()).unwrap_or_else(|| asked.sender.clone());
    check_right(context, served, asked, target, "delete", &owner)?;
    door.take(asked)?;
    check_namespace(context, served, target)?;

    let Target { namespace, name } = target;
    let found = live(context, target).await?.ok_or_else(|| {
        let message = format!("there is no HostingDeployment {namespace}/{name}. See which there are, and their names");
        Declined::new(Reason::ObjectNotFound, message)
    })?;
    if !context.serves(&found) {
        let message = format!("HostingDeployment {namespace}/{name} is of another provider. Ask that one");
        return Err(Declined::new(Reason::ObjectMismatch, message));
    }
    if found.data.pointer("/spec/owner").and_then(Value::as_str) != Some(owner.as_str()) {
        let message = format!(
            "HostingDeployment {namespace}/{name} is not of {owner}, to whom the right to delete was granted. Use a grant \
             of its owner"
        );
        return Err(Declined::new(crate::capability::Reason::OwnerMismatch.into(), message));
    }
    let is = found.uid().unwrap_or_default();
    if let Some(wanted) = uid.filter(|wanted| *wanted != is) {
        let message = format!(
            "HostingDeployment {namespace}/{name} has the uid {is}, not {wanted}: it was created again. Look at it, and \
             ask for this one to be deleted if it shall be"
        );
        return Err(Declined::new(Reason::ObjectNotFound, message));
    }
    // Between the look and the deletion it may be replaced by another one of the same name.
    let preconditions = Preconditions { uid: Some(is), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let deleted = api(context, target).delete(name, &params).await;
    deleted.map(drop).map_err(|error| not_done(&error, "deleted", target))?;
    let message = format!("HostingDeployment {namespace}/{name} is being deleted: what it started is stopped first");
    Ok(confirmation(&found, target, message))
}

/// Whether the message itself may ask for this.
fn check_right(
    context: &Context,
    served: &Served,
    asked: &Asked,
    Target { namespace, name }: &Target,
    action: &str,
    owner: &Did,
) -> Result<(), Declined> {
    let behaviour = Capability::parse(&format!("/hosting/{namespace}/{action}/{name}"))
        .map_err(|error| Declined::new(Reason::RequestMalformed, error.to_string()))?;
    let expectation = Expectation {
        provider: context.provider(),
        anchors: std::slice::from_ref(context.provider()),
        owner,
        behaviour: &behaviour,
        revoked: &|key: &RevocationKey| context.revocations.revoked(key),
        denied: &|did: &Did| served.terms.denied.contains(did),
        now: asked.at,
    };
    judge_message(&asked.envelope, &expectation)?;
    Ok(())
}

fn check_namespace(context: &Context, served: &Served, Target { namespace, name: _ }: &Target) -> Result<(), Declined> {
    if admits(context, served, namespace) {
        return Ok(());
    }
    let message = format!("the provider takes no deployments from namespace {namespace}. Ask the provider to admit it");
    Err(Declined::new(Reason::NamespaceNotAllowed, message))
}

/// Where the object's own authorisation stands, as it will be judged in every pass over it.
fn judge_object(
    context: &Context,
    served: &Served,
    Target { namespace, name }: &Target,
    object: &Value,
    highest: Option<&Highest>,
    now: Nanos,
) -> Standing {
    let judge = |envelope: &[u8], expectation: &Expectation<'_>| {
        context.verdicts.judge(&context.revocations, envelope, expectation)
    };
    let rules = Rules {
        judge: &judge,
        provider: context.provider(),
        anchors: std::slice::from_ref(context.provider()),
        revoked: &|key: &RevocationKey| context.revocations.revoked(key),
        denied: &served.terms.denied,
        highest,
        rollback: served.terms.rollback,
        now,
    };
    let kept = kept_form(namespace, name, object.get("spec").unwrap_or(&Value::Null));
    authorise(&kept, &rules)
}

/// The newest statement accepted for the object, as far as its status and the tombstones tell. The spec that stands may
/// be newer: no pass was made over it yet.
async fn recorded_highest(
    context: &Context,
    target: &Target,
    before: Option<&DynamicObject>,
) -> Result<Option<Highest>, Declined> {
    let Target { namespace, name } = target;
    let buried = tombstone::highest(context, namespace, name).await.map_err(|error| {
        tracing::warn!(%error, namespace, name, "a request is refused, because the tombstones could not be read");
        unavailable("looked up", target)
    })?;
    // A status that cannot be read is not the same as none.
    let status = before.map(status_of).transpose().map_err(|error| {
        tracing::warn!(%error, namespace, name, "a request is refused, because the object's status could not be read");
        unavailable("looked up", target)
    })?;
    let recorded = status.and_then(|status| status.accepted_revision);
    Ok(buried.into_iter().chain(recorded.as_ref().map(Highest::from)).max_by_key(|highest| highest.time))
}

/// The object as it is written: what was signed, its names, and labels and annotations that are not the operator's.
fn to_write(object: &Value, Target { namespace, name }: &Target, context: &Context) -> Result<Value, Declined> {
    let mismatch = |message: String| Err(Declined::new(Reason::ObjectMismatch, message));
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let version = format!("{GROUP}/{VERSION}");
    if (text("/apiVersion"), text("/kind")) != (version.as_str(), KIND) {
        return mismatch(format!("the object in the request is not a {KIND} of {version}. Send one"));
    }
    if (text("/metadata/namespace"), text("/metadata/name")) != (namespace.as_str(), name.as_str()) {
        return mismatch(format!(
            "the request is about {namespace}/{name}, and the object in it is {}/{}. Name the object as it is signed",
            text("/metadata/namespace"),
            text("/metadata/name")
        ));
    }
    let provider = (context.settings.namespace.as_str(), context.settings.provider.as_str());
    if (text("/spec/providerRef/namespace"), text("/spec/providerRef/name")) != provider {
        return mismatch(format!(
            "spec.providerRef names another provider than {}/{}, which is asked. Ask that one, or change it and run \
             `kubectl hosting sign` again",
            provider.0, provider.1
        ));
    }
    let unknown = |path: String| {
        let message = format!("the object has {path}, which can't be set through the provider. Leave it out");
        Declined::new(Reason::RequestMalformed, message)
    };
    let members = |value: Option<&Value>| value.and_then(Value::as_object).cloned().unwrap_or_default();
    let set = |members: Map<String, Value>| members.into_iter().filter(|(_, value)| !value.is_null());
    if let Some((key, _)) =
        set(members(Some(object))).find(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata" | "spec"))
    {
        return Err(unknown(key));
    }
    let mut metadata = Map::new();
    for (key, value) in set(members(object.get("metadata"))) {
        match key.as_str() {
            "name" | "namespace" => {}
            "labels" | "annotations" => {
                if let Some(own) = members(Some(&value)).keys().find(|own| own.starts_with(OWN_PREFIX)) {
                    return Err(unknown(format!("metadata.{key}[{own:?}]")));
                }
            }
            _ => return Err(unknown(format!("metadata.{key}"))),
        }
        metadata.insert(key, value);
    }
    Ok(json!({
        "apiVersion": version,
        "kind": KIND,
        "metadata": metadata,
        "spec": object.get("spec").cloned().unwrap_or_default(),
    }))
}

/// To whom the provider granted what the message carries, as it says itself: nothing is judged.
fn granted_to(envelope: &Envelope, provider: &Did) -> Option<Did> {
    let tokens = parse_known_tokens(&envelope.capabilities, &mut KnownDids::of([provider])).ok()?;
    let mut invocations = tokens.iter().filter(|token| token.action() == Action::Invoke);
    let granted = invocations.find(|token| token.root().issuer() == provider)?;
    Some(granted.root().subject().clone())
}

/// The object as it stands.
async fn live(context: &Context, target: &Target) -> Result<Option<DynamicObject>, Declined> {
    let found = api(context, target).get_opt(&target.name).await;
    found.map_err(|error| not_done(&error, "looked up", target))
}

fn confirmation(object: &DynamicObject, Target { namespace, name }: &Target, message: String) -> Confirmation {
    Confirmation {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        message,
    }
}

/// A refusal of the API server is told in its own words; anything else may end well the next time.
fn not_done(error: &kube::Error, done: &str, target: &Target) -> Declined {
    let Target { namespace, name } = target;
    match error {
        kube::Error::Api(status) if status.code == 409 => changed_meanwhile(done, target),
        kube::Error::Api(status)
            if matches!(status.code, 400 | 403 | 404 | 413 | 422) || status.message.starts_with(NOT_TYPED) =>
        {
            let message = format!(
                "HostingDeployment {namespace}/{name} could not be {done}: {}. Change what it says, and ask again",
                status.message.trim_end_matches('.')
            );
            Declined::new(Reason::ObjectRefused, message)
        }
        error => {
            tracing::warn!(%error, namespace, name, done, "the API server did not do what was asked at the door");
            unavailable(done, target)
        }
    }
}

fn changed_meanwhile(done: &str, Target { namespace, name }: &Target) -> Declined {
    let message =
        format!("HostingDeployment {namespace}/{name} could not be {done}: it was changed meanwhile. Ask again");
    Declined::new(Reason::ClusterUnavailable, message)
}

fn unavailable(done: &str, Target { namespace, name }: &Target) -> Declined {
    let message = format!("HostingDeployment {namespace}/{name} could not be {done} now. Ask again in a while");
    Declined::new(Reason::ClusterUnavailable, message)
}

fn api(context: &Context, Target { namespace, name: _ }: &Target) -> Api<DynamicObject> {
    Api::namespaced_with(context.client.clone(), namespace, &resource())
}
