//! The owner has only a DID: what is applied and deleted goes through the provider's actor.

use std::sync::{Arc, atomic::AtomicUsize};

use cucumber::{given, then, when};
use dms_operator::{api::door::Confirmation, capability::Token};
use serde_json::{Value, json};

use crate::{
    archives,
    asking::{Answer, Asker, Way},
    stage::Stage,
    world::name,
};

/// What is known of the owner's dealings with the door.
#[derive(Default)]
pub struct Dealings {
    /// Where the page lies as an archive, and its SHA-256.
    archive: Option<(String, String)>,
    answer: Option<Answer<Confirmation>>,
}

fn way(transport: &str) -> Way {
    if transport == "HTTP" { Way::Http } else { Way::Libp2p }
}

#[given("the page can be fetched as an archive")]
async fn archive(stage: &mut Stage) {
    let (url, sha256, release) = archives::serve(&stage.page.files, &Arc::new(AtomicUsize::new(0))).await;
    assert_eq!(release, stage.page.release);
    stage.dealings.archive = Some((url, sha256));
}

/// The deployment as the owner's wallet signs it by the stored grant.
async fn signed(stage: &Stage, name: &str) -> Value {
    let (url, sha256) = stage.dealings.archive.as_ref().unwrap();
    let mut object = stage.object(name);
    object["spec"]["content"] = json!({
        "release": stage.page.release, "from": {"archive": {"url": url, "sha256": sha256}}, "access": "Public",
    });
    let file = stage.owner().write("object.yaml", &object.to_string());
    let grant = stage.owner().write("stored.json", &String::from_utf8(stored_grant(stage).to_json()).unwrap());
    let (file, key, grant) = (file.display(), stage.owner().key.display(), grant.display());
    let line = format!("kubectl hosting sign -f {file} --key {key} --grant {grant} -o json");
    serde_json::from_str(&stage.owner().run(&line).await.done()).unwrap()
}

/// The grant that the wallet stored.
fn stored_grant(stage: &Stage) -> Token {
    let file = stage.owner().file("user/cap/owner.cap");
    let context = dms_operator::capability::Context::parse(std::fs::read(file).unwrap().trim_ascii()).unwrap();
    context.provide.last().unwrap().clone()
}

async fn asker(stage: &Stage) -> Asker {
    Asker::with(stage.installation(), stage.owner().wallet.clone()).await
}

#[when(regex = r"^the owner signs a deployment of the page and sends it to the provider over (libp2p|HTTP)$")]
async fn send(stage: &mut Stage, transport: String) {
    let name = name();
    let object = signed(stage, &name).await;
    stage.applying(&name, &object.to_string());
    let answer = asker(stage).await.apply(way(&transport), &object, &stored_grant(stage)).await;
    stage.dealings.answer = Some(answer);
}

#[when(regex = r"^the owner sends a deployment that was changed after signing to the provider over (libp2p|HTTP)$")]
async fn send_changed(stage: &mut Stage, transport: String) {
    let name = name();
    let mut object = signed(stage, &name).await;
    object["spec"]["onExpiry"] = json!("Stop");
    stage.applying(&name, &object.to_string());
    let answer = asker(stage).await.apply(way(&transport), &object, &stored_grant(stage)).await;
    stage.dealings.answer = Some(answer);
}

#[when(regex = r"^the owner asks the provider over (libp2p|HTTP) to delete it$")]
async fn delete(stage: &mut Stage, transport: String) {
    let place = (&*stage.namespace, stage.applied_name());
    let answer = asker(stage).await.delete(way(&transport), place, None, &stored_grant(stage)).await;
    stage.dealings.answer = Some(answer);
}

/// Who asks checks the signature of each answer, and that the own token for it was counter-signed.
#[then("the provider confirms it in an answer that it signed")]
fn confirmed(stage: &mut Stage) {
    let Confirmation { namespace, name, uid, generation, message } =
        stage.dealings.answer.as_ref().unwrap().as_ref().unwrap();
    assert_eq!((&**namespace, &**name), (&*stage.namespace, stage.applied_name()));
    assert!(!uid.is_empty() && *generation >= 1 && message.contains(&**name), "{message}");
}

#[then(regex = r"^the provider refuses with (\w+) in an answer that it signed$")]
async fn refused(stage: &mut Stage, reason: String) {
    let refused = stage.dealings.answer.as_ref().unwrap().as_ref().unwrap_err();
    assert_eq!(refused.reason, reason);
    assert!(refused.message.contains("kubectl hosting sign"), "{refused:?}");
    assert!(stage.tenant().get(stage.applied_name()).await.is_none(), "nothing was written");
}

#[then("the deployment is gone and nothing runs for it")]
async fn gone(stage: &mut Stage) {
    let name = stage.applied_name();
    stage.tenant().gone(name).await;
    let known = stage.on_device(name);
    assert!(!known.is_empty() && known.values().all(|state| state.is_over()), "{known:?}");
}
