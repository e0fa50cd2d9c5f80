//! The one verdict over a signed invocation.

use super::chain::{Chain, is_implied};
use super::token::{parse_known_tokens, parse_token_list_with};
use super::{Action, ActorId, Capability, Did, Envelope, KnownDids, Nanos, Reason, Refusal, RevocationKey, Token};

/// Largest invocation that is judged.
pub const MAX_INVOCATION: usize = 32_768;
/// Most invocations of one message that are looked at: a DMS sends two.
const MOST_INVOCATIONS: usize = 4;

/// What an invocation must fit.
pub struct Expectation<'a> {
    /// To whom it must be addressed, and the audience that its token must name.
    pub provider: &'a Did,
    /// Who may issue the root link of its chain, and no other link.
    pub anchors: &'a [Did],
    /// To whom the root link must be given.
    pub owner: &'a Did,
    /// What it must ask for, and the capability that every link must give.
    pub behaviour: &'a Capability,
    /// Whether a link was taken back.
    pub revoked: &'a dyn Fn(&RevocationKey) -> bool,
    /// Whether a DID may stand in no chain at all.
    pub denied: &'a dyn Fn(&Did) -> bool,
    /// The time that counts.
    pub now: Nanos,
}

/// An invocation that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who signed it: the owner, or whom the owner delegated to.
    pub signer: Did,
    /// The payload that was signed.
    pub message: Vec<u8>,
    /// The earliest expiry of the envelope and its chain; the verdict holds until then.
    pub not_after: Nanos,
    /// What would take one of its links back, the root's first.
    pub links: Vec<RevocationKey>,
}

/// Decides over an invocation: the chain's root link is issued by an anchor to the owner, no anchor issues another
/// link, the signer is the DID of `from.id`, every link gives the behaviour, recipient and leaf audience are the
/// provider, nobody in it is denied, nothing has expired or was revoked. Everything is checked at every call; there is no memory of earlier
/// verdicts.
///
/// Order: size, strict parse, expiry, audience, anchors, capabilities, and the signatures last.
///
/// # Errors
/// The first [`Refusal`] in this order.
pub fn judge(envelope: &[u8], expectation: &Expectation<'_>) -> Result<Verdict, Refusal> {
    let Expectation { provider, anchors, owner, .. } = expectation;
    judge_with(envelope, expectation, &mut KnownDids::of(anchors.iter().chain([*provider, *owner])))
}

/// The same with the DIDs that were read before.
pub(super) fn judge_with(
    envelope: &[u8],
    expectation: &Expectation<'_>,
    known: &mut KnownDids,
) -> Result<Verdict, Refusal> {
    let envelope = Envelope::parse_at_most(envelope, MAX_INVOCATION, known)?;
    let signer = envelope.claimed_signer()?;
    envelope.signature()?;
    let token = only_token(&envelope, known)?;
    judge_token(&envelope, &token, signer, expectation)
}

