//! Ratios of paired times.

use std::hint::black_box;
use std::time::Instant;

use bench::capability::VerdictCache;
use cpu_time::ProcessTime;

use crate::chains::{Biscuits, Chain, hostile, refuse};

const ROUNDS: usize = 200;

/// Seconds for one run out of `times`.
fn seconds(times: u32, work: &mut dyn FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        black_box(&mut *work)();
    }
    start.elapsed().as_secs_f64() / f64::from(times)
}

/// Seconds of processor time for one refusal.
fn processor_seconds(bytes: &[u8]) -> f64 {
    let start = ProcessTime::now();
    black_box(refuse(black_box(bytes)));
    start.elapsed().as_secs_f64()
}

struct Ratio {
    median: f64,
    low: f64,
    high: f64,
    ours: f64,
    peer: f64,
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let index = (share * (sorted.len() - 1) as f64).round() as usize;
    sorted[index]
}

/// Ours and the peer's in turns; the order changes from round to round.
fn paired(ours: (u32, &mut dyn FnMut()), peer: (u32, &mut dyn FnMut())) -> Ratio {
    let (mut ratios, mut our_times, mut peer_times) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let (mine, theirs) = if round % 2 == 0 {
            let mine = seconds(ours.0, ours.1);
            (mine, seconds(peer.0, peer.1))
        } else {
            let theirs = seconds(peer.0, peer.1);
            (seconds(ours.0, ours.1), theirs)
        };
        ratios.push(mine / theirs);
        our_times.push(mine);
        peer_times.push(theirs);
    }
    for list in [&mut ratios, &mut our_times, &mut peer_times] {
        list.sort_by(f64::total_cmp);
    }
    Ratio {
        median: percentile(&ratios, 0.5),
        low: percentile(&ratios, 0.1),
        high: percentile(&ratios, 0.9),
        ours: percentile(&our_times, 0.5),
        peer: percentile(&peer_times, 0.5),
    }
}

/// One row; without a bound it is there to compare with.
fn row(what: &str, depth: usize, bound: Option<f64>, ratio: &Ratio) {
    let Ratio { median, low, high, ours, peer } = ratio;
    let held = bound.map_or("", |bound| if *median <= bound { "held" } else { "NOT HELD" });
    let bound = bound.map_or_else(String::new, |bound| bound.to_string());
    println!(
        "| {what} | {depth} | {median:.3} | {low:.3} – {high:.3} | {bound} | {held} | {:.1} | {:.1} |",
        ours * 1e6,
        peer * 1e6
    );
}

/// Prints the table of ratios.
pub fn print(depths: &[usize]) {
    println!(
        "| ratio | links | median | 10 % – 90 % | bound | | ours, µs | peer, µs |\n|---|---|---|---|---|---|---|---|"
    );
    for &depth in depths {
        let (chain, biscuit) = (Chain::of(depth), Biscuits::of(depth));
        let mut cache = VerdictCache::new(1 << 20);
        let ratio = paired((8, &mut || chain.judge_token()), (8, &mut || chain.raw(depth)));
        row("token cold : raw signatures", depth, Some(1.25), &ratio);
        let ratio = paired((8, &mut || chain.judge_token()), (8, &mut || biscuit.authorise()));
        row("token cold : biscuit authorised", depth, Some(0.85), &ratio);
        let ratio = paired((8, &mut || chain.judge_token()), (8, &mut || drop(biscuit.verify())));
        row("token cold : biscuit signatures alone", depth, None, &ratio);
        let ratio = paired((8, &mut || chain.judge_invocation()), (8, &mut || chain.raw(depth + 1)));
        row("invocation cold : raw signatures", depth, None, &ratio);
        let ratio = paired((256, &mut || chain.judge_cached(&mut cache)), (8, &mut || chain.judge_invocation()));
        row("invocation cached : cold", depth, Some(0.03), &ratio);
    }
    println!("\n| 16 KiB from a stranger | refused as | CPU, ms: median | 90 % | bound | |\n|---|---|---|---|---|---|");
    for (name, bytes) in hostile() {
        let mut times: Vec<_> = (0..ROUNDS).map(|_| processor_seconds(&bytes) * 1e3).collect();
        times.sort_by(f64::total_cmp);
        let (median, high) = (percentile(&times, 0.5), percentile(&times, 0.9));
        let held = if median <= 1.0 { "held" } else { "NOT HELD" };
        println!("| {name}, {} bytes | {} | {median:.3} | {high:.3} | 1 | {held} |", bytes.len(), refuse(&bytes));
    }
}
