//! What is taken back, by an issuer or by the provider: at once, for good, and at nobody else's cost.
//!
//! Everything is looked at again only every ten minutes here, so what happens is caused by the event.

mod limits;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use dms_operator::{
    api::{CapabilityRevocation, HostingProvider},
    capability::{Did, Token},
    controller::{clock::wall, revocation::RevocationBook},
    dev::{installation::Installation, wallet::Wallet},
};
use k8s_openapi::api::{apps::v1::ControllerRevision, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::eventually,
    refusals::forging::{Link, below},
    timed::Timed,
    world::{
        Before, Tenant, condition, creations, deployments_of, ended, events, fetch, installation, installation_with,
        name, page, quiet, sites_running,
    },
};

const SLOW: [&str; 2] = ["--resync", "600s"];
const STAYS: &str = "in force, and stays so when this object is deleted";
const WHILE: &str = "in force while this object exists";

/// What the tenant's owner passes on to another key.
pub struct Pipeline {
    pub wallet: Wallet,
    pub token: Token,
}

impl Pipeline {
    pub fn of(tenant: &Tenant<'_>) -> Self {
        let wallet = Wallet::random().unwrap();
        let paths = [format!("/hosting/{}/apply", tenant.namespace)];
        let (audience, until) = (Some(tenant.installation.provider.did()), tenant.grant.not_after());
        let token = tenant.owner.delegate(wallet.did(), audience, &paths, until, 1, Some(&tenant.grant)).unwrap();
        Self { wallet, token }
    }

    fn sign(&self, tenant: &Tenant<'_>, mut object: Value) -> Value {
        self.wallet.sign(&mut object, &self.token, tenant.installation.provider.did(), wall()).unwrap();
        object
    }

    /// Files, object, signature, apply; the object says `onExpiry: Keep`.
    pub async fn deploy(&self, tenant: &Tenant<'_>, name: &str, files: &BTreeMap<String, String>) -> String {
        let release = tenant.files(name, files).await;
        let mut object = tenant.object(name, &release);
        object["spec"]["onExpiry"] = json!("Keep");
        tenant.apply(&self.sign(tenant, object)).await.unwrap();
        release
    }
}

fn revocations(tenant: &Tenant<'_>) -> Api<CapabilityRevocation> {
    Api::namespaced(tenant.client.clone(), &tenant.namespace)
}

/// Creates a revocation in the tenant's namespace, and gives its name.
async fn create(tenant: &Tenant<'_>, token: &str) -> String {
    let name = name();
    let object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "CapabilityRevocation",
        "metadata": {"name": name}, "spec": {"token": token},
    });
    revocations(tenant).patch(&name, &PatchParams::apply("tenant").force(), &Patch::Apply(object)).await.unwrap();
    name
}

async fn revoke(tenant: &Tenant<'_>, issuer: &Wallet, token: &Token) -> String {
    create(tenant, &text(&Token::revoke(&issuer.key, token).unwrap())).await
}

pub fn text(token: &Token) -> String {
    String::from_utf8(token.to_json()).unwrap()
}

/// Waits until a revocation says something: status, reason and message of its condition `Ready`.
async fn says(tenant: &Tenant<'_>, name: &str, status: &str, reason: &str, message: &str) {
    eventually(&format!("{name} is {status}/{reason}: {message}"), async || {
        let found = revocations(tenant).get(name).await.unwrap().status.unwrap_or_default().conditions;
        let ready = found.iter().find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == status && ready.reason == reason && ready.message.contains(message) => {
                Ok(())
            }
            other => Err(format!("{other:?}\noperator:\n{}", tenant.installation.operator.log_end())),
        }
    })
    .await;
}

/// The copies of revocations in the operator's namespace.
pub async fn copies(installation: &Installation) -> Vec<ConfigMap> {
    let api: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    api.list(&ListParams::default().labels("hosting.nunet.io/component=revocation")).await.unwrap().items
}

