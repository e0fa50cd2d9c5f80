//! `add`: from an address to the manifest of a HostingDevice.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::CommandError;
use super::super::token::{now, read_token};
use super::super::wallet::{print, shown};
use super::call::Form;
use super::place::Place;
use super::{Caller, client, failed, patience};
use crate::api::names::is_label;
use crate::capability::{Action, Did, Key, Nanos, Token};
use crate::device::dms::{PeersSelf, path, tolerant};
use crate::device::libp2p::{Found, probe};
use crate::device::{DeviceClient as _, DeviceTarget};

const ABOUT_ADDING: &str = "The manifest goes to standard output, and what the device's owner has to do to standard error. Exit codes: 0 \
    the manifest was printed; 1 no node that speaks DMS was found, or something that was given does not fit it; 3 with a key, \
    the node gave it no answer.";
/// Name of a HostingProvider that is not named.
const PROVIDER: &str = "default";
/// How long the cluster may take to tell the provider's DID, which is only told to the owner.
const PROVIDER_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `add`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_ADDING)]
pub struct Add {
    /// Address of the node, such as /dns4/rack-1.example.org/tcp/9000. A peer ID at its end must be that of the node.
    #[arg(value_name = "MULTIADDR")]
    address: String,
    /// Name of the HostingDevice. Absent: the first label of a host name, or one made from the peer ID.
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    caller: Caller,
    /// File with the grant of the device's owner; it goes into the manifest.
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
    /// DID of the provider, which the owner of the device gives a grant to. Absent: that of the HostingProvider in the
    /// cluster, if it can be reached.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    provider_did: Option<Did>,
    /// Name of that HostingProvider.
    #[arg(long, value_name = "NAME", default_value = PROVIDER)]
    provider: String,
    #[command(flatten)]
    place: Place,
    /// How long the node is given to answer.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = patience)]
    timeout: Duration,
    /// Form of the manifest.
    #[arg(short, long, value_enum, default_value_t = Form::Yaml)]
    output: Form,
}

impl Add {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Self { address, name, caller, grant: file, provider_did, provider, place, timeout, output } = self;
        let grant = file.as_deref().map(read_token).transpose()?;
        if let Some(name) = name.as_deref().filter(|name| !is_label(name)) {
            return Err(CommandError::new(format!(
                "{name:?} cannot be the name of a HostingDevice: use a-z, 0-9 and -"
            )));
        }
        let key = caller.open()?;
        let found = probe(&address, timeout).await.map_err(|error| CommandError::new(error.to_string()))?;
        let did = match provider_did {
            Some(did) => Ok(did),
            None => provider_of(&place, &provider).await,
        };
        if let (Some(grant), Some(file)) = (&grant, &file) {
            check(grant, &found.did, did.as_ref().ok(), now()).map_err(|cause| {
                CommandError::new(format!("the grant in {} is of no use here: {cause}", shown(file)))
            })?;
        }
        if let Some(key) = key
            && let Some(code) = ask(&key, &found, grant.as_ref(), timeout).await?
        {
            return Ok(code);
        }
        let name = name.unwrap_or_else(|| name_for(&found));
        print(&output.written(&manifest(&name, place.namespace(), &found, grant.as_ref()))?)?;
        let asked = Asked { address: &address, name: &name, provider: &provider, namespace: place.namespace() };
        eprint!("{}", advice(&asked, &found, did.as_ref(), file.as_deref()));
        Ok(ExitCode::SUCCESS)
    }
}

/// Whether it answers who holds this key, and is who it proved to be. The exit code when it does not answer.
async fn ask(
    key: &Key,
    found: &Found,
    grant: Option<&Token>,
    timeout: Duration,
) -> Result<Option<ExitCode>, CommandError> {
    // A key that the grant was not made for may be that of a root, which needs none.
    let grant = grant.filter(|grant| grant.subject() == key.did()).cloned();
    let target = DeviceTarget { did: found.did.clone(), addresses: vec![found.address.clone()], grant };
    let client = client(key).await?;
    let reply = client.call(&target, path::PEERS_SELF, json!({}), timeout).await;
    client.link().clone().stop().await;
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return failed(error).map(Some),
    };
    let peer = found.did.peer_id();
    match tolerant::decode::<PeersSelf>(reply) {
        Ok(PeersSelf { id, listen_addr: _ }) if id == peer => Ok(None),
        Ok(PeersSelf { id, listen_addr: _ }) => Err(CommandError::new(format!(
            "the node {peer} says that it is {id:?}: do not add it before it is known why"
        ))),
        Err(error) => Err(CommandError::because(format!("the node {peer} does not say who it is"), error)),
    }
}

