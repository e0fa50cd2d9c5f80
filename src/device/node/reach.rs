//! What the node sees and does over the link by which it is reached.

use std::time::Duration;

use tokio::{
    sync::Semaphore,
    time::{self, Instant},
};

use crate::{
    capability::{Key, Nanos, Token},
    device::{
        actor::{BroadcastError, Broadcaster},
        dms::TokenList,
        libp2p::{Link, Spoiling, WeakLink},
    },
};

/// How long the answer to a ping may take.
const PING_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks whether it has come.
const LOOK: Duration = Duration::from_millis(20);
/// How long a connection that was asked for may take: less than who asks waits for the reply.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Connections made at a time because somebody asked for them.
const CONNECTING: usize = 4;

/// The link of a node. It is not kept running by this.
#[derive(Debug)]
pub(super) struct Reach {
    link: WeakLink,
    broadcaster: Broadcaster,
    spoiling: Spoiling,
    connecting: Semaphore,
}

/// Why something about the network could not be done; the text is what is answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("this node has no network")]
    NoNetwork,
    #[error("this node is not connected to {0:?}. Have it connect to that peer first")]
    NotConnected(String),
    #[error("{peer} took {took} ms to answer its last ping, longer than one second")]
    Slow { peer: String, took: u128 },
    #[error("{0} answered no ping within a second")]
    NoAnswer(String),
    #[error("{CONNECTING} connections are being made already. Ask again in a few seconds")]
    Busy,
    #[error(transparent)]
    Connect(#[from] crate::device::libp2p::ConnectError),
    #[error(transparent)]
    Broadcast(#[from] BroadcastError),
}

impl Reach {
    pub(super) fn new(link: &Link, key: Key, now: Nanos) -> Self {
        Self {
            link: link.downgrade(),
            broadcaster: Broadcaster::new(link, key, now),
            spoiling: link.spoiling().clone(),
            connecting: Semaphore::new(CONNECTING),
        }
    }

    /// What can be made to go wrong with the link.
    pub(super) const fn spoiling(&self) -> &Spoiling {
        &self.spoiling
    }

    /// Peer IDs of those who are connected, in order.
    pub(super) fn peers(&self) -> Vec<String> {
        let peers = self.link.upgrade().map(|link| link.peers()).unwrap_or_default();
        let mut peers: Vec<String> = peers.into_iter().map(|peer| peer.peer).collect();
        peers.sort();
        peers
    }

    /// How long the last ping of a connected peer took. The link pings all of them by itself; of one that has connected
    /// just now the first answer is awaited.
    pub(super) async fn ping(&self, peer: &str) -> Result<Duration, Unreached> {
        let begun = Instant::now();
        loop {
            let link = self.link.upgrade().ok_or(Unreached::NoNetwork)?;
            let found = link.peers().into_iter().find(|one| one.peer == peer);
            match found.ok_or_else(|| Unreached::NotConnected(peer.to_owned()))?.rtt {
                Some(rtt) if rtt <= PING_WITHIN => return Ok(rtt),
                Some(rtt) => return Err(Unreached::Slow { peer: peer.to_owned(), took: rtt.as_millis() }),
                None if begun.elapsed() >= PING_WITHIN => return Err(Unreached::NoAnswer(peer.to_owned())),
                None => time::sleep(LOOK).await,
            }
        }
    }

    /// Connects to an address. Whoever may ask for that cannot have many dialled at once.
    pub(super) async fn connect(&self, address: &str) -> Result<(), Unreached> {
        let Ok(_slot) = self.connecting.try_acquire() else { return Err(Unreached::Busy) };
        let link = self.link.upgrade().ok_or(Unreached::NoNetwork)?;
        Ok(link.connect(address, CONNECT_WITHIN).await?)
    }

    /// Tells everybody who listens what was taken back, with what others have granted beside the own right.
    pub(super) async fn tell_of_revocations(
        &self,
        tokens: TokenList,
        grants: &[Token],
        now: Nanos,
    ) -> Result<(), Unreached> {
        Ok(self.broadcaster.tell_of_revocations(tokens, grants, now).await?)
    }
}
