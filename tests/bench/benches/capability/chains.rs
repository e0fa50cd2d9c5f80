//! Inputs: chains of tokens, biscuits with as many blocks, and what an attacker would send.

use std::hint::black_box;
use std::time::Duration;

use bench::capability::{
    Capability, Context, Did, Envelope, Epochs, Expectation, Handle, Key, MAX_CAPABILITIES, MAX_LINKS, MAX_PATHS,
    Minting, Nanos, Reason, Token, Usage, VerdictCache, judge, token_list,
};
use biscuit_auth::macros::{authorizer, biscuit, block};
use biscuit_auth::{AuthorizerLimits, Biscuit, KeyPair, PublicKey};
use ed25519_dalek::{Signature, VerifyingKey};

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
const PATH: &str = "/hosting/shop/apply/web";

/// The key of one position in a chain; position 0 is the provider.
fn key(position: usize) -> Key {
    let mut seed = [7; 32];
    seed[0] = u8::try_from(position).expect("a chain has few links");
    Key::from_seed(seed)
}

/// A chain: the provider's grant, delegations, and an invocation as the last link.
pub struct Chain {
    /// A list with the last link and all above it.
    pub list: Vec<u8>,
    last: Token,
    holder: Key,
    context: Context,
    capability: Capability,
    owner: Did,
    envelope: Vec<u8>,
    /// Public key, signed bytes and signature of every link, the envelope's last.
    signed: Vec<([u8; 32], Vec<u8>, [u8; 64])>,
}

fn minting(subject: &Key, position: usize) -> Minting {
    Minting {
        subject: subject.did().clone(),
        audience: Some(key(0).did().clone()),
        capabilities: vec![Capability::parse(PATH).expect("a path")],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_secs(3600)),
        depth: 0,
        nonce: [u8::try_from(position).expect("a chain has few links"); 12],
    }
}

impl Chain {
    /// A chain of `depth` links.
    pub fn of(depth: usize) -> Self {
        let mut token: Option<Token> = None;
        for position in 0..depth - 1 {
            let minting = minting(&key(position + 1), position);
            token = Some(Token::delegate(&key(position), minting, token.as_ref()).expect("permitted"));
        }
        let holder = key(depth - 1);
        let minting = minting(&holder, depth);
        let last = Token::invoke(&holder, minting, token.as_ref()).expect("permitted");
        let provider = key(0);
        let envelope = Envelope {
            to: Handle::root_of(provider.did()),
            behaviour: PATH.to_owned(),
            from: Handle::of(holder.did(), None, None),
            nonce: 1,
            expires: NOW.plus(Duration::from_secs(3600)),
            continuation: None,
            topic: None,
            message: vec![b'x'; 400],
            capabilities: token_list(std::slice::from_ref(&last)),
            signature: None,
        }
        .sign(&holder);
        let mut signed: Vec<_> =
            last.links().map(|link| (*link.issuer().public_key(), link.signed_bytes(), *link.signature())).collect();
        signed.push((*holder.did().public_key(), envelope.signed_bytes(), envelope.signature.expect("signed")));
        let context =
            Context { did: provider.did().clone(), roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
        let owner = last.root().subject().clone();
        let capability = Capability::parse(PATH).expect("a path");
        let envelope = envelope.to_json();
        let chain = Self {
            list: token_list(std::slice::from_ref(&last)),
            last,
            holder,
            context,
            capability,
            owner,
            envelope,
            signed,
        };
        chain.judge_token();
        chain.judge_invocation();
        chain
    }

    /// From the bytes of a token list, as a message carries it, to the verdict.
    pub fn judge_token(&self) {
        let usage = Usage::Invocation { audience: &self.context.did };
        let wanted = std::slice::from_ref(&self.capability);
        self.context.require(black_box(&self.list), self.holder.did(), &usage, wanted, NOW).expect("accepted");
    }

    fn expectation<'a>(&'a self, anchors: &'a [Did]) -> Expectation<'a> {
        Expectation {
            provider: &self.context.did,
            anchors,
            owner: &self.owner,
            behaviour: &self.capability,
            revoked: &|_| false,
            denied: &|_| false,
            now: NOW,
        }
    }

    /// From the bytes of an invocation to the verdict.
    pub fn judge_invocation(&self) {
        let anchors = std::slice::from_ref(&self.context.did);
        judge(black_box(&self.envelope), &self.expectation(anchors)).expect("accepted");
    }

    /// The same, when it was judged before.
    pub fn judge_cached(&self, cache: &mut VerdictCache) {
        let anchors = std::slice::from_ref(&self.context.did);
        cache.judge(black_box(&self.envelope), &self.expectation(anchors), Epochs::default()).expect("accepted");
    }

    /// The bare signatures of the first `count` links, and the envelope's after them.
    pub fn raw(&self, count: usize) {
        for (key, bytes, signature) in self.signed.iter().take(count) {
            let key = VerifyingKey::from_bytes(black_box(key)).expect("a key");
            key.verify_strict(black_box(bytes), &Signature::from_bytes(signature)).expect("signed");
        }
    }

    /// One more delegation below the grant above the last link.
    pub fn delegate(&self) -> Option<Token> {
        let above = self.last.chain();
        Token::delegate(&self.holder, minting(&key(99), 99), above).ok()
    }
}

/// Biscuits of as many blocks as a chain has links, each of which says what a link says: capability, audience, expiry.
pub struct Biscuits {
    bytes: Vec<u8>,
    root: PublicKey,
}

impl Biscuits {
    /// A biscuit whose first block gives a right.
    pub fn of(blocks: usize) -> Self {
        let root = KeyPair::new();
        let mut token = biscuit!(
            r#"
            right("/hosting/shop/apply/web");
            check if operation($o), $o == "/hosting/shop/apply/web" || $o.starts_with("/hosting/shop/apply/web/");
            check if audience("provider");
            check if time($t), $t < 2027-01-01T00:00:00Z;
            "#
        )
        .build(&root)
        .expect("a biscuit");
        for _ in 1..blocks {
            token = token
                .append(block!(
                    r#"
                    check if operation($o), $o == "/hosting/shop/apply/web" || $o.starts_with("/hosting/shop/apply/web/");
                    check if audience("provider");
                    check if time($t), $t < 2027-01-01T00:00:00Z;
                    "#
                ))
                .expect("a block");
        }
        let made = Self { bytes: token.to_vec().expect("bytes"), root: root.public() };
        made.authorise();
        made
    }

