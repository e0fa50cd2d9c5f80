//! The Kubernetes API that the demo uses: one of its own, or the person's, which it leaves as it found it.

use std::{
    io::{self, BufRead as _},
    path::Path,
    thread,
};

use k8s_openapi::{
    api::core::v1::{ConfigMap, Namespace},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, api::ListParams};
use tokio::sync::oneshot;

use super::{
    kit,
    names::{NAMES, Names, OPERATOR_NAMESPACE},
    screen::Screen,
    shell::Shell,
};
use crate::{
    api::GROUP,
    command::CommandError,
    dev::{ControlPlane, Credentials, Tools},
};

/// A cluster, and what is needed to speak to it.
pub(super) struct Cluster {
    own: Option<ControlPlane>,
    credentials: Credentials,
    client: Client,
}

impl Cluster {
    /// Starts etcd, API server and controllers.
    pub async fn own(screen: &Screen, folder: &Path) -> Result<Self, CommandError> {
        let control_plane = ControlPlane::start(&Tools::locate().map_err(kit)?, folder).await.map_err(kit)?;
        screen.line(&format!("Kubernetes  {}", control_plane.server()));
        let credentials = control_plane.admin().clone();
        let client = control_plane.client().await.map_err(kit)?;
        Ok(Self { own: Some(control_plane), credentials, client })
    }

    /// Takes the cluster of the current context, once the person has agreed.
    pub async fn current(screen: &Screen) -> Result<Self, CommandError> {
        let (credentials, context, server) = Credentials::current().map_err(kit)?;
        screen.line(&format!("context     {context}"));
        screen.line(&format!("server      {server}"));
        screen.line("With your own rights there, the demo creates, uses and finally deletes:");
        screen.line(&format!("  - the definitions of the four kinds of {GROUP}"));
        screen.line(&format!("  - namespace {OPERATOR_NAMESPACE}, with the objects of one installation"));
        screen.line(&format!(
            "  - ConfigMap and HostingDeployment of examples/hello-site, and a CapabilityRevocation, in namespace {}",
            NAMES.namespace
        ));
        screen.line("Operator, devices and object store run on this machine. Type yes to go on:");
        let answer = answer().await.map_err(|error| CommandError::because("the answer could not be read", error))?;
        if answer.trim() != "yes" {
            return Err(CommandError::new(format!("nothing was done in context {context}: the answer was not yes")));
        }
        let client = credentials.client().await.map_err(kit)?;
        let this = Self { own: None, credentials, client };
        this.refuse_occupied(&context).await?;
        Ok(this)
    }

    pub fn client(&self) -> &Client {
        &self.client
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub fn control_plane(&self) -> Option<&ControlPlane> {
        self.own.as_ref()
    }

    /// What is deleted at the end must have been made by the demo.
    async fn refuse_occupied(&self, context: &str) -> Result<(), CommandError> {
        let failed = |error| CommandError::because(format!("context {context} could not be looked at"), error);
        let kinds: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let kinds = kinds.list(&ListParams::default()).await.map_err(failed)?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let files: Api<ConfigMap> = Api::namespaced(self.client.clone(), NAMES.namespace);
        let found = if kinds.items.iter().any(|kind| kind.spec.group == GROUP) {
            format!("has the kinds of {GROUP}")
        } else if namespaces.get_opt(OPERATOR_NAMESPACE).await.map_err(failed)?.is_some() {
            format!("has a namespace {OPERATOR_NAMESPACE}")
        } else if files.get_opt(NAMES.files).await.map_err(failed)?.is_some() {
            format!("has a ConfigMap {} in namespace {}", NAMES.files, NAMES.namespace)
        } else {
            return Ok(());
        };
        Err(CommandError::new(format!(
            "context {context} {found} already, and the demo would delete it at its end: use `make demo` without CLUSTER, \
             or another context"
        )))
    }

    /// Brings the kinds and the operator's namespace.
    pub async fn prepare(&self, shell: &Shell<'_>) -> Result<(), CommandError> {
        shell.run("kubectl hosting crd | kubectl apply --server-side -f -").await?;
        shell.run("kubectl wait --for=condition=Established crd --all --timeout=60s >/dev/null").await?;
        shell.run(&format!("kubectl create namespace {OPERATOR_NAMESPACE}")).await?;
        Ok(())
    }

    /// Deletes what the demo made in a cluster that is not its own.
    pub async fn leave(&self, shell: &Shell<'_>) -> Result<(), CommandError> {
        if self.own.is_some() {
            return Ok(());
        }
        let Names { namespace, deployment, files, revocation } = NAMES;
        // After an error or Ctrl-C the object may still be there, and the operator that would let it go is gone.
        let abandon = format!(
            "kubectl -n {namespace} annotate --overwrite hd {deployment} hosting.nunet.io/suspend=true; kubectl -n \
             {namespace} patch hd {deployment} --type=merge -p '{{\"metadata\":{{\"finalizers\":null}}}}'; kubectl -n \
             {namespace} delete --ignore-not-found hd {deployment}"
        );
        shell.give(&abandon).await?;
        shell.run(&format!("kubectl -n {namespace} delete --ignore-not-found configmap {files}")).await?;
        shell.run(&format!("kubectl -n {namespace} delete --ignore-not-found caprev {revocation}")).await?;
        shell.run(&format!("kubectl delete namespace {OPERATOR_NAMESPACE}")).await?;
        shell.run("kubectl hosting crd | kubectl delete -f -").await?;
        Ok(())
    }
}

/// A line of standard input. A thread of its own waits for it, which ends with the process: the runtime would wait at
/// its end for one of its own, and so for a line that nobody wants any more.
async fn answer() -> io::Result<String> {
    let (told, answer) = oneshot::channel();
    thread::Builder::new().spawn(move || {
        let mut line = String::new();
        // Nobody listens any more after Ctrl-C.
        let _ = told.send(io::stdin().lock().read_line(&mut line).map(|_| line));
    })?;
    answer.await.map_err(io::Error::other)?
}
