//! [`Rate`]: how often each of many may ask.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::capability::Nanos;

/// A token bucket for each asker, as the time at which it will be full again. Bounded: of too many askers the one whose
/// bucket is nearest to full is forgotten.
#[derive(Debug)]
pub struct Rate<K> {
    every: Duration,
    burst: u32,
    most: usize,
    full_at: HashMap<K, Nanos>,
    by_time: BTreeSet<(Nanos, K)>,
}

impl<K: Clone + Eq + Hash + Ord> Rate<K> {
    /// Each may ask `burst` times at once, and once more after each `every`; `most` askers are remembered.
    #[must_use]
    pub fn new(every: Duration, burst: u32, most: usize) -> Self {
        Self { every, burst, most, full_at: HashMap::new(), by_time: BTreeSet::new() }
    }

    /// Counts one question.
    ///
    /// # Errors
    /// How long to wait, for one too many; it does not count.
    pub fn ask(&mut self, key: &K, now: Nanos) -> Result<(), Duration> {
        let before = self.full_at.get(key).copied();
        let burst = self.every * self.burst;
        // No question leads further ahead: such a time was noted before the clock was set back.
        let known = before.filter(|full_at| *full_at <= now.plus(burst));
        let full_at = known.unwrap_or(now).max(now).plus(self.every);
        let over = full_at.since(now).saturating_sub(burst);
        if !over.is_zero() {
            return Err(over);
        }
        match before {
            Some(before) => {
                self.by_time.remove(&(before, key.clone()));
            }
            None if self.full_at.len() >= self.most => {
                if let Some((_, other)) = self.by_time.pop_first() {
                    self.full_at.remove(&other);
                }
            }
            None => {}
        }
        self.full_at.insert(key.clone(), full_at);
        self.by_time.insert((full_at, key.clone()));
        Ok(())
    }

    /// How many askers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full_at.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.full_at.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const EVERY: Duration = Duration::from_nanos(10);

    #[test]
    fn a_burst_and_then_one_at_a_time() {
        let mut rate = Rate::new(EVERY, 3, 8);
        for _ in 0..3 {
            assert_eq!(rate.ask(&"a", Nanos(100)), Ok(()));
        }
        assert_eq!(rate.ask(&"a", Nanos(100)), Err(EVERY));
        assert_eq!(rate.ask(&"b", Nanos(100)), Ok(()), "another one is not held back");
        assert_eq!(rate.ask(&"a", Nanos(109)), Err(Duration::from_nanos(1)));
        assert_eq!(rate.ask(&"a", Nanos(110)), Ok(()));
        assert_eq!(rate.ask(&"a", Nanos(110)), Err(EVERY));
        assert_eq!((rate.len(), rate.is_empty()), (2, false));
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nobody_up() {
        let mut rate = Rate::new(EVERY, 2, 8);
        for now in [1000, 1000, 100, 100] {
            assert_eq!(rate.ask(&"a", Nanos(now)), Ok(()), "{now}");
        }
        assert_eq!(rate.ask(&"a", Nanos(100)), Err(EVERY));
        assert_eq!((rate.len(), rate.by_time.len()), (1, 1));
    }

    #[test]
    fn who_asked_most_is_remembered_longest() {
        let mut rate = Rate::new(EVERY, 2, 2);
        for key in ["often", "often", "once"] {
            assert_eq!(rate.ask(&key, Nanos(0)), Ok(()));
        }
        assert_eq!(rate.ask(&"new", Nanos(1)), Ok(()));
        assert_eq!(rate.len(), 2);
        assert!(rate.ask(&"often", Nanos(1)).is_err());
    }

    proptest! {
        #[test]
        fn in_no_span_are_there_more_than_the_burst_and_its_share(asked in vec((0_u8..3, 0_u64..15), 1..80)) {
            let (mut rate, mut now) = (Rate::new(EVERY, 3, 8), 0);
            let mut let_in: HashMap<u8, Vec<u64>> = HashMap::new();
            for (key, passed) in asked {
                now += passed;
                if rate.ask(&key, Nanos(now)).is_ok() {
                    let_in.entry(key).or_default().push(now);
                }
            }
            for times in let_in.values() {
                for (first, from) in times.iter().enumerate() {
                    for (last, to) in times.iter().enumerate().skip(first) {
                        prop_assert!(u64::try_from(last - first + 1).unwrap() <= 3 + (to - from) / 10);
                    }
                }
            }
        }
    }
}
