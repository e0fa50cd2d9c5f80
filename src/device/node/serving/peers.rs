//! The node's peers. Without a network it has none, and can do nothing about that.

use super::{
    super::{
        Served,
        reach::{Reach, Unreached},
    },
    request,
};
use crate::device::dms::{ConnectReply, ConnectRequest, PeersList, PingReply, PingRequest};

impl Served {
    pub(super) fn peers(&self) -> PeersList {
        PeersList { peers: self.reach().map(Reach::peers).unwrap_or_default() }
    }

    pub(super) async fn ping(&self, message: &[u8]) -> PingReply {
        let pinged = async {
            let PingRequest { host } = request(message)?;
            self.reach()?.ping(&host).await.map_err(|error| error.to_string())
        };
        match pinged.await {
            Ok(rtt) => PingReply::of(rtt),
            Err(error) => PingReply { error, ..PingReply::default() },
        }
    }

    pub(super) async fn connect(&self, message: &[u8]) -> ConnectReply {
        let connected = async {
            let ConnectRequest { address } = request(message)?;
            self.reach()?.connect(&address).await.map_err(|error| error.to_string())
        };
        match connected.await {
            Ok(()) => ConnectReply { status: "CONNECTED".to_owned(), error: String::new() },
            Err(error) => ConnectReply { status: String::new(), error },
        }
    }

    /// The network; or, when there is none, what is answered then.
    pub(super) fn reach(&self) -> Result<&Reach, String> {
        self.reach.get().ok_or_else(|| Unreached::NoNetwork.to_string())
    }
}
