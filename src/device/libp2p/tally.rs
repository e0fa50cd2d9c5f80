//! How often each peer did something lately, in bounded memory.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

/// Peers that are remembered; of more, those whose time is over are forgotten, and then those who did it least.
const PEERS: usize = 4096;

/// Counts over a while that begins with the first.
pub(super) struct Tally {
    within: Duration,
    peers: HashMap<PeerId, (Instant, u32)>,
}

impl Tally {
    pub(super) fn new(within: Duration) -> Self {
        Self { within, peers: HashMap::new() }
    }

    /// Counts one, and says how many it makes.
    pub(super) fn count(&mut self, peer: PeerId, now: Instant) -> u32 {
        if self.peers.len() >= PEERS && !self.peers.contains_key(&peer) {
            self.forget(now);
        }
        let (begun, count) = self.peers.entry(peer).or_insert((now, 0));
        if now.duration_since(*begun) >= self.within {
            (*begun, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count
    }

    fn forget(&mut self, now: Instant) {
        let within = self.within;
        self.peers.retain(|_, (begun, _)| now.duration_since(*begun) < within);
        if self.peers.len() >= PEERS {
            let mut counts = self.peers.values().map(|(_, count)| *count).collect::<Vec<_>>();
            let (_, middle, _) = counts.select_nth_unstable(PEERS / 2);
            let middle = *middle;
            self.peers.retain(|_, (_, count)| *count > middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHILE: Duration = Duration::from_secs(10);

    #[test]
    fn each_peer_is_counted_for_a_while() {
        let (mut tally, now) = (Tally::new(WHILE), Instant::now());
        let (one, other) = (PeerId::random(), PeerId::random());
        assert_eq!([0, 1, 9].map(|second| tally.count(one, now + Duration::from_secs(second))), [1, 2, 3]);
        assert_eq!(tally.count(other, now + WHILE), 1);
        assert_eq!(tally.count(one, now + WHILE), 1, "the while is over");
    }

    #[test]
    fn memory_is_bounded_and_the_worst_is_remembered() {
        let (mut tally, now) = (Tally::new(WHILE), Instant::now());
        let worst = PeerId::random();
        for _ in 0..3 {
            tally.count(worst, now);
        }
        for _ in 0..2 * PEERS {
            tally.count(PeerId::random(), now);
            assert!(tally.peers.len() <= PEERS);
        }
        assert_eq!(tally.count(worst, now), 4);
    }
}
