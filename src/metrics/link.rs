//! Figures of the link to the devices, read when they are asked for.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter},
};

use super::ReasonLabels;

/// What a link has counted since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkFigures {
    /// Messages received whole.
    pub received: u64,
    /// Messages written whole.
    pub sent: u64,
    /// Connections established.
    pub connections: u64,
    /// Attempts to connect that failed.
    pub failed_dials: u64,
    /// What was dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// What was asked of the operator's own actor: `Answered`, `Unanswered`, or why it was dropped.
    pub asked: Vec<(&'static str, u64)>,
}

type Read = dyn Fn() -> LinkFigures + Send + Sync;

/// Asks a link for its figures, once there is one.
#[derive(Clone, Default)]
pub(super) struct LinkCollector(Arc<OnceLock<Box<Read>>>);

impl fmt::Debug for LinkCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LinkCollector")
    }
}

impl LinkCollector {
    pub(super) fn read(&self, read: impl Fn() -> LinkFigures + Send + Sync + 'static) {
        // A process has one link.
        let _ = self.0.set(Box::new(read));
    }
}

impl Collector for LinkCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let LinkFigures { received, sent, connections, failed_dials, dropped, asked } =
            self.0.get().map(|read| read()).unwrap_or_default();
        for (name, help, count) in [
            ("link_messages_received", "Messages received whole from devices", received),
            ("link_messages_sent", "Messages written whole to devices", sent),
            ("link_connections", "Connections established with devices", connections),
            ("link_failed_dials", "Attempts to connect to a device that failed", failed_dials),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, counts) in [
            ("link_dropped", "Messages and streams from devices that were dropped, by reason", dropped),
            (
                "actor_messages",
                "Messages to the operator's own actor: Answered, Unanswered, or the reason for which they were dropped",
                asked,
            ),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (reason, count) in counts {
                let labels = ReasonLabels { reason: reason.to_owned() };
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
