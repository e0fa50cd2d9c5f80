//! What is refused, and that nothing comes of it: neither device nor store hears of the object.

mod cases;
pub mod forging;

use std::{collections::BTreeSet, time::Duration};

use dms_operator::{
    capability::{Reason, Token},
    controller::clock::wall,
    dev::{installation::Installation, wallet::Wallet},
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use self::cases::{Case, FILES, NOT_FROM_A_SPEC, Scene};
use crate::{
    cluster::eventually,
    timed::Timed,
    world::{Before, Tenant, condition, creations, deployments_of, fetch, installation, installation_with, name, page},
};

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
    let denied = Wallet::random().unwrap();
    let terms = json!({"deniedDIDs": [denied.did()]});
    let installation = installation_with("refusals", 1, &["--resync", "1s"], &[], terms).await;
    let scene = {
        let tenant = Tenant::new(&installation).await;
        let release = tenant.files(FILES, &page().0).await;
        Scene { tenant, release }
    };
    let tenant = &scene.tenant;
    let mut cases = scene.cases();
    cases.extend(scene.signed_before().await);
    cases.push(scene.denied(&denied));
    let (revocation, case) = scene.taken_back();
    revoke(tenant, "taken-back", &revocation).await;
    cases.push(case);
    assert_every_reason_but_those_named(&cases);
    let kept: Api<ControllerRevision> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    eventually("no accepted revision is left", async || {
        let kept = kept.list(&ListParams::default()).await.unwrap().items;
        if kept.is_empty() { Ok(()) } else { Err(format!("{kept:?}")) }
    })
    .await;

    let before = Before::now(&installation);
    for case in &cases {
        tenant.apply(&case.object).await.unwrap_or_else(|error| panic!("{}: {error}", case.reason));
    }
    for case in &cases {
        assert_refused(tenant, case).await;
    }
    // Each object was looked at again and again; it is told of once.
    let looks = |text: &str| {
        let line =
            text.lines().find(|line| line.starts_with("dms_operator_reconciles_total{kind=\"HostingDeployment\"}"));
        line.and_then(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok()).unwrap_or_default()
    };
    let text = async || fetch(&format!("{}/metrics", installation.http)).await.1;
    let so_far = looks(&text().await);
    eventually("three more looks at each", async || {
        let looks = looks(&text().await);
        if looks >= so_far + 3 * cases.len() { Ok(()) } else { Err(format!("{looks} after {so_far}")) }
    })
    .await;
    for Case { object, reason, .. } in &cases {
        let told = events(tenant, object["metadata"]["name"].as_str().unwrap(), reason.code()).await;
        assert_eq!(told.len(), 1, "{reason}: {told:?}");
        assert!(told[0].starts_with("Some(\"Warning\") None"), "{told:?}");
    }
    before.assert_only_heartbeats_since(&installation);
    for name in cases.iter().map(|case| case.object["metadata"]["name"].as_str().unwrap()) {
        assert_eq!(deployments_of(&installation, 0, &tenant.namespace, name), [].into());
    }
    assert_eq!(kept.list(&ListParams::default()).await.unwrap().items, []);

    // The same chain and the same files without a fault do reach both.
    let before = puts(&installation);
    let right = scene.right();
    tenant.apply(&right).await.unwrap();
    tenant.ready(right["metadata"]["name"].as_str().unwrap()).await;
    assert_eq!(creations(&installation), 1);
    assert!(puts(&installation) > before);
}

/// A new reason needs a case, or a word on why there is none.
fn assert_every_reason_but_those_named(cases: &[Case]) {
    let covered: BTreeSet<Reason> = cases.iter().map(|case| case.reason).collect();
    let impossible: BTreeSet<Reason> = NOT_FROM_A_SPEC.iter().map(|&(reason, _)| reason).collect();
    let all: BTreeSet<Reason> = Reason::ALL.iter().copied().collect();
    assert_eq!(covered, &all - &impossible);
}

async fn assert_refused(tenant: &Tenant<'_>, Case { object, reason, says }: &Case) {
    let name = object["metadata"]["name"].as_str().unwrap();
    let status = tenant.condition(name, "TokenVerified", "False", reason.code()).await;
    let (_, _, message) = condition(&status, "TokenVerified");
    for part in says {
        assert!(message.contains(part.as_str()), "{reason}: {part:?} is not in {message:?}");
    }
    assert_eq!(condition(&status, "Ready").0, "False", "{reason}");
    assert_eq!(condition(&status, "Ready").1, reason.code());
    assert_eq!(condition(&status, "Stalled").0, "True", "{reason}");
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!((status.deployment, status.accepted_revision, status.url), (None, None, None), "{reason}");
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
    let second = tenant.files(&name, &files).await;
    let signed_at = wall();
    let sign_at = |object: Value, time| {
        let mut object = object;
        tenant.owner.sign(&mut object, &tenant.grant, installation.provider.did(), time).unwrap();
        object
    };
    tenant.apply(&sign_at(tenant.object(&name, &second), signed_at)).await.unwrap();
    let shows = async |body: &str| {
        eventually("the page", async || {
            let seen = fetch(&url).await;
            if seen == (200, body.to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    };
    shows(&body).await;

    // Two specs of one moment: the first that was accepted stands.
    tenant.apply(&sign_at(tenant.object(&name, &first), signed_at)).await.unwrap();
    tenant.condition(&name, "TokenVerified", "False", "SameTimeOtherDigest").await;
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
    let before = Before::now(&installation);
    tenant.apply(&old).await.unwrap();
    let status = tenant.condition(&name, "TokenVerified", "False", "RolledBack").await;
    assert_eq!(status.deployment, None);
    before.assert_only_heartbeats_since(&installation);
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
    tenant.condition(&name, "Ready", "False", "NamespaceNotAllowed").await;
    let before = Before::now(&installation);
    let other = Tenant::new(&installation).await;
    let (files, _) = page();
    other.deploy(&name, &files).await;
    let status = other.condition(&name, "Ready", "False", "NamespaceNotAllowed").await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(status.deployment, None);
    before.assert_only_looks_since(&installation);
    assert_eq!(deployments_of(&installation, 0, &other.namespace, &name), [].into());
    assert_eq!(fetch(&url).await, (200, body));

    // The label is all that was missing.
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(installation.client.clone());
    let label = json!({"metadata": {"labels": {"hosting": "allowed"}}});
    namespaces.patch(&other.namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    other.condition_within(&name, "Ready", "True", "Succeeded", Duration::from_secs(60)).await;
}
