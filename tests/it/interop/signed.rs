//! Signatures over the bytes that the other side writes by itself: made here and checked in Go, and the other way round.

use std::collections::BTreeMap;

use dms_operator::capability::{
    Bid, BidLayout, Capability, Contract, Did, Envelope, Handle, Key, Location, Minting, Nanos, Reason, Token,
};
use proptest::{collection::btree_map, collection::vec, option, prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    answers::{GoAnswers, runner, shown},
    hostile::{bytes, contract, handle, integer, key, location, path, segment, some_text, text},
};
use crate::timed::Timed;

const CASES: u32 = 100;

/// A chain that holds: every link gives what the one above it gives, or what lies below.
#[derive(Clone, Debug)]
struct Plan {
    now: u64,
    audience: Option<Key>,
    /// Who issues each link, and at the end who may use the last one.
    keys: Vec<Key>,
    links: Vec<Planned>,
    broadcast: bool,
}

#[derive(Clone, Debug)]
struct Planned {
    capabilities: Vec<Capability>,
    topics: Vec<Capability>,
    nonce: [u8; 12],
    expires: u64,
    depth: u64,
}

fn below(path: &Capability, more: Option<&String>) -> Capability {
    let Some(more) = more else { return path.clone() };
    Capability::parse(&format!("{}/{more}", path.as_str().trim_end_matches('/'))).unwrap()
}

fn plan() -> impl Strategy<Value = Plan> {
    let step = (option::weighted(0.3, segment()), any::<[u8; 12]>(), any::<u16>(), option::of(0..3_u64));
    let root = (vec(path(), 1..4), vec(path(), 1..3), integer(), 0..1000_u64);
    (root, vec((key(), step), 1..=8), key(), option::of(key()), any::<bool>()).prop_map(
        |((mut capabilities, mut topics, now, ahead), steps, last, audience, broadcast)| {
            let count = steps.len() as u64;
            // The root lives longest; the leaf ends now or a little later.
            let mut expires = now.saturating_add(ahead).saturating_add(count << 16);
            let (mut keys, mut links) = (Vec::new(), Vec::new());
            for (at, (key, (more, nonce, shorter, deeper))) in (0_u64..).zip(steps) {
                capabilities.iter_mut().chain(&mut topics).for_each(|path| *path = below(path, more.as_ref()));
                expires = expires.saturating_sub(u64::from(shorter)).max(now);
                let depth = deeper.map_or(0, |deeper| count - at - 1 + deeper);
                let topics = if broadcast { topics.clone() } else { Vec::new() };
                links.push(Planned { capabilities: capabilities.clone(), topics, nonce, expires, depth });
                keys.push(key);
            }
            keys.push(last);
            Plan { now, audience: audience.filter(|_| !broadcast), keys, links, broadcast }
        },
    )
}

impl Plan {
    fn action(&self, at: usize) -> &'static str {
        match (at + 1 == self.links.len(), self.broadcast) {
            (false, _) => "delegate",
            (true, false) => "invoke",
            (true, true) => "broadcast",
        }
    }

    /// Made by this crate.
    fn here(&self) -> Token {
        let mut above: Option<Token> = None;
        for (at, link) in self.links.iter().enumerate() {
            let Planned { capabilities, topics, nonce, expires, depth } = link.clone();
            let minting = Minting {
                subject: self.keys[at + 1].did().clone(),
                audience: self.audience.as_ref().map(|key| key.did().clone()),
                capabilities,
                topics,
                expires: Nanos(expires),
                depth,
                nonce,
            };
            let make = match self.action(at) {
                "delegate" => Token::delegate,
                "invoke" => Token::invoke,
                _ => Token::broadcast,
            };
            above = Some(make(&self.keys[at], minting, above.as_ref()).unwrap());
        }
        above.unwrap()
    }

    /// Made by Go.
    fn there(&self, go: &GoAnswers) -> Vec<u8> {
        let paths = |paths: &[Capability]| paths.iter().map(|path| path.as_str().to_owned()).collect::<Vec<_>>();
        let claims = |(at, link): (usize, &Planned)| {
            json!({
                "act": self.action(at), "iss": uri(Some(self.keys[at].did())), "sub": uri(Some(self.keys[at + 1].did())),
                "aud": uri(self.audience.as_ref().map(Key::did)), "topic": paths(&link.topics),
                "cap": paths(&link.capabilities), "nonce": link.nonce, "exp": link.expires, "depth": link.depth,
            })
        };
        let claims: Value = self.links.iter().enumerate().map(claims).collect();
        let seeds: Vec<_> = self.keys[..self.links.len()].iter().map(|key| *key.expose_seed()).collect();
        go.mint("token", &claims, &seeds).unwrap()
    }
}

