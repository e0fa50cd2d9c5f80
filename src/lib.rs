//! Kubernetes operator for decentralised hosting on NuNet DMS devices.
//!
//! ```text
//! dereference → validate → authorise → observe → plan → apply → publish status
//! ```
//!
//! Rooms, lowest first; imports point down only (held by `tests/it/layers.rs`):
//! [`capability`], [`api`] ← [`plan`], [`usage`] ← [`device`], [`store`], [`gateway`] ← [`controller`] ← [`command`].
//! The first four are pure: they take `now` and their inputs.

pub mod api;
pub mod capability;
pub mod command;
pub mod config;
pub mod controller;
#[cfg(feature = "dev")]
pub mod dev;
pub mod device;
pub mod gateway;
pub mod metrics;
pub mod plan;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod usage;
