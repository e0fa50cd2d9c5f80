//! Verdicts that were reached before. Every pass judges every kept revision anew; most were judged a moment ago.

use std::sync::{Arc, Mutex, PoisonError};

use super::revocation::RevocationBook;
use crate::capability::{Epochs, Expectation, Refusal, Verdict, VerdictCache};

/// About as much as ten thousand revisions take.
const BYTES: usize = 16 << 20;

/// The verdicts of one operator, whose anchor stays the same while it runs.
pub struct Verdicts(Mutex<VerdictCache>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Mutex::new(VerdictCache::new(BYTES)))
    }
}

impl Verdicts {
    /// The verdict over a signed invocation, see [`crate::capability::judge`].
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(
        &self,
        revocations: &RevocationBook,
        envelope: &[u8],
        expectation: &Expectation<'_>,
    ) -> Result<Arc<Verdict>, Refusal> {
        // Before the verdict: what is revoked meanwhile belongs to the next epoch.
        let epochs = Epochs { revocations: revocations.epoch(), anchors: 0 };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).judge(envelope, expectation, epochs)
    }
}
