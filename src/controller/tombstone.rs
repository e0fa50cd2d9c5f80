//! What a deleted HostingDeployment leaves: its releases, the highest accepted time, and the records on the device.
//!
//! Written into the operator's namespace before the finalizer goes. It bounds replay of an object that is created
//! again; at its end the device's records are deleted.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams},
};
use sha2::{Digest as _, Sha256};

use super::{
    context::{Context, target},
    error::Error,
};
use crate::{
    api::{
        HostingDevice, SentinelRecord,
        names::{FIELD_MANAGER, LABEL_COMPONENT},
    },
    capability::Nanos,
    device::{CallError, DeviceTarget, dms},
    plan::authorise::Highest,
};

const COMPONENT: &str = "tombstone";
const LABEL_OBJECT: &str = "hosting.nunet.io/object";

/// What is left of a deleted object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Namespace of the object.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// DID of its owner.
    pub owner: String,
    /// Releases it served.
    pub releases: Vec<String>,
    /// Newest statement accepted.
    pub highest: Option<Highest>,
    /// Device and id of what ran, when there was something.
    pub record: Option<(String, String)>,
    /// The deletion went on without the device: something may still run there.
    pub abandoned: bool,
    /// Until when all this is kept at least.
    pub until: Nanos,
}

impl Tombstone {
    /// Nothing was ever accepted or begun.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { namespace: _, name: _, uid: _, owner: _, releases, highest, record, abandoned: _, until: _ } = self;
        releases.is_empty() && highest.is_none() && record.is_none()
    }

    fn to_config_map(&self) -> ConfigMap {
        let Self { namespace, name, uid, owner, releases, highest, record, abandoned, until } = self;
        let mut data: BTreeMap<String, String> = [
            ("namespace", namespace.clone()),
            ("name", name.clone()),
            ("uid", uid.clone()),
            ("owner", owner.clone()),
            ("releases", releases.join("\n")),
            ("abandoned", abandoned.to_string()),
            ("keptUntil", until.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(Highest { time, digest }) = highest {
            data.insert("highestTime".to_owned(), time.0.to_string());
            data.insert("highestDigest".to_owned(), digest.clone());
        }
        if let Some((device, id)) = record {
            data.insert("device".to_owned(), device.clone());
            data.insert("deploymentId".to_owned(), id.clone());
        }
        ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("dms-operator-tombstone-{uid}")),
                labels: Some(
                    [
                        (LABEL_COMPONENT.to_owned(), COMPONENT.to_owned()),
                        (LABEL_OBJECT.to_owned(), object_label(namespace, name)),
                    ]
                    .into(),
                ),
                ..ObjectMeta::default()
            },
            data: Some(data),
            ..ConfigMap::default()
        }
    }

    fn from_config_map(kept: &ConfigMap) -> Option<Self> {
        let data = kept.data.as_ref()?;
        let text = |key: &str| data.get(key).cloned();
        let highest = match (text("highestTime"), text("highestDigest")) {
            (Some(time), Some(digest)) => Some(Highest { time: Nanos(time.parse().ok()?), digest }),
            _ => None,
        };
        Some(Self {
            namespace: text("namespace")?,
            name: text("name")?,
            uid: text("uid")?,
            owner: text("owner")?,
            releases: text("releases")?.lines().map(str::to_owned).collect(),
            highest,
            record: text("device").zip(text("deploymentId")),
            abandoned: text("abandoned")? == "true",
            until: Nanos::from_timestamp(text("keptUntil")?.parse().ok()?),
        })
    }
}

/// A label value that names an object of any length of name.
fn object_label(namespace: &str, name: &str) -> String {
    hex::encode(&Sha256::digest(format!("{namespace}/{name}"))[..16])
}

/// Writes a tombstone; writing it again changes nothing.
///
/// # Errors
/// [`Error`], tried again; the finalizer must not go before this went well.
pub async fn write(context: &Context, tombstone: &Tombstone) -> Result<(), Error> {
    let kept = tombstone.to_config_map();
    let name = kept.name_any();
    api(context)
        .patch(&name, &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(&kept))
        .await
        .map_err(Error::api(format!("writing the tombstone {name}")))?;
    Ok(())
}

/// The newest statement that earlier objects of this name had accepted.
///
/// # Errors
/// [`Error`], tried again; without an answer nothing may be accepted.
pub async fn highest(context: &Context, namespace: &str, name: &str) -> Result<Option<Highest>, Error> {
    let selector = format!("{LABEL_COMPONENT}={COMPONENT},{LABEL_OBJECT}={}", object_label(namespace, name));
    let kept = api(context)
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::api(format!("reading the tombstones of {namespace}/{name}")))?;
    Ok(kept
        .items
        .iter()
        .filter_map(Tombstone::from_config_map)
        .filter_map(|tombstone| tombstone.highest)
        .max_by_key(|highest| highest.time))
}

