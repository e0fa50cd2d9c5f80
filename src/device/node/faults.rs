//! Faults on purpose, for tests and demonstrations of what an operator does when a device misbehaves.

use std::{fmt, str::FromStr, time::Duration};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident = $name:literal),+ $(,)?) => {
        /// What can go wrong, with some chance each time that it could.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[doc = $doc])+ $kind,)+ }

        impl Kind {
            /// All of them, in order, each with its name.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$kind, $name)),+];
        }
    };
}

kinds! {
    /// A list is answered empty, as DMS does on any error of its own.
    ListEmpty = "list-empty",
    /// Only a list filtered by metadata is answered empty.
    ListFilteredEmpty = "list-filtered-empty",
    /// A message is lost before it is read.
    DropRequests = "drop-requests",
    /// A message is acted on and not answered.
    DropReplies = "drop-replies",
    /// `deployment/new` is acted on and not answered.
    DropNewReply = "drop-new-reply",
    /// A reply is sent twice.
    DuplicateReply = "duplicate-reply",
    /// A reply is held back and sent after those that came later.
    Reorder = "reorder",
    /// A reply ends in the middle: its stream is reset.
    Cut = "cut",
    /// The length of a reply is sent and nothing more.
    HalfOpen = "half-open",
    /// From a message on, all connections stay open and are silent, for 20 s or until the fault ends.
    Mute = "mute",
    /// The next messages are read a few bytes at a time.
    SlowRead = "slow-read",
    /// A reply is made and signed by another key.
    WrongKey = "wrong-key",
    /// The state cannot be written: the disk is full.
    FullDisk = "full-disk",
    /// No process can be started.
    NoStart = "no-start",
    /// A process ends as soon as it was started.
    DieAtOnce = "die-at-once",
    /// Manifest and status are answered for another id than was asked for.
    ForeignId = "foreign-id",
    /// A manifest names another node's peer.
    ForeignPeer = "foreign-peer",
    /// What was used is told as more than can be, or as less than before, in turns.
    ImpossibleUsage = "impossible-usage",
    /// Deployments are told to be in a state that no version has.
    UnknownState = "unknown-state",
}

/// How likely something is, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Chance(u16);

impl Chance {
    const ALWAYS: Self = Self(1000);

    /// `0`, `1`, or `0.` and up to three digits.
    fn parse(text: &str) -> Option<Self> {
        let (whole, digits) = text.split_once('.').unwrap_or((text, "0"));
        if !(1..=3).contains(&digits.len()) || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return None;
        }
        let thousandths: u16 = format!("{digits:0<3}").parse().ok()?;
        match (whole, thousandths) {
            ("0", _) => Some(Self(thousandths)),
            ("1", 0) => Some(Self::ALWAYS),
            _ => None,
        }
    }
}

impl fmt::Display for Chance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALWAYS => f.write_str("1"),
            Self(thousandths) => f.write_str(format!("0.{thousandths:03}").trim_end_matches('0')),
        }
    }
}

/// How much later a message is answered, in milliseconds; it is acted on at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Delay {
    least: u32,
    most: u32,
}

impl Delay {
    fn parse(text: &str) -> Option<Self> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let (least, most) = (least.parse().ok()?, most.parse().ok()?);
        (least <= most).then_some(Self { least, most })
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { least, most } = self;
        if least == most { write!(f, "{least}") } else { write!(f, "{least}..{most}") }
    }
}

/// What goes wrong: nothing by default. Written as a list, as in `--faults`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    seed: Option<u64>,
    delay: Delay,
    /// How many seconds the clock is ahead.
    clock: i32,
    chances: [Chance; Kind::ALL.len()],
}

/// A fault that this node does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no fault: give a list of seed=NUMBER, delay=MILLISECONDS, delay=LEAST..MOST, clock=±SECONDSs, and, each alone \
     or with a chance from 0 to 1 as in drop-replies=0.2: drop (both directions), {names}",
    names = names()
)]
pub struct UnknownFault(String);

