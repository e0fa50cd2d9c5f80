//! What the benches measure, alone: the capability room, which needs nothing else of the operator, and the transport to
//! devices, which needs only that room.

#[path = "../../../src/capability/mod.rs"]
pub mod capability;
pub mod device;
