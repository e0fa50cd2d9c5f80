//! Revocations: accepted ones are copied into the operator's namespace and stay in force when their object goes.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, RwLock},
};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Resource as _, ResourceExt as _,
    api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::controller::Action,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    context::{Context, Wake},
    error::Error,
    events,
};
use crate::{
    api::{
        CapabilityRevocation, CapabilityRevocationStatus, Reason,
        names::{FIELD_MANAGER, LABEL_COMPONENT},
    },
    capability::{self, Nanos, Refusal, RevocationKey, Token},
    plan::conditions::{Outcome, conditions},
};

const COMPONENT: &str = "revocation";
const MEMBER: &str = "token";

/// Revocations in force. They are only ever added.
#[derive(Clone, Debug, Default)]
pub struct RevocationBook(Arc<RwLock<BTreeSet<RevocationKey>>>);

impl RevocationBook {
    /// Whether a token was taken back.
    #[must_use]
    pub fn revoked(&self, key: &RevocationKey) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// Whether it is new.
    fn insert(&self, key: RevocationKey) -> bool {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// Reads back the copies kept in the operator's namespace.
    ///
    /// # Errors
    /// Whatever the API server says. Nothing may be judged before this went well.
    pub async fn load(&self, client: &Client, namespace: &str) -> kube::Result<()> {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        let params = ListParams::default().labels(&format!("{LABEL_COMPONENT}={COMPONENT}"));
        for copy in api.list(&params).await?.items {
            let token = copy.data.as_ref().and_then(|data| data.get(MEMBER));
            match token.map(String::as_str).map(read) {
                Some(Ok(key)) => drop(self.insert(key)),
                Some(Err(refusal)) => {
                    tracing::error!(copy = %copy.name_any(), %refusal, "a kept revocation cannot be read");
                }
                None => tracing::error!(copy = %copy.name_any(), "a kept revocation has no token"),
            }
        }
        Ok(())
    }
}

/// What a revocation takes back. Its own expiry does not matter: by then, what it takes back has expired too.
fn read(token: &str) -> Result<RevocationKey, Refusal> {
    let token = Token::parse(token.trim().as_bytes())?;
    if token.action() != capability::Action::Revoke {
        return Err(Refusal::new(
            capability::Reason::Malformed,
            None,
            "spec.token is not a revocation: its act is not revoke. Make one with `kubectl hosting token revoke`",
        ));
    }
    token.verify(Nanos(0), &|_| false)?;
    Ok(token.revocation_key())
}

/// One pass over a revocation.
///
/// # Errors
/// [`Error`], tried again.
pub async fn reconcile(object: Arc<CapabilityRevocation>, context: Arc<Context>) -> Result<Action, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let outcome = match read(&object.spec.token) {
        Ok(key) => {
            // The copy first: a status that says "in force" must survive a crash.
            keep(&context, &object.spec.token).await?;
            if context.revocations.insert(key) {
                context.wake(Wake::All);
            }
            Outcome::Ready("the revocation is in force and stays so, even when this object is deleted".to_owned())
        }
        Err(refusal) => Outcome::Stalled(Reason::RevocationRefused, refusal.to_string()),
    };
    let before = object.status.clone().unwrap_or_default();
    let status = CapabilityRevocationStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions(&[], &outcome, &before.conditions, object.metadata.generation, context.clock.now()),
    };
    if status != before {
        let api: Api<CapabilityRevocation> = Api::namespaced(context.client.clone(), &namespace);
        let patch =
            json!({"apiVersion": "hosting.nunet.io/v1alpha1", "kind": "CapabilityRevocation", "status": status});
        api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
            .await
            .map_err(Error::api(format!(
                "writing the status of CapabilityRevocation {namespace}/{}",
                object.name_any()
            )))?;
        events::changes(&context, &object.object_ref(&()), &before.conditions, &status.conditions).await;
    }
    Ok(Action::requeue(context.settings.resync * 10))
}

async fn keep(context: &Context, token: &str) -> Result<(), Error> {
    let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let name = format!("dms-operator-revocation-{}", hex::encode(&Sha256::digest(token.trim())[..16]));
    let copy = ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            labels: Some([(LABEL_COMPONENT.to_owned(), COMPONENT.to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(MEMBER.to_owned(), token.trim().to_owned())].into()),
        immutable: Some(true),
        ..ConfigMap::default()
    };
    match api.create(&PostParams::default(), &copy).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(Error::api(format!("keeping a copy of the revocation in ConfigMap {name}"))(error)),
    }
}
