//! When a device is not called: after so many calls without a reply it is left alone for a while, and then tried with one
//! call. Otherwise each call to a dead device would cost its caller the whole wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::capability::Did;

/// Calls in a row without a reply after which a device is left alone.
pub(super) const SILENT: u32 = 8;
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

/// What is known of one device.
#[derive(Debug, Default)]
struct Breaker {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Calls go through; so many in a row brought no reply.
    Closed { silent: u32 },
    /// None goes through before this moment.
    Open { until: Instant, pause: Duration },
    /// One is under way, to see.
    Trying { pause: Duration },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { silent: 0 }
    }
}

/// What went through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Trial,
}

/// Why a call does not go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LeftAlone {
    #[error("it did not answer its last {SILENT} calls or more, so it is left alone; it is tried again in {}s", .0.as_secs() + 1)]
    For(Duration),
    #[error("it did not answer its last {SILENT} calls or more; one is under way to see whether it answers again")]
    Trying,
}

impl Breaker {
    /// Lets a call through, or not. Of each that went through the end has to be told.
    fn admit(&mut self, now: Instant) -> Result<Kind, LeftAlone> {
        match self.state {
            State::Closed { .. } => Ok(Kind::Call),
            State::Open { until, .. } if now < until => Err(LeftAlone::For(until - now)),
            State::Open { pause, .. } => {
                self.state = State::Trying { pause };
                Ok(Kind::Trial)
            }
            State::Trying { .. } => Err(LeftAlone::Trying),
        }
    }

    /// A call brought no reply. `jitter`, from 0 to 1, spreads the pause over its upper half.
    fn silent(&mut self, kind: Kind, now: Instant, jitter: f64) {
        let pause = match (&mut self.state, kind) {
            (State::Closed { silent }, _) => {
                *silent += 1;
                if *silent < SILENT {
                    return;
                }
                FIRST
            }
            (State::Trying { pause }, Kind::Trial) => (*pause * 2).min(LONGEST),
            // A call from before the pause.
            (State::Open { .. } | State::Trying { .. }, _) => return,
        };
        let until = now + pause.mul_f64(f64::midpoint(1.0, jitter.clamp(0.0, 1.0)));
        self.state = State::Open { until, pause };
    }

    /// A trial ended without news: nothing was sent, or nobody waits any more.
    fn without_news(&mut self, now: Instant) {
        if let State::Trying { pause } = self.state {
            self.state = State::Open { until: now, pause };
        }
    }
}

/// The breakers of the devices that something speaks against.
#[derive(Debug, Default)]
pub(super) struct Breakers(Mutex<HashMap<Did, Breaker>>);

