//! From what is wanted and what is seen to what is to be done. Pure.

pub mod build;
