//! `make bench-capability`: what a verdict costs, next to the bare signatures and to biscuit.
//!
//! Criterion gives the times of each piece by itself. The ratios come from rounds in which ours and the peer take turns
//! on the same inputs, so that both meet the same noise; their median and the tenth and ninetieth percentile are printed.

mod chains;
mod ratios;

use std::hint::black_box;

use bench::capability::{VerdictCache, parse_token_list};
use criterion::{BenchmarkId, Criterion};

use chains::{Biscuits, Chain};

const DEPTHS: [usize; 3] = [1, 3, 8];

fn times(criterion: &mut Criterion) {
    for depth in DEPTHS {
        let chain = Chain::of(depth);
        let biscuit = Biscuits::of(depth);
        let mut group = criterion.benchmark_group(format!("{depth} links"));
        group.bench_function("parse only", |bencher| bencher.iter(|| parse_token_list(black_box(&chain.list))));
        group.bench_function("token, cold", |bencher| bencher.iter(|| chain.judge_token()));
        group.bench_function("invocation, cold", |bencher| bencher.iter(|| chain.judge_invocation()));
        let mut cache = VerdictCache::new(1 << 20);
        group.bench_function("invocation, cached", |bencher| bencher.iter(|| chain.judge_cached(&mut cache)));
        group.bench_function("raw signatures", |bencher| bencher.iter(|| chain.raw(depth)));
        group.bench_function("biscuit, parsed and verified", |bencher| bencher.iter(|| biscuit.verify()));
        group.bench_function("biscuit, authorised", |bencher| bencher.iter(|| biscuit.authorise()));
        group.finish();
    }
    let mut group = criterion.benchmark_group("making");
    for depth in [1, 3, 7] {
        let chain = Chain::of(depth);
        group.bench_function(BenchmarkId::new("delegate below", depth), |bencher| bencher.iter(|| chain.delegate()));
    }
    group.finish();
    let hostile = chains::hostile();
    let mut group = criterion.benchmark_group("hostile, 16 KiB");
    for (name, bytes) in &hostile {
        group.bench_function(*name, |bencher| bencher.iter(|| chains::refuse(black_box(bytes))));
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    times(&mut criterion);
    criterion.final_summary();
    ratios::print(&DEPTHS);
}
