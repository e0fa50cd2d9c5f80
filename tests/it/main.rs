//! One binary for all tests on real parts: linking it costs more than compiling it.

// A test fails by panicking, in the functions that tests share too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod kit;
mod kit_process;
mod kit_s3;
mod timed;
