//! What is denied, why, and that nothing comes of it.

use cucumber::{then, when};
use dms_operator::{
    capability::{Handle, Nanos, Token},
    controller::clock::wall,
    dev::wallet::Wallet,
};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{eventually, within},
    forging::{Link, below, resigned},
    stage::{Stage, shown},
    world::{Tenant, condition, name},
};

const MINUTE: u64 = 60_000_000_000;

/// Applies an object and its files, whatever is wrong with it.
pub async fn apply(stage: &mut Stage, name: &str, object: &Value) {
    let files = stage.files(name, &stage.page).to_string();
    stage.owner().apply(&files).await.done();
    stage.applying(name, &object.to_string());
    stage.owner().apply(&object.to_string()).await.done();
}

/// Signed by the pipeline under its delegation, for a name that the delegation does not give.
pub fn by_pipeline(stage: &Stage, name: &str) -> Value {
    let pipeline = stage.pipeline.as_ref().unwrap();
    let owner = stage.owner();
    let provider = &stage.installation().provider;
    let paths = [format!("/hosting/{}/apply", stage.namespace)];
    let grant = stage.grant();
    let (to, audience, until) = (pipeline.wallet.did(), Some(provider.did()), grant.not_after());
    // As if everything had been delegated; then what really was is put in its place.
    let all = owner.wallet.delegate(to, audience, &paths, until, 1, Some(&grant)).unwrap();
    let mut object = stage.tenant().object(name, &stage.page.release);
    pipeline.wallet.sign(&mut object, &all, provider.did(), wall()).unwrap();
    below(object, &pipeline.wallet.key, &Link::of(&pipeline.token("ci.token")))
}

#[when(regex = r"^the owner applies a deployment (under .+|signed .+|that was changed after signing)$")]
async fn a_deployment_that_must_be_denied(stage: &mut Stage, how: String) {
    let name = name();
    if how == "under a grant that the provider took back" {
        take_back(stage).await;
    }
    let object = wrong(&stage.tenant(), stage.grant(), &how, &name, &stage.page.release);
    apply(stage, &name, &object).await;
}

/// An object with one thing wrong.
fn wrong(tenant: &Tenant<'_>, grant: Token, how: &str, name: &str, release: &str) -> Value {
    let Tenant { installation, namespace, owner, .. } = tenant;
    let provider = &installation.provider;
    let stranger = Wallet::random().unwrap();
    let object = tenant.object(name, release);
    let signed = |signer: &Wallet, mut object: Value, grant: &Token| {
        signer.sign(&mut object, grant, provider.did(), wall()).unwrap();
        object
    };
    let paths = [format!("/hosting/{namespace}/apply")];
    let in_an_hour = Nanos(wall().0 + 60 * MINUTE);
    match how {
        "under a grant that has expired" => {
            signed(owner, object, &provider.grant(owner.did(), namespace, Nanos(wall().0 - MINUTE)).unwrap())
        }
        "under a grant that the provider took back" => signed(owner, object, &grant),
        "under a grant that no provider issued" => {
            let grant = stranger.delegate(owner.did(), Some(provider.did()), &paths, in_an_hour, 3, None).unwrap();
            signed(owner, object, &grant)
        }
        "under a grant for another provider" => {
            let mut object = object;
            let grant = provider.delegate(owner.did(), Some(stranger.did()), &paths, in_an_hour, 3, None).unwrap();
            owner.sign(&mut object, &grant, stranger.did(), wall()).unwrap();
            resigned(object, &owner.key, |envelope| envelope.to = Handle::root_of(provider.did()))
        }
        "under a grant for another namespace" => {
            let elsewhere = provider.grant(owner.did(), "elsewhere", grant.not_after()).unwrap();
            below(signed(owner, object, &grant), &owner.key, &Link::of(&elsewhere))
        }
        "under the grant of another owner" => {
            signed(&stranger, object, &installation.grant(stranger.did(), namespace).unwrap())
        }
        "under a grant that was made to last longer" => {
            let (until, later) = (grant.not_after().0, grant.not_after().0 + MINUTE);
            let prolonged = Link::of(&grant).saying(&format!("\"exp\":{until}"), &format!("\"exp\":{later}"));
            below(signed(owner, object, &grant), &owner.key, &prolonged)
        }
        "under a grant without the link above it" => {
            let alone = owner.delegate(stranger.did(), Some(provider.did()), &paths, in_an_hour, 1, None).unwrap();
            signed(&stranger, object, &alone)
        }
        "signed by somebody else" => resigned(signed(owner, object, &grant), &stranger.key, |envelope| {
            envelope.from = Handle::of(stranger.did(), None, None);
        }),
        "signed for another name" => {
            let mut object = signed(owner, tenant.object(&self::name(), release), &grant);
            object["metadata"]["name"] = json!(name);
            object
        }
        "signed for another provider" => {
            let mut object = object;
            let grant = provider.delegate(owner.did(), Some(stranger.did()), &paths, in_an_hour, 3, None).unwrap();
            owner.sign(&mut object, &grant, stranger.did(), wall()).unwrap();
            object
        }
        "signed tomorrow" => {
            let mut object = object;
            let grant = provider.grant(owner.did(), namespace, Nanos(wall().0 + 48 * 60 * MINUTE)).unwrap();
            owner.sign(&mut object, &grant, provider.did(), Nanos(wall().0 + 24 * 60 * MINUTE)).unwrap();
            object
        }
        "that was changed after signing" => {
            let mut object = signed(owner, object, &grant);
            object["spec"]["onExpiry"] = json!("Stop");
            object
        }
        _ => panic!("nobody knows a deployment {how}"),
    }
}

