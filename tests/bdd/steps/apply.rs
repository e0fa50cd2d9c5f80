//! The owner signs and applies, and a browser reads.

use cucumber::{then, when};
use serde_json::{Value, json};

use super::documents;
use crate::{
    cluster::eventually,
    desk::Desk,
    stage::{Applied, Page, Served, Stage, shown},
    world::{fetch, name},
};

/// The owner signs these objects with the command line and applies what it prints.
pub async fn sign_and_apply(stage: &mut Stage, name: &str, objects: &[Value]) {
    let text = stage.owner().sign(objects, stage.grant.as_deref()).await;
    stage.applying(name, &text);
    stage.owner().apply(&text).await.done();
}

/// The pipeline does the same with what it was delegated.
pub async fn sign_and_apply_by_pipeline(stage: &mut Stage, name: &str, objects: &[Value]) {
    let delegation = stage.delegation.clone().expect("the owner delegated something");
    let pipeline: &Desk = stage.pipeline.as_ref().expect("there is a pipeline");
    let text = pipeline.sign(objects, Some(&delegation)).await;
    stage.applying(name, &text);
    stage.pipeline.as_ref().unwrap().apply(&text).await.done();
}

async fn deploy(stage: &mut Stage, change: impl FnOnce(&mut Value)) {
    let name = name();
    let mut object = stage.object(&name);
    change(&mut object["spec"]);
    let objects = [stage.files(&name, &stage.page), object];
    sign_and_apply(stage, &name, &objects).await;
}

#[when("the owner signs and applies a deployment of the page")]
pub async fn the_owner_deploys(stage: &mut Stage) {
    deploy(stage, |_| {}).await;
}

#[when("the owner signs and applies a deployment of the page that stops on expiry")]
async fn the_owner_deploys_until_expiry(stage: &mut Stage) {
    deploy(stage, |spec| spec["onExpiry"] = json!("Stop")).await;
}

#[when("the pipeline signs and applies a deployment of the page that stops on expiry")]
async fn the_pipeline_deploys_until_expiry(stage: &mut Stage) {
    let name = name();
    let mut object = stage.object(&name);
    object["spec"]["onExpiry"] = json!("Stop");
    let objects = [stage.files(&name, &stage.page), object];
    sign_and_apply_by_pipeline(stage, &name, &objects).await;
}

#[when("the pipeline signs and applies a deployment of the page under that name")]
async fn the_pipeline_deploys(stage: &mut Stage) {
    let name = stage.pipeline_name.clone();
    let objects = stage.site(&name, &stage.page);
    sign_and_apply_by_pipeline(stage, &name, &objects).await;
}

#[when("the pipeline signs and applies a deployment of the page under another name")]
async fn the_pipeline_oversteps(stage: &mut Stage) {
    let name = name();
    // `kubectl hosting sign` makes no invocation that its own grant does not give, so the kit signs.
    let object = super::denial::by_pipeline(stage, &name);
    super::denial::apply(stage, &name, &object).await;
}

#[when("the owner signs and applies a deployment of the page for the owner")]
async fn the_owner_deploys_for_the_owner(stage: &mut Stage) {
    deploy(stage, |spec| spec["content"]["access"] = json!("Owner")).await;
}

#[when("the owner signs and applies a deployment of the page for the owner and whom the owner delegates")]
async fn the_owner_deploys_for_delegates(stage: &mut Stage) {
    deploy(stage, |spec| spec["content"]["access"] = json!("Delegated")).await;
}

#[when("the owner applies a deployment of the page without signing it")]
async fn the_owner_does_not_sign(stage: &mut Stage) {
    let name = name();
    let tenant = stage.tenant();
    let object = tenant.object(&name, &stage.page.release).to_string();
    let files = stage.files(&name, &stage.page).to_string();
    stage.owner().apply(&files).await.done();
    stage.applying(&name, &object);
    stage.ended = Some(stage.owner().apply(&object).await);
}

#[when("the owner applies a signed deployment with its members in another order")]
async fn the_owner_reorders(stage: &mut Stage) {
    let name = name();
    let objects = stage.site(&name, &stage.page);
    let text = stage.owner().sign(&objects, stage.grant.as_deref()).await;
    let mut documents = documents(&text);
    let object = documents.pop().unwrap();
    let text = reversed(&object);
    assert_ne!(text, object.to_string());
    stage.owner().apply(&documents[0].to_string()).await.done();
    stage.applying(&name, &text);
    stage.owner().apply(&text).await.done();
}

/// The same JSON with the members of each object from the last to the first.
fn reversed(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|one, other| other.0.cmp(one.0));
            let members: Vec<_> =
                members.into_iter().map(|(name, value)| format!("{}: {}", json!(name), reversed(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(reversed).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

#[then(regex = "^the command fails and says \"(.+)\"$")]
fn the_command_fails(stage: &mut Stage, sentence: String) {
    let ended = stage.ended.as_ref().expect("a command ended");
    assert!(ended.code != 0 && ended.err.contains(&sentence), "{ended:?}");
}

/// Waits until the last applied deployment serves a page, and remembers how.
pub async fn served(stage: &mut Stage, page: &Page) {
    let Applied { name, text } = stage.applied.clone().expect("something was applied");
    let tenant = stage.tenant();
    let status = eventually(&format!("{name} is Ready with the page"), async || {
        let status = tenant.status(&name).await;
        let ready = crate::world::condition(&status, "Ready").0 == "True";
        if ready && status.release.as_ref() == Some(&page.release) {
            Ok(status)
        } else {
            Err(format!("\n{}", shown(&status)))
        }
    })
    .await;
    let url = status.url.clone().expect("what is Ready says where");
    assert_eq!(fetch(&url).await, (200, page.body.clone()));
    let served = Served { name: name.clone(), url, status };
    stage.first.get_or_insert(Applied { name, text });
    stage.served = Some(served);
}

#[then("the page is served from a device")]
pub async fn the_page_is_served(stage: &mut Stage) {
    served(stage, &stage.page.clone()).await;
    let Served { name, status, .. } = stage.served();
    let record = status.deployment.clone().unwrap();
    assert_eq!(record.device, stage.installation().devices[0].name);
    assert!(stage.on_device(name).contains_key(&record.id.unwrap()));
}

#[then("the device runs it exactly once")]
fn once(stage: &mut Stage) {
    let known = stage.on_device(&stage.served().name);
    assert_eq!(known.len(), 1, "{known:?}");
}

#[then("the page is still served")]
async fn still_served(stage: &mut Stage) {
    assert_eq!(fetch(&stage.served().url).await, (200, stage.page.body.clone()));
}

#[then("the other page is still served")]
async fn the_other_is_still_served(stage: &mut Stage) {
    assert_eq!(fetch(&stage.served().url).await, (200, stage.other.body.clone()));
}

#[then("the deployment is accepted as signed by the owner")]
async fn accepted(stage: &mut Stage) {
    let name = stage.applied_name();
    let status = stage.tenant().condition(name, "TokenVerified", "True", "Verified").await;
    assert_eq!(status.accepted_revision.unwrap().signer, stage.owner().wallet.did().as_str());
}

#[then("it counts until the grant ends")]
async fn until_the_grant_ends(stage: &mut Stage) {
    let accepted = stage.tenant().status(stage.applied_name()).await.accepted_revision.unwrap();
    assert_eq!(accepted.not_after.0.as_second(), stage.grant().not_after().to_timestamp().as_second());
}
