//! The rules that hold between the links of a chain, cheap ones apart from signatures.

use super::key;
use super::{Action, Capability, Did, Nanos, Reason, Refusal, RevocationKey, Token};

/// Most bytes that all signatures of a chain cover together. Eight links of a usual size cover a third of it.
const MAX_SIGNED: usize = 49_152;

/// A link and what its issuer signs.
pub(super) struct SignedLink<'a> {
    below: usize,
    link: &'a Token,
    bytes: Vec<u8>,
}

/// A token with the links above it, the leaf first.
pub(super) struct Chain<'a> {
    links: Vec<&'a Token>,
}

impl<'a> Chain<'a> {
    pub(super) fn of(token: &'a Token) -> Self {
        Self { links: token.links().collect() }
    }

    /// How many links there are.
    pub(super) const fn len(&self) -> usize {
        self.links.len()
    }

    /// A refusal that names the root.
    pub(super) fn refuse_root(&self, reason: Reason, what: impl std::fmt::Display) -> Refusal {
        self.refuse(self.links.len().saturating_sub(1), reason, what)
    }

    /// The links, the root first, each with the number of links below it.
    pub(super) fn root_first(&self) -> impl Iterator<Item = (usize, &'a Token)> {
        self.links.iter().copied().enumerate().rev()
    }

    /// Names the link that has `below` links below it: `link 2 of 3: did:key:… → did:key:…`.
    pub(super) fn name(&self, below: usize) -> String {
        let count = self.links.len();
        let number = count.saturating_sub(below);
        match self.links.get(below) {
            Some(link) => format!("link {number} of {count}: {} → {}", link.issuer(), link.subject()),
            None => format!("link {number} of {count}"),
        }
    }

    /// A refusal that names the link which has `below` links below it.
    pub(super) fn refuse(&self, below: usize, reason: Reason, what: impl std::fmt::Display) -> Refusal {
        Refusal::at(reason, self.name(below), what)
    }

    /// Refuses when any link has expired. A link is still valid at the moment of its expiry.
    pub(super) fn check_expiry(&self, now: Nanos) -> Result<(), Refusal> {
        match self.root_first().find(|(_, link)| link.expires() < now) {
            Some((below, link)) => Err(self.refuse(below, Reason::Expired, format!("expired at {}", link.expires()))),
            None => Ok(()),
        }
    }

    /// Checks what must hold between each link and the one above it, and the depth limits. `links_below` are counted
    /// as hanging below the leaf.
    pub(super) fn check_structure(&self, links_below: usize) -> Result<(), Refusal> {
        for (below, link) in self.root_first() {
            if let Some(above) = link.chain() {
                self.check_step(below, link, above)?;
            }
            let hanging = u64::try_from(below + links_below).unwrap_or(u64::MAX);
            if link.depth() > 0 && hanging > link.depth() {
                let what = format!("permits {} links below it, and there are {hanging}", link.depth());
                return Err(self.refuse(below, Reason::DepthExceeded, what));
            }
        }
        Ok(())
    }

    fn check_step(&self, below: usize, link: &Token, above: &Token) -> Result<(), Refusal> {
        let refuse = |reason, what: String| Err(self.refuse(below, reason, what));
        if above.action() != Action::Delegate {
            return refuse(Reason::NotDelegable, format!("hangs below a token to {}, not to delegate", above.action()));
        }
        if link.issuer() != above.subject() {
            return refuse(Reason::ChainBroken, format!("was issued by someone else than {}", above.subject()));
        }
        if above.expires() < link.expires() {
            let what = format!("expires at {}, after the link above it at {}", link.expires(), above.expires());
            return refuse(Reason::Outlives, what);
        }
        if above.audience().is_some() && link.audience() != above.audience() {
            return refuse(Reason::Widened, "names another audience than the link above it".to_owned());
        }
        if let Some(capability) = first_not_implied(link.capabilities(), above.capabilities()) {
            return refuse(Reason::Widened, format!("gives {capability}, which the link above it does not give"));
        }
        if let Some(topic) = first_not_implied(link.topics(), above.topics()) {
            return refuse(Reason::Widened, format!("gives the topic {topic}, which the link above it does not give"));
        }
        Ok(())
    }