/// Lets go of what is past its time, for ever, as often as everything is looked at again.
pub async fn sweep(context: Arc<Context>) {
    loop {
        tokio::time::sleep(context.settings.resync).await;
        if context.clock.suspect() {
            continue;
        }
        if let Err(error) = sweep_once(&context).await {
            tracing::warn!(%error, "the tombstones could not be swept; tried again later");
        }
    }
}

/// Several at once: a silent device is waited for, and holds up only its own.
async fn sweep_once(context: &Context) -> Result<(), Error> {
    let selector = format!("{LABEL_COMPONENT}={COMPONENT}");
    let kept = api(context)
        .list(&ListParams::default().labels(&selector))
        .await
        .map_err(Error::api("reading the tombstones"))?;
    let at_once = usize::from(context.settings.concurrency);
    let swept = stream::iter(kept.items).for_each_concurrent(at_once, async |kept| {
        let name = kept.name_any();
        let Some(tombstone) = Tombstone::from_config_map(&kept) else {
            tracing::error!(%name, "a tombstone cannot be read; it is left as it is");
            return;
        };
        if context.clock.now() > tombstone.until
            && let Err(cause) = let_go(context, &name, &tombstone).await
        {
            tracing::warn!(%name, cause, "a tombstone is past its time and stays; tried again later");
        }
    });
    swept.await;
    Ok(())
}

async fn let_go(context: &Context, name: &str, tombstone: &Tombstone) -> Result<(), String> {
    forget_record(context, tombstone).await?;
    let deleted = api(context).delete(name, &DeleteParams::default()).await;
    deleted.map(drop).map_err(|error| format!("it could not be deleted: {error}"))
}

/// Deletes the record on the device, after its tag was checked. `Ok` when nothing of ours is left there.
async fn forget_record(context: &Context, tombstone: &Tombstone) -> Result<(), String> {
    let Some((device, id)) = tombstone.record.as_ref().filter(|_| !tombstone.abandoned) else { return Ok(()) };
    // As it stands now: right after the start the watch may not show it yet.
    let devices: Api<HostingDevice> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let found = devices.get_opt(device).await;
    let found = found.map_err(|error| format!("HostingDevice {device} could not be read: {error}"))?;
    let Some(found) = found else { return Ok(()) };
    let target = target(&found).map_err(|(_, message)| format!("HostingDevice {device} cannot be used: {message}"))?;
    let client = context.device_client.as_ref();
    let said = |error: CallError| error.to_string();
    let reply = dms::deployment_manifest(client, &target, id).await.map_err(said)?;
    let Some(manifest) = reply.manifest else {
        let sentinel = found.status.and_then(|status| status.sentinel);
        return gone(context, &target, id, sentinel.as_ref(), &reply.error).await;
    };
    if context.identity.installation.recognise(&manifest.metadata).is_none() {
        return Ok(());
    }
    let outcome = dms::deployment_delete(client, &target, id).await.map_err(said)?;
    if outcome.ok { Ok(()) } else { Err(format!("device {device} refused to delete {id}: {}", outcome.error)) }
}

/// Whether a record without a manifest is really not there: a list that is known to be whole, since the sentinel is in
/// it, does not show it.
async fn gone(
    context: &Context,
    target: &DeviceTarget,
    id: &str,
    sentinel: Option<&SentinelRecord>,
    answer: &str,
) -> Result<(), String> {
    let all = dms::deployment_list_all(context.device_client.as_ref(), target, &BTreeMap::new()).await;
    let all = all.map_err(|error| error.to_string())?;
    let shows = |id: &str| all.iter().any(|entry| entry.id == id);
    if sentinel.is_some_and(|sentinel| shows(&sentinel.id)) && !shows(id) {
        return Ok(());
    }
    Err(format!("the device gives no manifest of {id} ({answer}), and its list does not prove that there is none"))
}

fn api(context: &Context) -> Api<ConfigMap> {
    Api::namespaced(context.client.clone(), &context.settings.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_reads_back_as_it_was_written() {
        let mut tombstone = Tombstone {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "1b".into(),
            owner: "did:key:z".into(),
            releases: vec!["sha256:a".into(), "sha256:b".into()],
            highest: Some(Highest { time: Nanos(1_800_000_000_123_456_789), digest: "d".into() }),
            record: Some(("device".into(), "id".into())),
            abandoned: true,
            until: Nanos(1_900_000_000_000_000_000),
        };
        assert_eq!(Tombstone::from_config_map(&tombstone.to_config_map()), Some(tombstone.clone()));
        tombstone.highest = None;
        tombstone.record = None;
        assert_eq!(Tombstone::from_config_map(&tombstone.to_config_map()), Some(tombstone));
    }
}
