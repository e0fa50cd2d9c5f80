//! Anchors and revocations that come while the node runs.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    MINUTES,
    rig::{Rig, random_key, until},
};
use crate::{
    capability::{Capability, Did, Envelope, Key, Minting, Token, parse_token_list, token_list},
    device::{
        dms::{AnchorRequest, Anchors, TokenList, path, tolerant},
        node::{
            Node, NodeError,
            durable::{self, StateError},
            tests::rig,
        },
    },
};

fn minting(rig: &Rig, subject: &Did, capability: &str) -> Minting {
    Minting {
        subject: subject.clone(),
        audience: None,
        capabilities: vec![Capability::parse(capability).unwrap()],
        topics: vec![],
        expires: rig.now().plus(2 * MINUTES),
        depth: 0,
        nonce: rand::random(),
    }
}

/// A delegation by the node itself, as `require` anchors of DMS are.
fn require(rig: &Rig, subject: &Did, capability: &str) -> Token {
    Token::delegate(&rig.node_key, minting(rig, subject, capability), None).unwrap()
}

async fn add(rig: &mut Rig, path: &str, tokens: &[Token]) -> Value {
    rig.call(path, json!(AnchorRequest { token: TokenList::of(tokens) })).await
}

async fn anchors(rig: &mut Rig) -> Anchors {
    tolerant::decode(rig.call(path::CAP_LIST, json!({"Context": "other"})).await).unwrap()
}

/// Asks something as `sender`, by tokens of its own or by `tokens`, and says whether it was let in.
async fn is_let_in(rig: &mut Rig, sender: &Key, tokens: Option<&[Token]>) -> bool {
    let mut envelope = rig.envelope(sender, path::DEPLOYMENT_LIST, &json!({}), MINUTES);
    if let Some(tokens) = tokens {
        let back = parse_token_list(&envelope.capabilities).unwrap().pop();
        envelope.capabilities = token_list(&tokens.iter().cloned().chain(back).collect::<Vec<_>>());
    }
    let before = rig.wire_log().len();
    rig.send_frame(sender.did().peer_id(), "root", envelope.sign(sender).to_json()).await;
    until("it is judged", || rig.wire_log().len() > before).await;
    let accepted = rig.wire_log().pop().unwrap()["accepted"] == true;
    if accepted {
        rig.outbound.recv().await.unwrap();
    }
    accepted
}

#[tokio::test]
async fn an_anchor_lets_others_in_until_it_is_taken_back() {
    let mut rig = Rig::start().await;
    let guest = random_key();
    assert!(!is_let_in(&mut rig, &guest, None).await);
    let anchor = require(&rig, guest.did(), "/dms/node/deployment");
    assert_eq!(add(&mut rig, path::CAP_REQUIRE, std::slice::from_ref(&anchor)).await, json!({"OK": true, "Error": ""}));
    assert!(is_let_in(&mut rig, &guest, None).await);

    let mut rig = rig.restart().await;
    assert!(is_let_in(&mut rig, &guest, None).await, "not after a restart");
    let listed = anchors(&mut rig).await;
    assert_eq!((listed.roots.len(), listed.roots[0].uri.as_str()), (1, rig.caller.did().as_str()));
    assert_eq!(listed.require.tokens().unwrap(), std::slice::from_ref(&anchor));
    assert!(listed.ok && listed.provide.list.is_empty() && listed.revoke.list.is_empty(), "{listed:?}");

    let revocation = Token::revoke(&rig.node_key, &anchor).unwrap();
    let done = add(&mut rig, path::CAP_REVOKE, std::slice::from_ref(&revocation)).await;
    assert_eq!(done, json!({"OK": true, "Error": ""}));
    assert!(!is_let_in(&mut rig, &guest, None).await);
    let again = add(&mut rig, path::CAP_REQUIRE, std::slice::from_ref(&anchor)).await;
    assert!(again["OK"] == false && again["Error"].as_str().unwrap().contains("was revoked"), "{again}");
    let mut rig = rig.restart().await;
    assert!(!is_let_in(&mut rig, &guest, None).await, "a revocation is forgotten at a restart");
    let listed = anchors(&mut rig).await;
    assert_eq!((listed.require.list.len(), listed.revoke.tokens().unwrap()), (0, vec![revocation]));

    // What has expired does not come back.
    rig.pass(3 * MINUTES);
    let mut rig = rig.restart().await;
    assert_eq!(anchors(&mut rig).await.revoke.list, Vec::<Value>::new());
    rig.stop().await;
}

