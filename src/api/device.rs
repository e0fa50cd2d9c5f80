use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shared::conditions;

/// A DMS node on which the provider may run deployments.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "hosting.nunet.io",
    version = "v1alpha1",
    kind = "HostingDevice",
    doc = "A DMS node on which the provider may run deployments.",
    plural = "hostingdevices",
    shortname = "hdev",
    category = "hosting",
    namespaced,
    cel,
    status = "HostingDeviceStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Reachability", type_ = "string", json_path = ".status.reachability"),
    printcolumn(name = "Onboarded", type_ = "boolean", json_path = ".status.onboarded"),
    printcolumn(name = "Unschedulable", type_ = "boolean", json_path = ".spec.unschedulable"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Grant Expires", type_ = "date", json_path = ".status.grantExpires", priority = 1),
    printcolumn(name = "DID", type_ = "string", json_path = ".spec.did", priority = 1),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HostingDeviceSpec {
    /// DID of the node; its libp2p peer ID is the same key. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("did is immutable: create another HostingDevice for another node"))]
    pub did: String,
    /// Multiaddresses at which the node listens, for example `/ip4/192.0.2.7/tcp/9000`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 512)))]
    pub addresses: Vec<String>,
    /// Set to `true`, nothing new is placed here; what runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,
    /// The device owner's grant to the provider: a DMS `delegate` token as JSON. Absent: the provider must be a root
    /// of the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16384))]
    pub grant: Option<String>,
}

/// What the operator found. Written only on change.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct HostingDeviceStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// The record by which a list from this device is known to be complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sentinel: Option<SentinelRecord>,
    /// Whether the device answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reachability: Option<Reachability>,
    /// Whether it offers resources. Absent: not yet known, or the grant does not allow to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onboarded: Option<bool>,
    /// How the device spells its replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_spelling: Option<ReplySpelling>,
    /// When the grant ends, or an earlier link of it. Absent: there is no grant, or it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_expires: Option<Time>,
    /// `Ready`, `Reconciling`, `Stalled` as kstatus reads them; `GrantValid`, `Credible`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Whether the device answers, judged over several heartbeats: one lost message changes nothing. Absent: not yet known.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Reachability {
    /// It answered its last heartbeats.
    Reachable,
    /// It left its last heartbeats without an answer. What runs there is unknown.
    Unreachable,
}

/// How the device spells its replies, by which its version can be told roughly. Absent: not yet known.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum ReplySpelling {
    /// The names of earlier versions of DMS, which do not page lists.
    Old,
    /// The names of the newest version known here.
    New,
}

/// A deployment that never runs, left on the device at first contact. DMS answers errors of `list` with an empty
/// list; a list that shows this record is a real one.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SentinelRecord {
    /// Id that the device gave.
    #[schemars(length(max = 64))]
    pub id: String,
}
