//! Broadcasts over gossipsub, from our link to Go and from Go to our node.

use std::time::Duration;

use dms_operator::{
    capability::{Capability, Envelope, Handle, Key, Minting, Token, token_list},
    device::{
        dms,
        libp2p::{DmsClient, PublishError},
    },
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{GoCaller, GoPeer, OurNode, SOON, client, grant, now, seed};
use crate::timed::Timed;

const TOPIC: &str = "/nunet/revocation";
const REVOKE: &str = "/dms/cap/revoke/broadcast";

/// A broadcast as a DMS makes one, not signed yet.
fn broadcast(key: &Key, message: &Value) -> Envelope {
    let path = |text| vec![Capability::parse(text).unwrap()];
    let minting = Minting {
        subject: key.did().clone(),
        audience: None,
        capabilities: path(REVOKE),
        topics: path(TOPIC),
        expires: now().plus(Duration::from_mins(1)),
        depth: 0,
        nonce: rand::random(),
    };
    Envelope {
        to: Handle::default(),
        behaviour: REVOKE.to_owned(),
        from: Handle::of(key.did(), Some(key.did().peer_id()), Some("user-1".to_owned())),
        nonce: rand::random(),
        expires: minting.expires,
        continuation: None,
        topic: Some(TOPIC.to_owned()),
        message: message.to_string().into_bytes(),
        capabilities: token_list(&[Token::broadcast(key, minting, None).unwrap()]),
        signature: None,
    }
}

/// Publishes once the peer is known to listen.
async fn publish(client: &DmsClient, body: &[u8]) {
    let published = async {
        loop {
            match client.link().publish(TOPIC, body.to_vec()).await {
                Err(PublishError::NoListener { .. }) => sleep(Duration::from_millis(10)).await,
                other => return other.unwrap(),
            }
        }
    };
    timeout(SOON, published).await.expect("nobody listens");
}

#[tokio::test]
async fn go_hears_what_our_link_publishes() {
    let _timed = Timed::start();
    let (key, stranger) = (Key::from_seed(seed()), Key::from_seed(seed()));
    let mut go = GoPeer::serve(&[key.did()], &["--topic", TOPIC]).await;
    let client = client(&key).await;
    dms::peers_self(&client, &go.target).await.unwrap();
    let message = json!({"said": hex::encode(seed())});
    publish(&client, &broadcast(&key, &message).sign(&key).to_json()).await;
    let heard = go.next("broadcast").await;
    let expected = json!({"event": "broadcast", "peer": key.did().peer_id(), "did": key.did(), "behaviour": REVOKE,
                          "topic": TOPIC, "message": message});
    assert_eq!(heard, expected);
    // Passed on, but not acted on: whoever signed it has no right to it.
    publish(&client, &broadcast(&stranger, &message).sign(&stranger).to_json()).await;
    let dropped = go.next("dropped").await;
    assert_eq!(dropped["reason"], "NotAuthorised", "{dropped}");
}

#[tokio::test]
async fn our_node_passes_on_no_broadcast_that_is_wrong() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut go = GoCaller::start(&node, caller, &[]);
    for (sent, (how, reason)) in
        (1..).zip([("expired", "Expired"), ("signature", "Unverified"), ("garbage", "Undecodable")])
    {
        go.send(json!({"behaviour": REVOKE, "message": {}, "topic": TOPIC, "spoil": how})).await;
        assert_eq!(go.line().await["event"], "sent");
        node.has_dropped(reason, 1).await;
        assert_eq!(node.drops(), sent);
    }
    go.reply(dms::path::PEERS_SELF, json!({})).await;
    node.stop().await;
}

#[tokio::test]
async fn our_node_takes_back_what_the_issuer_revokes_on_the_topic() {
    let _timed = Timed::start();
    let (root, guest, stranger) = (seed(), seed(), seed());
    let node = OurNode::start(&[Key::from_seed(root).did()]).await;
    let granted = grant(&Key::from_seed(root), Key::from_seed(guest).did(), "/dms/node/peers");
    let revocation = Token::revoke(&Key::from_seed(root), &granted).unwrap();
    let mut guest = GoCaller::start(&node, guest, &["--grant", &String::from_utf8(granted.to_json()).unwrap()]);
    let ask = json!({"behaviour": dms::path::PEERS_SELF, "message": {}, "wait": 300});
    guest.reply_to(ask.clone()).await;
    let told = json!({"Token": {"tok": [serde_json::from_slice::<Value>(&revocation.to_json()).unwrap()]}});
    let told = json!({"behaviour": REVOKE, "message": told, "topic": TOPIC});
    // The revocation is good, and who tells of it has no right to.
    let mut stranger = GoCaller::start(&node, stranger, &[]);
    stranger.send(told.clone()).await;
    assert_eq!(stranger.line().await["event"], "sent");
    node.has_dropped("NotAnchored", 1).await;
    guest.reply_to(ask.clone()).await;
    let mut root = GoCaller::start(&node, root, &[]);
    root.send(told).await;
    assert_eq!(root.line().await["event"], "sent");
    let silenced = async {
        loop {
            guest.send(ask.clone()).await;
            if guest.line().await["event"] == "silent" {
                return;
            }
        }
    };
    timeout(SOON, silenced).await.expect("what was revoked still holds");
    node.has_dropped("Revoked", 1).await;
    assert_eq!(node.drops(), 2);
    node.stop().await;
}

#[tokio::test]
async fn go_hears_what_our_node_revoked_when_somebody_asks_for_that() {
    let _timed = Timed::start();
    let root = seed();
    let root_did = Key::from_seed(root).did().clone();
    let node = OurNode::start(&[&root_did]).await;
    // It takes what our node says by its own right.
    let mut other = GoPeer::serve(&[node.did()], &["--topic", TOPIC]).await;
    let mut go = GoCaller::start(&node, root, &[]);
    let granted = grant(&Key::from_seed(root), Key::from_seed(seed()).did(), "/dms/node/peers");
    let revocation = Token::revoke(&Key::from_seed(root), &granted).unwrap();
    let list = json!({"tok": [serde_json::from_slice::<Value>(&revocation.to_json()).unwrap()]});
    assert_eq!(go.reply(dms::path::CAP_REVOKE, json!({ "Token": list })).await["OK"], true);
    let alone = go.reply(REVOKE, json!({"Context": "dms"})).await;
    assert!(alone["OK"] == false && alone["TokensCount"] == 0 && alone["Error"] != "", "{alone}");
    let connected = go.reply(dms::path::PEERS_CONNECT, json!({"Address": other.address()})).await;
    assert_eq!(connected["Status"], "CONNECTED", "{connected}");
    let told = async {
        loop {
            let told = go.reply(REVOKE, json!({"Context": "dms"})).await;
            if told["OK"] == true {
                return told;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    let told = timeout(SOON, told).await.expect("nobody listens");
    assert_eq!(told, json!({"OK": true, "Error": "", "TokensCount": 1}));
    let heard = other.next("broadcast").await;
    let expected = json!({"event": "broadcast", "peer": node.peer_id(), "did": node.did(), "behaviour": REVOKE,
                          "topic": TOPIC, "message": {"Token": list}});
    assert_eq!(heard, expected);
    assert_eq!(node.drops(), 0);
    node.stop().await;
}
