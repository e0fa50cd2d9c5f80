use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::capability::{Handle, Key, Minting, token_list};

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn path(text: &str) -> Capability {
    Capability::parse(text).unwrap()
}

/// The node of key 1 lets key 2 invoke `paths`.
fn token(paths: &[&str], hours: u64) -> Token {
    let minting = Minting {
        subject: key(2).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: paths.iter().map(|text| path(text)).collect(),
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_hours(hours)),
        depth: 0,
        nonce: [u8::try_from(hours).unwrap(); 12],
    };
    Token::invoke(&key(1), minting, None).unwrap()
}

fn envelope(tokens: &[Token]) -> Envelope {
    Envelope {
        to: Handle::root_of(key(1).did()),
        behaviour: "/a".to_owned(),
        from: Handle::of(key(2).did(), None, None),
        nonce: 7,
        expires: NOW.plus(Duration::from_hours(5)),
        continuation: None,
        topic: None,
        message: b"{}".to_vec(),
        capabilities: token_list(tokens),
        signature: None,
    }
}

fn decided(bytes: &[u8], capability: Option<&str>) -> Value {
    let did = key(1).did().clone();
    let context = Context { did, roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
    let capability = capability.map(path);
    let question = Question { context, capability, topic: None, now: NOW };
    serde_json::from_str(&written(&question.decide(bytes), Output::Json, String::new).unwrap()).unwrap()
}

#[test]
fn the_acceptance_holds_as_long_as_everything_that_it_rests_on() {
    let hour = |hours| json!(NOW.plus(Duration::from_hours(hours)).0);
    let tokens = [token(&["/x"], 1), token(&["/a"], 3), token(&["/b"], 2)];
    let bytes = envelope(&tokens).sign(&key(2)).to_json();
    for capability in [None, Some("/a")] {
        let accepted = decided(&bytes, capability);
        assert_eq!((&accepted["verdict"], &accepted["not_after"]), (&json!("accept"), &hour(3)));
        assert_eq!(accepted["chain"][0]["capabilities"], json!(["/a"]));
    }
    let long = envelope(&[token(&["/a"], 9)]).sign(&key(2)).to_json();
    assert_eq!(decided(&long, None)["not_after"], hour(5), "the envelope ends first");
}

#[test]
fn what_is_asked_for_must_be_what_was_meant_and_what_is_given() {
    let bytes = envelope(&[token(&["/a", "/b"], 3)]).sign(&key(2)).to_json();
    let refused = decided(&bytes, Some("/b"));
    assert_eq!(refused["reason"], "WrongBehaviour", "its tokens would give it, but it asks for something else");
    let bytes = envelope(&[token(&["/b"], 3)]).sign(&key(2)).to_json();
    let refused = decided(&bytes, None);
    assert_eq!((&refused["reason"], &refused["chain"][0]["link"]), (&json!("CapabilityMissing"), &json!(1)));
    assert!(refused["message"].as_str().unwrap().starts_with("link 1 of 1: "), "{refused}");
    let nowhere = Envelope { behaviour: "a".to_owned(), ..envelope(&[token(&["/a"], 3)]) };
    assert_eq!(decided(&nowhere.sign(&key(2)).to_json(), None)["reason"], "Malformed");
}

#[test]
fn what_cannot_be_read_or_was_signed_by_another_is_refused() {
    let good = envelope(&[token(&["/a"], 3)]);
    assert_eq!(decided(&good.clone().sign(&key(3)).to_json(), None)["reason"], "BadSignature");
    assert_eq!(decided(&good.to_json(), None)["reason"], "NotSigned");
    let broken = decided(b"\xff{}", None);
    assert_eq!((&broken["reason"], &broken["chain"]), (&json!("Malformed"), &json!([])));
    assert_eq!(decided(&vec![b' '; (1 << 20) + 1], None)["reason"], "TooLarge");
}
