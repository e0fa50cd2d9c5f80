//! What a deleted deployment leaves is kept for its time, and then goes from the device before it is forgotten here.

use std::{fs, path::PathBuf};

use dms_operator::{api::HostingDevice, capability::Nanos, controller::clock::wall, dev::installation::Installation};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt as _, api::DeleteParams};
use serde_json::{Value, json};

use crate::{
    cluster::eventually,
    timed::Timed,
    world::{Tenant, asked, installation_with, misbehave, name, page},
};

/// What one deleted deployment left.
struct Left {
    tombstone: String,
    until: Nanos,
    device: usize,
    id: String,
    /// Whether the device still has what it recorded, as far as the test has let it.
    recorded: bool,
}

impl Left {
    /// Deploys a site to a device, and deletes it.
    async fn of(tenant: &Tenant<'_>, device: usize) -> Self {
        let (name, namespace) = (name(), tenant.installation.plan.namespace.clone());
        let release = tenant.files(&name, &page().0).await;
        let mut object = tenant.object(&name, &release);
        let label = tenant.installation.devices[device].name.clone();
        object["spec"]["placement"] = json!({"deviceSelector": {"matchLabels": {"device": label}}});
        tenant.apply(&tenant.sign(object)).await.unwrap();
        let id = tenant.ready(&name).await.deployment.unwrap().id.unwrap();
        let tombstone = format!("dms-operator-tombstone-{}", tenant.get(&name).await.unwrap().uid().unwrap());
        tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
        tenant.gone(&name).await;
        let kept: Api<ConfigMap> = Api::namespaced(tenant.client.clone(), &namespace);
        let data = kept.get(&tombstone).await.unwrap().data.unwrap();
        assert_eq!((&data["device"], &data["deploymentId"]), (&label, &id));
        let until = Nanos::from_timestamp(data["keptUntil"].parse().unwrap());
        Self { tombstone, until, device, id, recorded: true }
    }

    async fn has_tombstone(&self, installation: &Installation) -> bool {
        let kept: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
        kept.get_opt(&self.tombstone).await.unwrap().is_some()
    }

    fn has_record(&self, installation: &Installation) -> bool {
        self.state(installation)["deployments"].get(&self.id).is_some()
    }

    fn state(&self, installation: &Installation) -> Value {
        serde_json::from_slice(&fs::read(self.file(installation)).unwrap()).unwrap()
    }

    fn file(&self, installation: &Installation) -> PathBuf {
        installation.devices[self.device].folder.join("state/state.json")
    }

    /// Restarts the device with another memory.
    fn recall(&self, installation: &mut Installation, change: impl FnOnce(&mut Value)) {
        installation.devices[self.device].process.kill9().unwrap();
        let mut state = self.state(installation);
        change(&mut state);
        fs::write(self.file(installation), state.to_string()).unwrap();
        installation.devices[self.device].process.restart().unwrap();
    }

    /// Lets the device lose this record, or all it has.
    fn lose(&mut self, installation: &mut Installation, all: bool) {
        self.recall(installation, |kept| {
            kept["deployments"].as_object_mut().unwrap().retain(|id, _| !all && *id != self.id);
        });
        self.recorded = false;
    }

    /// Waits until all of it is gone, which must not come before its time, nor the tombstone before the record.
    async fn goes(&self, installation: &Installation) {
        eventually("tombstone and record go", async || {
            let (tombstone, record) = (self.has_tombstone(installation).await, self.has_record(installation));
            assert!(tombstone || !record, "the tombstone went first");
            let whole = tombstone && record == self.recorded;
            assert!(wall() > self.until || whole, "it went before {}", self.until);
            match (tombstone, record) {
                (false, false) => Ok(()),
                left => Err(format!("{left:?}; the operator:\n{}", installation.operator.log_end())),
            }
        })
        .await;
    }

    /// Waits until the operator has said so often why the tombstone stays. It is still there then, and the record too.
    async fn stays(&self, installation: &Installation, why: &str, times: usize) {
        eventually("the operator says why the tombstone stays", async || {
            let log = installation.operator.log().unwrap();
            let told = log.lines().filter(|line| line.contains(&self.tombstone) && line.contains(why)).count();
            if told >= times { Ok(()) } else { Err(installation.operator.log_end()) }
        })
        .await;
        assert!(wall() > self.until);
        let left = (self.has_tombstone(installation).await, self.has_record(installation));
        assert_eq!(left, (true, self.recorded));
    }

    fn deletions(&self, installation: &Installation) -> usize {
        asked(installation, self.device).iter().filter(|path| path.ends_with("/deployment/delete")).count()
    }
}

async fn start(name: &str, devices: usize, retain: &str) -> Installation {
    let terms = json!({"content": {"retainAfterDelete": retain}});
    installation_with(name, devices, &["--resync", "1s"], &[], terms).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_goes_after_its_time_and_not_before() {
    let _timed = Timed::start();
    let mut installation = start("tombstones", 2, "12s").await;
    let (left, mut forgotten) = {
        let tenant = Tenant::new(&installation).await;
        futures::join!(Left::of(&tenant, 0), Left::of(&tenant, 1))
    };
    // As after a deletion whose reply was lost.
    forgotten.lose(&mut installation, false);
    futures::join!(left.goes(&installation), forgotten.goes(&installation));
    assert_eq!((left.deletions(&installation), forgotten.deletions(&installation)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tombstone_stays_while_its_device_does_not_say_that_the_record_is_gone() {
    let _timed = Timed::start();
    let mut installation = start("tombstones-stay", 3, "20s").await;
    let (refused, silent, mut lost) = {
        let tenant = Tenant::new(&installation).await;
        futures::join!(Left::of(&tenant, 0), Left::of(&tenant, 1), Left::of(&tenant, 2))
    };
    assert!(wall() < refused.until, "this machine is too slow for this test");
    // A node deletes no record of what runs.
    refused.recall(&mut installation, |kept| kept["deployments"][&refused.id]["state"] = json!("Running"));
    misbehave(&installation, silent.device, "drop-requests");
    lost.lose(&mut installation, true);

    futures::join!(
        refused.stays(&installation, "deployment is still active", 1),
        silent.stays(&installation, "did not answer", 1),
        lost.stays(&installation, "its list does not prove that there is none", 1),
    );
    misbehave(&installation, silent.device, "");
    // What was on a device that is declared no more is nobody's business.
    let devices: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    devices.delete(&installation.devices[lost.device].name, &DeleteParams::default()).await.unwrap();
    futures::join!(
        refused.stays(&installation, "deployment is still active", 2),
        silent.goes(&installation),
        lost.goes(&installation),
    );
}
