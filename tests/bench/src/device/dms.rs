//! The paths of behaviours.

#[path = "../../../../src/device/dms/path.rs"]
pub mod path;
