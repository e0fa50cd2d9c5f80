//! What is refused, and that nothing comes of it: neither device nor store hears of the object.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    capability::{Key, Nanos, Token},
    controller::clock::wall,
    dev::{installation::Installation, wallet::Wallet},
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::eventually,
    timed::Timed,
    world::{Tenant, asked, condition, creations, fetch, installation, name, page},
};

/// An object that must be refused, and how.
struct Case {
    object: Value,
    reason: &'static str,
    /// What the sentence must name: the link, or the part, or the next command.
    says: Vec<String>,
}

/// What DMS puts before the bytes of a token that are signed.
const TOKEN_DOMAIN: &str = "dms:token:";
const MINUTE: u64 = 60_000_000_000;

/// A namespace full of objects that must be refused.
struct Scene<'a> {
    tenant: Tenant<'a>,
    release: String,
}

impl Scene<'_> {
    fn installation(&self) -> &Installation {
        self.tenant.installation
    }

    fn grant(&self, owner: &Wallet) -> Token {
        self.installation().grant(owner.did(), &self.tenant.namespace).unwrap()
    }

    fn object(&self, owner: &Wallet) -> Value {
        let name = name();
        self.installation().deployment(&self.tenant.namespace, &name, owner.did(), &self.release, &name)
    }

    /// Signed by `signer` under `grant`, at `time`.
    fn signed(&self, signer: &Wallet, mut object: Value, grant: &Token, time: Nanos) -> Value {
        signer.sign(&mut object, grant, self.installation().provider.did(), time).unwrap();
        object
    }

    fn case(reason: &'static str, object: Value, says: &[&str]) -> Case {
        Case { object, reason, says: says.iter().map(|&part| part.to_owned()).collect() }
    }

    fn grants_that_give_no_right(&self) -> Vec<Case> {
        let provider = self.installation().provider.did();
        let namespace = &self.tenant.namespace;
        let owner = Wallet::random().unwrap();
        let expired = self.installation().provider.grant(owner.did(), namespace, Nanos(wall().0 - MINUTE)).unwrap();
        let stranger = Wallet::random().unwrap();
        let paths = [format!("/hosting/{namespace}/apply")];
        let in_an_hour = Nanos(wall().0 + 60 * MINUTE);
        let foreign = stranger.delegate(owner.did(), Some(provider), &paths, in_an_hour, 3, None).unwrap();
        let other = Wallet::random().unwrap();
        let elsewhere = Nanos(wall().0 + 2 * MINUTE);
        vec![
            Self::case(
                "Expired",
                self.signed(&owner, self.object(&owner), &expired, wall()),
                &["expired at", "kubectl hosting sign"],
            ),
            Self::case(
                "NotAnchored",
                self.signed(&owner, self.object(&owner), &foreign, wall()),
                &["link 1 of 2", stranger.did().as_str(), "kubectl hosting sign --grant"],
            ),
            Self::case(
                "OwnerMismatch",
                self.signed(&owner, self.object(&other), &self.grant(&owner), wall()),
                &["link 1 of 2", other.did().as_str(), "spec.owner"],
            ),
            Self::case(
                "TimeInFuture",
                self.signed(&owner, self.object(&owner), &self.grant(&owner), elsewhere),
                &["ahead of this cluster's clock"],
            ),
        ]
    }

    fn changed_after_signing(&self) -> Vec<Case> {
        let owner = Wallet::random().unwrap();
        let grant = self.grant(&owner);
        let sign = |object| self.signed(&owner, object, &grant, wall());
        let mut other_release = sign(self.object(&owner));
        other_release["spec"]["content"]["release"] = json!(format!("sha256:{}", "7".repeat(64)));
        let mut other_place = sign(self.object(&owner));
        other_place["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": "device-1"}}});
        let mut other_name = sign(self.object(&owner));
        other_name["metadata"]["name"] = json!(name());
        let mut other_namespace = self.object(&owner);
        other_namespace["metadata"]["namespace"] = json!("somewhere-else");
        let elsewhere = self.installation().grant(owner.did(), "somewhere-else").unwrap();
        let mut other_namespace = self.signed(&owner, other_namespace, &elsewhere, wall());
        other_namespace["metadata"]["namespace"] = json!(self.tenant.namespace);
        let mut rubbish = self.object(&owner);
        rubbish["spec"]["authorization"] = json!({"invocation": "bm8gZW52ZWxvcGU="});
        vec![
            Self::case("DigestMismatch", other_release, &["it differs in: content.", "kubectl hosting sign"]),
            Self::case("DigestMismatch", other_place, &["it differs in: placement.", "kubectl hosting sign"]),
            Self::case("WrongBehaviour", other_name, &["kubectl hosting sign -n NAMESPACE"]),
            Self::case("WrongBehaviour", other_namespace, &["kubectl hosting sign -n NAMESPACE"]),
            Self::case("Malformed", rubbish, &["kubectl hosting sign"]),
            Self::case("BadSignature", changed_signature(sign(self.object(&owner))), &["kubectl hosting sign"]),
        ]
    }

    fn chains_that_reach_too_far(&self) -> Vec<Case> {
        let provider = &self.installation().provider;
        let namespace = &self.tenant.namespace;
        let in_an_hour = Nanos(wall().0 + 60 * MINUTE);
        let (owner, pipeline) = (Wallet::random().unwrap(), Wallet::random().unwrap());
        let under = |object: Value, given: &str, to: &str| {
            let given = [format!("/hosting/{namespace}/apply/{given}")];
            let grant = provider.delegate(owner.did(), Some(provider.did()), &given, in_an_hour, 3, None).unwrap();
            let passed =
                owner.delegate(pipeline.did(), Some(provider.did()), &given, in_an_hour, 1, Some(&grant)).unwrap();
            let widened = forged(&passed, &owner.key, &format!("\"{}\"", given[0]), to);
            // What makes tokens here makes none under it, so the invocation is forged as well.
            let mut object = self.signed(&pipeline, object, &self.straight(&owner, &pipeline), wall());
            object["spec"]["authorization"]["invocation"] = json!(reforged(&object, &pipeline.key, &widened));
            object
        };
        // The provider gave one name; the owner passes on all names, and the pipeline uses another one.
        let beyond = under(self.object(&owner), "only-this", &format!("\"/hosting/{namespace}/apply\""));
        // The owner passes on what was not given, and the pipeline does not even use it.
        let object = self.object(&owner);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let more = format!("\"/hosting/{namespace}/apply/{name}\",\"/hosting/{namespace}/read/{name}\"");
        let wider = under(object, &name, &more);
        // The chain is whole, and the provider's grant is for another audience.
        let stranger = Wallet::random().unwrap();
        let paths = [format!("/hosting/{namespace}/apply")];
        let other = provider.delegate(owner.did(), Some(stranger.did()), &paths, in_an_hour, 3, None).unwrap();
        let mut elsewhere = self.object(&owner);
        owner.sign(&mut elsewhere, &other, stranger.did(), wall()).unwrap();
        vec![
            Self::case("CapabilityMissing", beyond, &["link 1 of 3", "apply/only-this", "Ask the issuer"]),
            Self::case("Widened", wider, &["link 2 of 3", "kubectl hosting token delegate"]),
            Self::case("WrongRecipient", elsewhere, &[provider.did().as_str(), "kubectl hosting sign --provider"]),
        ]
    }

    /// A chain that would be right: provider → owner → pipeline.
    fn straight(&self, owner: &Wallet, pipeline: &Wallet) -> Token {
        let grant = self.grant(owner);
        let paths = [format!("/hosting/{}/apply", self.tenant.namespace)];
        let provider = self.installation().provider.did();
        owner.delegate(pipeline.did(), Some(provider), &paths, grant.not_after(), 1, Some(&grant)).unwrap()
    }

    async fn taken_back(&self) -> Case {
        let owner = Wallet::random().unwrap();
        let grant = self.grant(&owner);
        let object = self.signed(&owner, self.object(&owner), &grant, wall());
        let revocation = Token::revoke(&self.installation().provider.key, &grant).unwrap();
        revoke(&self.tenant, "taken-back", &revocation).await;
        Self::case("Revoked", object, &["link 1 of 2", "was revoked by", "Ask the issuer for a new grant"])
    }
}

