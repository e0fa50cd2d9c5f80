//! Whether a device answers, judged over several heartbeats: one lost message changes nothing.

/// Unanswered heartbeats in a row after which a device counts as unreachable.
pub const MISSES: u32 = 2;
/// Answered heartbeats in a row after which it counts as reachable again.
pub const HITS: u32 = 2;

/// What the heartbeats of a device have shown so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    reachable: Option<bool>,
    against: u32,
}

impl Reach {
    /// What was known at first, from the status of its object say.
    #[must_use]
    pub const fn known(reachable: Option<bool>) -> Self {
        Self { reachable, against: 0 }
    }

    /// Whether it can be reached; `None` before the first heartbeat.
    #[must_use]
    pub const fn reachable(self) -> Option<bool> {
        self.reachable
    }

    /// Whether the last heartbeat spoke against what the ones before had shown.
    #[must_use]
    pub const fn in_doubt(self) -> bool {
        self.against > 0
    }

    /// After one more heartbeat, answered or not. The first one decides at once.
    #[must_use]
    pub const fn after(self, answered: bool) -> Self {
        let settled = Self { reachable: Some(answered), against: 0 };
        match self.reachable {
            None => settled,
            Some(reachable) if reachable == answered => settled,
            Some(reachable) => {
                let against = self.against + 1;
                let enough = if answered { HITS } else { MISSES };
                if against >= enough { settled } else { Self { reachable: Some(reachable), against } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn after(beats: &[bool]) -> Reach {
        beats.iter().fold(Reach::default(), |reach, answered| reach.after(*answered))
    }

    #[test]
    fn one_heartbeat_against_the_others_changes_nothing() {
        let shown = |beats: &[bool]| (after(beats).reachable(), after(beats).in_doubt());
        assert_eq!(shown(&[]), (None, false));
        assert_eq!(shown(&[true]), (Some(true), false));
        assert_eq!(shown(&[false]), (Some(false), false));
        assert_eq!(shown(&[true, false]), (Some(true), true));
        assert_eq!(shown(&[true, false, true, false]), (Some(true), true));
        assert_eq!(shown(&[true, false, false]), (Some(false), false));
        assert_eq!(shown(&[false, true]), (Some(false), true));
        assert_eq!(shown(&[false, true, true]), (Some(true), false));
        assert_eq!(Reach::known(Some(true)).after(false).reachable(), Some(true));
    }

    proptest! {
        #[test]
        fn it_changes_only_after_as_many_in_a_row_as_are_needed(beats in vec(any::<bool>(), 1..60)) {
            for end in 1..beats.len() {
                let (before, now) = (after(&beats[..end]), after(&beats[..=end]));
                if before.reachable() != now.reachable() {
                    let enough = if beats[end] { HITS } else { MISSES } as usize;
                    let row = beats[..=end].iter().rev().take_while(|beat| **beat == beats[end]).count();
                    prop_assert!(row >= enough);
                    prop_assert_eq!(now.reachable(), Some(beats[end]));
                }
            }
        }
    }
}
