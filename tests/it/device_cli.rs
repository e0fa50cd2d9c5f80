//! `kubectl hosting device …` as a person runs it: against a cluster with an operator, and against a node alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use dms_operator::{
    capability::{Context, Did},
    dev::{
        Credentials,
        installation::Installation,
        wallet::{Wallet, in_future},
    },
    device::{
        libp2p::{Link, LinkConfig},
        node::{Entry, Faults, NodeConfig, Offer, RunningNode, wall_clock},
    },
};
use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    cluster::{eventually, scratch, shared, within},
    ended::Ended,
    timed::Timed,
    world::{Tenant, asked, fetch, installation, name, page},
};

mod alone;
mod convicted;
mod lost;

const QUICK: [&str; 2] = ["--resync", "1s"];

/// Somebody with a folder and perhaps a kubeconfig.
struct Person {
    folder: PathBuf,
    kubeconfig: PathBuf,
}

impl Person {
    fn new(name: &str, credentials: Option<&Credentials>) -> Self {
        let folder = scratch(name);
        let kubeconfig = folder.join("kubeconfig");
        if let Some(credentials) = credentials {
            credentials.write(&kubeconfig).unwrap();
        }
        Self { folder, kubeconfig }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, b"").await
    }

    async fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dms-operator"))
            .arg("device")
            .args(arguments)
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input).await;
        Ended::from(child.wait_with_output().await.unwrap())
    }
}

/// An administrator of the cluster, in the namespace of an installation.
struct Administrator<'a> {
    person: Person,
    installation: &'a Installation,
}

impl<'a> Administrator<'a> {
    async fn of(installation: &'a Installation) -> Self {
        let person = Person::new(&format!("admin-{}", name()), Some(shared().await.admin()));
        Self { person, installation }
    }

    /// Runs a command in the namespace of the operator.
    async fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(&[arguments, &["-n", &self.installation.plan.namespace]].concat()).await
    }

    async fn device(&self) -> DynamicObject {
        devices(self.installation).get("device-1").await.unwrap()
    }
}

fn devices(installation: &Installation) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<dms_operator::api::HostingDevice>(&());
    Api::namespaced_with(installation.client.clone(), &installation.plan.namespace, &resource)
}

async fn deployed(tenant: &Tenant<'_>, name: &str) -> String {
    tenant.deploy(name, &page().0).await;
    tenant.ready(name).await.deployment.unwrap().id.unwrap()
}

