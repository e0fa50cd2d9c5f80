//! Connecting to an address for its own sake, without a message to send.

use std::time::Duration;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::link::{Link, SendError};
use super::task::Command;

/// Why there is no connection to an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The address says not where to go, or not to whom.
    #[error(
        "{address:?} is no multiaddress that ends in the peer ID of a node, such as /ip4/192.0.2.7/tcp/9000/p2p/12D3KooW…"
    )]
    Address {
        /// The text.
        address: String,
    },
    /// Nobody was reached there, or somebody else.
    #[error("could not connect to {address}: {cause}")]
    NotConnected {
        /// The address.
        address: String,
        /// What stood in the way.
        cause: String,
    },
}

impl Link {
    /// Connects to a multiaddress that ends in `/p2p/…`. Success also when there is a connection to that peer already.
    ///
    /// # Errors
    /// [`ConnectError`]; the address is not dialled again by itself then.
    pub async fn connect(&self, address: &str, timeout: Duration) -> Result<(), ConnectError> {
        let (peer, bare) = parse(address).ok_or_else(|| ConnectError::Address { address: address.to_owned() })?;
        let connected = self.dial(peer, vec![bare], Instant::now() + timeout).await;
        let Err(SendError::NotSent { cause } | SendError::Unknown { cause }) = connected else { return Ok(()) };
        self.ask(Command::Forget { peer }).await;
        Err(ConnectError::NotConnected { address: address.to_owned(), cause })
    }
}

fn parse(address: &str) -> Option<(PeerId, Multiaddr)> {
    let mut address: Multiaddr = address.parse().ok()?;
    match address.pop()? {
        Protocol::P2p(peer) if !address.is_empty() => Some((peer, address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_where_and_to_whom() {
        let peer = PeerId::random();
        let bare = "/ip4/192.0.2.7/tcp/9000";
        assert_eq!(parse(&format!("{bare}/p2p/{peer}")), Some((peer, bare.parse().unwrap())));
        for wrong in [bare.to_owned(), format!("/p2p/{peer}"), String::new(), "192.0.2.7:9000".to_owned()] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }
}
