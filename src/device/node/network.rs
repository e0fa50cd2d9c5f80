//! The node on the network: frames of a [`Link`] go in, and its replies go out over it.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Node, NodeConfig, NodeError};
use crate::device::{
    actor::OutboundFrame,
    dms::path::{ROOT_INBOX, TOPIC_HELLO, TOPIC_REVOCATION, TOPIC_STATUS},
    libp2p::{Link, LinkConfig},
};

/// How long a reply may take to be written.
const SEND_WINDOW: Duration = Duration::from_secs(10);
/// What it hears broadcasts of.
const TOPICS: [&str; 3] = [TOPIC_HELLO, TOPIC_STATUS, TOPIC_REVOCATION];
/// Replies on their way at a time, and as many waiting.
const UNDER_WAY: usize = 64;

/// A node that listens.
#[derive(Debug)]
pub struct RunningNode {
    node: Node,
    addresses: Vec<String>,
    link: Link,
    stop: CancellationToken,
    serving: JoinHandle<()>,
    sending: JoinHandle<()>,
}

impl RunningNode {
    /// Starts a node that listens on these multiaddresses.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start(config: NodeConfig, listen: Vec<String>) -> Result<Self, NodeError> {
        let key = config.key.clone();
        let inboxes = vec![ROOT_INBOX.to_owned()];
        let topics = Some(TOPICS.map(str::to_owned).to_vec());
        let (link, inbound) = Link::start(LinkConfig { key, listen, inboxes, topics }).await?;
        let addresses = link.listen_addresses().await;
        let node = match Node::open(config, addresses.clone()).await {
            Ok(node) => node,
            Err(error) => {
                link.stop().await;
                return Err(error);
            }
        };
        node.attach(&link);
        let (outbound, replies) = mpsc::channel(UNDER_WAY);
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (node, stop) = (node.clone(), stop.clone());
            async move { node.serve(inbound, outbound, stop).await }
        });
        let sending = tokio::spawn(send_all(link.clone(), replies));
        Ok(Self { node, addresses, link, stop, serving, sending })
    }

    /// The addresses on which it listens.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The node itself.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Its link.
    #[must_use]
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Stops it: children first, then what is to be sent, then the link. Deployments are taken up again at the next start.
    pub async fn stop(self) {
        let Self { node: _, addresses: _, link, stop, serving, sending } = self;
        stop.cancel();
        for task in [serving, sending] {
            if let Err(error) = task.await {
                tracing::error!(%error, "a part of the node broke");
            }
        }
        link.stop().await;
    }
}

/// Sends replies until there are no more to come.
async fn send_all(link: Link, mut replies: mpsc::Receiver<OutboundFrame>) {
    let slots = Semaphore::new(UNDER_WAY);
    let slots = std::sync::Arc::new(slots);
    let sending = TaskTracker::new();
    while let Some(OutboundFrame { peer, inbox, body, spoil }) = replies.recv().await {
        let Ok(slot) = std::sync::Arc::clone(&slots).acquire_owned().await else { break };
        let link = link.clone();
        sending.spawn(async move {
            // The peer is connected, or was a moment ago; a DMS, too, does not reply to one it cannot find.
            if let Err(error) = link.send_spoilt(&peer, &[], &inbox, body, SEND_WINDOW, spoil).await {
                tracing::debug!(peer, inbox, %error, "a reply was lost");
            }
            drop(slot);
        });
    }
    sending.close();
    sending.wait().await;
}
