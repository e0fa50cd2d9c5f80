//! What a signed object says about its signature, before anybody judges it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::text;
use crate::capability::{Did, Envelope, MAX_INVOCATION, Nanos, Token, parse_token_list};

/// The signature that an object carries, as it says itself: nothing here is verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    /// Whom it is addressed to.
    pub(super) provider: Option<Did>,
    /// Whose grant it rests on.
    pub(super) root: Option<Did>,
    /// The earliest expiry of the envelope and its chain.
    pub(super) not_after: Nanos,
}

impl Carried {
    /// `None`, when the object carries none that can be read.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let bytes = STANDARD.decode(text(object, "/spec/authorization/invocation")?).ok()?;
        let envelope = Some(bytes).filter(|bytes| bytes.len() <= MAX_INVOCATION)?;
        let envelope = Envelope::parse(&envelope).ok()?;
        let tokens = parse_token_list(&envelope.capabilities).unwrap_or_default();
        let not_after = tokens.iter().map(Token::not_after).fold(envelope.expires, Nanos::min);
        let root = tokens.first().map(|token| token.root().issuer().clone());
        Some(Self { provider: envelope.to.id.did(), root, not_after })
    }

    /// Whom it is for: whom it is addressed to, else whose grant it rests on.
    pub(super) fn for_whom(&self) -> Option<&Did> {
        self.provider.as_ref().or(self.root.as_ref())
    }
}
