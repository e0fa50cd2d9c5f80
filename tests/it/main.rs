//! Integration tests: one binary, one module per subject. Linking a second binary would cost more than compiling it.

// A test fails by panicking, in the functions that tests share too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod chart;
mod cluster;
mod definitions;
mod examples;
mod fields;
mod kit;
mod kit_process;
mod kit_s3;
mod layers;
mod timed;
