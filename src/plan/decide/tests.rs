use proptest::prelude::*;

use super::*;

const SKEW: Duration = Duration::from_secs(30);
const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

fn own(id: &str, attempt: i64, progress: Progress) -> Own {
    Own { id: id.into(), attempt, digest: "d".into(), progress, created: format!("2026-01-0{attempt}T00:00:00Z") }
}

fn seen(own: Vec<Own>, complete: bool) -> Sight {
    Sight::Seen { own, foreign: false, complete }
}

fn steps(wanted: bool, record: &Record, sight: &Sight) -> Vec<Step> {
    decide(wanted, record, sight, NOW, SKEW).steps
}

#[test]
fn the_first_attempt_needs_no_proof_of_absence() {
    let record = Record::None { attempts: 0 };
    assert_eq!(steps(true, &record, &seen(vec![], false)), [Step::Begin { attempt: 1 }]);
    assert_eq!(steps(false, &record, &seen(vec![], true)), []);
}

#[test]
fn an_open_attempt_is_awaited_until_its_request_is_dead_and_its_absence_proven() {
    let fresh = Record::Open { attempt: 1, expires: NOW };
    let decision = decide(true, &fresh, &seen(vec![], true), NOW, SKEW);
    assert_eq!(decision.steps, []);
    assert!(matches!(decision.phase, Phase::Pending { until: Some(until), .. } if until == NOW.plus(SKEW)));

    let dead = Record::Open { attempt: 1, expires: NOW.minus(SKEW + Duration::from_nanos(1)) };
    assert_eq!(steps(true, &dead, &seen(vec![], false)), [], "an incomplete list proves nothing");
    assert_eq!(steps(true, &dead, &seen(vec![], true)), [Step::Begin { attempt: 2 }]);
    assert_eq!(steps(false, &dead, &seen(vec![], true)), []);
    let found = seen(vec![own("a", 1, Progress::Starting)], false);
    assert_eq!(steps(true, &fresh, &found), [Step::Adopt { id: "a".into(), attempt: 1 }]);
}

#[test]
fn a_foreign_id_stalls_and_touches_nothing() {
    let record = Record::Bound { attempt: 1, id: "theirs".into() };
    let sight = Sight::Seen { own: vec![own("ours", 1, Progress::Running)], foreign: true, complete: true };
    for wanted in [true, false] {
        let decision = decide(wanted, &record, &sight, NOW, SKEW);
        assert_eq!(decision.steps, []);
        assert!(matches!(decision.phase, Phase::Stalled { reason: Reason::ForeignDeployment, .. }));
    }
}

#[test]
fn of_several_that_run_the_same_the_oldest_stays() {
    let record = Record::Bound { attempt: 2, id: "b".into() };
    let sight = seen(vec![own("b", 2, Progress::Running), own("a", 1, Progress::Running)], false);
    assert_eq!(
        steps(true, &record, &sight),
        [Step::Adopt { id: "a".into(), attempt: 1 }, Step::Stop { id: "b".into() }]
    );
    let mut replaced = own("a", 1, Progress::Running);
    replaced.digest = "other".into();
    assert_eq!(steps(true, &record, &seen(vec![own("b", 2, Progress::Running), replaced], false)), []);
}

#[test]
fn what_is_not_wanted_is_stopped_only_while_it_runs() {
    let record = Record::Bound { attempt: 1, id: "a".into() };
    for (progress, expected) in [
        (Progress::Running, vec![Step::Stop { id: "a".into() }]),
        (Progress::Starting, vec![]),
        (Progress::Stopping, vec![]),
        (Progress::Failed, vec![]),
        (Progress::Completed, vec![]),
        (unknown(), vec![]),
    ] {
        assert_eq!(steps(false, &record, &seen(vec![own("a", 1, progress.clone())], false)), expected, "{progress:?}");
    }
}

#[test]
fn what_ended_is_begun_anew_when_wanted() {
    let record = Record::Bound { attempt: 3, id: "a".into() };
    for progress in [Progress::Failed, Progress::Completed] {
        assert_eq!(steps(true, &record, &seen(vec![own("a", 3, progress)], false)), [Step::Begin { attempt: 4 }]);
    }
    assert_eq!(steps(true, &record, &seen(vec![], false)), [], "a missing id is unknown while the list may be short");
    assert_eq!(steps(true, &record, &seen(vec![], true)), [Step::Begin { attempt: 4 }]);
}

fn unknown() -> Progress {
    Progress::Unknown("Hibernating".into())
}

