use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::api::digest::spec_digest;
use crate::capability::{Capability, Envelope, Key, Minting, Token};
use crate::command::specs::signer::{Grants, Signer};
use crate::plan::authorise::Statement;
use crate::store::Release;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

/// The grant of a provider to an owner.
fn grant(provider: u8, owner: u8, hours: u64) -> Token {
    let minting = Minting {
        subject: key(owner).did().clone(),
        audience: Some(key(provider).did().clone()),
        capabilities: vec![Capability::parse("/hosting/shop").unwrap()],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_hours(hours)),
        depth: 0,
        nonce: [provider; 12],
    };
    Token::delegate(&key(provider), minting, None).unwrap()
}

/// `provider` as on the command line.
fn signing(owner: u8, grant: Token, provider: Option<u8>) -> Signing {
    let provider = provider.map(|provider| key(provider).did().clone());
    let signer = Signer { key: key(owner), grants: Grants::Given(Box::new(grant)), provider };
    Signing { signer, namespace: None, content: None, refresh: false, now: NOW }
}

/// Owner 2 with a grant of provider 1 that lasts longer than what is signed.
fn ours() -> Signing {
    signing(2, grant(1, 2, 9), None)
}

/// An object that an owner signed for an hour.
fn signed(provider: u8, owner: u8) -> Value {
    let release = Release::from_files(&BTreeMap::from([("index.html".to_owned(), "hello")])).unwrap();
    let mut object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "providerRef": {"namespace": "operator", "name": "default"},
            "content": {"release": release.id().to_string(), "from": {"configMap": {"name": "web"}}, "access": "Public"},
        },
    });
    let signing = signing(owner, grant(provider, owner, 1), None);
    signing.sign_each(std::slice::from_mut(&mut object), &[]).unwrap();
    object
}

/// The object as somebody without a key hands it in: the envelope has the digests of what it is now.
fn forged(mut object: Value, sealed: bool) -> Value {
    let invocation = object["spec"]["authorization"]["invocation"].as_str().unwrap();
    let envelope = Envelope::parse(&STANDARD.decode(invocation).unwrap()).unwrap();
    let message = serde_json::to_vec(&Statement::new(spec_digest(&object).unwrap(), NOW)).unwrap();
    let envelope = Envelope { message, signature: envelope.signature.filter(|_| sealed), ..envelope };
    object["spec"]["authorization"]["invocation"] = json!(STANDARD.encode(envelope.to_json()));
    object
}

/// What becomes of an object. Only what is renewed is changed.
fn renewed(object: &Value, signing: &Signing) -> (Outcome, String) {
    let renewal = Renewal { within: Duration::from_hours(24), now: signing.now };
    let mut after = object.clone();
    let row = one(Path::new("web.yaml"), &mut after, &renewal, &|| Ok(signing)).unwrap();
    assert_eq!(after != *object, row.outcome == Outcome::Renewed, "{}", row.message);
    (row.outcome, row.message)
}

fn failed(object: &Value, signing: &Signing) -> String {
    let (outcome, message) = renewed(object, signing);
    assert_eq!(outcome, Outcome::Failed, "{message}");
    message
}

#[test]
fn what_the_owner_signed_is_signed_again_be_it_over_or_not() {
    assert_eq!(renewed(&signed(1, 2), &ours()).0, Outcome::Renewed);
    let later = Signing { now: NOW.plus(Duration::from_hours(2)), ..ours() };
    assert_eq!(renewed(&signed(1, 2), &later).0, Outcome::Renewed);
}

#[test]
fn what_nobody_signed_is_not_signed_again() {
    let mut edited = signed(1, 2);
    edited["spec"]["content"]["access"] = json!("Owner");
    assert_eq!(failed(&edited, &ours()), CHANGED);
    let over = Signing { now: NOW.plus(Duration::from_hours(2)), ..ours() };
    for sealed in [true, false] {
        for signing in [&ours(), &over] {
            let said = failed(&forged(edited.clone(), sealed), signing);
            assert!(said.starts_with("what it carries does not authorise it: "), "{said}");
        }
    }
}

#[test]
fn a_chain_of_ones_own_is_not_signed_again() {
    // Who has the keys 8 and 9 has no right of provider 1.
    let own = signed(8, 9);
    let said = failed(&own, &ours());
    assert!(said.contains("the grant was given to"), "{said}");
    let said = failed(&own, &signing(2, grant(1, 2, 9), Some(1)));
    assert!(said.contains("it was signed for the provider") && said.contains(key(8).did().as_str()), "{said}");
    let mut in_the_name_of_another = own;
    in_the_name_of_another["spec"]["owner"] = json!(key(2).did());
    let said = failed(&forged(in_the_name_of_another, true), &ours());
    assert!(said.starts_with("what it carries does not authorise it: "), "{said}");
    // What was signed for one provider is not renewed for another.
    failed(&signed(8, 2), &ours());
}

#[test]
fn an_odd_file_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let file = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        file
    };
    let list = json!({"apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeploymentList", "items": [{}]});
    let good = file("c.json", signed(1, 2).to_string().as_bytes());
    let all = [file("a.yaml", &[0xff]), file("b.json", list.to_string().as_bytes()), good.clone()];
    let (signing, renewal) = (ours(), Renewal { within: Duration::from_hours(24), now: NOW });
    let mut rows = Vec::new();
    for file in &all {
        in_file(file, &renewal, &|| Ok(&signing), &mut rows).unwrap();
    }
    let outcomes: Vec<Outcome> = rows.iter().map(|row| row.outcome).collect();
    assert_eq!(outcomes, [Outcome::Failed, Outcome::Failed, Outcome::Renewed], "{rows:?}");
    assert!(rows[1].message.contains("give every item its own kind and apiVersion"), "{rows:?}");

    // Without a key nothing can be gone on with.
    in_file(&good, &renewal, &|| Err(CommandError::new("no key")), &mut rows).unwrap_err();
    assert_eq!((rows.len(), table(&rows).lines().count()), (3, 3));
}
