//! What a node offers.

use std::thread;

/// Where Linux tells how much memory there is.
const MEMORY: &str = "/proc/meminfo";
/// Disk offered unless something else is said: 64 GiB.
const DISK_BYTES: f64 = 68_719_476_736.0;

/// What a node offers. It is told to those who ask, not enforced: children share the machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Cores of 1 GHz.
    pub cores: f64,
    /// Memory in bytes.
    pub memory_bytes: f64,
    /// Disk in bytes.
    pub disk_bytes: f64,
}

impl Offer {
    /// The cores and the memory of this machine, and 64 GiB of disk. What cannot be found out is offered as none.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let cores = thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok());
        let memory = std::fs::read_to_string(MEMORY).ok().and_then(|text| total_memory(&text));
        Self { cores: f64::from(cores.unwrap_or(0)), memory_bytes: memory.unwrap_or(0.0), disk_bytes: DISK_BYTES }
    }
}

fn total_memory(meminfo: &str) -> Option<f64> {
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.split_whitespace().next()?;
    Some(kibibytes.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn total_memory_is_read_from_its_line() {
        assert_eq!(total_memory("MemFree: 1 kB\nMemTotal:       24 kB\n"), Some(24576.0));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
        let offer = Offer::of_this_machine();
        assert!(offer.cores >= 1.0 && offer.memory_bytes > 1e8, "{offer:?}");
    }
}
