//! What is said between a wallet and the provider's actor: a DID is proved, a grant is given, an object is applied or
//! deleted, and its owner is told what came of it. The same over libp2p and over HTTP: each message is the payload of a
//! signed DMS envelope, and so is each answer.
//!
//! ```text
//! wallet → provider   /public/hosting/challenge          ChallengeRequest → Answer<Challenge>
//! wallet → provider   /public/hosting/grant              GrantRequest     → Answer<Granted>
//! wallet → provider   /hosting/<ns>/apply/<name>         ApplyRequest     → Answer<Confirmation>
//! wallet → provider   /hosting/<ns>/delete/<name>        DeleteRequest    → Answer<Confirmation>
//! provider → owner    /hosting/notice                    Notice             (no answer)
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Reason;
use crate::capability::{self, Nanos};

/// Asks for a challenge. A valid envelope is enough to be answered.
pub const CHALLENGE: &str = "/public/hosting/challenge";
/// Answers a challenge and asks for the grant.
pub const GRANT: &str = "/public/hosting/grant";
/// Told to an owner.
pub const NOTICE: &str = "/hosting/notice";
/// Stands before the text of a challenge where it is signed, so that what is signed here is never a token or an envelope.
pub const SIGNED_PREFIX: &str = "nunet-hosting:auth:v1\n";

/// What an owner may be granted in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GrantAction {
    /// Create and change deployments.
    Apply,
    /// Upload content.
    Publish,
    /// Read content that is not public.
    Read,
    /// Read usage.
    Usage,
    /// Delete deployments through the provider's actor, and content for good.
    Delete,
}

impl GrantAction {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Apply, Self::Publish, Self::Read, Self::Usage, Self::Delete];

    /// The part of a capability path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Usage => "usage",
            Self::Delete => "delete",
        }
    }
}

/// Asks for a challenge. The DID is that of the envelope's signer, in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ChallengeRequest {
    /// Who wants to be granted something.
    pub did: String,
    /// Where.
    pub namespace: String,
    /// What; empty asks for all that the provider gives.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<GrantAction>,
}

/// A challenge. What is signed is [`SIGNED_PREFIX`] and `text`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Challenge {
    /// What the wallet shows and signs: ASCII, lines ended by LF.
    pub text: String,
    /// Opaque; goes back with the signature. The provider writes the text anew from it and compares by that.
    pub state: String,
    /// Until when an answer counts.
    pub expires: Nanos,
}

/// Answers a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct GrantRequest {
    /// As it came with the challenge.
    pub state: String,
    /// Ed25519 over [`SIGNED_PREFIX`] and the text, base64.
    pub signature: String,
    /// A DMS delegation by which the provider may send notices to the owner: issuer = audience = owner, subject =
    /// provider, capability [`NOTICE`]. Without it there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice: Option<Value>,
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Granted {
    /// A DMS `delegate` token: issuer and audience = provider, subject = owner.
    pub grant: Value,
    /// Until when it holds.
    pub expires: Nanos,
}

/// Asks that an object be applied on the signer's behalf.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ApplyRequest {
    /// A signed HostingDeployment, as `kubectl hosting sign -o json` writes it.
    pub object: Value,
}

/// Asks that an object be deleted. The envelope's own right is what counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DeleteRequest {
    /// Only the object with this uid; absent: whichever has the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Confirmation {
    /// Namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its generation after the change.
    pub generation: i64,
    /// What came of it, a sentence.
    pub message: String,
}

/// Tells an owner what became of an object. Told at least once; `id` tells repeats apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Notice {
    /// Uid of the object and what was decided on: its revision's digest and time.
    pub id: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The reason, as in its conditions.
    pub reason: String,
    /// What happened, a sentence.
    pub message: String,
    /// When, RFC 3339.
    pub time: String,
}

/// What the provider answers: what was asked for, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer<T> {
    /// What was asked for.
    Done(T),
    /// Why not.
    Refused {
        /// The refusal.
        refused: Refused,
    },
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Refused {
    /// One word that never changes.
    pub reason: String,
    /// What was tried, on which part, and what to do next.
    pub message: String,
}

/// Why something is not done, before it is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Declined {
    /// In one word that never changes.
    pub reason: Reason,
    /// What was tried, on which part, and what to do next.
    pub message: String,
}

impl Declined {
    /// A refusal of this kind.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

impl From<capability::Refusal> for Declined {
    fn from(refusal: capability::Refusal) -> Self {
        let capability::Refusal { reason, link: _, message } = refusal;
        Self { reason: reason.into(), message }
    }
}

impl From<Declined> for Refused {
    fn from(Declined { reason, message }: Declined) -> Self {
        Self { reason: reason.as_str().to_owned(), message }
    }
}
