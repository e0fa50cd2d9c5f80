//! [`Desk`]: from a claim to a grant. It remembers which challenges were answered and who asked how often; the time, random
//! bytes and the provider's terms are given.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    challenge::{Challenger, Claim, Proved},
    grants::{Given, Offer, Wish, decide},
    once::{NotOnce, Once},
    rate::Rate,
};
use crate::{
    api::{
        Reason,
        door::{Challenge, ChallengeRequest, Declined, GrantAction, GrantRequest, NOTICE},
        names::is_label,
    },
    capability::{Action, Capability, Did, Key, Minting, Nanos, Token},
};

/// Challenges that were answered and have not expired.
const ANSWERED: usize = 1 << 16;
/// Askers that are remembered, of each kind.
const ASKERS: usize = 1 << 14;
/// What one DID may ask at once, and then in every span.
const OF_DID: (u32, Duration) = (100, Duration::from_millis(200));
/// The same for one address: many may share it.
const OF_ORIGIN: (u32, Duration) = (240, Duration::from_millis(50));

/// By what a claim is decided.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// The provider's key.
    pub key: &'a Key,
    /// What it offers.
    pub offers: &'a [Offer],
    /// Whom it denies.
    pub denied: &'a BTreeSet<Did>,
    /// From which namespaces it takes deployments.
    pub admits: &'a dyn Fn(&str) -> bool,
}

/// A grant that was made. It is not given before it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// What it is for.
    pub claim: Claim,
    /// The token.
    pub token: Token,
    /// When it was made.
    pub issued: Nanos,
    /// By which the provider may send notices to the owner.
    pub notice: Option<Token>,
}

/// Gives grants under one provider's key, while the process lives.
#[derive(Debug)]
pub struct Desk {
    challenger: Challenger,
    answered: Mutex<Once<[u8; 16]>>,
    by_did: Mutex<Rate<Did>>,
    by_origin: Mutex<Rate<String>>,
}

impl Desk {
    /// A desk where nobody has asked yet.
    #[must_use]
    pub fn new(challenger: Challenger) -> Self {
        Self {
            challenger,
            answered: Mutex::new(Once::new(ANSWERED)),
            by_did: Mutex::new(Rate::new(OF_DID.1, OF_DID.0, ASKERS)),
            by_origin: Mutex::new(Rate::new(OF_ORIGIN.1, OF_ORIGIN.0, ASKERS)),
        }
    }

    /// Counts a question from an address or peer.
    ///
    /// # Errors
    /// [`Reason::TooManyRequests`].
    pub fn ask_from(&self, origin: &str, now: Nanos) -> Result<(), Declined> {
        locked(&self.by_origin).ask(&origin.to_owned(), now).map_err(|wait| too_many(&format!("from {origin}"), wait))
    }

    /// Counts a question signed by a DID.
    ///
    /// # Errors
    /// [`Reason::TooManyRequests`].
    pub fn ask_by(&self, did: &Did, now: Nanos) -> Result<(), Declined> {
        locked(&self.by_did).ask(did, now).map_err(|wait| too_many(&format!("by {did}"), wait))
    }

    /// A challenge for who would be given what they ask for. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`Declined`].
    pub fn challenge(
        &self,
        message: &[u8],
        sender: &Did,
        policy: &Policy<'_>,
        nonce: [u8; 16],
        now: Nanos,
    ) -> Result<(Claim, Challenge), Declined> {
        let ChallengeRequest { did, namespace, actions } = read(message, "challenge")?;
        let did = Did::parse(&did).map_err(|error| {
            Declined::new(Reason::DidRefused, format!("the DID that asks for a grant can't be used: {error}"))
        })?;
        if did != *sender {
            let message = format!(
                "a grant is asked for {did}, and {sender} signed the request. Run `kubectl hosting login` with the key \
                 that shall have the grant"
            );
            return Err(Declined::new(Reason::SenderMismatch, message));
        }
        if !is_label(&namespace) {
            let message = format!("{namespace:?} is not the name of a namespace. Name one with `--namespace`");
            return Err(Declined::new(Reason::RequestMalformed, message));
        }
        let actions: Vec<GrantAction> = actions.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
        let Given { actions, .. } = given(policy, &did, &namespace, &actions)?;
        let claim = Claim { did, namespace, actions: actions.into_iter().collect() };
        Ok((claim.clone(), self.challenger.challenge(claim, nonce, now)))
    }

