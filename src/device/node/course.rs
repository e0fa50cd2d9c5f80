//! Which faults hold now, and what becomes of each message, write and start under them.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use super::{
    Clock, FAULTS_FILE,
    faults::{Fate, Faults, Kind, UnknownFault},
};

/// Follows the faults of one node: those in its file, if there is one, otherwise those given.
#[derive(Debug)]
pub(super) struct Course {
    given: Faults,
    file: PathBuf,
    /// Of faults that name none.
    seed: u64,
    stands: Mutex<Stands>,
    ahead: AtomicI32,
}

#[derive(Debug, Default)]
struct Stands {
    faults: Faults,
    /// What stood in the file when it could not be read, so that it is told once.
    unread: Option<String>,
    /// How many there were of each since these faults hold.
    messages: u64,
    writes: u64,
    starts: u64,
}

impl Course {
    pub(super) fn new(given: Faults, directory: &Path) -> Self {
        let course = Self {
            given,
            file: directory.join(FAULTS_FILE),
            seed: rand::random(),
            stands: Mutex::default(),
            ahead: AtomicI32::new(0),
        };
        course.now(|_, _| ());
        course
    }

    /// The faults that hold now.
    pub(super) fn faults(&self) -> Faults {
        self.now(|stands, _| stands.faults)
    }

    /// What becomes of the next message.
    pub(super) fn message(&self) -> Fate {
        self.now(|stands, seed| Fate::draw(&stands.faults, seed, next(&mut stands.messages)))
    }

    /// Whether the next write of the state finds room.
    pub(super) fn write(&self) -> io::Result<()> {
        let fate = self.now(|stands, seed| Fate::draw(&stands.faults, seed, next(&mut stands.writes)));
        if fate.is(Kind::FullDisk) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// What becomes of the next process.
    pub(super) fn start(&self) -> Start {
        let fate = self.now(|stands, seed| Fate::draw(&stands.faults, seed, next(&mut stands.starts)));
        if fate.is(Kind::NoStart) {
            Start::Fails
        } else if fate.is(Kind::DieAtOnce) {
            Start::Dies
        } else {
            Start::Lives
        }
    }

    /// This clock, as far off as the faults want it.
    pub(super) fn clock(self: &Arc<Self>, clock: Clock) -> Clock {
        let course = Arc::clone(self);
        Arc::new(move || {
            let off = course.ahead.load(Ordering::Relaxed);
            let (now, by) = (clock(), Duration::from_secs(off.unsigned_abs().into()));
            if off < 0 { now.minus(by) } else { now.plus(by) }
        })
    }

    fn now<T>(&self, draw: impl FnOnce(&mut Stands, u64) -> T) -> T {
        // Every count is whole at every moment.
        let mut stands = self.stands.lock().unwrap_or_else(PoisonError::into_inner);
        let faults = self.current(&mut stands);
        let seed = faults.seed().unwrap_or(self.seed);
        if faults != stands.faults {
            tracing::info!(%faults, seed, "other faults hold from now on");
            *stands = Stands { faults, unread: stands.unread.take(), ..Stands::default() };
            self.ahead.store(faults.clock(), Ordering::Relaxed);
        }
        draw(&mut stands, seed)
    }

    fn current(&self, stands: &mut Stands) -> Faults {
        let Ok(text) = std::fs::read_to_string(&self.file) else { return self.given };
        match text.parse() {
            Ok(faults) => faults,
            Err(error) => {
                if stands.unread.as_ref() != Some(&text) {
                    let error: UnknownFault = error;
                    tracing::warn!(%error, file = %self.file.display(), "the file of faults is ignored");
                    stands.unread = Some(text);
                }
                self.given
            }
        }
    }
}

/// What becomes of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// It runs.
    Lives,
    /// It cannot be started.
    Fails,
    /// It ends at once.
    Dies,
}

fn next(count: &mut u64) -> u64 {
    let number = *count;
    *count = number.wrapping_add(1);
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Nanos;

    #[test]
    fn the_file_goes_before_the_switch() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FAULTS_FILE);
        let switch: Faults = "drop-replies".parse().unwrap();
        let course = Course::new(switch, directory.path());
        assert_eq!(course.faults(), switch);
        std::fs::write(&file, "list-empty\n").unwrap();
        assert_eq!(course.faults().to_string(), "list-empty");
        std::fs::write(&file, "").unwrap();
        assert_eq!(course.faults(), Faults::default());
        std::fs::write(&file, "nonsense").unwrap();
        assert_eq!(course.faults(), switch);
    }

    #[test]
    fn a_seed_fixes_what_becomes_of_messages_writes_and_starts() {
        let directory = tempfile::tempdir().unwrap();
        let faults: Faults =
            format!("seed={},cut=0.5,full-disk=0.5,no-start=0.3,die-at-once=0.5", rand::random::<u64>())
                .parse()
                .unwrap();
        let drawn = |faults| {
            let course = Course::new(faults, directory.path());
            (0..200).map(|_| (course.message(), course.write().is_ok(), course.start())).collect::<Vec<_>>()
        };
        let first = drawn(faults);
        assert_eq!(first, drawn(faults));
        for start in [Start::Lives, Start::Fails, Start::Dies] {
            assert!(first.iter().any(|(_, _, own)| *own == start), "{faults}");
        }
        assert!(first.iter().any(|(_, written, _)| *written) && first.iter().any(|(_, written, _)| !written));
        // Without a seed each node has its own.
        let own: Faults = "cut=0.5".parse().unwrap();
        assert_ne!(drawn(own), drawn(own));
    }

    #[test]
    fn the_clock_is_off_as_long_as_the_fault_holds() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FAULTS_FILE);
        let course = Arc::new(Course::new(Faults::default(), directory.path()));
        let now = Nanos(1_900_000_000_000_000_000);
        let clock = course.clock(Arc::new(move || now));
        assert_eq!(clock(), now);
        for (fault, expected) in [
            ("clock=+90s", now.plus(Duration::from_secs(90))),
            ("clock=-90s", now.minus(Duration::from_secs(90))),
            ("", now),
        ] {
            std::fs::write(&file, fault).unwrap();
            course.message();
            assert_eq!(clock(), expected, "{fault}");
        }
    }
}
