use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    fmt,
    time::Duration,
};

use super::reading::{Network, Reading, Reserved, RunState};
use crate::capability::Nanos;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// What one reading adds to what was counted before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Increment {
    /// Whole seconds that it ran. The seconds of the wall clock that began between the two readings are counted, so
    /// that the parts of a run add up to the whole without rounding.
    pub seconds: u64,
    /// Reserved CPU: thousandths of a core, times seconds.
    pub cpu_milli_seconds: u128,
    /// Reserved memory: bytes, times seconds.
    pub memory_byte_seconds: u128,
    /// Reserved disk: bytes, times seconds.
    pub disk_byte_seconds: u128,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes of content in the store now: a level, not a sum. `None` when not known.
    pub stored_bytes: Option<u64>,
    /// Why no time was counted; `None` when it was.
    pub gap: Option<Gap>,
}

/// More than any one deployment sends or receives in a second: 100 Gbit.
const MOST_BYTES_PER_SECOND: u64 = 12_500_000_000;

impl Increment {
    /// Whether more bytes went over the network in this time than any network carries.
    fn is_impossible(&self, in_time: Duration) -> bool {
        let most = MOST_BYTES_PER_SECOND.saturating_mul(in_time.as_secs().saturating_add(1));
        self.received_bytes > most || self.sent_bytes > most
    }
}

/// Why the time before a reading is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gap {
    /// Nothing was read before it.
    FirstReading,
    /// The allocation was started anew since the reading before.
    NewIncarnation,
    /// It did not run at one of the two readings; when it began or ended is not known.
    NotRunning,
    /// The device could not be asked, now or at the reading before.
    DeviceSilent,
    /// The readings are too far apart to vouch for what lies between.
    ReadingsMissed,
    /// It is not later than a reading that was counted already. Nothing at all is taken from it.
    OutOfOrder,
    /// It says that more went over the network than a network carries. Nothing at all is taken from it.
    Impossible,
}

impl Gap {
    /// The text used in metrics and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FirstReading => "FirstReading",
            Self::NewIncarnation => "NewIncarnation",
            Self::NotRunning => "NotRunning",
            Self::DeviceSilent => "DeviceSilent",
            Self::ReadingsMissed => "ReadingsMissed",
            Self::OutOfOrder => "OutOfOrder",
            Self::Impossible => "Impossible",
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Turns readings into increments; remembers the last reading of each allocation.
#[derive(Clone, Debug)]
pub struct Meter {
    longest_interval: Duration,
    last: BTreeMap<(String, String), Last>,
}

#[derive(Clone, Debug)]
struct Last {
    incarnation: String,
    at: Nanos,
    /// When something was last counted, before any silence.
    counted_at: Nanos,
    state: RunState,
    reserved: Reserved,
    network: Option<Network>,
    /// Where the counters of earlier incarnations stood, the latest last: a record may go back to one.
    earlier: VecDeque<(String, Network)>,
    /// Where the counters stood before they fell.
    fallen: Option<Network>,
}

/// Earlier incarnations that are remembered.
const EARLIER: usize = 4;

impl Default for Meter {
    /// A meter that takes readings up to five minutes apart for continuous.
    fn default() -> Self {
        Self::new(Duration::from_mins(5))
    }
}

impl Meter {
    /// A meter that counts the time between two readings only if they are at most this far apart.
    #[must_use]
    pub const fn new(longest_interval: Duration) -> Self {
        Self { longest_interval, last: BTreeMap::new() }
    }

    /// Leaves out counters that are lower than before, in a reading that is about to be taken.
    ///
    /// Counters fall once when a device was killed and lost count: what they count from there on is counted. Those that
    /// come back to where they stood have counted on from there all the while.
    pub fn settle_fall(&mut self, reading: &mut Reading) {
        let Some(counted) = reading.network else { return };
        let before = self.last.get_mut(&(reading.deployment.clone(), reading.allocation.clone()));
        let Some(before) = before.filter(|before| before.incarnation == reading.incarnation) else { return };
        let Some(base) = before.network else { return };
        match before.fallen {
            Some(stood) if counted.reaches(stood) => (before.network, before.fallen) = (Some(stood), None),
            _ if counted.reaches(base) => {}
            fallen => {
                before.fallen = fallen.or(Some(base));
                before.network = Some(counted);
                reading.network = None;
            }
        }
    }

