//! Who may send now: so many messages at a time to one peer, and so many overall, with some that are each peer's own, so
//! that peers which take nothing leave the others theirs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::PeerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Messages under way to one peer at a time. A DMS resets streams above 64.
pub(super) const A_PEER: usize = 32;
/// How many of these need no leave of anybody else.
const OWN: usize = 4;
/// Messages under way beyond those that are the peers' own, to all together.
const SHARED: usize = 512;
/// When so many peers are known, those that are not sent to are forgotten.
const MANY: usize = 1024;

#[derive(Debug)]
struct OfPeer {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// The slots of one link.
#[derive(Debug)]
pub(super) struct Slots {
    shared: Arc<Semaphore>,
    peers: Mutex<HashMap<PeerId, Arc<OfPeer>>>,
}

/// Leave to send one message; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    _peer: Arc<OfPeer>,
    _of_all: Option<OwnedSemaphorePermit>,
    _of_own_or_shared: Option<OwnedSemaphorePermit>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { shared: Arc::new(Semaphore::new(SHARED)), peers: Mutex::default() }
    }

    /// Waits for leave to send one message to this peer.
    pub(super) async fn take(&self, peer: PeerId) -> Slot {
        let slots = self.of(peer);
        // The semaphores are never closed, so each gives a permit.
        let of_all = Arc::clone(&slots.all).acquire_owned().await.ok();
        let of_own_or_shared = tokio::select! {
            biased;
            permit = Arc::clone(&slots.own).acquire_owned() => permit.ok(),
            permit = Arc::clone(&self.shared).acquire_owned() => permit.ok(),
        };
        Slot { _peer: slots, _of_all: of_all, _of_own_or_shared: of_own_or_shared }
    }

    fn of(&self, peer: PeerId) -> Arc<OfPeer> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if peers.len() >= MANY {
            peers.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let new = || Arc::new(OfPeer { all: Arc::new(Semaphore::new(A_PEER)), own: Arc::new(Semaphore::new(OWN)) });
        peers.entry(peer).or_insert_with(new).clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn take(slots: &Slots, peer: PeerId, most: usize) -> Vec<Slot> {
        std::iter::from_fn(|| slots.take(peer).now_or_never()).take(most).collect()
    }

    #[test]
    fn a_peer_has_so_many_and_gets_them_back() {
        let slots = Slots::new();
        let peer = PeerId::random();
        let mut held = take(&slots, peer, 100);
        assert_eq!(held.len(), A_PEER);
        held.pop();
        assert_eq!(take(&slots, peer, 100).len(), 1);
        drop(held);
        assert_eq!(take(&slots, peer, 100).len(), A_PEER);
    }

    #[test]
    fn peers_that_take_nothing_leave_others_their_own() {
        let slots = Slots::new();
        let stuck: Vec<_> = (0..40).map(|_| take(&slots, PeerId::random(), 100)).collect();
        assert_eq!(stuck.iter().map(Vec::len).sum::<usize>(), SHARED + 40 * OWN);
        let peer = PeerId::random();
        let held = take(&slots, peer, 100);
        assert_eq!(held.len(), OWN);
        drop(stuck);
        assert_eq!(take(&slots, peer, 100).len(), A_PEER - OWN);
    }

    #[test]
    fn peers_that_are_not_sent_to_are_forgotten() {
        let slots = Slots::new();
        let busy = PeerId::random();
        let held = take(&slots, busy, 1);
        for _ in 0..2 * MANY {
            drop(take(&slots, PeerId::random(), 1));
        }
        assert!(slots.peers.lock().unwrap().len() <= MANY);
        assert_eq!(take(&slots, busy, 100).len(), A_PEER - 1);
        drop(held);
    }
}
