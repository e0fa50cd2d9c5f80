//! What devices said that cannot be true.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// By device: what it said, by the uid of the object that it was about.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<HashMap<String, BTreeMap<String, String>>>);

impl Doubts {
    /// Why a device is not to be believed, if it is not.
    #[must_use]
    pub fn of_device(&self, device: &str) -> Option<String> {
        self.locked().get(device).and_then(|about| about.values().next().cloned())
    }

    /// What a device said of one object.
    #[must_use]
    pub fn of_object(&self, device: &str, uid: &str) -> Option<String> {
        self.locked().get(device).and_then(|about| about.get(uid).cloned())
    }

    /// Notes what a device said of an object, or that it tells the truth again. Whether the device is to be believed
    /// changed by it.
    pub(super) fn set(&self, device: &str, uid: &str, doubt: Option<String>) -> bool {
        let mut all = self.locked();
        let about = all.entry(device.to_owned()).or_default();
        let before = about.is_empty();
        match doubt {
            Some(doubt) => drop(about.insert(uid.to_owned(), doubt)),
            None => drop(about.remove(uid)),
        }
        let now = about.is_empty();
        if now {
            all.remove(device);
        }
        before != now
    }

    /// Forgets an object that is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.locked().retain(|_, about| {
            about.remove(uid);
            !about.is_empty()
        });
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, String>>> {
        // What it holds can be found out again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_believed_again_when_no_object_doubts_it() {
        let doubts = Doubts::default();
        assert!(doubts.set("rack", "a", Some("lies".into())));
        assert!(!doubts.set("rack", "b", Some("lies more".into())));
        assert!(!doubts.set("rack", "a", None));
        assert_eq!((doubts.of_object("rack", "a"), doubts.of_object("rack", "b")), (None, Some("lies more".into())));
        assert_eq!((doubts.of_device("rack"), doubts.of_device("other")), (Some("lies more".into()), None));
        doubts.forget("b");
        assert_eq!(doubts.of_device("rack"), None);
        assert!(!doubts.set("rack", "b", None));
    }
}