    /// The grant for a challenge that was answered rightly, for the first time. `nonce` must be fresh random bytes.
    ///
    /// # Errors
    /// [`Declined`].
    pub fn grant(
        &self,
        message: &[u8],
        sender: &Did,
        policy: &Policy<'_>,
        nonce: [u8; 12],
        now: Nanos,
    ) -> Result<Issued, Declined> {
        let GrantRequest { state, signature, notice } = read(message, "grant")?;
        let Proved { claim, nonce: challenge, expires } = self.challenger.verify(&state, &signature, sender, now)?;
        let notice = notice.map(|token| check_notice(&token, sender, policy.key.did(), now)).transpose()?;
        // What was promised with the challenge may not be offered any more.
        let given = given(policy, &claim.did, &claim.namespace, &claim.actions)?;
        let token = mint(policy.key, &claim, &given, nonce, now)?;
        locked(&self.answered).consume(challenge, expires, now).map_err(|refused| match refused {
            NotOnce::Used => Declined::new(
                Reason::ChallengeUsed,
                "the challenge was answered before, and counts once. Run `kubectl hosting login` again",
            ),
            NotOnce::Full => Declined::new(
                Reason::TooManyRequests,
                "more challenges were answered than the provider keeps in mind. Run `kubectl hosting login` again in a \
                 few minutes",
            ),
        })?;
        Ok(Issued { claim, token, issued: now, notice })
    }
}

fn given(policy: &Policy<'_>, did: &Did, namespace: &str, actions: &[GrantAction]) -> Result<Given, Declined> {
    let Policy { key: _, offers, denied, admits } = policy;
    decide(offers, denied, admits(namespace), &Wish { did, namespace, actions })
}

/// The grant. Of what the asker said there is only the DID that was proved, and a namespace and actions that the provider
/// offers; to whom it is addressed, how far it reaches and for how long is the provider's, and nothing hangs above it.
fn mint(key: &Key, claim: &Claim, given: &Given, nonce: [u8; 12], now: Nanos) -> Result<Token, Declined> {
    let Given { actions, lifetime, depth } = given;
    let failed = |cause: String| {
        Declined::new(Reason::RequestMalformed, format!("the grant could not be written down: {cause}"))
    };
    let capability =
        |action: &GrantAction| Capability::parse(&format!("/hosting/{}/{}", claim.namespace, action.as_str()));
    let capabilities = actions.iter().map(capability).collect::<Result<_, _>>();
    let minting = Minting {
        subject: claim.did.clone(),
        audience: Some(key.did().clone()),
        capabilities: capabilities.map_err(|error| failed(error.to_string()))?,
        topics: Vec::new(),
        expires: now.plus(*lifetime),
        depth: *depth,
        nonce,
    };
    Token::delegate(key, minting, None).map_err(|error| failed(error.to_string()))
}

/// A delegation by which `owner` lets the provider send notices, and nothing else.
fn check_notice(token: &Value, owner: &Did, provider: &Did, now: Nanos) -> Result<Token, Declined> {
    let refused = |cause: String| {
        let message = format!("the delegation for notices can't be used: {cause}. Make one anew, or leave it out");
        Declined::new(Reason::RequestMalformed, message)
    };
    let token = Token::parse(token.to_string().as_bytes()).map_err(|refusal| refused(refusal.to_string()))?;
    let is_notice = |capability: &Capability| capability.as_str() == NOTICE;
    let fits = token.action() == Action::Delegate
        && token.chain().is_none()
        && token.issuer() == owner
        && token.audience() == Some(owner)
        && token.subject() == provider
        && token.topics().is_empty()
        && token.capabilities().iter().all(is_notice);
    if !fits {
        return Err(refused(format!("it must be from {owner} to {provider}, for use at {owner}, of {NOTICE} alone")));
    }
    token.verify(now, &|_| false).map_err(|refusal| refused(refusal.to_string()))?;
    Ok(token)
}

/// Reads the payload of a request; nothing unknown may be in it.
///
/// # Errors
/// [`Reason::RequestMalformed`].
pub fn read<T: DeserializeOwned>(message: &[u8], what: &str) -> Result<T, Declined> {
    serde_json::from_slice(message).map_err(|error| {
        let message =
            format!("the request of a {what} can't be read: {error}. Use a `kubectl hosting` of this version");
        Declined::new(Reason::RequestMalformed, message)
    })
}

fn too_many(whose: &str, wait: Duration) -> Declined {
    let message = format!("too many requests came {whose}. Ask again in {} s", wait.as_secs() + 1);
    Declined::new(Reason::TooManyRequests, message)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change is one call, so it is whole even if a thread panicked.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
