//! `docs/real-dms.md` is a recipe: what of it needs no DMS is run, in its order, with the embedded node in place of one.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use dms_operator::{
    capability::Context,
    dev::{Process, Tools, free_port},
};
use serde_json::Value;

use crate::{
    cluster::{eventually, scratch, shared},
    definitions::root,
    timed::Timed,
    world::installation,
};

/// The lines of each block of shell, continued ones joined.
fn blocks() -> Vec<Vec<String>> {
    let text = fs::read_to_string(root().join("docs/real-dms.md")).unwrap();
    let blocks = text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect()).collect()
}

fn is_ours(line: &str) -> bool {
    line.starts_with("kubectl ") || line.starts_with("dms-operator ") || line.contains("$(kubectl ")
}

/// What a reader fills in.
fn is_open(line: &str) -> bool {
    line.contains('…')
}

/// The node's own command, and the rest of what is run, in order.
fn commands() -> (String, Vec<String>) {
    let (mut node, mut rest) = (None, Vec::new());
    for block in blocks() {
        let of_dms = block.iter().any(|line| line.starts_with("nunet "));
        for line in block {
            assert!(of_dms || is_ours(&line) || is_open(&line), "nobody runs {line:?}");
            assert!(!(of_dms && is_ours(&line)), "{line:?} stands among commands of DMS, and is not run");
            if line.starts_with("dms-operator device --listen") {
                assert!(node.replace(line).is_none(), "there is one node");
            } else if !of_dms && !is_open(&line) {
                rest.push(line);
            }
        }
    }
    (node.unwrap(), rest)
}

/// A shell in a folder that is home, with the commands that a reader has.
struct Desk<'a> {
    folder: &'a Path,
    variables: Vec<(&'static str, String)>,
}

impl Desk<'_> {
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("bash");
        let path = format!("{}:/usr/bin:/bin", self.folder.join("bin").display());
        command.args(["-euo", "pipefail", "-c", script]).current_dir(self.folder);
        command.env("PATH", path).env("HOME", self.folder).env("DMS_PASSPHRASE", "open sesame");
        command.env("KUBECONFIG", self.folder.join("kubeconfig")).envs(self.variables.iter().cloned());
        command
    }

    async fn run(&self, script: &str) -> String {
        let output = tokio::process::Command::from(self.shell(script)).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}\n{script}\n{out}\n{err}", output.status);
        out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_works_with_the_embedded_node() {
    let _timed = Timed::start();
    let (node, commands) = commands();
    assert!(commands.len() >= 15, "{commands:?}");
    let installation = installation("real-dms", 0, &[], &[]).await;
    let folder = scratch("real-dms-desk");
    shared().await.admin().write(&folder.join("kubeconfig")).unwrap();
    fs::create_dir_all(folder.join("bin")).unwrap();
    let ours = Path::new(env!("CARGO_BIN_EXE_dms-operator"));
    for (name, program) in
        [("kubectl", Tools::kubectl().unwrap().as_path()), ("kubectl-hosting", ours), ("dms-operator", ours)]
    {
        symlink(program, folder.join("bin").join(name)).unwrap();
    }
    let address = format!("/ip4/127.0.0.1/tcp/{}", free_port().unwrap());
    let mut desk = Desk { folder: &folder, variables: vec![("ADDRESS", address)] };

    // What `nunet cap new` and `nunet cap anchor` leave behind.
    let mut dids = Vec::new();
    for name in ["owner", "dms"] {
        dids.push(desk.run(&format!("kubectl hosting wallet new --name {name}")).await.trim().to_owned());
    }
    let [owner, device] = [&dids[0], &dids[1]].map(|did| did.parse().unwrap());
    desk.variables.push(("DEVICE", dids[1].clone()));
    let context = Context { did: device, roots: vec![owner], require: vec![], provide: vec![], revoke: vec![] };
    fs::create_dir_all(folder.join(".nunet/cap")).unwrap();
    fs::write(folder.join(".nunet/cap/dms.cap"), context.to_json()).unwrap();

    let process =
        Process::start("rack-1", &desk.shell(&format!("exec {node} --wire-log")), folder.join("log")).unwrap();
    eventually("the node listens", async || {
        let log = process.log().unwrap();
        if log.contains("\"addresses\"") { Ok(()) } else { Err(log) }
    })
    .await;

    let script = commands
        .join("\n")
        .replace("--namespace dms-operator", &format!("--namespace {}", installation.plan.namespace));
    assert!(script.contains(&installation.plan.namespace));
    let started = std::time::Instant::now();
    let out = desk.run(&script).await;
    eprintln!("{} commands took {:?}", commands.len(), started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(60));
    for part in ["hostingdevice.hosting.nunet.io/rack-1 created", "hostingdevice.hosting.nunet.io/rack-1 condition met"]
    {
        assert!(out.contains(part), "{part}:\n{out}");
    }
    let peer = dids[1].parse::<dms_operator::capability::Did>().unwrap().peer_id();
    let replies = out.matches(&format!("\"id\": \"{peer}\"")).count();
    assert_eq!(replies, 2, "asked by its owner and by the provider:\n{out}");
    let wire: Vec<Value> = fs::read_to_string(folder.join("rack-1.state/wire.log"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for behaviour in ["/dms/node/onboarding/status", "/dms/node/resources/free", "/dms/node/deployment/list"] {
        assert!(wire.iter().any(|line| line["be"] == behaviour && line["accepted"] == true), "{behaviour}");
    }
}
