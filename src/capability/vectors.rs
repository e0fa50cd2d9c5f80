//! Values that DMS's own code gave for fixed keys.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::*;

const VECTORS: &str = include_str!("../../tests/fixtures/capability/vectors.json");
const EXPIRES: Nanos = Nanos(1_767_225_600_000_000_000);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Vectors {
    keys: Vec<KeyVector>,
    bootstrap_peers: Vec<Names>,
    tokens: Vec<Signed>,
    envelopes: Vec<Signed>,
    bids: Vec<Signed>,
    keystore: KeystoreVector,
    implies: Vec<Implies>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyVector {
    name: String,
    seed: String,
    public_key: String,
    #[serde(flatten)]
    names: Names,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Names {
    did: String,
    actor_id: String,
    peer_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signed {
    name: String,
    #[expect(dead_code, reason = "tells the reader of the file what the vector shows")]
    shows: String,
    length: usize,
    sha256: String,
    #[serde(rename = "signedBytes")]
    text: String,
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct KeystoreVector {
    passphrase: String,
    salt: String,
    iv: String,
    ciphertext: String,
    mac: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Implies {
    granted: String,
    requested: String,
    implied: bool,
}

fn vectors() -> Vectors {
    serde_json::from_str(VECTORS).unwrap()
}

fn names(did: &Did) -> Names {
    Names { did: did.to_string(), actor_id: did.actor_id(), peer_id: did.peer_id() }
}

fn array<const SIZE: usize>(text: &str) -> [u8; SIZE] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn user() -> Key {
    Key::from_seed([1; 32])
}

fn node() -> Key {
    Key::from_seed([2; 32])
}

fn other() -> Key {
    Key::from_seed([3; 32])
}

/// The signed text with the signature put in before the last brace.
fn with_signature(vector: &Signed, domain: &str, key: &Key) -> String {
    use base64::Engine as _;

    assert_eq!(vector.text.len(), vector.length, "{}", vector.name);
    assert_eq!(hex::encode(Sha256::digest(&vector.text)), vector.sha256, "{}", vector.name);
    assert_eq!(hex::encode(key.sign(vector.text.as_bytes())), vector.signature, "{}", vector.name);
    let signature = base64::engine::general_purpose::STANDARD.encode(hex::decode(&vector.signature).unwrap());
    let body = vector.text.strip_prefix(domain).unwrap().strip_suffix('}').unwrap();
    format!("{body},\"sig\":\"{signature}\"}}")
}

#[test]
fn one_key_has_three_names() {
    let vectors = vectors();
    assert_eq!(vectors.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["U", "N", "O"]);
    for KeyVector { name: _, seed, public_key, names: expected } in vectors.keys {
        let key = Key::from_seed(array(&seed));
        assert_eq!(names(key.did()), expected);
        assert_eq!(hex::encode(key.did().public_key()), public_key);
    }
    for expected in vectors.bootstrap_peers {
        assert_eq!(names(&Did::from_peer_id(&expected.peer_id).unwrap()), expected);
    }
}

#[test]
fn tokens_are_read_written_and_signed_byte_for_byte() {
    let vectors = vectors();
    let signers = [("T1", user()), ("C1", node()), ("C2", user()), ("C3", other()), ("B1", user()), ("R1", node())];
    assert_eq!(vectors.tokens.len(), signers.len());
    for (vector, (name, key)) in vectors.tokens.iter().zip(signers) {
        assert_eq!(vector.name, name);
        let json = format!("{{\"dms\":{}}}", with_signature(vector, "dms:token:", &key));
        let token = Token::parse(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(token.signed_bytes()).unwrap(), vector.text);
        assert_eq!(String::from_utf8(token.to_json()).unwrap(), json);
        assert_eq!(token.verify(EXPIRES, &|_| false), Ok(()));
    }
}

fn minting(subject: &Key, audience: Option<&Key>, capability: &str, first_nonce_byte: u8) -> Minting {
    Minting {
        subject: subject.did().clone(),
        audience: audience.map(|key| key.did().clone()),
        capabilities: vec![Capability::parse(capability).unwrap()],
        topics: Vec::new(),
        expires: EXPIRES,
        depth: 0,
        nonce: std::array::from_fn(|index| first_nonce_byte + u8::try_from(index).unwrap()),
    }
}

#[test]
fn tokens_are_minted_byte_for_byte() {
    let (user, node, other) = (user(), node(), other());
    let t1 = Token::invoke(&user, minting(&user, Some(&node), "/dms/node/peers/list", 0), None).unwrap();
    let c1 = Token::delegate(&node, minting(&user, None, "/dms/node/deployment", 0xa0), None).unwrap();
    let c2 = Token::delegate(&user, minting(&other, None, "/dms/node/deployment/new", 0xb0), Some(&c1)).unwrap();
    let c3 = Token::invoke(&other, minting(&other, Some(&node), "/dms/node/deployment/new", 0xc0), Some(&c2)).unwrap();
    let r1 = Token::revoke(&node, &c1).unwrap();
    let minted: Vec<_> = [&t1, &c1, &c2, &c3, &r1]
        .map(|token| (String::from_utf8(token.signed_bytes()).unwrap(), hex::encode(token.signature)))
        .into();
    let expected: Vec<_> = vectors()
        .tokens
        .into_iter()
        .filter(|vector| vector.name != "B1")
        .map(|vector| (vector.text, vector.signature))
        .collect();
    assert_eq!(minted, expected);

    let revoked = |key: &RevocationKey| *key == r1.revocation_key();
    assert_eq!(c3.verify(EXPIRES, &revoked).map_err(|refusal| refusal.reason), Err(Reason::Revoked));
}

#[test]
fn envelopes_are_read_written_and_signed_byte_for_byte() {
    let vectors = vectors();
    assert_eq!(vectors.envelopes.iter().map(|vector| vector.name.as_str()).collect::<Vec<_>>(), ["E1", "E2", "E3"]);
    for vector in &vectors.envelopes {
        let json = with_signature(vector, "dms:msg:", &user());
        let envelope = Envelope::parse(json.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(envelope.to_json()).unwrap(), json);
        assert_eq!(envelope.verify(EXPIRES).as_ref(), Ok(user().did()));
        assert_eq!(envelope.is_broadcast(), vector.name == "E3");
        let unsigned = Envelope { signature: None, ..envelope.clone() };
        assert_eq!(unsigned.sign(&user()), envelope);
    }
}

#[test]
fn bids_are_read_written_and_signed_byte_for_byte() {
    let layouts = [BidLayout::Nine, BidLayout::Eight, BidLayout::Six];
    let vectors = vectors();
    assert_eq!(vectors.bids.iter().map(|bid| bid.name.as_str()).collect::<Vec<_>>(), ["BID-9", "BID-8", "BID-6"]);
    for (vector, layout) in vectors.bids.iter().zip(layouts) {
        assert_eq!(vector.text.len(), vector.length);
        assert_eq!(hex::encode(Sha256::digest(&vector.text)), vector.sha256);
        let unsigned = format!("{{\"V1\":{}}}", vector.text.strip_prefix("dms-bid-").unwrap());
        let bid = Bid::parse(unsigned.as_bytes()).unwrap();
        assert_eq!((bid.layout, &bid.bidder, &bid.signature), (layout, node().did(), &None));
        assert_eq!(String::from_utf8(bid.signed_bytes()).unwrap(), vector.text);
        let signed = bid.clone().sign(&node());
        assert_eq!(hex::encode(signed.signature.unwrap()), vector.signature);
        assert_eq!(signed.verify(), Ok(()));
        assert_eq!(Bid::parse(&signed.to_json()).as_ref(), Ok(&signed));
        assert_eq!(bid.sign(&user()).verify().map_err(|refusal| refusal.reason), Err(Reason::BadSignature));
    }
}

#[test]
fn the_chain_of_the_vectors_is_authorised_by_its_node() {
    let c3 = &vectors().tokens[3];
    let token = Token::parse(format!("{{\"dms\":{}}}", with_signature(c3, "dms:token:", &other())).as_bytes()).unwrap();
    let envelope = Envelope {
        to: Handle::root_of(node().did()),
        behaviour: "/dms/node/deployment/new".to_owned(),
        from: Handle::of(other().did(), None, None),
        nonce: 1,
        expires: EXPIRES,
        continuation: None,
        topic: None,
        message: Vec::new(),
        capabilities: token_list(std::slice::from_ref(&token)),
        signature: None,
    }
    .sign(&other());
    let context =
        Context { did: node().did().clone(), roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
    let reason = |context: &Context, path: &str| {
        let capability = Capability::parse(path).unwrap();
        context.authorise(&envelope, &capability, EXPIRES).map_err(|refusal| refusal.reason)
    };
    assert_eq!(reason(&context, "/dms/node/deployment/new"), Ok(()));
    assert_eq!(reason(&context, "/dms/node/deployment/list"), Err(Reason::CapabilityMissing));
    let c1 = token.root();
    let revoked = Context { revoke: vec![Token::revoke(&node(), c1).unwrap()], ..context.clone() };
    assert_eq!(reason(&revoked, "/dms/node/deployment/new"), Err(Reason::Revoked));
    let stranger = Context { did: user().did().clone(), ..context };
    assert_eq!(reason(&stranger, "/dms/node/deployment/new"), Err(Reason::WrongRecipient));
}

#[test]
fn the_keystore_is_written_and_opened_as_dms_does() {
    let KeystoreVector { passphrase, salt, iv, ciphertext, mac } = vectors().keystore;
    let file = keystore::encrypt(&user(), "user", &passphrase, array(&salt), array(&iv)).unwrap();
    let value: serde_json::Value = serde_json::from_str(&file).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "id": "user",
            "crypto": {
                "cipher": "aes-256-ctr", "ciphertext": ciphertext, "cipherparams": {"iv": iv}, "kdf": "scrypt",
                "kdfparams": {"n": 262_144, "r": 8, "p": 1, "dklen": 64, "salt": salt}, "mac": mac,
            },
            "version": 3,
        })
    );
    assert_eq!(keystore::decrypt(&file, &passphrase).unwrap().expose_seed(), user().expose_seed());
    assert!(matches!(keystore::decrypt(&file, "interop-tesT"), Err(keystore::KeystoreError::WrongPassphrase)));
    let damaged = file.replacen(&ciphertext[..2], "00", 1);
    assert!(matches!(keystore::decrypt(&damaged, &passphrase), Err(keystore::KeystoreError::WrongPassphrase)));
    // The wrong file, the seed of an operator: nothing of it is told.
    let told = keystore::decrypt("8492017412345678", &passphrase).unwrap_err().to_string();
    assert!(told.contains("line 1 column ") && !told.contains("8492"), "{told}");
    let costly = file.replace("262144", "1073741824");
    assert!(matches!(keystore::decrypt(&costly, &passphrase), Err(keystore::KeystoreError::Malformed(_))));
}

#[test]
fn a_path_gives_what_lies_below_it() {
    let vectors = vectors();
    assert_eq!(vectors.implies.len(), 4);
    let path = |text: &str| Capability::parse(text).unwrap();
    for Implies { granted, requested, implied } in vectors.implies {
        assert_eq!(path(&granted).implies(&path(&requested)), implied, "{granted} {requested}");
    }
    assert!(path("/").implies(&path("/anything/at/all")));
}
