//! The control plane that the tests share: started by the first that asks, stopped with the test process.

use std::{fs, path::PathBuf, time::Duration};

use dms_operator::{
    api,
    dev::{ControlPlane, Tools},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams};
use tokio::{sync::OnceCell, time::Instant};

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

/// The control plane, with our definitions installed.
pub async fn shared() -> &'static ControlPlane {
    SHARED
        .get_or_init(async || {
            let control_plane = ControlPlane::start(&Tools::locate().unwrap(), &scratch("shared")).await.unwrap();
            control_plane.install(&api::crds()).await.unwrap();
            control_plane
        })
        .await
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
pub async fn eventually<T>(what: &str, mut question: impl AsyncFnMut() -> Result<T, String>) -> T {
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        match question().await {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < until, "{what}, not within a minute: {reason}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
