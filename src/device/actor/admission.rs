//! How many messages are worked on at a time: of each kind as in DMS, and of one sender, so that nobody takes all the
//! room. Whatever is above is dropped.
//!
//! DMS looks first and counts later, and so has a second bound a little above the first (4112 for 4096, 1040 for 1024);
//! here both are one step, and the first bound holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Messages to `/public/…`.
const PUBLIC: usize = 4096;
/// Broadcasts.
const BROADCASTS: usize = 1024;
/// Broadcasts on one topic.
const TOPIC: usize = 128;
/// Messages of one sender.
const SENDER: usize = 32;
/// KiB of messages held at a time, of all senders.
pub(in crate::device) const HELD: usize = 32 * 1024;
/// KiB of one sender.
const HELD_OF_SENDER: usize = HELD / 8;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::device) enum Counted {
    Sender(String),
    /// What it sent, in KiB.
    Held(String),
    Public,
    Broadcasts,
    Topic(String),
}

impl Counted {
    const fn bound(&self) -> usize {
        match self {
            Self::Sender(_) => SENDER,
            Self::Held(_) => HELD_OF_SENDER,
            Self::Public => PUBLIC,
            Self::Broadcasts => BROADCASTS,
            Self::Topic(_) => TOPIC,
        }
    }

    /// Why a message above the bound is dropped, in one word that never changes.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Sender(_) | Self::Held(_) => "SenderLimit",
            Self::Public => "PublicLimit",
            Self::Broadcasts => "BroadcastLimit",
            Self::Topic(_) => "TopicLimit",
        }
    }
}

/// How many are worked on. Clones count together.
#[derive(Clone, Debug, Default)]
pub(in crate::device) struct Limits(Arc<Mutex<HashMap<Counted, usize>>>);

/// A message that is being worked on, until this is dropped.
#[derive(Debug)]
pub(in crate::device) struct Slot {
    limits: Limits,
    counted: Vec<(Counted, usize)>,
}

impl Limits {
    /// Counts a message in, or says for which bound it is dropped.
    pub(in crate::device) fn enter(&self, counted: Vec<Counted>) -> Result<Slot, &'static str> {
        self.enter_weighed(counted.into_iter().map(|one| (one, 1)).collect())
    }

    /// The same for what counts more than once.
    pub(in crate::device) fn enter_weighed(&self, counted: Vec<(Counted, usize)>) -> Result<Slot, &'static str> {
        let mut counts = self.counts();
        let over = |(one, weight): &&(Counted, usize)| {
            counts.get(one).copied().unwrap_or_default().saturating_add(*weight) > one.bound()
        };
        if let Some((full, _)) = counted.iter().find(over) {
            return Err(full.reason());
        }
        for (one, weight) in &counted {
            *counts.entry(one.clone()).or_default() += weight;
        }
        drop(counts);
        Ok(Slot { limits: self.clone(), counted })
    }

    #[cfg(test)]
    pub(in crate::device) fn count(&self, counted: &Counted) -> usize {
        self.counts().get(counted).copied().unwrap_or_default()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Counted, usize>> {
        // Every change is of one number, so the map is whole even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.limits.counts();
        for (one, weight) in &self.counted {
            if let Some(count) = counts.get_mut(one) {
                *count -= weight;
                // Anybody can be a sender, so nobody is remembered.
                if *count == 0 {
                    counts.remove(one);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_met_exactly_and_given_back() {
        let one = |name: &str| name.to_owned();
        for (counted, bound, reason) in [
            (Counted::Sender(one("a")), 32, "SenderLimit"),
            (Counted::Public, 4096, "PublicLimit"),
            (Counted::Broadcasts, 1024, "BroadcastLimit"),
            (Counted::Topic(one("/t")), 128, "TopicLimit"),
        ] {
            let limits = Limits::default();
            let mut slots: Vec<Slot> = (0..bound).map(|_| limits.enter(vec![counted.clone()]).unwrap()).collect();
            assert_eq!(limits.enter(vec![counted.clone()]).unwrap_err(), reason);
            slots.pop();
            slots.push(limits.enter(vec![counted.clone()]).unwrap());
            assert_eq!(limits.enter(vec![counted]).unwrap_err(), reason);
            slots.clear();
            assert!(limits.counts().is_empty(), "{reason}");
        }
    }

    #[test]
    fn one_sender_fills_an_eighth_of_the_room() {
        let limits = Limits::default();
        let held = |sender: &str, kib| limits.enter_weighed(vec![(Counted::Held(sender.to_owned()), kib)]);
        let most = held("a", HELD / 8 - 1).unwrap();
        assert_eq!(held("a", 2).unwrap_err(), "SenderLimit");
        let last = held("a", 1).unwrap();
        assert!(held("b", HELD / 8).is_ok(), "another one has room");
        drop((most, last));
        assert!(limits.counts().is_empty());
    }

    #[test]
    fn one_that_is_refused_counts_nowhere() {
        let limits = Limits::default();
        let (topic, other) = (Counted::Topic("/t".into()), Counted::Topic("/u".into()));
        let full: Vec<Slot> =
            (0..TOPIC).map(|_| limits.enter(vec![Counted::Broadcasts, topic.clone()]).unwrap()).collect();
        assert_eq!(limits.enter(vec![Counted::Broadcasts, topic]).unwrap_err(), "TopicLimit");
        assert_eq!(limits.counts()[&Counted::Broadcasts], TOPIC);
        let beside = limits.enter(vec![Counted::Broadcasts, other]);
        assert!(beside.is_ok(), "another topic has room");
        drop((full, beside));
        assert!(limits.counts().is_empty());
    }
}
