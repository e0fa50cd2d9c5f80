//! What is let in, and what is dropped without a word.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::MINUTES;
use super::rig::{Rig, random_key, until};
use crate::{
    capability::{Capability, Envelope, Key, Minting, Token, parse_token_list, token_list},
    device::{
        dms::path,
        node::{Node, NodeConfig, NodeError},
    },
};

/// A name, what is done to an envelope before it is signed, and the reason for which it is dropped.
type Spoiled = (&'static str, Box<dyn Fn(&Rig, Envelope) -> (Key, Envelope)>, &'static str);

fn spoiled() -> Vec<Spoiled> {
    let by_caller = |spoil: fn(&Rig, &mut Envelope)| {
        Box::new(move |rig: &Rig, mut envelope: Envelope| {
            spoil(rig, &mut envelope);
            (rig.caller.clone(), envelope)
        }) as Box<dyn Fn(&Rig, Envelope) -> (Key, Envelope)>
    };
    vec![
        ("no tokens", by_caller(|_, envelope| envelope.capabilities.clear()), "CapabilityMissing"),
        ("an empty list", by_caller(|_, envelope| envelope.capabilities = token_list(&[])), "CapabilityMissing"),
        (
            "an expired message",
            by_caller(|rig, envelope| envelope.expires = rig.now().minus(Duration::from_nanos(1))),
            "Expired",
        ),
        (
            "a message to somebody else",
            by_caller(|_, envelope| envelope.to.id = crate::capability::ActorId::of(random_key().did())),
            "NotForUs",
        ),
        (
            "another host",
            by_caller(|rig, envelope| envelope.from.host = Some(rig.node_key.did().peer_id())),
            "ForeignHost",
        ),
        ("no host", by_caller(|_, envelope| envelope.from.host = None), "ForeignHost"),
        ("an unknown behaviour", by_caller(|_, envelope| envelope.behaviour.push_str("er")), "UnknownBehaviour"),
        (
            "a token for another behaviour",
            by_caller(|rig, envelope| {
                let other = rig.envelope(&rig.caller, path::DEPLOYMENT_LIST, &Value::Null, MINUTES);
                envelope.capabilities = other.capabilities;
            }),
            "CapabilityMissing",
        ),
        (
            "a token for another node",
            by_caller(|rig, envelope| {
                let minting = Minting {
                    subject: rig.caller.did().clone(),
                    audience: Some(random_key().did().clone()),
                    capabilities: vec![Capability::parse("/dms").unwrap()],
                    topics: vec![],
                    expires: envelope.expires,
                    depth: 0,
                    nonce: rand::random(),
                };
                envelope.capabilities = token_list(&[Token::invoke(&rig.caller, minting, None).unwrap()]);
            }),
            "WrongAudience",
        ),
        (
            "a sender without an anchor",
            Box::new(|rig, envelope| {
                let stranger = random_key();
                let mut own = rig.envelope(&stranger, path::DEPLOYMENT_NEW, &Value::Null, MINUTES);
                // Over the caller's connection, so that nothing but the anchor is missing.
                own.from.host = envelope.from.host;
                own.message = envelope.message;
                (stranger, own)
            }),
            "NotAnchored",
        ),
        (
            "the caller's tokens with another key",
            Box::new(|_, mut envelope| {
                let stranger = random_key();
                envelope.from.id = crate::capability::ActorId::of(stranger.did());
                (stranger, envelope)
            }),
            "SignerMismatch",
        ),
    ]
}

#[tokio::test]
async fn what_is_not_authorised_is_dropped_in_silence() {
    let mut rig = Rig::start().await;
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, spoil, reason) in spoiled() {
        let request = rig.request("exit", &[]);
        let envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES);
        let (key, envelope) = spoil(&rig, envelope);
        rig.send(&envelope.sign(&key)).await;
        *expected.entry(reason).or_default() += 1;
        let count = || rig.node.dropped().values().sum::<u64>();
        until(&format!("{name} is dropped"), || count() == expected.values().sum::<u64>()).await;
        assert_eq!(rig.node.dropped(), expected, "{name}");
    }
    let request = rig.request("exit", &[]);
    let good = || rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES).sign(&rig.caller);
    let mut changed = good();
    changed.message.push(b' ');
    rig.send(&changed).await;
    let mut unsigned = good();
    unsigned.signature = None;
    rig.send(&unsigned).await;
    rig.send_frame(rig.caller.did().peer_id(), "user-1", good().to_json()).await;
    rig.send_frame(rig.caller.did().peer_id(), "root", b"{".to_vec()).await;
    rig.send_frame(random_key().did().peer_id(), "root", good().to_json()).await;
    for reason in ["BadSignature", "NotSigned", "NotForUs", "Malformed", "ForeignHost"] {
        *expected.entry(reason).or_default() += 1;
    }
    until("all are dropped", || rig.node.dropped().values().sum::<u64>() == expected.values().sum::<u64>()).await;
    assert_eq!(rig.node.dropped(), expected);

    assert!(rig.outbound.try_recv().is_err(), "something was answered");
    assert!(rig.wire_log().iter().all(|line| line["accepted"] == false));
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["deployments"], json!([]));
    let last = rig.wire_log().pop().unwrap();
    assert_eq!(last, json!({"be": path::DEPLOYMENT_LIST, "from": rig.caller.did().peer_id(), "accepted": true}));
    rig.stop().await;
}

