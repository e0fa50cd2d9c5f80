//! The node itself: where it is, whom it sees, what it offers.

use std::time::Duration;

use super::{READ_WINDOW, ask, bad};
use crate::device::{
    CallError, DeviceClient, DeviceTarget,
    dms::{
        ConnectReply, ConnectRequest, Nothing, OnboardingReply, PeersDht, PeersList, PeersScore, PeersSelf, PingReply,
        PingRequest, ResourcesReply, path,
    },
};

/// Peer ID and addresses of the device: the cheapest question there is, hence the heartbeat.
///
/// # Errors
/// [`CallError`]; silence says nothing about what runs there.
pub async fn peers_self(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<PeersSelf, CallError> {
    let reply: PeersSelf = ask(client, target, path::PEERS_SELF, &Nothing {}, READ_WINDOW).await?;
    if reply.id.is_empty() {
        return Err(bad(target, path::PEERS_SELF, "it names no peer"));
    }
    Ok(reply)
}

/// The peers that the device is connected to.
///
/// # Errors
/// [`CallError`].
pub async fn peers_list(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<PeersList, CallError> {
    ask(client, target, path::PEERS_LIST, &Nothing {}, READ_WINDOW).await
}

/// Has the device ping another peer.
///
/// # Errors
/// [`CallError`]; that the peer did not answer stands in [`PingReply::error`].
pub async fn peers_ping(client: &dyn DeviceClient, target: &DeviceTarget, peer: &str) -> Result<PingReply, CallError> {
    let request = PingRequest { host: peer.to_owned() };
    ask(client, target, path::PEERS_PING, &request, READ_WINDOW).await
}

/// Has the device connect to a multiaddress that ends in `/p2p/…`.
///
/// # Errors
/// [`CallError`]; that it could not stands in [`ConnectReply::error`].
pub async fn peers_connect(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    address: &str,
) -> Result<ConnectReply, CallError> {
    let request = ConnectRequest { address: address.to_owned() };
    ask(client, target, path::PEERS_CONNECT, &request, CONNECT_WINDOW).await
}

/// Dialling takes its time.
const CONNECT_WINDOW: Duration = Duration::from_secs(30);

/// The routing table of the device.
///
/// # Errors
/// [`CallError`].
pub async fn peers_dht(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<PeersDht, CallError> {
    ask(client, target, path::PEERS_DHT, &Nothing {}, READ_WINDOW).await
}

/// How the device rates its peers.
///
/// # Errors
/// [`CallError`].
pub async fn peers_score(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<PeersScore, CallError> {
    ask(client, target, path::PEERS_SCORE, &Nothing {}, READ_WINDOW).await
}

/// What the device has left to give away.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`ResourcesReply::error`].
pub async fn resources_free(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<ResourcesReply, CallError> {
    ask(client, target, path::RESOURCES_FREE, &Nothing {}, READ_WINDOW).await
}

/// What the device has given to deployments.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`ResourcesReply::error`].
pub async fn resources_allocated(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
) -> Result<ResourcesReply, CallError> {
    ask(client, target, path::RESOURCES_ALLOCATED, &Nothing {}, READ_WINDOW).await
}

/// What the device offers.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`ResourcesReply::error`].
pub async fn resources_onboarded(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
) -> Result<ResourcesReply, CallError> {
    ask(client, target, path::RESOURCES_ONBOARDED, &Nothing {}, READ_WINDOW).await
}

/// Whether the device offers its resources.
///
/// # Errors
/// [`CallError`]; what the device itself could not tell stands in [`OnboardingReply::error`].
pub async fn onboarding_status(client: &dyn DeviceClient, target: &DeviceTarget) -> Result<OnboardingReply, CallError> {
    ask(client, target, path::ONBOARDING_STATUS, &Nothing {}, READ_WINDOW).await
}
