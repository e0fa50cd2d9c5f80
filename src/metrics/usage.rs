//! What HostingDeployments have used.

use prometheus_client::{
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{ObjectLabels, ReasonLabels, Totals, add};
use crate::usage::Increment;

/// Counters of one HostingDeployment each.
#[derive(Debug, Default)]
pub(super) struct Usage {
    seconds: Totals<ObjectLabels>,
    cpu: Totals<ObjectLabels>,
    memory: Totals<ObjectLabels>,
    disk: Totals<ObjectLabels>,
    received: Totals<ObjectLabels>,
    sent: Totals<ObjectLabels>,
    stored: Family<ObjectLabels, Gauge>,
    gaps: Totals<ReasonLabels>,
}

impl Usage {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { seconds, cpu, memory, disk, received, sent, stored, gaps } = self;
        add(registry, "usage_allocation_seconds", "Seconds that allocations ran", seconds);
        add(registry, "usage_reserved_cpu_millicore_seconds", "Reserved CPU over time", cpu);
        add(registry, "usage_reserved_memory_byte_seconds", "Reserved memory over time", memory);
        add(registry, "usage_reserved_disk_byte_seconds", "Reserved disk over time", disk);
        add(registry, "usage_network_received_bytes", "Bytes received by allocations", received);
        add(registry, "usage_network_sent_bytes", "Bytes sent by allocations", sent);
        add(registry, "usage_stored_bytes", "Bytes of content in the store", stored);
        add(registry, "usage_gaps", "Readings before which time was not counted, by reason", gaps);
    }

    pub(super) fn add(&self, labels: &ObjectLabels, increment: &Increment) {
        let Increment {
            seconds,
            cpu_milli_seconds,
            memory_byte_seconds,
            disk_byte_seconds,
            received_bytes,
            sent_bytes,
            stored_bytes,
            gap,
        } = *increment;
        for (family, amount) in [
            (&self.seconds, u128::from(seconds)),
            (&self.cpu, cpu_milli_seconds),
            (&self.memory, memory_byte_seconds),
            (&self.disk, disk_byte_seconds),
            (&self.received, u128::from(received_bytes)),
            (&self.sent, u128::from(sent_bytes)),
        ] {
            // Also with nothing to add: a counter that is there from the start shows its first increase.
            family.get_or_create(labels).inc_by(u64::try_from(amount).unwrap_or(u64::MAX));
        }
        if let Some(bytes) = stored_bytes {
            self.stored.get_or_create(labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        if let Some(gap) = gap {
            self.gaps.get_or_create(&ReasonLabels { reason: gap.as_str().to_owned() }).inc();
        }
    }

    pub(super) fn forget(&self, labels: &ObjectLabels) {
        let Self { seconds, cpu, memory, disk, received, sent, stored, gaps: _ } = self;
        for family in [seconds, cpu, memory, disk, received, sent] {
            family.remove(labels);
        }
        stored.remove(labels);
    }
}
