//! What the operator does while a device misbehaves, fault by fault, each on a device of its own, side by side.
//!
//! On each device one deployment runs before the fault, and one is applied under it. Whatever the fault is: what runs goes
//! on and is served, nothing is made twice or taken away, the status says what is the matter, and both are Ready when the
//! fault is over.

use std::{collections::BTreeMap, time::Duration};

use dms_operator::{
    api::{HostingDeploymentStatus, HostingDevice, names::ANNOTATION_ADOPT},
    controller::clock::wall,
    dev::installation::Installation,
    device::{dms::DeploymentState, node::Kind},
};
use futures::future::join_all;
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    cluster::within,
    timed::Timed,
    world::{Tenant, asked, condition, deployments_of, fetch, installation, misbehave, name, page},
};

/// The longest: a request is lost when the device is last asked, and waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is to be seen while the fault holds.
#[derive(Clone, Copy, Debug)]
enum Under {
    /// What is applied becomes Ready all the same.
    Works,
    /// The device does not answer: what runs there says so, and nothing new is begun there.
    Silent,
    /// What is applied is not Ready, for this reason; what runs stays Ready.
    Hindered(&'static str),
    /// The device is not believed: neither is Ready, and nothing new goes there.
    NotBelieved,
    /// The device answers something that is not understood: neither is Ready, and each is begun once.
    Unreadable,
    /// What it says of usage is not believed; what runs stays Ready, and nothing new goes there.
    NotCounted,
}

const FAULTS: [(&str, Under); 22] = [
    ("delay=0..1500", Under::Works),
    ("duplicate-reply", Under::Works),
    ("reorder", Under::Works),
    ("slow-read", Under::Works),
    ("list-empty", Under::Works),
    ("list-filtered-empty", Under::Works),
    ("drop-new-reply", Under::Works),
    ("clock=-90s", Under::Works),
    // Requests for an answer live 45 s.
    ("clock=+90s", Under::Silent),
    ("drop-requests", Under::Silent),
    ("drop-replies", Under::Silent),
    ("cut", Under::Silent),
    ("half-open", Under::Silent),
    ("mute", Under::Silent),
    ("wrong-key", Under::Silent),
    ("full-disk", Under::Hindered("DeviceRefused")),
    ("no-start", Under::Hindered("Creating")),
    ("die-at-once", Under::Hindered("SiteNotReporting")),
    ("foreign-id", Under::NotBelieved),
    ("foreign-peer", Under::NotBelieved),
    ("impossible-usage", Under::NotCounted),
    ("unknown-state", Under::Unreadable),
];

/// A device with a fault, and the two that are deployed on it.
struct Case<'a> {
    tenant: &'a Tenant<'a>,
    device: usize,
    fault: &'static str,
    before: String,
    under: String,
}

impl<'a> Case<'a> {
    fn new(tenant: &'a Tenant<'a>, device: usize, fault: &'static str) -> Self {
        Self { tenant, device, fault, before: name(), under: name() }
    }

    async fn deploy(&self, name: &str) -> String {
        let (files, body) = page();
        let release = self.tenant.files(name, &files).await;
        let mut object = self.tenant.object(name, &release);
        let device = &self.tenant.installation.devices[self.device].name;
        object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": device}}});
        self.tenant.apply(&self.tenant.sign(object)).await.unwrap();
        body
    }

    /// Waits until the device is marked as one that says what cannot be.
    async fn accused(&self) {
        within(PATIENCE, self.fault, async || {
            let device = self.device().await;
            if accused_since(&device).is_some() { Ok(()) } else { Err(format!("{:?}", device.status)) }
        })
        .await;
    }

    async fn device(&self) -> HostingDevice {
        let installation = self.tenant.installation;
        devices(installation).get(&installation.devices[self.device].name).await.unwrap()
    }

