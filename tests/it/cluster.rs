//! The control plane that the tests share: started by the first that asks, stopped with the test process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use dms_operator::dev::{ControlPlane, Tools};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::Value;
use tokio::{sync::OnceCell, time::Instant};

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// The folder of the chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/dms-operator");

/// The control plane, with our definitions installed by the chart.
pub async fn shared() -> &'static ControlPlane {
    SHARED.get_or_init(async || own("shared").await).await
}

/// Another one, for a test that changes what all tests share. The chart is in the namespace `dms-operator`.
pub async fn own(name: &str) -> ControlPlane {
    let control_plane = ControlPlane::start(&Tools::locate().unwrap(), &scratch(name)).await.unwrap();
    let arguments = ["install", "dms-operator", CHART, "--create-namespace"];
    let output = helm(&control_plane.admin_kubeconfig(), "dms-operator", &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    control_plane
}

/// Runs Helm for a namespace.
pub fn helm(kubeconfig: &Path, namespace: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(Tools::helm().unwrap());
    command.args(arguments).arg("--namespace").arg(namespace).arg("--kubeconfig").arg(kubeconfig);
    // Nothing of the person's own Helm.
    let home = scratch("helm");
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, &home);
    }
    command.output().unwrap()
}

/// Installs the chart once more, into a new namespace, for an operator of its own. Gives the namespace; the ServiceAccount
/// in it is `dms-operator`.
pub async fn install(client: &Client, arguments: &[&str]) -> String {
    let namespace = namespace(client).await;
    let fixed = ["install", "dms-operator", CHART, "--set", "crds.enabled=false"];
    let output = helm(&shared().await.admin_kubeconfig(), &namespace, &[&fixed, arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    namespace
}

/// A new namespace with a random name.
pub async fn namespace(client: &Client) -> String {
    let namespace = Namespace {
        metadata: kube::api::ObjectMeta { generate_name: Some("it-".into()), ..Default::default() },
        ..Default::default()
    };
    let api: Api<Namespace> = Api::all(client.clone());
    api.create(&PostParams::default(), &namespace).await.unwrap().metadata.name.unwrap()
}

/// Lets the API server judge an object as if it were applied to `namespace`; unknown fields are refused.
pub async fn dry_run(client: &Client, namespace: &str, object: &Value) -> kube::Result<()> {
    let mut object: DynamicObject = serde_json::from_value(object.clone()).unwrap();
    object.metadata.namespace = Some(namespace.to_owned());
    let types = object.types.clone().unwrap();
    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
    let params = PatchParams::apply("tests").dry_run().validation_strict();
    api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await.map(drop)
}

/// An empty folder under `target/tmp`. What earlier runs left there goes first.
pub fn scratch(name: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("it");
    fs::create_dir_all(&root).unwrap();
    for entry in fs::read_dir(&root).unwrap().flatten() {
        let owner = entry.file_name().to_string_lossy().parse::<i32>().ok().and_then(rustix::process::Pid::from_raw);
        if owner.is_some_and(|pid| rustix::process::test_kill_process(pid).is_err()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let folder = root.join(std::process::id().to_string()).join(name);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Asks until the answer is a value; panics with the last reason after a minute.
pub async fn eventually<T>(what: &str, question: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(Duration::from_mins(1), what, question).await
}

/// The same, for what takes longer or must not take so long.
pub async fn within<T>(limit: Duration, what: &str, mut question: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + limit;
    loop {
        match question().await {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < until, "{what}, not within {limit:?}: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
