//! The device link, the bytes, the signatures and the files against an independent peer: go-libp2p, Go's own JSON and
//! Ed25519, written from the protocol notes (`tests/interop`). Two ends of our own that agree would prove nothing.

use std::time::Duration;

use dms_operator::{
    capability::{Capability, Did, Key, Minting, Nanos, Token},
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{self, path::PEERS_SELF},
    },
};
use serde_json::{Value, json};

use self::{
    ours::{OurNode, client},
    peers::{GoCaller, GoPeer, go_invokes},
};
use crate::timed::Timed;

mod answers;
mod asked;
mod broken;
mod bytes;
mod cycle;
mod files;
mod gossip;
mod hostile;
mod ours;
mod peers;
mod signed;
mod spoiled;

const SOON: Duration = Duration::from_secs(20);

fn seed() -> [u8; 32] {
    rand::random()
}

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

fn grant(owner: &Key, subject: &Did, path: &str) -> Token {
    let minting = Minting {
        subject: subject.clone(),
        audience: None,
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: Vec::new(),
        expires: now().plus(Duration::from_mins(5)),
        depth: 1,
        nonce: rand::random(),
    };
    Token::delegate(owner, minting, None).unwrap()
}

/// Waits for a condition.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "it never came that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn our_client_asks_the_go_peer() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    for flags in [&[][..], &["--polite"]] {
        let mut go = GoPeer::serve(&[key.did()], flags).await;
        let client = client(&key).await;
        assert_eq!(dms::peers_self(&client, &go.target).await.unwrap(), go.who_it_is());
        let answered = go.next("answered").await;
        assert_eq!((&answered["behaviour"], &answered["peer"]), (&json!(PEERS_SELF), &json!(key.did().peer_id())));
        // More at once than a go-libp2p peer has streams for.
        let calls = (0..300).map(|_| client.call(&go.target, PEERS_SELF, json!({}), SOON));
        for reply in futures::future::join_all(calls).await {
            assert_eq!(reply.unwrap()["id"], json!(go.target.did.peer_id()));
        }
        assert_eq!(client.link().counters().connections(), 1);
    }
}

#[tokio::test]
async fn the_go_peer_takes_our_chained_token_for_what_it_grants() {
    let _timed = Timed::start();
    let (key, owner) = (Key::from_seed(seed()), Key::from_seed(seed()));
    let mut go = GoPeer::serve(&[owner.did()], &[]).await;
    let client = client(&key).await;
    let target = DeviceTarget { grant: Some(grant(&owner, key.did(), "/dms/node/peers")), ..go.target.clone() };
    assert_eq!(dms::peers_self(&client, &target).await.unwrap(), go.who_it_is());
    go.next("answered").await;
    // A grant by somebody whom the device does not know looks right from here; only the device can tell.
    let stranger = Key::from_seed(seed());
    let target = DeviceTarget { grant: Some(grant(&stranger, key.did(), "/dms/node/peers")), ..target };
    let silent = client.call(&target, PEERS_SELF, json!({}), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    assert_eq!(go.next("dropped").await["reason"], "NotAuthorised");
}

#[tokio::test]
async fn the_go_peer_is_silent_to_whom_it_does_not_know() {
    let _timed = Timed::start();
    let (key, stranger) = (Key::from_seed(seed()), Key::from_seed(seed()));
    let mut go = GoPeer::serve(&[stranger.did()], &[]).await;
    let client = client(&key).await;
    let silent = client.call(&go.target, PEERS_SELF, json!({}), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    let dropped = go.next("dropped").await;
    let why = format!("no link of the token of {} is issued by a root", key.did());
    assert_eq!(
        (&dropped["reason"], &dropped["detail"], &dropped["dropped"], &dropped["peer"]),
        (&json!("NotAuthorised"), &json!(why), &json!(1), &json!(key.did().peer_id()))
    );
}

#[tokio::test]
async fn the_go_peer_asks_our_node() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    for flags in [&[][..], &["--polite"]] {
        let (code, line) = go_invokes(&node, caller, flags).await;
        assert_eq!((code, &line["event"]), (Some(0), &json!("reply")), "{line}");
        assert_eq!(line["message"]["id"], json!(node.peer_id()));
    }
    assert_eq!(node.drops(), 0);
    node.stop().await;
}

#[tokio::test]
async fn our_node_answers_a_go_peer_with_a_grant_and_no_other() {
    let _timed = Timed::start();
    let (stranger, owner) = (seed(), Key::from_seed(seed()));
    let node = OurNode::start(&[owner.did()]).await;
    assert_eq!(go_invokes(&node, stranger, &["--timeout", "700ms"]).await, (Some(3), Value::Null));
    assert_eq!(node.dropped("NotAnchored"), 1);
    let grant = grant(&owner, Key::from_seed(stranger).did(), "/dms/node/peers");
    let mut granted = GoCaller::start(&node, stranger, &["--grant", &String::from_utf8(grant.to_json()).unwrap()]);
    // No longer than the grant.
    granted.reply_to(json!({"behaviour": PEERS_SELF, "message": {}})).await;
    // The grant ends where its path does.
    granted.send(json!({"behaviour": "/dms/node/onboarding/status", "message": {}, "wait": 300})).await;
    assert_eq!(granted.line().await["event"], "silent");
    assert_eq!(node.drops(), 2);
    node.stop().await;
}
