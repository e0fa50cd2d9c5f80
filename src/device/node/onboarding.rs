//! What the node offers of its machine, and whether it offers anything at all: `onboarding.json` in its directory.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Offer,
    durable::{self, StateError},
    ensemble::{Demand, Ensemble},
};
use crate::device::dms::{Cpu, Resources, Size};

const FILE: &str = "onboarding.json";
const SCHEMA: u32 = 1;
/// Amounts of what allocations ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Amounts {
    /// Cores × clock.
    hertz: f64,
    memory: f64,
    disk: f64,
}

impl Amounts {
    /// The clock in which cores are offered: DMS weighs cores × clock.
    pub(super) const HERTZ: f64 = 1e9;

    /// What all allocations of an ensemble ask for.
    pub(super) fn of_ensemble(ensemble: &Ensemble) -> Self {
        ensemble.allocations.values().fold(Self::default(), |sum, allocation| {
            let Demand { cpu, ram, disk, .. } = &allocation.resources;
            sum.plus(Self { hertz: cpu.cores * cpu.clock_speed, memory: ram.size, disk: disk.size })
        })
    }

    /// What a node is told to offer; a clock that is not told is 1 GHz.
    pub(super) fn of_resources(resources: &Resources) -> Self {
        let Resources { cpu: Cpu { clock_speed, cores }, ram, disk } = resources;
        let clock = if *clock_speed == 0.0 { Self::HERTZ } else { *clock_speed };
        Self { hertz: cores * clock, memory: ram.size, disk: disk.size }
    }

    pub(super) const fn of_offer(offer: &Offer) -> Self {
        let Offer { cores, memory_bytes, disk_bytes } = offer;
        Self { hertz: *cores * Self::HERTZ, memory: *memory_bytes, disk: *disk_bytes }
    }

    pub(super) fn to_resources(self) -> Resources {
        let Self { hertz, memory, disk } = self;
        let cpu = Cpu { clock_speed: Self::HERTZ, cores: hertz / Self::HERTZ };
        Resources { cpu, ram: Size { size: memory }, disk: Size { size: disk } }
    }

    pub(super) fn plus(self, other: Self) -> Self {
        self.with(other, |own, other| own + other)
    }

    /// What is left; never less than nothing.
    pub(super) fn less(self, other: Self) -> Self {
        self.with(other, |own, other| (own - other).max(0.0))
    }

    fn at_most(self, other: Self) -> Self {
        self.with(other, f64::min)
    }

    fn with(self, other: Self, each: impl Fn(f64, f64) -> f64) -> Self {
        let Self { hertz, memory, disk } = self;
        Self { hertz: each(hertz, other.hertz), memory: each(memory, other.memory), disk: each(disk, other.disk) }
    }

    /// What of `room` this is more than, if of anything. No number that is none fits.
    pub(super) fn excess(&self, room: &Self) -> Option<&'static str> {
        let Self { hertz, memory, disk } = self;
        let each = [(hertz, room.hertz, "processors"), (memory, room.memory, "memory"), (disk, room.disk, "disk")];
        each.into_iter().find(|(own, room, _)| !(**own >= 0.0 && **own <= *room)).map(|(_, _, name)| name)
    }

    fn lacks_any(&self) -> bool {
        let Self { hertz, memory, disk } = self;
        [hertz, memory, disk].into_iter().any(|amount| *amount == 0.0)
    }
}

/// Why the node does not offer what it was told to; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOnboarded {
    #[error("failed to onboard: {0} asked for is more than this machine has")]
    TooMuch(&'static str),
    #[error("failed to onboard: processors, memory and disk must all be more than zero")]
    Nothing,
    #[error("failed to onboard: {0} in use by deployments would not be offered any more")]
    InUse(&'static str),
    #[error("failed to offboard: deployments are running, shut them down first")]
    Running,
    #[error("failed to offboard: the node is not onboarded")]
    Already,
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a node offers. It stands as it is after a restart; the first start takes what the configuration says.
pub(super) struct Onboarding {
    directory: PathBuf,
    machine: Amounts,
    offered: Mutex<Option<Amounts>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    schema: u32,
    onboarded: Option<Resources>,
}

impl Onboarding {
    pub(super) fn open(directory: &Path, offer: &Offer, from_the_start: bool) -> Result<Self, StateError> {
        let machine = Amounts::of_offer(offer);
        let path = directory.join(FILE);
        let offered = match durable::read(&path, SCHEMA)? {
            None => from_the_start.then_some(machine),
            Some(value) => {
                let kept: Kept = serde_json::from_value(value).map_err(|error| StateError::damaged(&path, &error))?;
                // The machine may have become smaller since.
                kept.onboarded.map(|resources| Amounts::of_resources(&resources).at_most(machine))
            }
        };
        Ok(Self { directory: directory.to_owned(), machine, offered: Mutex::new(offered) })
    }

    /// What the machine has.
    pub(super) const fn machine(&self) -> Amounts {
        self.machine
    }

    /// What is offered of it; `None`: the node is not onboarded.
    pub(super) fn offered(&self) -> Option<Amounts> {
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to offer `wanted`, while `used` of it is in use.
    pub(super) async fn onboard(&self, wanted: Amounts, used: Amounts) -> Result<(), NotOnboarded> {
        if let Some(what) = wanted.excess(&self.machine) {
            return Err(NotOnboarded::TooMuch(what));
        }
        if wanted.lacks_any() {
            return Err(NotOnboarded::Nothing);
        }
        if let Some(what) = used.excess(&wanted) {
            return Err(NotOnboarded::InUse(what));
        }
        Ok(self.keep(Some(wanted)).await?)
    }

    /// Offers nothing any more. Nothing may be running.
    pub(super) async fn offboard(&self) -> Result<(), NotOnboarded> {
        if self.offered().is_none() {
            return Err(NotOnboarded::Already);
        }
        Ok(self.keep(None).await?)
    }

    async fn keep(&self, offered: Option<Amounts>) -> Result<(), StateError> {
        let kept = Kept { schema: SCHEMA, onboarded: offered.map(Amounts::to_resources) };
        // proven: numbers that passed a comparison are finite, and so have a form in JSON.
        let bytes = serde_json::to_vec(&kept).unwrap_or_default();
        durable::replace_later(&self.directory, FILE, bytes).await?;
        *self.offered.lock().unwrap_or_else(PoisonError::into_inner) = offered;
        Ok(())
    }
}
