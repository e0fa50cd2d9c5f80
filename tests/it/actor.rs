//! The operator as an actor that others reach: whom it answers, what it hears of revocations, and what it tells of them.
//!
//! Everything is looked at again only every ten minutes here, so what happens is caused by the event.

use std::{collections::BTreeMap, time::Duration};

use dms_operator::{
    api::HostingDevice,
    capability::{Capability, Key, Nanos, Token},
    controller::clock::wall,
    dev::{free_port, installation::Installation, wallet::Wallet, wallet::in_future},
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        actor::{BroadcastError, Broadcaster, Said},
        dms::path,
        libp2p::{DmsClient, Link, LinkConfig, PublishError},
    },
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{eventually, scratch},
    fleet,
    refusals::forging::Link as Forged,
    revocation::{Pipeline, copies, shows, text},
    timed::Timed,
    world::{Before, Tenant, asked, condition, creations, device_says, installation, name, page, quiet},
};

/// An installation whose operator listens, and how it is reached.
async fn reached(name: &str, devices: usize) -> (Installation, DeviceTarget) {
    let address = format!("/ip4/127.0.0.1/tcp/{}", free_port().unwrap());
    let arguments = ["--resync", "600s", "--lease-duration", "10s", "--p2p-listen", &address];
    let installation = installation(name, devices, &arguments, &[]).await;
    let log = installation.operator.log().unwrap();
    assert!(
        log.lines().any(|line| line.contains("the provider's actor is reached") && line.contains(&address)),
        "{log}"
    );
    let did = installation.provider.did().clone();
    (installation, DeviceTarget { did, addresses: vec![address], grant: None })
}

/// Somebody with a key who asks and tells, under a peer ID made for it.
struct Caller {
    client: DmsClient,
    wallet: Wallet,
}

impl Caller {
    async fn new(wallet: Wallet) -> Self {
        let inboxes = vec!["user-1".to_owned()];
        let key = Key::from_seed(rand::random());
        let config = LinkConfig { key, listen: Vec::new(), inboxes, topics: Some(Vec::new()) };
        let (link, arrived) = Link::start(config).await.unwrap();
        Self { client: DmsClient::new(link, arrived, wallet.key.clone()), wallet }
    }

    async fn ask(&self, target: &DeviceTarget, behaviour: &str) -> Result<Value, CallError> {
        self.client.call(target, behaviour, json!({}), Duration::from_secs(20)).await
    }

    /// Asks for what is not answered.
    async fn is_left_alone(&self, target: &DeviceTarget, behaviour: &str) {
        let silent = self.client.call(target, behaviour, json!({}), Duration::from_millis(500)).await;
        assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    }

    /// Broadcasts a revocation, once somebody listens.
    async fn tell(&self, revocation: &str) {
        let capability = |text| Capability::parse(text).unwrap();
        let (topic, behaviour) = (capability(path::TOPIC_REVOCATION), capability(path::CAP_REVOKE_BROADCAST));
        let message = json!({"Token": {"tok": [serde_json::from_str::<Value>(revocation).unwrap()]}});
        let said = Said { topic: &topic, behaviour: &behaviour, message: &message };
        let broadcaster = Broadcaster::new(self.client.link(), self.wallet.key.clone(), wall());
        eventually("it is told", async || match broadcaster.tell(said, &[], wall()).await {
            Ok(()) => Ok(()),
            Err(BroadcastError::Publish(PublishError::NoListener { .. })) => Err("nobody listens".to_owned()),
            Err(error) => panic!("{error}"),
        })
        .await;
    }
}

/// How many messages to the operator ended how.
async fn counts(installation: &Installation) -> BTreeMap<String, u64> {
    let text = reqwest::get(format!("{}/metrics", installation.http)).await.unwrap().text().await.unwrap();
    let series = "dms_operator_actor_messages_total{reason=\"";
    let counts = text.lines().filter_map(|line| line.strip_prefix(series)?.split_once("\"} "));
    counts.map(|(reason, count)| (reason.to_owned(), count.parse().unwrap())).collect()
}

/// Waits until so many messages were acted on.
async fn acted_on(installation: &Installation, times: u64) {
    eventually(&format!("{times} messages are acted on"), async || {
        let counts = counts(installation).await;
        if counts.get("Answered") == Some(&times) { Ok(()) } else { Err(format!("{counts:?}")) }
    })
    .await;
}

/// How often the device was asked for a sign of life.
fn beats(installation: &Installation) -> usize {
    asked(installation, 0).iter().filter(|behaviour| *behaviour == path::PEERS_SELF).count()
}

