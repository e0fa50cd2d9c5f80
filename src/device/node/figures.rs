//! What one allocation does and has used.

use std::{sync::Mutex, sync::MutexGuard, time::Instant};

use tokio::sync::watch;

use crate::device::dms::ResourceUsage;

/// What an allocation does, as DMS names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not started yet.
    Pending,
    /// Its process runs.
    Running,
    /// Its process ended and will be started again.
    Restarting,
    /// It does not run and will not.
    Stopped,
}

impl Phase {
    /// The name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// Counters over all processes of one allocation. They do not fall while the node runs, and are kept when it is stopped;
/// when it is killed, what the last process counted is lost.
#[derive(Debug)]
pub(super) struct Figures {
    phase: watch::Sender<Phase>,
    counted: Mutex<Counted>,
}

#[derive(Debug)]
struct Counted {
    ended: (u64, u64),
    current: (u64, u64),
    process: Option<(u32, Instant)>,
}

impl Figures {
    /// Starts from what earlier processes received and sent.
    pub(super) fn new(received: u64, sent: u64) -> Self {
        let counted = Counted { ended: (received, sent), current: (0, 0), process: None };
        Self { phase: watch::Sender::new(Phase::Pending), counted: Mutex::new(counted) }
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Waits until the first process runs.
    pub(super) async fn running(&self) {
        // proven: the sender lives in `self`, so the channel is open.
        let _ = self.phase.subscribe().wait_for(|phase| *phase == Phase::Running).await;
    }

    /// A process starts.
    pub(super) fn begin(&self, pid: Option<u32>) {
        self.counted().process = pid.map(|pid| (pid, Instant::now()));
        self.set_phase(Phase::Running);
    }

    /// The process says what it has counted. A counter that falls is not believed.
    pub(super) fn count(&self, received: u64, sent: u64) {
        let mut counted = self.counted();
        counted.current = (counted.current.0.max(received), counted.current.1.max(sent));
    }

    /// The process has ended. Gives what all processes have received and sent.
    pub(super) fn end(&self) -> (u64, u64) {
        let mut counted = self.counted();
        counted.ended = counted.total();
        counted.current = (0, 0);
        counted.process = None;
        counted.ended
    }

    /// What was used until now.
    pub(super) fn usage(&self) -> ResourceUsage {
        let (total, process) = {
            let counted = self.counted();
            (counted.total(), counted.process)
        };
        let mut usage =
            ResourceUsage { network_rx_bytes: total.0, network_tx_bytes: total.1, ..ResourceUsage::default() };
        if let Some((pid, begun)) = process {
            usage.memory_used_bytes = memory_of(pid).unwrap_or(0);
            let seconds = begun.elapsed().as_secs_f64();
            if seconds > 0.0 {
                usage.cpu_usage_percent = cpu_seconds_of(pid).unwrap_or(0.0) / seconds * 100.0;
            }
        }
        usage
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        // Counters are whole at every moment, so one written by a thread that panicked is as good.
        self.counted.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Counted {
    const fn total(&self) -> (u64, u64) {
        (self.ended.0.saturating_add(self.current.0), self.ended.1.saturating_add(self.current.1))
    }
}

/// Resident memory, from `/proc/<pid>/status`.
fn memory_of(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kibibytes: u64 =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Processor time, from `/proc/<pid>/stat`: fields 14 and 15, in hundredths of a second (what Linux shows to programs on
/// every machine). Counted from behind the name, which may hold blanks and parentheses.
fn cpu_seconds_of(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some((f64::from(user) + f64::from(system)) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_over_processes_and_never_fall() {
        let figures = Figures::new(10, 20);
        figures.begin(None);
        figures.count(5, 6);
        figures.count(4, 7);
        let network = |figures: &Figures| (figures.usage().network_rx_bytes, figures.usage().network_tx_bytes);
        assert_eq!(network(&figures), (15, 27));
        assert_eq!(figures.end(), (15, 27));
        figures.begin(None);
        assert_eq!(network(&figures), (15, 27));
        figures.count(1, 1);
        assert_eq!(network(&figures), (16, 28));
    }

    #[test]
    fn memory_and_processor_of_a_process_are_read() {
        let figures = Figures::new(0, 0);
        figures.begin(Some(std::process::id()));
        let usage = figures.usage();
        assert!(usage.memory_used_bytes > 100 * 1024, "{usage:?}");
        assert!(cpu_seconds_of(std::process::id()).is_some());
        figures.end();
        assert_eq!(figures.usage().memory_used_bytes, 0);
    }
}
