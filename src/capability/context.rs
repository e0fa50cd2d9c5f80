//! DMS's own judgement of an incoming message, by a capability context.

use super::chain::{Chain, first_not_implied, is_implied};
use super::gojson::{self, Object};
use super::strict::{self, Members, Tree, malformed};
use super::token::{did_of, list_of, parse_known_tokens, write_did, write_list};
use super::{
    Action, ActorId, Capability, Did, Envelope, KnownDids, MAX_LINKS, Nanos, Reason, Refusal, RevocationKey, Token,
};

/// Largest context file that is read.
const MAX_FILE: usize = 1 << 20;

/// Whom a node trusts: the content of a DMS `.cap` file.
///
/// Nothing in it is believed for standing here: signatures and expiry of its tokens are checked where they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// The node itself.
    pub did: Did,
    /// Absolute trust: chains that begin at one of them are accepted for anything.
    pub roots: Vec<Did>,
    /// Input trust: delegations that say who may call for what.
    pub require: Vec<Token>,
    /// Output: what the node may present to others.
    pub provide: Vec<Token>,
    /// Revocations in force.
    pub revoke: Vec<Token>,
}

impl Context {
    /// One that trusts nobody but the node itself.
    #[must_use]
    pub const fn empty(did: Did) -> Self {
        Self { did, roots: Vec::new(), require: Vec::new(), provide: Vec::new(), revoke: Vec::new() }
    }

