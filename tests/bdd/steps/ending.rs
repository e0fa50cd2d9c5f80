//! What happens when a right ends.

use std::time::Duration;

use cucumber::{then, when};
use dms_operator::{capability::Nanos, controller::clock::wall};

use super::apply::sign_and_apply;
use crate::{
    stage::{KEPT, Stage},
    world::{ended, fetch},
};

/// How late the end may be seen on a machine that does other things too.
const LATE: Duration = Duration::from_secs(20);

async fn ends_at(stage: &Stage, until: Nanos) {
    let end = ended(&stage.served().url).await;
    assert!(end >= until, "it ended {} ns early", until.0.saturating_sub(end.0));
    assert!(end < until.plus(LATE), "it ended {} ns late", end.0.saturating_sub(until.0));
}

#[then("the site ends when the grant ends, and not before")]
async fn with_the_grant(stage: &mut Stage) {
    ends_at(stage, stage.grant().not_after()).await;
}

#[then(regex = r"^the site ends (\d+)s after the grant ends, and not before$")]
async fn after_the_grant(stage: &mut Stage, seconds: u64) {
    assert_eq!(Duration::from_secs(seconds), KEPT);
    ends_at(stage, stage.grant().not_after().plus(KEPT)).await;
}

#[then("the site ends when the delegation ends, and not before")]
async fn with_the_delegation(stage: &mut Stage) {
    let delegation = stage.pipeline.as_ref().unwrap().token("ci.token");
    assert!(delegation.not_after() < stage.grant().not_after());
    ends_at(stage, delegation.not_after()).await;
}

#[then("the site ends")]
async fn ends(stage: &mut Stage) {
    ended(&stage.served().url).await;
}

#[when("the owner signs the same deployment again and applies it")]
async fn renew(stage: &mut Stage) {
    let name = stage.served().name.clone();
    let mut object = stage.object(&name);
    object["spec"]["onExpiry"] = serde_json::json!("Stop");
    let objects = [stage.files(&name, &stage.page), object];
    sign_and_apply(stage, &name, &objects).await;
}

#[then("the page is served without a break until after the first grant ended, from the same deployment on the device")]
async fn without_a_break(stage: &mut Stage) {
    let served = stage.served().clone();
    let first = Nanos::from_timestamp(served.status.accepted_revision.as_ref().unwrap().not_after.0);
    let past = first.plus(Duration::from_secs(3));
    assert!(wall() < first, "it was renewed too late to see anything");
    while wall() < past {
        assert_eq!(fetch(&served.url).await, (200, stage.page.body.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let status = stage.tenant().ready(&served.name).await;
    assert_eq!((status.deployment, status.url), (served.status.deployment, served.status.url));
    let until = status.accepted_revision.unwrap().not_after.0;
    assert_eq!(until.as_second(), stage.grant().not_after().to_timestamp().as_second());
}
