//! Making tokens. What is made cannot give more, live longer or reach further than what it hangs on.

use super::chain::Chain;
use super::{Action, Capability, Did, Key, MAX_CAPABILITIES, MAX_LINKS, MAX_PATHS, Nanos, Reason, Token};

/// What a new token shall say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Minting {
    /// Who may use it.
    pub subject: Did,
    /// Where it may be used; `None`: anywhere.
    pub audience: Option<Did>,
    /// What it gives; at least one.
    pub capabilities: Vec<Capability>,
    /// The topics on which it may be used; none, unless for broadcasts.
    pub topics: Vec<Capability>,
    /// Until when.
    pub expires: Nanos,
    /// How many links may hang below it; 0: as many as are read.
    pub depth: u64,
    /// Twelve random bytes.
    pub nonce: [u8; 12],
}

/// Why a token was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MintError {
    /// It would give nothing.
    #[error("a token without capabilities gives nothing: name at least one")]
    NoCapability,
    /// The chain above would not carry it.
    #[error("the grant does not permit this token: {message}")]
    NotPermitted {
        /// What a verifier would say.
        reason: Reason,
        /// The same in words.
        message: String,
    },
    /// Only the issuer can take a token back.
    #[error("the token was issued by {issuer}: only this key can revoke it")]
    NotIssuer {
        /// Who can.
        issuer: Did,
    },
}

impl Token {
    /// Makes a token by which `minting.subject` may pass the capabilities on. `chain` is what `key` holds its own right
    /// from; without one, `key` is the root.
    ///
    /// # Errors
    /// [`MintError`], when the chain above does not permit it.
    pub fn delegate(key: &Key, minting: Minting, chain: Option<&Self>) -> Result<Self, MintError> {
        // A delegation that nothing can hang below would be of no use.
        Self::mint(key, Action::Delegate, minting, chain, 1)
    }

    /// Makes a token by which `minting.subject` may ask the audience for what the capabilities name.
    ///
    /// # Errors
    /// [`MintError`], when the chain above does not permit it.
    pub fn invoke(key: &Key, minting: Minting, chain: Option<&Self>) -> Result<Self, MintError> {
        Self::mint(key, Action::Invoke, minting, chain, 0)
    }

    /// Makes a token by which `minting.subject` may tell everybody on the topics. It must name no audience.
    ///
    /// # Errors
    /// [`MintError`], when it names an audience or no topic, or the chain above does not permit it.
    pub fn broadcast(key: &Key, minting: Minting, chain: Option<&Self>) -> Result<Self, MintError> {
        if minting.audience.is_some() {
            let message = "a token to broadcast names an audience, which no broadcast may".to_owned();
            return Err(MintError::NotPermitted { reason: Reason::WrongAudience, message });
        }
        if minting.topics.is_empty() {
            let message = "a token to broadcast names no topic: name at least one".to_owned();
            return Err(MintError::NotPermitted { reason: Reason::CapabilityMissing, message });
        }
        Self::mint(key, Action::Broadcast, minting, chain, 0)
    }

    /// Makes the token that takes `target` back, and with it all that hangs below.
    ///
    /// # Errors
    /// [`MintError::NotIssuer`], when `key` did not issue `target`.
    pub fn revoke(key: &Key, target: &Self) -> Result<Self, MintError> {
        if key.did() != target.issuer() {
            return Err(MintError::NotIssuer { issuer: target.issuer().clone() });
        }
        let revocation = Self {
            action: Action::Revoke,
            audience: None,
            topics: Vec::new(),
            depth: 0,
            chain: None,
            signature: [0; 64],
            ..target.clone()
        };
        Ok(revocation.signed(key))
    }

    fn mint(
        key: &Key,
        action: Action,
        minting: Minting,
        chain: Option<&Self>,
        links_below: usize,
    ) -> Result<Self, MintError> {
        let Minting { subject, audience, capabilities, topics, expires, depth, nonce } = minting;
        if capabilities.is_empty() {
            return Err(MintError::NoCapability);
        }
        let token = Self {
            action,
            issuer: key.did().clone(),
            subject,
            audience,
            topics,
            capabilities,
            nonce,
            expires,
            depth,
            chain: chain.cloned().map(Box::new),
            signature: [0; 64],
        };
        let links = Chain::of(&token);
        links
            .check_structure(links_below)
            .map_err(|refusal| MintError::NotPermitted { reason: refusal.reason, message: refusal.message })?;
        if token.capabilities.len().max(token.topics.len()) > MAX_PATHS {
            let message = format!("a link may have {MAX_PATHS} capabilities and as many topics at most");
            return Err(MintError::NotPermitted { reason: Reason::TooLarge, message });
        }
        if links.len() + links_below > MAX_LINKS {
            let message = format!("the chain would have more than {MAX_LINKS} links");
            return Err(MintError::NotPermitted { reason: Reason::TooDeep, message });
        }
        let token = token.signed(key);
        let read = Chain::of(&token).signed_links().map(drop);
        read.map_err(|refusal| MintError::NotPermitted { reason: refusal.reason, message: refusal.message })?;
        let bytes = token.to_json().len();
        if bytes > MAX_CAPABILITIES {
            let message = format!("the token would have {bytes} bytes, more than the {MAX_CAPABILITIES} that are read");
            return Err(MintError::NotPermitted { reason: Reason::TooLarge, message });
        }
        Ok(token)
    }

    fn signed(mut self, key: &Key) -> Self {
        self.signature = key.sign(&self.signed_bytes());
        self
    }
}
