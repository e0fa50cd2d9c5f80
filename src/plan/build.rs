//! What is to run on a device, before it takes DMS's wire form (`device::dms::ensemble` encodes it).

use std::collections::BTreeMap;

/// One deployment pinned to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleSpec {
    /// Peer ID of the device that it is pinned to.
    pub peer: String,
    /// What runs there; names are unique.
    pub allocations: Vec<AllocationSpec>,
    /// Marks by which it is known as ours.
    pub metadata: BTreeMap<String, String>,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllocationSpec {
    /// DNS label, unique in the ensemble.
    pub name: String,
    /// Image with digest, `name@sha256:…`.
    pub image: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// CPU, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
    /// Ports reachable from outside.
    pub ports: Vec<PortSpec>,
}

/// A port of a container made public on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Public port; 0 lets the device choose.
    pub public: u16,
    /// Port inside the container.
    pub private: u16,
}
