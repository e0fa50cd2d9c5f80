//! Usage: each look at a deployment is a reading; its difference to the one before goes into the counters.
//!
//! The one path by which usage is read. Time over which nobody can vouch for the deployment is a gap, and not counted.

use super::{Subject, observe::Details};
use crate::{
    controller::context::Context,
    plan::{
        build::SITE_RESOURCES,
        decide::{Progress, Record, Sight},
    },
    usage::{Gap, Network, Reading, Reserved, RunState},
};

/// Takes a reading, when there is something to read.
pub(super) fn take(subject: &Subject, context: &Context, sight: &Sight, details: &Details) {
    let Record::Bound { id, .. } = subject.record() else { return };
    let believed = subject.status.deployment.as_ref().is_none_or(|record| context.credible(&record.device));
    let state = match sight {
        _ if !believed => RunState::Unknown,
        Sight::Unknown { .. } => RunState::Unknown,
        Sight::Seen { own, .. } => match own.iter().find(|own| own.id == id).map(|own| &own.progress) {
            Some(Progress::Running) => RunState::Running,
            Some(Progress::Starting | Progress::Stopping | Progress::Failed | Progress::Completed) => {
                RunState::NotRunning
            }
            Some(Progress::Unknown(_)) | None => RunState::Unknown,
        },
    };
    let (cpu_millis, memory_bytes, disk_bytes) = SITE_RESOURCES;
    let network = details.usage.as_ref().filter(|_| believed).map(|usage| Network {
        received: usage.resource_usage.network_rx_bytes,
        sent: usage.resource_usage.network_tx_bytes,
    });
    let increment = context.remember(&subject.uid, |memory| {
        let mut reading = Reading {
            deployment: subject.uid.clone(),
            allocation: "site".to_owned(),
            incarnation: id,
            at: context.clock.now(),
            state,
            reserved: Reserved { cpu_millis, memory_bytes, disk_bytes },
            network,
            stored_bytes: (!memory.published.is_empty()).then(|| memory.published.values().sum()),
        };
        // Counters that fall are left out. That is no lie: a device that was killed may have lost count.
        memory.meter.settle_fall(&mut reading);
        memory.meter.take(reading)
    });
    if let (Some(Gap::Impossible), Some(record)) = (increment.gap, &subject.status.deployment) {
        let id = record.id.as_deref().unwrap_or_default();
        let what = format!("the device says that deployment {id} sent or received more than any network carries");
        context.accuse(&record.device, &what);
    }
    context.metrics.usage(&subject.namespace, &subject.name, &increment);
}