#[tokio::test]
async fn anchors_are_added_all_or_none() {
    let mut rig = Rig::start().await;
    let (guest, other) = (random_key(), random_key());
    let good = require(&rig, guest.did(), "/dms/node/deployment");
    let invocation = Token::invoke(&rig.node_key, minting(&rig, guest.did(), "/dms"), None).unwrap();
    let mut forged: Value = serde_json::from_slice(&good.to_json()).unwrap();
    forged["dms"]["cap"] = json!(["/dms"]);
    let forged = Token::parse(forged.to_string().as_bytes()).unwrap();
    let revocation = Token::revoke(&rig.node_key, &good).unwrap();
    for (path, tokens) in [
        (path::CAP_REQUIRE, vec![good.clone(), invocation.clone()]),
        (path::CAP_REQUIRE, vec![good.clone(), forged.clone()]),
        (path::CAP_REQUIRE, vec![revocation.clone()]),
        (path::CAP_REQUIRE, vec![]),
        (path::CAP_PROVIDE, vec![good.clone()]),
        (path::CAP_REVOKE, vec![revocation.clone(), good.clone()]),
    ] {
        let refused = add(&mut rig, path, &tokens).await;
        assert!(refused["OK"] == false && !refused["Error"].as_str().unwrap().is_empty(), "{path}: {refused}");
    }
    assert!(!rig.directory.path().join("anchors.json").exists(), "something was kept");
    assert!(!is_let_in(&mut rig, &guest, None).await);
    let provided = Token::delegate(&other, minting(&rig, rig.node_key.did(), "/dms"), None).unwrap();
    assert_eq!(add(&mut rig, path::CAP_PROVIDE, std::slice::from_ref(&provided)).await["OK"], true);
    assert_eq!(anchors(&mut rig).await.provide.tokens().unwrap(), [provided]);

    // What cannot be written does not hold.
    std::fs::rename(rig.directory.path().join("anchors.json"), rig.directory.path().join("aside")).unwrap();
    std::fs::create_dir(rig.directory.path().join("anchors.json")).unwrap();
    let unkept = add(&mut rig, path::CAP_REQUIRE, std::slice::from_ref(&good)).await;
    assert!(unkept["Error"].as_str().unwrap().contains("could not write"), "{unkept}");
    assert!(!is_let_in(&mut rig, &guest, None).await);
    rig.stop().await;
}

#[tokio::test]
async fn anchors_do_not_grow_without_bound() {
    let mut rig = Rig::start().await;
    let mut total = 0;
    let refused = loop {
        let tokens: Vec<Token> = (0..30).map(|_| require(&rig, random_key().did(), "/dms")).collect();
        let reply = add(&mut rig, path::CAP_REQUIRE, &tokens).await;
        if reply["OK"] == false {
            break reply;
        }
        total += tokens.len();
        assert!(total < 2000, "there is no bound");
    };
    assert!(refused["Error"].as_str().unwrap().contains("would take more"), "{refused}");
    assert_eq!(anchors(&mut rig).await.require.list.len(), total);
    rig.stop().await;
}

/// A chain from the root, and an envelope that tells everybody of its revocation.
fn revoked_by_broadcast(rig: &Rig, teller: &Key, revocations: &[Token]) -> Envelope {
    let payload = json!(AnchorRequest { token: TokenList::of(revocations) });
    rig.broadcast(teller, path::CAP_REVOKE_BROADCAST, path::TOPIC_REVOCATION, &payload)
}

#[tokio::test]
async fn a_revocation_that_is_broadcast_counts_from_then_on() {
    let mut rig = Rig::start().await;
    let (guest, stranger) = (random_key(), random_key());
    let grant = Minting { depth: 1, ..minting(&rig, guest.did(), "/dms/node/deployment") };
    let grant = Token::delegate(&rig.caller, grant, None).unwrap();
    let invoke = Minting { expires: rig.now().plus(MINUTES), ..minting(&rig, guest.did(), path::DEPLOYMENT_LIST) };
    let chained = Token::invoke(&guest, invoke, Some(&grant)).unwrap();
    assert!(is_let_in(&mut rig, &guest, Some(std::slice::from_ref(&chained))).await);

    let revocation = Token::revoke(&rig.caller, &grant).unwrap();
    // Nobody in particular may not tell of it; and nobody but the issuer may have signed it.
    let unheard = revoked_by_broadcast(&rig, &stranger, std::slice::from_ref(&revocation));
    rig.send_broadcast(path::TOPIC_REVOCATION, &unheard.sign(&stranger)).await;
    until("it is dropped", || rig.node.dropped().contains_key("NotAnchored")).await;
    let mut forged: Value = serde_json::from_slice(&revocation.to_json()).unwrap();
    let other: Value = serde_json::from_slice(&chained.to_json()).unwrap();
    forged["dms"]["sig"] = other["dms"]["sig"].clone();
    let forged = Token::parse(forged.to_string().as_bytes()).unwrap();
    let caller = rig.caller.clone();
    let told = revoked_by_broadcast(&rig, &caller, std::slice::from_ref(&forged)).sign(&caller);
    rig.send_broadcast(path::TOPIC_REVOCATION, &told).await;
    let reply = rig.reply_to(&told).await;
    assert_eq!((&reply["OK"], &reply["TokensCount"]), (&json!(false), &json!(0)), "{reply}");
    assert!(is_let_in(&mut rig, &guest, Some(std::slice::from_ref(&chained))).await, "a forged revocation counts");

    // A bad one costs no other.
    let told = revoked_by_broadcast(&rig, &caller, &[forged, revocation]).sign(&caller);
    rig.send_broadcast(path::TOPIC_REVOCATION, &told).await;
    assert_eq!(rig.reply_to(&told).await["TokensCount"], 1);
    assert!(!is_let_in(&mut rig, &guest, Some(std::slice::from_ref(&chained))).await);
    let mut rig = rig.restart().await;
    assert!(!is_let_in(&mut rig, &guest, Some(std::slice::from_ref(&chained))).await, "not after a restart");
    rig.stop().await;
}

