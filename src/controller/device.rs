//! The driver of HostingDevices: a heartbeat, and the sentinel by which a list from the device is known to be whole.

pub(super) mod adopt;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use kube::{
    Api, Resource as _, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::controller::Action,
};
use serde_json::json;

use super::{
    context::{Context, DeviceHealth, SILENCES, target},
    error::Error,
    events,
};
use crate::{
    api::{
        HostingDevice, HostingDeviceStatus, Reason, SentinelRecord,
        names::{FIELD_MANAGER, metadata},
    },
    device::{CallError, DeviceTarget, dms},
    plan::{
        backoff,
        conditions::{Outcome, conditions},
    },
};

/// Pause between heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Pause after a heartbeat that failed.
const RETRY: Duration = Duration::from_secs(3);
/// The sentinel's request lives just long enough to be taken (protocol notes §5.3: 59 s).
const SENTINEL_WINDOW: Duration = Duration::from_secs(70);

/// One pass over a device.
///
/// # Errors
/// [`Error`], tried again.
pub async fn reconcile(object: Arc<HostingDevice>, context: Arc<Context>) -> Result<Action, Error> {
    let name = object.name_any();
    let before = object.status.clone().unwrap_or_default();
    let known = before.sentinel.as_ref().map(|record| record.id.clone());
    let expected = known.clone().filter(|_| !adopt::is_due(&object, &before));
    let seen = match target(&object) {
        Ok(target) => look(&context, &name, &target, expected).await,
        Err((reason, message)) => Err(Fault { reason, message, stalled: true }),
    };
    let (outcome, sentinel, pause) = match seen {
        Ok(sentinel) => (Outcome::Ready("the device answers".to_owned()), Some(sentinel), HEARTBEAT),
        Err(Fault { reason, message, stalled: true }) => (Outcome::Stalled(reason, message), known, HEARTBEAT),
        Err(Fault { reason, message, stalled: false }) => (Outcome::Reconciling(reason, message), known, RETRY),
    };
    let ready = matches!(outcome, Outcome::Ready(_));
    let silences = match &outcome {
        Outcome::Reconciling(Reason::DeviceSilent, _) => (context.health(&name).silences + 1).min(SILENCES),
        Outcome::Ready(_) | Outcome::Reconciling(..) | Outcome::Stalled(..) => 0,
    };
    let labels = (object.metadata.generation, object.labels().clone());
    context.set_health(&name, Some(DeviceHealth { ready, sentinel: sentinel.clone(), silences, object: labels }));
    context.metrics.device_ready(&name, ready);
    publish_status(&object, &context, &before, sentinel, &outcome).await?;
    Ok(Action::requeue(backoff::Backoff { first: pause, cap: pause }.pause(1, rand::random())))
}

struct Fault {
    reason: Reason,
    message: String,
    stalled: bool,
}

impl From<CallError> for Fault {
    fn from(error: CallError) -> Self {
        let reason = reason(&error);
        Self { reason, message: error.to_string(), stalled: reason == Reason::GrantInsufficient }
    }
}

/// The reason by which a failed call is reported.
#[must_use]
pub const fn reason(error: &CallError) -> Reason {
    match error {
        CallError::NotSent { .. } | CallError::Silent { .. } | CallError::BadReply { .. } => Reason::DeviceSilent,
        CallError::NotGranted { .. } => Reason::GrantInsufficient,
    }
}

/// Forgets devices whose objects are gone, for ever: no pass comes for those.
pub async fn forget_gone(context: Arc<Context>) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let devices = context.devices.state();
        for name in context.known_devices() {
            if !devices.iter().any(|device| device.name_any() == name) {
                context.set_health(&name, None);
                context.metrics.forget_device(&name);
            }
        }
    }
}

