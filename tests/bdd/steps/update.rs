//! Changes of what is served.

use cucumber::{given, then, when};

use super::apply::{served, sign_and_apply, sign_and_apply_by_pipeline};
use super::documents;
use crate::{
    cluster::eventually,
    stage::{Page, Stage},
};

#[when("the owner signs and applies an update to another page")]
async fn update(stage: &mut Stage) {
    change_to(stage, &stage.other.clone()).await;
}

#[when("the owner signs and applies an update back to the page")]
async fn update_back(stage: &mut Stage) {
    change_to(stage, &stage.page.clone()).await;
}

async fn change_to(stage: &mut Stage, page: &Page) {
    let name = stage.served().name.clone();
    let objects = stage.site(&name, page);
    sign_and_apply(stage, &name, &objects).await;
}

#[when("the pipeline signs and applies an update to another page")]
async fn update_by_pipeline(stage: &mut Stage) {
    let name = stage.served().name.clone();
    let objects = stage.site(&name, &stage.other);
    sign_and_apply_by_pipeline(stage, &name, &objects).await;
}

#[given("the owner's update to another page is served")]
async fn updated(stage: &mut Stage) {
    update(stage).await;
    the_other_page(stage).await;
}

#[when("the first signed deployment is applied again")]
async fn first_again(stage: &mut Stage) {
    let first = stage.first.clone().unwrap();
    stage.applying(&first.name, &first.text);
    stage.owner().apply(&first.text).await.done();
}

#[when("other files are put in the place of the page")]
async fn files_alone(stage: &mut Stage) {
    let name = stage.served().name.clone();
    let files = stage.files(&name, &stage.other).to_string();
    stage.owner().apply(&files).await.done();
    // The operator has looked at it since.
    let passes = "dms_operator_reconciles_total{kind=\"HostingDeployment\"}";
    let count = async || {
        let (_, text) = crate::world::fetch(&format!("{}/metrics", stage.installation().http)).await;
        text.lines().find_map(|line| line.strip_prefix(passes)?.trim().parse::<u64>().ok()).unwrap_or_default()
    };
    let before = count().await;
    eventually("it is looked at", async || match count().await {
        now if now > before + 20 => Ok(()),
        now => Err(now.to_string()),
    })
    .await;
}

#[when("the owner signs and applies an update whose files are not there")]
async fn without_files(stage: &mut Stage) {
    let name = stage.served().name.clone();
    let objects = stage.site(&name, &stage.other);
    let text = stage.owner().sign(&objects, stage.grant.as_deref()).await;
    let object = documents(&text).pop().unwrap().to_string();
    stage.applying(&name, &object);
    stage.owner().apply(&object).await.done();
}

/// The page is served at the same address by the same deployment.
async fn from_the_same(stage: &mut Stage, page: &Page) {
    let before = stage.served().clone();
    served(stage, page).await;
    let after = stage.served();
    assert_eq!((&after.url, &after.status.deployment), (&before.url, &before.status.deployment));
    assert_eq!(stage.on_device(&after.name).len(), 1);
}

#[then("the other page is served, from the same deployment on the device")]
async fn the_other_page(stage: &mut Stage) {
    from_the_same(stage, &stage.other.clone()).await;
}

#[then("the page is served again, from the same deployment on the device")]
async fn the_page_again(stage: &mut Stage) {
    let before = stage.served().clone();
    let body = stage.page.body.clone();
    eventually("the page is back", async || match crate::world::fetch(&before.url).await {
        (200, seen) if seen == body => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let status = stage.tenant().status(&before.name).await;
    assert_eq!(status.deployment, before.status.deployment);
    assert_eq!(stage.on_device(&before.name).len(), 1);
}
