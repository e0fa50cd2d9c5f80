//! The cluster: where devices are declared, and what runs on them is recorded.

use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams},
};
use serde_json::Value;

use super::super::CommandError;
use crate::api::{HostingDeployment, HostingDevice, HostingProvider, names::FIELD_MANAGER_OF_PEOPLE};

/// Where the devices are.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Namespace of the operator and its devices. Absent: that of the current context.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Place {
    pub(super) fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    pub(super) async fn open(&self) -> Result<Cluster, CommandError> {
        // Its causes are in what the error says already.
        let client = Client::try_default().await.map_err(|error| {
            CommandError::new(format!(
                "no Kubernetes API server is configured. Set KUBECONFIG, or name a device by --addr where that is possible: {error}"
            ))
        })?;
        let namespace = self.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
        Ok(Cluster { client, namespace })
    }
}

/// A cluster, and the namespace of an operator in it.
pub(super) struct Cluster {
    pub(super) client: Client,
    pub(super) namespace: String,
}

impl Cluster {
    /// As they are stored: what cannot be read by this version is shown all the same.
    fn devices(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<HostingDevice>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub(super) async fn all(&self) -> Result<Vec<DynamicObject>, CommandError> {
        let listed = self.devices().list(&ListParams::default()).await;
        let listed = listed.map_err(|error| self.failed("the HostingDevices could not be listed", error))?;
        Ok(listed.items)
    }

    pub(super) async fn device(&self, name: &str) -> Result<DynamicObject, CommandError> {
        self.devices().get(name).await.map_err(|error| self.about(name, "read", error))
    }

    /// Merges a change into a device.
    pub(super) async fn change(&self, name: &str, patch: &Value) -> Result<DynamicObject, CommandError> {
        let params = PatchParams::apply(FIELD_MANAGER_OF_PEOPLE);
        let changed = self.devices().patch(name, &params, &Patch::Merge(patch)).await;
        changed.map_err(|error| self.about(name, "changed", error))
    }

    /// The same in the version that `patch` names. Whether it was that version still.
    pub(super) async fn change_version(&self, name: &str, patch: &Value) -> Result<bool, CommandError> {
        let params = PatchParams::apply(FIELD_MANAGER_OF_PEOPLE);
        match self.devices().patch(name, &params, &Patch::Merge(patch)).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(self.about(name, "changed", error)),
        }
    }

    pub(super) async fn provider(&self, name: &str) -> Result<HostingProvider, CommandError> {
        let api: Api<HostingProvider> = Api::namespaced(self.client.clone(), &self.namespace);
        api.get(name).await.map_err(|error| self.failed(&format!("HostingProvider {name} could not be read"), error))
    }

    /// The deployments that are recorded on devices of this namespace.
    pub(super) async fn deployments(&self) -> Result<Vec<DynamicObject>, CommandError> {
        let resource = ApiResource::erase::<HostingDeployment>(&());
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let what =
            "the HostingDeployments of all namespaces could not be listed, so it is not known what runs on a device";
        let listed = api.list(&ListParams::default()).await.map_err(|error| CommandError::because(what, error))?;
        let here = |object: &DynamicObject| {
            object.data.pointer("/spec/providerRef/namespace").and_then(Value::as_str) == Some(&self.namespace)
        };
        Ok(listed.items.into_iter().filter(here).collect())
    }

    fn failed(&self, what: &str, error: kube::Error) -> CommandError {
        CommandError::because(format!("{what} in namespace {}; -n names another one", self.namespace), error)
    }

    fn about(&self, name: &str, verb: &str, error: kube::Error) -> CommandError {
        match &error {
            kube::Error::Api(status) if status.code == 404 => CommandError::new(format!(
                "there is no HostingDevice {name} in namespace {}: `kubectl hosting device list` shows those that are \
                 there, and -n names another namespace",
                self.namespace
            )),
            _ => CommandError::because(
                format!("HostingDevice {name} in namespace {} could not be {verb}", self.namespace),
                error,
            ),
        }
    }
}

/// Those that are recorded on one device.
pub(super) fn on<'a>(deployments: &'a [DynamicObject], device: &DynamicObject) -> Vec<&'a DynamicObject> {
    let name = device.name_any();
    let recorded = |object: &&DynamicObject| {
        object.data.pointer("/status/deployment/device").and_then(Value::as_str) == Some(&name)
    };
    deployments.iter().filter(recorded).collect()
}