#[tokio::test]
async fn a_long_name_does_not_fill_the_log() {
    let rig = Rig::start().await;
    let mut envelope = rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES);
    // The 128th byte is the first half of a letter.
    envelope.behaviour = format!("/{}{}", "a".repeat(126), "é".repeat(1000));
    rig.send(&envelope.sign(&rig.caller)).await;
    until("it is dropped", || rig.node.dropped().values().sum::<u64>() == 1).await;
    assert_eq!(rig.wire_log()[0]["be"], format!("/{}", "a".repeat(126)));
    rig.stop().await;
}

#[tokio::test]
async fn a_chain_from_a_root_lets_somebody_else_in() {
    let rig = Rig::start().await;
    let stranger = random_key();
    let minting = |subject: &Key, path: &str, depth| Minting {
        subject: subject.did().clone(),
        audience: Some(rig.node_key.did().clone()),
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: vec![],
        expires: rig.now().plus(MINUTES),
        depth,
        nonce: rand::random(),
    };
    let grant = Token::delegate(&rig.caller, minting(&stranger, "/dms/node/deployment", 1), None).unwrap();
    let chained = |path: &str| Token::invoke(&stranger, minting(&stranger, path, 0), Some(&grant)).ok();

    let mut envelope = rig.envelope(&stranger, path::DEPLOYMENT_LIST, &json!({}), MINUTES);
    let back = parse_token_list(&envelope.capabilities).unwrap().pop().unwrap();
    envelope.capabilities = token_list(&[chained(path::DEPLOYMENT_LIST).unwrap(), back]);
    rig.send_frame(stranger.did().peer_id(), "root", envelope.sign(&stranger).to_json()).await;
    until("it is accepted", || rig.wire_log().iter().any(|line| line["accepted"] == true)).await;
    assert_eq!(chained(path::PEERS_SELF), None, "wider than the grant");
    rig.stop().await;
}

#[tokio::test]
async fn a_request_without_a_continuation_is_obeyed_and_not_answered() {
    let mut rig = Rig::start().await;
    let request = rig.request("exit", &[]);
    let mut envelope = rig.envelope(&rig.caller, path::DEPLOYMENT_NEW, &request, MINUTES);
    envelope.continuation = None;
    rig.send(&envelope.sign(&rig.caller)).await;
    until("it is accepted", || rig.wire_log().iter().any(|line| line["accepted"] == true)).await;
    assert_eq!(rig.call(path::DEPLOYMENT_LIST, json!({})).await["total"], 1);
    rig.stop().await;
}

#[tokio::test]
async fn a_node_tells_about_itself() {
    let mut rig = Rig::start().await;
    let about = rig.call(path::PEERS_SELF, Value::Null).await;
    let peer = rig.node_key.did().peer_id();
    assert_eq!(about, json!({"id": peer, "listen_addr": "/ip4/127.0.0.1/tcp/1,/ip4/127.0.0.1/tcp/2"}));
    assert_eq!(rig.call(path::ONBOARDING_STATUS, json!({})).await, json!({"onboarded": true}));
    rig.running(super::rig::WAIT, &[0]).await;
    let expected = json!({"OK": true, "Resources": {"cpu": {"clock_speed": 1e9, "cores": 39.5}, "ram": {"size": 9900.0},
                          "disk": {"size": 9990.0}}});
    assert_eq!(rig.call(path::RESOURCES_FREE, json!({})).await, expected);
    rig.stop().await;
}

#[tokio::test]
async fn a_node_with_a_foreign_context_or_image_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    let (key, root) = (random_key(), random_key());
    let config = super::rig::config(directory.path(), &key, &root, &std::sync::Arc::default());
    let foreign = NodeConfig { key: random_key(), ..config.clone() };
    assert!(matches!(Node::open(foreign, vec![]).await, Err(NodeError::ForeignContext { .. })));
    for image in ["dms-operator", "dms-operator:1", "@sha256:00", "a@sha256:00", "a@sha512:00"] {
        let config = NodeConfig { own_image: image.into(), ..config.clone() };
        assert!(matches!(Node::open(config, vec![]).await, Err(NodeError::Image(_))), "{image}");
    }
}
