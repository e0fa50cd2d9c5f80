//! A key that grants, delegates and signs, for the tests and the demo: also what `kubectl hosting sign` refuses to make.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::KitError;
use crate::{
    api::digest::spec_digest,
    capability::{Capability, Did, Envelope, Handle, Key, Minting, Nanos, Token, token_list},
    plan::authorise::Statement,
};

/// A key and what can be made with it.
#[derive(Clone, Debug)]
pub struct Wallet {
    /// The key.
    pub key: Key,
}

impl Wallet {
    /// A new random key.
    ///
    /// # Errors
    /// [`KitError::Random`] when the system gives no random bytes.
    pub fn random() -> Result<Self, KitError> {
        Ok(Self { key: Key::from_seed(random()?) })
    }

    /// The DID of the key.
    #[must_use]
    pub fn did(&self) -> &Did {
        self.key.did()
    }

    /// A delegation of capability paths to another key.
    ///
    /// # Errors
    /// [`KitError::Token`] when it would widen its chain or outlive it.
    pub fn delegate(
        &self,
        to: &Did,
        audience: Option<&Did>,
        paths: &[String],
        expires: Nanos,
        depth: u64,
        chain: Option<&Token>,
    ) -> Result<Token, KitError> {
        let capabilities = paths.iter().map(|path| Capability::parse(path)).collect::<Result<_, _>>();
        let minting = Minting {
            subject: to.clone(),
            audience: audience.cloned(),
            capabilities: capabilities.map_err(|error| KitError::Token(error.to_string()))?,
            topics: Vec::new(),
            expires,
            depth,
            nonce: random()?,
        };
        Token::delegate(&self.key, minting, chain).map_err(|error| KitError::Token(error.to_string()))
    }

    /// Everything a tenant is granted in a namespace, by a provider that holds this key.
    ///
    /// # Errors
    /// See [`Self::delegate`].
    pub fn grant(&self, to: &Did, namespace: &str, expires: Nanos) -> Result<Token, KitError> {
        let paths =
            ["apply", "publish", "read", "usage", "delete"].map(|action| format!("/hosting/{namespace}/{action}"));
        self.delegate(to, Some(self.did()), &paths, expires, 3, None)
    }

    /// What a device's owner grants to a provider.
    ///
    /// # Errors
    /// See [`Self::delegate`].
    pub fn device_grant(&self, provider: &Did, expires: Nanos) -> Result<Token, KitError> {
        let paths = [
            "/dms/node/deployment",
            "/dms/node/peers",
            "/dms/node/resources",
            "/dms/node/onboarding/status",
            "/dms/ensemble",
        ]
        .map(str::to_owned);
        self.delegate(provider, None, &paths, expires, 2, None)
    }

    /// Signs an object under a grant, at a time that the caller chooses, and puts the invocation into its spec.
    ///
    /// # Errors
    /// [`KitError::Token`] when the object has no digest or the grant does not allow it.
    pub fn sign(&self, object: &mut Value, grant: &Token, provider: &Did, time: Nanos) -> Result<(), KitError> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let behaviour = format!("/hosting/{}/apply/{}", text("/metadata/namespace"), text("/metadata/name"));
        let fault = |error: String| KitError::Token(error);
        let digest = spec_digest(object).map_err(|error| fault(error.to_string()))?;
        let message = serde_json::to_vec(&Statement::new(digest, time)).map_err(|error| fault(error.to_string()))?;
        let minting = Minting {
            subject: self.did().clone(),
            audience: Some(provider.clone()),
            capabilities: vec![Capability::parse(&behaviour).map_err(|error| fault(error.to_string()))?],
            topics: Vec::new(),
            expires: grant.not_after(),
            depth: 0,
            nonce: random()?,
        };
        let token = Token::invoke(&self.key, minting, Some(grant)).map_err(|error| fault(error.to_string()))?;
        let envelope = Envelope {
            to: Handle::root_of(provider),
            behaviour,
            from: Handle::of(self.did(), None, None),
            nonce: u64::from_le_bytes(random()?),
            expires: grant.not_after(),
            continuation: None,
            topic: None,
            message,
            capabilities: token_list(&[token]),
            signature: None,
        };
        let invocation = STANDARD.encode(envelope.sign(&self.key).to_json());
        object["spec"]["authorization"] = serde_json::json!({"invocation": invocation});
        Ok(())
    }
}

/// Random bytes of the system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], KitError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(KitError::Random)?;
    Ok(bytes)
}

/// From now on for a while.
#[must_use]
pub fn in_future(span: Duration) -> Nanos {
    crate::controller::clock::wall().plus(span)
}
