use std::time::Duration;

use super::super::{Handle, Key, Minting, key::counted, token_list};
use super::*;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
const BEHAVIOUR: &str = "/dms/node/deployment/new";

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

/// The node is 1, its owner and root 2, a provider 3.
fn context() -> Context {
    Context {
        did: key(1).did().clone(),
        roots: vec![key(2).did().clone()],
        require: Vec::new(),
        provide: Vec::new(),
        revoke: Vec::new(),
    }
}

fn path(text: &str) -> Capability {
    Capability::parse(text).unwrap()
}

fn minting(to: u8, capability: &str) -> Minting {
    Minting {
        subject: key(to).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![path(capability)],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_mins(1)),
        depth: 1,
        nonce: [to; 12],
    }
}

fn device_grant() -> Token {
    Token::delegate(&key(2), minting(3, "/dms/node/deployment"), None).unwrap()
}

fn request(from: u8, capabilities: Vec<u8>) -> Envelope {
    Envelope {
        to: Handle::root_of(key(1).did()),
        behaviour: BEHAVIOUR.to_owned(),
        from: Handle::root_of(key(from).did()),
        nonce: 1,
        expires: NOW.plus(Duration::from_secs(30)),
        continuation: Some("/private/x".to_owned()),
        topic: None,
        message: b"{}".to_vec(),
        capabilities,
        signature: None,
    }
}

/// The provider asks by the right that the owner of the device granted.
fn provider_request() -> Envelope {
    let token = Token::invoke(&key(3), minting(3, BEHAVIOUR), Some(&device_grant())).unwrap();
    request(3, token_list(&[token])).sign(&key(3))
}

fn decided(context: &Context, envelope: &Envelope) -> (Option<Reason>, usize) {
    let (result, checks) = counted::during(|| context.authorise(envelope, &path(BEHAVIOUR), NOW));
    (result.err().map(|refusal| refusal.reason), checks)
}

#[test]
fn a_device_takes_what_its_owner_granted() {
    assert_eq!(decided(&context(), &provider_request()), (None, 3));
    let without_root = Context { roots: Vec::new(), ..context() };
    assert_eq!(decided(&without_root, &provider_request()), (Some(Reason::NotAnchored), 0));
    let by_anchor =
        Context { require: vec![Token::delegate(&key(1), minting(2, "/dms"), None).unwrap()], ..without_root };
    assert_eq!(decided(&by_anchor, &provider_request()), (None, 4), "the anchor, two links, the envelope");
}

#[test]
fn the_signature_of_the_envelope_counts_and_is_checked_last() {
    let changed = Envelope { message: b"{\"x\":1}".to_vec(), ..provider_request() };
    assert_eq!(decided(&context(), &changed), (Some(Reason::BadSignature), 3));
    let by_another = Envelope { signature: None, ..provider_request() }.sign(&key(4));
    assert_eq!(decided(&context(), &by_another), (Some(Reason::BadSignature), 3));
    let unsigned = Envelope { signature: None, ..provider_request() };
    assert_eq!(decided(&context(), &unsigned), (Some(Reason::NotSigned), 0));
}

#[test]
fn cheap_refusals_check_no_signature() {
    let expired = Envelope { expires: NOW.minus(Duration::from_nanos(1)), ..provider_request() };
    assert_eq!(decided(&context(), &expired), (Some(Reason::Expired), 0));
    let elsewhere = Envelope { to: Handle::root_of(key(9).did()), ..provider_request() };
    assert_eq!(decided(&context(), &elsewhere), (Some(Reason::WrongRecipient), 0));
    let stolen = request(4, provider_request().capabilities).sign(&key(4));
    assert_eq!(decided(&context(), &stolen), (Some(Reason::SignerMismatch), 0));
    assert_eq!(decided(&context(), &request(3, token_list(&[])).sign(&key(3))), (Some(Reason::CapabilityMissing), 0));
    assert_eq!(decided(&context(), &request(3, Vec::new()).sign(&key(3))), (Some(Reason::Malformed), 0));
    let other = context().authorise(&provider_request(), &path("/dms/node/peers"), NOW);
    assert_eq!(other.map_err(|refusal| refusal.reason), Err(Reason::CapabilityMissing));
}

