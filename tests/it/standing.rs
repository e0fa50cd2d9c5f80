//! The right of what runs is judged whatever else stands in the way: a withdrawn namespace, a suspension, a provider that
//! is gone, a store that is away, a device that is another one.

use std::time::Duration;

use dms_operator::{
    api::{HostingProvider, names::ANNOTATION_REQUESTED_AT},
    capability::Nanos,
    controller::clock::wall,
    dev::installation::Installation,
};
use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PropagationPolicy},
};
use serde_json::{Value, json};

use crate::{
    cluster::{eventually, shared},
    timed::Timed,
    world::{
        Tenant, condition, creations, device_says, ended, fetch, installation, misbehave, name, page, sites_running,
    },
};

const QUICK: [&str; 2] = ["--resync", "1s"];

fn providers(installation: &Installation) -> Api<HostingProvider> {
    Api::namespaced(installation.client.clone(), &installation.plan.namespace)
}

async fn annotate(tenant: &Tenant<'_>, name: &str, annotations: Value) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    tenant.api().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// The annotation is not signed, so it must not outlast the right.
#[tokio::test(flavor = "multi_thread")]
async fn neither_suspension_nor_a_withdrawn_namespace_outlasts_the_right() {
    let _timed = Timed::start();
    let installation = installation("outlast", 1, &QUICK, &[]).await;
    let (held, withdrawn) = (Tenant::new(&installation).await, Tenant::new(&installation).await);
    let (first, second, gone) = (name(), name(), name());
    let (files, body) = page();
    for (tenant, name) in [(&held, &first), (&withdrawn, &second), (&held, &gone)] {
        tenant.deploy(name, &files).await;
        tenant.ready(name).await;
    }
    let suspend = json!({"hosting.nunet.io/suspend": "true"});
    annotate(&held, &first, suspend.clone()).await;
    annotate(&held, &gone, suspend).await;
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"nobody": "carries"}}});
    let patch = Patch::Merge(json!({"spec": {"allowedNamespaces": selector}}));
    providers(&installation).patch("default", &PatchParams::default(), &patch).await.unwrap();
    let status = withdrawn.condition(&second, "Ready", "False", "NamespaceNotAllowed").await;
    assert_eq!(condition(&status, "TokenVerified").0, "True");
    let urls = [status.url.unwrap(), held.status(&first).await.url.unwrap()];
    for url in &urls {
        assert_eq!(fetch(url).await, (200, body.clone()));
    }

    // A suspended object can be deleted.
    held.api().delete(&gone, &DeleteParams::default()).await.unwrap();
    held.gone(&gone).await;

    held.revoke().await;
    withdrawn.revoke().await;
    for (tenant, name, url) in [(&held, &first, &urls[1]), (&withdrawn, &second, &urls[0])] {
        ended(url).await;
        tenant.condition(name, "TokenVerified", "False", "Revoked").await;
        tenant.condition(name, "Deployed", "False", "Stopped").await;
    }
    assert_eq!((sites_running(&installation, 0), creations(&installation)), (0, 3));
}

/// Nothing new is taken for a provider that is gone, and what it granted can still be taken back.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_provider_admits_nothing_new() {
    let _timed = Timed::start();
    let installation = installation("deleted", 1, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (runs, late) = (name(), name());
    let (files, body) = page();
    tenant.deploy(&runs, &files).await;
    let url = tenant.ready(&runs).await.url.unwrap();
    let puts = || installation.s3.requests().iter().filter(|request| request.method == "PUT").count();
    let before = puts();
    providers(&installation).delete("default", &DeleteParams::default()).await.unwrap();
    tenant.condition(&runs, "Ready", "False", "ProviderNotReady").await;
    tenant.deploy(&late, &page().0).await;
    let status = tenant.condition(&late, "Ready", "False", "ProviderNotReady").await;
    assert_eq!((status.deployment, puts(), creations(&installation)), (None, before, 1));
    assert_eq!(fetch(&url).await, (200, body));
    tenant.revoke().await;
    ended(&url).await;
    tenant.condition(&runs, "Deployed", "False", "Stopped").await;
}

