//! Whether a spec may be acted upon. One verdict, taken anew at every pass with `now`: there is no "was once
//! accepted".

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    api::{
        AcceptedRevision, Permission,
        digest::{SpecDigest, spec_digest},
    },
    capability::{
        Capability, Did, Envelope, Expectation, MAX_INVOCATION, Nanos, Reason, Refusal, RevocationKey, Token, Verdict,
        judge, parse_token_list,
    },
};

/// What decides over a signed invocation: [`anew`], or a cache in front of it.
pub type Judge<'a> = &'a dyn Fn(&[u8], &Expectation<'_>) -> Result<Arc<Verdict>, Refusal>;

/// [`judge`], without any memory.
///
/// # Errors
/// What [`judge`] says.
pub fn anew(envelope: &[u8], expectation: &Expectation<'_>) -> Result<Arc<Verdict>, Refusal> {
    judge(envelope, expectation).map(Arc::new)
}

/// How far the signer's clock may run ahead of ours.
pub const SKEW: Duration = Duration::from_secs(30);

/// What an invocation that authorises a HostingDeployment says, as JSON in the envelope's `msg`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// Digest of the whole spec, 64 hex digits.
    pub digest: String,
    /// Digest of `spec.content`.
    pub content: String,
    /// Digest of `spec.workload`.
    pub workload: String,
    /// Digest of `spec.placement`.
    pub placement: String,
    /// Digest of the rest.
    pub rest: String,
    /// When it was signed, in unix nanoseconds.
    pub time: Nanos,
}

impl Statement {
    /// The statement of a digest signed at a time.
    #[must_use]
    pub fn new(digest: SpecDigest, time: Nanos) -> Self {
        let SpecDigest { digest, content, workload, placement, rest } = digest;
        Self { digest, content, workload, placement, rest, time }
    }

    fn spec_digest(&self) -> SpecDigest {
        let Self { digest, content, workload, placement, rest, time: _ } = self.clone();
        SpecDigest { digest, content, workload, placement, rest }
    }
}

/// The newest statement accepted so far for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Highest {
    /// When it was signed.
    pub time: Nanos,
    /// Its digest.
    pub digest: String,
}

impl From<&AcceptedRevision> for Highest {
    /// As a status records it, cut to whole seconds.
    fn from(AcceptedRevision { digest, signer: _, time, not_after: _ }: &AcceptedRevision) -> Self {
        Self { time: Nanos::from_timestamp(time.0), digest: digest.clone() }
    }
}

/// By what a spec is judged.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Who judges the signed invocation.
    pub judge: Judge<'a>,
    /// DID of the provider: audience of every token.
    pub provider: &'a Did,
    /// Whose grants count.
    pub anchors: &'a [Did],
    /// Whether a token was taken back.
    pub revoked: &'a dyn Fn(&RevocationKey) -> bool,
    /// Who may stand in no chain.
    pub denied: &'a BTreeSet<Did>,
    /// The newest statement accepted so far.
    pub highest: Option<&'a Highest>,
    /// Whether an older statement may come back.
    pub rollback: Permission,
    /// The time.
    pub now: Nanos,
}

/// A spec whose authorisation holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Digest of the spec.
    pub digest: String,
    /// Who signed: the owner, or a key the owner delegated to.
    pub signer: Did,
    /// When, by the signer's clock.
    pub signed: Nanos,
    /// Earliest expiry in the chain.
    pub not_after: Nanos,
    /// The tokens on which it rests.
    pub links: Vec<RevocationKey>,
}

/// Where the authorisation of a spec stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It holds.
    Valid(Accepted),
    /// It held until its expiry, and nothing else speaks against it.
    Expired {
        /// What held.
        accepted: Accepted,
        /// The sentence for the condition.
        refusal: Refusal,
    },
    /// It does not hold.
    Refused(Refusal),
}

impl Standing {
    /// What was accepted, be its end near, here or past.
    #[must_use]
    pub const fn accepted(&self) -> Option<&Accepted> {
        match self {
            Self::Valid(accepted) | Self::Expired { accepted, refusal: _ } => Some(accepted),
            Self::Refused(_) => None,
        }
    }

    /// The same as a statement to compare with.
    #[must_use]
    pub fn highest(&self) -> Option<Highest> {
        self.accepted().map(|accepted| Highest { time: accepted.signed, digest: accepted.digest.clone() })
    }
}

/// Judges an object given as raw JSON.
#[must_use]
pub fn authorise(object: &Value, rules: &Rules<'_>) -> Standing {
    match judged_at(object, rules, rules.now) {
        Ok(accepted) => Standing::Valid(accepted),
        Err(refusal) if refusal.reason == Reason::Expired => {
            // The same judgement, at the last moment of the envelope: was the expiry all that was wrong?
            let before =
                envelope(object).ok().and_then(|bytes| Envelope::parse(&bytes).ok()).map(|parsed| parsed.expires);
            match before.map(|then| judged_at(object, rules, then)) {
                Some(Ok(accepted)) => Standing::Expired { accepted, refusal },
                // Signed after its own end, it never held.
                Some(Err(Refusal { reason: Reason::Expired | Reason::TimeInFuture, .. })) | None => {
                    Standing::Refused(refusal)
                }
                Some(Err(earlier)) => Standing::Refused(earlier),
            }
        }
        Err(refusal) => Standing::Refused(refusal),
    }
}