fn to_look_after_it(by: &Wallet, caller: &Caller, until: Nanos) -> Token {
    by.delegate(caller.wallet.did(), None, &[path::HEALTHCHECK.to_owned()], until, 1, None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_answers_whoever_greets_it_and_whom_the_provider_lets_look_after_it() {
    let _timed = Timed::start();
    let (installation, operator) = reached("actor", 0).await;
    let caller = Caller::new(Wallet::random().unwrap()).await;
    let hello = json!({"DID": {"uri": operator.did.as_str()}});
    assert_eq!(caller.ask(&operator, path::PUBLIC_HELLO).await.unwrap(), hello);
    assert_eq!(counts(&installation).await, [("Answered".to_owned(), 1)].into());

    let (stranger, hour) = (Wallet::random().unwrap(), in_future(Duration::from_hours(1)));
    let with = |grant| DeviceTarget { grant: Some(grant), ..operator.clone() };
    caller.is_left_alone(&operator, path::HEALTHCHECK).await;
    caller.is_left_alone(&with(to_look_after_it(&stranger, &caller, hour)), path::HEALTHCHECK).await;
    // A device's behaviours are not the operator's, whoever asks.
    caller.is_left_alone(&operator, path::PEERS_SELF).await;
    let granted = with(to_look_after_it(&installation.provider, &caller, hour));
    assert_eq!(caller.ask(&granted, path::HEALTHCHECK).await.unwrap(), json!({"OK": true, "Error": ""}));
    let expected = [("Answered", 2), ("NotAnchored", 2), ("UnknownBehaviour", 1)];
    assert_eq!(counts(&installation).await, expected.map(|(reason, count)| (reason.to_owned(), count)).into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_is_broadcast_counts_when_its_issuer_signed_it() {
    let _timed = Timed::start();
    let (mut installation, operator) = reached("heard", 1).await;
    let (name, (first, old), (second, new)) = (name(), page(), page());
    let (seat, pipeline, url) = {
        let tenant = Tenant::new(&installation).await;
        let pipeline = Pipeline::of(&tenant);
        tenant.deploy(&name, &first).await;
        let before = tenant.ready(&name).await;
        let url = before.url.unwrap();
        pipeline.deploy(&tenant, &name, &second).await;
        shows(&url, &new).await;
        let teller = Caller::new(Wallet::random().unwrap()).await;
        teller.ask(&operator, path::PUBLIC_HELLO).await.unwrap();

        quiet(&installation).await;
        let genuine = Token::revoke(&tenant.owner.key, &pipeline.token).unwrap();
        let looked = Before::now(&installation);
        teller.tell(&Forged::of(&genuine).signed_by(&teller.wallet.key).text()).await;
        acted_on(&installation, 2).await;
        looked.assert_only_looks_since(&installation);
        shows(&url, &new).await;
        assert_eq!(condition(&tenant.status(&name).await, "TokenVerified").0, "True");

        teller.tell(&text(&genuine)).await;
        shows(&url, &old).await;
        let status = tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
        let link = format!("link 2 of 3: {} → {} was revoked", tenant.owner.did(), pipeline.wallet.did());
        let message = condition(&status, "Ready").2;
        assert!(message.starts_with("restored revision of ") && message.contains(&link), "{message}");
        assert_eq!(status.deployment, before.deployment, "the same deployment serves it");
        let kept = eventually("a copy is kept", async || match &copies(&installation).await[..] {
            [copy] => Ok(copy.data.as_ref().unwrap()["token"].clone()),
            other => Err(format!("{other:?}")),
        })
        .await;
        assert_eq!(Token::parse(kept.as_bytes()).unwrap(), genuine);

        // The owner of the device takes back what the provider may do there.
        let device = &installation.devices[0];
        let devices: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
        let grant = devices.get(&device.name).await.unwrap().spec.grant.unwrap();
        let grant = Token::parse(grant.as_bytes()).unwrap();
        teller.tell(&text(&Token::revoke(&device.owner.key, &grant).unwrap())).await;
        let taken = ("GrantValid", "False", "GrantInsufficient");
        let (message, _) = device_says(&installation, &device.name, taken).await;
        assert!(message.contains(device.owner.did().as_str()), "{message}");
        device_says(&installation, &device.name, ("Ready", "False", "GrantInsufficient")).await;
        (tenant.seat(), pipeline, url)
    };
    assert_eq!(copies(&installation).await.len(), 2);
    // Both stay in force without anybody telling again.
    let before = beats(&installation);
    installation.operator.restart().unwrap();
    let tenant = seat.at(&installation);
    pipeline.deploy(&tenant, &name, &page().0).await;
    eventually("the third is refused, which never was accepted", async || {
        let status = tenant.status(&name).await;
        let (_, reason, message) = condition(&status, "Ready");
        let refused = reason == "Revoked" && message.contains("What was accepted before goes on");
        if refused { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    shows(&url, &old).await;
    assert_eq!(
        (beats(&installation), creations(&installation)),
        (before, 1),
        "the device is not asked whether it lives"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_in_the_cluster_is_told_to_the_nodes() {
    let _timed = Timed::start();
    let installation = installation("told", 0, &["--resync", "600s"], &[]).await;
    let (node, did) = fleet::node(installation.provider.did(), scratch("told-node")).await;
    let object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice", "metadata": {"name": "device-1"},
        "spec": {"did": did.as_str(), "addresses": node.addresses()},
    });
    let devices: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    devices.patch("device-1", &PatchParams::apply("tests"), &Patch::Apply(&object)).await.unwrap();
    installation.device_ready("device-1").await.unwrap();

    let (api, name) = Tenant::new(&installation).await.revoke().await;
    let told = api.get(&name).await.unwrap().data["spec"]["token"].as_str().unwrap().to_owned();
    let told: Value = serde_json::from_str(&told).unwrap();
    let owner = Caller::new(installation.provider.clone()).await;
    let target = DeviceTarget { did, addresses: node.addresses().to_vec(), grant: None };
    eventually("the node knows of it", async || {
        let anchors = owner.ask(&target, path::CAP_LIST).await.unwrap();
        // Operators of other tests see other revocations, and each tells of all.
        let revoked = anchors["Revoke"]["tok"].as_array().cloned().unwrap_or_default();
        if revoked.contains(&told) { Ok(()) } else { Err(anchors.to_string()) }
    })
    .await;
    node.stop().await;
}
