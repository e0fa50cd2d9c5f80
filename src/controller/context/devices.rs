//! What is known of devices between their heartbeats.

use std::collections::BTreeMap;

use kube::ResourceExt as _;

use super::{Context, Wake, locked};
use crate::{
    api::{ConditionType, HostingDeviceStatus, ReplySpelling},
    plan::reach::{self, Reach},
};

/// What was last found out about a device. Passes over HostingDeployments are woken when it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceHealth {
    /// It answers, and its sentinel is in place.
    pub ready: bool,
    /// Id of its sentinel.
    pub sentinel: Option<String>,
    /// How many heartbeats in a row it left without an answer, counted up to [`SILENCES`].
    pub silences: u32,
    /// What its object says: uid, generation and labels.
    pub object: (Option<String>, Option<i64>, BTreeMap<String, String>),
}

impl DeviceHealth {
    /// Whether passes rest on what differs. One heartbeat that was missed is nothing to them.
    fn matters(&self, other: &Self) -> bool {
        let Self { ready, sentinel, silences, object } = self;
        let silent = *silences >= SILENCES;
        *ready != other.ready
            || *sentinel != other.sentinel
            || silent != (other.silences >= SILENCES)
            || *object != other.object
    }
}

/// After so many unanswered heartbeats only the heartbeat asks.
pub const SILENCES: u32 = reach::MISSES;

/// What the heartbeats of a device have shown so far. Its status tells it again to a process that has just started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// Uid of its object: another object of the same name may be another node.
    pub uid: Option<String>,
    /// Whether it answers.
    pub reach: Reach,
    /// Whether it offers resources.
    pub onboarded: Option<bool>,
    /// How it spells its replies.
    pub spelling: Option<ReplySpelling>,
    /// What it once answered that cannot be.
    pub contradiction: Option<String>,
    /// Heartbeats since the process started.
    pub beats: u32,
}

/// What the status of a device accuses it of.
#[must_use]
pub fn contradiction(status: &HostingDeviceStatus) -> Option<String> {
    let kind = ConditionType::Credible.as_str();
    let told = status.conditions.iter().find(|condition| condition.type_ == kind && condition.status == "False");
    told.map(|condition| condition.message.clone())
}

impl Context {
    /// What was last found out about a device.
    #[must_use]
    pub fn health(&self, device: &str) -> DeviceHealth {
        locked(&self.health).get(device).cloned().unwrap_or_default()
    }

    /// Notes what was found out about a device; `None` when it is gone.
    pub fn set_health(&self, device: &str, health: Option<DeviceHealth>) {
        let now = health.clone();
        let before = match health {
            Some(health) => locked(&self.health).insert(device.to_owned(), health),
            None => locked(&self.health).remove(device),
        };
        let differs = match (&before, &now) {
            (Some(before), Some(now)) => before.matters(now),
            (before, now) => before != now,
        };
        if differs {
            self.wake(Wake::Device(device.to_owned()));
        }
    }

    /// What the heartbeats of a device have shown; `known`, noted from now on, when that is nothing yet for this object.
    pub fn watched(&self, device: &str, known: Watched) -> Watched {
        let mut watched = locked(&self.watched);
        if let Some(noted) = watched.get(device).filter(|noted| noted.uid == known.uid) {
            return noted.clone();
        }
        watched.insert(device.to_owned(), known.clone());
        known
    }

    /// Notes what a heartbeat has shown, and gives it together with what the device was accused of meanwhile.
    pub fn set_watched(&self, device: &str, mut now: Watched) -> Watched {
        let mut watched = locked(&self.watched);
        if let Some(before) = watched.get(device).filter(|before| before.uid == now.uid) {
            now.contradiction = before.contradiction.clone().or(now.contradiction);
        }
        watched.insert(device.to_owned(), now.clone());
        now
    }

    /// Forgets a device that is gone.
    pub fn forget_watched(&self, device: &str) {
        locked(&self.watched).remove(device);
    }

    /// Notes that a device answered something that cannot be. Its next heartbeat tells.
    pub fn accuse(&self, device: &str, what: &str) {
        if let Some(watched) = locked(&self.watched).get_mut(device) {
            watched.contradiction.get_or_insert_with(|| what.to_owned());
        }
    }

    /// Takes what a device was accused of back: a person saw to it.
    pub fn acquit(&self, device: &str) {
        if let Some(watched) = locked(&self.watched).get_mut(device) {
            watched.contradiction = None;
        }
    }

    /// Whether what a device answers has always fitted together. Before its first heartbeat its status tells.
    #[must_use]
    pub fn credible(&self, device: &str) -> bool {
        if let Some(watched) = locked(&self.watched).get(device) {
            return watched.contradiction.is_none();
        }
        let object = self.devices.find(|found| found.name_any() == device);
        let status = object.and_then(|object| object.0.as_ref().ok().and_then(|readable| readable.status.clone()));
        contradiction(&status.unwrap_or_default()).is_none()
    }

    /// The devices of which something was found out.
    #[must_use]
    pub fn known_devices(&self) -> Vec<String> {
        locked(&self.health).keys().cloned().collect()
    }
}