fn count(installation: &Installation, behaviour: &str) -> usize {
    asked(installation, 0).iter().filter(|path| path.ends_with(behaviour)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_are_listed_asked_and_emptied() {
    let _timed = Timed::start();
    let installation = installation("device-cli", 1, &QUICK, &[]).await;
    let admin = Administrator::of(&installation).await;
    let tenant = Tenant::new(&installation).await;
    let site = name();
    let id = deployed(&tenant, &site).await;
    shown(&admin, &tenant, &site, &id).await;
    called(&admin, &id).await;
    only_who_reads_the_key_calls(&admin).await;
    looked_at_at_once(&admin).await;
    emptied(&admin, &tenant, &site).await;
}

async fn shown(admin: &Administrator<'_>, tenant: &Tenant<'_>, site: &str, id: &str) {
    let device = &admin.installation.devices[0];
    let list = admin.run(&["list", "-o", "json"]).await.json();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    let one = &list[0];
    assert_eq!((&one["name"], &one["did"]), (&json!("device-1"), &json!(device.did.as_str())), "{one}");
    assert_eq!(
        (&one["ready"], &one["unschedulable"], &one["peerId"]),
        (&json!("True"), &json!(false), &json!(device.did.peer_id()))
    );
    assert_eq!((&one["reachability"], &one["onboarded"]), (&json!("Reachable"), &json!(true)), "{one}");
    let expires: jiff::Timestamp = one["grantExpires"].as_str().unwrap().parse().unwrap();
    let left = expires.as_second() - jiff::Timestamp::now().as_second();
    assert!((23 * 3600..=24 * 3600).contains(&left), "{left}");
    let expected =
        json!([{"namespace": tenant.namespace, "name": site, "id": id, "ready": "True", "reason": "Succeeded"}]);
    assert_eq!(one["deployments"], expected, "only what is on it");

    let table = admin.run(&["list"]).await.done();
    let [headings, row] = table.lines().collect::<Vec<_>>()[..] else { panic!("{table}") };
    assert!(headings.starts_with("NAME") && row.starts_with("device-1  Ready"), "{table}");
    assert!(!table.contains('\u{1b}'), "colours without a terminal: {table}");
    let described = admin.run(&["describe", "device-1"]).await.done();
    for part in [device.did.as_str(), &device.address, "Ready=True  Succeeded", &format!("{}/{site}", tenant.namespace)]
    {
        assert!(described.contains(part), "{part}: {described}");
    }
    let yaml = admin.run(&["describe", "device-1", "-o", "yaml"]).await.done();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap()["did"], device.did.as_str());
    admin.run(&["describe", "device-9"]).await.refused(1, "there is no HostingDevice device-9");
    let elsewhere = admin.person.run(&["list"]).await;
    assert!(elsewhere.err.contains("in namespace default; -n names another"), "{elsewhere:?}");
    assert_eq!(elsewhere.code, 0);
}

/// The operator is connected with the same key meanwhile, and neither takes the replies of the other.
async fn called(admin: &Administrator<'_>, id: &str) {
    let device = &admin.installation.devices[0];
    for _ in 0..3 {
        let reply = admin.run(&["call", "device-1", "peers/self"]).await.json();
        assert_eq!(reply["id"], device.did.peer_id(), "{reply}");
    }
    let request = json!({"id": id}).to_string();
    let status = admin.run(&["call", "device-1", "/dms/node/deployment/status", &request]).await.json();
    assert_eq!(status["status"], "Running", "{status}");
    let piped = ["call", "device-1", "deployment/status", "-", "-n", &admin.installation.plan.namespace];
    assert_eq!(admin.person.run_with(&piped, request.as_bytes()).await.json(), status);
    admin.run(&["call", "device-1", "/dms/cap/list"]).await.refused(1, "does not allow /dms/cap/list");
    admin.run(&["call", "device-1", "peers/self", "{"]).await.refused(1, "the request is not JSON");
    let both = ["call", "device-1", "peers/self", "--seed-file", "x"];
    admin.run(&both).await.refused(1, "is called with the provider's key");
    admin.installation.device_ready("device-1").await.unwrap();
}

/// A person who may read devices and not the Secret.
async fn only_who_reads_the_key_calls(admin: &Administrator<'_>) {
    let namespace = &admin.installation.plan.namespace;
    let user = format!("reader-{}", name());
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": user},
        "rules": [{"apiGroups": ["hosting.nunet.io"], "resources": ["*"], "verbs": ["get", "list"]}],
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": user},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
    });
    for object in [role, binding] {
        let kind = object["kind"].as_str().unwrap();
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("rbac.authorization.k8s.io", "v1", kind));
        let api: Api<DynamicObject> = Api::namespaced_with(admin.installation.client.clone(), namespace, &kind);
        api.patch(&user, &PatchParams::apply("tests"), &Patch::Apply(&object)).await.unwrap();
    }
    let reader = Person::new(&user, Some(&shared().await.user(&user, &[]).unwrap()));
    let listed = within(Duration::from_secs(20), "the role holds", async || {
        let ended = reader.run(&["list", "-n", namespace, "-o", "json"]).await;
        if ended.code == 0 { Ok(ended) } else { Err(format!("{ended:?}")) }
    })
    .await;
    assert!(listed.err.starts_with("warning: the HostingDeployments of all namespaces"), "{listed:?}");
    assert_eq!(listed.json()[0]["deployments"], json!(null), "not known is not none");
    let before = count(admin.installation, "/onboarding/status");
    let refused = reader.run(&["call", "device-1", "onboarding/status", "-n", namespace]).await;
    refused.refused(1, "only who may read it can call");
    assert_eq!(count(admin.installation, "/onboarding/status"), before, "the device was asked nothing");
}

/// The heartbeat comes every fifteen seconds.
async fn looked_at_at_once(admin: &Administrator<'_>) {
    let started = Instant::now();
    for _ in 0..4 {
        let before = count(admin.installation, "/peers/self");
        admin.run(&["retry", "device-1"]).await.done();
        eventually("the operator looks", async || {
            if count(admin.installation, "/peers/self") > before { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

async fn emptied(admin: &Administrator<'_>, tenant: &Tenant<'_>, site: &str) {
    let unschedulable = async || admin.device().await.data["spec"].get("unschedulable").cloned();
    let url = tenant.status(site).await.url.unwrap();
    admin.run(&["cordon", "device-1"]).await.done();
    assert_eq!(unschedulable().await, Some(json!(true)));
    let other = name();
    tenant.deploy(&other, &page().0).await;
    tenant.condition(&other, "Ready", "False", "NoDevice").await;
    admin.run(&["uncordon", "device-1"]).await.done();
    assert_eq!(unschedulable().await, None);
    tenant.ready(&other).await;

    let full = format!("{}/{site}", tenant.namespace);
    let told = admin.run(&["drain", "device-1"]).await.done();
    assert!(told.contains(&full) && told.contains("Nothing is stopped or deleted"), "{told}");
    assert_eq!(unschedulable().await, Some(json!(true)));
    let waited = admin.run(&["drain", "device-1", "--wait", "--timeout", "1s"]).await;
    assert_eq!(waited.code, 1, "{waited:?}");
    assert!(waited.err.contains("there is still on device-1") && waited.err.contains(&full), "{waited:?}");
    assert_eq!(fetch(&url).await.0, 200, "what runs goes on");

    let delete = async {
        for name in [site, &other] {
            tenant.api().delete(name, &DeleteParams::default()).await.unwrap();
        }
    };
    let (ended, ()) = tokio::join!(admin.run(&["drain", "device-1", "--wait"]), delete);
    assert!(ended.done().ends_with("nothing is left there.\n"));
    assert!(tenant.get(site).await.is_none());
}
