//! What was worked out before: keys of DIDs, and verdicts.
//!
//! Both are bounded, and neither changes an answer: a key depends on its DID alone, and a verdict is only given again for
//! the very bytes and question that it answered, while it would be the same.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::verdict::judge_with;
use super::{Capability, Did, DidError, Expectation, MAX_INVOCATION, Refusal, RevocationKey, Verdict};

/// Most DIDs that are remembered; then the memory begins anew.
const MAX_DIDS: usize = 4096;

/// DIDs that were read before, with their keys decompressed: that costs a tenth of checking a signature.
#[derive(Clone, Debug, Default)]
pub struct KnownDids(HashMap<String, Did>);

impl KnownDids {
    /// These DIDs, whose keys are at hand anyway.
    pub fn of<'a>(dids: impl IntoIterator<Item = &'a Did>) -> Self {
        Self(dids.into_iter().map(|did| (did.as_str().to_owned(), did.clone())).collect())
    }

    /// Reads a DID, see [`Did::parse`].
    ///
    /// # Errors
    /// [`DidError`], which is not remembered.
    pub fn parse(&mut self, text: &str) -> Result<Did, DidError> {
        if let Some(did) = self.0.get(text) {
            return Ok(did.clone());
        }
        let did = Did::parse(text)?;
        if self.0.len() >= MAX_DIDS {
            self.0.clear();
        }
        self.0.insert(text.to_owned(), did.clone());
        Ok(did)
    }
}

/// How often what every verdict rests on has changed. A caller takes it before it judges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Epochs {
    /// Of the revocations in force.
    pub revocations: u64,
    /// Of the anchors and of all else that the caller's expectation is made of beside owner and behaviour.
    pub anchors: u64,
}

/// Verdicts that were reached, by the SHA-256 of the exact bytes that were judged.
///
/// One is given again only to the same question about the same bytes, in the same epochs, until it ends, and while the
/// caller's anchors, revocations and denials still say so: what is saved is reading, structure and signatures.
/// Refusals are not kept: they are cheap, or somebody's wish to fill the cache. What is oldest goes when it is full.
#[derive(Debug)]
pub struct VerdictCache {
    kept: HashMap<[u8; 32], Kept>,
    oldest_first: VecDeque<[u8; 32]>,
    known: KnownDids,
    epochs: Epochs,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Kept {
    provider: Did,
    owner: Did,
    behaviour: Capability,
    verdict: Arc<Verdict>,
}

impl Kept {
    fn answers(&self, expectation: &Expectation<'_>) -> bool {
        let Self { provider, owner, behaviour, verdict } = self;
        provider == expectation.provider
            && owner == expectation.owner
            && behaviour == expectation.behaviour
            && expectation.now <= verdict.not_after
            && is_anchored(&verdict.links, expectation.anchors)
            && !verdict.links.iter().any(|link| {
                (expectation.revoked)(link) || (expectation.denied)(&link.issuer) || (expectation.denied)(&link.subject)
            })
    }

    /// About what it takes in memory.
    fn bytes(&self) -> usize {
        let Self { provider: _, owner: _, behaviour, verdict } = self;
        let links: usize = verdict.links.iter().map(|link| size_of_val(link) + link.nonce.len()).sum();
        size_of::<Self>()
            + size_of::<Verdict>()
            + 2 * size_of::<[u8; 32]>()
            + behaviour.as_str().len()
            + links
            + verdict.message.len()
    }
}

/// Whether an anchor issued the root, and none of them another link.
fn is_anchored(links: &[RevocationKey], anchors: &[Did]) -> bool {
    let mut issuers = links.iter().map(|link| anchors.contains(&link.issuer));
    issuers.next() == Some(true) && !issuers.any(|anchored| anchored)
}

impl VerdictCache {
    /// An empty cache that holds about `max_bytes` bytes at most.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            kept: HashMap::new(),
            oldest_first: VecDeque::new(),
            known: KnownDids::default(),
            epochs: Epochs::default(),
            bytes: 0,
            max_bytes,
        }
    }

    /// [`super::judge`], without checking anything again that was accepted before in the same epochs.
    ///
    /// # Errors
    /// What [`super::judge`] says.
    pub fn judge(
        &mut self,
        envelope: &[u8],
        expectation: &Expectation<'_>,
        epochs: Epochs,
    ) -> Result<Arc<Verdict>, Refusal> {
        if epochs != self.epochs {
            self.clear();
            self.epochs = epochs;
        }
        if envelope.len() > MAX_INVOCATION {
            return judge_with(envelope, expectation, &mut self.known).map(Arc::new);
        }
        let digest: [u8; 32] = Sha256::digest(envelope).into();
        match self.kept.get(&digest) {
            Some(kept) if kept.answers(expectation) => return Ok(Arc::clone(&kept.verdict)),
            Some(_) => self.forget(&digest),
            None => {}
        }
        let verdict = Arc::new(judge_with(envelope, expectation, &mut self.known)?);
        let Expectation { provider, anchors: _, owner, behaviour, revoked: _, denied: _, now: _ } = *expectation;
        let kept = Kept {
            provider: provider.clone(),
            owner: owner.clone(),
            behaviour: behaviour.clone(),
            verdict: Arc::clone(&verdict),
        };
        self.keep(digest, kept);
        Ok(verdict)
    }

    /// How many verdicts are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn keep(&mut self, digest: [u8; 32], kept: Kept) {
        let bytes = kept.bytes();
        if bytes > self.max_bytes {
            return;
        }
        while self.bytes + bytes > self.max_bytes {
            let Some(oldest) = self.oldest_first.pop_front() else { break };
            self.bytes -= self.kept.remove(&oldest).map_or(0, |kept| kept.bytes());
        }
        self.bytes += bytes;
        self.oldest_first.push_back(digest);
        self.kept.insert(digest, kept);
    }

    fn forget(&mut self, digest: &[u8; 32]) {
        if let Some(kept) = self.kept.remove(digest) {
            self.bytes -= kept.bytes();
            self.oldest_first.retain(|other| other != digest);
        }
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.oldest_first.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