/// Applies a revocation and waits until it is in force.
async fn revoke(tenant: &Tenant<'_>, name: &str, revocation: &Token) {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "CapabilityRevocation",
        "metadata": {"name": name, "namespace": tenant.namespace},
        "spec": {"token": String::from_utf8(revocation.to_json()).unwrap()},
    }))
    .unwrap();
    let resource = kube::api::ApiResource::erase::<dms_operator::api::CapabilityRevocation>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(tenant.client.clone(), &tenant.namespace, &resource);
    api.patch(name, &PatchParams::apply("tenant").force(), &Patch::Apply(&object)).await.unwrap();
    eventually("the revocation is in force", async || {
        let object = api.get(name).await.unwrap();
        let ready = object.data.pointer("/status/conditions/0/status").and_then(Value::as_str) == Some("True");
        if ready { Ok(()) } else { Err(format!("{:?}", object.data["status"])) }
    })
    .await;
}

/// The token with a part of its text changed, signed again by `key` as DMS signs: over its own JSON without `sig`.
fn forged(token: &Token, key: &Key, from: &str, to: &str) -> Token {
    let text = String::from_utf8(token.to_json()).unwrap();
    let (body, _) = text.rsplit_once(",\"sig\":").unwrap();
    let (own, above) = body.split_once("\"chain\":").unwrap();
    resigned(&format!("{}\"chain\":{above}", own.replace(from, to)), key)
}

