use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Duration;

use serde_json::Value;

use super::content::{Supplied, config_maps};
use super::signer::{Grants, Signer};
use super::signing::{Signed, Signing};
use super::stream::Stream;
use super::*;
use crate::api::Permission;
use crate::capability::{Capability, Did, Key, Minting, Nanos, Token};
use crate::plan::authorise::{Rules, Standing, anew, authorise};
use crate::store::release::Release;

mod texts;
mod wild;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
const PROVIDER_REF: &str = "providerRef: {namespace: dms-operator, name: default}";

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn token(signer: u8, to: u8, path: &str, chain: Option<&Token>) -> Token {
    let minting = Minting {
        subject: key(to).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_hours(1)),
        depth: 0,
        nonce: [signer; 12],
    };
    Token::delegate(&key(signer), minting, chain).unwrap()
}

fn signing(signer: u8, grant: Token) -> Signing {
    Signing {
        signer: Signer { key: key(signer), grants: Grants::Given(Box::new(grant)), provider: None },
        namespace: Some("shop".to_owned()),
        content: None,
        refresh: false,
        now: NOW,
    }
}

impl Signing {
    /// Signs each HostingDeployment among the documents.
    fn sign_all(&self, documents: &mut [Value]) -> Result<Vec<Signed>, CommandError> {
        let config_maps = config_maps(objects(documents.iter()));
        self.sign_each(documents, &config_maps)
    }
}

/// Provider 1 granted owner 2 all of the namespace.
fn owner() -> Signing {
    signing(2, token(1, 2, "/hosting/shop", None))
}

fn stream(text: &str) -> Vec<Value> {
    Stream::parse(text.to_owned()).unwrap().documents().to_vec()
}

/// The text with what is in it signed.
fn signed(signing: &Signing, text: &str) -> String {
    let stream = Stream::parse(text.to_owned()).unwrap();
    let mut documents = stream.documents().to_vec();
    signing.sign_all(&mut documents).unwrap();
    stream.rewritten(&documents).unwrap()
}

fn deployment(content: &str) -> String {
    format!(
        "apiVersion: hosting.nunet.io/v1alpha1\nkind: HostingDeployment\nmetadata: {{name: web}}\n\
         spec:\n  {PROVIDER_REF}\n  content: {content}\n"
    )
}

const PAGE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: page}\ndata: {index.html: '<p>hello</p>'}\n";

fn standing(object: &Value) -> Standing {
    let provider = key(1).did().clone();
    let rules = Rules {
        judge: &anew,
        provider: &provider,
        anchors: std::slice::from_ref(&provider),
        revoked: &|_| false,
        denied: &BTreeSet::new(),
        highest: None,
        rollback: Permission::Refuse,
        now: NOW,
    };
    authorise(object, &rules)
}

fn accepted_signer(object: &Value) -> Did {
    match standing(object) {
        Standing::Valid(accepted) => accepted.signer,
        other => panic!("{other:?}"),
    }
}

fn refused(signing: &Signing, text: &str) -> String {
    let error = signing.sign_all(&mut stream(text)).unwrap_err();
    let mut sentence = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        sentence = format!("{sentence}: {next}");
        cause = next.source();
    }
    sentence
}

fn release_of(text: &str) -> String {
    let files = std::collections::BTreeMap::from([("index.html".to_owned(), text.as_bytes())]);
    Release::from_files(&files).unwrap().id().to_string()
}

#[test]
fn the_stream_comes_out_signed_and_what_the_provider_reads_is_accepted() {
    let text = format!("{PAGE}---\n{}---\n", deployment("{from: {configMap: {name: page}}}"));
    let printed = signed(&owner(), &text);
    let read = stream(&printed);
    let [page, deployment] = &read[..] else { panic!("two documents: {printed}") };
    assert_eq!(*page, stream(PAGE)[0]);
    assert_eq!(deployment["metadata"]["namespace"], "shop");
    assert_eq!(deployment["spec"]["owner"], key(2).did().as_str());
    assert_eq!(deployment["spec"]["content"]["release"], release_of("<p>hello</p>").as_str());
    assert_eq!(&accepted_signer(deployment), key(2).did());
}

#[test]
fn a_delegated_key_signs_for_the_owner() {
    let delegation = token(2, 3, "/hosting/shop/apply/web", Some(&token(1, 2, "/hosting/shop", None)));
    let text = deployment(&format!("{{release: '{}'}}", release_of("x")));
    let mut documents = stream(&text);
    signing(3, delegation.clone()).sign_all(&mut documents).unwrap();
    assert_eq!(documents[0]["spec"]["owner"], key(2).did().as_str());
    assert_eq!(&accepted_signer(&documents[0]), key(3).did());

    let elsewhere = text.replace("name: web", "name: other");
    assert!(refused(&signing(3, delegation.clone()), &elsewhere).contains("which the link above it does not give"));
    assert!(refused(&signing(4, delegation), &text).contains("was issued by someone else"));
}

