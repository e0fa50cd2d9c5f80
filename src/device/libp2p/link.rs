//! [`Link`]: a handle to a running swarm, by which messages are sent; those that arrive come over a channel.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::behaviour::Opening;
use super::counters::{Dropped, LinkCounters};
use super::frame::MAX_BODY;
pub use super::frame::MAX_BODY_SENT;
use super::gossip;
use super::peers::{ConnectedPeer, Peers};
use super::slots::Slots;
use super::spoil::{Spoil, Spoiling};
use super::swarm::{self, Behaviour};
use super::task::{Command, Letter, Outcome, Task};
use crate::capability::{Key, Nanos};

/// Messages that can be taken at once; more wait in queues by peer.
const ARRIVED: usize = 32;
const COMMANDS: usize = 256;
const LISTEN_WITHIN: Duration = Duration::from_secs(10);

/// What a link is started with.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// The key: libp2p identity, and so the peer ID.
    pub key: Key,
    /// Multiaddresses to listen on; none for a client that only dials.
    pub listen: Vec<String>,
    /// Inboxes that messages are taken for, at least one: `root`, `user-…`.
    pub inboxes: Vec<String>,
    /// Topics whose broadcasts are taken and passed on to others; `None` takes no part in broadcasts, neither way.
    pub topics: Option<Vec<String>>,
}

/// How a message came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// For one inbox, over a stream of its own.
    Inbox(String),
    /// For all who listen to a topic.
    Topic(String),
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inbox(inbox) => write!(f, "inbox {inbox}"),
            Self::Topic(topic) => write!(f, "topic {topic}"),
        }
    }
}

/// A message that arrived.
#[derive(Clone, PartialEq, Eq)]
pub struct InboundFrame {
    /// Peer ID of who sent it: proved by the handshake of its connection, or by its signature over what goes to a topic.
    pub peer: String,
    /// How it came.
    pub via: Via,
    /// The message, an envelope as a rule.
    pub body: Vec<u8>,
}

impl fmt::Debug for InboundFrame {
    /// Without the message, which may hold what a deployment is told in secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InboundFrame({} from {}, {} bytes)", self.via, self.peer, self.body.len())
    }
}

/// Why a link could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No inbox, or one whose name cannot be part of a protocol name.
    #[error("{name:?} is no name of an inbox: letters, digits, '.', '_' and '-' are allowed, and one inbox is needed")]
    Inbox {
        /// The name.
        name: String,
    },
    /// Not a multiaddress.
    #[error("{address:?} is not a multiaddress such as /ip4/0.0.0.0/tcp/9000: {cause}")]
    Address {
        /// The text.
        address: String,
        /// What is wrong.
        cause: String,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        cause: String,
    },
    /// The transport could not be set up.
    #[error("the libp2p transport could not be set up")]
    Transport(#[source] std::io::Error),
}

/// Why a message was not written whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No byte of it left: sending it again is safe.
    #[error("nothing was sent: {cause}")]
    NotSent {
        /// What stood in the way.
        cause: String,
    },
    /// Some or all of it may have arrived.
    #[error("it is not known whether the message arrived: {cause}")]
    Unknown {
        /// What happened.
        cause: String,
    },
}

impl SendError {
    fn not_sent(cause: impl Into<String>) -> Self {
        Self::NotSent { cause: cause.into() }
    }
}

/// Why nobody was told a broadcast.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No connected peer listens to the topic.
    #[error("no connected node listens to {topic}. Connect to one and publish again")]
    NoListener {
        /// The topic.
        topic: String,
    },
    /// Nodes would refuse it.
    #[error(
        "nodes would refuse this message to {topic}: {cause}. Publish a signed broadcast to this topic that has not expired"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// It could not be handed to any peer.
    #[error("the message to {topic} could not be sent: {cause}. Publish it again in a while")]
    NotSent {
        /// The topic.
        topic: String,
        /// What stood in the way.
        cause: String,
    },
}

/// A handle to a running swarm. When the last one is dropped, the swarm stops.
#[derive(Clone, Debug)]
pub struct Link {
    shared: Arc<Shared>,
}

