//! From what is wanted and what is seen to what is to be done. Pure: every function takes `now` and its inputs.

pub mod authorise;
pub mod backoff;
pub mod build;
pub mod challenge;
pub mod conditions;
pub mod decide;
pub mod expiry;
pub mod grants;
pub mod login;
pub mod once;
pub mod place;
pub mod rate;
pub mod reach;
pub mod retention;
pub mod span;
pub mod tag;
pub mod validate;