#[test]
fn a_node_obeys_itself_but_not_one_who_says_to_be_it() {
    assert_eq!(decided(&context(), &request(1, Vec::new()).sign(&key(1))), (None, 1));
    assert_eq!(decided(&context(), &request(1, Vec::new()).sign(&key(4))), (Some(Reason::BadSignature), 1));
    let liar = Envelope {
        from: Handle { did: Some(key(1).did().clone()), ..Handle::root_of(key(4).did()) },
        ..request(4, token_list(&[]))
    };
    assert_eq!(decided(&context(), &liar.sign(&key(4))), (Some(Reason::CapabilityMissing), 0));
}

#[test]
fn only_a_genuine_revocation_takes_back() {
    let genuine = Token::revoke(&key(2), &device_grant()).unwrap();
    let revoked = Context { revoke: vec![genuine.clone()], ..context() };
    assert_eq!(decided(&revoked, &provider_request()).0, Some(Reason::Revoked));
    let forged = Token { signature: key(4).sign(&genuine.signed_bytes()), ..genuine };
    let unmoved = Context { revoke: vec![forged], ..context() };
    assert_eq!(decided(&unmoved, &provider_request()).0, None);
}

#[test]
fn anchors_that_were_tampered_with_give_no_right() {
    let anchor = Token::delegate(&key(1), minting(2, "/dms"), None).unwrap();
    let forged = Token { signature: key(4).sign(&anchor.signed_bytes()), ..anchor };
    let context = Context { roots: Vec::new(), require: vec![forged], ..context() };
    assert_eq!(decided(&context, &provider_request()).0, Some(Reason::NotAnchored));
}

#[test]
fn a_token_of_an_unknown_key_type_beside_a_good_one_does_no_harm() {
    let text = String::from_utf8(provider_request().capabilities).unwrap();
    let good = text.strip_prefix("{\"tok\":[").unwrap();
    let secp256k1 = "did:key:zQ3shVc2UkAfJCdc1TR8E66J85h48P43r93q8jGPkPpjF9Ef9";
    let unknown = good.trim_end_matches("]}").replacen(key(3).did().as_str(), secp256k1, 1);
    let both = format!("{{\"tok\":[{unknown},{good}");
    assert_eq!(decided(&context(), &request(3, both.into_bytes()).sign(&key(3))), (None, 3));
}

#[test]
fn a_file_is_written_as_dms_does_and_read_back() {
    let full = Context {
        require: vec![Token::delegate(&key(1), minting(2, "/dms"), None).unwrap()],
        provide: vec![Token::delegate(&key(2), minting(1, "/dms"), None).unwrap()],
        revoke: vec![Token::revoke(&key(2), &device_grant()).unwrap()],
        ..context()
    };
    assert_eq!(Context::parse(&full.to_json()), Ok(full.clone()));
    assert_eq!(Context::load(&full.to_json(), NOW), Ok(full.clone()));
    let (node, root) = (key(1), key(2));
    let (node, root) = (node.did(), root.did());
    let bare = format!(
        "{{\"did\":{{\"uri\":\"{node}\"}},\"roots\":[{{\"uri\":\"{root}\"}}],\"require\":{{}},\"provide\":{{}},\"revoke\":{{}}}}"
    );
    assert_eq!(String::from_utf8(context().to_json()).unwrap(), bare);
    let old =
        bare.replace("\"did\"", "\"DID\"").replace("\"roots\"", "\"Roots\"").replace("\"require\"", "\"Require\"");
    assert_eq!(Context::parse(old.as_bytes()), Ok(context()));
}

#[test]
fn a_new_revocation_removes_what_it_takes_back() {
    let anchor = Token::delegate(&key(1), minting(2, "/dms"), None).unwrap();
    let revocation = Token::revoke(&key(1), &anchor).unwrap();
    let mut context = Context { require: vec![anchor], ..context() };
    let addition =
        Context { roots: Vec::new(), require: Vec::new(), revoke: vec![revocation.clone()], ..context.clone() };
    context.extend(addition, NOW).unwrap();
    assert_eq!((context.require, context.revoke), (Vec::new(), vec![revocation]));
}
