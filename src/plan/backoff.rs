//! How long to wait before the next try.

use std::time::Duration;

/// Growing pauses with a cap. Jitter comes from the caller, so that this stays a function of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub cap: Duration,
}

/// Pauses between tries of things that fail for reasons outside: store, archive, device.
pub const OUTSIDE: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60) };
/// Pauses between looks at a device that is silent, refuses, or is not believed: shorter than between its heartbeats, since
/// it may be well again before any of them was missed.
pub const SILENT: Backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(10) };
/// Pauses between looks at something that is being started.
pub const STARTING: Backoff = Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(5) };

/// Pauses after writes that met somebody else's: the watch usually shows the newer version at once.
pub const CONFLICT: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(10) };

impl Backoff {
    /// The pause after `failures` failures in a row, where `jitter` from 0 to 255 takes away up to a fifth.
    #[must_use]
    pub fn pause(self, failures: u32, jitter: u8) -> Duration {
        let doubled = self.first.saturating_mul(1_u32 << failures.saturating_sub(1).min(20));
        let pause = doubled.min(self.cap);
        pause - pause * u32::from(jitter) / (5 * 255)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pauses_grow_to_the_cap_and_stay_positive(failures in 0_u32..100, jitter: u8) {
            let pause = OUTSIDE.pause(failures, jitter);
            prop_assert!(pause <= OUTSIDE.cap);
            prop_assert!(pause >= OUTSIDE.first * 4 / 5);
            prop_assert!(OUTSIDE.pause(failures + 1, 0) >= OUTSIDE.pause(failures, 0));
        }
    }
}
