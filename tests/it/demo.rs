//! The demo, as a stranger runs it: it ends well, leaves nothing, and touches no cluster that it was not told to.

use std::{
    fs,
    io::ErrorKind,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use dms_operator::dev::{ControlPlane, Tools};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::ListParams};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    cluster::{eventually, scratch, shared},
    timed::Timed,
};

/// A warm demo takes a quarter of it on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Ctrl-C takes less than a second on an idle machine; a control plane that does not come is waited for longer.
const AT_ONCE: Duration = Duration::from_secs(30);

/// What the whole may take by its own clock, in seconds.
const TOTAL: f64 = 60.0;
/// Other tests want the machine at the same time: of so many demos the fastest counts.
const TRIES: usize = 3;

/// The demo with a folder of its own for everything that it writes.
fn demo(arguments: &[&str]) -> (Command, PathBuf) {
    let folder = scratch(&format!("demo-{}", uuid::Uuid::new_v4()));
    fs::create_dir_all(&folder).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_dms-operator"));
    command.arg("demo").args(arguments).env("TMPDIR", &folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    (command, folder)
}

async fn answered(mut command: Command, answer: &str) -> Output {
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(answer.as_bytes()).await.unwrap();
    timeout(PATIENCE, child.wait_with_output()).await.expect("the demo ends").unwrap()
}

/// The command lines that hold a text.
fn processes_with(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

async fn started(part: &str) {
    eventually(&format!("{part} is started"), async || {
        if processes_with(part).is_empty() { Err("it does not run".to_owned()) } else { Ok(()) }
    })
    .await;
}

/// Neither a file in the folder nor a process that was started from it.
async fn nothing_left(folder: &Path) {
    eventually("nothing is left of the demo", async || {
        let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        let processes = processes_with(folder.to_str().unwrap());
        if files.is_empty() && processes.is_empty() { Ok(()) } else { Err(format!("{files:?} {processes:?}")) }
    })
    .await;
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The parts of the story stand in this order in what is printed.
fn assert_told(told: &str) {
    let mut rest = told;
    for part in [
        "kubectl hosting login dms-operator/default",
        "the spec is not signed: run `kubectl hosting sign",
        "Verified: signed by did:key:",
        "Succeeded: release sha256:",
        "200 OK: <h1>Hello from a device</h1>",
        "Editing the ConfigMap alone leaves the page as it was",
        "200 OK: <h1>Hello from a device</h1>",
        "200 OK: <h1>Hello again, newly signed</h1>",
        "kubectl hosting delegate --to did:key:",
        "200 OK: <h1>Hello from the pipeline</h1>",
        "kubectl hosting token revoke --key wallet/key/owner.json --token ci.token",
        "Revoked: restored revision of ",
        "200 OK: <h1>Hello again, newly signed</h1>",
        "dms_operator_usage_network_sent_bytes_total",
        "the object is gone",
        "kept until ",
        "processes   none of ",
        "ports       none of ",
        "verify ",
        "upload ",
        "device ",
        "status ",
        "apply→Ready ",
        "restore ",
    ] {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} is missing in its place:\n{told}"));
        rest = after;
    }
    assert!(!told.contains('\u{1b}'), "colour is for terminals");
}

/// How long the whole took, as it says itself: `the demo   12.3 s`.
fn total(told: &str) -> f64 {
    let mut seconds = told.lines().filter_map(|line| {
        let rest = line.trim().strip_prefix("the demo ")?;
        rest.trim().strip_suffix(" s")?.parse().ok()
    });
    seconds.next_back().unwrap_or_else(|| panic!("it does not say how long it took:\n{told}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ends_well_and_leaves_nothing() {
    let _timed = Timed::start();
    let mut took = Vec::new();
    while took.len() < TRIES && !took.iter().any(|&seconds| seconds < TOTAL) {
        let (command, folder) = demo(&[]);
        let output = answered(command, "").await;
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        let told = text(&output.stdout);
        assert_told(&told);
        took.push(total(&told));
        nothing_left(&folder).await;
    }
    assert!(took.iter().any(|&seconds| 0.0 < seconds && seconds < TOTAL), "the demo took {took:?} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_asks_before_it_touches_a_cluster_and_leaves_it_as_it_was() {
    let _timed = Timed::start();
    let control_plane = ControlPlane::start(&Tools::locate().unwrap(), &scratch("demo-cluster")).await.unwrap();
    let current = || {
        let (mut command, folder) = demo(&["--cluster", "current"]);
        command.env("KUBECONFIG", control_plane.admin_kubeconfig());
        (command, folder)
    };
    let writes = || {
        let mut records = control_plane.audit().records().unwrap();
        records.retain(|record| record.is_write() && record.user == "kit-admin");
        records.len()
    };
    let before = writes();
    let (command, folder) = current();
    let output = answered(command, "y\n").await;
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stdout);
    assert!(told.contains("context     kit") && told.contains(&control_plane.server()), "{told}");
    let error = text(&output.stderr);
    assert_eq!(error.trim(), "error: nothing was done in context kit: the answer was not yes");
    assert_eq!(writes(), before);
    nothing_left(&folder).await;

    let (command, folder) = current();
    let output = answered(command, "yes\n").await;
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_told(&text(&output.stdout));
    nothing_left(&folder).await;
    let client = control_plane.client().await.unwrap();
    let kinds: Api<CustomResourceDefinition> = Api::all(client.clone());
    assert_eq!(kinds.list(&ListParams::default()).await.unwrap().items, []);
    let namespaces: Api<Namespace> = Api::all(client.clone());
    assert_eq!(namespaces.get_opt("dms-operator").await.unwrap(), None);
    let files: Api<ConfigMap> = Api::namespaced(client, "default");
    assert_eq!(files.get_opt("hello-site").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_refuses_a_cluster_that_holds_what_it_would_delete() {
    let _timed = Timed::start();
    let (mut command, folder) = demo(&["--cluster", "current"]);
    command.env("KUBECONFIG", shared().await.admin_kubeconfig());
    let output = answered(command, "yes\n").await;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("context kit has the kinds of hosting.nunet.io already"), "{error}");
    nothing_left(&folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_it_runs_on_with_commands_to_try_until_ctrl_c() {
    let _timed = Timed::start();
    let (mut command, folder) = demo(&["--keep"]);
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut told = Vec::new();
    timeout(PATIENCE, async {
        while let Some(line) = lines.next_line().await.unwrap() {
            let last = line.contains("Ctrl-C here ends it");
            told.push(line.trim().to_owned());
            if last {
                return;
            }
        }
        panic!("it ended early:\n{}", told.join("\n"));
    })
    .await
    .unwrap();

    let from = told.iter().position(|line| line.starts_with("export KUBECONFIG=")).unwrap();
    let script =
        format!("set -e\n{}\nkubectl get hd hello -o name\nkubectl hosting grants", told[from..from + 5].join("\n"));
    let output = Command::new("sh").arg("-c").arg(script).output().await.unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).starts_with("hostingdeployment.hosting.nunet.io/hello\n"));

    interrupt(&child);
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    nothing_left(&folder).await;
}

/// What Ctrl-C sends.
fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
}

/// Interrupted, the demo ends long before what it waits for would, and leaves nothing. What it said from now on.
async fn ends_at_once(mut child: Child, folder: &Path) -> String {
    // Open to the end: a line that is waited for never comes.
    let _stdin = child.stdin.take();
    interrupt(&child);
    let output = timeout(AT_ONCE, child.wait_with_output()).await.expect("Ctrl-C ends the demo").unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    assert!(told.ends_with("interrupted; everything that was started has been stopped\n"), "{told}");
    nothing_left(folder).await;
    told
}

/// The tools of a control plane, one of them replaced by a script.
fn tools_with(name: &str, script: &str) -> PathBuf {
    let folder = scratch(&format!("demo-tools-{}", uuid::Uuid::new_v4()));
    let Tools { etcd, kube_apiserver, kubectl, .. } = Tools::locate().unwrap();
    for (tool, path) in [("etcd", etcd), ("kube-apiserver", kube_apiserver), ("kubectl", kubectl)] {
        if tool != name {
            symlink(path, folder.join(tool)).unwrap();
        }
    }
    fs::write(folder.join(name), format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

/// Longer than the demo is waited for, and still shown as what it was started as.
const HANGS: &str = "n=0; while [ $((n += 1)) -lt 300 ]; do sleep 1; done\n";

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_while_the_control_plane_starts() {
    let _timed = Timed::start();
    let tools = tools_with("kube-apiserver", HANGS);
    let (mut command, folder) = demo(&[]);
    let child = command.env("KUBEBUILDER_ASSETS", &tools).spawn().unwrap();
    started(&format!("{} --data-dir", tools.join("etcd").display())).await;
    started(&format!("{} --etcd-servers", tools.join("kube-apiserver").display())).await;
    ends_at_once(child, &folder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_in_the_middle_of_a_command_and_the_command_too() {
    let _timed = Timed::start();
    // The first command that is shown is a pipe, so kubectl is a child of the shell and not of the demo.
    let tools = tools_with("kubectl", &format!("[ \"$1\" = apply ] || exit 0\n{HANGS}"));
    let (mut command, folder) = demo(&[]);
    let child = command.env("KUBEBUILDER_ASSETS", &tools).spawn().unwrap();
    let apply = format!("{} apply", tools.join("kubectl").display());
    started(&apply).await;
    ends_at_once(child, &folder).await;
    eventually("kubectl has ended", async || match processes_with(&apply) {
        processes if processes.is_empty() => Ok(()),
        processes => Err(format!("{processes:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_it_at_the_question_and_no_cluster_was_asked() {
    let _timed = Timed::start();
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let (mut command, folder) = demo(&["--cluster", "current"]);
    let kubeconfig = scratch("demo-kubeconfig").join("config");
    let address = server.local_addr().unwrap();
    let config = json!({
        "current-context": "mine",
        "contexts": [{"name": "mine", "context": {"cluster": "near", "user": "me"}}],
        "clusters": [{"name": "near", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "me", "user": {}}],
    });
    fs::write(&kubeconfig, config.to_string()).unwrap();
    let mut child = command.env("KUBECONFIG", &kubeconfig).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    timeout(PATIENCE, async {
        while !lines.next_line().await.unwrap().expect("the question is asked").contains("Type yes to go on:") {}
    })
    .await
    .unwrap();
    ends_at_once(child, &folder).await;
    assert_eq!(server.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "the cluster was asked");
}