/// The provider takes the owner's grant back, and it is in force.
#[when("the provider takes the grant back")]
pub async fn take_back(stage: &mut Stage) {
    let (name, namespace, grant) = (name(), stage.namespace.clone(), stage.grant.clone().unwrap());
    let provider = stage.provider().await;
    let (key, grant) = (provider.key.display(), grant.display());
    let revoke =
        format!("kubectl hosting token revoke --seed-file {key} --token {grant} --manifest {name} -n {namespace}");
    provider.run(&format!("{revoke} > revocation.yaml && kubectl apply -f revocation.yaml")).await.done();
    in_force(stage, &name).await;
}

#[when("the owner takes the pipeline's right back")]
async fn the_owner_takes_back(stage: &mut Stage) {
    let (name, namespace) = (name(), stage.namespace.clone());
    let owner = stage.owner();
    let key = owner.key.display();
    let revoke = format!("kubectl hosting token revoke --key {key} --token ci.token --manifest {name} -n {namespace}");
    owner.run(&format!("{revoke} > revocation.yaml && kubectl apply -f revocation.yaml")).await.done();
    in_force(stage, &name).await;
}

async fn in_force(stage: &Stage, name: &str) {
    let resource = ApiResource::erase::<dms_operator::api::CapabilityRevocation>(&());
    let api: Api<DynamicObject> =
        Api::namespaced_with(stage.installation().client.clone(), &stage.namespace, &resource);
    eventually("the revocation is in force", async || {
        let object = api.get(name).await.unwrap();
        let ready = object.data.pointer("/status/conditions/0/status").and_then(Value::as_str) == Some("True");
        if ready { Ok(()) } else { Err(format!("{:?}", object.data["status"])) }
    })
    .await;
}

#[then(regex = r"^it is denied because of (\w+)$")]
async fn denied(stage: &mut Stage, reason: String) {
    let name = stage.applied_name();
    let status = stage.tenant().condition(name, "TokenVerified", "False", &reason).await;
    assert_eq!((condition(&status, "Ready").0, condition(&status, "Ready").1), ("False", &*reason));
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!((status.deployment, status.accepted_revision, status.url), (None, None, None));
}

#[then(regex = r"^the update is denied because of (\w+)$")]
async fn the_update_is_denied(stage: &mut Stage, reason: String) {
    let name = stage.applied_name();
    let status = stage.tenant().condition(name, "TokenVerified", "False", &reason).await;
    assert_eq!(condition(&status, "Ready").0, "False");
    let served = &stage.served().status;
    assert_eq!(
        (&status.deployment, &status.release),
        (&served.deployment, &served.release),
        "what runs is left as it is"
    );
    assert_eq!(status.accepted_revision, served.accepted_revision);
}

#[then(regex = r"^the condition (\w+) is (True|False|Unknown) because of (\w+)$")]
async fn the_condition(stage: &mut Stage, kind: String, value: String, reason: String) {
    stage.tenant().condition(stage.applied_name(), &kind, &value, &reason).await;
}

/// By the object itself, and by an Event.
#[then(regex = "^the owner is told \"(.+)\"$")]
async fn told(stage: &mut Stage, sentence: String) {
    let (tenant, name) = (stage.tenant(), stage.applied_name());
    eventually(&format!("a condition and an Event of {name} say {sentence:?}"), async || {
        let status = tenant.status(name).await;
        let notes: Vec<_> = tenant.events(name).await.into_iter().filter_map(|event| event.note).collect();
        let said = status.conditions.iter().any(|condition| condition.message.contains(&sentence));
        if said && notes.iter().any(|note| note.contains(&sentence)) {
            Ok(())
        } else {
            Err(format!("\n{}\nEvents:\n  {}", shown(&status), notes.join("\n  ")))
        }
    })
    .await;
}

#[then("neither the device nor the store has heard of it")]
fn unheard(stage: &mut Stage) {
    stage.assert_unheard();
}

#[then("nothing runs for it")]
async fn nothing_runs(stage: &mut Stage) {
    let name = stage.applied_name();
    within(std::time::Duration::from_secs(30), "nothing runs for it", async || {
        let known = stage.on_device(name);
        if known.values().all(|state| state.is_over()) { Ok(()) } else { Err(format!("{known:?}")) }
    })
    .await;
}

/// As an editor sends it: the whole object, changed in one place.
#[when("the deployment is edited without signing it")]
async fn edited(stage: &mut Stage) {
    let name = stage.applied_name().to_owned();
    let patch = json!({"spec": {"onExpiry": "Stop"}});
    let line = format!("kubectl -n {} patch hd {name} --type=merge -p '{patch}'", stage.namespace);
    stage.ended = Some(stage.owner().run(&line).await);
}

#[when("somebody else signs and applies an update")]
async fn somebody_else_updates(stage: &mut Stage) {
    let name = stage.served().name.clone();
    let stranger = Wallet::random().unwrap();
    let tenant = stage.tenant();
    let object = tenant.sign(tenant.object(&name, &stage.other.release));
    let object = resigned(object, &stranger.key, |envelope| {
        envelope.from = Handle::of(stranger.did(), None, None);
    });
    let params = PatchParams::apply("somebody").force();
    tenant.api().patch(&name, &params, &Patch::Apply(&object)).await.unwrap();
    stage.applying(&name, &object.to_string());
}
