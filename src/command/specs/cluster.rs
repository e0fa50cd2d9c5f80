//! What of a cluster bears on an object. Not everything may be read by everybody: what is not known says why.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::Value;

use super::super::CommandError;
use super::verify::in_force;
use super::{name_of, namespace_of};
use crate::api::names::FIELD_MANAGER_OF_PEOPLE;
use crate::api::{CapabilityRevocation, HostingDeployment, HostingDevice, HostingProvider};
use crate::capability::{RevocationKey, Token};
use crate::plan::place::Candidate;

/// What was looked for, or why it is not known.
pub(super) type Seen<T> = Result<T, String>;

/// A cluster.
pub(super) struct Cluster {
    pub(super) client: Client,
}

/// What an API server says to an object, without storing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DryRun {
    Taken,
    Refused(String),
}

impl Cluster {
    pub(super) async fn open() -> Result<Self, CommandError> {
        // Its causes are in what the error says already.
        let client = Client::try_default().await.map_err(|error| {
            CommandError::new(format!("no Kubernetes API server is configured. Set KUBECONFIG: {error}"))
        })?;
        Ok(Self { client })
    }

    /// The namespace of the current context.
    pub(super) fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    pub(super) fn deployments(&self, namespace: &str) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<HostingDeployment>(&());
        Api::namespaced_with(self.client.clone(), namespace, &resource)
    }

    /// The object as it is stored; `None`: there is none.
    pub(super) async fn live(&self, object: &Value) -> Result<Seen<Option<DynamicObject>>, CommandError> {
        let (namespace, name) = (namespace_of(object).unwrap_or_default(), name_of(object).unwrap_or_default());
        match self.deployments(namespace).get_opt(name).await {
            Ok(found) => Ok(Ok(found)),
            Err(error @ kube::Error::Api(_)) => Ok(Err(said("the object that is there cannot be read", &error))),
            Err(error) => Err(CommandError::because("the Kubernetes API server could not be asked", error)),
        }
    }

    /// The provider that an object names; `None`: there is none.
    pub(super) async fn provider(&self, namespace: &str, name: &str) -> Seen<Option<HostingProvider>> {
        let api: Api<HostingProvider> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name)
            .await
            .map_err(|error| said(&format!("HostingProvider {namespace}/{name} cannot be read"), &error))
    }

    /// The labels of a namespace; `None`: there is no such namespace.
    pub(super) async fn labels(&self, namespace: &str) -> Seen<Option<BTreeMap<String, String>>> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = api.get_opt(namespace).await;
        let found =
            found.map_err(|error| said(&format!("the labels of namespace {namespace} cannot be read"), &error))?;
        Ok(found.map(|namespace| namespace.labels().clone()))
    }

    /// The devices of a provider, with what placement looks at.
    pub(super) async fn candidates(&self, namespace: &str) -> Seen<Vec<Candidate>> {
        let devices: Api<HostingDevice> = Api::namespaced(self.client.clone(), namespace);
        let devices = devices.list(&ListParams::default()).await;
        let devices = devices.map_err(|error| said("the devices of the provider cannot be read", &error))?;
        let resource = ApiResource::erase::<HostingDeployment>(&());
        let all: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let all = all.list(&ListParams::default()).await;
        let all = all.map_err(|error| said("the HostingDeployments of all namespaces cannot be listed", &error))?;
        let mut load: BTreeMap<&str, usize> = BTreeMap::new();
        for device in all.items.iter().filter_map(|object| object.data.pointer("/status/deployment/device")?.as_str()) {
            *load.entry(device).or_default() += 1;
        }
        Ok(devices.items.iter().map(|device| candidate(device, &load)).collect())
    }

    /// What is taken back in the cluster, and whether that is all of it: who may not look everywhere sees that of one
    /// namespace.
    pub(super) async fn revoked(&self, namespace: &str) -> Seen<(BTreeSet<RevocationKey>, Seen<()>)> {
        let everywhere: Api<CapabilityRevocation> = Api::all(self.client.clone());
        let mut found = everywhere.list(&ListParams::default()).await;
        let mut elsewhere = Ok(());
        if found.is_err() {
            let here: Api<CapabilityRevocation> = Api::namespaced(self.client.clone(), namespace);
            found = here.list(&ListParams::default()).await;
            elsewhere = Err("revocations in other namespaces were not seen".to_owned());
        }
        let found = found.map_err(|error| said("revocations cannot be read", &error))?;
        let standing = found.items.iter().filter(|object| !is_refused(object));
        let tokens = standing.filter_map(|object| Token::parse(object.spec.token.as_bytes()).ok());
        Ok((tokens.filter_map(|token| in_force(&token).ok()).collect(), elsewhere))
    }

    /// The ConfigMap of an object's content; `None`: there is none.
    pub(super) async fn config_map(&self, namespace: &str, name: &str) -> Seen<Option<ConfigMap>> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| said(&format!("ConfigMap {name} cannot be read"), &error))
    }

    /// Lets the API server judge an object as if it were applied.
    pub(super) async fn dry_run(&self, object: &Value) -> Seen<DryRun> {
        let params = PatchParams::apply(FIELD_MANAGER_OF_PEOPLE).force().dry_run().validation_strict();
        let (namespace, name) = (namespace_of(object).unwrap_or_default(), name_of(object).unwrap_or_default());
        match self.deployments(namespace).patch(name, &params, &Patch::Apply(object)).await {
            Ok(_) => Ok(DryRun::Taken),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 409 | 422) => {
                Ok(DryRun::Refused(status.message.clone()))
            }
            Err(error) => Err(said("the API server does not say whether it takes the object", &error)),
        }
    }
}

/// Whether the operator said that it takes nothing back.
fn is_refused(object: &CapabilityRevocation) -> bool {
    let conditions = object.status.iter().flat_map(|status| &status.conditions);
    conditions.filter(|condition| condition.type_ == "Ready").any(|condition| condition.status == "False")
}

fn candidate(device: &HostingDevice, load: &BTreeMap<&str, usize>) -> Candidate {
    let name = device.name_any();
    let is = |kind: &str, value: &str| {
        let conditions = device.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|condition| condition.type_ == kind && condition.status == value)
    };
    Candidate {
        labels: device.labels().clone(),
        unschedulable: device.spec.unschedulable.unwrap_or_default(),
        ready: is("Ready", "True") && !is("Credible", "False"),
        deployments: load.get(name.as_str()).copied().unwrap_or_default(),
        name,
    }
}

fn said(what: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{what}: {}", status.message),
        other => format!("{what}: {other}"),
    }
}
