//! Copies of revocations in the operator's namespace: they outlive the objects.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    book::{Kept, RevocationBook},
    read,
};
use crate::{
    api::names::LABEL_COMPONENT,
    capability::{Nanos, RevocationKey},
    controller::{context::Context, error::Error},
};

const COMPONENT: &str = "revocation";
const MEMBER: &str = "token";
const MEMBER_NAMESPACE: &str = "namespace";
const MEMBER_ACCEPTED: &str = "acceptedNanos";
/// An annotation: the data of a copy never changes, and this may be learnt later.
const ANNOTATION_LINK: &str = "hosting.nunet.io/token-expires-nanos";

/// Reads back what is kept.
pub(super) async fn load(book: &RevocationBook, client: &Client, namespace: &str) -> kube::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&format!("{LABEL_COMPONENT}={COMPONENT}"));
    for copy in api.list(&params).await?.items {
        let member = |name: &str| copy.data.as_ref()?.get(name).map(String::as_str);
        match member(MEMBER).map(read) {
            Some(Ok(revocation)) => {
                let made = copy.creation_timestamp().map_or(Nanos::MAX, |at| Nanos::from_timestamp(at.0));
                let kept = Kept {
                    copy: copy.name_any(),
                    charged: member(MEMBER_NAMESPACE).map(str::to_owned),
                    expires: revocation.expires,
                    accepted: member(MEMBER_ACCEPTED).and_then(nanos).unwrap_or(made),
                    link: copy.annotations().get(ANNOTATION_LINK).and_then(|text| nanos(text)),
                };
                book.set_kept(revocation.key, kept);
            }
            Some(Err(refusal)) => {
                tracing::error!(copy = %copy.name_any(), %refusal, "a kept revocation cannot be read");
            }
            None => tracing::error!(copy = %copy.name_any(), "a kept revocation has no token"),
        }
    }
    Ok(())
}

fn nanos(text: &str) -> Option<Nanos> {
    text.parse().ok().map(Nanos)
}

/// Lets a revocation outlive its objects. `link` is the end of the token that it takes back, where that was seen.
pub(super) async fn keep(context: &Context, key: &RevocationKey, link: Option<Nanos>) -> Result<(), Error> {
    let book = &context.revocations;
    if let Some(passing) = book.passing(key) {
        let token = &passing.revocation.token;
        let kept = Kept {
            copy: format!("dms-operator-revocation-{}", hex::encode(&Sha256::digest(token)[..16])),
            charged: passing.charged(),
            expires: passing.revocation.expires,
            accepted: passing.accepted,
            link,
        };
        match api(context).create(&PostParams::default(), &copy(token, &kept)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => {
                let action = format!("keeping a copy of the revocation in ConfigMap {}", kept.copy);
                return Err(Error::api(action)(error));
            }
        }
        book.set_kept(key.clone(), kept);
    } else if let (Some(kept), Some(link)) = (book.kept(key), link.filter(|link| book.unsettled(key, *link))) {
        let patch = json!({"metadata": {"annotations": {ANNOTATION_LINK: link.0.to_string()}}});
        let noted = api(context).patch(&kept.copy, &PatchParams::default(), &Patch::Merge(patch)).await;
        noted.map_err(Error::api(format!("noting the end of the token in ConfigMap {}", kept.copy)))?;
        book.set_kept(key.clone(), Kept { link: Some(link), ..kept });
    }
    Ok(())
}

fn copy(token: &str, kept: &Kept) -> ConfigMap {
    let Kept { copy, charged, expires: _, accepted, link } = kept;
    let mut data = vec![(MEMBER, token.to_owned()), (MEMBER_ACCEPTED, accepted.0.to_string())];
    data.extend(charged.clone().map(|namespace| (MEMBER_NAMESPACE, namespace)));
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(copy.clone()),
            labels: Some([(LABEL_COMPONENT.to_owned(), COMPONENT.to_owned())].into()),
            annotations: link.map(|link| [(ANNOTATION_LINK.to_owned(), link.0.to_string())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()),
        immutable: Some(true),
        ..ConfigMap::default()
    }
}

/// Deletes a copy; one that is gone already is deleted too.
pub(super) async fn delete(context: &Context, name: &str) -> Result<(), Error> {
    match api(context).delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(Error::api(format!("deleting the kept revocation {name}"))(error)),
    }
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}
