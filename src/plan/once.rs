//! [`Once`]: what may count one time only, until it expires by itself.

use std::collections::{BTreeSet, HashSet};
use std::hash::Hash;

use crate::capability::Nanos;

/// What was used and has not expired. Bounded: while it is full nothing more counts, since to forget one would let it count
/// again.
#[derive(Debug)]
pub struct Once<K> {
    used: HashSet<K>,
    by_expiry: BTreeSet<(Nanos, K)>,
    most: usize,
}

/// Why something does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotOnce {
    /// It did before.
    Used,
    /// Too much counted that has not expired.
    Full,
}

impl<K: Clone + Eq + Hash + Ord> Once<K> {
    /// An empty one that holds `most` at most.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { used: HashSet::new(), by_expiry: BTreeSet::new(), most }
    }

    /// Uses `key`, which expires then; whoever does it first is the one for whom it counts. What has expired is not to be
    /// asked for: it is forgotten.
    ///
    /// # Errors
    /// [`NotOnce`].
    pub fn consume(&mut self, key: K, expires: Nanos, now: Nanos) -> Result<(), NotOnce> {
        while let Some((at, _)) = self.by_expiry.first() {
            if *at >= now {
                break;
            }
            if let Some((_, old)) = self.by_expiry.pop_first() {
                self.used.remove(&old);
            }
        }
        if self.used.contains(&key) {
            return Err(NotOnce::Used);
        }
        if self.used.len() >= self.most {
            return Err(NotOnce::Full);
        }
        self.used.insert(key.clone());
        self.by_expiry.insert((expires, key));
        Ok(())
    }

    /// How many were used and have not been seen to expire.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn it_is_full_before_it_forgets_what_has_not_expired() {
        let mut once = Once::new(2);
        assert_eq!(once.consume("a", Nanos(5), Nanos(1)), Ok(()));
        assert_eq!(once.consume("b", Nanos(9), Nanos(1)), Ok(()));
        assert_eq!(once.consume("c", Nanos(9), Nanos(5)), Err(NotOnce::Full), "a holds until 5, that moment included");
        assert_eq!(once.consume("a", Nanos(5), Nanos(5)), Err(NotOnce::Used));
        assert_eq!(once.consume("c", Nanos(9), Nanos(6)), Ok(()));
        assert_eq!(once.consume("b", Nanos(9), Nanos(9)), Err(NotOnce::Used));
        assert_eq!((once.len(), once.is_empty()), (2, false));
    }

    proptest! {
        #[test]
        fn nothing_counts_twice_before_it_expires(asked in vec((0_u8..6, 1_u64..20, 0_u64..4), 0..60)) {
            let (mut once, mut now, mut held) = (Once::new(4), 0, Vec::<(u8, u64)>::new());
            for (key, lives, passed) in asked {
                now += passed;
                held.retain(|(_, expires)| *expires >= now);
                let expected = if held.iter().any(|(other, _)| *other == key) {
                    Err(NotOnce::Used)
                } else if held.len() == 4 {
                    Err(NotOnce::Full)
                } else {
                    held.push((key, now + lives));
                    Ok(())
                };
                prop_assert_eq!(once.consume(key, Nanos(now + lives), Nanos(now)), expected);
                prop_assert_eq!(once.len(), held.len());
            }
        }
    }
}
