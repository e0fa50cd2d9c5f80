//! An owner who is connected while the provider decides.

use cucumber::{given, then, when};
use dms_operator::api::door::Notice;

use super::sign_in::offer_to_everybody;
use crate::{listening::Listener, stage::Stage};

/// What an owner heard.
#[derive(Default)]
pub struct Inbox {
    listener: Option<Listener>,
    last: Option<Notice>,
}

#[given(regex = r"^an owner who signed in and (lets|does not let) the provider send notices$")]
async fn signed_in_listening(stage: &mut Stage, lets: String) {
    offer_to_everybody(stage, "apply, publish, read, usage, delete".to_owned(), "720h".to_owned()).await;
    stage.inbox.listener = Some(Listener::start(stage.installation(), stage.owner().wallet.clone()).await);
    sign_in(stage, lets == "lets").await;
}

#[when("the owner signs in again and lets the provider send notices")]
async fn signed_in_again(stage: &mut Stage) {
    sign_in(stage, true).await;
}

async fn sign_in(stage: &mut Stage, permits: bool) {
    let listener = stage.inbox.listener.as_mut().expect("the owner listens");
    let grant = listener.login(&stage.namespace, permits).await;
    let grant = String::from_utf8(grant.to_json()).unwrap();
    stage.grant = Some(stage.owner().write("grant.json", &grant));
}

/// That it was accepted, and that it is served, and nothing before these.
#[then("the owner's inbox receives a notice of this change, signed by the provider")]
#[then("the first that the owner's inbox receives is a notice of this change, signed by the provider")]
async fn told(stage: &mut Stage) {
    let name = stage.applied_name().to_owned();
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(stage.inbox.listener.as_mut().expect("the owner listens").told().await);
    }
    let object = stage.tenant().get(&name).await.unwrap();
    let uid = object.metadata.uid.unwrap();
    let accepted = stage.tenant().status(&name).await.accepted_revision.unwrap();
    for (notice, (reason, came)) in told.iter().zip([("Verified", "accepted"), ("Succeeded", "served")]) {
        assert_eq!((&*notice.namespace, &*notice.name, &*notice.uid), (&*stage.namespace, &*name, &*uid));
        assert_eq!(notice.reason, reason, "{notice:?}");
        assert!(notice.id.starts_with(&format!("{uid}/{}@", accepted.digest)), "{notice:?} is not of {accepted:?}");
        assert!(notice.id.ends_with(&format!("/{came}")), "{notice:?}");
    }
    stage.inbox.last = told.pop();
}

#[then("its id names the revision, so that a repeat is known as one")]
async fn id(stage: &mut Stage) {
    let notice = stage.inbox.last.as_ref().expect("the owner was told");
    let signed: u64 = notice.id.split(['@', '/']).nth(2).unwrap().parse().unwrap();
    let accepted = stage.tenant().status(&notice.name).await.accepted_revision.unwrap();
    assert_eq!(i64::try_from(signed / 1_000_000_000).unwrap(), accepted.time.0.as_second());
}