fn names() -> String {
    Kind::ALL.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for fault in text.split([',', '\n']).map(str::trim).filter(|fault| !fault.is_empty()) {
            faults.add(fault).ok_or_else(|| UnknownFault(fault.to_owned()))?;
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, delay, clock, chances } = self;
        let mut all: Vec<String> = seed.iter().map(|seed| format!("seed={seed}")).collect();
        for ((_, name), chance) in Kind::ALL.iter().zip(chances) {
            match *chance {
                Chance(0) => {}
                Chance::ALWAYS => all.push((*name).to_owned()),
                chance => all.push(format!("{name}={chance}")),
            }
        }
        if *delay != Delay::default() {
            all.push(format!("delay={delay}"));
        }
        if *clock != 0 {
            all.push(format!("clock={clock:+}s"));
        }
        f.write_str(&all.join(","))
    }
}

impl Faults {
    fn add(&mut self, fault: &str) -> Option<()> {
        let (name, value) = fault.split_once('=').map_or((fault, None), |(name, value)| (name, Some(value)));
        let chance = value.map_or(Some(Chance::ALWAYS), Chance::parse);
        match (name, value) {
            ("seed", Some(seed)) => self.seed = Some(seed.parse().ok()?),
            ("delay", Some(delay)) => self.delay = Delay::parse(delay)?,
            ("clock", Some(clock)) => self.clock = clock.strip_suffix('s')?.parse().ok()?,
            ("drop", _) => {
                for kind in [Kind::DropRequests, Kind::DropReplies] {
                    self.set(kind, chance?);
                }
            }
            (name, _) => {
                let (kind, _) = Kind::ALL.iter().find(|(_, known)| *known == name)?;
                self.set(*kind, chance?);
            }
        }
        Some(())
    }

    fn set(&mut self, kind: Kind, chance: Chance) {
        for ((known, _), own) in Kind::ALL.iter().zip(&mut self.chances) {
            if *known == kind {
                *own = chance;
            }
        }
    }

    /// The seed of their course, when they name one.
    pub(super) const fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// How many seconds the clock is ahead.
    pub(super) const fn clock(&self) -> i32 {
        self.clock
    }

    /// Whether something can go wrong in this way.
    pub(super) fn may(&self, kind: Kind) -> bool {
        self.chances.iter().zip(Kind::ALL).any(|(chance, (known, _))| *known == kind && *chance > Chance(0))
    }
}

/// What goes wrong this time. It follows from the faults, the seed, and how many times there were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    hit: [bool; Kind::ALL.len()],
    /// How much later the answer goes out.
    pub delay: Duration,
    /// Random bits of this time.
    pub lot: u64,
    /// How many times there were before.
    pub number: u64,
}

impl Fate {
    pub(super) fn draw(faults: &Faults, seed: u64, number: u64) -> Self {
        let Faults { seed: _, delay: Delay { least, most }, clock: _, chances } = faults;
        // Each kind has a course of its own: switching another one on does not change it.
        let mut lots = (0..).map(|course| mixed(mixed(seed ^ mixed(course)).wrapping_add(number)));
        let lot = lots.next().unwrap_or_default();
        let span = u64::from(most - least) + 1;
        let delay = Duration::from_millis(u64::from(*least) + lot % span);
        let mut hit = [false; Kind::ALL.len()];
        for ((hit, chance), lot) in hit.iter_mut().zip(chances).zip(lots) {
            *hit = lot % 1000 < u64::from(chance.0);
        }
        Self { hit, delay, lot, number }
    }

    /// Whether it goes wrong in this way.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.hit.iter().zip(Kind::ALL).any(|(hit, (known, _))| *known == kind && *hit)
    }
}

