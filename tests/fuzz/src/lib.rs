//! The operator's capability room, alone, for the fuzzer; and what its targets share.

#[path = "../../../src/capability/mod.rs"]
pub mod capability;

use std::time::Duration;

use capability::{
    Capability, Context, Did, Envelope, Expectation, Handle, Key, Minting, Nanos, Token, token_list,
};

/// The time in every target.
pub const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
/// What every chain here gives.
pub const BEHAVIOUR: &str = "/hosting/shop/apply/web";

/// The key of a position: provider 1, owner 2, pipeline 3.
pub fn key(position: u8) -> Key {
    Key::from_seed([position; 32])
}

fn minting(subject: u8, depth: u64) -> Minting {
    Minting {
        subject: key(subject).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![path(BEHAVIOUR)],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_secs(60)),
        depth,
        nonce: [subject; 12],
    }
}

/// A path that is one.
pub fn path(text: &str) -> Capability {
    Capability::parse(text).expect("a path")
}

/// Provider → owner → pipeline, and an invocation by the pipeline.
pub fn invocation() -> Token {
    let grant = Token::delegate(&key(1), minting(2, 3), None).expect("permitted");
    let delegation = Token::delegate(&key(2), minting(3, 0), Some(&grant)).expect("permitted");
    Token::invoke(&key(3), minting(3, 0), Some(&delegation)).expect("permitted")
}

/// An envelope around these tokens, signed by the pipeline.
pub fn envelope(capabilities: Vec<u8>) -> Envelope {
    Envelope {
        to: Handle::root_of(key(1).did()),
        behaviour: BEHAVIOUR.to_owned(),
        from: Handle::of(key(3).did(), None, None),
        nonce: 7,
        expires: NOW.plus(Duration::from_secs(60)),
        continuation: None,
        topic: None,
        message: b"{}".to_vec(),
        capabilities,
        signature: None,
    }
    .sign(&key(3))
}

/// A signed invocation that is accepted.
pub fn accepted() -> Vec<u8> {
    envelope(token_list(&[invocation()])).to_json()
}

/// What a provider's node trusts that has no other anchor than itself.
pub fn node() -> Context {
    Context { did: key(1).did().clone(), roots: vec![], require: vec![], provide: vec![], revoke: vec![] }
}

/// Asks about an invocation as the operator does.
pub fn judge(bytes: &[u8]) -> Option<capability::Verdict> {
    let (provider, owner): (Did, Did) = (key(1).did().clone(), key(2).did().clone());
    let expectation = Expectation {
        provider: &provider,
        anchors: std::slice::from_ref(&provider),
        owner: &owner,
        behaviour: &path(BEHAVIOUR),
        revoked: &|_| false,
            denied: &|_| false,
        now: NOW,
    };
    capability::judge(bytes, &expectation).ok()
}