#[test]
fn what_is_in_a_state_that_is_not_known_is_neither_gone_nor_ended() {
    let sight = seen(vec![own("a", 1, unknown())], true);
    let record = Record::Bound { attempt: 1, id: "a".into() };
    for wanted in [true, false] {
        let decision = decide(wanted, &record, &sight, NOW, SKEW);
        assert_eq!(decision.steps, [], "{wanted}");
        let Phase::Unknown { reason: Reason::DeviceUnreadable, message } = &decision.phase else {
            panic!("{decision:?}")
        };
        assert!(message.contains("deployment a is in the state \"Hibernating\""), "{message}");
    }
    // It is found by its tag like any other, whatever was recorded before.
    let dead = NOW.minus(SKEW + Duration::from_nanos(1));
    for record in [
        Record::None { attempts: 1 },
        Record::Open { attempt: 1, expires: dead },
        Record::Open { attempt: 2, expires: dead },
        Record::Bound { attempt: 2, id: "gone".into() },
    ] {
        assert_eq!(steps(true, &record, &sight), [Step::Adopt { id: "a".into(), attempt: 1 }], "{record:?}");
    }
    // What runs beside it is preferred, and stays.
    let both = seen(vec![own("a", 1, unknown()), own("b", 2, Progress::Running)], true);
    let adopted = [Step::Adopt { id: "b".into(), attempt: 2 }];
    assert_eq!(steps(true, &record, &both), adopted);
    assert_eq!(steps(true, &Record::Bound { attempt: 3, id: "gone".into() }, &both), adopted);
    assert_eq!(steps(true, &Record::Bound { attempt: 2, id: "b".into() }, &both), []);
}

fn any_progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        Just(Progress::Starting),
        Just(Progress::Running),
        Just(Progress::Stopping),
        Just(Progress::Failed),
        Just(Progress::Completed),
        Just(unknown())
    ]
}

fn any_own() -> impl Strategy<Value = Vec<Own>> {
    proptest::collection::vec(("[a-d]", 1_i64..4, any_progress(), "[de]"), 0..4).prop_map(|all| {
        all.into_iter().map(|(id, attempt, progress, digest)| Own { digest, ..own(&id, attempt, progress) }).collect()
    })
}

fn any_record() -> impl Strategy<Value = Record> {
    prop_oneof![
        (0_i64..3).prop_map(|attempts| Record::None { attempts }),
        (1_i64..3, -90_i64..90).prop_map(|(attempt, seconds)| Record::Open {
            attempt,
            expires: if seconds < 0 {
                NOW.minus(Duration::from_secs(seconds.unsigned_abs()))
            } else {
                NOW.plus(Duration::from_secs(seconds.unsigned_abs()))
            },
        }),
        (1_i64..3, "[a-d]").prop_map(|(attempt, id)| Record::Bound { attempt, id }),
    ]
}

proptest! {
    /// Nothing is ever begun while something live is in sight, on silence, or before a sent request is dead.
    #[test]
    fn never_two(wanted: bool, record in any_record(), own in any_own(), complete: bool) {
        let decision = decide(wanted, &record, &seen(own.clone(), complete), NOW, SKEW);
        let begins = decision.steps.iter().any(|step| matches!(step, Step::Begin { .. }));
        if begins {
            prop_assert!(wanted);
            prop_assert!(!own.iter().any(|own| own.progress.live()));
            match &record {
                Record::None { .. } => {}
                Record::Open { expires, .. } => prop_assert!(complete && NOW > expires.plus(SKEW)),
                Record::Bound { id, .. } => prop_assert!(complete || own.iter().any(|own| &own.id == id)),
            }
        }
        let silent = Sight::Unknown { reason: Reason::DeviceSilent, message: String::new() };
        prop_assert_eq!(decide(wanted, &record, &silent, NOW, SKEW).steps, []);
    }

    /// What is in a state that is not known is neither stopped nor forgotten, and nothing is given up for it.
    #[test]
    fn never_in_doubt(wanted: bool, record in any_record(), own in any_own(), complete: bool) {
        let Decision { steps, phase } = decide(wanted, &record, &seen(own.clone(), complete), NOW, SKEW);
        let doubtful = |id: &str| own.iter().any(|own| own.id == id && own.progress == unknown());
        for step in &steps {
            if let Step::Stop { id } | Step::Forget { id } = step {
                prop_assert!(own.iter().any(|own| &own.id == id && own.progress != unknown()), "{step:?}");
            }
        }
        if let (Record::Bound { id, .. }, true) = (&record, phase == Phase::Idle) {
            prop_assert!(!doubtful(id));
        }
    }

    /// While wanted, a stop never takes the last one that runs.
    #[test]
    fn never_none(record in any_record(), own in any_own(), complete: bool) {
        let decision = decide(true, &record, &seen(own.clone(), complete), NOW, SKEW);
        let stopped: Vec<_> = decision.steps.iter().filter_map(|step| match step {
            Step::Stop { id } => Some(id),
            Step::Begin { .. } | Step::Adopt { .. } | Step::Forget { .. } => None,
        }).collect();
        if !stopped.is_empty() {
            let stays = |own: &Own| matches!(own.progress, Progress::Starting | Progress::Running);
            prop_assert!(own.iter().any(|own| stays(own) && !stopped.contains(&&own.id)));
        }
    }
}
