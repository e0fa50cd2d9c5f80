//! Who answers at an address, while nothing else is known of it.

use std::time::Duration;

use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify};
use tokio::time::{Instant, timeout_at};

use super::behaviour::{FrameEvent, Opening, SendFailure};
use super::redial::root_cause;
use super::spoil::{Spoil, Spoiling};
use super::swarm::{self, Behaviour, BehaviourEvent};
use crate::capability::{Did, DidError, Envelope, Handle, Key, Nanos, printable};

/// What a node may be told by anybody. Whether it answers is its own affair; that it takes the message shows what it is.
const GREETING: &str = "/public/hello";
/// How long the node's description of itself is still awaited when all else is known.
const INTRODUCTION: Duration = Duration::from_secs(2);

/// A node that speaks DMS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its DID, proved by the handshake.
    pub did: Did,
    /// The address at which it was found, without its peer ID.
    pub address: String,
    /// What it calls itself, if it said so.
    pub agent: Option<String>,
}

/// Why no node that speaks DMS was found.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The text is no address.
    #[error(
        "{address:?} is not a multiaddress: {cause}. Write it as /ip4/192.0.2.7/tcp/9000 or /dns4/rack-1.example.org/tcp/9000"
    )]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        cause: String,
    },
    /// This process has no key or no transport.
    #[error("no connection can be made from here: {0}")]
    Local(std::io::Error),
    /// Nobody answered.
    #[error(
        "nobody answers at {address}: {cause}. Check the address, and that the node runs and can be reached from here"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// What stood in the way.
        cause: String,
    },
    /// Another node than the address names.
    #[error(
        "at {address} answers {found}, not the node that the address names. Find out whose address it is before going on"
    )]
    OtherNode {
        /// The address.
        address: String,
        /// Peer ID of who answers.
        found: String,
    },
    /// A key of another type.
    #[error("the node {peer} has a key that is not read here: {cause}. Only nodes with an Ed25519 key can be used")]
    Key {
        /// Its peer ID.
        peer: String,
        /// What is wrong with it.
        cause: DidError,
    },
    /// It answers, and takes no messages for actors.
    #[error("at {address} answers {peer}, which does not speak DMS: {cause}. Check that a DMS listens on this port")]
    NotDms {
        /// The address.
        address: String,
        /// Its peer ID.
        peer: String,
        /// What it did.
        cause: String,
    },
}

/// Dials an address under a peer ID made for this purpose, and finds out who answers. A peer ID at the end of the address
/// must be that of the node.
///
/// # Errors
/// [`ProbeError`].
pub async fn probe(address: &str, within: Duration) -> Result<Found, ProbeError> {
    let deadline = Instant::now() + within;
    let wanted: Multiaddr = address.parse().map_err(|error: libp2p::multiaddr::Error| ProbeError::Address {
        address: address.to_owned(),
        cause: error.to_string(),
    })?;
    let key = random_key().map_err(ProbeError::Local)?;
    let identity = Keypair::ed25519_from_bytes(*key.expose_seed());
    let identity = identity.map_err(|error| ProbeError::Local(std::io::Error::other(error)))?;
    let mut swarm =
        swarm::build(&identity, &["probe".to_owned()], None, &Spoiling::default()).map_err(ProbeError::Local)?;
    let mut probe = Probe { address, agent: None };
    let peer = probe.connect(&mut swarm, &wanted, deadline).await?;
    let did = Did::from_peer_id(&peer.to_string());
    let did = did.map_err(|cause| ProbeError::Key { peer: peer.to_string(), cause })?;
    probe.greet(&mut swarm, peer, &greeting(&key, &did), deadline).await?;
    let bare = wanted.iter().filter(|part| !matches!(part, Protocol::P2p(named) if *named == peer));
    Ok(Found { did, address: bare.collect::<Multiaddr>().to_string(), agent: probe.agent })
}

struct Probe<'a> {
    address: &'a str,
    agent: Option<String>,
}

