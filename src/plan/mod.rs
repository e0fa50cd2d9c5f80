//! From what is wanted and what is seen to what is to be done. Pure: every function takes `now` and its inputs.

pub mod authorise;
pub mod backoff;
pub mod build;
pub mod conditions;
pub mod decide;
pub mod place;
pub mod reach;
pub mod retention;
pub mod span;
pub mod tag;
pub mod validate;
