//! What a storm left.

use std::{collections::BTreeMap, time::Duration};

use dms_operator::{api::names::metadata, dev::Process, device::dms::DeploymentState};
use serde_json::Value;

use crate::world::Tenant;

#[derive(Debug)]
pub struct Count {
    /// Objects that are applied.
    pub deployments: usize,
    /// Living deployments on devices beyond one for an object, and those for objects that are gone.
    pub duplicates: usize,
    /// Objects without a living deployment, or whose site does not serve what was applied.
    pub lost: usize,
    /// Objects whose deployment was replaced by another, though nobody deleted them.
    pub false_deletions: usize,
    /// How long after the end of the fault all was as applied.
    pub converged: Duration,
    /// Memory of the operator.
    pub resident_mib: u64,
}

impl Count {
    /// A row of the table.
    pub fn row(&self, fault: &str) -> String {
        let Self { deployments, duplicates, lost, false_deletions, converged, resident_mib } = self;
        format!(
            "| `{fault}` | {deployments} | {duplicates} | {lost} | {false_deletions} | {:.1} | {resident_mib} |",
            converged.as_secs_f64()
        )
    }
}

/// The living deployments on all devices that carry the name of an object of this tenant, from the devices' own state.
pub fn living(tenant: &Tenant<'_>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for device in &tenant.installation.devices {
        let state: Value =
            serde_json::from_slice(&std::fs::read(device.folder.join("state/state.json")).unwrap()).unwrap();
        for (id, record) in state["deployments"].as_object().unwrap() {
            let state: DeploymentState = serde_json::from_value(record["state"].clone()).unwrap();
            let name = record["metadata"][metadata::NAME].as_str();
            if let Some(name) = name.filter(|_| record["metadata"][metadata::NAMESPACE] == *tenant.namespace)
                && !state.is_over()
            {
                found.entry(name.to_owned()).or_default().push(id.clone());
            }
        }
    }
    found
}

/// What a process holds in memory, in MiB.
pub fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}