#[tokio::test]
async fn what_comes_by_a_topic_must_belong_to_it() {
    let mut rig = Rig::start().await;
    let (caller, node_key) = (rig.caller.clone(), rig.node_key.clone());
    let hello = |rig: &Rig, key: &Key| rig.broadcast(key, path::BROADCAST_HELLO, path::TOPIC_HELLO, &Value::Null);
    let good = hello(&rig, &caller).sign(&caller);
    rig.send_broadcast(path::TOPIC_HELLO, &good).await;
    assert_eq!(rig.reply_to(&good).await, json!({"DID": {"uri": node_key.did()}}));

    let direct = rig.envelope(&caller, path::PUBLIC_HELLO, &Value::Null, MINUTES).sign(&caller);
    let other_topic = rig.broadcast(&caller, path::BROADCAST_HELLO, path::TOPIC_STATUS, &Value::Null).sign(&caller);
    let mut unknown = hello(&rig, &caller);
    unknown.behaviour = path::PEERS_SELF.to_owned();
    let mut expired = hello(&rig, &caller);
    expired.expires = rig.now().minus(Duration::from_nanos(1));
    for (topic, envelope, reason) in [
        (path::TOPIC_STATUS, hello(&rig, &caller).sign(&caller), "ForeignTopic"),
        (path::TOPIC_HELLO, direct.clone(), "ForeignTopic"),
        (path::TOPIC_STATUS, other_topic, "UnknownBehaviour"),
        (path::TOPIC_HELLO, unknown.sign(&caller), "UnknownBehaviour"),
        (path::TOPIC_HELLO, expired.sign(&caller), "Expired"),
        (path::TOPIC_HELLO, hello(&rig, &node_key).sign(&node_key), "NotForUs"),
        (path::TOPIC_HELLO, hello(&rig, &caller).sign(&random_key()), "BadSignature"),
        (path::TOPIC_HELLO, hello(&rig, &random_key()).sign(&caller), "NotAnchored"),
    ] {
        let before = rig.node.dropped();
        rig.send_broadcast(topic, &envelope).await;
        until("it is dropped", || rig.node.dropped() != before).await;
        let (now, then) = (rig.node.dropped(), before.get(reason).copied().unwrap_or(0));
        assert_eq!(now.get(reason).copied(), Some(then + 1), "{reason}: {now:?}");
    }
    // A behaviour of a topic is served by no other way, and a public one needs a right like any other.
    rig.send(&rig.envelope(&caller, path::BROADCAST_HELLO, &Value::Null, MINUTES).sign(&caller)).await;
    until("it is dropped", || rig.node.dropped()["UnknownBehaviour"] == 3).await;
    assert!(rig.outbound.try_recv().is_err(), "something was answered");
    rig.send(&direct).await;
    assert_eq!(rig.reply_to(&direct).await, json!({"DID": {"uri": node_key.did()}}));
    let stranger = random_key();
    let asked = rig.envelope(&stranger, path::PUBLIC_HELLO, &Value::Null, MINUTES).sign(&stranger);
    rig.send_frame(stranger.did().peer_id(), "root", asked.to_json()).await;
    until("it is dropped", || rig.node.dropped()["NotAnchored"] == 2).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_crash_while_anchors_are_written_leaves_those_before() {
    let mut rig = Rig::start().await;
    let guest = random_key();
    let anchor = require(&rig, guest.did(), "/dms/node/deployment");
    assert_eq!(add(&mut rig, path::CAP_REQUIRE, &[anchor]).await["OK"], true);
    let (directory, node_key, caller, clock) = rig.stop().await;
    let left = durable::crash_before_rename(directory.path(), br#"{"schema":1,"context":{}}"#);
    let mut rig = Rig::start_in(directory, node_key, caller, clock).await;
    assert!(is_let_in(&mut rig, &guest, None).await);
    assert!(!left.exists());

    let (directory, node_key, caller, clock) = rig.stop().await;
    let foreign = random_key();
    for text in [
        json!({"schema": 2, "context": {}}).to_string(),
        json!({"schema": 1}).to_string(),
        json!({"schema": 1, "context": {"did": {"uri": foreign.did()}}}).to_string(),
    ] {
        std::fs::write(directory.path().join("anchors.json"), &text).unwrap();
        let config = rig::config(directory.path(), &node_key, &caller, &clock);
        let error = Node::open(config, vec![]).await.unwrap_err();
        assert!(matches!(&error, NodeError::State(StateError::Damaged { .. })), "{text}: {error}");
    }
}
