//! What is counted, and how the owner learns of what was done.

use cucumber::{then, when};
use k8s_openapi::api::events::v1::Event;

use crate::{
    cluster::eventually,
    stage::{Served, Stage},
    world::{condition, fetch},
};

/// What the kit's device gives a site server.
const CPU: f64 = 100.0;
const MEMORY: f64 = 134_217_728.0;

async fn metrics(stage: &Stage) -> String {
    fetch(&format!("{}/metrics", stage.installation().http)).await.1
}

/// What a meter says of an object.
async fn usage(stage: &Stage, meter: &str, name: &str) -> Option<f64> {
    let sample = format!("dms_operator_usage_{meter}{{namespace=\"{}\",name=\"{name}\"}}", stage.namespace);
    metrics(stage).await.lines().find_map(|line| line.strip_prefix(&sample)?.trim().parse().ok())
}

#[then("the seconds it runs, and what it reserves over them, are counted for this deployment")]
async fn seconds(stage: &mut Stage) {
    let name = &stage.served().name;
    eventually("seconds are counted", async || {
        let seconds = usage(stage, "allocation_seconds_total", name).await.unwrap_or_default();
        let cpu = usage(stage, "reserved_cpu_millicore_seconds_total", name).await.unwrap_or_default();
        let memory = usage(stage, "reserved_memory_byte_seconds_total", name).await.unwrap_or_default();
        // All of one reading: not between two looks.
        let same = usage(stage, "allocation_seconds_total", name).await == Some(seconds);
        if same && seconds >= 1.0 {
            assert_eq!((cpu, memory), (seconds * CPU, seconds * MEMORY));
            Ok(())
        } else {
            Err(format!("{seconds} s, {cpu}, {memory}"))
        }
    })
    .await;
}

#[then("the bytes it keeps in the store are counted")]
async fn stored(stage: &mut Stage) {
    let size: usize = stage.page.files.values().map(String::len).sum();
    let stored = usage(stage, "stored_bytes", &stage.served().name).await;
    assert_eq!(stored, Some(f64::from(u32::try_from(size).unwrap())));
}

#[when(regex = r"^the page is read (\d+) times$")]
async fn read(stage: &mut Stage, times: u32) {
    let Served { name, url, .. } = stage.served().clone();
    let before = usage(stage, "network_sent_bytes_total", &name).await.unwrap_or_default();
    for _ in 0..times {
        assert_eq!(fetch(&url).await.0, 200);
    }
    stage.sent = before + f64::from(times) * f64::from(u32::try_from(stage.page.body.len()).unwrap());
}

#[then("the bytes it sent are counted")]
async fn sent(stage: &mut Stage) {
    let name = &stage.served().name;
    eventually("the bytes are counted", async || {
        let sent = usage(stage, "network_sent_bytes_total", name).await.unwrap_or_default();
        if sent >= stage.sent { Ok(()) } else { Err(format!("{sent} of {}", stage.sent)) }
    })
    .await;
}

#[then("nothing is counted for it")]
async fn nothing(stage: &mut Stage) {
    let label = format!("name=\"{}\"", stage.applied_name());
    let metrics = metrics(stage).await;
    assert!(metrics.contains("dms_operator_"), "{metrics}");
    let counted: Vec<_> = metrics.lines().filter(|line| line.contains(&label)).collect();
    assert!(counted.is_empty(), "{counted:?}");
}

#[then("the object says who signed it, until when it counts, which release is served and where")]
async fn confirmed(stage: &mut Stage) {
    let Served { name, url, status } = stage.served();
    let (_, _, verified) = condition(status, "TokenVerified");
    let until = stage.grant().not_after().to_timestamp();
    let signer = stage.owner().wallet.did().as_str();
    assert!(verified.contains(signer) && verified.contains(&until.to_string()), "{verified}");
    let (_, _, ready) = condition(status, "Ready");
    let release = status.release.as_ref().unwrap();
    assert!(ready.contains(release) && ready.contains(url), "{ready}");
    // And so does kubectl.
    let line = format!("kubectl -n {} describe hd {name}", stage.namespace);
    let shown = stage.owner().run(&line).await.done();
    assert!(shown.contains(signer) && shown.contains(release) && shown.contains(url), "{shown}");
}

/// The Events about what is served, with this reason.
async fn events(stage: &Stage, reason: &str) -> Vec<Event> {
    let mut events = stage.tenant().events(&stage.served().name).await;
    events.retain(|event| event.reason.as_deref() == Some(reason));
    events
}

#[then("one Event tells that its signature was verified")]
async fn one_event(stage: &mut Stage) {
    let events = events(stage, "Verified").await;
    let [event] = &*events else { panic!("{events:#?}") };
    assert_eq!((event.type_.as_deref(), event.series.as_ref()), (Some("Normal"), None));
    assert!(event.note.as_ref().unwrap().contains(stage.owner().wallet.did().as_str()), "{event:?}");
}

#[then("two Events tell of two accepted changes")]
async fn two_events(stage: &mut Stage) {
    let events = events(stage, "Verified").await;
    assert_eq!(events.len(), 2, "{events:#?}");
    assert!(events.iter().all(|event| event.series.is_none()), "{events:#?}");
}

#[then("one Event tells that the grant ends soon, and what to run")]
async fn warned(stage: &mut Stage) {
    eventually("there is a warning", async || {
        let events = events(stage, "TokenExpiringSoon").await;
        let [event] = &*events else { return Err(format!("{events:#?}")) };
        assert_eq!((event.type_.as_deref(), event.series.as_ref()), (Some("Warning"), None));
        assert!(event.note.as_ref().unwrap().contains("kubectl hosting sign --renew"), "{event:?}");
        Ok(())
    })
    .await;
}
