//! The node through its seam: frames in, frames out, random keys, a clock that stands until it is moved, and a shell as
//! the child program.

mod children;
mod deployments;
mod faults;
mod judging;
mod network;
mod rig;