/// The same decision over a message of an actor that was read before: it may carry further tokens, such as the delegation
/// of its reply and an invocation for who has the sender as a root. The first few of its invocations count, each on its
/// own.
///
/// # Errors
/// The [`Refusal`] of the first invocation, when none of them is accepted.
pub fn judge_message(envelope: &Envelope, expectation: &Expectation<'_>) -> Result<Verdict, Refusal> {
    let Expectation { provider, anchors, owner, .. } = expectation;
    let known = &mut KnownDids::of(anchors.iter().chain([*provider, *owner]));
    let signer = envelope.claimed_signer()?;
    envelope.signature()?;
    let nothing = || Refusal::explained(Reason::CapabilityMissing, "the message carries no token to invoke");
    if envelope.capabilities.is_empty() {
        return Err(nothing());
    }
    let tokens = parse_known_tokens(&envelope.capabilities, known)?;
    let mut first = None;
    for token in tokens.iter().filter(|token| token.action() == Action::Invoke).take(MOST_INVOCATIONS) {
        match judge_token(envelope, token, signer.clone(), expectation) {
            Ok(verdict) => return Ok(verdict),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    Err(first.unwrap_or_else(nothing))
}

fn judge_token(
    envelope: &Envelope,
    token: &Token,
    signer: Did,
    expectation: &Expectation<'_>,
) -> Result<Verdict, Refusal> {
    let chain = Chain::of(token);

    // The envelope usually ends with a link: that one is what the owner has to renew.
    chain.check_expiry(expectation.now)?;
    envelope.check_expiry(expectation.now)?;
    check_recipient(envelope, &chain, token, expectation)?;
    check_anchors(&chain, expectation)?;
    chain.check_denied(expectation.denied)?;
    check_use(envelope, &chain, token, &signer, expectation)?;
    chain.check_structure(0)?;
    chain.check_revocations(expectation.revoked)?;

    envelope.check_signature(&signer)?;
    chain.check_signatures()?;
    let links = chain.root_first().map(|(_, link)| link.revocation_key()).collect();
    let not_after = envelope.expires.min(token.not_after());
    Ok(Verdict { signer, message: envelope.message.clone(), not_after, links })
}

fn only_token(envelope: &Envelope, known: &mut KnownDids) -> Result<Token, Refusal> {
    if envelope.capabilities.is_empty() {
        return Err(Refusal::explained(Reason::CapabilityMissing, "the envelope carries no capability token"));
    }
    let mut tokens = parse_token_list_with(&envelope.capabilities, known)?;
    match (tokens.pop(), tokens.len()) {
        (Some(token), 0) => Ok(token),
        (None, _) => Err(Refusal::explained(Reason::CapabilityMissing, "the envelope carries no capability token")),
        (Some(_), others) => {
            let message = format!("the envelope carries {} capability tokens instead of one", others + 1);
            Err(Refusal::explained(Reason::Malformed, message))
        }
    }
}

fn check_recipient(
    envelope: &Envelope,
    chain: &Chain<'_>,
    token: &Token,
    expectation: &Expectation<'_>,
) -> Result<(), Refusal> {
    let provider = expectation.provider;
    let named_other = envelope.to.did.as_ref().is_some_and(|did| did != provider);
    if envelope.to.id != ActorId::of(provider) || named_other || envelope.topic.is_some() {
        let message = format!("the envelope is not addressed to the provider {provider}");
        return Err(Refusal::explained(Reason::WrongRecipient, message));
    }
    if token.audience() != Some(provider) {
        let named = token.audience().map_or("nobody", Did::as_str);
        let what = format!("is meant for {named}, not for the provider {provider}");
        return Err(chain.refuse(0, Reason::WrongAudience, what));
    }
    Ok(())
}

fn check_anchors(chain: &Chain<'_>, expectation: &Expectation<'_>) -> Result<(), Refusal> {
    for (position, (below, link)) in chain.root_first().enumerate() {
        let is_root = position == 0;
        let anchored = expectation.anchors.contains(link.issuer());
        if is_root && !anchored {
            let what = format!("was issued by {}, whom this provider does not trust to issue grants", link.issuer());
            return Err(chain.refuse(below, Reason::NotAnchored, what));
        }
        if !is_root && anchored {
            let what = format!("was issued by the trusted issuer {} below the root", link.issuer());
            return Err(chain.refuse(below, Reason::AnchorInMiddle, what));
        }
        if is_root && link.subject() != expectation.owner {
            let what = format!("is a grant to {}, not to the owner {}", link.subject(), expectation.owner);
            return Err(chain.refuse(below, Reason::OwnerMismatch, what));
        }
    }
    Ok(())
}

fn check_use(
    envelope: &Envelope,
    chain: &Chain<'_>,
    token: &Token,
    signer: &Did,
    expectation: &Expectation<'_>,
) -> Result<(), Refusal> {
    let behaviour = expectation.behaviour;
    if envelope.behaviour != behaviour.as_str() {
        let message = format!("the envelope asks for {:?}, not for {behaviour}", envelope.behaviour);
        return Err(Refusal::explained(Reason::WrongBehaviour, message));
    }
    if token.action() != Action::Invoke {
        let what = format!("is a token to {}, not to invoke", token.action());
        return Err(chain.refuse(0, Reason::CapabilityMissing, what));
    }
    if token.subject() != signer {
        let what = format!("may be used by {}, and the envelope is from {signer}", token.subject());
        return Err(chain.refuse(0, Reason::SignerMismatch, what));
    }
    for (below, link) in chain.root_first() {
        if !is_implied(behaviour, link.capabilities()) {
            let given = link.capabilities().iter().map(Capability::as_str).collect::<Vec<_>>().join(", ");
            let what = format!("gives {given}, which does not include {behaviour}");
            return Err(chain.refuse(below, Reason::CapabilityMissing, what));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
