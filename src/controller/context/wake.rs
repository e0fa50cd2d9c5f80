//! What wakes passes.

use crate::capability::RevocationKey;

/// Something changed that passes over HostingDeployments rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The provider.
    All,
    /// A token that was taken back: those that rest on it.
    Revoked(RevocationKey),
    /// A device: those on it, and those that wait for one.
    Device(String),
    /// The labels of a namespace: those in it.
    Namespace(String),
    /// One of them.
    Object {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}
