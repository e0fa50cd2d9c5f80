//! From apply to a page that is served, and back.

use dms_operator::controller::clock::wall;
use kube::api::DeleteParams;

use crate::{
    timed::Timed,
    world::{Tenant, creations, fetch, installation, name, page},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_applied_site_is_served_updated_and_deleted() {
    let _timed = Timed::start();
    let installation = installation("deploy", 1, &[], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (files, body) = page();
    let release = tenant.deploy(&name, &files).await;
    let status = tenant.ready(&name).await;
    assert_eq!(status.release.as_deref(), Some(release.as_str()));
    let url = status.url.clone().unwrap();
    assert_eq!(fetch(&url).await, (200, body.clone()));
    let record = status.deployment.clone().unwrap();
    assert_eq!(record.attempt, 1);
    assert_eq!(creations(&installation), 1);
    let accepted = status.accepted_revision.unwrap();
    assert_eq!(accepted.signer, tenant.owner.did().as_str());
    assert!(accepted.not_after.0 > wall().to_timestamp());

    // The ConfigMap alone changes nothing that is served.
    let (other, other_body) = page();
    let other_release = tenant.files(&name, &other).await;
    assert_eq!(fetch(&url).await, (200, body));

    // A signed release does, without a new deployment.
    tenant.apply(&tenant.sign(tenant.object(&name, &other_release))).await.unwrap();
    crate::cluster::eventually("the new page", async || {
        let seen = fetch(&url).await;
        if seen == (200, other_body.clone()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let status = tenant.ready(&name).await;
    assert_eq!(status.deployment, Some(record));
    assert_eq!(creations(&installation), 1);

    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    assert!(reqwest::get(&url).await.is_err(), "nothing listens at {url} any more");
}