    /// Reads a context file, to judge by it: roots and tokens with keys that are not Ed25519 give nothing here and are left
    /// out, so a file of DMS is not to be replaced with what was read of it.
    ///
    /// # Errors
    /// [`Refusal`], when it or one of its tokens does not have the form that DMS writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let mut known = KnownDids::default();
        let mut members = Members::of(
            with_current_names(strict::read(bytes, MAX_FILE, "capability context")?),
            "capability context",
            &["did", "roots", "require", "provide", "revoke"],
        )?;
        let did = did_of(members.required("did")?, &mut known)?
            .ok_or_else(|| malformed("the capability context has no DID"))?;
        let roots = match members.optional("roots") {
            None | Some(Tree::Null) => Vec::new(),
            Some(Tree::List(roots)) => readable(roots.into_iter().map(|root| root_of(root, &mut known)))?,
            Some(_) => return Err(members.wrong("roots", "is not a list")),
        };
        let mut tokens = |name| match members.optional(name) {
            None => Ok(Vec::new()),
            Some(tree) => readable(list_of(tree, &mut known)?.into_iter()),
        };
        Ok(Self { did, roots, require: tokens("require")?, provide: tokens("provide")?, revoke: tokens("revoke")? })
    }

    /// Reads a context file and verifies every token in it. What has expired or was revoked is left out.
    ///
    /// # Errors
    /// [`Refusal`], when one of them cannot be trusted.
    pub fn load(bytes: &[u8], now: Nanos) -> Result<Self, Refusal> {
        let Self { did, roots, mut require, mut provide, mut revoke } = Self::parse(bytes)?;
        for tokens in [&mut require, &mut provide, &mut revoke] {
            tokens.retain(|token| token.not_after() >= now);
        }
        let mut context = Self { revoke, ..Self::empty(did.clone()) };
        require.retain(|token| context.check_revocations(token, now).is_ok());
        provide.retain(|token| context.check_revocations(token, now).is_ok());
        let revoke = std::mem::take(&mut context.revoke);
        context.extend(Self { did, roots, require, provide, revoke }, now)?;
        Ok(context)
    }

    /// Takes over the anchors of another context, each of them verified; all or nothing. Tokens that an anchor which is
    /// there already makes superfluous are left out, and so are those that a new revocation takes back.
    ///
    /// # Errors
    /// [`Refusal`], when one of them cannot be trusted; then nothing has changed.
    pub fn extend(&mut self, other: Self, now: Nanos) -> Result<(), Refusal> {
        let Self { did: _, roots, require, provide, revoke } = other;
        let mut next = self.clone();
        next.roots.extend(roots.into_iter().filter(|root| !self.roots.contains(root)));
        for token in revoke {
            check_action(&token, Action::Revoke)?;
            token.verify(now, &|_| false)?;
            add(&mut next.revoke, token);
        }
        for token in require {
            check_action(&token, Action::Delegate)?;
            token.verify(now, &|key| next.is_revoked(key, now))?;
            add(&mut next.require, token);
        }
        for token in provide {
            check_action(&token, Action::Delegate)?;
            if token.subject() != &next.did {
                let message = format!("{} may use the token to provide, not {}", token.subject(), next.did);
                return Err(Refusal::explained(Reason::SignerMismatch, message));
            }
            token.verify(now, &|key| next.is_revoked(key, now))?;
            add(&mut next.provide, token);
        }
        let Self { did: _, roots: _, require, provide, revoke: _ } = &mut next;
        let (old_require, old_provide) = (std::mem::take(require), std::mem::take(provide));
        next.require = old_require.into_iter().filter(|token| next.check_revocations(token, now).is_ok()).collect();
        next.provide = old_provide.into_iter().filter(|token| next.check_revocations(token, now).is_ok()).collect();
        *self = next;
        Ok(())
    }

    fn check_revocations(&self, token: &Token, now: Nanos) -> Result<(), Refusal> {
        Chain::of(token).check_revocations(&|key| self.is_revoked(key, now))
    }

    /// The context as DMS writes it.
    pub fn to_json(&self) -> Vec<u8> {
        let Self { did, roots, require, provide, revoke } = self;
        let mut out = String::new();
        Object::open(&mut out)
            .member("did", |out| write_did(out, Some(did)))
            .member("roots", |out| gojson::list(out, roots, |out, root| write_did(out, Some(root))))
            .member("require", |out| write_list(out, require))
            .member("provide", |out| write_list(out, provide))
            .member("revoke", |out| write_list(out, revoke))
            .close();
        out.into_bytes()
    }

    /// Decides, as a DMS node does, whether `envelope` may invoke `capability` here: it is addressed to this node and
    /// signed by its sender, and one of its tokens lets the sender do so. Upstream's Consume and Require in one, the
    /// signatures last.
    ///
    /// # Errors
    /// [`Refusal`]; a DMS node then stays silent.
    pub fn authorise(&self, envelope: &Envelope, capability: &Capability, now: Nanos) -> Result<(), Refusal> {
        let own = ActorId::of(&self.did);
        if envelope.to.id != own {
            let message = format!("the envelope is not addressed to {}", self.did);
            return Err(Refusal::explained(Reason::WrongRecipient, message));
        }
        let usage = Usage::Invocation { audience: &self.did };
        self.authorise_usage(envelope, &usage, capability, now)
    }

    /// The same for a broadcast on `topic`.
    ///
    /// # Errors
    /// [`Refusal`]; a DMS node then stays silent.
    pub fn authorise_broadcast(
        &self,
        envelope: &Envelope,
        topic: &Capability,
        capability: &Capability,
        now: Nanos,
    ) -> Result<(), Refusal> {
        if !envelope.is_broadcast() || envelope.topic.as_deref() != Some(topic.as_str()) {
            let message = format!("the envelope is not a broadcast on {topic}");
            return Err(Refusal::explained(Reason::WrongRecipient, message));
        }
        self.authorise_usage(envelope, &Usage::Broadcast { topic }, capability, now)
    }

    fn authorise_usage(
        &self,
        envelope: &Envelope,
        usage: &Usage<'_>,
        capability: &Capability,
        now: Nanos,
    ) -> Result<(), Refusal> {
        envelope.check_expiry(now)?;
        let sender = envelope.claimed_signer()?;
        envelope.signature()?;
        if sender != self.did || !matches!(usage, Usage::Invocation { .. }) {
            self.require(&envelope.capabilities, &sender, usage, std::slice::from_ref(capability), now)?;
        }
        envelope.check_signature(&sender)
    }

    /// Whether one token of a token list lets `sender` do any one of `capabilities`: upstream's Consume and Require. An
    /// empty list of capabilities is never given.
    ///
    /// # Errors
    /// The first [`Refusal`], when none of the tokens does.
    pub fn require(
        &self,
        list: &[u8],
        sender: &Did,
        usage: &Usage<'_>,
        capabilities: &[Capability],
        now: Nanos,
    ) -> Result<(), Refusal> {
        if list.is_empty() {
            return Err(Refusal::explained(Reason::CapabilityMissing, "the envelope carries no capability token"));
        }
        let tokens = parse_known_tokens(list, &mut KnownDids::of(self.roots.iter().chain([&self.did, sender])))?;
        let mut first = None;
        // Whoever sends many tokens with wrong signatures is not asked for all of them.
        let mut links_left = 2 * MAX_LINKS;
        'tried: for capability in capabilities {
            for token in &tokens {
                match self.check(token, sender, usage, capability, now) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => {
                        let spent = if refusal.reason == Reason::BadSignature { token.links().count() } else { 0 };
                        first = first.or(Some(refusal));
                        let Some(left) = links_left.checked_sub(spent) else { break 'tried };
                        links_left = left;
                    }
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            Refusal::explained(Reason::CapabilityMissing, "the envelope carries no capability token for this")
        }))
    }

    /// Whether `token` lets `sender` do this with `capability` here. Order: expiry, use, links, anchors, revocations, and
    /// the signatures last. Only a revocation that names a link is checked before them, lest a forged one counts.
    ///
    /// # Errors
    /// The first [`Refusal`] in this order; it names the link.
    pub fn check(
        &self,
        token: &Token,
        sender: &Did,
        usage: &Usage<'_>,
        capability: &Capability,
        now: Nanos,
    ) -> Result<(), Refusal> {
        let chain = Chain::of(token);
        chain.check_expiry(now)?;
        usage.check(&chain, token, sender, capability)?;
        chain.check_structure(usage.links_below())?;
        let trusted = self.trusts_issuer_of(&chain);
        let mut anchors = self.require.iter().filter(|anchor| self.covers(anchor, token, &chain, now)).peekable();
        if !trusted && anchors.peek().is_none() {
            return Err(self.not_anchored(&chain));
        }
        self.check_revocations(token, now)?;
        chain.check_signatures()?;
        if trusted || anchors.any(|anchor| self.is_genuine(anchor, now)) {
            return Ok(());
        }
        Err(self.not_anchored(&chain))
    }

    fn not_anchored(&self, chain: &Chain<'_>) -> Refusal {
        chain.refuse_root(
            Reason::NotAnchored,
            format!("is issued by no root of {} and covered by none of its require anchors", self.did),
        )
    }

    /// Whether this node or one of its roots issued any link.
    fn trusts_issuer_of(&self, chain: &Chain<'_>) -> bool {
        chain.has_issuer(&self.did) || self.roots.iter().any(|root| chain.has_issuer(root))
    }

    /// Whether a require anchor lets `token` in, if the anchor is genuine.
    fn covers(&self, anchor: &Token, token: &Token, chain: &Chain<'_>, now: Nanos) -> bool {
        let Some(distance) = chain.distance_to_issuer(anchor.subject()) else { return false };
        let distance = u64::try_from(distance).unwrap_or(u64::MAX);
        let anchor_chain = Chain::of(anchor);
        anchor.action() == Action::Delegate
            && anchor.expires() >= token.expires()
            && (anchor.depth() == 0 || distance <= anchor.depth())
            && (anchor.audience().is_none() || anchor.audience() == token.audience())
            && first_not_implied(token.capabilities(), anchor.capabilities()).is_none()
            && first_not_implied(token.topics(), anchor.topics()).is_none()
            && self.trusts_issuer_of(&anchor_chain)
            && anchor_chain.check_expiry(now).is_ok()
            && anchor_chain.check_structure(0).is_ok()
    }

    /// Whether an anchor was signed and not taken back.
    fn is_genuine(&self, anchor: &Token, now: Nanos) -> bool {
        self.check_revocations(anchor, now).is_ok() && Chain::of(anchor).check_signatures().is_ok()
    }

    fn is_revoked(&self, key: &RevocationKey, now: Nanos) -> bool {
        self.revoke.iter().any(|revocation| {
            revocation.action() == Action::Revoke
                && revocation.takes_back(key)
                && revocation.verify(now, &|_| false).is_ok()
        })
    }
}

