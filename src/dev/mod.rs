//! The kit: starts a control plane, an S3 service and processes on this machine, for `make demo` and the tests.
//!
//! Everything it starts listens on loopback, on ports that were free, and ends with the process that started it,
//! however that one ends: each [`Process`] has a watchdog that outlives its parent by a moment and leaves nothing.

mod audit;
mod certificates;
mod control_plane;
mod credentials;
mod error;
pub mod installation;
mod process;
mod s3;
mod tools;
pub mod wallet;

pub use audit::{AuditLog, AuditRecord};
pub use control_plane::ControlPlane;
pub use credentials::Credentials;
pub use error::KitError;
pub use process::Process;
pub use s3::{S3Request, S3Server};
pub use tools::Tools;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    sync::{Mutex, PoisonError},
};

/// A TCP port of the loopback interface that nothing listens on, and that this process was not given before.
///
/// # Errors
/// [`KitError::Port`] when the system has none left.
pub fn free_port() -> Result<u16, KitError> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    // The system picks at random from about 28 000 ports, so a port given before comes up rarely.
    for _ in 0..64 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(KitError::Port)?;
        let port = listener.local_addr().map_err(KitError::Port)?.port();
        if given.insert(port) {
            return Ok(port);
        }
    }
    Err(KitError::Port(std::io::ErrorKind::AddrInUse.into()))
}
