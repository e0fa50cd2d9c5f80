//! Messages that have arrived and were not taken yet. Each peer has its own queue, the queues take turns, and none may
//! hold more than is left for the others: so one peer can neither fill the room nor make others wait for long.

use std::collections::{HashMap, VecDeque};

use libp2p::PeerId;

use super::link::InboundFrame;

/// Messages that may wait.
pub(super) const FRAMES: usize = 1024;
/// And their bytes.
const BYTES: usize = 64 << 20;

#[derive(Default)]
struct OfPeer {
    frames: VecDeque<InboundFrame>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Waiting {
    peers: HashMap<PeerId, OfPeer>,
    /// Peers of which something waits, who is next at the front.
    turns: VecDeque<PeerId>,
    frames: usize,
    bytes: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.frames == 0
    }

    pub(super) const fn len(&self) -> usize {
        self.frames
    }

    /// Takes a message in, unless its peer has its share.
    pub(super) fn put(&mut self, from: PeerId, frame: InboundFrame) -> Result<(), InboundFrame> {
        let length = frame.body.len();
        let own = self.peers.get(&from);
        let (own_frames, own_bytes) = own.map_or((0, 0), |own| (own.frames.len(), own.bytes));
        if own_frames >= FRAMES - self.frames || own_bytes + length > BYTES - self.bytes {
            return Err(frame);
        }
        let own = self.peers.entry(from).or_default();
        if own.frames.is_empty() {
            self.turns.push_back(from);
        }
        own.frames.push_back(frame);
        own.bytes += length;
        self.frames += 1;
        self.bytes += length;
        Ok(())
    }

    /// The next message: the oldest of the peer whose turn it is.
    pub(super) fn next(&mut self) -> Option<InboundFrame> {
        let peer = self.turns.pop_front()?;
        let own = self.peers.get_mut(&peer)?;
        let frame = own.frames.pop_front()?;
        let length = frame.body.len();
        own.bytes -= length;
        self.frames -= 1;
        self.bytes -= length;
        if own.frames.is_empty() {
            self.peers.remove(&peer);
        } else {
            self.turns.push_back(peer);
        }
        Some(frame)
    }

    /// Nobody will take them any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::super::link::Via;
    use super::*;

    fn frame(peer: PeerId, length: usize) -> InboundFrame {
        InboundFrame { peer: peer.to_string(), via: Via::Inbox("root".to_owned()), body: vec![0; length] }
    }

    fn fill(waiting: &mut Waiting, peer: PeerId, length: usize) -> usize {
        (0..2 * FRAMES).take_while(|_| waiting.put(peer, frame(peer, length)).is_ok()).count()
    }

    #[test]
    fn one_peer_never_fills_the_room() {
        for (length, half) in [(1, FRAMES / 2), (1 << 20, 32)] {
            let mut waiting = Waiting::default();
            assert_eq!(fill(&mut waiting, PeerId::random(), length), half);
            assert_eq!(fill(&mut waiting, PeerId::random(), length), half / 2);
            assert_eq!(fill(&mut waiting, PeerId::random(), length), half / 4);
        }
    }

    #[test]
    fn peers_take_turns_and_each_keeps_its_order() {
        let mut waiting = Waiting::default();
        let (many, few) = (PeerId::random(), PeerId::random());
        for (peer, length) in [(many, 1), (many, 2), (many, 3), (few, 4), (few, 5)] {
            waiting.put(peer, frame(peer, length)).unwrap();
        }
        let order = std::iter::from_fn(|| waiting.next()).map(|frame| frame.body.len()).collect::<Vec<_>>();
        assert_eq!(order, [1, 4, 2, 5, 3]);
        assert!(waiting.is_empty() && waiting.peers.is_empty() && waiting.turns.is_empty());
        assert_eq!((waiting.len(), waiting.bytes), (0, 0));
    }

    #[test]
    fn what_was_taken_makes_room() {
        let mut waiting = Waiting::default();
        let peer = PeerId::random();
        let most = fill(&mut waiting, peer, 7);
        waiting.next();
        waiting.next();
        assert_eq!(fill(&mut waiting, peer, 7), 2);
        while waiting.next().is_some() {}
        assert_eq!(fill(&mut waiting, peer, 7), most);
        waiting.clear();
        assert!(waiting.is_empty());
    }
}