    /// What a reading adds.
    pub fn take(&mut self, reading: Reading) -> Increment {
        let Reading { deployment, allocation, incarnation, at, state, reserved, network, stored_bytes } = reading;
        let earlier = VecDeque::new();
        let now = Last { incarnation, at, counted_at: at, state, reserved, network, earlier, fallen: None };
        match self.last.entry((deployment, allocation)) {
            Entry::Vacant(entry) => {
                // A silent device shows no incarnation to begin from.
                if state != RunState::Unknown {
                    entry.insert(now);
                }
                let gap = if state == RunState::Unknown { Gap::DeviceSilent } else { Gap::FirstReading };
                Increment { stored_bytes, gap: Some(gap), ..Increment::default() }
            }
            Entry::Occupied(mut entry) => {
                let before = entry.get_mut();
                if at <= before.at {
                    return Increment { gap: Some(Gap::OutOfOrder), ..Increment::default() };
                }
                if state == RunState::Unknown {
                    before.at = at;
                    before.state = RunState::Unknown;
                    return Increment { stored_bytes, gap: Some(Gap::DeviceSilent), ..Increment::default() };
                }
                let mut increment = Increment { stored_bytes, ..difference(before, &now, self.longest_interval) };
                let impossible = increment.is_impossible(at.since(before.counted_at));
                if impossible && before.incarnation != now.incarnation {
                    // It began before it was first seen; how much it had counted until then is not known.
                    (increment.received_bytes, increment.sent_bytes) = (0, 0);
                } else if impossible {
                    // The counters of the reading before stay what the next one is compared with.
                    before.at = at;
                    before.state = RunState::Unknown;
                    return Increment { stored_bytes, gap: Some(Gap::Impossible), ..Increment::default() };
                }
                let known = before.counted(&now.incarnation);
                let mut earlier = std::mem::take(&mut before.earlier);
                let fallen = before.fallen.take().filter(|_| before.incarnation == now.incarnation);
                if before.incarnation != now.incarnation {
                    earlier.retain(|(incarnation, _)| *incarnation != now.incarnation);
                    earlier.extend(before.network.map(|network| (before.incarnation.clone(), network)));
                    while earlier.len() > EARLIER {
                        earlier.pop_front();
                    }
                }
                *before = Last { network: now.network.or(known), earlier, fallen, ..now };
                increment
            }
        }
    }

    /// Forgets a deployment that is gone.
    pub fn forget(&mut self, deployment: &str) {
        self.last.retain(|(of, _), _| of != deployment);
    }
}

impl Last {
    /// Where the counters of an incarnation stood last.
    fn counted(&self, incarnation: &str) -> Option<Network> {
        if self.incarnation == incarnation {
            return self.network;
        }
        self.earlier.iter().find(|(known, _)| known == incarnation).map(|(_, network)| *network)
    }
}

/// What lies between two readings, of which the later shows what the allocation does.
fn difference(before: &Last, now: &Last, longest_interval: Duration) -> Increment {
    let same = before.incarnation == now.incarnation;
    let gap = if !same {
        Some(Gap::NewIncarnation)
    } else if before.state == RunState::Unknown {
        Some(Gap::DeviceSilent)
    } else if before.state != RunState::Running || now.state != RunState::Running {
        Some(Gap::NotRunning)
    } else if now.at.since(before.at) > longest_interval {
        Some(Gap::ReadingsMissed)
    } else {
        None
    };
    let seconds = if gap.is_none() { now.at.0 / NANOS_PER_SECOND - before.at.0 / NANOS_PER_SECOND } else { 0 };
    let reserved = before.reserved.common(now.reserved);
    let over_time = |amount: u64| u128::from(amount) * u128::from(seconds);
    let network = match (now.network, before.counted(&now.incarnation)) {
        (Some(counted), Some(earlier)) => counted.since(earlier),
        // All that a new incarnation counted is new.
        (Some(counted), _) if !same => counted,
        // Where the count stood before is not known: it is counted from here.
        (Some(_) | None, _) => Network::default(),
    };
    Increment {
        seconds,
        cpu_milli_seconds: over_time(reserved.cpu_millis),
        memory_byte_seconds: over_time(reserved.memory_bytes),
        disk_byte_seconds: over_time(reserved.disk_bytes),
        received_bytes: network.received,
        sent_bytes: network.sent,
        stored_bytes: None,
        gap,
    }
}

/// Sums of increments, wide enough never to run over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// See [`Increment::seconds`].
    pub seconds: u128,
    /// See [`Increment::cpu_milli_seconds`].
    pub cpu_milli_seconds: u128,
    /// See [`Increment::memory_byte_seconds`].
    pub memory_byte_seconds: u128,
    /// See [`Increment::disk_byte_seconds`].
    pub disk_byte_seconds: u128,
    /// See [`Increment::received_bytes`].
    pub received_bytes: u128,
    /// See [`Increment::sent_bytes`].
    pub sent_bytes: u128,
}

impl Totals {
    /// Adds an increment.
    pub fn add(&mut self, increment: &Increment) {
        let Increment {
            seconds,
            cpu_milli_seconds,
            memory_byte_seconds,
            disk_byte_seconds,
            received_bytes,
            sent_bytes,
            stored_bytes: _,
            gap: _,
        } = *increment;
        self.seconds += u128::from(seconds);
        self.cpu_milli_seconds += cpu_milli_seconds;
        self.memory_byte_seconds += memory_byte_seconds;
        self.disk_byte_seconds += disk_byte_seconds;
        self.received_bytes += u128::from(received_bytes);
        self.sent_bytes += u128::from(sent_bytes);
    }
}

#[cfg(test)]
mod tests;
