use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};

use super::{KitError, certificates::Pair};

/// One identity at the API server of a [`ControlPlane`](super::ControlPlane), and where that is.
#[derive(Clone)]
pub struct Credentials {
    kubeconfig: Value,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    pub(super) fn certificate(server: &str, authority: &str, pair: &Pair) -> Self {
        let user = json!({
            "client-certificate-data": BASE64_STANDARD.encode(&pair.certificate),
            "client-key-data": BASE64_STANDARD.encode(&pair.key),
        });
        Self::new(server, authority, &user, "default")
    }

    pub(super) fn token(server: &str, authority: &str, token: &str, namespace: &str) -> Self {
        Self::new(server, authority, &json!({ "token": token }), namespace)
    }

    /// What the current context of the person's kubeconfig says, with the names of context and server.
    ///
    /// # Errors
    /// [`KitError::Kubeconfig`] when there is none, or it names no cluster; [`KitError::NoContext`] when it has no current
    /// context.
    pub fn current() -> Result<(Self, String, String), KitError> {
        let all = Kubeconfig::read()?;
        let name = all.current_context.clone().ok_or(KitError::NoContext)?;
        let named = all.contexts.iter().find(|context| context.name == name);
        let context = named.and_then(|named| named.context.clone()).ok_or(KitError::NoContext)?;
        let cluster = all.clusters.iter().find(|cluster| cluster.name == context.cluster);
        let server = cluster.and_then(|named| named.cluster.as_ref()?.server.clone()).ok_or(KitError::NoContext)?;
        let kubeconfig = serde_json::to_value(&all).map_err(|error| KitError::Token(error.to_string()))?;
        Ok((Self { kubeconfig }, name, server))
    }

    fn new(server: &str, authority: &str, user: &Value, namespace: &str) -> Self {
        let cluster = json!({
            "server": server,
            "certificate-authority-data": BASE64_STANDARD.encode(authority),
        });
        Self {
            kubeconfig: json!({
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "kit", "cluster": cluster}],
                "users": [{"name": "kit", "user": user}],
                "contexts": [{"name": "kit", "context": {"cluster": "kit", "user": "kit", "namespace": namespace}}],
                "current-context": "kit",
            }),
        }
    }

    /// The text of a kubeconfig file. It is JSON, which every reader of YAML takes.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig.to_string()
    }

    /// Writes the kubeconfig to a file that only its owner may read.
    ///
    /// # Errors
    /// [`KitError::File`].
    pub fn write(&self, path: &Path) -> Result<(), KitError> {
        write_private(path, self.kubeconfig().as_bytes())
    }

    /// The configuration of a client.
    ///
    /// # Errors
    /// [`KitError::Kubeconfig`].
    pub async fn config(&self) -> Result<Config, KitError> {
        let kubeconfig = Kubeconfig::from_yaml(&self.kubeconfig())?;
        Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
    }

    /// A client. It belongs to the async runtime that it was made on.
    ///
    /// # Errors
    /// [`KitError::Kubeconfig`], [`KitError::Kubernetes`].
    pub async fn client(&self) -> Result<Client, KitError> {
        Client::try_from(self.config().await?).map_err(KitError::kubernetes("make a client"))
    }
}

/// Writes a file that only its owner may read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KitError> {
    let write = || {
        // A file left by somebody else would keep its own mode.
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(bytes)
    };
    write().map_err(KitError::file("written", path))
}
