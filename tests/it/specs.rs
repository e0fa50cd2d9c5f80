//! Signed specs from the command line: signing, renewing, judging, planning, applying; and one digest through every way of
//! applying.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    capability::Token,
    dev::{
        Tools,
        wallet::{Wallet, in_future},
    },
};
use serde_json::{Value, json};

use crate::{cluster::scratch, ended::Ended, world::name};

mod applying;
mod example;
mod files;
mod ways;

/// A folder of files with the plugin at hand, a wallet of its own, and every secret that no output may show.
pub struct Desk {
    pub folder: PathBuf,
    kubeconfig: Option<PathBuf>,
    secrets: Vec<String>,
}

impl Desk {
    pub fn new() -> Self {
        let folder = scratch(&format!("specs-{}", name()));
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_dms-operator"), folder.join("kubectl-hosting")).unwrap();
        Self { folder, kubeconfig: None, secrets: vec![] }
    }

    pub fn at(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig: Some(kubeconfig), ..Self::new() }
    }

    /// No output may show what this key is.
    pub fn guard(&mut self, wallet: &Wallet) -> String {
        let seed = hex::encode(wallet.key.expose_seed());
        self.secrets.extend([STANDARD.encode(wallet.key.expose_seed()), seed.clone()]);
        seed
    }

    pub fn file(&self, called: &str, text: &str) -> PathBuf {
        let path = self.folder.join(called);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn text(&self, called: &str) -> String {
        fs::read_to_string(self.folder.join(called)).unwrap()
    }

    /// Runs the plugin.
    pub fn run(&self, arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Ended {
        self.command(Command::new(env!("CARGO_BIN_EXE_dms-operator")).args(arguments), variables, input)
    }

    /// Runs a line of shell with kubectl, Helm and the plugin on the PATH.
    pub fn shell(&self, line: &str, variables: &[(&str, &str)]) -> Ended {
        self.command(Command::new("bash").args(["-o", "pipefail", "-c", line]), variables, "")
    }

    fn command(&self, command: &mut Command, variables: &[(&str, &str)], input: &str) -> Ended {
        let mut child = command
            .current_dir(&self.folder)
            .env("PATH", self.path())
            .env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(Path::new("/nonexistent")))
            .env("DMS_GENERAL_USER_DIR", self.folder.join("user"))
            .envs(
                ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|home| (home, self.folder.join("helm"))),
            )
            .env_remove("DMS_PASSPHRASE")
            .env_remove("DMS_OPERATOR_KEY_SEED")
            .env_remove("DMS_OPERATOR_GRANT")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Ended::from(child.wait_with_output().unwrap()).without(&self.secrets, command)
    }

    fn path(&self) -> OsString {
        let mut path = self.folder.clone().into_os_string();
        let tools = [Tools::kubectl().unwrap(), Tools::helm().unwrap()];
        let folders = tools.iter().filter_map(|tool| tool.parent()).map(Path::as_os_str);
        for folder in folders.chain(std::env::var_os("PATH").as_deref()) {
            path.push(":");
            path.push(folder);
        }
        path
    }
}

/// A provider, and an owner whom it granted a namespace.
pub struct Pair {
    pub provider: Wallet,
    pub owner: Wallet,
    pub grant: Token,
}

impl Pair {
    pub fn new(hours: u64) -> Self {
        let (provider, owner) = (Wallet::random().unwrap(), Wallet::random().unwrap());
        let grant = provider.grant(owner.did(), "shop", in_future(Duration::from_hours(hours))).unwrap();
        Self { provider, owner, grant }
    }
}

pub fn text(token: &Token) -> String {
    String::from_utf8(token.to_json()).unwrap()
}

/// A page as a ConfigMap and the HostingDeployment that serves it, as people write them.
pub fn manifest(provider_namespace: &str, namespace: Option<&str>, name: &str, page: &str) -> String {
    let namespace = namespace.map_or_else(String::new, |namespace| format!("\n  namespace: {namespace}"));
    format!(
        "# Source: {name}/templates/page.yaml\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}{namespace}\ndata:\n  \
         index.html: {page}   # the page\n---\n# Source: {name}/templates/site.yaml\napiVersion: \
         hosting.nunet.io/v1alpha1\nkind: HostingDeployment\nmetadata:\n  name: \"{name}\"{namespace}\n\nspec:\n  # who hosts \
         it\n  providerRef: {{namespace: {provider_namespace}, name: 'default'}}\n  content:\n      from:\n        configMap:\n          \
         name: {name}\n      access: Public\n"
    )
}

/// The HostingDeployment of a stream.
pub fn deployment(text: &str) -> Value {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    documents.into_iter().find(|document| document["kind"] == "HostingDeployment").unwrap()
}

/// The lines that are only in the second text, and those that are only in the first.
pub fn changes<'a>(before: &'a str, after: &'a str) -> (Vec<&'a str>, Vec<&'a str>) {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let only = |these: &[&'a str], those: &[&str]| these.iter().copied().filter(|line| !those.contains(line)).collect();
    (only(&new, &old), only(&old, &new))
}

pub fn variables<'a>(seed: &'a str, grant: &'a str) -> [(&'a str, &'a str); 2] {
    [("DMS_OPERATOR_KEY_SEED", seed), ("DMS_OPERATOR_GRANT", grant)]
}

pub fn files(page: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("index.html".to_owned(), page.to_owned())])
}

pub fn revocation(name: &str, token: &Token) -> Value {
    json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "CapabilityRevocation", "metadata": {"name": name},
        "spec": {"token": text(token)},
    })
}
