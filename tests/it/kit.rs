//! The kit's control plane is a Kubernetes one, and leaves nothing.

use std::{
    net::TcpStream,
    path::Path,
    process::{Command, Output},
};

use dms_operator::{
    api::{self, CapabilityRevocation, HostingDeployment, HostingDevice, HostingProvider},
    dev::{AuditRecord, ControlPlane, Tools},
};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::{
    check::link_commands,
    cluster::{eventually, namespace, scratch, shared},
    timed::Timed,
};

#[tokio::test]
async fn a_control_plane_serves_our_kinds_and_leaves_no_process_and_no_port() {
    let _timed = Timed::start();
    let control_plane = ControlPlane::start(&Tools::locate().unwrap(), &scratch("once")).await.unwrap();
    control_plane.install(&api::crds()).await.unwrap();
    let client = control_plane.client().await.unwrap();
    assert_eq!(client.apiserver_version().await.unwrap().git_version, pinned_version());
    assert_served::<HostingDeployment>(&client).await;
    assert_served::<HostingProvider>(&client).await;
    assert_served::<HostingDevice>(&client).await;
    assert_served::<CapabilityRevocation>(&client).await;

    let pids = control_plane.pids();
    let address = control_plane.server().trim_start_matches("https://").to_owned();
    TcpStream::connect(&address).unwrap();
    drop(control_plane);
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "process {pid} is left");
    }
    assert!(TcpStream::connect(&address).is_err(), "somebody still listens on {address}");
}

async fn assert_served<K>(client: &Client)
where
    K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 0);
}

/// What `tests/tools/kubernetes/go.mod` asks for, or whatever KUBEBUILDER_ASSETS brings.
fn pinned_version() -> String {
    let output = Command::new(Tools::locate().unwrap().kube_apiserver).arg("--version").output().unwrap();
    let version = String::from_utf8(output.stdout).unwrap().trim().trim_start_matches("Kubernetes ").to_owned();
    if std::env::var_os("KUBEBUILDER_ASSETS").is_none() {
        assert!(include_str!("../tools/kubernetes/go.mod").contains(&format!("require k8s.io/kubernetes {version}\n")));
    }
    version
}

#[tokio::test]
async fn rbac_decides_and_the_audit_log_tells_who_asked() {
    let _timed = Timed::start();
    let control_plane = shared().await;
    let client = control_plane.client().await.unwrap();
    let namespace = namespace(&client).await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, &namespace);
    let account = ServiceAccount {
        metadata: ObjectMeta { name: Some("clerk".into()), ..Default::default() },
        ..Default::default()
    };
    accounts.create(&PostParams::default(), &account).await.unwrap();

    let clerk = control_plane.service_account(&namespace, "clerk").await.unwrap().client().await.unwrap();
    let devices: Api<HostingDevice> = Api::namespaced(clerk, &namespace);
    let refusal = devices.delete("nothing", &DeleteParams::default()).await.unwrap_err();
    let kube::Error::Api(status) = refusal else { panic!("{refusal}") };
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));

    let written = eventually("the refused delete stands in the audit log", async || {
        let written = control_plane.audit().writes(|record| record.namespace == namespace).unwrap();
        if written.is_empty() { Err("nothing there".into()) } else { Ok(written) }
    })
    .await;
    let expected = AuditRecord {
        verb: "delete".into(),
        user: format!("system:serviceaccount:{namespace}:clerk"),
        user_agent: written[0].user_agent.clone(),
        group: "hosting.nunet.io".into(),
        resource: "hostingdevices".into(),
        subresource: String::new(),
        namespace: namespace.clone(),
        name: "nothing".into(),
        code: 403,
    };
    assert_eq!(written, [expected]);
}

#[tokio::test]
async fn a_person_has_the_rights_of_their_groups() {
    let _timed = Timed::start();
    let control_plane = shared().await;
    let master = control_plane.user("alice", &["system:masters"]).unwrap().client().await.unwrap();
    let nobody = control_plane.user("bob", &["tenants"]).unwrap().client().await.unwrap();
    Api::<Namespace>::all(master).get("default").await.unwrap();
    let refusal = Api::<Namespace>::all(nobody).get("default").await.unwrap_err().to_string();
    assert!(refusal.contains(r#"User "bob" cannot get resource "namespaces""#), "{refusal}");
}

#[tokio::test]
async fn owned_objects_and_namespaces_are_collected() {
    let _timed = Timed::start();
    let client = shared().await.client().await.unwrap();
    let namespace = namespace(&client).await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let owner = config_map(json!({"metadata": {"name": "owner"}}));
    let uid = api.create(&PostParams::default(), &owner).await.unwrap().metadata.uid.unwrap();
    let reference = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid});
    let dependent = config_map(json!({"metadata": {"name": "owned", "ownerReferences": [reference]}}));
    api.create(&PostParams::default(), &dependent).await.unwrap();

    api.delete("owner", &DeleteParams::default()).await.unwrap();
    gone("the owned object", &api, "owned").await;

    let namespaces: Api<Namespace> = Api::all(client);
    namespaces.delete(&namespace, &DeleteParams::default()).await.unwrap();
    gone("the namespace", &namespaces, &namespace).await;
}

fn config_map(value: serde_json::Value) -> ConfigMap {
    serde_json::from_value(value).unwrap()
}

async fn gone<K: Clone + DeserializeOwned + std::fmt::Debug>(what: &str, api: &Api<K>, name: &str) {
    eventually(&format!("{what} goes"), async || match api.get_opt(name).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("still there".into()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

#[test]
fn the_tools_are_built_once_and_a_refusal_is_a_sentence() {
    let _timed = Timed::start();
    Tools::locate().unwrap();
    let nothing_to_do = build(&["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"], |_| {});
    assert!(nothing_to_do.status.success());
    assert_eq!((nothing_to_do.stdout, nothing_to_do.stderr), (vec![], vec![]));

    let unknown = build(&["kubelet"], |_| {});
    assert_refused(&unknown, "error: there is no tool named 'kubelet'; the tools are: etcd kube-apiserver ");

    let empty = scratch("no-go");
    link_commands(&empty, &["bash", "dirname", "sed", "cat", "cut", "sha256sum", "shasum", "perl"]);
    let without_go = build(&["helm"], |command| {
        command.env("DMS_OPERATOR_CACHE", &empty).env("PATH", &empty);
    });
    assert_refused(&without_go, "error: Go is needed to build helm, and there is no 'go' on the PATH: ");

    let no_assets = build(&["etcd"], |command| {
        command.env("KUBEBUILDER_ASSETS", &empty);
    });
    assert_refused(&no_assets, "error: KUBEBUILDER_ASSETS is set, but ");
}

fn build(tools: &[&str], adjust: impl FnOnce(&mut Command)) -> Output {
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/build.sh"));
    command.args(tools);
    adjust(&mut command);
    command.output().unwrap()
}

fn assert_refused(output: &Output, start: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), [].as_slice()), "{stderr}");
    assert!(stderr.starts_with(start) && stderr.lines().count() == 1, "{stderr}");
}
