//! The revocations in force, in memory.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};

use crate::{
    capability::{Nanos, RevocationKey},
    plan::retention::{REVOCATIONS_PER_NAMESPACE, kept_until},
};

/// Revocations in force that were only heard of.
pub const HEARD: usize = 256;

/// A revocation whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// What it takes back.
    pub key: RevocationKey,
    /// Its own expiry.
    pub expires: Nanos,
    /// As it was given, without spaces around it.
    pub token: String,
}

/// Which `CapabilityRevocation` a revocation came with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A revocation that outlives its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Name of the ConfigMap that holds it.
    pub copy: String,
    /// The namespace in whose number it counts.
    pub charged: Option<String>,
    /// The revocation's own expiry.
    pub expires: Nanos,
    /// When it was taken.
    pub accepted: Nanos,
    /// When the token that it takes back ends, once that was seen.
    pub link: Option<Nanos>,
}

/// A revocation in force for as long as its objects are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// The revocation.
    pub revocation: Revocation,
    /// When it was taken.
    pub accepted: Nanos,
    /// The objects, and whether each counts in the number of its namespace.
    holders: BTreeMap<Source, bool>,
    /// Something was refused for it, and the token refused ends then: it must not go any more.
    pub used: Option<Nanos>,
}

impl Passing {
    /// The namespace in whose number it counts.
    pub fn charged(&self) -> Option<String> {
        self.holders.iter().find(|(_, counts)| **counts).map(|(source, _)| source.namespace.clone())
    }
}

/// What became of a revocation that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It takes something back that was not taken back before.
    New,
    /// It was in force already.
    Known,
    /// The namespace has as many as count.
    OverQuota,
}

/// Revocations in force.
#[derive(Clone, Debug, Default)]
pub struct RevocationBook(Arc<RwLock<Book>>);

#[derive(Debug, Default)]
struct Book {
    kept: BTreeMap<RevocationKey, Kept>,
    passing: BTreeMap<RevocationKey, Passing>,
    /// Those that were only heard of, the oldest first. Anybody may tell of some, so they are few.
    heard: VecDeque<(Revocation, Nanos)>,
    /// Those of them on which something rests that is there now. These do not give way: only who is in its chain can make one.
    held: BTreeSet<RevocationKey>,
    /// How many count in the number of each namespace.
    counted: BTreeMap<String, usize>,
    epoch: u64,
    told: Option<UnboundedSender<Source>>,
}

impl Book {
    fn in_force(&self, key: &RevocationKey) -> bool {
        self.kept.contains_key(key) || self.passing.contains_key(key) || self.heard_of(key)
    }

    fn heard_of(&self, key: &RevocationKey) -> bool {
        self.heard.iter().any(|(heard, _)| heard.key == *key)
    }

    /// Takes one out that was only heard of, and when it was.
    fn unhear(&mut self, key: &RevocationKey) -> Option<(Revocation, Nanos)> {
        let at = self.heard.iter().position(|(heard, _)| heard.key == *key)?;
        self.held.remove(key);
        self.heard.remove(at)
    }

    fn count(&mut self, namespace: &str) {
        *self.counted.entry(namespace.to_owned()).or_default() += 1;
    }

    fn discount(&mut self, namespace: &str) {
        if let Some(count) = self.counted.get_mut(namespace) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.counted.remove(namespace);
            }
        }
    }
}

impl RevocationBook {
    fn read(&self) -> RwLockReadGuard<'_, Book> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Book> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a token was taken back.
    #[must_use]
    pub fn revoked(&self, key: &RevocationKey) -> bool {
        self.read().in_force(key)
    }