fn check_action(token: &Token, action: Action) -> Result<(), Refusal> {
    if token.action() == action {
        return Ok(());
    }
    let message = format!("a token to {} stands where one to {action} belongs", token.action());
    Err(Refusal::explained(Reason::Malformed, message))
}

fn add(tokens: &mut Vec<Token>, token: Token) {
    if !tokens.iter().any(|other| makes_superfluous(other, &token)) {
        tokens.push(token);
    }
}

/// Whether `token` gives nothing that `other` does not give for at least as long.
fn makes_superfluous(other: &Token, token: &Token) -> bool {
    if token.action() == Action::Revoke {
        return other.revocation_key() == token.revocation_key() && other.expires() >= token.expires();
    }
    other.action() == token.action()
        && other.issuer() == token.issuer()
        && other.subject() == token.subject()
        && other.audience() == token.audience()
        && other.depth() == token.depth()
        && other.not_after() >= token.not_after()
        && first_not_implied(token.capabilities(), other.capabilities()).is_none()
        && first_not_implied(token.topics(), other.topics()).is_none()
}

/// What a token is used for.
#[derive(Clone, Copy, Debug)]
pub enum Usage<'a> {
    /// To ask the audience for something.
    Invocation {
        /// Who is asked.
        audience: &'a Did,
    },
    /// To pass it on to whom asks the audience: one more link must be permitted below it.
    Delegation {
        /// Who will be asked.
        audience: &'a Did,
    },
    /// To tell everybody on a topic.
    Broadcast {
        /// The topic.
        topic: &'a Capability,
    },
}

