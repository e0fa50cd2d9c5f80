//! Peers that send too much that is no message: cut off, and not let in again for a while.

use std::collections::VecDeque;
use std::time::Duration;

use libp2p::PeerId;
use tokio::time::Instant;

use super::tally::Tally;

/// Faults of one peer within [`WITHIN`] that are too many.
pub(super) const FAULTS: u32 = 64;
/// Broadcasts that are passed on for one neighbour within [`WITHIN`].
pub(super) const BROADCASTS: u32 = 256;
/// Broadcasts beyond which a neighbour does not slow down where it should.
const FLOOD: u32 = 4096;
const WITHIN: Duration = Duration::from_secs(10);
/// How long a peer is not let in.
const FOR: Duration = Duration::from_mins(5);
/// Peers that are kept out at a time.
const KEPT_OUT: usize = 1024;

pub(super) struct Abuse {
    faults: Tally,
    broadcasts: Tally,
    /// Who was cut off, and until when; the first at the front.
    kept_out: VecDeque<(Instant, PeerId)>,
}

/// What becomes of a broadcast that a neighbour brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    PassOn,
    Ignore,
    CutOff,
}

impl Abuse {
    pub(super) fn new() -> Self {
        Self { faults: Tally::new(WITHIN), broadcasts: Tally::new(WITHIN), kept_out: VecDeque::new() }
    }

    /// Counts a fault. Says whether the peer is to be cut off.
    pub(super) fn fault(&mut self, peer: PeerId, now: Instant) -> bool {
        self.faults.count(peer, now) == FAULTS
    }

    pub(super) fn broadcast(&mut self, peer: PeerId, now: Instant) -> Allowance {
        match self.broadcasts.count(peer, now) {
            ..=BROADCASTS => Allowance::PassOn,
            FLOOD.. => Allowance::CutOff,
            _ => Allowance::Ignore,
        }
    }

    /// Keeps a peer out from now on. Returns whom that lets in again, if memory is short.
    pub(super) fn keep_out(&mut self, peer: PeerId, now: Instant) -> Option<PeerId> {
        self.kept_out.push_back((now + FOR, peer));
        if self.kept_out.len() <= KEPT_OUT {
            return None;
        }
        self.kept_out.pop_front().map(|(_, first)| first)
    }

    /// When the next peer is let in again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.kept_out.front().map(|(until, _)| *until)
    }

    /// A peer whose time is over.
    pub(super) fn let_in(&mut self, now: Instant) -> Option<PeerId> {
        self.kept_out.pop_front_if(|(until, _)| *until <= now).map(|(_, peer)| peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_faults_in_a_short_time_are_too_many() {
        let (mut abuse, now) = (Abuse::new(), Instant::now());
        let (bad, slow) = (PeerId::random(), PeerId::random());
        let verdicts = (0..FAULTS).map(|_| abuse.fault(bad, now)).collect::<Vec<_>>();
        assert_eq!(verdicts.iter().position(|cut| *cut), Some(63));
        for number in 0..10 * FAULTS {
            assert!(!abuse.fault(slow, now + WITHIN.mul_f64(f64::from(number) / 60.0)));
        }
    }

    #[test]
    fn a_neighbour_is_slowed_down_before_it_is_cut_off() {
        let (mut abuse, now) = (Abuse::new(), Instant::now());
        let peer = PeerId::random();
        let allowed = (0..FLOOD).map(|_| abuse.broadcast(peer, now)).collect::<Vec<_>>();
        let first = |wanted| allowed.iter().position(|allowance| *allowance == wanted);
        let wanted = [Allowance::PassOn, Allowance::Ignore, Allowance::CutOff].map(first);
        assert_eq!(wanted, [Some(0), Some(256), Some(4095)]);
        assert_eq!(abuse.broadcast(peer, now + WITHIN), Allowance::PassOn);
    }

    #[test]
    fn who_is_kept_out_comes_in_again() {
        let (mut abuse, now) = (Abuse::new(), Instant::now());
        let peers: Vec<_> = (0..=KEPT_OUT).map(|_| PeerId::random()).collect();
        let early = peers.iter().filter_map(|peer| abuse.keep_out(*peer, now)).collect::<Vec<_>>();
        assert_eq!(early, peers[..1]);
        assert_eq!((abuse.next(), abuse.let_in(now)), (Some(now + FOR), None));
        let later = std::iter::from_fn(|| abuse.let_in(now + FOR)).collect::<Vec<_>>();
        assert_eq!(later, peers[1..]);
        assert_eq!(abuse.next(), None);
    }
}
