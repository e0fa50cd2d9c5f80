//! One binary for all tests on real parts: linking it costs more than compiling it.

// A test fails by panicking, in the functions that tests share too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod actor;
mod admission;
mod api;
mod archives;
mod bracket;
mod chart;
mod check;
mod cluster;
mod commands;
mod corpus;
mod definitions;
mod demo;
mod deploy;
mod device;
mod device_cli;
mod devices;
mod docs;
mod door;
mod ended;
mod examples;
mod expiry;
mod failures;
mod faults;
mod fields;
mod fleet;
mod heartbeat;
mod interop;
mod kit;
mod kit_process;
mod kit_s3;
mod layers;
mod login;
mod measurements;
mod notices;
mod provider;
mod readme;
mod real_dms;
mod refusals;
mod revocation;
mod sabotage;
mod soak;
mod specs;
mod standing;
mod timed;
mod token_cli;
mod tombstones;
mod unreadable;
mod world;
