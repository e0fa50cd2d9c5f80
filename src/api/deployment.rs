use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelSelector, ObjectReference, shared::conditions};

/// What an owner wants hosted, by what right. The spec is signed as a whole: change it, then sign it again with
/// `kubectl hosting sign`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "hosting.nunet.io",
    version = "v1alpha1",
    kind = "HostingDeployment",
    doc = "A site that its owner wants hosted on decentralised devices, and by what right.",
    plural = "hostingdeployments",
    shortname = "hd",
    category = "hosting",
    namespaced,
    cel,
    status = "HostingDeploymentStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,48}[a-z0-9])?$')").message("metadata.name must be a DNS label of at most 50 characters: the page's host name is made from it"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "Device", type_ = "string", json_path = ".status.deployment.device"),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Owner", type_ = "string", json_path = ".spec.owner", priority = 1),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release", priority = 1),
    printcolumn(name = "Expires", type_ = "date", json_path = ".status.acceptedRevision.notAfter", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
#[x_kube(
    validation = Rule::new("has(self.authorization)").message("the spec is not signed: run `kubectl hosting sign -f FILE | kubectl apply -f -`"),
    validation = Rule::new("self == oldSelf || (has(self.authorization) && (!has(oldSelf.authorization) || self.authorization.invocation != oldSelf.authorization.invocation))").message("the spec was changed but not signed again: run `kubectl hosting sign -f FILE | kubectl apply -f -`")
)]
pub struct HostingDeploymentSpec {
    /// DID of the owner, to whom the provider granted the right to deploy. Immutable.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("owner is immutable: delete the object and create it anew for another owner"))]
    pub owner: String,
    /// The HostingProvider that hosts it. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("providerRef is immutable: delete the object and create it anew with another provider"))]
    pub provider_ref: ObjectReference,
    /// The proof of the right to deploy exactly this spec. Written by `kubectl hosting sign`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
    /// The files to publish and to serve.
    pub content: Content,
    /// Where it may run. Absent: any schedulable device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What happens when the authorisation expires: `Stop` at once, or `Keep` serving for at most the provider's
    /// `policy.keepExpiredFor`. Absent: `Keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnExpiry")]
    pub on_expiry: Option<OnExpiry>,
}

/// A signed DMS envelope that names the digest of this spec and carries the one capability chain used.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// The envelope, in standard base64; at most 32 KiB before encoding.
    #[schemars(length(min = 1, max = 43692), regex(pattern = "^[A-Za-z0-9+/]+={0,2}$"))]
    pub invocation: String,
}

/// A release and how it is served.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// Id of the release: `sha256:` and 64 hex digits. The owner's signature covers it, and so every byte served.
    #[schemars(length(min = 71, max = 71), regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub release: String,
    /// Where files that the store does not hold yet come from. Absent: they were uploaded before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<ContentSource>,
    /// File served for a path that ends in `/`. Absent: `index.html`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = "^[^/\\\\]+$"))]
    pub index_file: Option<String>,
    /// Who may read: `Owner`, `Delegated` (the owner and whom the owner gave `read`), or `Public`, which needs the
    /// provider's leave. Absent: `Owner`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Access")]
    pub access: Option<Access>,
}

/// Exactly one of `configMap`, `archive`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.configMap),has(self.archive)].filter(x,x).size()==1").message("set exactly one of configMap, archive"))]
pub struct ContentSource {
    /// Files from a ConfigMap in the same namespace: each key of `data` and `binaryData` is a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapRef>,
    /// Files from a gzip-compressed tar archive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<Archive>,
}

/// Names a ConfigMap in the object's own namespace.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapRef {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// An archive fetched over HTTP.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// `http://` or `https://` address of a `.tar.gz`.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://"))]
    pub url: String,
    /// SHA-256 of the archive, 64 hex digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// Who may read hosted content.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Access {
    /// Only the owner.
    #[default]
    Owner,
    /// The owner and whom the owner delegated `read` to.
    Delegated,
    /// Everybody.
    Public,
}

/// Where a deployment may run.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Labels that the HostingDevice must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_selector: Option<LabelSelector>,
}

/// What happens to running work when its authorisation expires.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum OnExpiry {
    /// It is stopped at the moment of expiry.
    Stop,
    /// It goes on for at most the provider's `policy.keepExpiredFor`.
    #[default]
    Keep,
}

/// What the operator found and did. Replaced as a whole by one writer.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct HostingDeploymentStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// The newest spec whose authorisation was accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_revision: Option<AcceptedRevision>,
    /// The deployment on a device, or the attempt to make one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<DeploymentRecord>,
    /// The release that the site reports to serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub release: Option<String>,
    /// Where the content is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub url: Option<String>,
    /// `Ready`, `Reconciling`, `Stalled` as kstatus reads them; `TokenVerified`, `ContentPublished`, `Deployed`,
    /// `DeviceReachable` for the parts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// A spec whose authorisation was accepted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRevision {
    /// Digest of the signed spec, 64 hex digits.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// DID that signed it: the owner or a key the owner delegated to.
    #[schemars(length(max = 128))]
    pub signer: String,
    /// When the signer says it was signed.
    pub time: Time,
    /// Earliest expiry in the chain of capability tokens.
    pub not_after: Time,
}

/// The create bracket and its result. A record without `id` is an open attempt: the request was recorded, and may
/// or may not have reached the device.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// Name of the HostingDevice.
    #[schemars(length(max = 253))]
    pub device: String,
    /// DID of the node that it named then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub did: Option<String>,
    /// Number of the attempt, from 1.
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub attempt: i64,
    /// Nonce of the one envelope that asks the device for this attempt, in decimal.
    #[schemars(length(max = 20))]
    pub nonce: String,
    /// When that envelope expires; afterwards the device no longer takes it.
    pub expires: Time,
    /// Id that the device gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub id: Option<String>,
}
