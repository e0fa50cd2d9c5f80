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
    assert_eq!(decided(&context(), &request(3, Vec::new()).sign(&key(3))), (Some(Reason::CapabilityMissing), 0));
    assert_eq!(decided(&context(), &request(3, b" ".to_vec()).sign(&key(3))), (Some(Reason::Malformed), 0));
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

fn for_broadcasts(to: u8, topic: &str) -> Minting {
    Minting { audience: None, topics: vec![path(topic)], depth: 0, ..minting(to, BEHAVIOUR) }
}

/// The reason why a token of the provider may not be used like this, if it may not.
fn used(token: &Token, usage: &Usage<'_>, capability: &str) -> (Option<Reason>, usize) {
    let (result, checks) = counted::during(|| context().check(token, key(3).did(), usage, &path(capability), NOW));
    (result.err().map(|refusal| refusal.reason), checks)
}

#[test]
fn a_broadcast_needs_its_topic_and_no_audience() {
    let token = Token::broadcast(&key(2), for_broadcasts(3, "/nunet/hello"), None).unwrap();
    let on = |topic: &str| used(&token, &Usage::Broadcast { topic: &path(topic) }, BEHAVIOUR);
    assert_eq!(on("/nunet/hello"), (None, 1));
    assert_eq!(on("/nunet/hello/all"), (None, 1));
    assert_eq!(on("/nunet"), (Some(Reason::CapabilityMissing), 0));
    let elsewhere = used(&token, &Usage::Broadcast { topic: &path("/nunet/hello") }, "/dms/node");
    assert_eq!(elsewhere, (Some(Reason::CapabilityMissing), 0));
    let audience = key(1);
    let invoked = used(&token, &Usage::Invocation { audience: audience.did() }, BEHAVIOUR);
    assert_eq!(invoked, (Some(Reason::CapabilityMissing), 0));

    // No such token is made here; upstream's do not stop anybody from signing one.
    let mut named = token.clone();
    named.audience = Some(key(1).did().clone());
    named.signature = key(2).sign(&named.signed_bytes());
    let topic = path("/nunet/hello");
    assert_eq!(used(&named, &Usage::Broadcast { topic: &topic }, BEHAVIOUR), (Some(Reason::WrongAudience), 0));

    let minted = |minting| match Token::broadcast(&key(2), minting, None) {
        Err(super::super::MintError::NotPermitted { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let named = Minting { audience: Some(key(1).did().clone()), ..for_broadcasts(3, "/nunet/hello") };
    assert_eq!(minted(named), Reason::WrongAudience);
    assert_eq!(minted(Minting { topics: Vec::new(), ..for_broadcasts(3, "/t") }), Reason::CapabilityMissing);
    let above = Token::delegate(&key(2), for_broadcasts(3, "/nunet/hello"), None).unwrap();
    let wider = Token::broadcast(&key(3), for_broadcasts(3, "/nunet"), Some(&above)).map_err(|error| match error {
        super::super::MintError::NotPermitted { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(wider, Err(Some(Reason::Widened)));
}

#[test]
fn an_envelope_is_a_broadcast_or_is_addressed() {
    let token = Token::broadcast(&key(2), for_broadcasts(3, "/nunet/hello"), None).unwrap();
    let broadcast = |to: Handle, topic: Option<&str>| {
        let topic = topic.map(str::to_owned);
        let envelope = Envelope { to, topic, ..request(3, token_list(std::slice::from_ref(&token))) }.sign(&key(3));
        let (topic, capability) = (path("/nunet/hello"), path(BEHAVIOUR));
        let (result, checks) = counted::during(|| context().authorise_broadcast(&envelope, &topic, &capability, NOW));
        (result.err().map(|refusal| refusal.reason), checks)
    };
    assert_eq!(broadcast(Handle::default(), Some("/nunet/hello")), (None, 2));
    assert_eq!(broadcast(Handle::default(), Some("/nunet/bye")), (Some(Reason::WrongRecipient), 0));
    assert_eq!(broadcast(Handle::default(), None), (Some(Reason::WrongRecipient), 0));
    let addressed = Handle::root_of(key(1).did());
    assert_eq!(broadcast(addressed, Some("/nunet/hello")), (Some(Reason::WrongRecipient), 0));
    // What one says on a topic, the node itself must be allowed to say too.
    let own = Envelope { to: Handle::default(), topic: Some("/nunet/hello".to_owned()), ..request(1, Vec::new()) };
    let decided = context().authorise_broadcast(&own.sign(&key(1)), &path("/nunet/hello"), &path(BEHAVIOUR), NOW);
    assert_eq!(decided.map_err(|refusal| refusal.reason), Err(Reason::CapabilityMissing));
}

#[test]
fn a_grant_is_of_use_while_a_link_may_hang_below_it() {
    let node = key(1);
    let usage = Usage::Delegation { audience: node.did() };
    assert_eq!(used(&device_grant(), &usage, BEHAVIOUR), (None, 1));
    let invocation = Token::invoke(&key(3), minting(3, BEHAVIOUR), Some(&device_grant())).unwrap();
    assert_eq!(used(&invocation, &usage, BEHAVIOUR), (Some(Reason::CapabilityMissing), 0));
    let mut last = device_grant();
    last.issuer = key(3).did().clone();
    last.chain = Some(Box::new(device_grant()));
    last.signature = key(3).sign(&last.signed_bytes());
    assert_eq!(used(&last, &usage, BEHAVIOUR), (Some(Reason::DepthExceeded), 0));
    let other = key(9);
    let elsewhere = Usage::Delegation { audience: other.did() };
    assert_eq!(used(&device_grant(), &elsewhere, BEHAVIOUR), (Some(Reason::WrongAudience), 0));
}

#[test]
fn a_require_anchor_covers_what_it_says_and_no_more() {
    // The provider's own token, and an anchor of the node for the provider.
    let token = |change: &dyn Fn(&mut Minting)| {
        let mut minting = minting(3, BEHAVIOUR);
        change(&mut minting);
        Token::invoke(&key(3), minting, None).unwrap()
    };
    let covered = |anchor: &dyn Fn(&mut Minting), token: &Token| {
        let mut of_provider = minting(3, "/dms/node");
        anchor(&mut of_provider);
        let require = vec![Token::delegate(&key(1), of_provider, None).unwrap()];
        let context = Context { roots: Vec::new(), require, ..context() };
        decided(&context, &request(3, token_list(std::slice::from_ref(token))).sign(&key(3)))
    };
    let plain = token(&|_| ());
    assert_eq!(covered(&|_| (), &plain), (None, 3));
    let refused = (Some(Reason::NotAnchored), 0);
    let nanosecond = Duration::from_nanos(1);
    assert_eq!(covered(&|anchor| anchor.expires = anchor.expires.minus(nanosecond), &plain), refused);
    assert_eq!(covered(&|anchor| anchor.audience = Some(key(9).did().clone()), &plain), refused);
    assert_eq!(covered(&|anchor| anchor.audience = None, &plain), (None, 3));
    assert_eq!(covered(&|anchor| anchor.capabilities = vec![path("/dms/node/peers")], &plain), refused);
    assert_eq!(covered(&|anchor| anchor.subject = key(4).did().clone(), &plain), refused);
    let more = token(&|token| token.capabilities.push(path("/hosting")));
    assert_eq!(covered(&|_| (), &more), refused, "all that the token gives must be covered");
    let topical = token(&|token| token.topics = vec![path("/nunet/hello")]);
    assert_eq!(covered(&|_| (), &topical), refused);
    assert_eq!(covered(&|anchor| anchor.topics = vec![path("/nunet")], &topical), (None, 3));
    // The distance of the anchor's subject from the leaf.
    let passed_on = Token::delegate(&key(3), Minting { depth: 0, ..minting(4, "/dms/node") }, None).unwrap();
    let leaf = Token::invoke(&key(4), minting(4, BEHAVIOUR), Some(&passed_on)).unwrap();
    let by_other = |depth| {
        let anchor = Minting { depth, ..minting(3, "/dms/node") };
        let require = vec![Token::delegate(&key(1), anchor, None).unwrap()];
        let context = Context { roots: Vec::new(), require, ..context() };
        context.authorise(&request(4, token_list(std::slice::from_ref(&leaf))).sign(&key(4)), &path(BEHAVIOUR), NOW)
    };
    assert_eq!(by_other(1), Ok(()));
    assert_eq!(by_other(0), Ok(()));
    // Issued by a stranger, an anchor is none.
    let require = vec![Token::delegate(&key(8), minting(3, "/dms/node"), None).unwrap()];
    let foreign = Context { roots: Vec::new(), require, ..context() };
    let envelope = request(3, token_list(std::slice::from_ref(&plain))).sign(&key(3));
    assert_eq!(decided(&foreign, &envelope), refused);
}

#[test]
fn any_one_of_several_capabilities_is_enough_here() {
    let (node, sender) = (key(1), key(3));
    let list = provider_request().capabilities;
    let usage = Usage::Invocation { audience: node.did() };
    let required = |paths: &[&str]| {
        let paths: Vec<_> = paths.iter().map(|text| path(text)).collect();
        context().require(&list, sender.did(), &usage, &paths, NOW).map_err(|refusal| refusal.reason)
    };
    assert_eq!(required(&[BEHAVIOUR]), Ok(()));
    assert_eq!(required(&["/other", BEHAVIOUR]), Ok(()));
    assert_eq!(required(&["/other"]), Err(Reason::CapabilityMissing));
    assert_eq!(required(&[]), Err(Reason::CapabilityMissing), "nothing asked is nothing given");
}

#[test]
fn only_what_belongs_there_is_added() {
    let mut grown = context();
    let refused = |context: &mut Context, addition: Context| {
        let before = context.clone();
        let reason = context.extend(addition, NOW).err().map(|refusal| refusal.reason);
        assert_eq!(*context, before, "all or nothing");
        reason
    };
    let empty = || Context { roots: vec![key(7).did().clone()], ..context() };
    let invoke = Token::invoke(&key(2), minting(2, "/dms"), None).unwrap();
    let delegate = Token::delegate(&key(2), minting(3, "/dms"), None).unwrap();
    let own = Token::delegate(&key(2), minting(1, "/dms"), None).unwrap();
    let revoked = Token::revoke(&key(2), &delegate).unwrap();
    let one = |token: &Token| vec![token.clone()];
    assert_eq!(refused(&mut grown, Context { require: one(&invoke), ..empty() }), Some(Reason::Malformed));
    assert_eq!(refused(&mut grown, Context { provide: one(&delegate), ..empty() }), Some(Reason::SignerMismatch));
    assert_eq!(refused(&mut grown, Context { provide: one(&invoke), ..empty() }), Some(Reason::Malformed));
    assert_eq!(refused(&mut grown, Context { revoke: one(&delegate), ..empty() }), Some(Reason::Malformed));
    let both = Context { require: one(&delegate), revoke: one(&revoked), ..empty() };
    assert_eq!(refused(&mut grown, both), Some(Reason::Revoked));

    let longer = Minting { expires: NOW.plus(Duration::from_mins(2)), ..minting(3, "/dms") };
    let longer = Token::delegate(&key(2), longer, None).unwrap();
    for addition in [&delegate, &delegate, &longer, &delegate] {
        grown.extend(Context { require: one(addition), ..empty() }, NOW).unwrap();
    }
    grown.extend(Context { provide: one(&own), ..empty() }, NOW).unwrap();
    assert_eq!(grown.require, [delegate.clone(), longer.clone()], "what adds nothing is left out");
    assert_eq!(grown.provide, [own]);
    assert_eq!(grown.roots, [key(2).did().clone(), key(7).did().clone()]);
    let topical = Minting { topics: vec![path("/t")], audience: None, ..minting(3, "/dms") };
    let topical = Token::delegate(&key(2), topical, None).unwrap();
    grown.extend(Context { require: one(&topical), ..empty() }, NOW).unwrap();
    assert_eq!(grown.require.len(), 3, "another audience or topic is not the same");
}
