//! A device that lost its state, and is adopted as it is.

use super::*;

/// Kills a device, takes its state away, and starts it again.
fn lose(installation: &mut Installation) {
    let device = &mut installation.devices[0];
    device.process.kill9().unwrap();
    fs::remove_dir_all(device.folder.join("state")).unwrap();
    device.process.restart().unwrap();
}

/// Waits until the device is known to have lost its state, and no adoption is under way.
async fn known_as_lost(admin: &Administrator<'_>) {
    eventually("the loss is noticed", async || {
        admin.run(&["retry", "device-1"]).await.done();
        let status = admin.device().await.data["status"].clone();
        let stalled = status["conditions"].as_array().unwrap().iter().find(|one| one["type"] == "Stalled");
        match stalled {
            Some(stalled) if stalled["reason"] == "SentinelLost" => Ok(()),
            _ => Err(format!("{status}\noperator:\n{}", admin.installation.operator.log_end())),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_lost_its_state_is_adopted_once() {
    let _timed = Timed::start();
    let mut installation = installation("device-lost", 1, &QUICK, &[]).await;
    let names = [name(), name()];
    let tenant = Tenant::new(&installation).await;
    let mut first = Vec::new();
    for name in &names {
        first.push(deployed(&tenant, name).await);
    }
    {
        let admin = Administrator::of(&installation).await;
        let refused = admin.run(&["adopt", "device-1"]).await;
        refused.refused(1, "(it says Succeeded), so there is nothing to adopt");
        assert!(!admin.device().await.annotations().contains_key("hosting.nunet.io/adopt"));
    }
    let seat = tenant.seat();
    let sentinel = devices(&installation).get("device-1").await.unwrap().data["status"]["sentinel"].clone();
    lose(&mut installation);

    let tenant = seat.at(&installation);
    let admin = Administrator::of(&installation).await;
    known_as_lost(&admin).await;
    let told = admin.device().await.data["status"].to_string();
    assert!(told.contains("`kubectl hosting device adopt device-1`"), "{told}");
    assert_eq!(count(&installation, "/deployment/new"), 0, "nothing is created there by itself");

    let adopted = admin.run(&["adopt", "device-1"]).await.done();
    for name in &names {
        assert!(adopted.contains(&format!("{}/{name}", tenant.namespace)), "{adopted}");
    }
    installation.device_ready("device-1").await.unwrap();
    assert_ne!(admin.device().await.data["status"]["sentinel"], sentinel, "another record proves its lists");
    // Each of the two was recorded there, and neither holds up the other.
    for (name, before) in names.iter().zip(&first) {
        let status = eventually("it runs anew", async || {
            let status = tenant.status(name).await;
            let id = status.deployment.as_ref().and_then(|record| record.id.clone());
            match id {
                Some(id) if id != *before => Ok(()),
                _ => Err(format!("{status:?}")),
            }
        });
        status.await;
        let url = tenant.ready(name).await.url.unwrap();
        assert_eq!(fetch(&url).await.0, 200);
    }
    assert_eq!(count(&installation, "/deployment/new"), 3, "the record and the two");

    // What was said of one loss does not count for the next.
    lose(&mut installation);
    let admin = Administrator::of(&installation).await;
    known_as_lost(&admin).await;
    let before = count(&installation, "/peers/self");
    admin.run(&["retry", "device-1"]).await.done();
    eventually("it is looked at again", async || {
        if count(&installation, "/peers/self") > before { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    known_as_lost(&admin).await;
    assert_eq!(count(&installation, "/deployment/new"), 0);
}
