//! The swarm: TCP, noise, yamux with bare names, and the behaviours that run on it.

use std::io;
use std::time::Duration;

use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::identity::Keypair;
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{Swarm, SwarmBuilder, identify, noise, ping, tcp};

use super::adapter::BareYamux;
use super::behaviour::FrameBehaviour;
use super::gossip::{self, Gossip};
use super::spoil::Spoiling;

/// How long a connection is kept that nothing uses.
const IDLE: Duration = Duration::from_hours(1);
/// How long a connection may take to be set up.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// Streams in negotiation, or in the middle of a message, on one connection at a time: many more than the requests that we
/// have on their way to a peer, so that some which never end do not keep the replies from coming. What they hold in memory
/// is bounded by itself.
const NEGOTIATING_STREAMS: usize = 256;
/// One, and another for a peer that came back before its loss was noticed.
const CONNECTIONS_A_PEER: u32 = 2;
const INCOMING_CONNECTIONS: u32 = 1024;
const PENDING_INCOMING_CONNECTIONS: u32 = 64;

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(super) kept_out: allow_block_list::Behaviour<BlockedPeers>,
    pub(super) frame: FrameBehaviour,
    pub(super) gossip: Toggle<Gossip>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
}

impl Behaviour {
    fn new(key: &Keypair, inboxes: &[String], gossip: Option<Gossip>, spoiling: &Spoiling) -> Self {
        let limits = ConnectionLimits::default()
            .with_max_established_per_peer(Some(CONNECTIONS_A_PEER))
            .with_max_established_incoming(Some(INCOMING_CONNECTIONS))
            .with_max_pending_incoming(Some(PENDING_INCOMING_CONNECTIONS));
        let identify = identify::Config::new("ipfs/0.1.0".to_owned(), key.public())
            .with_agent_version(concat!("dms-operator/", env!("CARGO_PKG_VERSION")).to_owned());
        Self {
            limits: connection_limits::Behaviour::new(limits),
            kept_out: allow_block_list::Behaviour::default(),
            frame: FrameBehaviour::new(inboxes, spoiling.clone()),
            gossip: gossip.into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING_EVERY).with_timeout(PONG_WITHIN)),
        }
    }
}

/// Builds a swarm that resolves DNS names if the machine says how; without that, addresses by number still work.
pub(super) fn build(
    key: &Keypair,
    inboxes: &[String],
    topics: Option<&[String]>,
    spoiling: &Spoiling,
) -> io::Result<Swarm<Behaviour>> {
    let gossip = topics.map(|topics| gossip::behaviour(key, topics)).transpose()?;
    macro_rules! finish {
        ($builder:expr) => {
            $builder
                .with_behaviour(|key| Behaviour::new(key, inboxes, gossip, spoiling))
                // proven: the error of a constructor that cannot fail has no value.
                .map_err(|never| io::Error::other(never.to_string()))?
                .with_swarm_config(|config| {
                    config.with_idle_connection_timeout(IDLE).with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS)
                })
                .with_connection_timeout(CONNECT_WITHIN)
                .build()
        };
    }
    let over_tcp = || {
        SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, || BareYamux::new(spoiling.clone()))
            .map_err(io::Error::other)
    };
    match over_tcp()?.with_dns() {
        Ok(builder) => Ok(finish!(builder)),
        Err(error) => {
            tracing::warn!(%error, "no DNS configuration: devices are reached by IP address only");
            Ok(finish!(over_tcp()?))
        }
    }
}
