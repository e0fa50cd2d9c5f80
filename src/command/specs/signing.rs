//! Signing objects: what is put into them, and the signature over what comes of that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::CommandError;
use super::super::anchors::NoGrant;
use super::super::wallet::random;
use super::content::{OtherArchive, Supplied, config_map_of, release_of};
use super::schema::unknown_fields;
use super::signer::Signer;
use super::{called, is_deployment, name_of, namespace_of, objects_mut, text};
use crate::api::HostingDeployment;
use crate::api::digest::spec_digest;
use crate::capability::{
    Capability, Did, Envelope, Expectation, Handle, MintError, Minting, Nanos, Refusal, Token, judge, token_list,
};
use crate::plan::authorise::Statement;

/// Largest chain that is put into an invocation; it leaves room for the rest of what an object may hold.
const MAX_CHAIN: usize = 12 * 1024;

/// What is needed to sign.
pub(super) struct Signing {
    pub(super) signer: Signer,
    pub(super) namespace: Option<String>,
    /// What was named on the command line.
    pub(super) content: Option<Supplied>,
    pub(super) refresh: bool,
    pub(super) now: Nanos,
}

/// One object that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Signed {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) owner: Did,
    pub(super) signer: Did,
    pub(super) provider: Did,
    /// Until when the signature holds.
    pub(super) not_after: Nanos,
}

impl Signing {
    /// Signs each HostingDeployment among the documents, with these ConfigMaps at hand.
    pub(super) fn sign_each(
        &self,
        documents: &mut [Value],
        config_maps: &[ConfigMap],
    ) -> Result<Vec<Signed>, CommandError> {
        let deployments = documents.iter_mut().flat_map(objects_mut).filter(|object| is_deployment(object));
        deployments
            .map(|object| {
                let name = called(object);
                self.sign(object, config_maps)
                    .map_err(|error| CommandError::because(format!("{name} was not signed"), error))
            })
            .collect()
    }

    fn sign(&self, object: &mut Value, config_maps: &[ConfigMap]) -> Result<Signed, SignError> {
        self.fill_namespace(object)?;
        self.fill_release(object, config_maps)?;
        self.renew(object, None)
    }

    /// Signs an object as it is, for the provider that it was signed for.
    pub(super) fn renew(&self, object: &mut Value, provider: Option<&Did>) -> Result<Signed, SignError> {
        let behaviour = behaviour(object)?;
        let named = text(object, "/spec/owner").and_then(|owner| Did::parse(owner).ok());
        let (grant, provider) = self.signer.grant(&behaviour, named.as_ref(), provider, self.now)?;
        fill_owner(object, grant)?;
        self.attach(object, &behaviour, grant, provider)
    }

    fn attach(
        &self,
        object: &mut Value,
        behaviour: &Capability,
        grant: &Token,
        provider: Did,
    ) -> Result<Signed, SignError> {
        let authorization = members(object, "spec")?.entry("authorization").or_insert(Value::Null);
        if authorization.is_null() {
            *authorization = Value::Object(Map::new());
        }
        let authorization = authorization.as_object_mut().ok_or(SignError::NotAnObject("spec.authorization"))?;
        authorization.insert("invocation".to_owned(), String::new().into());
        let unknown = unknown_fields(object);
        let covered: Vec<String> = unknown.into_iter().filter(|field| field.starts_with("spec.")).collect();
        serde_json::from_value::<HostingDeployment>(object.clone()).map_err(SignError::Kind)?;
        if !covered.is_empty() {
            return Err(SignError::Unknown(covered.join(", ")));
        }
        let invocation = STANDARD.encode(self.invocation(object, behaviour, grant, &provider)?);
        if let Some(place) = object.pointer_mut("/spec/authorization/invocation") {
            *place = invocation.into();
        }
        Ok(Signed {
            namespace: namespace_of(object).unwrap_or_default().to_owned(),
            name: name_of(object).unwrap_or_default().to_owned(),
            owner: grant.root().subject().clone(),
            signer: self.signer.key.did().clone(),
            provider,
            not_after: grant.not_after(),
        })
    }

    fn fill_namespace(&self, object: &mut Value) -> Result<(), SignError> {
        if namespace_of(object).is_none() {
            let namespace = self.namespace.clone().ok_or(SignError::NoNamespace)?;
            members(object, "metadata")?.insert("namespace".to_owned(), namespace.into());
        }
        Ok(())
    }

    fn fill_release(&self, object: &mut Value, config_maps: &[ConfigMap]) -> Result<(), SignError> {
        if object.pointer("/spec/content").is_none_or(Value::is_null) {
            return Ok(());
        }
        let set = text(object, "/spec/content/release").is_some_and(|release| release != "auto");
        if set && !self.refresh {
            return Ok(());
        }
        let release = match (&self.content, config_map_of(object, config_maps)) {
            (Some(content), _) => content.release_for(object)?.id(),
            (None, Some(config_map)) => release_of(config_map)?.id(),
            (None, None) if set => return Ok(()),
            (None, None) => return Err(SignError::NoContent),
        };
        if let Some(content) = members(object, "spec")?.get_mut("content").and_then(Value::as_object_mut) {
            content.insert("release".to_owned(), release.to_string().into());
        }
        Ok(())
    }

