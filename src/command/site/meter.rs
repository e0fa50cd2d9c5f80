//! The counters of readers' connections, as the device reads them.

use std::{sync::Arc, time::Duration};

use tokio::time::MissedTickBehavior;

use super::{super::connections::Meter, Print};

/// The counters are said at most this often.
const EVERY: Duration = Duration::from_secs(1);

/// The line that a device reads: `usage rx=<bytes received> tx=<bytes sent>`, both since the start.
pub(super) fn line(meter: &Meter) -> String {
    format!("usage rx={} tx={}", meter.received(), meter.sent())
}

/// Says the counters whenever they changed.
pub(super) async fn report(meter: Arc<Meter>, print: Print) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        let line = line(&meter);
        if line != last {
            print(&line);
            last = line;
        }
    }
}