impl Usage<'_> {
    /// How many links will hang below the token when it is used.
    const fn links_below(&self) -> usize {
        match self {
            Self::Invocation { .. } | Self::Broadcast { .. } => 0,
            Self::Delegation { .. } => 1,
        }
    }

    fn check(&self, chain: &Chain<'_>, token: &Token, sender: &Did, capability: &Capability) -> Result<(), Refusal> {
        let refuse = |reason, what: String| Err(chain.refuse(0, reason, what));
        let action = match self {
            Self::Invocation { .. } => Action::Invoke,
            Self::Delegation { .. } => Action::Delegate,
            Self::Broadcast { .. } => Action::Broadcast,
        };
        if token.action() != action {
            return refuse(Reason::CapabilityMissing, format!("is a token to {}, not to {action}", token.action()));
        }
        if token.subject() != sender {
            let what = format!("may be used by {}, and the envelope is from {sender}", token.subject());
            return refuse(Reason::SignerMismatch, what);
        }
        if !is_implied(capability, token.capabilities()) {
            return refuse(Reason::CapabilityMissing, format!("does not give {capability}"));
        }
        match self {
            Self::Invocation { audience } | Self::Delegation { audience } => match token.audience() {
                Some(named) if named != *audience => {
                    refuse(Reason::WrongAudience, format!("is meant for {named}, not for {audience}"))
                }
                _ => Ok(()),
            },
            Self::Broadcast { topic } => {
                if token.audience().is_some() {
                    return refuse(Reason::WrongAudience, "names an audience, which no broadcast may".to_owned());
                }
                if !is_implied(topic, token.topics()) {
                    return refuse(Reason::CapabilityMissing, format!("does not give the topic {topic}"));
                }
                Ok(())
            }
        }
    }
}

/// What can be read. DMS itself ships a root with a key of another type, and all that rests on such keys gives nothing here.
fn readable<T>(items: impl Iterator<Item = Result<T, Refusal>>) -> Result<Vec<T>, Refusal> {
    items.filter(|item| !matches!(item, Err(refusal) if refusal.reason == Reason::UnsupportedKey)).collect()
}

fn root_of(tree: Tree<'_>, known: &mut KnownDids) -> Result<Did, Refusal> {
    did_of(tree, known)?.ok_or_else(|| malformed("a root of the capability context has no DID"))
}

/// Older releases of DMS wrote the members with other letter case.
fn with_current_names(tree: Tree<'_>) -> Tree<'_> {
    let Tree::Object(mut members) = tree else { return tree };
    for (name, _) in &mut members {
        if ["DID", "Roots", "Require", "Provide", "Revoke"].contains(&name.as_ref()) {
            name.to_mut().make_ascii_lowercase();
        }
    }
    Tree::Object(members)
}

#[cfg(test)]
mod tests;
