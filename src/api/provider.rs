use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelSelector, SecretReference, door::GrantAction, shared::conditions};

/// The hosting service: its identity, who may use it, and where files are kept. One operator serves one.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "hosting.nunet.io",
    version = "v1alpha1",
    kind = "HostingProvider",
    doc = "The hosting service that one operator runs: its key, who may use it, and where files are kept.",
    plural = "hostingproviders",
    shortname = "hp",
    category = "hosting",
    namespaced,
    cel,
    status = "HostingProviderStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].reason"),
    printcolumn(name = "DID", type_ = "string", json_path = ".status.did"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct HostingProviderSpec {
    /// The key that speaks for the provider.
    pub identity: Identity,
    /// Which namespaces may hold HostingDeployments of this provider. Absent: only the provider's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,
    /// Who is given a grant by asking for it, and of what. Absent: nobody; then grants are made by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    pub grants: Vec<GrantOffer>,
    /// Whom the provider denies. What rests on a chain in which one of these is issuer or subject of a link is refused;
    /// what runs on it goes back to the newest revision that does not, or stops.
    #[serde(default, rename = "deniedDIDs", skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 256),
        inner(length(min = 1, max = 128), regex(pattern = "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$"))
    )]
    pub denied_dids: Vec<String>,
    /// What the provider permits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// How content is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<ContentPolicy>,
    /// Whom the operator tells what became of a spec, beside its owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<NoticeSinks>,
    /// Where content is kept.
    pub storage: Storage,
}

/// Whom the operator tells what became of a spec.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NoticeSinks {
    /// A receiver of CloudEvents 1.0. Each is sent at least once, until it is answered with a 2xx status; its `id` tells
    /// repeats apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// An HTTP endpoint.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Its address, `http://` or `https://`.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://"))]
    pub url: String,
}

/// The provider's key.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Secret with `identity-seed` (64 hex digits) and, added by the operator, `installation-id` and
    /// `installation-key`. Created by the operator when it does not exist.
    pub key_secret_ref: SecretReference,
}

/// Which namespaces may use a provider.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.from == 'Selector') == has(self.selector)").message("set selector when from is Selector, and only then"))]
pub struct AllowedNamespaces {
    /// `Same`: the provider's own namespace; `Selector`: those with matching labels; `All`: any.
    pub from: NamespacesFrom,
    /// Labels of the namespaces, with `from: Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// The three ways to name namespaces, as in the Gateway API.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum NamespacesFrom {
    /// The provider's own namespace.
    Same,
    /// Namespaces selected by label.
    Selector,
    /// Every namespace.
    All,
}

/// What some DIDs are given when they ask. Where several fit, each action is given by the first that gives it, and the
/// grant has the shortest lifetime and the fewest delegations of those that gave something.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GrantOffer {
    /// Who may ask.
    pub subjects: GrantSubjects,
    /// In which namespaces, of those that `allowedNamespaces` admits. Absent: in all of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")))]
    pub namespaces: Vec<String>,
    /// What is given.
    #[schemars(length(min = 1, max = 5))]
    pub actions: Vec<GrantAction>,
    /// How long a grant holds, a whole number with `s`, `m` or `h`. Absent: `720h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 7), regex(pattern = "^[1-9][0-9]{0,5}[smh]$"))]
    pub lifetime: Option<String>,
    /// How many times in a row a grant may be passed on, to a CI key for example. Absent: 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 6))]
    pub max_delegations: Option<i64>,
}

/// Exactly one of `any`, `dids`.
#[derive(KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.any),has(self.dids)].filter(x,x).size()==1").message("set exactly one of any, dids"))]
pub struct GrantSubjects {
    /// Whoever proves a DID: write `{}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<AnySubject>,
    /// These DIDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 128), regex(pattern = "^did:key:z6Mk[1-9A-HJ-NP-Za-km-z]{44}$"))
    )]
    pub dids: Option<Vec<String>>,
}

/// Everybody.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[schemars(extend("maxProperties" = 0))]
pub struct AnySubject {}

/// What the provider permits.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// Whether a signed spec older than the newest accepted one may come back. Absent: `Refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Permission")]
    pub rollback: Option<Permission>,
    /// How long work goes on after its authorisation expired, where its spec says `onExpiry: Keep`; a whole number
    /// with `s`, `m` or `h`. Absent: `72h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 10), regex(pattern = "^[0-9]{1,9}[smh]$"))]
    pub keep_expired_for: Option<String>,
    /// Whether `access: Public` is permitted. Absent: `Refuse`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Permission")]
    pub public_access: Option<Permission>,
}

/// A yes or a no.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum Permission {
    /// No.
    #[default]
    Refuse,
    /// Yes.
    Allow,
}

/// How content is kept.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ContentPolicy {
    /// How long the releases of a deleted HostingDeployment are kept at least; a whole number with `s`, `m` or `h`.
    /// Absent: `168h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 10), regex(pattern = "^[0-9]{1,9}[smh]$"))]
    pub retain_after_delete: Option<String>,
    /// Limits of one release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quotas: Option<Quotas>,
}

/// Limits of one release.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Quotas {
    /// Sum of all file sizes, in bytes. Absent: 1073741824 (1 GiB).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 9_007_199_254_740_991_i64))]
    pub max_release_bytes: Option<i64>,
    /// Number of files. Absent: 20000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_release_files: Option<i64>,
}

/// Where content is kept.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// An S3-compatible service.
    pub s3: S3,
}

/// An S3-compatible service and a bucket in it.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3 {
    /// Address of the service, `http://` or `https://`.
    #[schemars(length(min = 8, max = 2048), regex(pattern = "^https?://"))]
    pub endpoint: String,
    /// Region to sign requests for. Absent: `us-east-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Name of the bucket. It must exist.
    #[schemars(length(min = 3, max = 63))]
    pub bucket: String,
    /// Start of every key, without a slash at its end. Absent: `hosting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$"))]
    pub prefix: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. Absent: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_style: Option<bool>,
    /// How to sign in.
    pub auth: S3Auth,
}

/// Credentials of the S3 service.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct S3Auth {
    /// Secret with `access-key-id` and `secret-access-key`, in the operator's namespace.
    pub secret_ref: SecretReference,
}

/// What the operator found.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("default" = {"observedGeneration": -1}))]
pub struct HostingProviderStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -1, max = 9_007_199_254_740_991_i64))]
    pub observed_generation: Option<i64>,
    /// DID of the provider: the audience of every grant and signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub did: Option<String>,
    /// Where the provider's actor is reached: multiaddresses that end in `/p2p/` and its peer ID, and `http://` or
    /// `https://` addresses. `kubectl hosting login` takes the first that answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 512)))]
    pub addresses: Vec<String>,
    /// `Ready`, `Reconciling`, `Stalled` as kstatus reads them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
