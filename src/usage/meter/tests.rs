use proptest::{collection::vec, prelude::*};

use super::*;

const RESERVED: Reserved = Reserved { cpu_millis: 500, memory_bytes: 1 << 30, disk_bytes: 7 };

fn reading(milliseconds: u64) -> Reading {
    Reading {
        deployment: "uid".into(),
        allocation: "web".into(),
        incarnation: "first".into(),
        at: Nanos(milliseconds * 1_000_000),
        state: RunState::Running,
        reserved: RESERVED,
        network: Some(Network { received: milliseconds, sent: 2 * milliseconds }),
        stored_bytes: None,
    }
}

fn gap_only(gap: Gap) -> Increment {
    Increment { gap: Some(gap), ..Increment::default() }
}

fn total(readings: impl IntoIterator<Item = Reading>) -> Totals {
    let mut meter = Meter::new(Duration::from_secs(1_000));
    let mut totals = Totals::default();
    for reading in readings {
        totals.add(&meter.take(reading));
    }
    totals
}

#[test]
fn two_readings_of_running_work_count_what_lies_between() {
    let mut meter = Meter::default();
    assert_eq!(meter.take(reading(1_000)), gap_only(Gap::FirstReading));
    assert_eq!(
        meter.take(Reading { stored_bytes: Some(9), ..reading(61_500) }),
        Increment {
            seconds: 60,
            cpu_milli_seconds: 30_000,
            memory_byte_seconds: 60 << 30,
            disk_byte_seconds: 420,
            received_bytes: 60_500,
            sent_bytes: 121_000,
            stored_bytes: Some(9),
            gap: None,
        }
    );
}

#[test]
fn every_gap_adds_no_time_and_says_why() {
    let silent = |at| Reading { state: RunState::Unknown, network: None, ..reading(at) };
    let idle = |at| Reading { state: RunState::NotRunning, ..reading(at) };
    let renewed = |at| Reading { incarnation: "second".into(), ..reading(at) };
    let cases: [(&str, Vec<Reading>, Gap); 10] = [
        ("nothing before", vec![reading(1_000)], Gap::FirstReading),
        ("nothing before, and silent", vec![silent(1_000)], Gap::DeviceSilent),
        ("silent before anything was read", vec![silent(1_000), reading(2_000)], Gap::FirstReading),
        ("silent now", vec![reading(1_000), silent(2_000)], Gap::DeviceSilent),
        ("silent between", vec![reading(1_000), silent(2_000), reading(3_000)], Gap::DeviceSilent),
        ("ended between", vec![reading(1_000), idle(2_000)], Gap::NotRunning),
        ("began between", vec![idle(1_000), reading(2_000)], Gap::NotRunning),
        ("another incarnation", vec![reading(1_000), renewed(2_000)], Gap::NewIncarnation),
        ("too far apart", vec![reading(1_000), reading(302_000)], Gap::ReadingsMissed),
        ("an old one", vec![reading(2_000), reading(1_000)], Gap::OutOfOrder),
    ];
    for (name, readings, gap) in cases {
        let mut meter = Meter::default();
        let last = readings.into_iter().map(|reading| meter.take(reading)).last().unwrap();
        assert_eq!((last.gap, last.seconds, last.memory_byte_seconds), (Some(gap), 0, 0), "{name}");
    }
    let mut meter = Meter::default();
    meter.take(reading(1_000));
    assert_eq!(meter.take(reading(301_000)).gap, None, "just close enough");
}

#[test]
fn more_than_a_network_carries_is_not_counted() {
    let counted = |at, received| Reading { network: Some(Network { received, sent: 0 }), ..reading(at) };
    let gigabytes = |number: u64| number * 1_000_000_000;
    let mut meter = Meter::default();
    meter.take(counted(1_000, 0));
    assert_eq!(meter.take(counted(11_000, gigabytes(120))).received_bytes, gigabytes(120), "a fast network");
    let impossible = meter.take(counted(12_000, u64::MAX));
    assert_eq!((impossible.gap, impossible.received_bytes, impossible.seconds), (Some(Gap::Impossible), 0, 0));
    // What is said after it is compared with what was believed before it.
    let next = meter.take(counted(13_000, gigabytes(121)));
    assert_eq!((next.gap, next.received_bytes), (Some(Gap::DeviceSilent), gigabytes(1)));
    // A long silence leaves time for much.
    let mut meter = Meter::default();
    meter.take(counted(1_000, 0));
    for minute in 1..100 {
        meter.take(Reading { state: RunState::Unknown, network: None, ..reading(minute * 60_000) });
    }
    assert_eq!(meter.take(counted(6_000_000, gigabytes(1_000))).received_bytes, gigabytes(1_000));
}