    /// Waits until an object is Ready once the fault is over. A lie is not forgotten by itself: a person sees to it.
    async fn heals(&self, name: &str) -> HostingDeploymentStatus {
        within(PATIENCE, &format!("{} is Ready after {}", name, self.fault), async || {
            adopt(self.tenant.installation, &self.device().await).await;
            let status = self.tenant.status(name).await;
            if condition(&status, "Ready").0 == "True" { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await
    }

    /// Waits until what is applied under the fault is not Ready, for one of these reasons.
    async fn says(&self, reasons: &[&str]) {
        within(PATIENCE, self.fault, async || {
            let status = self.tenant.status(&self.under).await;
            let (value, reason, message) = condition(&status, "Ready");
            if value == "False" && reasons.contains(&reason) { Ok(()) } else { Err(format!("{reason}: {message}")) }
        })
        .await;
    }

    async fn run(&self, under: Under) {
        let Self { tenant, device, fault, .. } = self;
        let body = self.deploy(&self.before).await;
        let before = tenant.ready(&self.before).await;
        misbehave(tenant.installation, *device, fault);

        if matches!(under, Under::Silent) {
            tenant.condition_within(&self.before, "DeviceReachable", "Unknown", "DeviceSilent", PATIENCE).await;
        }
        if matches!(under, Under::NotBelieved | Under::NotCounted) {
            self.accused().await;
            if matches!(under, Under::NotBelieved) {
                self.tenant.condition_within(&self.before, "Ready", "False", "DeviceContradicts", PATIENCE).await;
            } else {
                tenant.ready(&self.before).await;
            }
        }
        if matches!(under, Under::Unreadable) {
            self.tenant.condition_within(&self.before, "Ready", "False", "DeviceUnreadable", PATIENCE).await;
        }
        let new_body = self.deploy(&self.under).await;
        match under {
            Under::Works => drop(tenant.condition_within(&self.under, "Ready", "True", "Succeeded", PATIENCE).await),
            Under::Hindered(reason) => self.says(&[reason]).await,
            Under::Unreadable => self.says(&["DeviceUnreadable"]).await,
            // Whether the heartbeat or the first look finds out is chance.
            Under::Silent => self.says(&["DeviceSilent", "NoDevice"]).await,
            Under::NotBelieved | Under::NotCounted => self.says(&["NoDevice"]).await,
        }
        let status = tenant.status(&self.before).await;
        assert_eq!((&status.deployment, &status.url), (&before.deployment, &before.url), "{fault}");
        assert_eq!(fetch(&before.url.clone().unwrap()).await, (200, body.clone()), "{fault}: what runs goes on");

        misbehave(tenant.installation, *device, "");
        for (name, body) in [(&self.before, body), (&self.under, new_body)] {
            let status = self.heals(name).await;
            assert_eq!(fetch(&status.url.unwrap()).await, (200, body), "{fault}");
            self.assert_only(name, status.deployment.unwrap().id.unwrap());
        }
        assert_eq!(tenant.status(&self.before).await.deployment, before.deployment, "{fault}");
        self.assert_nothing_taken_away();
    }

    /// The device never took another deployment for this object.
    fn assert_only(&self, name: &str, id: String) {
        let only: BTreeMap<_, _> = [(id, DeploymentState::Running)].into();
        let there = deployments_of(self.tenant.installation, self.device, &self.tenant.namespace, name);
        assert_eq!(there, only, "{}", self.fault);
    }

    fn assert_nothing_taken_away(&self) {
        let asked = asked(self.tenant.installation, self.device);
        let taking = asked.iter().find(|path| path.ends_with("/shutdown") || path.ends_with("/delete"));
        assert_eq!(taking, None, "{}", self.fault);
    }
}

fn devices(installation: &Installation) -> Api<HostingDevice> {
    Api::namespaced(installation.client.clone(), &installation.plan.namespace)
}

/// Since when a device is marked as one that says what cannot be.
fn accused_since(device: &HostingDevice) -> Option<Timestamp> {
    let mut conditions = device.status.iter().flat_map(|status| &status.conditions);
    let found = conditions.find(|condition| condition.type_ == "Credible" && condition.status == "False");
    found.map(|condition| condition.last_transition_time.0)
}

/// Sees to the devices that are marked so, as a person does.
pub async fn adopt_accused(installation: &Installation) {
    for device in devices(installation).list(&ListParams::default()).await.unwrap() {
        adopt(installation, &device).await;
    }
}

async fn adopt(installation: &Installation, device: &HostingDevice) {
    let adopted = device.annotations().get(ANNOTATION_ADOPT).map(|time| time.parse::<Timestamp>().unwrap());
    if accused_since(device).is_some_and(|since| adopted.is_none_or(|adopted| adopted < since)) {
        let patch = json!({"metadata": {"annotations": {ANNOTATION_ADOPT: wall().to_timestamp().to_string()}}});
        devices(installation).patch(&device.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_on_a_device_nothing_is_lost_made_twice_or_taken_away() {
    let _timed = Timed::start();
    let arguments = ["--resync", "2s", "--device-window", "70s"];
    let installation = installation("faults", FAULTS.len(), &arguments, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let cases = FAULTS.iter().enumerate().map(|(device, (fault, under))| {
        let case = Case::new(&tenant, device, fault);
        async move { case.run(*under).await }
    });
    join_all(cases).await;
}

#[test]
fn every_kind_of_fault_has_its_case() {
    for (_, name) in Kind::ALL {
        let cases = FAULTS.iter().filter(|(fault, _)| fault.split('=').next() == Some(name));
        assert_eq!(cases.count(), 1, "{name}");
    }
}