/// One link of the chain that an object carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What would take it back.
    pub key: RevocationKey,
    /// When it ends.
    pub expires: Nanos,
}

/// The links that an object carries, the leaf first, as it says itself: nothing is judged. None when it cannot be read.
#[must_use]
pub fn links(object: &Value) -> Vec<Link> {
    let link = |link: &Token| Link { key: link.revocation_key(), expires: link.expires() };
    tokens(object).iter().flat_map(|token| token.links().map(link)).collect()
}

fn tokens(object: &Value) -> Vec<Token> {
    let bytes = envelope(object).ok().filter(|bytes| bytes.len() <= MAX_INVOCATION);
    let parsed = bytes.and_then(|bytes| Envelope::parse(&bytes).ok());
    parsed.and_then(|envelope| parse_token_list(&envelope.capabilities).ok()).unwrap_or_default()
}

fn judged_at(object: &Value, rules: &Rules<'_>, now: Nanos) -> Result<Accepted, Refusal> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let malformed = |message: String| Refusal::new(Reason::Malformed, None, message);
    let owner = Did::parse(text("/spec/owner"))
        .map_err(|error| malformed(format!("spec.owner is not a DID that can be used here: {error}")))?;
    let path = format!("/hosting/{}/apply/{}", text("/metadata/namespace"), text("/metadata/name"));
    let behaviour = Capability::parse(&path)
        .map_err(|error| malformed(format!("the object's names make no capability path ({path}): {error}")))?;
    let Rules { judge, provider, anchors, revoked, denied, highest, rollback, now: _ } = *rules;
    let denied = |did: &Did| denied.contains(did);
    let expectation =
        Expectation { provider, anchors, owner: &owner, behaviour: &behaviour, revoked, denied: &denied, now };
    let verdict = judge(&envelope(object)?, &expectation)?;
    let Verdict { signer, message, not_after, links } = &*verdict;

    let statement: Statement = serde_json::from_slice(message).map_err(|error| {
        malformed(format!("the signed statement cannot be read: {error}. Sign again with `kubectl hosting sign`"))
    })?;
    let actual = spec_digest(object).map_err(|error| malformed(error.to_string()))?;
    if statement.spec_digest() != actual {
        let parts = statement.spec_digest().differing_parts(&actual).join(", ");
        return Err(Refusal::new(
            Reason::DigestMismatch,
            None,
            format!(
                "what was signed is not what was applied; it differs in: {parts}. A prefix, substitution or target \
                 namespace applied after signing does this. Render first, then run `kubectl hosting sign`"
            ),
        ));
    }
    timely(&statement, highest, rollback, now)?;
    Ok(Accepted {
        digest: statement.digest,
        signer: signer.clone(),
        signed: statement.time,
        not_after: *not_after,
        links: links.clone(),
    })
}

fn timely(statement: &Statement, highest: Option<&Highest>, rollback: Permission, now: Nanos) -> Result<(), Refusal> {
    if statement.time > now.plus(SKEW) {
        return Err(Refusal::new(
            Reason::TimeInFuture,
            None,
            format!(
                "it was signed at {}, which is ahead of this cluster's clock. Check the signer's clock and sign again",
                statement.time
            ),
        ));
    }
    let Some(Highest { time, digest }) = highest else { return Ok(()) };
    if statement.time < *time && rollback == Permission::Refuse {
        return Err(Refusal::new(
            Reason::RolledBack,
            None,
            format!(
                "it was signed at {}, and a spec signed later ({time}) was accepted already. To go back to it, sign it \
                 again with `kubectl hosting sign`",
                statement.time
            ),
        ));
    }
    if statement.time == *time && statement.digest != *digest {
        return Err(Refusal::new(
            Reason::SameTimeOtherDigest,
            None,
            format!(
                "another spec signed at the same time ({time}) was accepted already. Run `kubectl hosting sign` again"
            ),
        ));
    }
    Ok(())
}

/// The signed envelope inside an object.
fn envelope(object: &Value) -> Result<Vec<u8>, Refusal> {
    let text = object.pointer("/spec/authorization/invocation").and_then(Value::as_str).ok_or_else(|| {
        Refusal::new(
            Reason::NotSigned,
            None,
            "the spec is not signed. Run `kubectl hosting sign -f FILE | kubectl apply -f -`".to_owned(),
        )
    })?;
    STANDARD.decode(text).map_err(|error| {
        Refusal::new(
            Reason::Malformed,
            None,
            format!("spec.authorization.invocation is not base64 ({error}). Run `kubectl hosting sign` again"),
        )
    })
}

#[cfg(test)]
mod tests;
