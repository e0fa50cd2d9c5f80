// The fake server panics when a test has broken it.
#![allow(clippy::unwrap_in_result)]

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use proptest::prelude::*;
use tokio::time::{advance, interval, sleep};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How the fake API server treats one call.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Answers after this long.
    Slow(Duration),
    /// Fails at once, having done nothing.
    Refuses,
    /// Does it after this long, but the answer never comes.
    AnswerLost(Duration),
    /// Never does anything, and never answers.
    Hangs,
}

/// The server's side: one lease under optimistic locking.
#[derive(Default)]
struct Stored {
    lease: Mutex<Option<Lease>>,
    version: AtomicU64,
}

impl Stored {
    fn write(&self, lease: &Lease, expected: Option<&str>) -> Result<Lease, LeaseCallError> {
        let mut stored = self.lease.lock().unwrap();
        let current = stored.as_ref().and_then(|lease| lease.metadata.resource_version.as_deref());
        if current != expected {
            return Err(LeaseCallError::Conflict);
        }
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some((self.version.fetch_add(1, Ordering::Relaxed) + 1).to_string());
        *stored = Some(lease.clone());
        Ok(lease)
    }

    fn holder(&self) -> Option<String> {
        self.lease.lock().unwrap().as_ref()?.spec.as_ref()?.holder_identity.clone()
    }

    /// Another's lease, as if written by a foreign candidate.
    fn put_foreign(&self, renewed: Timestamp) {
        let current = self.lease.lock().unwrap().as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let spec = LeaseSpec {
            holder_identity: Some("foreign".into()),
            lease_duration_seconds: Some(30),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        };
        self.write(&Lease { spec: Some(spec), ..Lease::default() }, current.as_deref()).unwrap();
    }
}

/// One candidate's line to the server, with its own faults.
struct Line {
    stored: Arc<Stored>,
    faults: Mutex<Box<dyn FnMut() -> Option<Fault> + Send>>,
    calls: AtomicU64,
}

impl Line {
    fn new(stored: &Arc<Stored>, faults: impl FnMut() -> Option<Fault> + Send + 'static) -> Arc<Self> {
        Arc::new(Self { stored: Arc::clone(stored), faults: Mutex::new(Box::new(faults)), calls: AtomicU64::default() })
    }

    async fn call<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Stored) -> Result<T, LeaseCallError> + Send + 'static,
    ) -> Result<T, LeaseCallError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let fault = (self.faults.lock().unwrap())();
        match fault {
            None => act(&self.stored),
            Some(Fault::Slow(time)) => {
                sleep(time).await;
                act(&self.stored)
            }
            Some(Fault::Refuses) => Err(LeaseCallError::Failed("500".into())),
            Some(Fault::AnswerLost(time)) => {
                let stored = Arc::clone(&self.stored);
                // In a task of its own: the caller giving up does not take back what is on the wire.
                tokio::spawn(async move {
                    sleep(time).await;
                    drop(act(&stored));
                });
                std::future::pending().await
            }
            Some(Fault::Hangs) => std::future::pending().await,
        }
    }
}

