//! What is asked about deployments, and the longer answers (`dms-protocol.md` §5.3).

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    DeploymentState, Manifest, ResourceUsage, ToldState,
    state::{optional, state_or_empty},
};

/// An ensemble by the version of its form. It may hold what a deployment is told in secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ensembles {
    /// The one version there is.
    pub v1: Value,
}

impl fmt::Debug for Ensembles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ensembles")
    }
}

/// Request of `deployment/new`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewRequest {
    /// What to run.
    #[serde(rename = "Ensemble")]
    pub ensemble: Ensembles,
}

/// Request of `deployment/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpdateRequest {
    /// Id of the deployment.
    #[serde(rename = "EnsembleID")]
    pub id: String,
    /// What to run in its place.
    #[serde(rename = "Ensemble")]
    pub ensemble: Ensembles,
}

/// Request of `deployment/status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusRequest {
    /// Id of the deployment.
    pub id: String,
    /// Whether to tell what its allocations have used.
    pub include_usage: bool,
}

/// Request of `deployment/manifest` and `deployment/shutdown`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeploymentId {
    /// Id of the deployment.
    #[serde(rename = "ID")]
    pub id: String,
}

/// Request of `deployment/delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeleteRequest {
    /// Id of the deployment.
    #[serde(rename = "orchestrator_id")]
    pub id: String,
}

/// Request of `deployment/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PruneRequest {
    /// Only what was taken before: `<n>d`, a Go duration before now, RFC 3339, `YYYY-MM-DD[ HH:MM:SS]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub before: String,
    /// Everything that is over.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

/// Which deployments to list; the default asks for the first page of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListQuery {
    /// Only those whose metadata holds all of these.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// From the so-manieth on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Only those in one of these states, by number.
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "numbers")]
    pub status: Vec<DeploymentState>,
    /// Only the one with this id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Only those taken after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_after: Option<Timestamp>,
    /// Only those taken before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Only those changed after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_after: Option<Timestamp>,
    /// Only those changed before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_before: Option<Timestamp>,
}

fn numbers<S: serde::Serializer>(states: &[DeploymentState], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(states.iter().map(|state| state.number()))
}

/// Request of `deployment/info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InfoRequest {
    /// Id of the deployment.
    pub id: String,
    /// Whether to tell what its allocations have used.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_usage: bool,
    /// Whether to write their logs to the disk of the node.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub include_logs: bool,
    /// Only of these allocations, by manifest key; none is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allocation_names: Vec<String>,
}

/// Reply of `deployment/info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InfoReply {
    /// Id of the deployment.
    pub id: String,
    /// The state; `None` when the device could not tell it (see `error`).
    #[serde(rename = "status", deserialize_with = "optional", serialize_with = "state_or_empty")]
    pub state: Option<ToldState>,
    /// Why the device could not tell; empty on success.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// The manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Manifest>,
    /// By manifest key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub allocations: BTreeMap<String, AllocationDetail>,
}

/// One allocation in the reply of `deployment/info`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationDetail {
    /// Full allocation id.
    pub allocation_id: String,
    /// `running`, `restarting`, `stopped`, `failed`, …
    pub status: String,
    /// What it has used; zeros unless usage was asked for.
    pub resource_usage: ResourceUsage,
    /// Name on the subnet.
    pub dns_name: String,
    /// Where its logs were written, when they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<AllocationLogs>,
}

/// Where the logs of an allocation were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationLogs {
    /// File on the disk of the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stdout_path: String,
    /// File on the disk of the node.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stderr_path: String,
    /// Directory on the disk of the node.
    #[serde(rename = "logs_written_to", skip_serializing_if = "String::is_empty")]
    pub written_to: String,
    /// Why nothing was written.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
}
