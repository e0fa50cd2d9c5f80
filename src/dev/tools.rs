use std::{
    env,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::KitError;

/// What pins a command: the `go.mod` and `go.sum` of its folder in `tests/tools`.
struct Pins {
    go_mod: &'static [u8],
    go_sum: &'static [u8],
}

macro_rules! pins {
    ($folder:literal) => {
        Pins {
            go_mod: include_bytes!(concat!("../../tests/tools/", $folder, "/go.mod")),
            go_sum: include_bytes!(concat!("../../tests/tools/", $folder, "/go.sum")),
        }
    };
}

const ETCD: Pins = pins!("etcd");
const KUBERNETES: Pins = pins!("kubernetes");
const HELM: Pins = pins!("helm");

/// Commands that the kit runs. `tests/tools/build.sh` puts them where they are looked for; with `KUBEBUILDER_ASSETS`
/// set, etcd, kube-apiserver and kubectl come from there.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The etcd server.
    pub etcd: PathBuf,
    /// The Kubernetes API server.
    pub kube_apiserver: PathBuf,
    /// The Kubernetes controllers: namespaces, garbage collection, ServiceAccounts.
    pub kube_controller_manager: PathBuf,
    /// The Kubernetes command line.
    pub kubectl: PathBuf,
}

impl Tools {
    /// Finds what a control plane needs.
    ///
    /// # Errors
    /// [`KitError::ToolMissing`] for the first command that is not there.
    pub fn locate() -> Result<Self, KitError> {
        Ok(Self {
            etcd: from_assets("etcd").unwrap_or_else(|| built("etcd", &ETCD))?,
            kube_apiserver: from_assets("kube-apiserver").unwrap_or_else(|| built("kube-apiserver", &KUBERNETES))?,
            kube_controller_manager: built("kube-controller-manager", &KUBERNETES)?,
            kubectl: Self::kubectl()?,
        })
    }

    /// Finds kubectl alone.
    ///
    /// # Errors
    /// [`KitError::ToolMissing`] when it is not there.
    pub fn kubectl() -> Result<PathBuf, KitError> {
        from_assets("kubectl").unwrap_or_else(|| built("kubectl", &KUBERNETES))
    }

    /// Finds Helm, which only the chart's tests need.
    ///
    /// # Errors
    /// [`KitError::ToolMissing`] when it is not there.
    pub fn helm() -> Result<PathBuf, KitError> {
        built("helm", &HELM)
    }
}

fn from_assets(name: &'static str) -> Option<Result<PathBuf, KitError>> {
    let folder = PathBuf::from(env::var_os("KUBEBUILDER_ASSETS").filter(|folder| !folder.is_empty())?);
    Some(present(name, &folder))
}

fn built(name: &'static str, pins: &Pins) -> Result<PathBuf, KitError> {
    present(name, &cache_folder()?.join("tools").join(folder_name(pins)))
}

fn present(name: &'static str, folder: &Path) -> Result<PathBuf, KitError> {
    let path = folder.join(name);
    if path.is_file() { Ok(path) } else { Err(KitError::ToolMissing { name, folder: folder.to_owned() }) }
}

/// The same name as in `tests/tools/build.sh`: a changed pin leads to another folder, and so to another build.
fn folder_name(pins: &Pins) -> String {
    let mut digest = Sha256::new();
    digest.update(pins.go_mod);
    digest.update(pins.go_sum);
    let mut name = hex::encode(digest.finalize());
    name.truncate(12);
    name
}

fn cache_folder() -> Result<PathBuf, KitError> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("DMS_OPERATOR_CACHE")
        .or_else(|| Some(set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?.join("dms-operator")))
        .ok_or(KitError::NoCacheFolder)
}
