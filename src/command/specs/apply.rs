//! `kubectl hosting apply`: signs, applies, and shows what comes of it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use futures::future::join_all;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{Scope, pinned_kind};
use kube::{Api, ResourceExt as _};
use serde_json::Value;

use super::super::CommandError;
use super::super::token::make::duration;
use super::super::token::now;
use super::super::wallet::print;
use super::cluster::Cluster;
use super::content::{Supplied, config_maps};
use super::follow::{Awaited, follow};
use super::signer::Hand;
use super::signing::{Signed, Signing};
use super::stream::Stream;
use super::{Files, in_namespace, is_deployment, name_of, objects, text};
use crate::api::names::FIELD_MANAGER_OF_PEOPLE;

const SIGNS: &str = "What is not signed is signed, and all of it where a key, or one of --grant, --provider, --content and \
    --refresh, is named. Exit codes: 0 every HostingDeployment is \
    Ready; 1 one is not, or was not applied.";

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = SIGNS)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    hand: Hand,
    /// Folder, or gzip-compressed tar archive, of which `content.release` is computed. Absent: the ConfigMap that
    /// `content.from` names, when it is in the stream.
    #[arg(long, value_name = "DIR|ARCHIVE")]
    content: Option<PathBuf>,
    /// Compute `content.release` anew where it is set already. It is always computed where it is absent or `auto`.
    #[arg(long)]
    refresh: bool,
    /// Take over what another applier, such as `kubectl apply`, holds.
    #[arg(long)]
    force_conflicts: bool,
    /// How long Ready is waited for, for example 5m.
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: Duration,
    /// Apply, and do not wait.
    #[arg(long)]
    no_wait: bool,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { files, hand, content, refresh, force_conflicts, timeout, no_wait } = args;
    let streams = files.read()?;
    let cluster = Cluster::open().await?;
    let namespace = files.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned());
    let mut found: Vec<Value> = objects(streams.iter().flat_map(Stream::documents)).cloned().collect();
    if !found.iter().any(is_deployment) {
        return Err(files.no_deployment());
    }
    let content = content.map(|path| Supplied::read(&path)).transpose()?;
    let everything = hand.is_given() || content.is_some() || refresh;
    let signed = sign(&mut found, &hand, everything, |signer| Signing {
        signer,
        namespace: Some(namespace.clone()),
        content,
        refresh,
        now: now(),
    })?;
    for Signed { namespace, name, owner: _, signer, provider: _, not_after } in signed {
        print(&format!("hostingdeployment/{name} in {namespace} signed by {signer}, valid until {not_after}\n"))?;
    }
    let mut awaited = Vec::new();
    for object in &found {
        let object = if is_deployment(object) { in_namespace(object, Some(&namespace)) } else { object.clone() };
        let applied = apply(&cluster, &object, &namespace, force_conflicts).await?;
        print(&format!("{} serverside-applied\n", called(&object)))?;
        if is_deployment(&object) {
            awaited.push(Awaited {
                api: cluster.deployments(&applied.namespace().unwrap_or_else(|| namespace.clone())),
                name: applied.name_any(),
                generation: applied.metadata.generation.unwrap_or_default(),
            });
        }
    }
    if no_wait {
        return Ok(ExitCode::SUCCESS);
    }
    let several = awaited.len() > 1;
    let ended = join_all(awaited.iter().map(|awaited| follow(awaited, several, timeout))).await;
    ended.into_iter().collect::<Result<Vec<()>, _>>()?;
    Ok(ExitCode::SUCCESS)
}

/// Signs what is to be signed. Where all is signed already and nothing says how to sign, no key is looked for.
fn sign(
    found: &mut [Value],
    hand: &Hand,
    everything: bool,
    signing: impl FnOnce(super::signer::Signer) -> Signing,
) -> Result<Vec<Signed>, CommandError> {
    let unsigned = |object: &Value| is_deployment(object) && text(object, "/spec/authorization/invocation").is_none();
    if !everything && !found.iter().any(unsigned) {
        return Ok(Vec::new());
    }
    let signing = signing(hand.open()?);
    let config_maps = config_maps(found.iter());
    let mut signed = Vec::new();
    for object in found.iter_mut().filter(|object| everything || unsigned(object)) {
        signed.extend(signing.sign_each(std::slice::from_mut(object), &config_maps)?);
    }
    Ok(signed)
}

/// Applies one object, of whatever kind.
async fn apply(cluster: &Cluster, object: &Value, namespace: &str, force: bool) -> Result<DynamicObject, CommandError> {
    let called = called(object);
    let part = |pointer| text(object, pointer).unwrap_or_default();
    let Some(name) = name_of(object) else {
        return Err(CommandError::new(format!("{called} was not applied: it has no metadata.name")));
    };
    let (group, version) = part("/apiVersion").split_once('/').unwrap_or(("", part("/apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, part("/kind"));
    let found = pinned_kind(&cluster.client, &kind).await;
    let (resource, capabilities) = found.map_err(|error| {
        let what = format!("{called} was not applied: the API server does not know its kind, or was not reached");
        CommandError::because(what, error)
    })?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(cluster.client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = text(object, "/metadata/namespace").unwrap_or(namespace);
            Api::namespaced_with(cluster.client.clone(), namespace, &resource)
        }
    };
    let mut params = PatchParams::apply(FIELD_MANAGER_OF_PEOPLE).validation_strict();
    params.force = force;
    api.patch(name, &params, &Patch::Apply(object)).await.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 409 => CommandError::new(format!(
            "{called} was not applied: {}. To take it over from the other applier, run the command with --force-conflicts",
            status.message.trim_end_matches('.')
        )),
        kube::Error::Api(status) => CommandError::new(format!("{called} was not applied: {}", status.message)),
        _ => CommandError::because(format!("{called} was not applied"), error),
    })
}

/// What an object is called on a line of its own.
fn called(object: &Value) -> String {
    let kind = text(object, "/kind").unwrap_or("object").to_lowercase();
    format!("{kind}/{}", name_of(object).unwrap_or("without a name"))
}
