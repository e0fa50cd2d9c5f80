//! Logs (`dms-protocol.md` §5.3, §5.5): copied to the disk of the node that orchestrates, or read in chunks from the
//! node that runs the allocation.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, IntoDeserializer},
};

/// The most that one chunk holds: with base64 and envelope it stays below the largest message.
pub const LARGEST_CHUNK: u64 = 512 * 1024;

/// One of the two streams of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Stdout, Self::Stderr];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Request for a chunk of a log. Older devices read `AllocName` only and answer with everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkRequest {
    /// Manifest key of the allocation.
    #[serde(rename = "AllocName")]
    pub allocation: String,
    /// So many bytes have been received safely.
    #[serde(skip_serializing_if = "is_zero")]
    pub ack: u64,
    /// From this byte on.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// At most so many; 0 is as many as the device gives.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_bytes: u64,
    /// Of which stream.
    #[serde(rename = "Stream", skip_serializing_if = "Option::is_none", deserialize_with = "unless_empty")]
    pub stream: Option<Stream>,
}

/// A chunk of a log, or of an older device all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkReply {
    /// All of standard output, from an older device.
    #[serde(rename = "Stdout", skip_serializing_if = "Base64::is_empty")]
    pub stdout: Base64,
    /// All of standard error, from an older device.
    #[serde(rename = "Stderr", skip_serializing_if = "Base64::is_empty")]
    pub stderr: Base64,
    /// Why there is none.
    #[serde(rename = "Error")]
    pub error: String,
    /// Where the chunk begins.
    #[serde(skip_serializing_if = "is_zero")]
    pub offset: u64,
    /// Where the next one begins.
    #[serde(skip_serializing_if = "is_zero")]
    pub next_offset: u64,
    /// Length of the log as far as it is known.
    #[serde(skip_serializing_if = "is_zero")]
    pub total_size: u64,
    /// Whether the log ends with this chunk, for now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub eof: bool,
    /// The bytes.
    #[serde(skip_serializing_if = "Base64::is_empty")]
    pub data: Base64,
    /// Of which stream.
    #[serde(rename = "Stream", skip_serializing_if = "Option::is_none", deserialize_with = "unless_empty")]
    pub stream: Option<Stream>,
}

impl ChunkReply {
    /// Whether it is the answer of an older device, which knows no chunks.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.eof && self.data.is_empty() && self.next_offset == 0 && self.total_size == 0 && self.offset == 0
    }
}

/// Request of `deployment/logs` and of `logs/async/status` and `stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsRequest {
    /// Id of the deployment.
    #[serde(rename = "EnsembleID")]
    pub id: String,
    /// Manifest key of the allocation.
    #[serde(rename = "AllocationName")]
    pub allocation: String,
}

/// Reply of `deployment/logs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsReply {
    /// A directory on the disk of the node.
    #[serde(rename = "LogsWrittenTo")]
    pub written_to: String,
    /// Why nothing was written.
    #[serde(rename = "Error")]
    pub error: String,
}

/// Request of `logs/async`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsJobRequest {
    /// Id of the deployment.
    #[serde(rename = "EnsembleID")]
    pub id: String,
    /// Manifest key of the allocation.
    #[serde(rename = "AllocationName")]
    pub allocation: String,
    /// Whether to go on until stopped.
    #[serde(rename = "Follow")]
    pub follow: bool,
    /// Seconds between two looks; 0 is what the device takes by itself.
    #[serde(rename = "FollowIntervalSeconds")]
    pub interval_seconds: u64,
}

/// What became of writing logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogsJobState {
    /// It goes on.
    Running,
    /// All was written.
    Complete,
    /// It was stopped.
    Stopped,
    /// There was nothing, or it could not be written.
    Failed,
}

/// Reply of `logs/async` and of its `status` and `stop`, which leave out what they do not tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogsJobReply {
    /// A directory on the disk of the node.
    #[serde(rename = "LogsWrittenTo")]
    pub written_to: String,
    /// How it stands; `None` when there is no such job (see `error`).
    #[serde(rename = "Status", deserialize_with = "unless_empty", serialize_with = "state_or_empty")]
    pub state: Option<LogsJobState>,
    /// Bytes written so far.
    #[serde(rename = "BytesWritten", skip_serializing_if = "Option::is_none")]
    pub bytes_written: Option<u64>,
    /// Whether it goes on until stopped.
    #[serde(rename = "Follow", skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
    /// Time between two looks, as Go writes it: `10s`.
    #[serde(rename = "FollowInterval", skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Why not.
    #[serde(rename = "Error")]
    pub error: String,
}

/// Bytes, in JSON as base64. Its debug form does not show them: what tenants print is theirs.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Vec<u8>);

impl Base64 {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        STANDARD.decode(text).map(Self).map_err(|error| D::Error::custom(format!("it is not base64: {error}")))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Go writes the zero value of a text as `""`.
fn unless_empty<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.filter(|text| !text.is_empty());
    text.map(|text| T::deserialize(text.into_deserializer())).transpose()
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
fn state_or_empty<S: Serializer>(state: &Option<LogsJobState>, serializer: S) -> Result<S::Ok, S::Error> {
    match state {
        Some(state) => state.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}