/// The operator starts while the store is away: verdicts, devices and conditions do not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_at_the_start_is_waited_for() {
    let _timed = Timed::start();
    let mut installation = installation("store-away", 1, &QUICK, &[]).await;
    let (runs, late) = (name(), name());
    let (seat, before) = {
        let tenant = Tenant::new(&installation).await;
        tenant.deploy(&runs, &page().0).await;
        (tenant.seat(), tenant.ready(&runs).await)
    };
    installation.s3.stop();
    installation.operator.restart().unwrap();
    let tenant = seat.at(&installation);
    let status = tenant.condition(&runs, "ContentPublished", "False", "StorageUnavailable").await;
    assert_eq!((&status.deployment, &status.url), (&before.deployment, &before.url));
    assert_eq!((condition(&status, "TokenVerified").0, condition(&status, "Ready").1), ("True", "StorageUnavailable"));
    tenant.deploy(&late, &page().0).await;
    let status = tenant.condition(&late, "ContentPublished", "False", "StorageUnavailable").await;
    assert_eq!(status.deployment, None);
    let seat = tenant.seat();
    installation.s3.resume().await.unwrap();
    let tenant = seat.at(&installation);
    assert_eq!(tenant.ready(&runs).await.deployment, before.deployment);
    tenant.ready(&late).await;
    assert_eq!(creations(&installation), 2);
}

