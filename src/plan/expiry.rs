//! When an authorisation is near its end: early enough for a person or a pipeline to sign again.

use std::time::Duration;

use crate::capability::Nanos;

/// The longest time before its end at which it is said.
pub const LONGEST_NOTICE: Duration = Duration::from_hours(7 * 24);
/// It is said when this part of its life is left.
const PART: u32 = 5;

/// From when on an authorisation that was signed at `signed` and ends at `ends` is said to be ending: when a fifth of its
/// life is left, and no earlier than seven days before its end.
#[must_use]
pub fn soon(signed: Nanos, ends: Nanos) -> Nanos {
    let life = ends.since(signed);
    ends.minus((life / PART).min(LONGEST_NOTICE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIGNED: Nanos = Nanos(1_800_000_000_000_000_000);

    #[test]
    fn a_fifth_of_the_life_or_a_week() {
        let at = |life: Duration| SIGNED.plus(life).since(soon(SIGNED, SIGNED.plus(life)));
        assert_eq!(at(Duration::from_secs(3600)), Duration::from_secs(720));
        assert_eq!(at(Duration::from_hours(720)), Duration::from_hours(144));
        assert_eq!(at(Duration::from_hours(10_000)), LONGEST_NOTICE);
        assert_eq!(soon(SIGNED, SIGNED.minus(Duration::from_secs(1))), SIGNED.minus(Duration::from_secs(1)));
    }

    proptest! {
        #[test]
        fn it_lies_between_signing_and_end(life in 0_u64..u64::from(u32::MAX)) {
            let ends = SIGNED.plus(Duration::from_secs(life));
            let soon = soon(SIGNED, ends);
            prop_assert!(soon >= SIGNED && soon <= ends);
        }
    }
}
