//! `dms-operator device` as a process, with site servers as its children.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use dms_operator::{
    capability::{Capability, Key, Minting, Nanos, Token},
    dev::Process,
    device::{
        DeviceClient as _, DeviceTarget,
        dms::{self, DeploymentState, path},
        libp2p::{DmsClient, Link, LinkConfig},
    },
    plan::build::{AllocationSpec, EnsembleSpec, OPERATOR_URL, PROVIDER_DID, PortSpec, SITE_GRANT, SITE_SEED},
};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    cluster::{eventually, scratch},
    timed::Timed,
};

const GRACE: Duration = Duration::from_secs(20);

fn random_key() -> Key {
    Key::from_seed(rand::random())
}

struct Device {
    process: Process,
    directory: PathBuf,
    key: Key,
}

impl Device {
    fn start(name: &str, root: &Key) -> Self {
        let directory = scratch(name);
        let key = random_key();
        fs::write(directory.join("seed"), hex::encode(key.expose_seed())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dms-operator"));
        command.args(["device", "--listen", "/ip4/127.0.0.1/tcp/0", "--wire-log", "--root", root.did().as_str()]);
        command.arg("--seed-file").arg(directory.join("seed")).arg("--dir").arg(directory.join("node"));
        let process = Process::start(name, &command, directory.join("log")).unwrap();
        Self { process, directory, key }
    }

    /// What the node said when it began to listen for the `start`th time.
    async fn ready(&self, start: usize) -> Value {
        eventually("the node listens", async || {
            let log = self.process.log().unwrap();
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.nth(start).filter(|line| line["did"] == self.key.did().as_str()).ok_or(log)
        })
        .await
    }

    fn target(&self, line: &Value) -> DeviceTarget {
        let addresses = line["addresses"].as_array().unwrap();
        let addresses = addresses.iter().map(|address| address.as_str().unwrap().to_owned()).collect();
        DeviceTarget { did: self.key.did().clone(), addresses, grant: None }
    }
}

async fn client(key: &Key) -> DmsClient {
    let inboxes = vec!["user-1".to_owned()];
    let (link, arrived) =
        Link::start(LinkConfig { key: key.clone(), listen: vec![], inboxes, topics: None }).await.unwrap();
    DmsClient::new(link, arrived, key.clone())
}

/// A site server whose operator is not there: it runs, and serves nothing yet.
fn ensemble(peer: &str, image: &str) -> EnsembleSpec {
    let (provider, site) = (random_key(), random_key());
    let minting = Minting {
        subject: site.did().clone(),
        audience: Some(provider.did().clone()),
        capabilities: vec![Capability::parse("/hosting/shop/read/web").unwrap()],
        topics: vec![],
        expires: Nanos(u64::MAX),
        depth: 1,
        nonce: rand::random(),
    };
    let grant = Token::delegate(&provider, minting, None).unwrap();
    let env = [
        (OPERATOR_URL, "http://127.0.0.1:1/".to_owned()),
        (PROVIDER_DID, provider.did().to_string()),
        (SITE_SEED, hex::encode(site.expose_seed())),
        (SITE_GRANT, String::from_utf8(grant.to_json()).unwrap()),
    ];
    EnsembleSpec {
        peer: peer.into(),
        allocations: vec![AllocationSpec {
            name: "site".into(),
            image: image.into(),
            args: ["site", "--deployment", "shop/web"].map(str::to_owned).to_vec(),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            cpu_millis: 100,
            memory_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            ports: vec![PortSpec { public: 0, private: 8080 }],
        }],
        metadata: BTreeMap::new(),
    }
}

async fn until_it_answers(address: &str) {
    eventually("the site server answers", async || {
        let answer = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        let answer = answer.await.map_err(|error: std::io::Error| error.to_string())?;
        if answer.starts_with("HTTP/1.") { Ok(()) } else { Err(answer) }
    })
    .await;
}

/// The processes whose working directory is below `directory`.
fn processes_in(directory: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    processes
        .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
        .collect()
}

async fn until_none_is_left(directory: &Path) {
    eventually("no child is left", async || {
        let left = processes_in(directory);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
}

/// What a device said about why this deployment does not run.
async fn refusal(device: &Device, id: &str) -> String {
    eventually("the device says why it does not run it", async || {
        let log = device.process.log().unwrap();
        let line = log.lines().find(|line| line.contains(id) && line.contains("has no place here"));
        line.map(str::to_owned).ok_or(log)
    })
    .await
}

#[tokio::test]
async fn who_may_deploy_gets_a_site_and_not_the_machine() {
    let _timed = Timed::start();
    let caller = random_key();
    let device = Device::start("device-commands", &caller);
    let line = device.ready(0).await;
    let (client, target) = (client(&caller).await, device.target(&line));
    let site = ensemble(line["peer"].as_str().unwrap(), line["ownImage"].as_str().unwrap());
    let stolen = device.directory.join("stolen");
    let mut another_command = site.clone();
    another_command.allocations[0].args = ["crd", "--out-dir", stolen.to_str().unwrap()].map(str::to_owned).to_vec();
    let mut another_variable = site;
    another_variable.allocations[0].env.push(("LD_PRELOAD".to_owned(), stolen.to_str().unwrap().to_owned()));
    for (spec, why) in [(another_command, "another command"), (another_variable, "LD_PRELOAD")] {
        let request = dms::deployment_new_request(&spec);
        let reply = client.call(&target, path::DEPLOYMENT_NEW, request, Duration::from_mins(2)).await.unwrap();
        let id = dms::deployment_new_reply(&target, reply).unwrap().ensemble_id;
        let refusal = refusal(&device, &id).await;
        assert!(refusal.contains(why), "{refusal}");
        // Nobody bids for it; nothing was prepared for it, let alone started.
        let status = dms::deployment_status(&client, &target, &id, true).await.unwrap();
        assert_eq!(status.state, Some(DeploymentState::Preparing.into()));
        assert!(!device.directory.join("node/deployments").join(&id).exists());
    }
    assert!(!stolen.exists());
    assert_eq!(processes_in(&device.directory.join("node")), Vec::<String>::new());
}

#[tokio::test]
async fn children_go_with_their_node_and_come_back_on_the_same_port() {
    let _timed = Timed::start();
    let caller = random_key();
    let mut device = Device::start("device-children", &caller);
    let line = device.ready(0).await;
    let image = line["ownImage"].as_str().unwrap().to_owned();
    assert!(image.starts_with("dms-operator@sha256:"), "{line}");
    let (client, mut target) = (client(&caller).await, device.target(&line));

    let request = dms::deployment_new_request(&ensemble(line["peer"].as_str().unwrap(), &image));
    let reply = client.call(&target, path::DEPLOYMENT_NEW, request, Duration::from_mins(2)).await.unwrap();
    let id = dms::deployment_new_reply(&target, reply).unwrap().ensemble_id;
    eventually("it runs", async || {
        let status = dms::deployment_status(&client, &target, &id, true).await.map_err(|error| error.to_string())?;
        if status.state == Some(DeploymentState::Running.into()) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    let manifest = dms::deployment_manifest(&client, &target, &id).await.unwrap().manifest.unwrap();
    let (host, ports) = (&manifest.nodes["device"].pub_address[0], &manifest.allocations["device.site"].ports);
    let address = format!("{host}:{}", ports.keys().next().unwrap());
    until_it_answers(&address).await;
    let node = device.directory.join("node");
    assert_eq!(processes_in(&node).len(), 1);

    // Killed, it can tell its children nothing; they see the end of the pipe.
    device.process.kill9().unwrap();
    until_none_is_left(&node).await;
    device.process.restart().unwrap();
    let line = device.ready(1).await;
    target = device.target(&line);
    until_it_answers(&address).await;
    let again = dms::deployment_manifest(&client, &target, &id).await.unwrap().manifest.unwrap();
    assert_eq!(again.allocations["device.site"].id, manifest.allocations["device.site"].id);
    assert_eq!(again.allocations["device.site"].ports, manifest.allocations["device.site"].ports);

    // Told to stop, it stops them, and says so by its exit code.
    assert_eq!(device.process.stop(GRACE).await, Some(0));
    assert_eq!(processes_in(&node), Vec::<String>::new());
    let wire = fs::read_to_string(node.join("wire.log")).unwrap();
    assert!(wire.lines().all(|line| line.contains("\"accepted\":true")), "{wire}");
}