/// The token whose JSON begins so, with its signature put at its end.
fn resigned(begin: &str, key: &Key) -> Token {
    let body = begin.strip_prefix("{\"dms\":").unwrap();
    let signature = STANDARD.encode(key.sign(format!("{TOKEN_DOMAIN}{body}}}").as_bytes()));
    Token::parse(format!("{begin},\"sig\":\"{signature}\"}}}}").as_bytes()).unwrap()
}

/// The invocation of an object, with another chain under its token, everything signed again.
fn reforged(object: &Value, key: &Key, chain: &Token) -> String {
    let mut envelope = envelope_of(object);
    let tokens = dms_operator::capability::parse_token_list(&envelope.capabilities).unwrap();
    let text = String::from_utf8(tokens[0].to_json()).unwrap();
    let (own, _) = text.split_once("\"chain\":").unwrap();
    let token = resigned(&format!("{own}\"chain\":{}", String::from_utf8(chain.to_json()).unwrap()), key);
    envelope.capabilities = dms_operator::capability::token_list(&[token]);
    STANDARD.encode(envelope.sign(key).to_json())
}

fn envelope_of(object: &Value) -> dms_operator::capability::Envelope {
    let invocation = object["spec"]["authorization"]["invocation"].as_str().unwrap();
    dms_operator::capability::Envelope::parse(&STANDARD.decode(invocation).unwrap()).unwrap()
}

/// One bit of the envelope's signature is another.
fn changed_signature(mut object: Value) -> Value {
    let mut envelope = envelope_of(&object);
    if let Some(signature) = &mut envelope.signature {
        signature[7] ^= 1;
    }
    object["spec"]["authorization"]["invocation"] = json!(STANDARD.encode(envelope.to_json()));
    object
}

/// The Events about an object with this reason: how often each was seen.
async fn events(tenant: &Tenant<'_>, name: &str, reason: &str) -> Vec<String> {
    let about = tenant.events(name).await.into_iter();
    about
        .filter(|event| event.reason.as_deref() == Some(reason))
        .map(|event| format!("{:?} {:?} {:?}", event.type_, event.series.map(|series| series.count), event.note))
        .collect()
}

fn puts(installation: &Installation) -> usize {
    installation.s3.requests().iter().filter(|request| request.method == "PUT").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_without_right_is_refused_and_reaches_neither_device_nor_store() {
    let _timed = Timed::start();
    let installation = installation("refusals", 1, &["--resync", "1s"], &[]).await;
    let scene = {
        let tenant = Tenant::new(&installation).await;
        let release = tenant.files("unused", &page().0).await;
        Scene { tenant, release }
    };
    let tenant = &scene.tenant;
    let before = puts(&installation);
    let mut cases = scene.grants_that_give_no_right();
    cases.extend(scene.changed_after_signing());
    cases.extend(scene.chains_that_reach_too_far());
    cases.push(scene.taken_back().await);
    for case in &cases {
        tenant.apply(&case.object).await.unwrap_or_else(|error| panic!("{}: {error}", case.reason));
    }
    for Case { object, reason, says } in &cases {
        let name = object["metadata"]["name"].as_str().unwrap();
        let status = tenant.condition(name, "TokenVerified", "False", reason).await;
        let (_, _, message) = condition(&status, "TokenVerified");
        for part in says {
            assert!(message.contains(part.as_str()), "{reason}: {part:?} is not in {message:?}");
        }
        assert_eq!(condition(&status, "Ready").0, "False", "{reason}");
        assert_eq!(condition(&status, "Ready").1, *reason);
        assert_eq!(condition(&status, "Stalled").0, "True", "{reason}");
        assert_eq!(status.observed_generation, Some(1));
        assert_eq!((status.deployment, status.accepted_revision, status.url), (None, None, None), "{reason}");
    }
    // Each object was looked at again and again; it is told of once.
    let looks = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("dms_operator_reconciles_total{kind=\"HostingDeployment\"}"));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).unwrap_or_default()
    };
    eventually("three more looks at each", async || {
        let (_, text) = fetch(&format!("{}/metrics", installation.http)).await;
        let looks = looks(&text);
        if looks >= 4 * cases.len() { Ok(()) } else { Err(looks.to_string()) }
    })
    .await;
    for Case { object, reason, .. } in &cases {
        let told = events(tenant, object["metadata"]["name"].as_str().unwrap(), reason).await;
        assert_eq!(told.len(), 1, "{reason}: {told:?}");
        assert!(told[0].starts_with("Some(\"Warning\") None"), "{told:?}");
    }
    assert_eq!(creations(&installation), 0);
    assert!(!asked(&installation, 0).iter().any(|path| path.contains("shutdown") || path.contains("delete")));
    assert_eq!(puts(&installation), before, "{:?}", installation.s3.requests());
    let kept: Api<ControllerRevision> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    assert_eq!(kept.list(&ListParams::default()).await.unwrap().items, []);
}

