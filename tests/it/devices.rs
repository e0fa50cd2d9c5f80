//! Devices that are silent, die, come back, list nothing, or run something that is not ours.

use std::{collections::BTreeMap, time::Duration};

use dms_operator::{
    api::{HostingDeploymentStatus, HostingDevice},
    dev::{installation::Installation, wallet::in_future},
    device::dms::DeploymentState,
};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{eventually, shared, within},
    timed::Timed,
    world::{
        Seat, Tenant, asked, condition, creations, deployments_of, device_says, fetch, installation, looks, misbehave,
        name, page, sites_running,
    },
};

/// How many are deployed at once.
const COUNT: usize = 50;
/// How often an object may be written until it is Ready.
const WRITES: usize = 6;
/// How long an Event may take: a device gives up on a deployment 15 s before the end of its window.
pub const TOLD: Duration = Duration::from_secs(150);
const QUICK: [&str; 2] = ["--resync", "1s"];

/// Waits for Events about an object with this reason.
async fn told(tenant: &Tenant<'_>, name: &str, reason: &str) -> Vec<Event> {
    within(TOLD, &format!("an Event {reason}"), async || {
        let mut events = tenant.events(name).await;
        events.retain(|event| event.reason.as_deref() == Some(reason));
        if events.is_empty() { Err(format!("{:?}", tenant.status(name).await)) } else { Ok(events) }
    })
    .await
}

/// What a device was asked that changes something.
fn changes(installation: &Installation, device: usize) -> Vec<String> {
    let changing = ["/deployment/new", "/deployment/shutdown", "/deployment/delete", "/deployment/update"];
    asked(installation, device).into_iter().filter(|path| changing.iter().any(|end| path.ends_with(end))).collect()
}