#[test]
fn an_incarnation_that_comes_back_is_not_counted_anew() {
    let other = |at| Reading { incarnation: "second".into(), ..reading(at) };
    let totals = total([reading(1_000), reading(2_000), other(3_000), other(3_500), reading(4_000)]);
    // 1000 to 2000 and on to 4000 of the first, all 3500 of the second.
    assert_eq!(totals.received_bytes, 3_000 + 3_500);
}

#[test]
fn counters_outlast_silence_and_unknown_counts() {
    let quiet = |state, at| Reading { state, network: None, ..reading(at) };
    let totals =
        total([reading(1_000), quiet(RunState::Unknown, 2_000), quiet(RunState::Running, 3_000), reading(5_000)]);
    assert_eq!((totals.seconds, totals.received_bytes, totals.sent_bytes), (2, 4_000, 8_000));
}

#[test]
fn a_count_with_an_unknown_beginning_is_not_charged() {
    let mut meter = Meter::default();
    meter.take(Reading { network: None, ..reading(1_000) });
    let increment = meter.take(reading(2_000));
    assert_eq!((increment.received_bytes, increment.sent_bytes), (0, 0));
    assert_eq!(meter.take(reading(3_000)).received_bytes, 1_000);
}

#[test]
fn an_old_count_is_not_carried_into_a_new_incarnation() {
    let mut meter = Meter::default();
    meter.take(reading(5_000));
    meter.take(Reading { incarnation: "second".into(), network: None, ..reading(6_000) });
    let network = Some(Network { received: 9_000, sent: 0 });
    let increment = meter.take(Reading { incarnation: "second".into(), network, ..reading(7_000) });
    assert_eq!(increment.received_bytes, 0, "unknown where it stood");
}

#[test]
fn what_both_readings_vouch_for_is_counted() {
    let mut meter = Meter::default();
    meter.take(reading(0));
    let more = Reserved { cpu_millis: 900, memory_bytes: 1, disk_bytes: 7 };
    let increment = meter.take(Reading { reserved: more, ..reading(10_000) });
    assert_eq!((increment.cpu_milli_seconds, increment.memory_byte_seconds), (5_000, 10));
}

#[test]
fn allocations_are_apart_and_a_forgotten_deployment_begins_anew() {
    let mut meter = Meter::default();
    meter.take(reading(1_000));
    let other = |at| Reading { allocation: "worker".into(), ..reading(at) };
    assert_eq!(meter.take(other(2_000)), gap_only(Gap::FirstReading));
    let foreign = |at| Reading { deployment: "other".into(), ..reading(at) };
    meter.take(foreign(1_000));
    meter.forget("uid");
    assert_eq!(meter.take(reading(3_000)), gap_only(Gap::FirstReading));
    assert_eq!(meter.take(other(3_000)), gap_only(Gap::FirstReading));
    assert_eq!(meter.take(foreign(3_000)).seconds, 2);
}

#[test]
fn the_largest_values_do_not_run_over() {
    let most = Reserved { cpu_millis: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX };
    let at = |at| Reading { at, reserved: most, network: None, ..reading(0) };
    let mut meter = Meter::new(Duration::MAX);
    meter.take(at(Nanos(0)));
    let increment = meter.take(at(Nanos::MAX));
    let seconds = u64::MAX / NANOS_PER_SECOND;
    assert_eq!(increment.seconds, seconds);
    assert_eq!(increment.memory_byte_seconds, u128::from(u64::MAX) * u128::from(seconds));
}

/// Steps in milliseconds, each well below the longest interval.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    vec(1_u64..900_000, 1..40)
}

fn times(steps: &[u64]) -> Vec<u64> {
    steps
        .iter()
        .scan(1_000, |at, step| {
            *at += step;
            Some(*at)
        })
        .collect()
}

