//! Devices: what the operator asks of a DMS node, and how it reaches one.
//!
//! [`DeviceClient`] speaks behaviours, not transports. [`dms`] holds the behaviours and the ensemble codec, `libp2p`
//! the transport, [`http`] another one, `actor` what answers those who ask, `node` the embedded device.

pub mod actor;
mod client;
pub mod dms;
pub mod http;
pub mod libp2p;
pub mod node;

/// Fresh random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

pub use client::{CallError, DeviceClient, DeviceTarget, PreparedCall};
