//! What nodes tell of themselves and of their peers (`dms-protocol.md` §5.1, §5.2).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::{PeersSelf, Resources};
use crate::capability::Did;

/// A request that says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// A DID as DMS writes it; empty is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DidText {
    /// The DID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
}

impl From<&Did> for DidText {
    fn from(did: &Did) -> Self {
        Self { uri: did.to_string() }
    }
}

/// Reply of `peers/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeersList {
    /// Peer IDs.
    pub peers: Vec<String>,
}

/// Request of `peers/ping`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PingRequest {
    /// Peer ID.
    pub host: String,
}

/// Reply of `peers/ping`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PingReply {
    /// Why there was no answer.
    pub error: String,
    /// Milliseconds; written as whole ones.
    #[serde(rename = "RTT", serialize_with = "whole")]
    pub rtt: f64,
}

impl PingReply {
    /// The answer came after this time.
    #[must_use]
    pub fn of(rtt: Duration) -> Self {
        Self { error: String::new(), rtt: f64::from(u32::try_from(rtt.as_millis()).unwrap_or(u32::MAX)) }
    }
}

/// Go reads no fraction here.
#[allow(clippy::trivially_copy_pass_by_ref, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole<S: Serializer>(milliseconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*milliseconds as u64)
}

/// Request of `peers/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConnectRequest {
    /// Multiaddress with `/p2p/…`.
    pub address: String,
}

/// Reply of `peers/connect`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ConnectReply {
    /// `CONNECTED`, or nothing.
    pub status: String,
    /// Why not.
    pub error: String,
}

/// Reply of `peers/dht`; what stands in the routing table is DMS's own affair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeersDht {
    /// Entries of the routing table.
    pub peers: Vec<Value>,
}

/// Reply of `peers/score`; how peers are rated is DMS's own affair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeersScore {
    /// By peer ID.
    pub score: BTreeMap<String, Value>,
}

/// Reply of `/public/hello` and `/broadcast/hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Who answers.
    #[serde(rename = "DID")]
    pub did: DidText,
}

/// Reply of `/public/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PublicStatus {
    /// `OK` or `ERROR`.
    pub status: String,
    /// What the node offers.
    pub resources: Resources,
}

/// Reply of `/dms/node/status` and `/broadcast/dms/status`: by peer ID.
pub type NodeStatuses = BTreeMap<String, NodeStatus>;

/// What a node tells of itself to those who look for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeStatus {
    /// Its name.
    pub hostname: String,
    /// Its DID.
    pub did: String,
    /// Where it is reached.
    pub network: NodeNetwork,
    /// Whether it offers its resources.
    pub onboarded: bool,
    /// Its resources.
    pub resources: ResourceSummary,
}

/// Where a node is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeNetwork {
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
    /// Peer ID and addresses.
    pub p2p: PeersSelf,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub ip: Vec<String>,
    /// Its hardware address.
    pub mac_address: String,
}

/// What a node has, offers, has given away and has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceSummary {
    /// What the machine has.
    pub total: Resources,
    /// What is offered of it.
    pub onboarded: Resources,
    /// What of that is given to deployments.
    pub allocated: Resources,
    /// What of that is left.
    pub free: Resources,
}