impl Breakers {
    /// Lets a call to this device through, or not.
    pub(super) fn admit(self: &Arc<Self>, device: &Did, now: Instant) -> Result<Pass, LeftAlone> {
        let kind = self.lock().get_mut(device).map_or(Ok(Kind::Call), |breaker| breaker.admit(now))?;
        Ok(Pass { breakers: self.clone(), device: device.clone(), kind })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Did, Breaker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that went through; tells what became of it.
#[derive(Debug)]
pub(super) struct Pass {
    breakers: Arc<Breakers>,
    device: Did,
    kind: Kind,
}

impl Pass {
    pub(super) fn answered(self) {
        self.breakers.lock().remove(&self.device);
    }

    pub(super) fn silent(self, now: Instant, jitter: f64) {
        self.breakers.lock().entry(self.device.clone()).or_default().silent(self.kind, now, jitter);
    }
}

impl Drop for Pass {
    /// After `silent` there is nothing more to tell, and this changes nothing.
    fn drop(&mut self) {
        if self.kind == Kind::Trial
            && let Some(breaker) = self.breakers.lock().get_mut(&self.device)
        {
            breaker.without_news(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Key;

    const SECOND: Duration = Duration::from_secs(1);

    fn open(now: Instant) -> Breaker {
        let mut breaker = Breaker::default();
        for _ in 0..SILENT {
            assert_eq!(breaker.admit(now), Ok(Kind::Call));
            breaker.silent(Kind::Call, now, 1.0);
        }
        breaker
    }

    #[test]
    fn silence_in_a_row_opens() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..SILENT {
            assert_eq!(breaker.admit(now), Ok(Kind::Call));
            breaker.silent(Kind::Call, now, 1.0);
        }
        assert_eq!(breaker.admit(now), Err(LeftAlone::For(FIRST)));
    }

    #[test]
    fn after_the_pause_one_call_tries_and_decides() {
        let now = Instant::now();
        let mut breaker = open(now);
        assert_eq!(breaker.admit(now + SECOND / 2), Err(LeftAlone::For(SECOND / 2)));
        for pause in [2, 4, 8, 8] {
            let later = now + 100 * SECOND;
            assert_eq!(breaker.admit(later), Ok(Kind::Trial));
            assert_eq!(breaker.admit(later), Err(LeftAlone::Trying));
            breaker.silent(Kind::Trial, later, 1.0);
            assert_eq!(breaker.admit(later), Err(LeftAlone::For(pause * SECOND)));
            breaker.state = State::Open { until: now, pause: pause * SECOND };
        }
    }

    #[test]
    fn a_reply_closes_it_whichever_call_it_answers() {
        let (breakers, device) = (Arc::new(Breakers::default()), Key::from_seed([7; 32]).did().clone());
        let now = Instant::now();
        let before = breakers.admit(&device, now).unwrap();
        for _ in 0..SILENT {
            breakers.admit(&device, now).unwrap().silent(now, 1.0);
        }
        assert_eq!(breakers.admit(&device, now).unwrap_err(), LeftAlone::For(FIRST));
        let trial = breakers.admit(&device, now + FIRST).unwrap();
        assert_eq!(breakers.admit(&device, now + FIRST).unwrap_err(), LeftAlone::Trying);
        drop(trial);
        let trial = breakers.admit(&device, now + FIRST).unwrap();
        before.answered();
        assert!(breakers.0.lock().unwrap().is_empty());
        drop(trial);
        assert!(breakers.admit(&device, now).is_ok() && breakers.admit(&device, now).is_ok());
    }

    #[test]
    fn a_trial_that_tells_nothing_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = open(now);
        let later = now + SECOND;
        assert_eq!(breaker.admit(later), Ok(Kind::Trial));
        breaker.without_news(later);
        assert_eq!((breaker.admit(later), breaker.admit(later)), (Ok(Kind::Trial), Err(LeftAlone::Trying)));
        let mut closed = Breaker::default();
        closed.without_news(now);
        assert_eq!(closed.admit(now), Ok(Kind::Call));
    }

    #[test]
    fn calls_from_before_the_pause_change_nothing() {
        let now = Instant::now();
        let mut breaker = open(now);
        let later = now + SECOND;
        assert_eq!(breaker.admit(later), Ok(Kind::Trial));
        breaker.silent(Kind::Call, later, 1.0);
        assert_eq!(breaker.admit(later), Err(LeftAlone::Trying));
        let mut breaker = open(now);
        breaker.silent(Kind::Call, now + SECOND / 2, 1.0);
        assert_eq!(breaker.admit(now + SECOND / 2), Err(LeftAlone::For(SECOND / 2)));
    }

    #[test]
    fn jitter_spreads_over_the_upper_half() {
        let now = Instant::now();
        for (jitter, pause) in [(0.0, SECOND / 2), (1.0, SECOND), (-3.0, SECOND / 2), (7.0, SECOND)] {
            let mut breaker = Breaker::default();
            (0..SILENT).for_each(|_| breaker.silent(Kind::Call, now, jitter));
            assert_eq!(breaker.admit(now), Err(LeftAlone::For(pause)));
        }
    }

    #[test]
    fn a_refusal_says_when_it_is_tried_again() {
        let said = LeftAlone::For(Duration::from_millis(3200)).to_string();
        assert!(said.ends_with("it is tried again in 4s"), "{said}");
    }
}
