use clap::{Parser as _, ValueEnum as _};
use serde_json::json;

use super::provider::{Provider, Route, of_object};
use super::*;
use crate::command::Arguments;

fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from([&["dms-operator", "login"], line].concat())
}

fn did(byte: u8) -> Did {
    Key::from_seed([byte; 32]).did().clone()
}

#[test]
fn a_provider_is_named_in_three_ways() {
    let address = format!("/ip4/192.0.2.7/tcp/9000/p2p/{}", did(1).peer_id());
    assert_eq!(
        Named::parse(&address),
        Ok(Named::Address { did: did(1), address: "/ip4/192.0.2.7/tcp/9000".to_owned() })
    );
    let relayed = format!("/dns4/relay/tcp/1/p2p/{}/p2p-circuit/p2p/{}", did(2).peer_id(), did(1).peer_id());
    assert!(matches!(Named::parse(&relayed), Ok(Named::Address { did: found, .. }) if found == did(1)));
    assert_eq!(Named::parse("https://h.example.org"), Ok(Named::Service("https://h.example.org".to_owned())));
    let object = |namespace: Option<&str>, name: &str| {
        Ok(Named::Object { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    };
    assert_eq!(Named::parse("default"), object(None, "default"));
    assert_eq!(Named::parse("dms-operator/default"), object(Some("dms-operator"), "default"));
    for (wrong, says) in [
        ("/ip4/192.0.2.7/tcp/9000", "ends in its peer ID"),
        ("/p2p/x", "ends in its peer ID"),
        (
            "/ip4/192.0.2.7/tcp/1/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            "is not the peer ID of an Ed25519 key",
        ),
        ("a/b/c", "NAMESPACE/NAME"),
        ("Default", "NAMESPACE/NAME"),
        ("", "NAMESPACE/NAME"),
    ] {
        let said = Named::parse(wrong).unwrap_err();
        assert!(said.contains(says), "{wrong}: {said}");
    }
}

#[test]
fn the_command_line_says_what_it_takes() {
    assert!(parsed(&["default", "-n", "shop", "--can", "apply,read", "--name", "owner", "-y", "-o", "json"]).is_ok());
    for wrong in
        [&[][..], &["default", "--can", "all"], &["default", "--name", "../x"], &["default", "--timeout", "5m"]]
    {
        assert!(parsed(wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(HostingAction::value_variants().len(), GrantAction::ALL.len());
    for action in HostingAction::value_variants() {
        let shown = action.to_possible_value().unwrap();
        assert_eq!(shown.get_name(), GrantAction::from(*action).as_str());
    }
}

#[test]
fn the_status_of_a_provider_tells_the_ways_to_it() {
    let of = |status: serde_json::Value| of_object("ns", "default", &json!({"status": status}));
    let peer = did(1).peer_id();
    let addresses =
        json!(["https://h.example.org", format!("/ip4/192.0.2.7/tcp/1/p2p/{peer}"), "/ip4/192.0.2.8/tcp/1"]);
    let found = of(json!({"did": did(1).as_str(), "addresses": addresses})).unwrap();
    let dialled = ["/ip4/192.0.2.7/tcp/1", "/ip4/192.0.2.8/tcp/1"].map(str::to_owned).to_vec();
    let routes = vec![Route::Libp2p(dialled), Route::Http("https://h.example.org".to_owned())];
    assert_eq!(found, Provider { did: did(1), routes });
    for (status, says) in [
        (json!({}), "has no DID in its status yet"),
        (json!({"did": "did:key:z6Mkx"}), "has a DID that cannot be used"),
        (json!({"did": did(1).as_str()}), "tells no address"),
        (json!({"did": did(1).as_str(), "addresses": ["x"]}), "tells no address"),
    ] {
        let said = of(status).unwrap_err().to_string();
        assert!(said.contains(says) && said.contains("kubectl describe hp default -n ns"), "{said}");
    }
}

#[tokio::test]
async fn a_named_did_must_be_that_of_the_provider() {
    let named = Named::Address { did: did(1), address: "/ip4/192.0.2.7/tcp/1".to_owned() };
    let within = Duration::from_secs(1);
    assert_eq!(named.clone().resolve(Some(&did(1)), within).await.unwrap().did, did(1));
    let said = named.resolve(Some(&did(2)), within).await.unwrap_err().to_string();
    assert!(said.contains("nothing was asked of it"), "{said}");
}
