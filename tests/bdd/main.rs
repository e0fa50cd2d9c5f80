//! The use case, run: `tests/features/*.feature` against a real API server, a real object store, devices, the operator and
//! the command line as processes.
//!
//! `cargo test --test bdd -- --name REGEX` runs the scenarios of that name, also those that are left out otherwise.

// A test fails by panicking, in the functions that tests share too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// The macros of the steps hand over owned values.
#![allow(clippy::needless_pass_by_value)]

#[allow(dead_code, unused_imports, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/archives.rs"]
mod archives;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/door/asking.rs"]
mod asking;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/refusals/forging.rs"]
mod forging;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/door/listening.rs"]
mod listening;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/timed.rs"]
mod timed;
#[allow(dead_code, reason = "shared with the other test binary, which uses all of it")]
#[path = "../it/world.rs"]
mod world;

mod desk;
mod left_out;
mod stage;
mod steps;

use std::process::ExitCode;

use cucumber::{World as _, writer::Stats as _};

use self::{left_out::LeftOut, stage::Stage, timed::Timed};

/// The specification.
pub const FEATURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/features");
/// Tests that run side by side, as the test runner is told.
const THREADS: usize = 4;
/// Scenarios wait for longer than tests do, so this many times as many of them run side by side.
const MORE: usize = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let threads = std::env::var("RUST_TEST_THREADS").ok().and_then(|text| text.parse().ok()).unwrap_or(THREADS);
    let told = Stage::cucumber()
        .max_concurrent_scenarios(threads * MORE)
        .fail_on_skipped()
        .before(|_, _, scenario, stage| {
            stage.timed = Some(Timed::of(&format!("{:?}", scenario.name)));
            Box::pin(async {})
        })
        .after(|_, _, _, _, stage| {
            Box::pin(async {
                if let Some(stage) = stage {
                    stage.leave().await;
                }
            })
        })
        .filter_run(FEATURES, |feature, rule, scenario| LeftOut::of(feature, rule, scenario).is_none())
        .await;
    left_out::print();
    if told.execution_has_failed() || told.passed_steps() == 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