#[test]
fn an_edit_after_signing_is_refused_and_the_part_is_named() {
    let text = deployment(&format!("{{release: '{}'}}", release_of("x")));
    let mut documents = stream(&text);
    owner().sign_all(&mut documents).unwrap();
    documents[0]["spec"]["content"]["release"] = release_of("y").into();
    match standing(&documents[0]) {
        Standing::Refused(refusal) => assert!(refusal.message.contains("it differs in: content"), "{refusal}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_release_is_computed_where_it_is_open_and_kept_where_it_is_set() {
    let (old, new) = (release_of("old"), release_of("<p>hello</p>"));
    let release = |signing: &Signing, content: &str| {
        let mut documents = stream(&format!("{PAGE}---\n{}", deployment(content)));
        signing.sign_all(&mut documents).unwrap();
        documents[1]["spec"]["content"]["release"].as_str().unwrap().to_owned()
    };
    let from = "from: {configMap: {name: page}}";
    assert_eq!(release(&owner(), &format!("{{release: auto, {from}}}")), new);
    assert_eq!(release(&owner(), &format!("{{release: '{old}', {from}}}")), old);
    let refreshing = Signing { refresh: true, ..owner() };
    assert_eq!(release(&refreshing, &format!("{{release: '{old}', {from}}}")), new);
    assert_eq!(release(&refreshing, &format!("{{release: '{old}'}}")), old);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.html"), "folder").unwrap();
    let with_folder = Signing { content: Some(Supplied::read(folder.path()).unwrap()), ..owner() };
    assert_eq!(release(&with_folder, "{release: auto}"), release_of("folder"));

    assert!(refused(&owner(), &deployment("{release: auto}")).contains("name a folder or an archive with --content"));
    let other_namespace = PAGE.replace("name: page", "name: page, namespace: other");
    let text = format!("{other_namespace}---\n{}", deployment(&format!("{{{from}}}")));
    assert!(refused(&owner(), &text).contains("add the ConfigMap"));
}

#[test]
fn what_cannot_be_signed_is_said_in_a_sentence() {
    let good = deployment(&format!("{{release: '{}'}}", release_of("x")));
    let nowhere = Signing { namespace: None, ..owner() };
    assert_eq!(
        refused(&nowhere, &good),
        "HostingDeployment web was not signed: it names no namespace: set metadata.namespace, or run the command with -n \
         NAMESPACE"
    );
    let other_owner = good.replace(PROVIDER_REF, &format!("owner: '{}'\n  {PROVIDER_REF}", key(9).did()));
    assert!(refused(&owner(), &other_owner).contains("the grant was given to"));
    assert!(
        refused(&owner(), &good.replace("name: web", "generateName: web-")).contains("generateName cannot be signed")
    );
    assert!(refused(&owner(), &good.replace(PROVIDER_REF, "x: y")).contains("providerRef"));
    let late = Signing { now: NOW.plus(Duration::from_hours(2)), ..owner() };
    assert!(refused(&late, &good).contains("expired at 2026-01-01T01:00:00Z"));
    let misspelt = good.replace("  content:", "  onExpirx: Stop\n  content:");
    assert_eq!(
        refused(&owner(), &misspelt),
        "HostingDeployment web was not signed: it has fields that its kind does not: spec.onExpirx (perhaps onExpiry is \
         meant). The API server would drop them, and what is left is not what was signed: correct or remove them"
    );
    let elsewhere = Signing { namespace: Some("other".to_owned()), ..owner() };
    assert!(refused(&elsewhere, &good).contains("/hosting/other/apply/web"));
    assert_eq!(owner().sign_all(&mut stream(PAGE)).unwrap(), []);
}

#[test]
fn items_of_a_list_are_signed_too() {
    let content = format!("{{release: '{}'}}", release_of("x"));
    let items = stream(&format!("{}---\n{PAGE}", deployment(&content)));
    let mut documents = vec![serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items })];
    assert_eq!(owner().sign_all(&mut documents).unwrap().len(), 1);
    assert_eq!(&accepted_signer(&documents[0]["items"][0]), key(2).did());
}

#[test]
fn whatever_is_opened_as_a_list_is_looked_at() {
    let item = &stream(&deployment(&format!("{{release: '{}'}}", release_of("x"))))[0];
    let list = |version: &str, kind: &str, item: &Value| serde_json::json!({ "apiVersion": version, "kind": kind, "items": [item] });
    let ours = |kind: &str, item: &Value| list("hosting.nunet.io/v1alpha1", kind, item);
    let nested = list("v1", "List", &ours("HostingDeploymentList", item));
    assert_eq!(objects(std::iter::once(&nested)).collect::<Vec<_>>(), [item]);
    assert_eq!(odd_list(&nested), None);
    let mut documents = vec![nested.clone()];
    assert_eq!(owner().sign_all(&mut documents).unwrap().len(), 1);
    assert_eq!(&accepted_signer(&documents[0]["items"][0]["items"][0]), key(2).did());
    let text = Stream::parse(nested.to_string()).unwrap().rewritten(&documents).unwrap();
    assert_eq!(stream(&text), documents);

    // kubectl would name the kind by that of the list.
    let mut nameless = item.clone();
    nameless.as_object_mut().unwrap().remove("kind");
    for odd in [
        ours("HostingDeploymentList", &nameless),
        ours("HostingDeployment", item),
        list("v1", "List", &ours("HostingDeploymentList", &nameless)),
    ] {
        assert!(odd_list(&odd).unwrap().contains("its own kind and apiVersion"), "{odd}");
    }
}
