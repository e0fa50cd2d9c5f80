//! What a device answers (`dms-protocol.md` §5.1, §5.3, §6.5). Written with the names of the newest version, read
//! tolerantly: older names too, and whatever is not needed is ignored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;

use super::state::{self, ToldState, state_or_empty};

/// Reply of `peers/self`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PeersSelf {
    /// Peer ID.
    pub id: String,
    /// Multiaddresses, with commas between them.
    pub listen_addr: String,
}

impl PeersSelf {
    /// The multiaddresses one by one.
    pub fn addresses(&self) -> impl Iterator<Item = &str> {
        self.listen_addr.split(',').map(str::trim).filter(|address| !address.is_empty())
    }
}

/// Whether a request was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NewStatus {
    /// Taken; work on it begins.
    #[serde(rename = "OK", alias = "ok")]
    Ok,
    /// Refused.
    #[serde(rename = "ERROR", alias = "error")]
    Error,
}

/// Reply of `deployment/new`; it comes before the work begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct NewReply {
    /// Whether it was taken.
    pub status: NewStatus,
    /// The id of the deployment, when taken.
    #[serde(rename = "EnsembleID", default, skip_serializing_if = "String::is_empty")]
    pub ensemble_id: String,
    /// Why not, when refused.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Reply of `deployment/status`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusReply {
    /// The state; `None` when the device could not tell it (see `error`).
    #[serde(rename = "status", deserialize_with = "state::optional", serialize_with = "state_or_empty")]
    pub state: Option<ToldState>,
    /// Why the device could not tell; empty on success.
    pub error: String,
    /// What each allocation does, by full allocation id; only while Running.
    #[serde(rename = "allocation_info", skip_serializing_if = "BTreeMap::is_empty")]
    pub allocations: BTreeMap<String, AllocationInfo>,
}

/// What one allocation does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationInfo {
    /// Full allocation id.
    pub allocation_id: String,
    /// `running`, `restarting`, `stopped`, `failed`, …
    pub status: String,
    /// What it has used; zeros unless usage was asked for.
    pub resource_usage: ResourceUsage,
    /// Name on the subnet.
    pub dns_name: String,
}

/// What one allocation has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names)]
pub struct ResourceUsage {
    /// Of one core, in percent, at the moment.
    pub cpu_usage_percent: f64,
    /// Memory held at the moment, in bytes.
    pub memory_used_bytes: u64,
    /// The most memory it may hold, in bytes.
    pub memory_limit_bytes: u64,
    /// Bytes received so far.
    pub network_rx_bytes: u64,
    /// Bytes sent so far.
    pub network_tx_bytes: u64,
}

/// Reply of `deployment/manifest`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestReply {
    /// The manifest; `None` when the device has none (see `error`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// Why there is none; empty on success.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// What became of an ensemble: which allocation stands where, on which ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Manifest {
    /// Id of the deployment.
    pub id: String,
    /// Metadata of the ensemble.
    pub metadata: BTreeMap<String, String>,
    /// By manifest key, `<node>.<allocation>`.
    pub allocations: BTreeMap<String, ManifestAllocation>,
    /// By node name.
    pub nodes: BTreeMap<String, ManifestNode>,
}

/// One allocation of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestAllocation {
    /// Full allocation id.
    pub id: String,
    /// Name of its node.
    pub node_id: String,
    /// `service` or `task`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name on the subnet.
    pub dns_name: String,
    /// Private port by public port.
    #[serde(deserialize_with = "ports")]
    pub ports: BTreeMap<u16, u16>,
    /// `running`, `restarting`, `stopped`, `failed`, …
    pub status: String,
}

/// One node of a manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ManifestNode {
    /// Name of the node.
    pub id: String,
    /// Its peer ID.
    pub peer: String,
    /// Addresses or host names under which its public ports are reached.
    #[serde(alias = "pub_addrss", deserialize_with = "one_or_more")]
    pub pub_address: Vec<String>,
    /// Names of its allocations.
    pub allocations: Vec<String>,
}

/// One page of `deployment/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListPage {
    /// The deployments; an empty list is also what a device answers when something went wrong.
    #[serde(deserialize_with = "entries")]
    pub deployments: Vec<ListEntry>,
    /// How many there are without paging. `None` from devices of older versions, which do not page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Whether pages follow.
    pub has_more: bool,
    /// Where the next page starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_offset: Option<u64>,
}

/// One deployment of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// Id of the deployment.
    #[serde(rename = "orchestrator_id")]
    pub id: String,
    /// Its state; one that is missing is not known.
    #[serde(rename = "status", default)]
    pub state: ToldState,
    /// When it was taken.
    #[serde(default, deserialize_with = "time", serialize_with = "time_or_zero")]
    pub created_at: Option<Timestamp>,
    /// When it last changed.
    #[serde(default, deserialize_with = "time", serialize_with = "time_or_zero")]
    pub updated_at: Option<Timestamp>,
    /// Metadata of the ensemble.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

/// Reply of what is done or not: `{"OK","Error"}`, and in lower case from `deployment/delete` and `prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Whether it was done.
    #[serde(rename = "OK")]
    pub ok: bool,
    /// Why not.
    #[serde(rename = "Error")]
    pub error: String,
}

/// Resources of a node or an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub ram: Size,
    /// Disk.
    pub disk: Size,
}

/// Processors; what counts is cores × clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Cpu {
    /// Hertz.
    pub clock_speed: f64,
    /// Cores, whole or in part.
    pub cores: f64,
}

/// An amount of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Size {
    /// Bytes; some versions write it with a fraction.
    pub size: f64,
}

/// Reply of `resources/*` and `hardware/*`. Success is an empty `error`: one version leaves `OK` false on success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourcesReply {
    /// Not to be relied on.
    #[serde(rename = "OK")]
    pub ok: bool,
    /// What was asked for.
    #[serde(rename = "Resources")]
    pub resources: Resources,
    /// Why the device could not tell.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Reply of `onboarding/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnboardingReply {
    /// Whether the node offers its resources.
    pub onboarded: bool,
    /// Why the device could not tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// Keys of maps are texts in JSON, also where Go has numbers.
fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u16, u16>, D::Error> {
    BTreeMap::<String, u16>::deserialize(deserializer)?
        .into_iter()
        .map(|(public, private)| {
            let public = public.parse().map_err(|_| D::Error::custom(format!("{public:?} is not a port number")))?;
            Ok((public, private))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    More(Vec<String>),
    One(String),
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(match OneOrMore::deserialize(deserializer)? {
        OneOrMore::More(all) => all,
        OneOrMore::One(one) if one.is_empty() => Vec::new(),
        OneOrMore::One(one) => vec![one],
    })
}

/// Now a list of objects; in older versions a map from id to state.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ListEntry>, D::Error> {
    let decoded = match Value::deserialize(deserializer)? {
        Value::Object(states) => {
            super::tolerant::decode::<BTreeMap<String, ToldState>>(Value::Object(states)).map(|states| {
                states
                    .into_iter()
                    .map(|(id, state)| ListEntry {
                        id,
                        state,
                        created_at: None,
                        updated_at: None,
                        metadata: BTreeMap::new(),
                    })
                    .collect()
            })
        }
        list => super::tolerant::decode(list),
    };
    decoded.map_err(D::Error::custom)
}

/// A time that cannot be read is not worth refusing the reply for; Go's zero time means none.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse::<Timestamp>().ok()).filter(|time| time.as_second() > 0))
}

#[allow(clippy::ref_option)]
fn time_or_zero<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_str("0001-01-01T00:00:00Z"),
    }
}
