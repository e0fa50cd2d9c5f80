//! Adoption: a person says that a device which lost its state is to be taken as it is now.
//!
//! What says so is an annotation with a time. It counts for a loss that was reported before, and not for the next one; and
//! what was recorded on the device before that time no longer has to be in its list.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Resource, ResourceExt as _, api::DynamicObject};

use crate::api::{ConditionType, HostingDevice, HostingDeviceStatus, Reason, names::ANNOTATION_ADOPT};

/// How far clocks may differ.
const SKEW: Duration = Duration::from_secs(30);

/// When the device was last adopted. A value that is no time, or one that is still to come, says nothing.
pub fn time(device: &impl Resource, now: Timestamp) -> Option<Timestamp> {
    let adopted: Timestamp = device.annotations().get(ANNOTATION_ADOPT)?.parse().ok()?;
    (adopted.duration_since(now) <= jiff::SignedDuration::try_from(SKEW).unwrap_or_default()).then_some(adopted)
}

/// Whether the loss that the status tells of was adopted.
pub(super) fn is_due(device: &HostingDevice, status: &HostingDeviceStatus, now: Timestamp) -> bool {
    is_settled(device, status, now, (ConditionType::Stalled, "True", Reason::SentinelLost))
}

/// Whether what the status accuses the device of was seen to.
pub(super) fn acquits(device: &HostingDevice, status: &HostingDeviceStatus, now: Timestamp) -> bool {
    is_settled(device, status, now, (ConditionType::Credible, "False", Reason::DeviceContradicts))
}

fn is_settled(
    device: &HostingDevice,
    status: &HostingDeviceStatus,
    now: Timestamp,
    (kind, value, reason): (ConditionType, &str, Reason),
) -> bool {
    let told = status.conditions.iter().find(|condition| {
        condition.type_ == kind.as_str() && condition.status == value && condition.reason == reason.as_str()
    });
    told.zip(time(device, now)).is_some_and(|(told, adopted)| adopted >= told.last_transition_time.0)
}

/// Whether what is recorded of a HostingDeployment was asked of the device before it was adopted. `window` is how long a
/// request for a new deployment lives.
pub fn gave_up(adopted: Timestamp, object: &DynamicObject, window: Duration) -> bool {
    let expires = object.data.pointer("/status/deployment/expires").and_then(serde_json::Value::as_str);
    // Of what was found by its marks it is not known when it was asked for.
    let expires: Option<Timestamp> =
        expires.and_then(|text| text.parse().ok()).filter(|at| *at > Timestamp::UNIX_EPOCH);
    let asked = expires.and_then(|expires| expires.checked_sub(window).ok());
    asked.is_some_and(|asked| asked <= adopted)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn device(annotation: Option<&str>, stalled: &Value) -> HostingDevice {
        let annotations = annotation.map(|time| json!({ANNOTATION_ADOPT: time}));
        serde_json::from_value(json!({
            "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
            "metadata": {"name": "rack-1", "annotations": annotations},
            "spec": {"did": "did:key:z6Mk", "addresses": ["/ip4/127.0.0.1/tcp/1"]},
            "status": {"conditions": [stalled]},
        }))
        .unwrap()
    }

    fn due(annotation: Option<&str>, kind: &str, value: &str, reason: &str) -> bool {
        let device = device(
            annotation,
            &json!({
                "type": kind, "status": value, "reason": reason, "message": "",
                "lastTransitionTime": "2026-11-27T10:00:00Z",
            }),
        );
        is_due(&device, device.status.as_ref().unwrap(), "2026-11-27T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn an_adoption_counts_for_a_loss_before_it_and_for_nothing_else() {
        let lost = |annotation| due(annotation, "Stalled", "True", "SentinelLost");
        assert!(lost(Some("2026-11-27T10:00:00Z")));
        assert!(lost(Some("2026-11-27T11:00:00.5+01:00")), "half a second later, told in another zone");
        assert!(!lost(Some("2026-11-27T09:59:59.999Z")), "that was said of the loss before");
        assert!(!lost(None));
        assert!(lost(Some("2026-11-27T12:00:30Z")), "clocks may differ so much");
        assert!(!lost(Some("2026-11-27T12:00:31Z")), "what is still to come settles nothing");
        assert!(!lost(Some("yes")));
        let later = Some("2026-11-27T12:00:00Z");
        assert!(!due(later, "Stalled", "True", "GrantInsufficient"));
        assert!(!due(later, "Stalled", "False", "SentinelLost"));
        assert!(!due(later, "Ready", "True", "Succeeded"));
    }

    #[test]
    fn what_was_asked_before_the_adoption_is_given_up() {
        let window = Duration::from_mins(5);
        let gave_up = |expires: Value| {
            let object: DynamicObject = serde_json::from_value(json!({
                "metadata": {"name": "web"}, "status": {"deployment": {"expires": expires}},
            }))
            .unwrap();
            gave_up("2026-11-27T10:00:00Z".parse().unwrap(), &object, window)
        };
        assert!(gave_up(json!("2026-11-27T10:05:00Z")));
        assert!(!gave_up(json!("2026-11-27T10:05:01Z")));
        assert!(!gave_up(json!(null)), "what is not known is not given up");
        assert!(!gave_up(json!("1970-01-01T00:00:00Z")), "found by its marks");
    }
}
