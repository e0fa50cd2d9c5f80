//! `kubectl hosting plan`: what would come of applying, before anything is applied.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use k8s_openapi::api::core::v1::ConfigMap;
use serde::Serialize;
use serde_json::Value;

use super::super::CommandError;
use super::super::token::report::{REJECTED, written};
use super::super::token::{Output, now};
use super::super::wallet::print;
use super::cluster::Cluster;
use super::content::{Supplied, config_map_name, config_map_of, config_maps, release_of};
use super::forecast::{Change, Forecast, Surroundings, Transfer, forecast};
use super::judge::Verdict;
use super::stream::Stream;
use super::verify::TakenBack;
use super::{Files, in_namespace, is_deployment, namespace_of, objects, text};
use crate::capability::{Did, RevocationKey, on_one_line};
use crate::store::Release;

const CODES: &str = "Nothing is changed. Exit codes: 0 nothing would be refused; 2 something would be; 1 it could not be told: \
    the command line, a file, or no answer from the API server.";
const NOT_ASKED: &str = "the cluster was not asked (--offline)";

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// DID of the provider. Absent: what the status of the HostingProvider says, or, where that is not known, whom the
    /// objects are addressed to.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    provider: Option<Did>,
    /// Folder or gzip-compressed tar archive with the files of the release. Absent: the ConfigMap that `content.from` names,
    /// in the stream or in the cluster.
    #[arg(long, value_name = "DIR|ARCHIVE")]
    content: Option<PathBuf>,
    #[command(flatten)]
    taken_back: TakenBack,
    /// Ask no cluster: what only a cluster knows is not known.
    #[arg(long)]
    offline: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What would come of applying all objects.
#[derive(Debug, Serialize)]
struct Report {
    /// Whether anything would be refused.
    refused: bool,
    objects: Vec<Forecast>,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { files, provider, content, taken_back, offline, output } = args;
    let streams = files.read()?;
    let cluster = if offline { None } else { Some(Cluster::open().await?) };
    let namespace = files.namespace.as_deref().or_else(|| cluster.as_ref().map(Cluster::namespace));
    let all = || objects(streams.iter().flat_map(Stream::documents));
    let context = Looking {
        config_maps: config_maps(all()),
        content: content.map(|path| Supplied::read(&path)).transpose()?,
        revoked: taken_back.read()?,
    };
    let now = now();
    let mut objects = Vec::new();
    for object in all().filter(|object| is_deployment(object)) {
        let object = in_namespace(object, namespace);
        let around = match &cluster {
            Some(cluster) => context.look(&object, cluster).await?,
            None => context.offline(&object),
        };
        objects.push(forecast(&object, &around, provider.as_ref(), now));
    }
    if objects.is_empty() {
        return Err(files.no_deployment());
    }
    let report = Report { refused: objects.iter().any(|object| !object.refusals.is_empty()), objects };
    print(&written(&report, output, || report.objects.iter().map(lines).collect())?)?;
    Ok(if report.refused { ExitCode::from(REJECTED) } else { ExitCode::SUCCESS })
}

/// What is at hand without a cluster.
struct Looking {
    config_maps: Vec<ConfigMap>,
    content: Option<Supplied>,
    revoked: BTreeSet<RevocationKey>,
}

impl Looking {
    /// The files that go with an object.
    fn files(&self, object: &Value) -> Option<(Release, &'static str)> {
        if let Some(content) = &self.content {
            return content.release_for(object).ok().map(|release| (release.clone(), "--content"));
        }
        let config_map = config_map_of(object, &self.config_maps)?;
        release_of(config_map).ok().map(|release| (release, "the ConfigMap in the stream"))
    }

    fn offline(&self, object: &Value) -> Surroundings {
        Surroundings {
            live: Err(NOT_ASKED.to_owned()),
            provider: Err(NOT_ASKED.to_owned()),
            labels: Err(NOT_ASKED.to_owned()),
            candidates: Err(NOT_ASKED.to_owned()),
            revoked: Ok(self.revoked.clone()),
            elsewhere: Ok(()),
            dry_run: Err(NOT_ASKED.to_owned()),
            files: self.files(object),
            stored_files: None,
        }
    }

    async fn look(&self, object: &Value, cluster: &Cluster) -> Result<Surroundings, CommandError> {
        let live = cluster.live(object).await?;
        let namespace = namespace_of(object).unwrap_or_default();
        let part = |pointer| text(object, pointer).unwrap_or_default();
        let (provider_namespace, provider) = (part("/spec/providerRef/namespace"), part("/spec/providerRef/name"));
        let (provider, labels, candidates, revoked, dry_run) = futures::join!(
            cluster.provider(provider_namespace, provider),
            cluster.labels(namespace),
            cluster.candidates(provider_namespace),
            cluster.revoked(namespace),
            cluster.dry_run(object),
        );
        let (revoked, elsewhere) = match revoked {
            Ok((mut revoked, elsewhere)) => {
                revoked.extend(self.revoked.iter().cloned());
                (Ok(revoked), elsewhere)
            }
            Err(why) => (Err(why), Ok(())),
        };
        let stored = match config_map_name(object) {
            Some(name) => cluster.config_map(namespace, name).await.ok().flatten(),
            None => None,
        };
        let stored_files = stored.and_then(|config_map| release_of(&config_map).ok());
        let in_cluster = || stored_files.clone().map(|release| (release, "the ConfigMap in the cluster"));
        Ok(Surroundings {
            live: live.map(|live| live.map(|live| serde_json::json!(live))),
            provider,
            labels,
            candidates,
            revoked,
            elsewhere,
            dry_run,
            files: self.files(object).or_else(in_cluster),
            stored_files,
        })
    }
}

fn lines(forecast: &Forecast) -> String {
    let Forecast {
        namespace,
        name,
        change,
        parts,
        device,
        device_note,
        transfer: Transfer { files, bytes, note },
        signature,
        namespace_allowed,
        refusals,
        unknown,
    } = forecast;
    let change = match change {
        Change::Create => "would be created".to_owned(),
        Change::Update => format!("would change: {}", parts.join(", ")),
        Change::Renew => "would be signed anew, and is otherwise the same".to_owned(),
        Change::None => "is there as it is".to_owned(),
        Change::Unknown => "not known what would change".to_owned(),
    };
    let device = device.as_ref().map_or(device_note.clone(), |device| format!("{device} ({device_note})"));
    let transfer = match (files, bytes) {
        (Some(1), Some(bytes)) => format!("1 file, {bytes} bytes ({note})"),
        (Some(files), Some(bytes)) => format!("{files} files, {bytes} bytes ({note})"),
        _ => note.clone(),
    };
    let namespace_allowed = match namespace_allowed {
        Some(true) => "allowed",
        Some(false) => "not allowed",
        None => "not known whether allowed",
    };
    let signature = match signature.verdict {
        Verdict::Accept => format!("✓  {}", signature.message),
        Verdict::Reject => format!("✗  {}", signature.reason.unwrap_or("Rejected")),
    };
    let mut out = format!("{}\n", on_one_line(&format!("{namespace}/{name} {change}")));
    for (part, said) in [
        ("device", device.as_str()),
        ("transfer", transfer.as_str()),
        ("signature", signature.as_str()),
        ("namespace", namespace_allowed),
    ] {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "   {part:<9}  {}", on_one_line(said));
    }
    for (mark, sentence) in refusals.iter().map(|refusal| ('✗', refusal)).chain(unknown.iter().map(|why| ('?', why)))
    {
        let _ = writeln!(out, "   {mark}  {}", on_one_line(sentence));
    }
    out
}
