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
    let state = match sight {
        Sight::Unknown { .. } => RunState::Unknown,
        Sight::Seen { own, .. } => match own.iter().find(|own| own.id == id).map(|own| own.progress) {
            Some(Progress::Running) => RunState::Running,
            Some(Progress::Starting | Progress::Stopping | Progress::Failed | Progress::Completed) => {
                RunState::NotRunning
            }
            None => RunState::Unknown,
        },
    };
    let (cpu_millis, memory_bytes, disk_bytes) = SITE_RESOURCES;
    let network = details.usage.as_ref().map(|usage| Network {
        received: usage.resource_usage.network_rx_bytes,
        sent: usage.resource_usage.network_tx_bytes,
    });
    let (increment, fell_again) = context.remember(&subject.uid, |memory| {
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
        let fell_again = memory.meter.settle_fall(&mut reading);
        (memory.meter.take(reading), fell_again)
    });
    let what = match increment.gap {
        Some(Gap::Impossible) => Some("sent or received more than any network carries"),
        _ if fell_again => Some("has sent or received less than before, and not for the first time"),
        _ => None,
    };
    if let (Some(what), Some(record)) = (what, &subject.status.deployment) {
        let id = record.id.as_deref().unwrap_or_default();
        context.accuse(&record.device, &format!("the device says that deployment {id} {what}"));
    }
    context.metrics.usage(&subject.namespace, &subject.name, &increment);
}