    /// Grows whenever what is revoked changes: a verdict taken at another epoch may be another one now.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.read().epoch
    }

    /// The objects whose revocation came to be kept, from now on.
    #[must_use]
    pub fn changes(&self) -> UnboundedReceiver<Source> {
        let (told, changes) = unbounded();
        self.write().told = Some(told);
        changes
    }

    /// Takes a revocation in for as long as its object is there. One that is `exempt` counts in nobody's number; one that
    /// is not leaves room for as many as were `waiting` before it.
    #[must_use]
    pub fn offer(&self, revocation: &Revocation, source: &Source, exempt: bool, waiting: usize, now: Nanos) -> Offered {
        let mut book = self.write();
        let key = &revocation.key;
        let holds = |passing: &Passing| passing.holders.contains_key(source);
        if book.kept.contains_key(key) || book.passing.get(key).is_some_and(holds) {
            return Offered::Known;
        }
        let counted = book.counted.get(&source.namespace).copied().unwrap_or_default();
        if !exempt && counted + waiting >= REVOCATIONS_PER_NAMESPACE {
            return Offered::OverQuota;
        }
        if !exempt {
            book.count(&source.namespace);
        }
        let new = !book.passing.contains_key(key) && book.unhear(key).is_none();
        let passing = book.passing.entry(key.clone()).or_insert_with(|| Passing {
            revocation: revocation.clone(),
            accepted: now,
            holders: BTreeMap::new(),
            used: None,
        });
        passing.holders.insert(source.clone(), !exempt);
        if !new {
            return Offered::Known;
        }
        book.epoch += 1;
        Offered::New
    }

    /// Takes in a revocation that was only heard of. It is in force until [`HEARD`] others came after it; once something
    /// was refused for it, it is kept as any other. Whether it was not in force before.
    #[must_use]
    pub fn hear(&self, revocation: &Revocation, now: Nanos) -> bool {
        let mut book = self.write();
        if book.in_force(&revocation.key) {
            return false;
        }
        let idle = book.heard.iter().filter(|(heard, _)| !book.held.contains(&heard.key)).count();
        if idle >= HEARD {
            let first = book.heard.iter().position(|(heard, _)| !book.held.contains(&heard.key));
            first.and_then(|first| book.heard.remove(first));
        }
        book.heard.push_back((revocation.clone(), now));
        book.epoch += 1;
        true
    }

    /// Notes that something rests on what was taken back: a revocation that was only heard of stays until that was refused.
    pub fn hold(&self, key: &RevocationKey) {
        let mut book = self.write();
        if book.heard_of(key) {
            book.held.insert(key.clone());
        }
    }

    /// Whether a revocation outlives its object.
    #[must_use]
    pub fn kept(&self, key: &RevocationKey) -> Option<Kept> {
        self.read().kept.get(key).cloned()
    }

    /// What is in force only as long as its objects are there.
    #[must_use]
    pub fn passing(&self, key: &RevocationKey) -> Option<Passing> {
        self.read().passing.get(key).cloned()
    }

    /// Whether something is still to be noted of a revocation for which a token that ends at `link` was refused.
    #[must_use]
    pub fn unsettled(&self, key: &RevocationKey, link: Nanos) -> bool {
        let book = self.read();
        match book.kept.get(key) {
            Some(kept) => kept.link.is_none_or(|known| known < link),
            None => book.passing.contains_key(key) || book.heard_of(key),
        }
    }

    /// Notes that something was refused for a revocation, so that it does not go with its object.
    pub fn note_used(&self, key: &RevocationKey, link: Nanos) {
        let mut book = self.write();
        if let Some((revocation, accepted)) = book.unhear(key) {
            let passing = Passing { revocation, accepted, holders: BTreeMap::new(), used: None };
            book.passing.insert(key.clone(), passing);
        }
        if let Some(passing) = book.passing.get_mut(key) {
            passing.used = passing.used.max(Some(link));
        }
    }

    /// What was to be kept and is not yet, with the end of the token.
    #[must_use]
    pub fn overdue(&self) -> Vec<(RevocationKey, Nanos)> {
        let book = self.read();
        book.passing.iter().filter_map(|(key, passing)| Some((key.clone(), passing.used?))).collect()
    }

    /// Notes that a revocation is kept, and tells its objects.
    pub fn set_kept(&self, key: RevocationKey, kept: Kept) {
        let mut book = self.write();
        if !book.in_force(&key) {
            book.epoch += 1;
        }
        book.unhear(&key);
        let holders = book.passing.remove(&key).map(|passing| passing.holders).unwrap_or_default();
        for source in holders.iter().filter(|(_, counts)| **counts).map(|(source, _)| source) {
            book.discount(&source.namespace);
        }
        let charged = kept.charged.clone();
        if let Some(before) = book.kept.insert(key, kept).and_then(|before| before.charged) {
            book.discount(&before);
        }
        if let Some(namespace) = charged {
            book.count(&namespace);
        }
        if let Some(told) = &book.told {
            // Nobody listens any more only when the process ends.
            for source in holders.into_keys() {
                drop(told.unbounded_send(source));
            }
        }
    }

    /// The objects without which something would go.
    #[must_use]
    pub fn holders(&self) -> BTreeSet<Source> {
        self.read().passing.values().flat_map(|passing| passing.holders.keys().cloned()).collect()
    }

    /// Lets go of what only objects held that are gone, unless something was refused for it.
    pub fn release(&self, gone: &BTreeSet<Source>) {
        let mut guard = self.write();
        let book = &mut *guard;
        let mut vacated = Vec::new();
        let before = book.passing.len();
        book.passing.retain(|_, passing| {
            if passing.used.is_some() {
                return true;
            }
            passing.holders.retain(|source, counts| {
                let stays = !gone.contains(source);
                if !stays && *counts {
                    vacated.push(source.namespace.clone());
                }
                stays
            });
            !passing.holders.is_empty()
        });
        if book.passing.len() != before {
            book.epoch += 1;
        }
        for namespace in vacated {
            book.discount(&namespace);
        }
    }

    /// What is kept longer than it has to be.
    #[must_use]
    pub fn due(&self, now: Nanos, grace: Duration) -> Vec<(RevocationKey, String)> {
        let over = |kept: &Kept| kept_until(kept.expires, kept.accepted, kept.link, grace) < now;
        let book = self.read();
        book.kept.iter().filter(|(_, kept)| over(kept)).map(|(key, kept)| (key.clone(), kept.copy.clone())).collect()
    }

    /// Forgets what is not kept any more.
    pub fn forget(&self, keys: &BTreeSet<RevocationKey>) {
        let mut book = self.write();
        for key in keys {
            if let Some(kept) = book.kept.remove(key) {
                book.epoch += 1;
                if let Some(namespace) = kept.charged {
                    book.discount(&namespace);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Key;

    const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

    fn revocation(number: usize) -> Revocation {
        let did = Key::from_seed([1; 32]).did().clone();
        let key = RevocationKey { issuer: did.clone(), subject: did, nonce: number.to_be_bytes().to_vec() };
        Revocation { key, expires: NOW, token: number.to_string() }
    }

    fn source(namespace: &str, name: usize) -> Source {
        Source { namespace: namespace.to_owned(), name: name.to_string() }
    }

    fn kept(charged: &str) -> Kept {
        Kept { copy: "copy".into(), charged: Some(charged.into()), expires: NOW, accepted: NOW, link: Some(NOW) }
    }

    fn full(book: &RevocationBook) {
        for number in 0..REVOCATIONS_PER_NAMESPACE {
            assert_eq!(book.offer(&revocation(number), &source("a", number), false, 0, NOW), Offered::New);
        }
    }

    #[test]
    fn each_namespace_has_its_number_and_what_goes_makes_room() {
        let book = RevocationBook::default();
        full(&book);
        let (next, epoch) = (revocation(1000), book.epoch());
        assert_eq!(book.offer(&next, &source("a", 1000), false, 0, NOW), Offered::OverQuota);
        assert!(!book.revoked(&next.key));
        assert_eq!(book.epoch(), epoch, "nothing new is in force");
        assert_eq!(book.offer(&revocation(3), &source("a", 3), false, 0, NOW), Offered::Known);
        assert_eq!(book.offer(&next, &source("b", 1000), false, 0, NOW), Offered::New);
        assert_eq!(book.offer(&revocation(1001), &source("a", 1001), true, 0, NOW), Offered::New);

        // What is kept counts on, and does not count twice.
        book.set_kept(revocation(0).key, kept("a"));
        assert_eq!(book.offer(&revocation(1002), &source("a", 1002), false, 0, NOW), Offered::OverQuota);
        book.release(&[source("a", 5), source("a", 0)].into());
        assert!(book.revoked(&revocation(0).key) && !book.revoked(&revocation(5).key));
        // An older one that waits goes first.
        assert_eq!(book.offer(&revocation(1002), &source("a", 1002), false, 1, NOW), Offered::OverQuota);
        assert_eq!(book.offer(&revocation(1002), &source("a", 1002), false, 0, NOW), Offered::New);
        assert_eq!(book.offer(&revocation(1003), &source("a", 1003), false, 0, NOW), Offered::OverQuota);
        book.forget(&[revocation(0).key].into());
        assert_eq!(book.offer(&revocation(1003), &source("a", 1003), false, 0, NOW), Offered::New);
    }

    #[test]
    fn what_two_objects_hold_goes_with_the_last_and_what_was_used_never() {
        let book = RevocationBook::default();
        let (shared, used) = (revocation(1), revocation(2));
        assert_eq!(book.offer(&shared, &source("a", 1), false, 0, NOW), Offered::New);
        assert_eq!(book.offer(&shared, &source("b", 1), false, 0, NOW), Offered::Known);
        assert_eq!(book.offer(&used, &source("a", 2), false, 0, NOW), Offered::New);
        book.note_used(&used.key, NOW);
        book.release(&[source("a", 1), source("a", 2)].into());
        assert!(book.revoked(&shared.key) && book.revoked(&used.key));
        let epoch = book.epoch();
        assert_eq!(book.holders(), [source("a", 2), source("b", 1)].into());
        book.release(&book.holders());
        assert!(!book.revoked(&shared.key) && book.revoked(&used.key));
        assert!(book.epoch() > epoch);
        assert_eq!(book.overdue(), [(used.key, NOW)]);
    }

    #[test]
    fn what_was_only_heard_of_gives_way_to_later_ones_unless_it_was_used() {
        let book = RevocationBook::default();
        let (used, idle) = (revocation(1), revocation(2));
        assert!(book.hear(&used, NOW) && book.hear(&idle, NOW) && !book.hear(&used, NOW));
        assert!(book.unsettled(&used.key, NOW));
        book.note_used(&used.key, NOW);
        let epoch = book.epoch();
        // A pass over what rests on it is on its way.
        let waited_for = revocation(3);
        assert!(book.hear(&waited_for, NOW));
        book.hold(&waited_for.key);
        book.hold(&revocation(4).key);
        for number in 1000..1000 + HEARD {
            assert!(book.hear(&revocation(number), NOW));
        }
        assert!(book.epoch() > epoch);
        assert!(book.revoked(&used.key) && book.revoked(&waited_for.key) && !book.revoked(&idle.key));
        assert!(!book.revoked(&revocation(4).key));
        assert_eq!(book.overdue(), [(used.key.clone(), NOW)]);
        assert_eq!(book.passing(&used.key).and_then(|passing| passing.charged()), None);

        // An object takes over what was heard of, and nothing new is in force by that.
        let last = revocation(1000 + HEARD - 1);
        assert_eq!(book.offer(&last, &source("a", 1), false, 0, NOW), Offered::Known);
        book.release(&[source("a", 1)].into());
        assert!(!book.revoked(&last.key));
    }

    #[test]
    fn a_kept_one_is_due_when_its_token_has_ended_and_tells_its_objects() {
        let book = RevocationBook::default();
        let mut changes = book.changes();
        let one = revocation(1);
        assert_eq!(book.offer(&one, &source("a", 1), false, 0, NOW), Offered::New);
        assert!(book.unsettled(&one.key, NOW));
        book.set_kept(one.key.clone(), kept("a"));
        assert_eq!(changes.try_recv().ok(), Some(source("a", 1)));
        assert!(!book.unsettled(&one.key, NOW) && book.unsettled(&one.key, NOW.plus(Duration::from_secs(1))));
        let (second, hour) = (Duration::from_secs(1), Duration::from_hours(1));
        assert_eq!(book.due(NOW, Duration::ZERO), []);
        assert_eq!(book.due(NOW.plus(second), hour), []);
        assert_eq!(book.due(NOW.plus(second), Duration::ZERO), [(one.key.clone(), "copy".to_owned())]);
        book.forget(&[one.key.clone()].into());
        assert!(!book.revoked(&one.key));
    }
}
