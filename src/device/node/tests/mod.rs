//! The node through its seam: frames in, frames out, random keys, a clock that stands until it is moved, and a shell as
//! the child program.

mod anchors;
mod children;
mod deployments;
mod faults;
mod judging;
mod limits;
mod logs;
mod network;
mod onboarding;
mod peers;
mod rig;

/// How long the messages of tests live.
const MINUTES: std::time::Duration = std::time::Duration::from_mins(5);