fn uri(did: Option<&Did>) -> Value {
    did.map_or_else(|| json!({}), |did| json!({ "uri": did }))
}

#[test]
fn chains_signed_here_hold_in_go() {
    let _timed = Timed::start();
    let go = GoAnswers::start("verify");
    let run = runner(CASES).run(&(plan(), any::<Index>()), |(plan, at)| {
        let token = plan.here();
        let json = token.to_json();
        prop_assert_eq!(go.verify("token", &json, plan.now), Ok(json.clone()), "{}", shown(&json));
        // With another value, with the signature as it was, it does not.
        let changed = shown(&json).replacen("\"nonce\":\"", "\"nonce\":\"AAAA", 1);
        prop_assert!(go.verify("token", changed.as_bytes(), plan.now).is_err(), "{}", changed);
        let links: Vec<_> = token.links().collect();
        let link = at.get(&links);
        let ends = link.expires().0;
        prop_assert_eq!(go.verify("token", &link.to_json(), ends).is_ok(), link.not_after().0 >= ends);
        if let Some(late) = ends.checked_add(1) {
            prop_assert!(go.verify("token", &link.to_json(), late).is_err());
        }
        Ok(())
    });
    run.unwrap();
}

#[test]
fn chains_signed_by_go_hold_here() {
    let _timed = Timed::start();
    let go = GoAnswers::start("mint");
    let run = runner(CASES).run(&plan(), |plan| {
        let json = plan.there(&go);
        let token = Token::parse(&json).map_err(|refusal| TestCaseError::fail(refusal.message))?;
        prop_assert_eq!(token.verify(Nanos(plan.now), &|_| false), Ok(()), "{}", shown(&json));
        prop_assert_eq!(shown(&token.to_json()), shown(&json));
        // Ed25519 leaves no choice: both sign the same bytes with the same signature.
        prop_assert_eq!(shown(&plan.here().to_json()), shown(&json));
        Ok(())
    });
    run.unwrap();
}

fn envelope() -> impl Strategy<Value = (Key, Envelope)> {
    let capabilities = option::of(plan().prop_map(|plan| dms_operator::capability::token_list(&[plan.here()])));
    let to = prop_oneof![Just(Handle::default()), handle()];
    let from = (key(), option::of(key()), option::of(some_text()), option::of(some_text()));
    let options = (integer(), integer(), option::of(some_text()), option::of(some_text()));
    (to, text(), from, options, bytes(), capabilities).prop_map(
        |(to, behaviour, (key, claimed, host, inbox), options, message, capabilities)| {
            let did = claimed.map(|key| key.did().clone());
            let from = Handle { did, ..Handle::of(key.did(), host, inbox) };
            let (nonce, expires, continuation, topic) = options;
            let envelope = Envelope {
                to,
                behaviour,
                from,
                nonce,
                expires: Nanos(expires),
                continuation,
                topic,
                message,
                capabilities: capabilities.unwrap_or_default(),
                signature: None,
            };
            (key, envelope)
        },
    )
}