/// A handle that does not keep the swarm running.
#[derive(Clone, Debug)]
pub(in crate::device) struct WeakLink(Weak<Shared>);

impl WeakLink {
    pub(in crate::device) fn upgrade(&self) -> Option<Link> {
        Some(Link { shared: self.0.upgrade()? })
    }
}

#[derive(Debug)]
struct Shared {
    peer_id: String,
    inboxes: Vec<String>,
    commands: mpsc::Sender<Command>,
    slots: Slots,
    peers: Arc<Peers>,
    counters: Arc<LinkCounters>,
    spoiling: Spoiling,
}

impl Link {
    /// Starts a swarm and returns a handle to it and the messages that arrive. Returns once it listens on every address
    /// of the configuration.
    ///
    /// # Errors
    /// [`LinkError`], when the configuration is wrong or an address cannot be listened on.
    pub async fn start(config: LinkConfig) -> Result<(Self, mpsc::Receiver<InboundFrame>), LinkError> {
        let LinkConfig { key, listen, inboxes, topics } = config;
        check_inboxes(&inboxes)?;
        let spoiling = Spoiling::default();
        let mut swarm =
            swarm::build(&identity(&key)?, &inboxes, topics.as_deref(), &spoiling).map_err(LinkError::Transport)?;
        for address in listen {
            listen_on(&mut swarm, &address).await?;
        }
        let (frames, arrived) = mpsc::channel(ARRIVED);
        let (commands, orders) = mpsc::channel(COMMANDS);
        let counters = Arc::new(LinkCounters::default());
        let peer_id = swarm.local_peer_id().to_string();
        let peers = Arc::new(Peers::default());
        tokio::spawn(Task::new(swarm, orders, frames, peers.clone(), counters.clone()).run());
        let slots = Slots::new();
        Ok((
            Self { shared: Arc::new(Shared { peer_id, inboxes, commands, slots, peers, counters, spoiling }) },
            arrived,
        ))
    }

    /// The own peer ID.
    pub fn peer_id(&self) -> &str {
        &self.shared.peer_id
    }

