//! Accepted revisions: each spec whose authorisation was accepted, kept whole in a `ControllerRevision` owned by its
//! HostingDeployment, so that it can be judged again and served again.

use k8s_openapi::{
    Resource as _,
    api::{apps::v1::ControllerRevision, core::v1::ObjectReference},
    apimachinery::pkg::{apis::meta::v1::OwnerReference, runtime::RawExtension},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::names::LABEL_COMPONENT;

/// How many are kept of one object, beside the one that is served.
const KEPT: usize = 10;
const LABEL_UID: &str = "hosting.nunet.io/uid";

/// At a revision: what of it is still to be told to its owner.
const ANNOTATION_DUE: &str = "hosting.nunet.io/notice-due";

/// What of an accepted spec is still to be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Due {
    /// That it was accepted, and later that it is served.
    Accepted,
    /// That it is served.
    Served,
    /// Nothing more.
    #[default]
    Nothing,
}

impl Due {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Served => "Served",
            Self::Nothing => "Nothing",
        }
    }

    fn read(text: Option<&String>) -> Self {
        [Self::Accepted, Self::Served]
            .into_iter()
            .find(|due| text.is_some_and(|text| text == due.as_str()))
            .unwrap_or_default()
    }
}

/// Notes what of a revision is still to be told.
///
/// # Errors
/// Whatever the API server says.
pub async fn note_due(client: &Client, namespace: &str, revision: &str, due: Due) -> kube::Result<()> {
    let api: Api<ControllerRevision> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {ANNOTATION_DUE: due.as_str()}}});
    api.patch(revision, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
}

/// One accepted spec.
#[derive(Clone, Debug, PartialEq)]
pub struct Revision {
    /// Name of the object that keeps it.
    pub name: String,
    /// What of it is still to be told.
    pub due: Due,
    /// Order of acceptance, from 1.
    pub number: i64,
    /// What was accepted: apiVersion, kind, metadata.namespace, metadata.name and spec, as received.
    pub object: Value,
}

impl Revision {
    /// The object that keeps it.
    #[must_use]
    pub fn reference(&self, namespace: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some(ControllerRevision::API_VERSION.to_owned()),
            kind: Some(ControllerRevision::KIND.to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(self.name.clone()),
            ..ObjectReference::default()
        }
    }

    /// The release that it names.
    fn release(&self) -> Option<&str> {
        self.object.pointer("/spec/content/release").and_then(Value::as_str)
    }
}

/// The signed envelope inside an object, in base64; empty when there is none.
#[must_use]
pub fn invocation(object: &Value) -> &str {
    object.pointer("/spec/authorization/invocation").and_then(Value::as_str).unwrap_or_default()
}

/// Where the revisions of one object are kept.
pub struct Revisions {
    api: Api<ControllerRevision>,
    owner: OwnerReference,
    uid: String,
}

impl Revisions {
    /// The revisions of the object with this owner reference.
    #[must_use]
    pub fn of(client: &Client, namespace: &str, owner: OwnerReference) -> Self {
        let uid = owner.uid.clone();
        Self { api: Api::namespaced(client.clone(), namespace), owner, uid }
    }

    /// All that are kept, newest first.
    ///
    /// # Errors
    /// Whatever the API server says.
    pub async fn list(&self) -> kube::Result<Vec<Revision>> {
        let params = ListParams::default().labels(&format!("{LABEL_UID}={}", self.uid));
        let mut all: Vec<Revision> = self
            .api
            .list(&params)
            .await?
            .items
            .into_iter()
            .filter_map(|kept| {
                let due = Due::read(kept.annotations().get(ANNOTATION_DUE));
                Some(Revision { name: kept.name_any(), due, number: kept.revision, object: kept.data?.0 })
            })
            .collect();
        all.sort_by_key(|revision| std::cmp::Reverse(revision.number));
        Ok(all)
    }

    /// Keeps a newly accepted spec, and lets go of the oldest but the one that is served. Keeping the same again changes
    /// nothing. What is kept now, newest first.
    ///
    /// # Errors
    /// Whatever the API server says.
    pub async fn keep(
        &self,
        kept: &[Revision],
        object: Value,
        due: Due,
        served: Option<&str>,
    ) -> kube::Result<Vec<Revision>> {
        let name = self.name_of(&object);
        let number = kept.first().map_or(1, |newest| newest.number + 1);
        let revision = ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                annotations: Some([(ANNOTATION_DUE.to_owned(), due.as_str().to_owned())].into()),
                labels: Some(
                    [(LABEL_COMPONENT.to_owned(), "revision".to_owned()), (LABEL_UID.to_owned(), self.uid.clone())]
                        .into(),
                ),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(object.clone())),
            revision: number,
        };
        match self.api.create(&PostParams::default(), &revision).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error),
        }
        let is_served = |revision: &Revision| served.is_some() && revision.release() == served;
        let (recent, old) = kept.split_at(kept.len().min(KEPT - 1));
        let mut next = vec![Revision { name, due, number, object }];
        next.extend_from_slice(recent);
        for old in old {
            if is_served(old) && !next.iter().any(is_served) {
                next.push(old.clone());
                continue;
            }
            let name = &old.name;
            if let Err(error) = self.api.delete(name, &DeleteParams::default()).await {
                tracing::debug!(%name, %error, "an old revision stays a little longer");
            }
        }
        Ok(next)
    }

    /// Another object of the same name has other names for the same revisions: its own go with it.
    fn name_of(&self, object: &Value) -> String {
        let digest =
            Sha256::new().chain_update(&self.uid).chain_update([0]).chain_update(invocation(object)).finalize();
        format!("{}-{}", self.owner.name, hex::encode(&digest[..5]))
    }
}

/// What of an object is kept: no status, no metadata but its names.
#[must_use]
pub fn kept_form(namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        "kind": "HostingDeployment",
        "metadata": {"namespace": namespace, "name": name},
        "spec": spec,
    })
}
