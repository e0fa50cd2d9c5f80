//! One binary for all tests on real parts: linking it costs more than compiling it.

// A test fails by panicking, in the functions that tests share too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod api;
mod chart;
mod cluster;
mod definitions;
mod demo;
mod deploy;
mod device;
mod docs;
mod examples;
mod fields;
mod interop;
mod kit;
mod kit_process;
mod kit_s3;
mod layers;
mod readme;
mod timed;
mod world;
