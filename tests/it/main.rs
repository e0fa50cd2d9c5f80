//! Integration tests: one binary, one module per subject.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod definitions;
mod fields;
mod layers;
