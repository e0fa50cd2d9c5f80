//! The transport to DMS nodes: native libp2p with DMS's stream protocol.
//!
//! DMS names its protocol `actor/<inbox>/messages/0.0.1`, without the leading slash that multistream-select and
//! libp2p-swarm ask for. So the stream muxer is wrapped ([`adapter`]): inside the process the name carries a reserved
//! mark, on the wire it is bare. Everything above is stock libp2p.
//!
//! ```text
//! DmsClient ─ Link ─ swarm task ─ frame behaviour ─ substream adapter ─ yamux ─ noise ─ TCP
//!                              └─ gossipsub (broadcasts)
//! ```

mod abuse;
mod adapter;
mod backoff;
mod behaviour;
mod breaker;
mod budget;
mod client;
mod connect;
mod counters;
mod frame;
mod gossip;
mod identify;
mod link;
mod message;
mod names;
mod peers;
mod pending;
mod probe;
mod redial;
mod slots;
mod spoil;
mod substream;
mod swarm;
mod tally;
mod task;
mod waiting;

#[cfg(test)]
mod adapter_tests;
#[cfg(test)]
mod behaviour_tests;
#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod gossip_tests;
#[cfg(test)]
mod link_tests;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod spoil_tests;

pub use client::DmsClient;
pub(in crate::device) use client::{AHEAD, random, tokens};
pub use connect::ConnectError;
pub use counters::{Dropped, LinkCounters};
pub(in crate::device) use link::WeakLink;
pub use link::{InboundFrame, Link, LinkConfig, LinkError, MAX_BODY_SENT, PublishError, SendError, Via, is_inbox};
pub use peers::ConnectedPeer;
pub use probe::{Found, ProbeError, probe};
pub use spoil::{Spoil, Spoiling};
