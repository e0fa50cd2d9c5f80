use std::time::Duration;

use serde_json::json;

use super::*;
use crate::capability::{Capability, Key, Minting, Token};
use crate::command::specs::signer::{Grants, Signer};
use crate::command::specs::signing::Signing;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn release(page: &str) -> Release {
    Release::from_files(&BTreeMap::from([("index.html".to_owned(), page.as_bytes())])).unwrap()
}

/// The grant of provider 1 to owner 2.
fn grant() -> Token {
    let minting = Minting {
        subject: key(2).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![Capability::parse("/hosting/shop").unwrap()],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_hours(1)),
        depth: 0,
        nonce: [1; 12],
    };
    Token::delegate(&key(1), minting, None).unwrap()
}

/// A signed object with a page.
fn object(page: &str, now: Nanos) -> Value {
    let mut object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeployment",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "providerRef": {"namespace": "operator", "name": "default"},
            "content": {"release": release(page).id().to_string(), "from": {"configMap": {"name": "web"}}, "access": "Public"},
        },
    });
    let signer = Signer { key: key(2), grants: Grants::Given(Box::new(grant())), provider: None };
    let signing = Signing { signer, namespace: None, content: None, refresh: false, now };
    signing.sign_each(std::slice::from_mut(&mut object), &[]).unwrap();
    object
}

fn provider(more: &Value) -> HostingProvider {
    let mut spec = json!({
        "identity": {"keySecretRef": {"name": "i"}}, "policy": {"publicAccess": "Allow"},
        "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"hosting": "yes"}}},
        "storage": {"s3": {"endpoint": "http://s3", "bucket": "b-1", "auth": {"secretRef": {"name": "s"}}}},
    });
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingProvider", "metadata": {"name": "default"},
        "spec": spec, "status": {"did": key(1).did()},
    }))
    .unwrap()
}

fn device(name: &str, deployments: usize) -> Candidate {
    Candidate { name: name.to_owned(), labels: BTreeMap::new(), unschedulable: false, ready: true, deployments }
}

/// All is known, and nothing stands in the way.
fn known() -> Surroundings {
    Surroundings {
        live: Ok(None),
        provider: Ok(Some(provider(&json!({})))),
        labels: Ok(Some(BTreeMap::from([("hosting".to_owned(), "yes".to_owned())]))),
        candidates: Ok(vec![device("a", 2), device("b", 1)]),
        revoked: Ok(BTreeSet::new()),
        elsewhere: Ok(()),
        dry_run: Ok(DryRun::Taken),
        files: Some((release("hello"), "--content")),
        stored_files: None,
    }
}

/// What is there, with the release that it serves.
fn live(page: &str, at: Nanos) -> Value {
    let mut live = object(page, at);
    let digest = spec_digest(&live).unwrap().digest;
    live["status"] = json!({
        "release": release(page).id(), "deployment": {"device": "a", "id": "1"},
        "acceptedRevision": {"digest": digest, "time": at.to_timestamp().to_string()},
    });
    live
}

fn refusals(around: &Surroundings) -> Vec<String> {
    forecast(&object("hello", NOW), around, None, NOW).refusals
}

#[test]
fn a_new_object_goes_to_the_least_loaded_device_with_all_its_files() {
    let seen = forecast(&object("hello", NOW), &known(), None, NOW);
    assert_eq!((seen.change, seen.parts, seen.device.as_deref()), (Change::Create, vec![], Some("b")));
    let note = "at most: what the store holds already is not known here".to_owned();
    assert_eq!(seen.transfer, Transfer { files: Some(1), bytes: Some(5), note });
    assert_eq!((seen.namespace_allowed, seen.refusals, seen.unknown), (Some(true), vec![], vec![BEFORE.to_owned()]));
    assert_eq!((seen.signature.verdict, seen.signature.provider_from), (Verdict::Accept, Source::Cluster));
}

#[test]
fn what_changes_is_named_by_its_parts() {
    let earlier = NOW.minus(Duration::from_secs(60));
    let around = |page: &str| Surroundings { live: Ok(Some(live(page, earlier))), ..known() };
    let seen = forecast(&object("hello", NOW), &around("old"), None, NOW);
    assert_eq!((seen.change, seen.parts), (Change::Update, vec!["content"]));
    assert_eq!((seen.device.as_deref(), seen.device_note.as_str()), (Some("a"), "it is there"));
    let seen = forecast(&object("hello", NOW), &around("hello"), None, NOW);
    assert_eq!((seen.change, seen.parts, seen.transfer.bytes), (Change::Renew, vec![], Some(0)));
    let same = live("hello", earlier);
    let around = Surroundings { live: Ok(Some(same.clone())), ..known() };
    assert_eq!(forecast(&same, &around, None, NOW).change, Change::None);
}