/// Changes the provider's spec, as its administrator would.
async fn provider(installation: &Installation, spec: Value) {
    let api: Api<dms_operator::api::HostingProvider> =
        Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    api.patch("default", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_signed_before_does_not_come_back() {
    let _timed = Timed::start();
    let installation = installation("rollback", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (first, _) = page();
    let first_body = first["index.html"].clone();
    let first = tenant.files(&name, &first).await;
    let old = tenant.sign(tenant.object(&name, &first));
    tenant.apply(&old).await.unwrap();
    let url = tenant.ready(&name).await.url.unwrap();
    let (files, body) = page();
    let second = tenant.deploy(&name, &files).await;
    let shows = async |body: &str| {
        eventually("the page", async || {
            let seen = fetch(&url).await;
            if seen == (200, body.to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    shows(&body).await;

    // It was accepted once, and is older than what was accepted since.
    tenant.apply(&old).await.unwrap();
    let status = tenant.condition(&name, "TokenVerified", "False", "RolledBack").await;
    assert_eq!(condition(&status, "Ready").0, "False");
    assert_eq!(status.release, Some(second));
    shows(&body).await;
    // Unless the provider permits it.
    provider(&installation, json!({"policy": {"rollback": "Allow"}})).await;
    shows(&first_body).await;
    tenant.condition(&name, "TokenVerified", "True", "Verified").await;

    // A new object under the same name does not forget either.
    provider(&installation, json!({"policy": {"rollback": "Refuse"}})).await;
    tenant.condition(&name, "TokenVerified", "False", "RolledBack").await;
    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    let made = creations(&installation);
    tenant.apply(&old).await.unwrap();
    let status = tenant.condition(&name, "TokenVerified", "False", "RolledBack").await;
    assert_eq!(status.deployment, None);
    assert_eq!(creations(&installation), made);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_decides_from_where_and_how_openly() {
    let _timed = Timed::start();
    let installation = installation("terms", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (files, body) = page();
    tenant.deploy(&name, &files).await;
    let status = tenant.ready(&name).await;
    let url = status.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body.clone()));

    // Permission that is taken back closes the site; what runs stays, and serves again with the permission.
    provider(&installation, json!({"policy": {"publicAccess": "Refuse"}})).await;
    tenant.condition(&name, "ContentPublished", "False", "PublicAccessRefused").await;
    eventually("the site is closed", async || {
        let (code, text) = fetch(&url).await;
        if code == 403 && text != body { Ok(()) } else { Err(format!("{code} {text}")) }
    })
    .await;
    provider(&installation, json!({"policy": {"publicAccess": "Allow"}})).await;
    tenant.ready(&name).await;
    eventually("the site is open again", async || {
        let seen = fetch(&url).await;
        if seen == (200, body.clone()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;

    // Another namespace than those that are admitted: nothing new, and nothing taken away.
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"hosting": "allowed"}}});
    provider(&installation, json!({"allowedNamespaces": selector})).await;
    let before = (creations(&installation), puts(&installation));
    let other = Tenant::new(&installation).await;
    let (files, _) = page();
    other.deploy(&name, &files).await;
    let status = other.condition(&name, "Ready", "False", "NamespaceNotAllowed").await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(status.deployment, None);
    assert_eq!((creations(&installation), puts(&installation)), before);
    tenant.condition(&name, "Ready", "False", "NamespaceNotAllowed").await;
    assert_eq!(fetch(&url).await, (200, body));

    // The label is all that was missing.
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(installation.client.clone());
    let label = json!({"metadata": {"labels": {"hosting": "allowed"}}});
    namespaces.patch(&other.namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    other.condition_within(&name, "Ready", "True", "Succeeded", Duration::from_secs(60)).await;
}
