//! What the operator asks of devices, whatever the transport.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::capability::{Did, Nanos, Token};

/// How to reach one device, and by what right.
#[derive(Clone, Debug)]
pub struct DeviceTarget {
    /// The node's DID; its libp2p peer ID is the same key.
    pub did: Did,
    /// Multiaddresses, without `/p2p/…`.
    pub addresses: Vec<String>,
    /// The device owner's grant to the provider. `None`: the provider is a root of the device.
    pub grant: Option<Token>,
}

/// A request made ready to be sent once: its envelope is fixed, so what was recorded is what is sent.
#[derive(Clone)]
pub struct PreparedCall {
    /// Nonce of the envelope.
    pub nonce: u64,
    /// When the envelope expires.
    pub expires: Nanos,
    /// The signed envelope, as it goes into a frame.
    pub frame: Vec<u8>,
    /// The continuation on which its reply is awaited.
    pub continuation: String,
}

impl fmt::Debug for PreparedCall {
    /// Without the frame, which may hold what a deployment is told in secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PreparedCall({} until {}, {} bytes)", self.nonce, self.expires, self.frame.len())
    }
}

/// Why a call to a device brought no usable reply.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// No byte of the request left this process: it may be tried again.
    #[error("device {did} could not be reached: {cause}. Check its addresses and that it is running")]
    NotSent {
        /// The device.
        did: String,
        /// What the transport said.
        cause: String,
    },
    /// The request may have been taken or not.
    #[error(
        "device {did} did not answer {behaviour} within {}s. What it did is unknown; a device is silent too when the \
         grant lacks the capability", .waited.as_secs()
    )]
    Silent {
        /// The device.
        did: String,
        /// The behaviour asked for.
        behaviour: String,
        /// How long the reply was awaited.
        waited: Duration,
    },
    /// A reply came that is not what this behaviour answers.
    #[error("device {did} answered {behaviour} with something that is not a reply to it: {cause}")]
    BadReply {
        /// The device.
        did: String,
        /// The behaviour asked for.
        behaviour: String,
        /// What is wrong with it.
        cause: String,
    },
    /// A reply came that cannot be true.
    #[error("device {did} answered {behaviour} with something that cannot be: {cause}")]
    Contradiction {
        /// The device.
        did: String,
        /// The behaviour asked for.
        behaviour: String,
        /// What does not fit together.
        cause: String,
    },
    /// The grant does not carry the capability, or has expired; nothing was sent.
    #[error(
        "the grant of device {did} does not allow {capability}: {cause}. Ask the owner of the device for a new grant and \
         put it into spec.grant of the HostingDevice"
    )]
    NotGranted {
        /// The device.
        did: String,
        /// The capability that was needed.
        capability: String,
        /// What the token says.
        cause: String,
    },
}

impl CallError {
    /// Whether it is certain that the device never saw the request.
    #[must_use]
    pub const fn never_sent(&self) -> bool {
        matches!(self, Self::NotSent { .. } | Self::NotGranted { .. })
    }
}

/// What the operator asks of devices.
#[async_trait]
pub trait DeviceClient: Send + Sync + 'static {
    /// Asks one behaviour and returns the JSON of the reply's payload, verified to come from this device. Waits at most
    /// `wait`; the request lives a little longer, so that a device whose clock is ahead does not take it for expired.
    async fn call(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: serde_json::Value,
        wait: Duration,
    ) -> Result<serde_json::Value, CallError>;

    /// Makes a request ready without sending it.
    fn prepare(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: serde_json::Value,
        expires_in: Duration,
    ) -> Result<PreparedCall, CallError>;

    /// Sends a prepared request, once, and waits at most `wait` for the reply.
    async fn send(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        call: PreparedCall,
        wait: Duration,
    ) -> Result<serde_json::Value, CallError>;
}
