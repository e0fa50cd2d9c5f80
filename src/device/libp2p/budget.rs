//! How many bytes of messages may be in the middle of being read: so many over one connection, and so many over all, with
//! some that are each connection's own, so that peers which send without end leave the others room for what is short.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Over one connection: more than a device answers in at a time.
const A_CONNECTION: usize = 16 << 20;
/// How much of it is the connection's own.
const OWN: usize = 64 << 10;
/// Over all connections, beyond what is their own.
const SHARED: usize = 128 << 20;

/// What all connections share.
#[derive(Debug, Default)]
pub(super) struct Pool(AtomicUsize);

/// What one connection has.
#[derive(Debug, Default)]
pub(super) struct Share {
    pool: Arc<Pool>,
    held: AtomicUsize,
}

/// What one message has; given back when dropped.
#[derive(Debug)]
pub(super) struct Kept {
    share: Arc<Share>,
    bytes: usize,
}

impl Share {
    pub(super) fn of(pool: &Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { pool: pool.clone(), held: AtomicUsize::new(0) })
    }

    /// Room for a message of which nothing is here.
    pub(super) fn begin(self: &Arc<Self>) -> Kept {
        Kept { share: self.clone(), bytes: 0 }
    }

    fn set(&self, before: usize, after: usize) {
        self.held.store(after, Ordering::Relaxed);
        self.pool.0.fetch_sub(shared(before).saturating_sub(shared(after)), Ordering::Relaxed);
    }
}

/// How much of that many bytes is not the connection's own.
const fn shared(bytes: usize) -> usize {
    bytes.saturating_sub(OWN)
}

impl Kept {
    /// Makes room for more. The messages of one connection are read by one task, so no two of them grow at once.
    pub(super) fn grow(&mut self, by: usize) -> bool {
        let before = self.share.held.load(Ordering::Relaxed);
        let after = before + by;
        if after > A_CONNECTION {
            return false;
        }
        let more = shared(after) - shared(before);
        let take = |taken: usize| Some(taken + more).filter(|taken| *taken <= SHARED);
        if more > 0 && self.share.pool.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return false;
        }
        self.share.held.store(after, Ordering::Relaxed);
        self.bytes += by;
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let before = self.share.held.load(Ordering::Relaxed);
        self.share.set(before, before.saturating_sub(self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 16 << 10;

    fn fill(share: &Arc<Share>) -> (Kept, usize) {
        let mut kept = share.begin();
        let pieces = (0..100_000).take_while(|_| kept.grow(PIECE)).count();
        (kept, pieces * PIECE)
    }

    #[test]
    fn one_connection_has_so_much_and_gets_it_back() {
        let pool = Arc::default();
        let share = Share::of(&pool);
        let (kept, bytes) = fill(&share);
        assert_eq!(bytes, A_CONNECTION);
        assert_eq!(fill(&share).1, 0);
        drop(kept);
        assert_eq!((pool.0.load(Ordering::Relaxed), share.held.load(Ordering::Relaxed)), (0, 0));
        assert_eq!(fill(&share).1, A_CONNECTION);
    }

    #[test]
    fn greedy_connections_leave_each_other_its_own() {
        let pool = Arc::default();
        let greedy = (0..20).map(|_| fill(&Share::of(&pool))).collect::<Vec<_>>();
        assert_eq!(greedy.iter().map(|(_, bytes)| bytes).sum::<usize>(), SHARED + 20 * OWN);
        assert_eq!(fill(&Share::of(&pool)).1, OWN);
        drop(greedy);
        assert_eq!(fill(&Share::of(&pool)).1, A_CONNECTION);
    }
}
