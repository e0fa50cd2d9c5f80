//! The token that an actor counter-signs in its answer: an invocation of exactly the continuation, hung on the delegation
//! that came with the request. It proves to who asked that the answer is one to the own request.

use super::{Action, Capability, Did, KnownDids, Nanos, Reason, Refusal, Token, parse_known_tokens};

/// Who asked whom, and where the answer is awaited.
#[derive(Clone, Copy, Debug)]
pub struct Awaited<'a> {
    /// Who asked, and issued the delegation.
    pub asker: &'a Did,
    /// Who was asked, and must have counter-signed it.
    pub asked: &'a Did,
    /// The continuation; nobody else knows it.
    pub continuation: &'a str,
}

/// Checks that one of the tokens of an answer is the asker's own delegation of the continuation, counter-signed by who was
/// asked, up to the asker's key. The envelope's own signature is another matter.
///
/// # Errors
/// [`Refusal`], when there is no such token.
pub fn check_countersigned(list: &[u8], awaited: &Awaited<'_>, now: Nanos) -> Result<(), Refusal> {
    let none = || refused(Reason::CapabilityMissing, awaited, "carries no token that it counter-signed");
    if list.is_empty() {
        return Err(none());
    }
    let mut first = None;
    for token in parse_known_tokens(list, &mut KnownDids::default())? {
        match check(&token, awaited, now) {
            Ok(()) => return Ok(()),
            Err(refusal) => first = first.or(Some(refusal)),
        }
    }
    Err(first.unwrap_or_else(none))
}

fn check(token: &Token, awaited: &Awaited<'_>, now: Nanos) -> Result<(), Refusal> {
    let Awaited { asker, asked, continuation } = awaited;
    let gives = |link: &Token| link.capabilities().iter().map(Capability::as_str).eq([*continuation]);
    let Some(own) = token.chain() else {
        return Err(refused(Reason::NotAnchored, awaited, "carries a token that does not hang on that of the asker"));
    };
    if own.chain().is_some() || own.issuer() != *asker || own.subject() != *asked || !gives(own) {
        return Err(refused(Reason::NotAnchored, awaited, "counter-signs a token that the asker did not send with it"));
    }
    let invokes = token.action() == Action::Invoke && token.topics().is_empty() && gives(token);
    if !invokes || token.issuer() != *asked || token.subject() != *asked || token.audience() != Some(asker) {
        return Err(refused(Reason::Widened, awaited, "counter-signs for something else than to answer"));
    }
    token.verify(now, &|_| false).map_err(|refusal| {
        let what = format!("carries a counter-signed token that does not hold: {}", refusal.message);
        refused(refusal.reason, awaited, what)
    })
}

fn refused(reason: Reason, awaited: &Awaited<'_>, what: impl std::fmt::Display) -> Refusal {
    Refusal::new(reason, None, format!("the answer of {} {what}", awaited.asked))
}

#[cfg(test)]
mod tests;
