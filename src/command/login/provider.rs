//! Who is meant by `<provider>`, and how it is reached.

use std::time::Duration;

use kube::api::{Api, ApiResource, DynamicObject};
use serde_json::Value;

use super::super::CommandError;
use super::super::confirm::confirmed;
use crate::api::HostingProvider;
use crate::api::names::is_label;
use crate::capability::Did;
use crate::device::http;

/// How long the API server may take to tell of a provider.
const CLUSTER_WITHIN: Duration = Duration::from_secs(15);

/// What was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A multiaddress, without the peer ID at its end, which is the DID.
    Address { did: Did, address: String },
    /// The address of a web service.
    Service(String),
    /// A HostingProvider.
    Object { namespace: Option<String>, name: String },
}

/// A provider and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Provider {
    pub(super) did: Did,
    /// The ways to it, the best first; at least one.
    pub(super) routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Libp2p(Vec<String>),
    Http(String),
}

impl Named {
    /// For the command line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            let (address, peer) = text.rsplit_once("/p2p/").filter(|(address, _)| !address.is_empty()).ok_or_else(|| {
                "an address of a provider ends in its peer ID, as in /dns4/hosting.example.org/tcp/9000/p2p/12D3KooW…"
                    .to_owned()
            })?;
            let did = Did::from_peer_id(peer).map_err(|error| error.to_string())?;
            return Ok(Self::Address { did, address: address.to_owned() });
        }
        if text.contains("://") {
            return Ok(Self::Service(text.to_owned()));
        }
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        if !is_label(name) || namespace.is_some_and(|namespace| !is_label(namespace)) {
            return Err(
                "name an address that ends in /p2p/ and a peer ID, an https:// address, or a HostingProvider as \
                 NAMESPACE/NAME"
                    .to_owned(),
            );
        }
        Ok(Self::Object { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// Finds out the DID and the way. `did` is what the caller knows already; `namespace` where a HostingProvider is that
    /// was named without one.
    pub(super) async fn resolve(self, did: Option<&Did>, within: Duration) -> Result<Provider, CommandError> {
        let provider = match self {
            Self::Address { did, address } => Provider { did, routes: vec![Route::Libp2p(vec![address])] },
            Self::Service(url) => {
                let did = match did {
                    Some(did) => did.clone(),
                    None => asked(&url, within).await?,
                };
                Provider { did, routes: vec![Route::Http(url)] }
            }
            Self::Object { namespace, name } => declared(namespace, &name).await?,
        };
        match did.filter(|did| **did != provider.did) {
            Some(did) => Err(CommandError::new(format!(
                "the provider is {}, not {did}: nothing was asked of it. Find out which of the two is meant",
                provider.did
            ))),
            None => Ok(provider),
        }
    }
}

/// The DID that a service says it has. It could say any, so a person must confirm it.
async fn asked(url: &str, within: Duration) -> Result<Did, CommandError> {
    let unknown = || {
        CommandError::new(format!(
            "the DID of the provider at {url} is not known: name it with --did, as its operator tells it"
        ))
    };
    let did = match http::did_of(url, within).await {
        Ok(did) => did,
        Err(error) => return Err(CommandError::because(unknown().message, error)),
    };
    let question = format!("{url} says that it is\n  {did}\nDoes its operator say the same?");
    match confirmed(&question)? {
        Some(true) => Ok(did),
        Some(false) => Err(CommandError::new("nothing was asked of the provider, since its DID was not confirmed")),
        None => Err(unknown()),
    }
}

/// What the cluster says of a HostingProvider.
async fn declared(namespace: Option<String>, name: &str) -> Result<Provider, CommandError> {
    let read = async {
        let client = kube::Client::try_default().await.map_err(|error| {
            CommandError::because(
                format!(
                    "HostingProvider {name} cannot be looked up: no Kubernetes API server is configured. Set KUBECONFIG, or \
                     name the provider by its address"
                ),
                error,
            )
        })?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        // As it is stored: a newer operator may say more than this version knows.
        let api: Api<DynamicObject> =
            Api::namespaced_with(client, &namespace, &ApiResource::erase::<HostingProvider>(&()));
        let object = api.get(name).await.map_err(|error| {
            let what = format!(
                "HostingProvider {name} in namespace {namespace} could not be read; one elsewhere is named as NAMESPACE/{name}"
            );
            CommandError::because(what, error)
        })?;
        of_object(&namespace, name, &object.data)
    };
    match tokio::time::timeout(CLUSTER_WITHIN, read).await {
        Ok(provider) => provider,
        Err(_) => Err(CommandError::new(format!(
            "HostingProvider {name} could not be read: the API server did not answer within {}s",
            CLUSTER_WITHIN.as_secs()
        ))),
    }
}

/// What the status of a HostingProvider says.
pub(super) fn of_object(namespace: &str, name: &str, object: &Value) -> Result<Provider, CommandError> {
    let wrong = |what: &str| {
        CommandError::new(format!(
            "HostingProvider {name} in namespace {namespace} {what}: see `kubectl describe hp {name} -n {namespace}`, or \
             name the provider by its address"
        ))
    };
    let did = object.pointer("/status/did").and_then(Value::as_str);
    let did = did.ok_or_else(|| wrong("has no DID in its status yet"))?;
    let did = Did::parse(did)
        .map_err(|error| CommandError::because(wrong("has a DID that cannot be used").message, error))?;
    let addresses = object.pointer("/status/addresses").and_then(Value::as_array).into_iter().flatten();
    let addresses: Vec<&str> = addresses.filter_map(Value::as_str).collect();
    let peer = format!("/p2p/{}", did.peer_id());
    let dialled: Vec<String> = addresses
        .iter()
        .filter(|address| address.starts_with('/'))
        .map(|address| address.strip_suffix(&peer).unwrap_or(address).to_owned())
        .collect();
    let services = addresses.iter().filter(|address| address.contains("://"));
    let mut routes: Vec<Route> = services.map(|service| Route::Http((*service).to_owned())).collect();
    if !dialled.is_empty() {
        routes.insert(0, Route::Libp2p(dialled));
    }
    if routes.is_empty() {
        return Err(wrong("tells no address in its status"));
    }
    Ok(Provider { did, routes })
}
