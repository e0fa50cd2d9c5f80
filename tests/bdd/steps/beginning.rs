//! Who is there before anything happens.

use std::time::Duration;

use cucumber::{given, when};

use super::apply;
use crate::{desk::Desk, stage::Stage};

#[given("a provider with a device and a store")]
async fn a_provider(stage: &mut Stage) {
    stage.open().await;
}

#[given("an installation of its own")]
async fn an_installation_of_its_own(stage: &mut Stage) {
    stage.move_out().await;
}

#[given("an owner with a DID")]
async fn an_owner(stage: &mut Stage) {
    stage.seat_owner().await;
}

#[given("a page")]
fn a_page(stage: &mut Stage) {
    assert_ne!(stage.page.release, stage.other.release);
}

/// As the provider does it by hand.
#[given(regex = r"^the provider grants the owner the namespace for (\d+[smh])$")]
#[when(regex = r"^the provider grants the owner the namespace for (\d+[smh])$")]
pub async fn the_provider_grants(stage: &mut Stage, lifetime: String) {
    let (to, namespace) = (stage.owner().wallet.did().clone(), stage.namespace.clone());
    let provider = stage.provider().await;
    let key = provider.key.display();
    let line =
        format!("kubectl hosting token grant --seed-file {key} --to {to} --namespace {namespace} --for {lifetime}");
    let grant = provider.run(&line).await.done();
    stage.grant = Some(stage.owner().write("grant.json", &grant));
}

#[given(regex = r"^the provider keeps expired work for (\d+)s$")]
fn the_provider_keeps_expired_work(stage: &mut Stage, seconds: u64) {
    assert_eq!(Duration::from_secs(seconds), crate::stage::KEPT, "as the shared installation is started");
    let policy = &stage.installation().plan.provider["policy"];
    assert_eq!(policy["keepExpiredFor"], format!("{seconds}s"));
}

/// Lets the owner pass a part of the grant on to a pipeline with a key of its own.
async fn delegate(stage: &mut Stage, capability: &str, lifetime: Option<&str>) {
    let pipeline = stage.newcomer("pipeline").await;
    let owner = stage.owner();
    let (key, to) = (owner.key.display(), pipeline.wallet.did());
    let lifetime = lifetime.map(|lifetime| format!("--for {lifetime}")).unwrap_or_default();
    let line = format!(
        "kubectl hosting token delegate --key {key} --grant grant.json --to {to} --capability {capability} {lifetime}"
    );
    let delegation = owner.run(&line).await.done();
    owner.write("ci.token", &delegation);
    stage.delegation = Some(pipeline.write("ci.token", &delegation));
    stage.pipeline = Some(pipeline);
}

#[given("a pipeline to which the owner delegated apply for this deployment alone")]
async fn a_pipeline_for_this_deployment(stage: &mut Stage) {
    let capability = format!("/hosting/{}/apply/{}", stage.namespace, stage.served().name);
    delegate(stage, &capability, None).await;
}

#[given(regex = r"^a pipeline to which the owner delegated apply for (\d+s)$")]
async fn a_pipeline_for_a_while(stage: &mut Stage, lifetime: String) {
    let capability = format!("/hosting/{}/apply", stage.namespace);
    delegate(stage, &capability, Some(&lifetime)).await;
}

#[given("another owner whose deployment serves the same page")]
async fn a_neighbour(stage: &mut Stage) {
    let neighbour: Desk = stage.newcomer("neighbour").await;
    let grant = stage.installation().grant(neighbour.wallet.did(), &stage.namespace).unwrap();
    let grant = neighbour.write("grant.json", &String::from_utf8(grant.to_json()).unwrap());
    let name = crate::world::name();
    let objects = stage.site(&name, &stage.page);
    neighbour.apply(&neighbour.sign(&objects, Some(&grant)).await).await.done();
    stage.tenant().ready(&name).await;
    (stage.neighbour, stage.neighbour_name) = (Some(neighbour), name);
}

#[given("the owner's deployment of the page is served")]
async fn the_page_is_served_already(stage: &mut Stage) {
    apply::the_owner_deploys(stage).await;
    apply::the_page_is_served(stage).await;
}

#[given("a deployment of another page is served")]
async fn another_page_is_served_already(stage: &mut Stage) {
    let name = crate::world::name();
    let objects = stage.site(&name, &stage.other);
    apply::sign_and_apply(stage, &name, &objects).await;
    apply::served(stage, &stage.other.clone()).await;
}