#[async_trait]
impl LeaseApi for Line {
    async fn get(&self, _name: &str) -> Result<Option<Lease>, LeaseCallError> {
        self.call(|stored| Ok(stored.lease.lock().unwrap().clone())).await
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseCallError> {
        let lease = lease.clone();
        self.call(move |stored| stored.write(&lease, None)).await
    }

    async fn replace(&self, _name: &str, lease: &Lease) -> Result<Lease, LeaseCallError> {
        let lease = lease.clone();
        self.call(move |stored| {
            let expected = lease.metadata.resource_version.clone().unwrap();
            stored.write(&lease, Some(&expected))
        })
        .await
    }
}

fn sound() -> Option<Fault> {
    None
}

fn start(line: &Arc<Line>, identity: &str) -> Campaign {
    Campaign::start(Arc::clone(line) as Arc<dyn LeaseApi>, LeaseConfig::new("ns", "lead", identity)).unwrap()
}

/// Faults that can be switched while a campaign runs.
fn switchable() -> (Arc<Mutex<Option<Fault>>>, impl FnMut() -> Option<Fault> + Send + 'static) {
    let switch = Arc::new(Mutex::new(None));
    let read = Arc::clone(&switch);
    (switch, move || *read.lock().unwrap())
}

#[test]
fn times_that_leave_no_second_try_are_refused() {
    let with = |duration, renew| LeaseConfig { duration, renew, ..LeaseConfig::new("ns", "lead", "a") }.check();
    assert!(with(30 * SECOND, 10 * SECOND).is_ok());
    assert!(with(25 * SECOND, 10 * SECOND).is_ok());
    assert!(with(24 * SECOND, 10 * SECOND).is_err());
    assert!(with(30 * SECOND, Duration::ZERO).is_err());
    assert!(with(Duration::from_millis(30_500), SECOND).is_err());
    let message = with(SECOND, SECOND).unwrap_err().to_string();
    assert!(message.starts_with("a lease of 1s renewed every 1s would be lost at the first slow answer"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn the_decision_table() {
    let now = Instant::now();
    let (past, future) = (now.checked_sub(SECOND).unwrap_or(now), now + SECOND);
    let held_by = |holder: Option<&str>, since| Seen::Present {
        holder: holder.map(Into::into),
        version: "1".into(),
        duration: 30 * SECOND,
        since,
    };
    let leads = |until, renew_at| Some(Holding { until, renew_at });
    let cases = [
        (Seen::Absent { held_until: None }, None, Decision::Acquire),
        (Seen::Absent { held_until: Some(future) }, None, Decision::Wait(future)),
        (Seen::Absent { held_until: Some(now) }, None, Decision::Acquire),
        (held_by(None, now), None, Decision::Acquire),
        (held_by(Some("me"), now), None, Decision::Acquire),
        (held_by(Some("other"), now), None, Decision::Wait(now + 30 * SECOND)),
        (held_by(Some("other"), now), leads(future, future), Decision::Lost),
        (held_by(None, now), leads(future, future), Decision::Lost),
        (Seen::Absent { held_until: None }, leads(future, future), Decision::Lost),
        (held_by(Some("me"), now), leads(future, future), Decision::Wait(future)),
        (held_by(Some("me"), now), leads(future, now), Decision::Renew),
        (held_by(Some("me"), now), leads(now, future), Decision::Lost),
        (held_by(Some("me"), now), leads(past, past), Decision::Lost),
    ];
    for (seen, holding, expected) in cases {
        let me = Me { identity: "me", holding };
        assert_eq!(decide(now, &seen, &me), expected, "{seen:?} {holding:?}");
    }
    let waited_out = held_by(Some("other"), now);
    assert_eq!(decide(now + 30 * SECOND, &waited_out, &Me { identity: "me", holding: None }), Decision::Acquire);
}

#[tokio::test(start_paused = true)]
async fn the_first_candidate_leads_at_once_and_renews() {
    let stored = Arc::default();
    let line = Line::new(&stored, sound);
    let campaign = start(&line, "pod-a");
    let mut claim = campaign.claim();
    assert!(!claim.held());
    let before = Instant::now();
    assert!(claim.acquired().await);
    assert!(before.elapsed() < SECOND);
    assert!(stored.holder().unwrap().starts_with("pod-a_"), "{:?}", stored.holder());
    let spec = stored.lease.lock().unwrap().clone().unwrap().spec.unwrap();
    assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(30), Some(1)));
    assert!(spec.acquire_time.is_some() && spec.renew_time.is_some());

    sleep(600 * SECOND).await;
    assert!(claim.held());
    let calls = line.calls.load(Ordering::Relaxed);
    assert!((60..=64).contains(&calls), "one call per renewal, not {calls} in ten minutes");
    assert_eq!(stored.lease.lock().unwrap().clone().unwrap().spec.unwrap().lease_transitions, Some(1));
}

#[tokio::test(start_paused = true)]
async fn given_up_it_passes_on_within_one_look() {
    let stored = Arc::default();
    let first = start(&Line::new(&stored, sound), "a");
    assert!(first.claim().acquired().await);
    let second = start(&Line::new(&stored, sound), "b");
    let mut claim = second.claim();
    sleep(101 * SECOND).await;
    assert!(!claim.held(), "the holder renews");

    let mut first_claim = first.claim();
    first.end().await;
    first_claim.lost().await;
    assert!(!first_claim.held());
    assert_eq!(stored.holder(), None);
    let before = Instant::now();
    assert!(claim.acquired().await);
    assert!(before.elapsed() <= 2 * SECOND, "{:?}", before.elapsed());
    assert_eq!(stored.lease.lock().unwrap().clone().unwrap().spec.unwrap().lease_transitions, Some(2));
}

/// Whatever the server does, the claim is over when the time of the last renewal is.
#[tokio::test(start_paused = true)]
async fn the_claim_ends_on_time_when_the_server_fails() {
    for fault in [Fault::Refuses, Fault::Hangs, Fault::Slow(5 * SECOND)] {
        let stored = Arc::default();
        let (switch, faults) = switchable();
        let campaign = start(&Line::new(&stored, faults), "a");
        let mut claim = campaign.claim();
        assert!(claim.acquired().await);
        let acquired = Instant::now();
        *switch.lock().unwrap() = Some(fault);
        claim.lost().await;
        assert!(!claim.held());
        let held = acquired.elapsed();
        assert!(held > 23 * SECOND && held <= 24 * SECOND + Duration::from_millis(10), "{fault:?}: {held:?}");
        *switch.lock().unwrap() = None;
        sleep(100 * SECOND).await;
        assert!(!claim.held(), "a lost lease does not come back to the same campaign");
        assert!(!claim.acquired().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_failure_costs_nothing() {
    let stored = Arc::default();
    let (switch, faults) = switchable();
    let campaign = start(&Line::new(&stored, faults), "a");
    let mut claim = campaign.claim();
    assert!(claim.acquired().await);
    for fault in [Fault::Refuses, Fault::Hangs, Fault::AnswerLost(SECOND)] {
        *switch.lock().unwrap() = Some(fault);
        sleep(12 * SECOND).await;
        *switch.lock().unwrap() = None;
        sleep(12 * SECOND).await;
        assert!(claim.held(), "{fault:?}");
    }
}

/// A claim whose campaign was dropped, or whose task never runs again, still ends by its own clock.
#[tokio::test(start_paused = true)]
async fn a_dropped_campaign_ends_the_claim() {
    let stored = Arc::default();
    let campaign = start(&Line::new(&stored, sound), "a");
    let mut claim = campaign.claim();
    assert!(claim.acquired().await);
    drop(campaign);
    claim.lost().await;
    assert!(!claim.held());

    let (publish, until) = watch::channel(Some(Instant::now() + SECOND));
    let mut claim = Claim { until };
    assert!(claim.held());
    let before = Instant::now();
    claim.lost().await;
    assert!(before.elapsed() >= SECOND && !claim.held());
    drop(publish);
}

#[tokio::test(start_paused = true)]
async fn an_overwritten_or_deleted_lease_is_lost() {
    for deleted in [false, true] {
        let stored: Arc<Stored> = Arc::default();
        let campaign = start(&Line::new(&stored, sound), "a");
        let mut claim = campaign.claim();
        assert!(claim.acquired().await);
        if deleted {
            *stored.lease.lock().unwrap() = None;
        } else {
            stored.put_foreign(Timestamp::now());
        }
        let before = Instant::now();
        claim.lost().await;
        assert!(before.elapsed() <= 11 * SECOND, "noticed at the next renewal, not at the deadline");
    }
}

/// Clocks of other machines are not read: neither a holder from the past is robbed, nor one from the future obeyed.
#[tokio::test(start_paused = true)]
async fn foreign_clocks_do_not_count() {
    for renewed in [Timestamp::UNIX_EPOCH, Timestamp::now(), Timestamp::MAX] {
        let stored: Arc<Stored> = Arc::default();
        stored.put_foreign(renewed);
        let campaign = start(&Line::new(&stored, sound), "b");
        let mut claim = campaign.claim();
        let before = Instant::now();
        // Renewed twice more, its clock standing still, then silent.
        for _ in 0..2 {
            sleep(20 * SECOND).await;
            stored.put_foreign(renewed);
        }
        assert!(claim.acquired().await);
        let waited = before.elapsed();
        assert!((70 * SECOND..=73 * SECOND).contains(&waited), "{renewed}: {waited:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_vanishes_is_not_taken_from_a_holder_that_may_not_know() {
    let stored: Arc<Stored> = Arc::default();
    stored.put_foreign(Timestamp::now());
    let campaign = start(&Line::new(&stored, sound), "b");
    let mut claim = campaign.claim();
    let before = Instant::now();
    sleep(5 * SECOND).await;
    *stored.lease.lock().unwrap() = None;
    assert!(claim.acquired().await);
    assert!((29 * SECOND..=32 * SECOND).contains(&before.elapsed()), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_foreign_holder_without_a_duration_is_given_ours() {
    let lease = |seconds| Lease {
        spec: Some(LeaseSpec {
            holder_identity: Some("x".into()),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }),
        ..Lease::default()
    };
    for (seconds, expected) in [(None, 7), (Some(0), 7), (Some(-5), 7), (Some(9), 9)] {
        let seen = observe(Instant::now(), Some(&lease(seconds)), None, 7 * SECOND);
        assert!(matches!(seen, Seen::Present { duration, .. } if duration == expected * SECOND), "{seen:?}");
    }
}

/// Small deterministic generator: the faults of a case follow from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % sides
    }

    fn fault(&mut self) -> Option<Fault> {
        let time = Duration::from_millis(self.roll(40_000));
        match self.roll(10) {
            0 => Some(Fault::Refuses),
            1 => Some(Fault::Hangs),
            2 | 3 => Some(Fault::AnswerLost(time)),
            4 | 5 => Some(Fault::Slow(time / 8)),
            _ => None,
        }
    }
}

/// A process that leads, loses, is started again; sometimes it shuts down in order.
async fn restarted_forever(line: Arc<Line>, name: String, claims: Arc<Mutex<Vec<Claim>>>, mut dice: Dice) {
    loop {
        let campaign = start(&line, &name);
        let mut claim = campaign.claim();
        claims.lock().unwrap().push(claim.clone());
        if !claim.acquired().await {
            continue;
        }
        let lifetime = Duration::from_millis(dice.roll(300_000));
        tokio::select! {
            () = claim.lost() => {}
            () = sleep(lifetime) => campaign.end().await,
        }
        sleep(Duration::from_millis(dice.roll(5_000))).await;
    }
}

async fn never_two(seed: u64, candidates: u64) -> u32 {
    let stored: Arc<Stored> = Arc::default();
    let claims: Arc<Mutex<Vec<Claim>>> = Arc::default();
    let troubled = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut tasks = VecDeque::new();
    for candidate in 0..candidates {
        let mut dice = Dice(seed ^ (candidate << 32));
        let own = Dice(dice.roll(u64::MAX));
        let on = Arc::clone(&troubled);
        let line = Line::new(&stored, move || on.load(Ordering::Relaxed).then(|| dice.fault()).flatten());
        tasks.push_back(tokio::spawn(restarted_forever(line, format!("c{candidate}"), Arc::clone(&claims), own)));
    }
    let mut ticks = interval(Duration::from_millis(200));
    let mut led = 0;
    for tick in 0..6_000_u32 {
        ticks.tick().await;
        if tick == 5_000 {
            troubled.store(false, Ordering::Relaxed);
        }
        let holders = claims.lock().unwrap().iter().filter(|claim| claim.held()).count();
        assert!(holders <= 1, "{holders} lead at once at tick {tick}");
        led += u32::from(tick >= 5_000 && holders == 1);
    }
    for task in tasks {
        task.abort();
    }
    led
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn two_never_lead_at_once(seed: u64, candidates in 2_u64..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let led = runtime.block_on(never_two(seed, candidates));
        prop_assert!(led > 500, "when the server is well, somebody leads: {led} of 1000 ticks");
    }
}

#[tokio::test(start_paused = true)]
async fn time_itself_ends_a_claim() {
    let stored = Arc::default();
    let campaign = start(&Line::new(&stored, sound), "a");
    let mut claim = campaign.claim();
    assert!(claim.acquired().await);
    // As if the process had been stopped: the clock moves while no task of ours runs.
    advance(Duration::from_secs(25)).await;
    assert!(!claim.held());
}