    /// Parses and checks the signatures.
    pub fn verify(&self) -> Biscuit {
        Biscuit::from(black_box(&self.bytes), self.root).expect("signed")
    }

    /// The same, and decides.
    pub fn authorise(&self) {
        let token = self.verify();
        let limits = AuthorizerLimits { max_time: Duration::from_secs(60), ..AuthorizerLimits::default() };
        let mut authorizer = authorizer!(
            r#"time(2026-01-01T00:00:00Z); audience("provider"); operation("/hosting/shop/apply/web"); allow if right("/hosting/shop/apply/web");"#
        )
        .set_limits(limits)
        .build(&token)
        .expect("an authorizer");
        authorizer.authorize().expect("allowed");
    }
}

/// Capabilities of each link, so that eight links have as much under their signatures as is read.
const WIDE: usize = 19;

/// Tokens of at most 16 KiB that cost as much as they can.
pub fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let deep = [&b"{\"dms\":".repeat(2000)[..], b"{}"].concat();
    let mut long = full(1);
    let end = long.len();
    long.splice(end - 2..end - 2, format!(",\"x\":\"{}\"", "a".repeat(12_000)).bytes());
    vec![
        ("eight links, as long as they may be, the last signature wrong", spoiled(full(WIDE))),
        ("eight short links, the last signature wrong", spoiled(full(1))),
        ("nested too deep", deep),
        ("an unknown member", long),
        ("lists in lists", vec![b'['; MAX_CAPABILITIES]),
        ("one byte too long", vec![b' '; MAX_CAPABILITIES + 1]),
    ]
}

/// A chain of as many links as are read, each of so many capabilities.
fn full(count: usize) -> Vec<u8> {
    let wide = |position: usize| Minting {
        capabilities: (0..count)
            .map(|index| Capability::parse(&format!("/capability/of/some/length/{index:020}")).expect("a path"))
            .collect(),
        ..minting(&key(position + 1), position)
    };
    let mut token: Option<Token> = None;
    for position in 0..MAX_LINKS - 1 {
        token = Some(Token::delegate(&key(position), wide(position), token.as_ref()).expect("permitted"));
    }
    let last = Token::invoke(&key(MAX_LINKS - 1), wide(MAX_LINKS - 1), token.as_ref()).expect("permitted").to_json();
    assert!(last.len() <= MAX_CAPABILITIES);
    last
}

/// Another expiry in the last link: its signature does not fit any more.
fn spoiled(token: Vec<u8>) -> Vec<u8> {
    let text = String::from_utf8(token).expect("JSON");
    let expiry = NOW.plus(Duration::from_secs(3600)).0.to_string();
    text.replacen(&expiry, &(NOW.0 + 1).to_string(), 1).into_bytes()
}

/// Reads and verifies, and says why not.
pub fn refuse(bytes: &[u8]) -> Reason {
    let refusal = Token::parse(bytes).and_then(|token| token.verify(NOW, &|_| false)).expect_err("refused");
    refusal.reason
}