    /// Refuses when any link was issued by or to somebody who is denied. The signer is the subject of the leaf.
    pub(super) fn check_denied(&self, denied: &dyn Fn(&Did) -> bool) -> Result<(), Refusal> {
        for (below, link) in self.root_first() {
            if let Some(did) = [link.issuer(), link.subject()].into_iter().find(|did| denied(did)) {
                return Err(self.refuse(below, Reason::Denied, format!("names {did}, whom this provider denies")));
            }
        }
        Ok(())
    }

    /// Refuses when any link was taken back.
    pub(super) fn check_revocations(&self, revoked: &dyn Fn(&RevocationKey) -> bool) -> Result<(), Refusal> {
        match self.root_first().find(|(_, link)| revoked(&link.revocation_key())) {
            Some((below, link)) => {
                Err(self.refuse(below, Reason::Revoked, format!("was revoked by {}", link.issuer())))
            }
            None => Ok(()),
        }
    }

    /// Checks the signature of every link, the root's first.
    pub(super) fn check_signatures(&self) -> Result<(), Refusal> {
        self.signed_links()?
            .into_iter()
            .try_for_each(|SignedLink { below, link, bytes }| self.check_signature(below, link, &bytes))
    }

    /// What each link signs, the root's first. Every link signs all above it, so the bytes are many more than the chain's.
    pub(super) fn signed_links(&self) -> Result<Vec<SignedLink<'a>>, Refusal> {
        let (mut above, mut total) = (String::new(), 0);
        let mut links = Vec::with_capacity(self.links.len());
        for (below, link) in self.root_first() {
            let (signed, whole) = link.signed_bytes_below(&above);
            total += signed.len();
            if total > MAX_SIGNED {
                let what = format!("is one too many of this size: more than {MAX_SIGNED} bytes would be hashed");
                return Err(self.refuse(below, Reason::TooLarge, what));
            }
            links.push(SignedLink { below, link, bytes: signed.into_bytes() });
            above = whole;
        }
        Ok(links)
    }

    /// Checks the signature of the last link alone.
    pub(super) fn check_last_signature(&self) -> Result<(), Refusal> {
        self.links.first().map_or(Ok(()), |link| self.check_signature(0, link, &link.signed_bytes()))
    }

    fn check_signature(&self, below: usize, link: &Token, signed: &[u8]) -> Result<(), Refusal> {
        if key::is_signed_by(link.issuer(), signed, &link.signature) {
            return Ok(());
        }
        let what = format!("was changed after signing, or was not signed by {}", link.issuer());
        Err(self.refuse(below, Reason::BadSignature, what))
    }

    /// How many links stand between the leaf and the deepest one (nearest to the root) that `did` issued.
    pub(super) fn distance_to_issuer(&self, did: &Did) -> Option<usize> {
        self.root_first().find(|(_, link)| link.issuer() == did).map(|(below, _)| below)
    }

    /// Whether `did` issued any link.
    pub(super) fn has_issuer(&self, did: &Did) -> bool {
        self.distance_to_issuer(did).is_some()
    }
}

/// Whether one of `granted` gives `wanted`.
pub(super) fn is_implied(wanted: &Capability, granted: &[Capability]) -> bool {
    granted.iter().any(|capability| capability.implies(wanted))
}

/// The first of `wanted` that none of `granted` gives.
pub(super) fn first_not_implied<'a>(wanted: &'a [Capability], granted: &[Capability]) -> Option<&'a Capability> {
    wanted.iter().find(|capability| !is_implied(capability, granted))
}