/// Asks the device for a sign of life, and sees to its sentinel. The id of the sentinel.
async fn look(context: &Context, device: &str, target: &DeviceTarget, known: Option<String>) -> Result<String, Fault> {
    let client = context.device_client.as_ref();
    dms::peers_self(client, target).await?;
    if let Some(id) = known {
        // Seen once a pass over a deployment needs it; a heartbeat only asks whether it still exists.
        let status = dms::deployment_status(client, target, &id, false).await?;
        if status.state.is_some() {
            return Ok(id);
        }
        let all = dms::deployment_list_all(client, target, &BTreeMap::new()).await?;
        let listed = |id: &String| all.iter().any(|entry| &entry.id == id);
        let recorded = context.recorded_ids(device, "");
        if listed(&id) {
            return Ok(id);
        }
        if !recorded.is_empty() && recorded.iter().all(listed) {
            // Only the sentinel is gone, as an ended deployment that somebody pruned.
            return plant(context, target, sentinel_marks(context)).await;
        }
        return Err(Fault {
            reason: Reason::SentinelLost,
            message: format!(
                "the device answers, but no longer knows the record {id} by which its list is known to be whole: it lost \
                 its state. Once nothing runs there any more that it does not know of, take it as it is now with \
                 `kubectl hosting device adopt {device}`"
            ),
            stalled: true,
        });
    }
    let marks = sentinel_marks(context);
    let found = dms::deployment_list_all(client, target, &marks).await?;
    if let Some(entry) =
        found.into_iter().find(|entry| marks.iter().all(|(key, value)| entry.metadata.get(key) == Some(value)))
    {
        return Ok(entry.id);
    }
    plant(context, target, marks).await
}

fn sentinel_marks(context: &Context) -> BTreeMap<String, String> {
    [
        (metadata::INSTALLATION.to_owned(), context.identity.installation.id().to_owned()),
        (metadata::SENTINEL.to_owned(), "true".to_owned()),
    ]
    .into()
}

/// Leaves a deployment on the device that no executor takes, so that it fails at its deadline and stays in the list.
/// A second one does no harm.
async fn plant(context: &Context, target: &DeviceTarget, marks: BTreeMap<String, String>) -> Result<String, Fault> {
    let peer = target.did.peer_id();
    let request = json!({"Ensemble": {"v1": {
        "escalation_strategy": "teardown",
        "allocations": {"sentinel": {
            "executor": "null",
            "type": "task",
            "resources": {
                "cpu": {"clock_speed": 1_000_000_000_u64, "cores": 1},
                "ram": {"size": 1_u64 << 20},
                "disk": {"size": 1_u64 << 20},
            },
            "execution": {"type": "null"},
            "failure_recovery": "stay_down",
        }},
        "nodes": {"device": {"allocations": ["sentinel"], "failure_recovery": "stay_down", "peer": peer}},
        "metadata": marks,
    }}});
    let client = context.device_client.as_ref();
    let reply = client.call(target, dms::path::DEPLOYMENT_NEW, request, SENTINEL_WINDOW).await?;
    let reply = dms::deployment_new_reply(target, reply)?;
    if reply.ensemble_id.is_empty() {
        return Err(Fault {
            reason: Reason::DeviceRefused,
            message: format!("the device refused the record by which its list is known to be whole: {}", reply.error),
            stalled: false,
        });
    }
    Ok(reply.ensemble_id)
}

async fn publish_status(
    object: &HostingDevice,
    context: &Context,
    before: &HostingDeviceStatus,
    sentinel: Option<String>,
    outcome: &Outcome,
) -> Result<(), Error> {
    let generation = object.metadata.generation;
    let status = HostingDeviceStatus {
        observed_generation: generation,
        sentinel: sentinel.map(|id| SentinelRecord { id }),
        conditions: conditions(&[], outcome, &before.conditions, generation, context.clock.now()),
    };
    if &status == before {
        return Ok(());
    }
    let api: Api<HostingDevice> = Api::namespaced(context.client.clone(), &context.settings.namespace);
    let patch = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
        // Written by a pass over an older version, it could take the record of the sentinel away.
        "metadata": {"resourceVersion": object.metadata.resource_version},
        "status": status,
    });
    api.patch_status(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(patch))
        .await
        .map_err(Error::api(format!("writing the status of HostingDevice {}", object.name_any())))?;
    events::changes(context, &object.object_ref(&()), &before.conditions, &status.conditions).await;
    Ok(())
}
