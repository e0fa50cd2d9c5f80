//! As much of the operator's device room as the transport needs.

#[path = "../../../../src/device/client.rs"]
mod client;
pub mod dms;
#[path = "../../../../src/device/libp2p/mod.rs"]
pub mod libp2p;

pub use client::{CallError, DeviceClient, DeviceTarget, PreparedCall};