#[test]
fn only_what_is_lacking_has_to_be_brought() {
    let stored = BTreeMap::from([("index.html".to_owned(), "hello"), ("a".to_owned(), "old")]);
    let wanted = BTreeMap::from([("index.html".to_owned(), "hello"), ("a".to_owned(), "new!")]);
    let (stored, wanted) = (Release::from_files(&stored).unwrap(), Release::from_files(&wanted).unwrap());
    let mut there = live("hello", NOW);
    there["status"]["release"] = json!(stored.id());
    let mut object = object("hello", NOW);
    object["spec"]["content"]["release"] = json!(wanted.id());
    let around = Surroundings {
        live: Ok(Some(there)),
        files: Some((wanted.clone(), "--content")),
        stored_files: Some(stored),
        ..known()
    };
    let seen = forecast(&object, &around, None, NOW).transfer;
    let note = "what the release that is served now lacks".to_owned();
    assert_eq!(seen, Transfer { files: Some(1), bytes: Some(4), note });
    let around = Surroundings { files: None, ..around };
    assert_eq!(forecast(&object, &around, None, NOW).transfer.bytes, None);
    object["spec"]["content"]["from"] = json!({"archive": {"url": "https://example.org/a.tar.gz", "sha256": "0"}});
    assert!(forecast(&object, &around, None, NOW).transfer.note.contains("https://example.org/a.tar.gz"));
    object["spec"]["content"]["from"] = Value::Null;
    assert!(forecast(&object, &around, None, NOW).transfer.note.contains("must be in the store already"));
}

#[test]
fn whatever_would_be_refused_is_named() {
    let with = |more: Value| Surroundings { provider: Ok(Some(provider(&more))), ..known() };
    let owner = key(2).did().to_string();
    let cases = [
        (with(json!({"deniedDIDs": [owner]})), "Denied: link 1 of 2"),
        (with(json!({"policy": {}})), "PublicAccessRefused: "),
        (
            with(json!({"content": {"quotas": {"maxReleaseBytes": 4}}})),
            "QuotaExceeded: the release has 1 files and 5 bytes",
        ),
        (with(json!({"allowedNamespaces": {"from": "Same"}})), "NamespaceNotAllowed: HostingProvider operator/default"),
        (Surroundings { labels: Ok(Some(BTreeMap::new())), ..known() }, "NamespaceNotAllowed: "),
        (Surroundings { labels: Ok(None), ..known() }, "there is no namespace shop"),
        (Surroundings { provider: Ok(None), ..known() }, "HostingProvider operator/default does not exist"),
        (Surroundings { revoked: Ok([grant().revocation_key()].into()), ..known() }, "Revoked: link 1 of 2"),
        (Surroundings { live: Ok(Some(live("old", NOW.plus(Duration::from_secs(5))))), ..known() }, "RolledBack: "),
        (
            Surroundings { dry_run: Ok(DryRun::Refused("spec: wrong".to_owned())), ..known() },
            "the API server: spec: wrong",
        ),
        (
            Surroundings { files: Some((release("x"), "the ConfigMap in the stream")), ..known() },
            "ContentDigestMismatch: ",
        ),
    ];
    for (around, said) in cases {
        let refusals = refusals(&around);
        assert!(refusals.len() == 1 && refusals[0].starts_with(said), "{said}: {refusals:?}");
    }
}

#[test]
fn what_cannot_be_seen_is_not_taken_for_refused() {
    let why = || "not allowed to look".to_owned();
    let around = Surroundings {
        live: Err(why()),
        provider: Err(why()),
        labels: Err(why()),
        candidates: Err(why()),
        revoked: Err(why()),
        elsewhere: Ok(()),
        dry_run: Err(why()),
        files: None,
        stored_files: None,
    };
    let seen = forecast(&object("hello", NOW), &around, None, NOW);
    assert_eq!((seen.change, seen.device, seen.namespace_allowed), (Change::Unknown, None, None));
    let addressed = format!(
        "judged as the provider {}, whom it is addressed to: name the one that is meant with --provider DID",
        key(1).did()
    );
    assert_eq!((seen.refusals, seen.unknown), (vec![], vec![why(), addressed]));
    assert_eq!(seen.signature.provider_from, Source::Envelope);
    let around = Surroundings { elsewhere: Err(why()), ..known() };
    assert_eq!(forecast(&object("hello", NOW), &around, None, NOW).unknown, vec![why(), BEFORE.to_owned()]);
    let around = Surroundings { labels: Err(why()), ..known() };
    assert_eq!(forecast(&object("hello", NOW), &around, None, NOW).namespace_allowed, None, "it depends on the labels");
    let all = provider(&json!({"allowedNamespaces": {"from": "All"}}));
    let around = Surroundings { labels: Err(why()), provider: Ok(Some(all)), ..known() };
    assert_eq!(forecast(&object("hello", NOW), &around, None, NOW).namespace_allowed, Some(true));
}