proptest! {
    #[test]
    fn the_parts_add_up_to_the_whole(steps in steps()) {
        let times = times(&steps);
        let (first, last) = (times[0], times[times.len() - 1]);
        let parts = total(times.iter().map(|at| reading(*at)));
        let seconds = u128::from(last / 1_000 - first / 1_000);
        prop_assert_eq!(parts, Totals {
            seconds,
            cpu_milli_seconds: seconds * 500,
            memory_byte_seconds: seconds << 30,
            disk_byte_seconds: seconds * 7,
            received_bytes: u128::from(last - first),
            sent_bytes: 2 * u128::from(last - first),
        });
    }

    /// Each step says how much was received; the counter starts anew at 0 where told, so never twice, never lost.
    #[test]
    fn resets_neither_lose_nor_repeat(traffic in vec((1_u64..1_000_000, any::<bool>()), 1..40)) {
        let mut counter = 5;
        let mut expected = 0_u128;
        let mut readings = vec![reading(1_000)];
        readings[0].network = Some(Network { received: counter, sent: 0 });
        for (index, (received, reset)) in (2_u64..).zip(&traffic) {
            // A reset shows only when the new count is below the old one.
            let reset = *reset && *received < counter;
            counter = if reset { *received } else { counter + received };
            expected += u128::from(*received);
            let network = Some(Network { received: counter, sent: 0 });
            readings.push(Reading { network, ..reading(index * 1_000) });
        }
        prop_assert_eq!(total(readings).received_bytes, expected);
    }

    #[test]
    fn silence_never_adds_and_never_loses_bytes(steps in steps(), silent in vec(any::<bool>(), 40)) {
        let times = times(&steps);
        let whole = total(times.iter().map(|at| reading(*at)));
        let last = times.len() - 1;
        let with_silence = total(times.iter().enumerate().map(|(index, at)| {
            if silent[index] && index != 0 && index != last {
                Reading { state: RunState::Unknown, network: None, ..reading(*at) }
            } else {
                reading(*at)
            }
        }));
        prop_assert!(with_silence.seconds <= whole.seconds);
        prop_assert_eq!(with_silence.received_bytes, whole.received_bytes);
        let any_silent = (1..last).any(|index| silent[index]);
        prop_assert_eq!(with_silence.memory_byte_seconds < whole.memory_byte_seconds,
            any_silent && with_silence.seconds < whole.seconds);
    }

    #[test]
    fn readings_out_of_order_change_nothing(order in vec(1_u64..500_000, 1..60)) {
        let mut latest = 0;
        let in_order: Vec<u64> = order.iter().copied().filter(|at| {
            let later = *at > latest;
            latest = latest.max(*at);
            later
        }).collect();
        prop_assert_eq!(
            total(order.iter().map(|at| reading(*at))),
            total(in_order.iter().map(|at| reading(*at)))
        );
    }
}

/// What is counted of readings whose counters may fall.
fn settled(readings: impl IntoIterator<Item = Reading>) -> u128 {
    let (mut meter, mut totals) = (Meter::new(Duration::from_secs(1_000)), Totals::default());
    for mut reading in readings {
        meter.settle_fall(&mut reading);
        totals.add(&meter.take(reading));
    }
    totals.received_bytes
}

fn counted(second: u64, received: u64) -> Reading {
    Reading { network: Some(Network { received, sent: 0 }), ..reading(second * 1_000) }
}

#[test]
fn counters_that_fall_are_counted_on_once_and_never_twice() {
    let killed = [counted(1, 1000), counted(2, 10), counted(3, 30), counted(4, 35), counted(5, 1100)];
    let lost = "what lies before its first word after the fall is lost";
    assert_eq!(settled(killed), 25 + 100, "{lost}");
    let falling = [counted(1, 1000), counted(2, 500), counted(3, 400), counted(4, 300), counted(5, 1000)];
    assert_eq!(settled(falling), 0);
    // In turns too much and nothing, then the truth again: each byte once.
    let turns = [1000, 1 << 62, 0, 1 << 62, 0, 1200].into_iter().zip(1..);
    assert_eq!(settled(turns.map(|(received, second)| counted(second, received))), 200);
    let renewed = Reading { incarnation: "second".into(), ..counted(2, 10) };
    assert_eq!(settled([counted(1, 1000), renewed]), 10, "another incarnation begins at 0");
}