impl Probe<'_> {
    fn unreachable(&self, cause: impl Into<String>) -> ProbeError {
        ProbeError::Unreachable { address: self.address.to_owned(), cause: cause.into() }
    }

    async fn connect(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        to: &Multiaddr,
        deadline: Instant,
    ) -> Result<PeerId, ProbeError> {
        swarm
            .dial(DialOpts::unknown_peer_id().address(to.clone()).build())
            .map_err(|error| self.dial_failed(&error))?;
        loop {
            match timeout_at(deadline, swarm.select_next_some()).await {
                Err(_) => return Err(self.unreachable("no connection was made in time")),
                Ok(SwarmEvent::ConnectionEstablished { peer_id, .. }) => return Ok(peer_id),
                Ok(SwarmEvent::OutgoingConnectionError { error, .. }) => return Err(self.dial_failed(&error)),
                Ok(_) => {}
            }
        }
    }

    fn dial_failed(&self, error: &DialError) -> ProbeError {
        match error {
            DialError::WrongPeerId { obtained, .. } => {
                ProbeError::OtherNode { address: self.address.to_owned(), found: obtained.to_string() }
            }
            DialError::Transport(attempts) => {
                let causes = attempts.iter().map(|(_, error)| root_cause(error)).collect::<Vec<_>>();
                self.unreachable(causes.join("; "))
            }
            other => self.unreachable(root_cause(other)),
        }
    }

    /// Sends a message to the root actor, and waits until it is taken or refused.
    async fn greet(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peer: PeerId,
        message: &[u8],
        mut deadline: Instant,
    ) -> Result<(), ProbeError> {
        let within = deadline.saturating_duration_since(Instant::now());
        swarm.behaviour_mut().frame.send(peer, ("root", message), Opening::Asked, within, Spoil::None);
        let not_dms =
            |cause: String| Err(ProbeError::NotDms { address: self.address.to_owned(), peer: peer.to_string(), cause });
        let mut taken = false;
        while !taken || self.agent.is_none() {
            match timeout_at(deadline, swarm.select_next_some()).await {
                Err(_) | Ok(SwarmEvent::ConnectionClosed { .. }) if taken => return Ok(()),
                Err(_) => return not_dms("it did not take a message in time".to_owned()),
                Ok(SwarmEvent::Behaviour(BehaviourEvent::Frame(FrameEvent::Sent { .. }))) => {
                    taken = true;
                    deadline = deadline.min(Instant::now() + INTRODUCTION);
                }
                Ok(SwarmEvent::Behaviour(BehaviourEvent::Frame(FrameEvent::Failed { failure, .. }))) => {
                    return not_dms(match failure {
                        SendFailure::NoSuchInbox => "it has no root actor".to_owned(),
                        other => other.to_string(),
                    });
                }
                Ok(SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received { info, .. }))) => {
                    self.agent = Some(name_of(&info.agent_version));
                }
                Ok(_) => {}
            }
        }
        Ok(())
    }
}

/// A message that any node understands and that gives no right to anything. It asks for no reply.
fn greeting(key: &Key, to: &Did) -> Vec<u8> {
    let now = Nanos::from_timestamp(jiff::Timestamp::now());
    let envelope = Envelope {
        to: Handle::root_of(to),
        behaviour: GREETING.to_owned(),
        from: Handle::of(key.did(), Some(key.did().peer_id()), None),
        nonce: now.0,
        expires: now.plus(Duration::from_secs(30)),
        continuation: None,
        topic: None,
        message: Vec::new(),
        capabilities: Vec::new(),
        signature: None,
    };
    envelope.sign(key).to_json()
}

fn random_key() -> std::io::Result<Key> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(Key::from_seed(*seed))
}

/// What a stranger calls itself goes to a terminal.
fn name_of(agent: &str) -> String {
    const LONGEST: usize = 64;
    printable(&agent.chars().take(LONGEST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::link::{Link, LinkConfig};
    use super::super::rig::random_key;
    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    async fn listening(inbox: &str) -> (Link, String, Did) {
        let key = random_key();
        let config = LinkConfig {
            key: key.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".into()],
            inboxes: vec![inbox.into()],
            topics: None,
        };
        let (link, mut arrived) = Link::start(config).await.unwrap();
        tokio::spawn(async move { while arrived.recv().await.is_some() {} });
        let address = link.listen_addresses().await.remove(0);
        (link, address, key.did().clone())
    }

    #[tokio::test]
    async fn a_node_is_known_by_its_handshake_with_and_without_its_peer_id() {
        let (_link, address, did) = listening("root").await;
        let agent = Some(concat!("dms-operator/", env!("CARGO_PKG_VERSION")).to_owned());
        let expected = Found { did: did.clone(), address: address.clone(), agent };
        assert_eq!(probe(&address, WITHIN).await.unwrap(), expected);
        assert_eq!(probe(&format!("{address}/p2p/{}", did.peer_id()), WITHIN).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn another_node_than_the_one_named_is_refused() {
        let (link, address, did) = listening("root").await;
        let named = random_key().did().peer_id();
        let error = probe(&format!("{address}/p2p/{named}"), WITHIN).await.unwrap_err();
        assert!(matches!(&error, ProbeError::OtherNode { found, .. } if *found == did.peer_id()), "{error}");
        assert_eq!(link.counters().frames_in(), 0, "it was told nothing");
    }

    #[tokio::test]
    async fn what_is_no_dms_is_told_from_what_is_not_there() {
        let (link, address, did) = listening("user-1").await;
        let error = probe(&address, WITHIN).await.unwrap_err();
        assert!(matches!(&error, ProbeError::NotDms { peer, .. } if *peer == did.peer_id()), "{error}");
        assert!(error.to_string().contains("no root actor"), "{error}");
        link.stop().await;
        let error = probe(&address, WITHIN).await.unwrap_err();
        assert!(matches!(&error, ProbeError::Unreachable { .. }), "{error}");
        let error = probe("127.0.0.1:9000", WITHIN).await.unwrap_err();
        assert!(matches!(&error, ProbeError::Address { .. }), "{error}");
    }

    #[test]
    fn what_a_stranger_calls_itself_moves_no_cursor() {
        assert_eq!(name_of("dms/1\u{1b}[2J\n"), "dms/1\u{fffd}[2J\u{fffd}");
        assert_eq!(name_of(&"x".repeat(1000)).len(), 64);
    }
}