/// The output function of `SplitMix64`.
const fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_faults() -> impl Strategy<Value = Faults> {
        let chances = proptest::collection::vec((0_u16..=1000).prop_map(Chance), Kind::ALL.len());
        let delay = (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Delay { least: a.min(b), most: a.max(b) });
        (any::<Option<u64>>(), delay, any::<i32>(), chances).prop_map(|(seed, delay, clock, chances)| Faults {
            seed,
            delay,
            clock,
            chances: chances.try_into().unwrap(),
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(faults in any_faults()) {
            prop_assert_eq!(faults.to_string().parse(), Ok(faults));
        }

        #[test]
        fn the_same_seed_gives_the_same_course(faults in any_faults(), seed: u64, number: u64) {
            let fate = Fate::draw(&faults, seed, number);
            prop_assert_eq!(fate, Fate::draw(&faults, seed, number));
            let (least, most) = (u64::from(faults.delay.least), u64::from(faults.delay.most));
            prop_assert!((least..=most).contains(&u64::try_from(fate.delay.as_millis()).unwrap()));
            for ((kind, _), chance) in Kind::ALL.iter().zip(faults.chances) {
                prop_assert!(chance != Chance::ALWAYS || fate.is(*kind));
                prop_assert!(chance != Chance(0) || !fate.is(*kind));
                prop_assert_eq!(faults.may(*kind), chance != Chance(0));
            }
        }
    }

    #[test]
    fn a_list_of_faults_is_read() {
        let names: Vec<&str> = Kind::ALL.iter().map(|(_, name)| *name).collect();
        let all = format!("seed=7,{},delay=1500,clock=-90s", names.join(","));
        let faults: Faults = all.parse().unwrap();
        assert_eq!(faults.to_string(), all);
        assert_eq!(faults.chances, [Chance::ALWAYS; Kind::ALL.len()]);
        assert_eq!("".parse(), Ok(Faults::default()));
        assert_eq!(" list-empty \n".parse::<Faults>().unwrap().to_string(), "list-empty");
        let both: Faults = "drop=0.25,clock=+90s,delay=10..20,cut=0,mute=1.0".parse().unwrap();
        assert_eq!(both.to_string(), "drop-requests=0.25,drop-replies=0.25,mute,delay=10..20,clock=+90s");
        for wrong in [
            "list",
            "delay=",
            "delay=x",
            "delay",
            "delay=2..1",
            "seed",
            "seed=x",
            "clock=90",
            "clock",
            "cut=1.1",
            "cut=-1",
            "cut=0.",
            "cut=0.0001",
            "cut=.5",
            "cut=",
            "drop=2",
        ] {
            let error = wrong.parse::<Faults>().unwrap_err();
            assert_eq!(error, UnknownFault(wrong.into()));
            assert!(names.iter().all(|name| error.to_string().contains(name)), "{error}");
        }
    }

    #[test]
    fn things_go_wrong_as_often_as_they_should_and_each_on_its_own() {
        let faults: Faults = "drop-requests=0.2,drop-replies=0.2,delay=0..9".parse().unwrap();
        let seed = rand::random();
        let course = |kind| (0..10_000).map(|number| Fate::draw(&faults, seed, number).is(kind)).collect::<Vec<_>>();
        let (lost, unanswered) = (course(Kind::DropRequests), course(Kind::DropReplies));
        let count = |course: &[bool]| course.iter().filter(|hit| **hit).count();
        // Ten standard deviations: 40 each.
        assert!((1600..2400).contains(&count(&lost)), "{} with seed {seed}", count(&lost));
        let both = lost.iter().zip(&unanswered).filter(|(lost, unanswered)| **lost && **unanswered).count();
        assert!((200..600).contains(&both), "{both} with seed {seed}");
        assert_eq!(count(&course(Kind::Cut)), 0);
        let delays: std::collections::BTreeSet<_> =
            (0..1000).map(|number| Fate::draw(&faults, seed, number).delay).collect();
        assert_eq!(delays.len(), 10, "with seed {seed}");
        // Another fault beside it leaves its course as it was.
        let more: Faults = format!("{faults},cut=0.5,list-empty").parse().unwrap();
        assert!(
            (0..1000).all(|number| Fate::draw(&more, seed, number).is(Kind::DropRequests)
                == lost[usize::try_from(number).unwrap()])
        );
        assert_ne!(
            lost,
            (0..10_000).map(|number| Fate::draw(&faults, !seed, number).is(Kind::DropRequests)).collect::<Vec<_>>()
        );
    }
}