    /// The inboxes that messages are taken for; at least one.
    pub fn inboxes(&self) -> &[String] {
        &self.shared.inboxes
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Arc<LinkCounters> {
        &self.shared.counters
    }

    /// What can be made to go wrong.
    pub fn spoiling(&self) -> &Spoiling {
        &self.shared.spoiling
    }

    /// The addresses that are listened on, with the ports that were assigned.
    pub async fn listen_addresses(&self) -> Vec<String> {
        let (answer, addresses) = oneshot::channel();
        self.ask(Command::ListenAddresses { answer }).await;
        addresses.await.unwrap_or_default()
    }

    /// Whether there is a connection to this peer.
    pub async fn connected(&self, peer: &str) -> bool {
        let Ok(peer) = peer.parse() else { return false };
        let (answer, connected) = oneshot::channel();
        self.ask(Command::IsConnected { peer, answer }).await;
        connected.await.unwrap_or_default()
    }

    /// How long the last ping of this peer took; `None` when it is not connected or has answered none yet.
    pub fn rtt(&self, peer: &str) -> Option<Duration> {
        self.shared.peers.rtt(peer.parse().ok()?)
    }

    /// The peers that are connected now.
    pub fn peers(&self) -> Vec<ConnectedPeer> {
        self.shared.peers.all()
    }

    /// Sends a message of at most [`MAX_BODY_SENT`] bytes to an inbox of a peer, connecting first if need be. `addresses`
    /// may be empty for a peer that is connected. Success means written, not read: only a reply proves anything.
    ///
    /// To an inbox that was there before on the same connection the message goes at once. Where it matters to know that
    /// a message was refused and not taken, use [`Self::send_asking`].
    ///
    /// # Errors
    /// [`SendError`], which says whether the message can have left.
    pub async fn send(
        &self,
        peer: &str,
        addresses: &[String],
        inbox: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_opening((peer, addresses), inbox, body, Opening::Assumed, timeout, Spoil::None).await
    }

    /// The same, spoilt on its way. Success means that it went wrong as it should.
    ///
    /// # Errors
    /// [`SendError`].
    pub async fn send_spoilt(
        &self,
        peer: &str,
        addresses: &[String],
        inbox: &str,
        body: Vec<u8>,
        timeout: Duration,
        spoil: Spoil,
    ) -> Result<(), SendError> {
        self.send_opening((peer, addresses), inbox, body, Opening::Asked, timeout, spoil).await
    }

    /// As [`Self::send`], but asks the peer for the inbox before a byte of the message leaves.
    ///
    /// # Errors
    /// [`SendError`], which says whether the message can have left.
    pub async fn send_asking(
        &self,
        peer: &str,
        addresses: &[String],
        inbox: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<(), SendError> {
        self.send_opening((peer, addresses), inbox, body, Opening::Asked, timeout, Spoil::None).await
    }

    pub(super) async fn send_opening(
        &self,
        (peer, addresses): (&str, &[String]),
        inbox: &str,
        body: Vec<u8>,
        opening: Opening,
        timeout: Duration,
        spoil: Spoil,
    ) -> Result<(), SendError> {
        let deadline = Instant::now() + timeout;
        let peer: PeerId =
            peer.parse().map_err(|error| SendError::not_sent(format!("{peer:?} is no peer ID: {error}")))?;
        let addresses = addresses.iter().map(|text| address_of(text, peer)).collect::<Result<Vec<_>, _>>()?;
        if body.len() > MAX_BODY_SENT {
            return Err(SendError::not_sent(format!(
                "the message has {} bytes, more than {MAX_BODY_SENT}",
                body.len()
            )));
        }
        let Ok(_slot) = timeout_at(deadline, self.shared.slots.take(peer)).await else {
            return Err(SendError::not_sent("too many messages to it are under way already"));
        };
        let letter = Arc::new(Letter { peer, inbox: inbox.to_owned(), body, opening, spoil });
        loop {
            let (done, sent) = oneshot::channel();
            let (letter, addresses) = (letter.clone(), addresses.clone());
            let within = deadline.saturating_duration_since(Instant::now());
            if !self.ask(Command::Send { letter, addresses: addresses.clone(), within, done }).await {
                return Err(SendError::not_sent("the link has stopped"));
            }
            match sent.await {
                Ok(Outcome::Sent) => return Ok(()),
                Ok(Outcome::Failed(error)) => return Err(error),
                Ok(Outcome::NotConnected) => self.dial(peer, addresses, deadline).await?,
                Err(_) => return Err(SendError::Unknown { cause: "the link has stopped".to_owned() }),
            }
        }
    }

    /// Publishes a signed broadcast to those who listen to a topic. Success means that at least one connected peer is
    /// being told.
    ///
    /// # Errors
    /// [`PublishError`]. Nobody was told then.
    pub async fn publish(&self, topic: &str, body: Vec<u8>) -> Result<(), PublishError> {
        let refused = |cause| PublishError::Refused { topic: topic.to_owned(), cause };
        if body.len() > MAX_BODY {
            return Err(refused("it is longer than 1 MiB"));
        }
        gossip::check(&body, topic, Nanos::from_timestamp(jiff::Timestamp::now())).map_err(|dropped| {
            refused(match dropped {
                Dropped::Undecodable => "it is not an envelope",
                Dropped::ForeignTopic => "it is not a broadcast to this topic",
                Dropped::Expired => "it has expired",
                _ => "its signature is missing or wrong",
            })
        })?;
        self.publish_unchecked(topic, body).await
    }

    pub(super) async fn publish_unchecked(&self, topic: &str, body: Vec<u8>) -> Result<(), PublishError> {
        let (done, published) = oneshot::channel();
        self.ask(Command::Publish { topic: topic.to_owned(), body, done }).await;
        published.await.unwrap_or_else(|_| {
            Err(PublishError::NotSent { topic: topic.to_owned(), cause: "the link has stopped".to_owned() })
        })
    }

    pub(super) async fn dial(
        &self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        deadline: Instant,
    ) -> Result<(), SendError> {
        let (done, connected) = oneshot::channel();
        self.ask(Command::Connect { peer, addresses, done }).await;
        match timeout_at(deadline, connected).await {
            Ok(Ok(result)) => result.map_err(SendError::not_sent),
            Ok(Err(_)) => Err(SendError::not_sent("the link has stopped")),
            Err(_) => Err(SendError::not_sent("no connection was made in time")),
        }
    }

    /// Says that a reply of this peer is overdue. If nothing at all was heard of it, its connection is closed.
    pub(super) async fn suspect(&self, peer: &str) {
        if let Ok(peer) = peer.parse() {
            self.ask(Command::Suspect { peer }).await;
        }
    }

    /// Says that something this peer sent was dropped. A peer that gives cause for that too often is cut off.
    pub(in crate::device) async fn complain(&self, peer: &str, about: Dropped) {
        if let (Ok(peer), true) = (peer.parse(), about.is_fault()) {
            self.ask(Command::Complain { peer }).await;
        }
    }

    /// Stops the swarm, whatever other handles there are, and waits until its connections are closed.
    pub async fn stop(self) {
        let (done, stopped) = oneshot::channel();
        if self.ask(Command::Stop { done }).await {
            let _ = stopped.await;
        }
    }

    pub(in crate::device) fn downgrade(&self) -> WeakLink {
        WeakLink(Arc::downgrade(&self.shared))
    }

    pub(super) async fn ask(&self, command: Command) -> bool {
        self.shared.commands.send(command).await.is_ok()
    }
}

/// Whether an inbox can have this name: it is part of the name of a protocol.
#[must_use]
pub fn is_inbox(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !name.is_empty() && name.len() <= 256 && name.bytes().all(allowed)
}

fn check_inboxes(inboxes: &[String]) -> Result<(), LinkError> {
    match inboxes.iter().find(|name| !is_inbox(name)) {
        Some(name) => Err(LinkError::Inbox { name: name.clone() }),
        None if inboxes.is_empty() => Err(LinkError::Inbox { name: String::new() }),
        None => Ok(()),
    }
}

fn identity(key: &Key) -> Result<Keypair, LinkError> {
    // `ed25519_from_bytes` wipes what it is given.
    Keypair::ed25519_from_bytes(*key.expose_seed()).map_err(|error| LinkError::Transport(std::io::Error::other(error)))
}

fn multiaddress(address: &str) -> Result<Multiaddr, LinkError> {
    let wrong =
        |error: libp2p::multiaddr::Error| LinkError::Address { address: address.to_owned(), cause: error.to_string() };
    address.parse().map_err(wrong)
}

/// The address of this peer, which may end in its peer ID.
fn address_of(text: &str, peer: PeerId) -> Result<Multiaddr, SendError> {
    let mut address = multiaddress(text).map_err(|error| SendError::not_sent(error.to_string()))?;
    let Some(Protocol::P2p(named)) = address.iter().last() else { return Ok(address) };
    if named != peer {
        let cause = format!("{text} is the address of another node than {peer}. Correct the address, or the DID");
        return Err(SendError::not_sent(cause));
    }
    address.pop();
    Ok(address)
}

async fn listen_on(swarm: &mut Swarm<Behaviour>, address: &str) -> Result<(), LinkError> {
    let failed = |cause: String| LinkError::Listen { address: address.to_owned(), cause };
    let listener = swarm.listen_on(multiaddress(address)?).map_err(|error| failed(error.to_string()))?;
    let listening = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == listener => return Ok(()),
                SwarmEvent::ListenerError { listener_id, error } if listener_id == listener => {
                    return Err(error.to_string());
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == listener => {
                    return Err(reason.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()));
                }
                _ => {}
            }
        }
    };
    match timeout(LISTEN_WITHIN, listening).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(failed(format!("nothing happened within {}s", LISTEN_WITHIN.as_secs()))),
    }
}
