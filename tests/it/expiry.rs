//! What happens when the right to host ends by itself, or is taken back.

use std::time::Duration;

use dms_operator::{capability::Nanos, controller::clock::wall, dev::installation::Installation};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt as _, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    cluster::eventually,
    timed::Timed,
    world::{Tenant, asked, creations, ended, fetch, installation_with, name, page, sites_running},
};

const SECOND: u64 = 1_000_000_000;
/// Long enough for three objects to become Ready beside three other tests, short enough to wait for.
const LIFE: u64 = 40;
const GRACE: u64 = 4;

fn stops(installation: &Installation) -> usize {
    asked(installation, 0).iter().filter(|path| path.ends_with("/deployment/shutdown")).count()
}

/// Signed under a grant that ends at `until`.
fn signed(tenant: &Tenant<'_>, mut object: Value, until: Nanos) -> Value {
    let provider = &tenant.installation.provider;
    let grant = provider.grant(tenant.owner.did(), &tenant.namespace, until).unwrap();
    tenant.owner.sign(&mut object, &grant, provider.did(), wall()).unwrap();
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_work_ends_as_its_spec_says() {
    let _timed = Timed::start();
    let terms = json!({
        "policy": {"keepExpiredFor": format!("{GRACE}s")},
        "content": {"retainAfterDelete": "30h"},
    });
    let installation = installation_with("expiry", 1, &["--resync", "60s"], &[], terms).await;
    let tenant = Tenant::new(&installation).await;
    futures::join!(stopped(&tenant), kept_for_a_while(&tenant), renewed(&tenant));
    eventually("one of three still runs", async || match sites_running(&installation, 0) {
        1 => Ok(()),
        count => Err(count.to_string()),
    })
    .await;
    // One more was made and deleted on the way.
    assert_eq!((creations(&installation), stops(&installation)), (4, 3));
}

/// `onExpiry: Stop`: at the grant's end and not before.
async fn stopped(tenant: &Tenant<'_>) {
    let name = name();
    let release = tenant.files(&name, &page().0).await;
    let until = wall().plus(Duration::from_secs(LIFE));
    let mut object = tenant.object(&name, &release);
    object["spec"]["onExpiry"] = json!("Stop");
    tenant.apply(&signed(tenant, object, until)).await.unwrap();
    let status = tenant.ready(&name).await;
    assert_eq!(status.accepted_revision.unwrap().not_after.0.as_second(), until.to_timestamp().as_second());
    let end = ended(&status.url.unwrap()).await;
    assert!(end >= until, "it ended {} ns early", until.0.saturating_sub(end.0));
    assert!(end.0 < until.0 + 20 * SECOND, "it ended {} s late", (end.0 - until.0) / SECOND);
    let status = tenant.condition(&name, "TokenVerified", "False", "Expired").await;
    assert_eq!(status.conditions[0].status, "False");
    let status = tenant.condition(&name, "Deployed", "False", "Stopped").await;
    assert_eq!((status.url, status.release), (None, None));
}

/// Without `onExpiry` it is kept, for as long as the provider keeps expired work.
async fn kept_for_a_while(tenant: &Tenant<'_>) {
    let name = name();
    let release = tenant.files(&name, &page().0).await;
    let until = wall().plus(Duration::from_secs(LIFE));
    tenant.apply(&signed(tenant, tenant.object(&name, &release), until)).await.unwrap();
    let url = tenant.ready(&name).await.url.unwrap();
    tenant.condition(&name, "TokenVerified", "False", "Expired").await;
    let end = ended(&url).await;
    let kept = until.plus(Duration::from_secs(GRACE));
    assert!(end >= kept, "it ended {} ns early", kept.0.saturating_sub(end.0));
    tenant.condition(&name, "Deployed", "False", "Stopped").await;
}

/// A new envelope over the same spec: nothing is started anew, and nothing is interrupted.
async fn renewed(tenant: &Tenant<'_>) {
    let name = name();
    let (files, body) = page();
    let release = tenant.files(&name, &files).await;
    let mut object = tenant.object(&name, &release);
    object["spec"]["onExpiry"] = json!("Stop");
    let until = wall().plus(Duration::from_secs(LIFE));
    tenant.apply(&signed(tenant, object.clone(), until)).await.unwrap();
    let before = tenant.ready(&name).await;
    let later = until.plus(Duration::from_hours(1));
    tenant.apply(&signed(tenant, object, later)).await.unwrap();
    eventually("the renewal is accepted", async || {
        let accepted = tenant.status(&name).await.accepted_revision.unwrap();
        if accepted.not_after.0.as_second() == later.to_timestamp().as_second() {
            Ok(())
        } else {
            Err(format!("{accepted:?}"))
        }
    })
    .await;
    let url = before.url.clone().unwrap();
    let past = until.plus(Duration::from_secs(GRACE));
    while wall() < past {
        assert_eq!(fetch(&url).await, (200, body.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let after = tenant.ready(&name).await;
    assert_eq!((after.deployment, after.url, after.release), (before.deployment, before.url, before.release));

    // What it leaves is kept for as long as the provider says, from its deletion on.
    tenant.deploy("left", &files).await;
    tenant.ready("left").await;
    let left = tenant.get("left").await.unwrap().uid().unwrap();
    let deleted = wall();
    tenant.api().delete("left", &DeleteParams::default()).await.unwrap();
    tenant.gone("left").await;
    let kept: Api<ConfigMap> = Api::namespaced(tenant.client.clone(), &tenant.installation.plan.namespace);
    let tombstone = kept.get(&format!("dms-operator-tombstone-{left}")).await.unwrap().data.unwrap();
    let kept_until: jiff::Timestamp = tombstone["keptUntil"].parse().unwrap();
    let seconds = kept_until.as_second() - deleted.to_timestamp().as_second();
    assert!((seconds - 30 * 3600).abs() < 60, "{seconds}");
    assert_eq!(tombstone["releases"], release);
}

/// A revocation stops what rests on it at once, also with `onExpiry: Keep`, and the object's own end does not bring it
/// back.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_stops_and_stays_stopped() {
    let _timed = Timed::start();
    let installation = installation_with("revoked", 1, &["--resync", "60s"], &[], json!({})).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    tenant.deploy(&name, &page().0).await;
    let url = tenant.ready(&name).await.url.unwrap();
    let (revocations, revocation) = tenant.revoke().await;
    ended(&url).await;
    tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
    tenant.condition(&name, "Deployed", "False", "Stopped").await;
    assert_eq!(sites_running(&installation, 0), 0);

    revocations.delete(&revocation, &DeleteParams::default()).await.unwrap();
    tenant.apply(&tenant.sign(tenant.object(&name, &crate::world::release_of(&page().0)))).await.unwrap();
    eventually("the new spec is judged", async || {
        let status = tenant.status(&name).await;
        let generation = tenant.get(&name).await.unwrap().metadata.generation;
        if status.observed_generation == generation { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
    assert_eq!(creations(&installation), 1);
}