async fn shows(url: &str, body: &str) {
    eventually("the page", async || match reqwest::get(url).await {
        Ok(response) => match response.text().await {
            Ok(text) if text == body => Ok(()),
            other => Err(format!("{other:?}")),
        },
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lists_nothing_or_is_silent_changes_nothing() {
    let _timed = Timed::start();
    let installation = installation("silent", 1, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (files, body) = page();
    tenant.deploy(&name, &files).await;
    let before = tenant.ready(&name).await;
    let url = before.url.clone().unwrap();
    let changed = changes(&installation, 0);

    misbehave(&installation, 0, "list-empty");
    looks(&installation, 0, "/deployment/list", 4).await;
    assert_eq!(changes(&installation, 0), changed);
    assert_eq!(tenant.status(&name).await.deployment, before.deployment);
    assert_eq!(fetch(&url).await, (200, body.clone()));

    // Messages come, and no reply ever goes out.
    misbehave(&installation, 0, "drop-replies");
    let status = tenant.condition(&name, "DeviceReachable", "Unknown", "DeviceSilent").await;
    assert_eq!(status.deployment, before.deployment);
    assert_eq!(condition(&status, "Ready").0, "False");
    assert_eq!(changes(&installation, 0), changed);
    assert_eq!(fetch(&url).await, (200, body.clone()), "what runs goes on");

    misbehave(&installation, 0, "");
    let after = tenant.ready(&name).await;
    assert_eq!((&after.deployment, &after.url), (&before.deployment, &before.url));
    assert_eq!(changes(&installation, 0), changed);
    assert_eq!(sites_running(&installation, 0), 1);
}

/// What a deployment has sent, as far as it was counted.
async fn sent(installation: &Installation, name: &str) -> u64 {
    let text = reqwest::get(format!("{}/metrics", installation.http)).await.unwrap().text().await.unwrap();
    let series = |line: &&str| line.starts_with("dms_operator_usage_network_sent_bytes_total{") && line.contains(name);
    text.lines().find(series).map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// Fetches a page several times, and waits until that was counted on top of what was before.
async fn visited(installation: &Installation, name: &str, url: &str, body: &str, times: u64) {
    let size = u64::try_from(body.len()).unwrap();
    let before = sent(installation, name).await;
    for _ in 0..times {
        assert_eq!(fetch(url).await, (200, body.to_owned()));
    }
    eventually("the traffic is counted", async || {
        let now = sent(installation, name).await;
        if now >= before + times * size { Ok(()) } else { Err(format!("{now} after {before}")) }
    })
    .await;
}

/// Its counters fall with each crash, and that is no lie.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_takes_up_its_allocations_after_each_crash() {
    let _timed = Timed::start();
    let mut installation = installation("crash", 1, &QUICK, &[]).await;
    let name = name();
    let body = hex::encode(rand::random::<[u8; 32]>()).repeat(2_000);
    let files = BTreeMap::from([("index.html".to_owned(), body.clone())]);
    let (mut seat, before) = {
        let tenant = Tenant::new(&installation).await;
        tenant.deploy(&name, &files).await;
        (tenant.seat(), tenant.ready(&name).await)
    };
    let url = before.url.clone().unwrap();
    // Each time fewer, so that the counters stay below where they fell from.
    for visits in [6, 2] {
        visited(&installation, &name, &url, &body, visits).await;
        seat = crashed(&mut installation, seat, &name, &before).await;
        let tenant = seat.at(&installation);
        let after = tenant.ready(&name).await;
        assert_eq!((&after.deployment, &after.url), (&before.deployment, &before.url));
        shows(&url, &body).await;
        // A reading from which the next ones count on.
        looks(&installation, 0, "/deployment/manifest", 4).await;
        seat = tenant.seat();
    }
    visited(&installation, &name, &url, &body, 1).await;
    let (all, size) = (sent(&installation, &name).await, u64::try_from(body.len()).unwrap());
    // Nine were awaited; two more that `shows` fetched may be counted. Headers are small.
    assert!((9 * size..12 * size).contains(&all), "{all} bytes, {size} each time");
    assert_eq!((creations(&installation), sites_running(&installation, 0)), (1, 1));
    let id = before.deployment.unwrap().id.unwrap();
    let tenant = seat.at(&installation);
    let kept = deployments_of(&installation, 0, &tenant.namespace, &name);
    assert_eq!(kept, [(id, DeploymentState::Running)].into());
    let (_, status) = device_says(&installation, "device-1", ("Credible", "True", "Consistent")).await;
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
}

/// Kills a device, waits until that was noticed, and lets it come back with lists that show nothing.
async fn crashed(installation: &mut Installation, seat: Seat, name: &str, before: &HostingDeploymentStatus) -> Seat {
    let url = before.url.clone().unwrap();
    misbehave(installation, 0, "");
    installation.devices[0].process.kill9().unwrap();
    eventually("the site ends with its device", async || match reqwest::get(&url).await {
        Ok(_) => Err("it still answers".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    let tenant = seat.at(installation);
    let status = tenant.condition(name, "DeviceReachable", "Unknown", "DeviceSilent").await;
    assert_eq!(status.deployment, before.deployment);
    let seat = tenant.seat();
    misbehave(installation, 0, "list-empty");
    installation.devices[0].process.restart().unwrap();
    seat
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_waits_for_its_device_unless_it_is_abandoned() {
    let _timed = Timed::start();
    let mut installation = installation("away", 2, &QUICK, &[]).await;
    let (waits, abandoned) = (name(), name());
    let seat = {
        let tenant = Tenant::new(&installation).await;
        for (name, device) in [(&waits, "device-1"), (&abandoned, "device-2")] {
            let release = tenant.files(name, &page().0).await;
            let mut object = tenant.object(name, &release);
            object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": device}}});
            tenant.apply(&tenant.sign(object)).await.unwrap();
            assert_eq!(tenant.ready(name).await.deployment.unwrap().device, device);
        }
        tenant.seat()
    };
    for device in &installation.devices {
        device.process.kill9().unwrap();
    }
    let tenant = seat.at(&installation);
    let mut records = Vec::new();
    for name in [&waits, &abandoned] {
        records.push((tenant.get(name).await.unwrap().uid().unwrap(), tenant.status(name).await.deployment.unwrap()));
        tenant.api().delete(name, &DeleteParams::default()).await.unwrap();
        eventually("it says what it waits for, and the way out", async || {
            let status = tenant.status(name).await;
            let (value, reason, message) = condition(&status, "Ready");
            let told = value == "False" && reason == "DeviceSilent" && message.contains("cleanup=Abandon");
            if told { Ok(()) } else { Err(message.to_owned()) }
        })
        .await;
    }

    let patch = json!({"metadata": {"annotations": {"hosting.nunet.io/cleanup": "Abandon"}}});
    tenant.api().patch(&abandoned, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    tenant.gone(&abandoned).await;
    let (uid, record) = &records[1];
    let kept: Api<ConfigMap> = Api::namespaced(tenant.client.clone(), &installation.plan.namespace);
    let tombstone = kept.get(&format!("dms-operator-tombstone-{uid}")).await.unwrap().data.unwrap();
    assert_eq!(tombstone["abandoned"], "true");
    assert_eq!((Some(&tombstone["deploymentId"]), &tombstone["device"]), (record.id.as_ref(), &record.device));
    let told = told(&tenant, &abandoned, "Abandoned").await;
    assert_eq!(told.len(), 1);
    assert!(told[0].note.as_ref().unwrap().contains(record.id.as_ref().unwrap()));

    // The other one still waits, and ends with its device's return.
    assert!(tenant.get(&waits).await.is_some());
    let seat = tenant.seat();
    installation.devices[0].process.restart().unwrap();
    let tenant = seat.at(&installation);
    tenant.gone(&waits).await;
    assert_eq!(sites_running(&installation, 0), 0);
    let tombstone = kept.get(&format!("dms-operator-tombstone-{}", records[0].0)).await.unwrap().data.unwrap();
    assert_eq!(tombstone["abandoned"], "false");
}

/// Applied again with the same signature, an abandoned object is another one under the same names. What the device kept
/// for the first is its own, and it takes it up instead of beginning anew.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_abandoned_object_left_is_adopted_by_the_next_of_its_name() {
    let _timed = Timed::start();
    let mut installation = installation("adopted", 1, &QUICK, &[]).await;
    let name = name();
    let (files, body) = page();
    let tenant = Tenant::new(&installation).await;
    let release = tenant.files(&name, &files).await;
    let object = tenant.sign(tenant.object(&name, &release));
    tenant.apply(&object).await.unwrap();
    let first = tenant.ready(&name).await.deployment.unwrap();
    let uid = tenant.get(&name).await.unwrap().uid();
    let made = creations(&installation);

    installation.devices[0].process.kill9().unwrap();
    let patch = json!({"metadata": {"annotations": {"hosting.nunet.io/cleanup": "Abandon"}}});
    tenant.api().patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    tenant.apply(&object).await.unwrap();
    assert_ne!(tenant.get(&name).await.unwrap().uid(), uid);
    tenant.condition(&name, "TokenVerified", "True", "Verified").await;
    assert_eq!(tenant.status(&name).await.deployment.and_then(|record| record.id), None);

    let seat = tenant.seat();
    installation.devices[0].process.restart().unwrap();
    let tenant = seat.at(&installation);
    let status = tenant.ready(&name).await;
    let second = status.deployment.unwrap();
    assert_eq!((&second.id, &second.device, second.attempt), (&first.id, &first.device, first.attempt));
    assert_eq!(fetch(&status.url.unwrap()).await, (200, body));
    looks(&installation, 0, "/deployment/list", 3).await;
    assert_eq!(creations(&installation), made);
    let kept = deployments_of(&installation, 0, &tenant.namespace, &name);
    assert_eq!(kept, [(first.id.unwrap(), DeploymentState::Running)].into());
}

/// Puts an id into the status, as somebody with too many rights might.
async fn forge(tenant: &Tenant<'_>, name: &str, id: &Value) {
    let patch = json!({"status": {"deployment": {"id": id}}});
    tenant.api().patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_id_of_somebody_else_is_left_alone() {
    let _timed = Timed::start();
    let installation = installation("foreign", 1, &QUICK, &[]).await;
    let (victim, thief) = (Tenant::new(&installation).await, Tenant::new(&installation).await);
    let name = name();
    let (files, body) = page();
    victim.deploy(&name, &files).await;
    let theirs = victim.ready(&name).await;
    thief.deploy(&name, &page().0).await;
    let own = thief.ready(&name).await;
    let stolen = theirs.deployment.clone().unwrap().id;
    let changed = changes(&installation, 0);

    forge(&thief, &name, &json!(stolen)).await;
    let status = thief.condition(&name, "Ready", "False", "ForeignDeployment").await;
    assert_eq!(condition(&status, "Stalled").0, "True");
    assert_eq!(changes(&installation, 0), changed);
    // Not even with the object, which waits for a person.
    thief.api().delete(&name, &DeleteParams::default()).await.unwrap();
    thief.condition(&name, "Ready", "False", "ForeignDeployment").await;
    looks(&installation, 0, "/deployment/manifest", 3).await;
    assert_eq!(changes(&installation, 0), changed);
    assert_eq!(fetch(&theirs.url.unwrap()).await, (200, body));

    // Without the foreign id the operator finds its own by tag, and only that is stopped.
    forge(&thief, &name, &Value::Null).await;
    thief.gone(&name).await;
    let mut stopped = changed;
    stopped.push("/dms/node/deployment/shutdown".to_owned());
    assert_eq!(changes(&installation, 0), stopped);
    assert!(reqwest::get(own.url.unwrap()).await.is_err());
    assert_eq!(sites_running(&installation, 0), 1);
}

async fn device(installation: &Installation, name: &str, spec: Value) {
    let api: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_goes_where_the_spec_and_the_devices_permit() {
    let _timed = Timed::start();
    let installation = installation("placement", 2, &QUICK, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let deploy = async |device: Option<&str>| {
        let name = name();
        let release = tenant.files(&name, &page().0).await;
        let mut object = tenant.object(&name, &release);
        if let Some(device) = device {
            object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": device}}});
        }
        tenant.apply(&tenant.sign(object)).await.unwrap();
        name
    };
    let chosen = async |name: &str| tenant.ready(name).await.deployment.unwrap().device;
    for wanted in ["device-2", "device-1", "device-2"] {
        assert_eq!(chosen(&deploy(Some(wanted)).await).await, wanted);
    }
    // Nobody carries the label; somebody may some day.
    let nowhere = deploy(Some("device-3")).await;
    let status = tenant.condition(&nowhere, "Ready", "False", "NoDevice").await;
    assert_eq!(condition(&status, "Reconciling").0, "True");

    // The less loaded device takes nothing new; what runs there stays.
    device(&installation, "device-1", json!({"unschedulable": true})).await;
    assert_eq!(chosen(&deploy(None).await).await, "device-2");
    assert_eq!(sites_running(&installation, 0), 1);
    device(&installation, "device-1", json!({"unschedulable": false})).await;
    assert_eq!(chosen(&deploy(None).await).await, "device-1");

    // A grant that lacks something is read, not tried.
    let first = &installation.devices[0];
    let paths = ["/dms/node/peers".to_owned()];
    let expires = in_future(Duration::from_hours(1));
    let narrow = first.owner.delegate(installation.provider.did(), None, &paths, expires, 2, None).unwrap();
    let before = changes(&installation, 0);
    device(&installation, &first.name, json!({"grant": String::from_utf8(narrow.to_json()).unwrap()})).await;
    let (message, _) = device_says(&installation, &first.name, ("Ready", "False", "GrantInsufficient")).await;
    assert!(message.contains("/dms/node/deployment"), "{message}");
    let name = deploy(Some("device-1")).await;
    tenant.condition(&name, "Ready", "False", "NoDevice").await;
    assert_eq!(changes(&installation, 0), before);
    let whole = first.owner.device_grant(installation.provider.did(), expires).unwrap();
    device(&installation, &first.name, json!({"grant": String::from_utf8(whole.to_json()).unwrap()})).await;
    assert_eq!(chosen(&name).await, "device-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_found_at_its_address_and_by_its_key() {
    let _timed = Timed::start();
    let mut installation = installation("address", 2, &QUICK, &[]).await;
    let [first, second] = &installation.devices[..] else { panic!("two devices were started") };
    let (name, own, other) = (first.name.clone(), first.address.clone(), second.address.clone());
    // Another key at the address is another device, whatever it would answer. A connection that is open stays in use, so
    // it must end first.
    device(&installation, &name, json!({"addresses": [other]})).await;
    installation.devices[0].process.restart().unwrap();
    let before = changes(&installation, 1);
    device_says(&installation, &name, ("Ready", "False", "DeviceSilent")).await;
    device(&installation, &name, json!({"addresses": [own]})).await;
    device_says(&installation, &name, ("Ready", "True", "Succeeded")).await;
    assert_eq!(changes(&installation, 1), before);
}

/// The embedded device runs one image, and this is another. As with DMS, nobody bids for it, and it fails at its
/// deadline: 15 s before the end of the window.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_does_not_run_is_said_and_not_hammered() {
    let _timed = Timed::start();
    let image = format!("elsewhere@sha256:{}", "5".repeat(64));
    let arguments = ["--resync", "1s", "--device-window", "70s", "--site-image", &image];
    let installation = installation("image", 1, &arguments, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let begun = tokio::time::Instant::now();
    tenant.deploy(&name, &page().0).await;
    let events = told(&tenant, &name, "DeploymentFailed").await;
    assert!(events[0].note.as_ref().unwrap().contains("attempt 2 begins"), "{events:?}");
    // A further attempt is made, and none before the one before it failed too: each lives for 45 s.
    eventually("the next attempt", async || match tenant.status(&name).await.deployment {
        Some(record) if record.attempt >= 2 && record.id.is_some() => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    looks(&installation, 0, "/deployment/status", 3).await;
    let requests = u64::try_from(creations(&installation)).unwrap();
    assert!(requests <= 1 + begun.elapsed().as_secs() / 45, "{requests} requests in {:?}", begun.elapsed());
    let status = tenant.status(&name).await;
    assert_eq!((&status.url, &status.release, condition(&status, "Ready").0), (&None, &None, "False"));
    assert_eq!(sites_running(&installation, 0), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_at_once_are_all_ready_and_none_twice() {
    let _timed = Timed::start();
    let installation = installation("fifty", 2, &[], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (files, body) = page();
    let release = tenant.files("shared", &files).await;
    let names: Vec<String> = (0..COUNT).map(|_| name()).collect();
    for name in &names {
        let object = installation.deployment(&tenant.namespace, name, tenant.owner.did(), &release, "shared");
        tenant.apply(&tenant.sign(object)).await.unwrap();
    }
    let mut ids = std::collections::BTreeSet::new();
    for name in &names {
        let limit = Duration::from_secs(180);
        let status = tenant.condition_within(name, "Ready", "True", "Succeeded", limit).await;
        assert_eq!(fetch(&status.url.unwrap()).await, (200, body.clone()));
        ids.insert(status.deployment.unwrap().id.unwrap());
    }
    assert_eq!(ids.len(), COUNT);
    assert_eq!(creations(&installation), COUNT);
    let (first, second) = (sites_running(&installation, 0), sites_running(&installation, 1));
    assert_eq!(first + second, COUNT);
    assert!(first.abs_diff(second) <= 2, "{first} and {second}");

    let operator = format!("system:serviceaccount:{}:dms-operator", installation.plan.namespace);
    let writes = shared().await.audit().writes(|record| record.user == operator).unwrap();
    for name in &names {
        let own: Vec<_> = writes.iter().filter(|record| &record.name == name).collect();
        // None at all would only say that the log shows nothing.
        assert!((1..=WRITES).contains(&own.len()), "{} writes: {own:#?}", own.len());
    }
}