#[test]
fn envelopes_are_signed_here_and_in_go_alike() {
    let _timed = Timed::start();
    let (mints, verifies) = (GoAnswers::start("mint"), GoAnswers::start("verify"));
    let run = runner(CASES).run(&envelope(), |(key, envelope)| {
        let unsigned: Value = serde_json::from_slice(&envelope.to_json()).unwrap();
        let ends = envelope.expires;
        let here = envelope.clone().sign(&key).to_json();
        prop_assert_eq!(verifies.verify("envelope", &here, ends.0), Ok(here.clone()), "{}", shown(&here));
        if let Some(late) = ends.0.checked_add(1) {
            prop_assert!(verifies.verify("envelope", &here, late).is_err());
        }
        let other = Envelope { nonce: envelope.nonce ^ 1, ..Envelope::parse(&here).unwrap() };
        prop_assert!(verifies.verify("envelope", &other.to_json(), ends.0).is_err(), "a changed envelope holds");

        let there = mints.mint("envelope", &unsigned, &[*key.expose_seed()]).map_err(TestCaseError::fail)?;
        prop_assert_eq!(shown(&there), shown(&here));
        let read = Envelope::parse(&there).map_err(|refusal| TestCaseError::fail(refusal.message))?;
        prop_assert_eq!(read.verify(ends), Ok(key.did().clone()));
        prop_assert_eq!(Envelope { signature: None, ..read }, envelope);
        Ok(())
    });
    run.unwrap();
}

fn bid() -> impl Strategy<Value = (Key, Bid)> {
    let contracts = option::of(btree_map(text(), contract(), 0..4));
    let bidder = (key(), option::of(key()), option::of(some_text()), option::of(some_text()));
    (text(), text(), bidder, text(), location(), contracts, any::<bool>()).prop_map(
        |(ensemble_id, node_id, (key, claimed, host, inbox), public_address, location, contracts, promise)| {
            let did = claimed.map(|key| key.did().clone());
            let handle = Handle { did, ..Handle::of(key.did(), host, inbox) };
            let bid = Bid {
                layout: BidLayout::Nine,
                ensemble_id,
                node_id,
                bidder: key.did().clone(),
                public_address,
                location,
                handle,
                contracts,
                promise,
                signature: None,
            };
            (key, bid)
        },
    )
}

/// What Go is told of a bid; written without the writer that is tried.
fn told(bid: &Bid) -> Value {
    let Bid { layout: _, ensemble_id, node_id, bidder, public_address, location, handle, contracts, promise, .. } = bid;
    let Location { continent, country, city, asn, isp } = location;
    let Handle { id, did, host, inbox } = handle;
    let contract = |Contract { did, host, provider, requestor }: &Contract| json!({ "did": did, "host": host, "provider": provider, "requestor": requestor });
    let contracts: Option<BTreeMap<_, _>> =
        contracts.as_ref().map(|named| named.iter().map(|(name, one)| (name, contract(one))).collect());
    json!({ "V1": {
        "EnsembleID": ensemble_id, "NodeID": node_id, "Peer": bidder.peer_id(), "PubAddress": public_address,
        "Location": { "continent": continent, "country": country, "city": city, "asn": asn, "isp": isp },
        "Handle": { "id": { "pub": id.as_str() }, "did": uri(did.as_ref()), "addr": { "host": host, "inbox": inbox } },
        "Contracts": contracts, "PromiseBid": promise,
    }})
}

#[test]
fn bids_are_signed_here_and_in_go_alike() {
    let _timed = Timed::start();
    let (mints, verifies) = (GoAnswers::start("mint"), GoAnswers::start("verify"));
    let run = runner(CASES).run(&bid(), |(key, bid)| {
        let here = bid.clone().sign(&key).to_json();
        prop_assert_eq!(verifies.verify("bid", &here, 0), Ok(here.clone()), "{}", shown(&here));
        let there = mints.mint("bid", &told(&bid), &[*key.expose_seed()]).map_err(TestCaseError::fail)?;
        prop_assert_eq!(shown(&there), shown(&here));
        let read = Bid::parse(&there).map_err(|refusal| TestCaseError::fail(refusal.message))?;
        prop_assert_eq!(read.verify(), Ok(()));
        let changed = Bid { promise: !read.promise, ..read };
        prop_assert!(verifies.verify("bid", &changed.to_json(), 0).is_err(), "a changed bid holds");
        prop_assert_eq!(changed.verify().map_err(|refusal| refusal.reason), Err(Reason::BadSignature));
        Ok(())
    });
    run.unwrap();
}
