//! What running work has used: readings in, increments out. Pure: every function takes its inputs and no clock.
//!
//! ```text
//! Reading (cumulative, at a time) → Meter → Increment (what was added, or why nothing was) → Totals
//! ```
//!
//! Time is counted only between two readings that both saw the same incarnation running and are close enough to vouch
//! for what lies between. All else is a [`Gap`] with its reason: it adds nothing. Counters of a device outlast a gap,
//! so what they gained meanwhile is added late.

mod meter;
mod reading;

pub use meter::{Gap, Increment, Meter, Totals};
pub use reading::{Network, Reading, Reserved, RunState};
