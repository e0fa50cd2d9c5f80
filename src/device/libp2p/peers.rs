//! Who is connected, and how far away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libp2p::PeerId;

/// A peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectedPeer {
    /// Its peer ID.
    pub peer: String,
    /// How long the answer to the last ping took; `None` until one has come.
    pub rtt: Option<Duration>,
}

/// Written by the task of a link, read by its handles.
#[derive(Debug, Default)]
pub(super) struct Peers(Mutex<HashMap<PeerId, Option<Duration>>>);

impl Peers {
    pub(super) fn connected(&self, peer: PeerId) {
        self.lock().entry(peer).or_default();
    }

    pub(super) fn pinged(&self, peer: PeerId, rtt: Duration) {
        // An answer may be told of after the loss of its connection.
        if let Some(last) = self.lock().get_mut(&peer) {
            *last = Some(rtt);
        }
    }

    pub(super) fn lost(&self, peer: PeerId) {
        self.lock().remove(&peer);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    pub(super) fn rtt(&self, peer: PeerId) -> Option<Duration> {
        self.lock().get(&peer).copied().flatten()
    }

    pub(super) fn all(&self) -> Vec<ConnectedPeer> {
        let one = |(peer, rtt): (&PeerId, &Option<Duration>)| ConnectedPeer { peer: peer.to_string(), rtt: *rtt };
        self.lock().iter().map(one).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Option<Duration>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
