//! A device that once said what cannot be, and a person who sees to it.

use dms_operator::api::HostingDeploymentStatus;
use serde_json::Map;

use super::*;
use crate::world::{condition, device_says, looks, misbehave};

const CONVICTED: (&str, &str, &str) = ("Credible", "False", "DeviceContradicts");

/// Lets a device say that it is another peer, until that was noticed.
async fn convict(admin: &Administrator<'_>) {
    misbehave(admin.installation, 0, "foreign-peer");
    admin.run(&["retry", "device-1"]).await.done();
    device_says(admin.installation, "device-1", CONVICTED).await;
    misbehave(admin.installation, 0, "");
}

/// Changes what a device that does not run will say of its deployments.
fn rewrite(installation: &Installation, change: impl FnOnce(&mut Map<String, Value>)) {
    let file = installation.devices[0].folder.join("state/state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(state["deployments"].as_object_mut().unwrap());
    fs::write(file, state.to_string()).unwrap();
}

fn changes(installation: &Installation) -> usize {
    ["/deployment/new", "/deployment/shutdown", "/deployment/delete", "/deployment/update"]
        .iter()
        .map(|behaviour| count(installation, behaviour))
        .sum()
}

/// Waits until the message of `Ready` says something.
async fn says(tenant: &Tenant<'_>, name: &str, what: &str) -> HostingDeploymentStatus {
    eventually(&format!("{name} says {what:?}"), async || {
        let status = tenant.status(name).await;
        let (value, _, message) = condition(&status, "Ready");
        if value == "False" && message.contains(what) { Ok(status) } else { Err(format!("{status:#?}")) }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_convicted_device_ends_nothing_and_is_drained_and_adopted() {
    let _timed = Timed::start();
    let quick = [&QUICK[..], &["--lease-duration", "10s"]].concat();
    let mut installation = installation("convicted", 1, &quick, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let names = [name(), name()];
    let [hidden, failed] = &names;
    let mut ids = Vec::new();
    for name in &names {
        ids.push(deployed(&tenant, name).await);
    }
    convict(&Administrator::of(&installation).await).await;

    // It hides one of the two and says that the other failed, to an operator that has just started.
    let (seat, before) = (tenant.seat(), changes(&installation));
    installation.operator.kill9().unwrap();
    installation.devices[0].process.kill9().unwrap();
    rewrite(&installation, |deployments| {
        deployments.remove(&ids[0]).unwrap();
        deployments[&ids[1]]["state"] = json!("Failed");
    });
    installation.devices[0].process.restart().unwrap();
    installation.operator.restart().unwrap();
    let tenant = seat.at(&installation);
    let of_hidden = says(&tenant, hidden, "its list is not known to be complete").await;
    let of_failed = says(&tenant, failed, "says that the deployment has ended, and has contradicted itself").await;
    looks(&installation, 0, "/deployment/list", 4).await;
    assert_eq!(changes(&installation), before, "nothing is created or taken away");
    for (status, id) in [of_hidden, of_failed].iter().zip(&ids) {
        assert_eq!(status.deployment.as_ref().unwrap().id.as_ref(), Some(id));
    }
    device_says(&installation, "device-1", CONVICTED).await;

    let admin = Administrator::of(&installation).await;
    let told = admin.run(&["drain", "device-1"]).await.done();
    for name in &names {
        assert!(told.contains(&format!("{}/{name}", tenant.namespace)), "by what is recorded, not by its list: {told}");
    }
    assert!(told.contains("Nothing is stopped or deleted"), "{told}");
    assert_eq!(admin.device().await.data["spec"]["unschedulable"], true);
    let described = admin.run(&["describe", "device-1"]).await.done();
    assert!(described.contains("Credible=False  DeviceContradicts"), "{described}");
    assert_eq!(changes(&installation), before);

    // Taken as it is now, it is believed again.
    admin.run(&["uncordon", "device-1"]).await.done();
    admin.run(&["adopt", "device-1"]).await.done();
    device_says(&installation, "device-1", ("Credible", "True", "Consistent")).await;
    for (name, id) in names.iter().zip(&ids) {
        eventually("it runs anew", async || {
            let status = tenant.status(name).await;
            let now = status.deployment.as_ref().and_then(|record| record.id.as_ref());
            let anew = now.is_some_and(|now| now != id) && condition(&status, "Ready").0 == "True";
            if anew { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
    }
    assert_eq!(changes(&installation), before + 2);

    // What was said of one contradiction does not count for the next.
    convict(&admin).await;
    let beats = count(&installation, "/peers/self");
    admin.run(&["retry", "device-1"]).await.done();
    eventually("it is looked at again", async || {
        if count(&installation, "/peers/self") > beats { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    device_says(&installation, "device-1", CONVICTED).await;
}
