//! How long to wait before the next attempt to connect.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after `failures` attempts that failed in a row. `jitter`, from 0 to 1, spreads it over its upper half, so
/// that the links that one outage cut do not all come back in the same moment.
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST).mul_f64(f64::midpoint(1.0, jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let longest = [0, 1, 2, 3, 6, 7, 100].map(|failures| pause(failures, 1.0).as_millis());
        assert_eq!(longest, [200, 200, 400, 800, 6_400, 10_000, 10_000]);
        let shortest = [1, 3, u32::MAX].map(|failures| pause(failures, 0.0).as_millis());
        assert_eq!(shortest, [100, 400, 5_000]);
    }
}
