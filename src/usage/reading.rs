use crate::capability::Nanos;

/// What one look at one allocation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Uid of the HostingDeployment.
    pub deployment: String,
    /// Name of the allocation.
    pub allocation: String,
    /// Mark of this run of the allocation; another mark means that it was started anew.
    pub incarnation: String,
    /// When the look was taken.
    pub at: Nanos,
    /// What it did then.
    pub state: RunState,
    /// What the device keeps for it.
    pub reserved: Reserved,
    /// Bytes over the network since the incarnation began; `None` when the device did not say.
    pub network: Option<Network>,
    /// Bytes of content in the store for the deployment at this time; `None` when not known.
    pub stored_bytes: Option<u64>,
}

/// What an allocation was doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It ran.
    Running,
    /// It was certain not to run.
    NotRunning,
    /// It could not be told: the device was silent, or its answer incomplete.
    Unknown,
}

/// What a device keeps for an allocation, used or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// CPU, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
}

impl Reserved {
    /// The smaller of each: what both readings vouch for.
    pub(super) fn common(self, other: Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.min(other.cpu_millis),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            disk_bytes: self.disk_bytes.min(other.disk_bytes),
        }
    }
}

/// Bytes since the incarnation began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Bytes that the allocation received.
    pub received: u64,
    /// Bytes that it sent.
    pub sent: u64,
}

impl Network {
    /// Whether it counts at least as much as another.
    pub(super) const fn reaches(self, other: Self) -> bool {
        self.received >= other.received && self.sent >= other.sent
    }

    /// What was added since `before`. A counter below its last value began anew at 0.
    pub(super) fn since(self, before: Self) -> Self {
        let added = |before: u64, now: u64| now.checked_sub(before).unwrap_or(now);
        Self { received: added(before.received, self.received), sent: added(before.sent, self.sent) }
    }
}
