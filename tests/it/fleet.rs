//! Many devices on one operator: known soon, known again soon after a restart, and each costs little memory.
//!
//! Devices are nodes of this process over real TCP: few of them, or as many as `DMS_OPERATOR_FLEET` says (`make soak`).

use std::{
    env,
    path::PathBuf,
    time::{Duration, Instant},
};

use dms_operator::{
    api::HostingDevice,
    capability::{Context, Did, Key},
    dev::installation::Replica,
    device::node::{Entry, Faults, NodeConfig, Offer, RunningNode, wall_clock},
};
use futures::{StreamExt as _, stream};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;

use crate::{
    cluster::{scratch, within},
    timed::Timed,
    world::installation,
};

const FEW: usize = 20;
const GRACE: Duration = Duration::from_secs(20);
/// Devices made, or asked, at a time.
const AT_ONCE: usize = 16;
/// Until when they are awaited; the bounds are held apart from it.
const PATIENCE: Duration = Duration::from_mins(2);

/// A fleet of up to so many is known again within this time after the next operator took over; any fleet within the other.
const KNOWN_AGAIN: Duration = Duration::from_secs(10);
const KNOWN_AGAIN_UP_TO: usize = 200;
const RESYNC: Duration = Duration::from_secs(30);
const MEMORY: u64 = 150 << 20;

/// A node of this process that has the provider as a root.
pub async fn node(provider: &Did, folder: PathBuf) -> (RunningNode, Did) {
    let key = Key::from_seed(rand::random());
    let context = Context {
        did: key.did().clone(),
        roots: vec![provider.clone()],
        require: Vec::new(),
        provide: Vec::new(),
        revoke: Vec::new(),
    };
    let did = key.did().clone();
    let config = NodeConfig {
        key,
        context,
        directory: folder,
        own_image: format!("dms-operator@sha256:{}", hex::encode([7; 32])),
        program: PathBuf::from(env!("CARGO_BIN_EXE_dms-operator")),
        entry: Entry::SITE,
        bind: [127, 0, 0, 1].into(),
        public_host: "127.0.0.1".to_owned(),
        offer: Offer::of_this_machine(),
        onboarded: true,
        faults: Faults::default(),
        wire_log: false,
        clock: wall_clock(),
    };
    (RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".to_owned()]).await.unwrap(), did)
}

/// Resident memory of a process, in bytes.
fn memory_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Waits until the operator at this address can use so many devices, and says how long that took.
async fn until_known(http: &str, count: usize, log: impl Fn() -> String) -> Duration {
    let started = Instant::now();
    within(PATIENCE, "all devices are known", async || {
        let text = reqwest::get(format!("{http}/metrics")).await.map_err(|error| error.to_string())?;
        let text = text.text().await.map_err(|error| error.to_string())?;
        let ready = |line: &&str| line.starts_with("dms_operator_device_ready{") && line.ends_with(" 1");
        let known = text.lines().filter(ready).count();
        if known == count { Ok(()) } else { Err(format!("{known} of {count}\n{}", log())) }
    })
    .await;
    started.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_known_again_after_a_restart_and_costs_little() {
    let _timed = Timed::start();
    let count = env::var("DMS_OPERATOR_FLEET").map_or(FEW, |text| text.parse().unwrap());
    let mut installation = installation("fleet", 0, &[], &[]).await;
    let provider = installation.provider.did().clone();
    let folder = scratch("fleet-nodes");
    let api: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let base = memory_of(installation.operator.pid());

    let devices = stream::iter(0..count).map(async |number| {
        let (node, did) = node(&provider, folder.join(number.to_string())).await;
        let object = json!({
            "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
            "metadata": {"name": format!("device-{number}")},
            "spec": {"did": did.as_str(), "addresses": node.addresses()},
        });
        let name = format!("device-{number}");
        api.patch(&name, &PatchParams::apply("fleet"), &Patch::Apply(&object)).await.unwrap();
        node
    });
    let nodes: Vec<RunningNode> = devices.buffer_unordered(AT_ONCE).collect().await;
    let first = until_known(&installation.http, count, || installation.operator.log_end()).await;
    // The first status of a device may not say all yet.
    within(PATIENCE, "all devices have told all", async || {
        let all = api.list(&ListParams::default()).await.unwrap().items;
        let told =
            |device: &&HostingDevice| device.status.as_ref().is_some_and(|status| status.reply_spelling.is_some());
        let told = all.iter().filter(told).count();
        if told == count { Ok(()) } else { Err(format!("{told} of {count}")) }
    })
    .await;
    let grown = memory_of(installation.operator.pid()).saturating_sub(base);
    let before = versions(&api).await;

    // As at an update: the next process is there, and takes over once the lease is given back.
    let Replica { process, http, .. } = installation.second_operator("again", &[]).unwrap();
    assert_eq!(installation.operator.stop(GRACE).await, Some(0));
    (installation.operator, installation.http) = (process, http);
    let again = until_known(&installation.http, count, || installation.operator.log_end()).await;
    println!(
        "{count} devices: known {first:?} after the last was made, again {again:?} after a restart, {grown} bytes"
    );
    // What was known of them is what is found again, so nothing is written.
    assert_eq!(versions(&api).await, before);

    assert!(count > KNOWN_AGAIN_UP_TO || again <= KNOWN_AGAIN, "{again:?}");
    assert!(again <= RESYNC, "{again:?}");
    assert!(grown <= MEMORY, "{grown}");
    for node in nodes {
        node.stop().await;
    }
}

async fn versions(api: &Api<HostingDevice>) -> Vec<(Option<String>, Option<String>)> {
    let mut all = api.list(&ListParams::default()).await.unwrap().items;
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all.into_iter().map(|device| (device.metadata.name, device.metadata.resource_version)).collect()
}
