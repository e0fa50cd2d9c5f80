//! What is known of devices between their heartbeats.

use std::collections::BTreeMap;

use super::{Context, Wake, locked};
use crate::{
    device::dms::Spelling,
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
    /// What its object says: generation and labels.
    pub object: (Option<i64>, BTreeMap<String, String>),
}

/// After so many unanswered heartbeats only the heartbeat asks.
pub const SILENCES: u32 = reach::MISSES;

/// What the heartbeats of a device have shown so far; all but the accusations of passes comes from its status again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// The generation of its object that this speaks of: edited, it is another device.
    pub generation: Option<i64>,
    /// Whether it answers.
    pub reach: Reach,
    /// Whether it offers resources.
    pub onboarded: Option<bool>,
    /// How it spells its replies.
    pub spelling: Option<Spelling>,
    /// What it once answered that cannot be.
    pub contradiction: Option<String>,
    /// Heartbeats since the process started.
    pub beats: u32,
}

impl Context {
    /// What was last found out about a device.
    #[must_use]
    pub fn health(&self, device: &str) -> DeviceHealth {
        locked(&self.health).get(device).cloned().unwrap_or_default()
    }

    /// Notes what was found out about a device; `None` when it is gone.
    pub fn set_health(&self, device: &str, health: Option<DeviceHealth>) {
        let known = health.clone();
        let before = match health {
            Some(health) => locked(&self.health).insert(device.to_owned(), health),
            None => locked(&self.health).remove(device),
        };
        if before != known {
            self.wake(Wake::Device(device.to_owned()));
        }
    }

    /// What the heartbeats of a device have shown; `known` when nothing was noted yet, or for an earlier generation.
    pub fn watched(&self, device: &str, known: impl FnOnce() -> Watched) -> Watched {
        let known = known();
        let noted = locked(&self.watched).get(device).filter(|noted| noted.generation == known.generation).cloned();
        noted.unwrap_or(known)
    }

    /// Notes what a heartbeat has shown, and gives it together with what the device was accused of meanwhile.
    pub fn set_watched(&self, device: &str, mut now: Watched) -> Watched {
        let mut watched = locked(&self.watched);
        if let Some(before) = watched.get(device).filter(|before| before.generation == now.generation) {
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

    /// Whether what a device answers has always fitted together.
    #[must_use]
    pub fn credible(&self, device: &str) -> bool {
        locked(&self.watched).get(device).is_none_or(|watched| watched.contradiction.is_none())
    }

    /// The devices of which something was found out.
    #[must_use]
    pub fn known_devices(&self) -> Vec<String> {
        locked(&self.health).keys().cloned().collect()
    }
}