pub async fn shows(url: &str, body: &str) {
    eventually("the page", async || {
        let seen = fetch(url).await;
        if seen == (200, body.to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

async fn deny(installation: &Installation, denied: &[&Did]) {
    let denied: Vec<&str> = denied.iter().map(|did| did.as_str()).collect();
    let api: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let patch = Patch::Merge(json!({"spec": {"deniedDIDs": denied}}));
    api.patch("default", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_keys_change_is_rolled_back_at_once_and_for_good() {
    let _timed = Timed::start();
    let mut installation = installation("rolled-back", 1, &SLOW, &[]).await;
    let (name, (first, old), (second, new)) = (name(), page(), page());
    let (seat, pipeline, url) = {
        let tenant = Tenant::new(&installation).await;
        let pipeline = Pipeline::of(&tenant);
        let release = tenant.deploy(&name, &first).await;
        let before = tenant.ready(&name).await;
        let url = before.url.clone().unwrap();
        pipeline.deploy(&tenant, &name, &second).await;
        shows(&url, &new).await;
        quiet(&installation).await;

        let started = Instant::now();
        let revocation = revoke(&tenant, &tenant.owner, &pipeline.token).await;
        shows(&url, &old).await;
        let took = started.elapsed();
        eprintln!("restored {} ms after the revocation was sent", took.as_millis());
        assert!(took < Duration::from_secs(30), "{took:?}");

        let status = tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
        let link = format!("because link 2 of 3: {} → {} was revoked", tenant.owner.did(), pipeline.wallet.did());
        let restored = format!("signed by {}, with release {release}, {link}", tenant.owner.did());
        for kind in ["TokenVerified", "Ready", "Stalled"] {
            let message = condition(&status, kind).2;
            assert!(message.starts_with("restored revision of ") && message.contains(&restored), "{kind}: {message}");
        }
        assert_eq!(status.accepted_revision.unwrap().signer, tenant.owner.did().as_str());
        assert_eq!(status.deployment, before.deployment, "the same deployment serves it");
        let told = tenant.events(&name).await;
        let told: Vec<_> = told.iter().filter(|event| event.reason.as_deref() == Some("Revoked")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].note.as_ref().unwrap().contains(&restored), "{told:?}");

        // It was used, so it outlives its object, in the number of its namespace.
        says(&tenant, &revocation, "True", "Succeeded", STAYS).await;
        let copies = copies(&installation).await;
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].data.as_ref().unwrap()["namespace"], tenant.namespace);
        let until = &copies[0].annotations()["hosting.nunet.io/token-expires-nanos"];
        assert_eq!(*until, pipeline.token.expires().0.to_string());
        revocations(&tenant).delete(&revocation, &DeleteParams::default()).await.unwrap();
        (tenant.seat(), pipeline, url)
    };
    installation.operator.restart().unwrap();
    let tenant = seat.at(&installation);
    let (third, _) = page();
    pipeline.deploy(&tenant, &name, &third).await;
    eventually("the third is refused, which never was accepted", async || {
        let status = tenant.status(&name).await;
        let (_, reason, message) = condition(&status, "Ready");
        let refused = reason == "Revoked" && message.contains("What was accepted before goes on");
        if refused { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    assert_eq!((fetch(&url).await, creations(&installation)), ((200, old), 1));
}

/// Also what is kept after its expiry: there is nothing to fall back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_stopped_although_its_spec_says_keep() {
    let _timed = Timed::start();
    let installation = installation("keep-revoked", 1, &SLOW, &[]).await;
    let mut tenant = Tenant::new(&installation).await;
    let (name, until) = (name(), wall().plus(Duration::from_secs(20)));
    tenant.grant = installation.provider.grant(tenant.owner.did(), &tenant.namespace, until).unwrap();
    let (files, body) = page();
    let pipeline = Pipeline::of(&tenant);
    pipeline.deploy(&tenant, &name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    tenant.condition(&name, "TokenVerified", "False", "Expired").await;
    assert_eq!(fetch(&url).await, (200, body), "it is kept");

    revoke(&tenant, &tenant.owner, &pipeline.token).await;
    ended(&url).await;
    let status = tenant.condition(&name, "Deployed", "False", "Stopped").await;
    let (value, reason, message) = condition(&status, "TokenVerified");
    assert_eq!((value, reason), ("False", "Revoked"));
    assert!(message.starts_with("stopped, as nothing accepted before holds, because link 2 of 3"), "{message}");
    assert_eq!((status.url, status.release), (None, None));
    eventually("nothing runs", async || match sites_running(&installation, 0) {
        0 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    assert_eq!(creations(&installation), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_revoked_while_nobody_worked_counts_before_anything_is_judged() {
    let _timed = Timed::start();
    let mut installation = installation("down", 1, &SLOW, &[]).await;
    installation.operator.kill9().unwrap();
    let name = name();
    let seat = {
        let tenant = Tenant::new(&installation).await;
        let pipeline = Pipeline::of(&tenant);
        pipeline.deploy(&tenant, &name, &page().0).await;
        revoke(&tenant, &tenant.owner, &pipeline.token).await;
        // What is read before any driver runs.
        let (book, anchor) = (RevocationBook::default(), installation.provider.did());
        let namespace = &installation.plan.namespace;
        assert!(!book.revoked(&pipeline.token.revocation_key()));
        dms_operator::controller::revocation::load(&book, &tenant.client, namespace, anchor, wall()).await.unwrap();
        assert!(book.revoked(&pipeline.token.revocation_key()) && book.epoch() > 0);
        assert!(!book.revoked(&tenant.grant.revocation_key()));
        tenant.seat()
    };
    installation.operator.restart().unwrap();
    let tenant = seat.at(&installation);
    tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
    let kept: Api<ControllerRevision> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    assert_eq!(kept.list(&ListParams::default()).await.unwrap().items, []);
    assert!(tenant.events(&name).await.iter().all(|event| event.reason.as_deref() != Some("Verified")));
    assert_eq!(creations(&installation), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_provider_denies_has_no_right_and_none_left() {
    let _timed = Timed::start();
    let installation = installation_with("denied", 1, &SLOW, &[], json!({"policy": {"publicAccess": "Allow"}})).await;
    let tenant = Tenant::new(&installation).await;
    let pipeline = Pipeline::of(&tenant);
    let (name, (first, old), (second, new)) = (name(), page(), page());
    tenant.deploy(&name, &first).await;
    let url = tenant.ready(&name).await.url.unwrap();
    pipeline.deploy(&tenant, &name, &second).await;
    shows(&url, &new).await;

    deny(&installation, &[pipeline.wallet.did()]).await;
    shows(&url, &old).await;
    let status = tenant.condition(&name, "TokenVerified", "False", "Denied").await;
    let message = condition(&status, "Ready").2;
    let link = format!("because link 2 of 3: {} → {} names", tenant.owner.did(), pipeline.wallet.did());
    assert!(message.starts_with("restored revision of ") && message.contains(&link), "{message}");

    // Without right from the start: the link is named, and nobody hears of it.
    let before = Before::now(&installation);
    let refused = crate::world::name();
    pipeline.deploy(&tenant, &refused, &page().0).await;
    let status = tenant.condition(&refused, "TokenVerified", "False", "Denied").await;
    assert!(condition(&status, "Ready").2.starts_with("link 2 of 3"), "{status:?}");
    assert_eq!((status.deployment, status.accepted_revision, status.url), (None, None, None));
    before.assert_only_looks_since(&installation);
    assert_eq!(deployments_of(&installation, 0, &tenant.namespace, &refused), [].into());

    // Nothing is forgotten by it: without the denial it is as it was.
    deny(&installation, &[]).await;
    shows(&url, &new).await;
    tenant.condition(&name, "TokenVerified", "True", "Verified").await;
    tenant.api().delete(&refused, &DeleteParams::default()).await.unwrap();
    tenant.gone(&refused).await;

    // The owner stands in every chain, so nothing is left; the spec says `onExpiry: Keep`.
    deny(&installation, &[tenant.owner.did()]).await;
    ended(&url).await;
    let status = tenant.condition(&name, "Deployed", "False", "Stopped").await;
    let (_, reason, message) = condition(&status, "TokenVerified");
    assert_eq!(reason, "Denied");
    let link = format!("link 1 of 3: {} → {}", installation.provider.did(), tenant.owner.did());
    assert!(message.starts_with("stopped, ") && message.contains(&link), "{message}");

    // To deny oneself would end everything: the terms before stand, and it is said.
    let providers: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    deny(&installation, &[installation.provider.did()]).await;
    eventually("the provider says so", async || {
        let status = providers.get("default").await.unwrap().status.unwrap_or_default();
        let found = status.conditions.iter().find(|condition| condition.type_ == "Stalled");
        match found {
            Some(stalled) if stalled.message.contains("is this provider itself") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_its_issuer_did_not_sign_changes_nothing() {
    let _timed = Timed::start();
    // Operators of other tests tell of it too.
    let instance = name();
    let installation = installation("not-its-issuer", 1, &SLOW, &[("HOSTNAME", &instance)]).await;
    let tenant = Tenant::new(&installation).await;
    let (name, (files, body)) = (name(), page());
    tenant.deploy(&name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    let (before, thief) = (Before::now(&installation), Wallet::random().unwrap());

    // What the provider would sign, signed by another; and what is no revocation at all.
    let genuine = Token::revoke(&installation.provider.key, &tenant.grant).unwrap();
    let forged = create(&tenant, &Link::of(&genuine).signed_by(&thief.key).text()).await;
    says(&tenant, &forged, "False", "RevocationRefused", "was not signed by").await;
    let grant = create(&tenant, &text(&tenant.grant)).await;
    says(&tenant, &grant, "False", "RevocationRefused", "not to revoke").await;
    for refused in [&forged, &grant] {
        let told = events(&tenant.client, &tenant.namespace, refused).await;
        let own = told.iter().filter(|event| event.reporting_instance.as_ref() == Some(&instance));
        let own: Vec<_> = own.map(|event| (event.reason.as_deref(), event.type_.as_deref())).collect();
        assert!(own.len() <= 1 && !told.is_empty(), "{told:?}");
        assert!(own.iter().all(|told| *told == (Some("RevocationRefused"), Some("Warning"))), "{told:?}");
    }
    before.assert_only_looks_since(&installation);
    assert_eq!(fetch(&url).await, (200, body));
    // It is judged anew, and holds.
    let (second, _) = page();
    let release = tenant.deploy(&name, &second).await;
    eventually("the next release", async || {
        let now = tenant.status(&name).await.release;
        if now.as_ref() == Some(&release) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    assert_eq!(copies(&installation).await, []);
}
