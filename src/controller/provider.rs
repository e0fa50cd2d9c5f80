//! The driver of HostingProviders: one is served, with its identity and its store; another is told so.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    context::{Context, Served, Storage},
    door,
    error::Error,
    events,
};
use crate::{
    api::{HostingProvider, HostingProviderStatus, Reason, S3, names::FIELD_MANAGER},
    gateway::site_table::Backing,
    plan::{
        backoff,
        conditions::{Outcome, conditions},
        validate::{InvalidField, terms},
    },
    store::{
        publish::{PublishError, Publisher},
        s3::{S3Config, S3Store},
    },
};

/// Start of every key when the spec names none.
const PREFIX: &str = "hosting";
const REGION: &str = "us-east-1";
/// How often a provider that cannot be used is looked at again.
const RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// One pass over a provider.
///
/// # Errors
/// [`Error`], tried again.
pub async fn reconcile(object: Arc<HostingProvider>, context: Arc<Context>) -> Result<Action, Error> {
    let name = object.name_any();
    let served = name == context.settings.provider;
    let (outcome, requeue) = if served {
        match serve(&object, &context).await {
            Ok(()) => {
                (Outcome::Ready(format!("deployments of {} are served", context.provider())), context.settings.resync)
            }
            Err((reason, message)) if waits(reason) => (Outcome::Reconciling(reason, message), RETRY),
            Err((reason, message)) => (Outcome::Stalled(reason, message), RETRY),
        }
    } else {
        let message = format!(
            "this operator serves HostingProvider {}; install a second operator to serve this one",
            context.settings.provider
        );
        (Outcome::Stalled(Reason::NotServed, message), context.settings.resync * 10)
    };
    if served {
        // Whoever reads from the status where to ask for a grant is not refused for this.
        door::load(&context).await?;
    }
    publish_status(&object, &context, served, &outcome).await?;
    Ok(Action::requeue(backoff::Backoff { first: requeue, cap: requeue }.pause(1, rand::random())))
}

const fn waits(reason: Reason) -> bool {
    matches!(reason, Reason::StorageUnavailable | Reason::CredentialsMissing)
}

/// Takes over terms and store. What keeps the store from being used takes away neither terms nor verdicts.
async fn serve(object: &HostingProvider, context: &Context) -> Result<(), (Reason, String)> {
    let before = context.serving().ok();
    let not_ready = |reason: Reason, message: &str| {
        let name = object.name_any();
        (Reason::ProviderNotReady, format!("HostingProvider {name} is not ready ({reason}): {message}"))
    };
    let terms = terms(&object.spec).and_then(|terms| {
        if terms.denied.contains(context.provider()) {
            let cause = format!("{} is this provider itself, on whom everything rests", context.provider());
            return Err(InvalidField { field: "spec.deniedDIDs", cause });
        }
        Ok(terms)
    });
    let terms = match terms {
        Ok(terms) => terms,
        Err(error) => {
            // The terms before stand, and nothing new is taken under them.
            let fault = not_ready(Reason::InvalidObject, &error.to_string());
            context.set_serving(match before {
                Some(served) => Ok(Arc::new(Served { store: Err(fault), ..Served::clone(&served) })),
                None => Err(fault),
            });
            return Err((Reason::InvalidObject, error.to_string()));
        }
    };
    let known = before.filter(|served| served.spec.storage == object.spec.storage);
    let known = known.and_then(|served| served.store.clone().ok());
    let opened = open(&object.spec.storage.s3, context, known.as_ref()).await;
    let store = match (&opened, known) {
        (Ok(storage), _) => Ok(storage.clone()),
        // It was there and will be again: each release says itself what it waits for.
        (Err((Reason::StorageUnavailable, _)), Some(storage)) => Ok(storage),
        (Err((Reason::StorageUnavailable, message)), None) => Err((Reason::StorageUnavailable, message.clone())),
        (Err((reason, message)), _) => Err(not_ready(*reason, message)),
    };
    context.set_serving(Ok(Arc::new(Served { spec: object.spec.clone(), terms, store })));
    opened.map(drop)
}

/// Opens the store and takes its prefix. One that is `known` keeps its connections.
async fn open(s3: &S3, context: &Context, known: Option<&Storage>) -> Result<Storage, (Reason, String)> {
    let config = credentials(s3, context).await?;
    let credentials = fingerprint([&config.access_key_id, config.secret_access_key.as_str()]);
    let place = fingerprint([&config.endpoint, &config.bucket, &config.prefix]);
    let publisher = match known {
        Some(storage) if storage.credentials == credentials => storage.publisher.clone(),
        _ => Publisher::new(Arc::new(S3Store::new(&config)), &config.prefix),
    };
    publisher.claim_prefix(context.identity.installation.id()).await.map_err(|error| match error {
        PublishError::ForeignPrefix { .. } => (Reason::ForeignPrefix, error.to_string()),
        error => (Reason::StorageUnavailable, error.to_string()),
    })?;
    context.sites.set_backing(Backing { provider: context.identity.key.clone(), publisher: publisher.clone() });
    Ok(Storage { publisher, place, credentials })
}

fn fingerprint<const PARTS: usize>(parts: [&str; PARTS]) -> [u8; 32] {
    let hashed = parts.into_iter().map(Sha256::digest);
    hashed.fold(Sha256::new(), Sha256::chain_update).finalize().into()
}

async fn credentials(s3: &S3, context: &Context) -> Result<S3Config, (Reason, String)> {
    let name = &s3.auth.secret_ref.name;
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let secret = api.get(name).await.map_err(|error| {
        // A refusal says something about the Secret; anything else only that it cannot be told now.
        let refused = matches!(&error, kube::Error::Api(status) if (400..500).contains(&status.code));
        (
            if refused { Reason::CredentialsMissing } else { Reason::StorageUnavailable },
            format!("Secret {name} with the storage credentials could not be read: {error}. Create it, or allow the operator to read it"),
        )
    })?;
    let member = |member: &str| {
        secret
            .data
            .as_ref()
            .and_then(|data| data.get(member))
            .and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
            .ok_or_else(|| (Reason::CredentialsMissing, format!("Secret {name} has no readable member {member}")))
    };
    Ok(S3Config {
        endpoint: s3.endpoint.clone(),
        region: s3.region.clone().unwrap_or_else(|| REGION.to_owned()),
        bucket: s3.bucket.clone(),
        prefix: s3.prefix.clone().unwrap_or_else(|| PREFIX.to_owned()),
        path_style: s3.path_style.unwrap_or(true),
        access_key_id: member("access-key-id")?,
        secret_access_key: member("secret-access-key")?.into(),
    })
}

async fn publish_status(
    object: &HostingProvider,
    context: &Context,
    served: bool,
    outcome: &Outcome,
) -> Result<(), Error> {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    let status = HostingProviderStatus {
        observed_generation: generation,
        did: served.then(|| context.provider().to_string()),
        addresses: if served { context.settings.addresses.clone() } else { Vec::new() },
        conditions: conditions(&[], outcome, &before.conditions, generation, context.clock.now()),
    };
    if status == before {
        return Ok(());
    }
    let api: Api<HostingProvider> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let patch = json!({"apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingProvider", "status": status});
    api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::api(format!("writing the status of HostingProvider {}", object.name_any())))?;
    events::changes(context, &object.object_ref(&()), &before.conditions, &status.conditions).await;
    Ok(())
}
