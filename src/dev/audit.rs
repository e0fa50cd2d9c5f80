use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::KitError;
use crate::api::GROUP;

/// What the API server is told to write down: who did what to which object, without bodies, once per request and
/// without the chatter of its own parts.
pub(super) const POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1",
  "kind": "Policy",
  "omitStages": ["RequestReceived"],
  "rules": [
    {"level": "None", "userGroups": ["system:nodes"]},
    {"level": "None", "users": ["system:apiserver", "system:kube-controller-manager"]},
    {"level": "None", "nonResourceURLs": ["*"]},
    {"level": "Metadata"}
  ]
}"#;

/// One request that the API server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// `create`, `update`, `patch`, `delete`, `deletecollection`, `get`, `list`, `watch`.
    pub verb: String,
    /// Name of the user; for a ServiceAccount `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// What the client calls itself.
    pub user_agent: String,
    /// API group; empty for the core one.
    pub group: String,
    /// Plural name of the kind.
    pub resource: String,
    /// `status`, `scale`, …; empty without one.
    pub subresource: String,
    /// Namespace; empty without one.
    pub namespace: String,
    /// Name of the object; empty for a list and for a name that the server makes.
    pub name: String,
    /// HTTP status of the answer.
    pub code: u16,
}

impl AuditRecord {
    /// Whether it asked for a change, granted or not.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// Whether it was about an object of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.group == GROUP
    }
}

/// The audit log of an API server: the one place where all that was asked of it can be counted.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
}

impl AuditLog {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Every request answered so far, oldest first. A watch stands here when it starts and when it ends.
    ///
    /// # Errors
    /// [`KitError::File`] when the log can't be read, or a whole line in it is not understood.
    pub fn records(&self) -> Result<Vec<AuditRecord>, KitError> {
        let bytes = fs::read(&self.path).map_err(KitError::file("read", &self.path))?;
        // The server may be in the middle of the last line.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let lines = bytes.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        lines
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice::<Line>(line).map(AuditRecord::from))
            .collect::<Result<_, _>>()
            .map_err(|error| KitError::file("understood", &self.path)(error.into()))
    }

    /// The writes to objects of `hosting.nunet.io` that `filter` lets through, refused ones included.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn writes(&self, filter: impl Fn(&AuditRecord) -> bool) -> Result<Vec<AuditRecord>, KitError> {
        let mut records = self.records()?;
        records.retain(|record| record.is_ours() && record.is_write() && filter(record));
        Ok(records)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: ResponseStatus,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
struct ResponseStatus {
    #[serde(default)]
    code: u16,
}

impl From<Line> for AuditRecord {
    fn from(line: Line) -> Self {
        let Line { verb, user, user_agent, object_ref, response_status } = line;
        let ObjectRef { api_group, resource, subresource, namespace, name } = object_ref;
        Self {
            verb,
            user: user.username,
            user_agent,
            group: api_group,
            resource,
            subresource,
            namespace,
            name,
            code: response_status.code,
        }
    }
}