    /// The signed envelope for an object, judged as the provider will judge it.
    fn invocation(
        &self,
        object: &Value,
        behaviour: &Capability,
        grant: &Token,
        provider: &Did,
    ) -> Result<Vec<u8>, SignError> {
        let key = &self.signer.key;
        let message =
            serde_json::to_vec(&Statement::new(spec_digest(object)?, self.now)).map_err(SignError::Statement)?;
        let expires = grant.not_after();
        let token = Token::invoke(
            key,
            Minting {
                subject: key.did().clone(),
                audience: Some(provider.clone()),
                capabilities: vec![behaviour.clone()],
                topics: Vec::new(),
                expires,
                depth: 0,
                nonce: random()?,
            },
            Some(grant),
        )?;
        let capabilities = token_list(std::slice::from_ref(&token));
        if capabilities.len() > MAX_CHAIN {
            return Err(SignError::LongChain(capabilities.len()));
        }
        let envelope = Envelope {
            to: Handle::root_of(provider),
            behaviour: behaviour.as_str().to_owned(),
            from: Handle::of(key.did(), None, None),
            nonce: u64::from_le_bytes(random()?),
            expires,
            continuation: None,
            topic: None,
            message,
            capabilities,
            signature: None,
        }
        .sign(key)
        .to_json();
        let expectation = Expectation {
            provider,
            anchors: std::slice::from_ref(provider),
            owner: grant.root().subject(),
            behaviour,
            revoked: &|_| false,
            denied: &|_| false,
            now: self.now,
        };
        judge(&envelope, &expectation)?;
        Ok(envelope)
    }
}

/// What signing an object asks for.
fn behaviour(object: &Value) -> Result<Capability, SignError> {
    let name = name_of(object).ok_or(SignError::NoName)?;
    let namespace = namespace_of(object).ok_or(SignError::NoNamespace)?;
    Ok(Capability::parse(&format!("/hosting/{namespace}/apply/{name}"))?)
}

fn fill_owner(object: &mut Value, grant: &Token) -> Result<(), SignError> {
    let owner = grant.root().subject();
    match text(object, "/spec/owner") {
        None => drop(members(object, "spec")?.insert("owner".to_owned(), owner.as_str().into())),
        Some(named) if named == owner.as_str() => {}
        Some(named) => return Err(SignError::OtherOwner { named: named.to_owned(), owner: owner.clone() }),
    }
    Ok(())
}

fn members<'a>(object: &'a mut Value, name: &'static str) -> Result<&'a mut Map<String, Value>, SignError> {
    object.get_mut(name).and_then(Value::as_object_mut).ok_or(SignError::NotAnObject(name))
}

/// Why one object was not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum SignError {
    #[error("it names no namespace: set metadata.namespace, or run the command with -n NAMESPACE")]
    NoNamespace,
    #[error("it has no metadata.name: generateName cannot be signed, since the signature covers the name")]
    NoName,
    #[error("its member {0} is not an object")]
    NotAnObject(&'static str),
    #[error(
        "its spec.owner is {named}, and the grant was given to {owner}: use the grant of that owner, or remove spec.owner"
    )]
    OtherOwner { named: String, owner: Did },
    #[error(
        "its spec.content.release is not set and cannot be computed: add the ConfigMap that content.from names to the \
         stream, or name a folder or an archive with --content"
    )]
    NoContent,
    #[error(
        "it has fields that its kind does not: {0}. The API server would drop them, and what is left is not what was signed: \
         correct or remove them"
    )]
    Unknown(String),
    #[error("its content makes no release")]
    Release(#[from] crate::store::release::ReleaseError),
    #[error("its content comes from another archive")]
    OtherArchive(#[from] OtherArchive),
    #[error("no grant lets this key sign it")]
    NoGrant(#[from] NoGrant),
    #[error("its name or namespace cannot stand in a capability")]
    Path(#[from] crate::capability::PathError),
    #[error("it has no digest")]
    Digest(#[from] crate::api::digest::DigestError),
    #[error("the statement to be signed has no JSON form")]
    Statement(#[source] serde_json::Error),
    #[error("the grant does not let this key sign it")]
    Mint(#[from] MintError),
    #[error("the provider would refuse it")]
    Judged(#[from] Refusal),
    #[error("its chain of tokens has {0} bytes, more than 12 KiB: use a grant nearer to the root")]
    LongChain(usize),
    #[error("it is not what its kind says")]
    Kind(#[source] serde_json::Error),
    #[error(transparent)]
    Random(#[from] CommandError),
}