/// The DID of the provider, or why it is not known.
async fn provider_of(place: &Place, name: &str) -> Result<Did, String> {
    let asked = async {
        let provider = place.open().await?.provider(name).await?;
        let did = provider.status.and_then(|status| status.did);
        let did =
            did.ok_or_else(|| CommandError::new(format!("HostingProvider {name} has no DID in its status yet")))?;
        Did::parse(&did).map_err(|error| CommandError::new(error.to_string()))
    };
    match tokio::time::timeout(PROVIDER_WITHIN, asked).await {
        Ok(Ok(did)) => Ok(did),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the API server did not answer".to_owned()),
    }
}

/// What a device would be silent about.
pub(super) fn check(grant: &Token, device: &Did, provider: Option<&Did>, now: Nanos) -> Result<(), String> {
    if grant.action() != Action::Delegate {
        return Err("it is not a token to delegate".to_owned());
    }
    if let Some(other) = grant.audience().filter(|audience| *audience != device) {
        return Err(format!("it is for use at {other}, and the node is {device}"));
    }
    if let Some(provider) = provider.filter(|provider| grant.subject() != *provider) {
        return Err(format!("it is for {}, and the provider is {provider}", grant.subject()));
    }
    if grant.not_after() < now {
        return Err(format!("it expired at {}", grant.not_after()));
    }
    let lacking = path::lacking(grant.capabilities());
    if !lacking.is_empty() {
        return Err(format!("it does not allow {}", lacking.join(", ")));
    }
    Ok(())
}

/// A name that a person would give, or one that is not taken.
pub(super) fn name_for(found: &Found) -> String {
    let mut parts = found.address.split('/').skip(1);
    let host = match (parts.next(), parts.next()) {
        (Some("dns" | "dns4" | "dns6"), Some(host)) => host.split('.').next(),
        _ => None,
    };
    let label = host.map(str::to_lowercase).filter(|label| is_label(label) && label != "localhost");
    label.unwrap_or_else(|| {
        let peer = found.did.peer_id().to_lowercase();
        format!("device-{}", peer.get(peer.len().saturating_sub(8)..).unwrap_or_default())
    })
}

pub(super) fn manifest(name: &str, namespace: Option<&str>, found: &Found, grant: Option<&Token>) -> Value {
    let mut object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "HostingDevice",
        "metadata": {"name": name},
        "spec": {"did": found.did.as_str(), "addresses": [found.address]},
    });
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if let Some(grant) = grant {
        object["spec"]["grant"] = json!(String::from_utf8_lossy(&grant.to_json()));
    }
    object
}

/// What the command line says, as it has to be said again.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) address: &'a str,
    /// Of the HostingDevice.
    pub(super) name: &'a str,
    /// Name of the HostingProvider.
    pub(super) provider: &'a str,
    pub(super) namespace: Option<&'a str>,
}

/// What is left to be done, as comments, so that it does no harm inside the manifest.
pub(super) fn advice(
    asked: &Asked<'_>,
    found: &Found,
    did_of_provider: Result<&Did, &String>,
    grant: Option<&Path>,
) -> String {
    let Asked { address, name, provider, namespace } = asked;
    let Found { did, address: _, agent } = found;
    let place = namespace.map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
    let named = if *provider == PROVIDER { String::new() } else { format!(" --provider {provider}") };
    let agent = agent.as_deref().unwrap_or("a node without a name");
    let mut lines =
        vec![format!("{name} is {did}, peer {}: {agent}, which takes messages as a DMS does.", did.peer_id())];
    if grant.is_some() {
        lines.push("The grant is in the manifest: apply it.".to_owned());
    } else {
        let to = did_of_provider.map_or("\"$PROVIDER\"", Did::as_str);
        lines.push("Its owner lets the provider deploy there, with the key of a root of the device:".to_owned());
        let token = format!("--to {to} --device {did} --out {name}.grant");
        lines.push(format!("  kubectl hosting token device-grant --key owner.json {token}"));
        lines.push("With that file the manifest is whole:".to_owned());
        lines.push(format!(
            "  kubectl hosting device add {address} --name {name} --grant {name}.grant{named}{place} | kubectl apply -f -"
        ));
        if let Err(cause) = did_of_provider {
            let cause = cause.trim_end_matches('.').replace('\n', " ");
            lines.push(format!("The provider's DID is not known here ({cause}). The HostingProvider has it:"));
            lines.push(format!(
                "  PROVIDER=$(kubectl get hostingprovider {provider}{place} -o jsonpath='{{.status.did}}')"
            ));
        }
    }
    format!("# {}\n", lines.join("\n# "))
}
