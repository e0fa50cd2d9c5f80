//! What the heartbeats of a device show in the status of its HostingDevice.

use dms_operator::{
    api::{HostingDevice, HostingDeviceStatus, Reachability, ReplySpelling},
    capability::Token,
    dev::{installation::Installation, wallet::in_future},
};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{eventually, within},
    devices::TOLD,
    timed::Timed,
    world::installation,
};

fn api(installation: &Installation) -> Api<HostingDevice> {
    Api::namespaced(installation.client.clone(), &installation.plan.namespace)
}

async fn status(installation: &Installation, name: &str) -> HostingDeviceStatus {
    api(installation).get(name).await.unwrap().status.unwrap_or_default()
}

fn told<'a>(status: &'a HostingDeviceStatus, kind: &str) -> (&'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or(("", ""), |found| (&*found.status, &*found.reason))
}

/// Waits until the status is so, and gives it.
async fn until(installation: &Installation, name: &str, what: &str, so: impl Fn(&HostingDeviceStatus) -> bool) {
    within(TOLD, what, async || {
        let status = status(installation, name).await;
        if so(&status) { Ok(()) } else { Err(format!("{status:#?}\n{}", installation.operator.log_end())) }
    })
    .await;
}

async fn set_grant(installation: &Installation, name: &str, grant: &Token) {
    let spec: Value = json!({"spec": {"grant": String::from_utf8(grant.to_json()).unwrap()}});
    api(installation).patch(name, &PatchParams::default(), &Patch::Merge(&spec)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_shows_whether_it_answers_what_it_offers_and_until_when_it_may_be_asked() {
    let _timed = Timed::start();
    let mut installation = installation("heartbeat", 1, &[], &[]).await;
    let name = installation.devices[0].name.clone();
    let first = status(&installation, &name).await;
    assert_eq!(first.reachability, Some(Reachability::Reachable));
    assert_eq!(first.onboarded, Some(true));
    assert_eq!(told(&first, "Credible"), ("True", "Consistent"));
    // A day is less than a week.
    assert_eq!(told(&first, "GrantValid"), ("True", "GrantExpiring"));
    let before = in_future(std::time::Duration::from_hours(23)).to_timestamp();
    assert!(first.grant_expires.as_ref().is_some_and(|expires| expires.0 > before), "{first:#?}");

    // A grant that lasts is no cause for worry, and one that lacks something is told without asking the device.
    let device = &installation.devices[0];
    let provider = installation.provider.did();
    let month = in_future(std::time::Duration::from_hours(30 * 24));
    set_grant(&installation, &name, &device.owner.device_grant(provider, month).unwrap()).await;
    until(&installation, &name, "the new grant is read", |status| {
        told(status, "GrantValid") == ("True", "GrantSufficient")
            && status
                .grant_expires
                .as_ref()
                .is_some_and(|expires| expires.0.as_second() == month.to_timestamp().as_second())
    })
    .await;
    // The spelling shows once a status is asked for.
    until(&installation, &name, "the spelling is seen", |status| status.reply_spelling == Some(ReplySpelling::New))
        .await;

    installation.devices[0].process.kill9().unwrap();
    until(&installation, &name, "it is unreachable", |status| {
        status.reachability == Some(Reachability::Unreachable) && told(status, "Ready") == ("False", "DeviceSilent")
    })
    .await;
    let gone = status(&installation, &name).await;
    assert_eq!(
        (gone.onboarded, gone.sentinel),
        (Some(true), first.sentinel.clone()),
        "silence says nothing about these"
    );
    installation.devices[0].process.restart().unwrap();
    until(&installation, &name, "it is reachable again", |status| {
        status.reachability == Some(Reachability::Reachable) && told(status, "Ready") == ("True", "Succeeded")
    })
    .await;
    assert_eq!(status(&installation, &name).await.sentinel, first.sentinel);

    // Its figures are metrics, and not written each time.
    let version = api(&installation).get(&name).await.unwrap().metadata.resource_version;
    let seconds = async || {
        let text = reqwest::get(format!("{}/metrics", installation.http)).await.unwrap().text().await.unwrap();
        let series = format!("dms_operator_device_heartbeat_seconds{{device=\"{name}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned))
    };
    let took = seconds().await.unwrap();
    assert!(took.parse::<f64>().is_ok_and(|took| took > 0.0 && took < 15.0), "{took}");
    eventually("another heartbeat", async || match seconds().await {
        Some(now) if now != took => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await;
    assert_eq!(api(&installation).get(&name).await.unwrap().metadata.resource_version, version);
}
