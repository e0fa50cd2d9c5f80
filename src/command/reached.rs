//! Where the provider's actor is reached, as its users are told.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::{capability::Did, config::OperatorConfig, device::libp2p::Link};

/// Most addresses that a status holds.
const MOST: usize = 16;

/// The addresses that were given, or else those that are listened at; multiaddresses with the peer ID behind them.
pub(super) async fn addresses(args: &OperatorConfig, link: &Link, listener: &TcpListener) -> Vec<String> {
    let listened = link.listen_addresses().await;
    told(&args.advertise, &listened, listener.local_addr().ok(), link.peer_id())
}

/// The name that challenges show: the host that users are told, or else the provider itself.
pub(super) fn host(addresses: &[String], provider: &Did) -> String {
    let mut hosts = addresses.iter().filter_map(|address| address.split_once("://"));
    hosts.next().map_or_else(|| provider.to_string(), |(_, rest)| rest.split('/').next().unwrap_or_default().to_owned())
}

fn told(advertised: &[String], listened: &[String], http: Option<SocketAddr>, peer: &str) -> Vec<String> {
    let complete = |address: &String| {
        if address.starts_with('/') && !address.contains("/p2p/") {
            format!("{address}/p2p/{peer}")
        } else {
            address.clone()
        }
    };
    if !advertised.is_empty() {
        return advertised.iter().take(MOST).map(complete).collect();
    }
    // Nobody reaches 0.0.0.0, and which addresses of this machine others reach is not known here.
    let http = http.filter(|address| !address.ip().is_unspecified()).map(|address| format!("http://{address}"));
    listened.iter().take(MOST - 1).map(complete).chain(http).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Key;

    #[test]
    fn users_are_told_what_was_given_or_else_what_is_listened_at() {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let listened = texts(&["/ip4/127.0.0.1/tcp/9000"]);
        let http = |text: &str| Some(text.parse().unwrap());
        let did = Key::from_seed([1; 32]).did().clone();
        let found = told(&[], &listened, http("127.0.0.1:8082"), "12D3");
        assert_eq!(found, ["/ip4/127.0.0.1/tcp/9000/p2p/12D3", "http://127.0.0.1:8082"]);
        assert_eq!(host(&found, &did), "127.0.0.1:8082");
        assert_eq!(told(&[], &[], http("0.0.0.0:8082"), "12D3"), Vec::<String>::new());
        let given = texts(&["/dns4/a.example/tcp/1", "/dns4/b.example/tcp/1/p2p/12D4", "https://c.example/hosting"]);
        let found = told(&given, &listened, http("127.0.0.1:8082"), "12D3");
        assert_eq!(
            found,
            ["/dns4/a.example/tcp/1/p2p/12D3", "/dns4/b.example/tcp/1/p2p/12D4", "https://c.example/hosting"]
        );
        assert_eq!(host(&found, &did), "c.example");
        assert_eq!(host(&found[..2], &did), did.as_str());
    }
}
