//! Points in time as DMS writes them.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Nanoseconds since 1970-01-01T00:00:00Z. On the wire an integer above 2^53, so it is never read as a float.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

impl Nanos {
    /// The latest time that can be written.
    pub const MAX: Self = Self(u64::MAX);

    /// This time and `duration` later, at most [`Nanos::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole(duration)))
    }

    /// This time and `duration` earlier, at least 0.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole(duration)))
    }

    /// The time that passed since `earlier`; zero, when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The same time as a timestamp.
    #[must_use]
    pub fn to_timestamp(self) -> Timestamp {
        // proven: 2^64 ns after 1970 is the year 2554, and a timestamp reaches to the year 9999.
        Timestamp::from_nanosecond(i128::from(self.0)).unwrap_or(Timestamp::MAX)
    }

    /// The same time from a timestamp; 0 before 1970, [`Nanos::MAX`] after the year 2554.
    #[must_use]
    pub fn from_timestamp(timestamp: Timestamp) -> Self {
        let nanoseconds = timestamp.as_nanosecond();
        Self(u64::try_from(nanoseconds).unwrap_or(if nanoseconds < 0 { 0 } else { u64::MAX }))
    }
}

fn whole(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl fmt::Display for Nanos {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.to_timestamp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_rfc_3339() {
        assert_eq!(Nanos(1_767_225_600_000_000_000).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(Nanos::MAX.to_string(), "2554-07-21T23:34:33.709551615Z");
    }

    #[test]
    fn arithmetic_stays_in_range() {
        assert_eq!(Nanos(5).minus(Duration::from_secs(1)), Nanos(0));
        assert_eq!(Nanos::MAX.plus(Duration::MAX), Nanos::MAX);
        assert_eq!(Nanos(1).since(Nanos(2)), Duration::ZERO);
        assert_eq!(Nanos(7).since(Nanos(2)), Duration::from_nanos(5));
        assert_eq!(Nanos::from_timestamp(Timestamp::MIN), Nanos(0));
        assert_eq!(Nanos::from_timestamp(Timestamp::MAX), Nanos::MAX);
        let now = Nanos(1_767_225_600_000_000_123);
        assert_eq!(Nanos::from_timestamp(now.to_timestamp()), now);
    }
}
