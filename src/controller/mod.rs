//! (work in progress)
pub mod lease;