/// What is whole in one bucket is not whole in another.
#[tokio::test(flavor = "multi_thread")]
async fn another_bucket_is_filled_anew() {
    let _timed = Timed::start();
    let installation = installation("bucket", 1, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    tenant.deploy(&name, &page().0).await;
    tenant.ready(&name).await;
    let bucket = crate::world::name();
    let patch = Patch::Merge(json!({"spec": {"storage": {"s3": {"bucket": bucket}}}}));
    providers(&installation).patch("default", &PatchParams::default(), &patch).await.unwrap();
    eventually("the files are in the other bucket", async || {
        let found = |part: &str| {
            let all = installation.s3.requests();
            all.iter().any(|request| {
                request.method == "PUT"
                    && request.path.starts_with(&format!("/{bucket}/"))
                    && request.path.contains(part)
            })
        };
        if found("/blobs/") && found("/releases/") { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    tenant.ready(&name).await;
}

/// A HostingDevice of the same name may be another node, and its list says nothing of the first one.
#[tokio::test(flavor = "multi_thread")]
async fn another_node_under_the_same_name_proves_nothing() {
    let _timed = Timed::start();
    let installation = installation("renamed", 2, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let release = tenant.files(&name, &page().0).await;
    let mut object = tenant.object(&name, &release);
    object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": "device-1"}}});
    tenant.apply(&tenant.sign(object)).await.unwrap();
    let before = tenant.ready(&name).await;
    let resource = kube::api::ApiResource::erase::<dms_operator::api::HostingDevice>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(installation.client.clone(), &installation.plan.namespace, &resource);
    // What the first said of itself is no fault of the next.
    misbehave(&installation, 0, "foreign-peer");
    let at_once = json!({"metadata": {"annotations": {ANNOTATION_REQUESTED_AT: wall().to_timestamp().to_string()}}});
    api.patch("device-1", &PatchParams::default(), &Patch::Merge(at_once)).await.unwrap();
    let (_, first) = device_says(&installation, "device-1", ("Credible", "False", "DeviceContradicts")).await;
    misbehave(&installation, 0, "");
    let specs = [api.get("device-1").await.unwrap().data, api.get("device-2").await.unwrap().data];
    let replace = async |spec: &Value| {
        api.delete("device-1", &DeleteParams::default()).await.unwrap();
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
            "metadata": {"name": "device-1", "labels": {"device": "device-1"}}, "spec": spec["spec"],
        }))
        .unwrap();
        api.patch("device-1", &PatchParams::apply("tenant").force(), &Patch::Apply(&object)).await.unwrap();
    };
    replace(&specs[1]).await;
    let (_, second) = device_says(&installation, "device-1", ("Credible", "True", "Consistent")).await;
    let (_, same) = device_says(&installation, "device-2", ("Ready", "True", "Succeeded")).await;
    assert!(second.sentinel != first.sentinel && second.sentinel == same.sentinel, "{second:#?}");
    let status = tenant.condition(&name, "Ready", "False", "DeviceNotFound").await;
    assert_eq!(status.deployment, before.deployment);
    let other = crate::world::name();
    let mut object = tenant.object(&other, &release);
    object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": "device-1"}}});
    object["spec"]["content"]["from"]["configMap"]["name"] = json!(name);
    tenant.apply(&tenant.sign(object)).await.unwrap();
    assert_eq!(tenant.ready(&other).await.deployment.unwrap().device, "device-1");
    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("it says why the deletion waits", async || {
        let status = tenant.status(&name).await;
        let message = condition(&status, "Ready").2;
        if message.contains("another node now") && message.contains("Abandon") {
            Ok(())
        } else {
            Err(message.to_owned())
        }
    })
    .await;
    // It runs on, and shows nothing any more: the site hears of the deletion over its own way.
    eventually("the page is closed", async || match fetch(before.url.as_ref().unwrap()).await.0 {
        403 => Ok(()),
        other => Err(other.to_string()),
    })
    .await;
    assert_eq!((sites_running(&installation, 0), sites_running(&installation, 1), creations(&installation)), (1, 1, 2));
    replace(&specs[0]).await;
    tenant.gone(&name).await;
    assert_eq!(sites_running(&installation, 0), 0);
}

/// Deleting in the foreground takes the kept revisions away before the object; what was accepted bounds a replay all the
/// same. And an object made anew keeps revisions of its own.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_made_anew_is_bound_by_what_was_accepted_and_keeps_its_own() {
    let _timed = Timed::start();
    let installation = installation("anew", 1, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (first, second) = (page().0, page().0);
    let release = tenant.files(&name, &first).await;
    let old = tenant.sign(tenant.object(&name, &release));
    tenant.apply(&old).await.unwrap();
    tenant.ready(&name).await;
    let release = tenant.files(&name, &second).await;
    let new = tenant.sign(tenant.object(&name, &release));
    tenant.apply(&new).await.unwrap();
    tenant.condition(&name, "Ready", "True", "Succeeded").await;
    eventually("the second is accepted", async || {
        let status = tenant.status(&name).await;
        if status.release.as_deref() == Some(&*release) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;

    let foreground =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    tenant.api().delete(&name, &foreground).await.unwrap();
    tenant.gone(&name).await;
    tenant.apply(&old).await.unwrap();
    tenant.condition(&name, "TokenVerified", "False", "RolledBack").await;
    tenant.apply(&new).await.unwrap();
    tenant.ready(&name).await;

    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    tenant.apply(&new).await.unwrap();
    tenant.ready(&name).await;
    let uid = tenant.get(&name).await.unwrap().uid().unwrap();
    let kept: Api<ControllerRevision> = Api::namespaced(tenant.client.clone(), &tenant.namespace);
    let own = ListParams::default().labels(&format!("hosting.nunet.io/uid={uid}"));
    eventually("the revision of the new object, and of no other", async || {
        let all = kept.list(&ListParams::default()).await.unwrap().items;
        let own = kept.list(&own).await.unwrap().items;
        if own.len() == 1 && all.len() == 1 { Ok(()) } else { Err(format!("{} of {}", own.len(), all.len())) }
    })
    .await;
}

/// A device that is off causes no writes once it was reported.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_off_is_reported_once() {
    let _timed = Timed::start();
    let installation = installation("off", 1, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let names = [name(), name(), name()];
    for name in &names {
        tenant.deploy(name, &page().0).await;
        tenant.ready(name).await;
    }
    installation.devices[0].process.kill9().unwrap();
    for name in &names {
        tenant.condition(name, "DeviceReachable", "Unknown", "DeviceSilent").await;
    }
    let operator = format!("system:serviceaccount:{}:dms-operator", installation.plan.namespace);
    let written = async || {
        let audit = shared().await.audit().writes(|record| record.user == operator).unwrap();
        audit.into_iter().filter(|record| record.group == "hosting.nunet.io").count()
    };
    // The words may change twice: when calls fail, and when only heartbeats are made.
    let mut last = (written().await, wall());
    eventually("ten seconds without a write", async || {
        let now = (written().await, wall());
        if now.0 != last.0 {
            last = now;
        }
        let quiet = Duration::from_nanos(Nanos(now.1.0).0 - last.1.0);
        if quiet >= Duration::from_secs(10) { Ok(()) } else { Err(format!("{} writes, {quiet:?}", now.0)) }
    })
    .await;
}
