//! What would come of applying an object, from what is known of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use super::cluster::{DryRun, Seen};
use super::judge::{Bench, Judgement, Source, Verdict};
use super::verify::remark;
use super::{namespace_of, text};
use crate::api::digest::{SpecDigest, spec_digest};
use crate::api::{Access, HostingDeploymentSpec, HostingProvider, Permission};
use crate::capability::{Did, Nanos, RevocationKey};
use crate::plan::authorise::Highest;
use crate::plan::place::{Candidate, place};
use crate::plan::validate::{Terms, namespace_allowed, terms, wanted};
use crate::store::Release;

/// The operator remembers what it accepted, of objects that are gone too.
const BEFORE: &str = "whether a newer spec was accepted before under this name is not known";

/// What is known that bears on one object.
#[derive(Debug)]
pub(super) struct Surroundings {
    /// The object as it is stored, spec and status.
    pub(super) live: Seen<Option<Value>>,
    pub(super) provider: Seen<Option<HostingProvider>>,
    /// Labels of its namespace.
    pub(super) labels: Seen<Option<BTreeMap<String, String>>>,
    pub(super) candidates: Seen<Vec<Candidate>>,
    pub(super) revoked: Seen<BTreeSet<RevocationKey>>,
    /// Whether those are the revocations of all namespaces.
    pub(super) elsewhere: Seen<()>,
    pub(super) dry_run: Seen<DryRun>,
    /// The files that go with the object, with where they were found.
    pub(super) files: Option<(Release, &'static str)>,
    /// The files of the ConfigMap that is in the cluster.
    pub(super) stored_files: Option<Release>,
}

/// What would come of applying one object.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Forecast {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) change: Change,
    /// The parts that differ from what is stored.
    pub(super) parts: Vec<&'static str>,
    /// Name of the HostingDevice.
    pub(super) device: Option<String>,
    pub(super) device_note: String,
    pub(super) transfer: Transfer,
    pub(super) signature: Judgement,
    /// `None`: not known.
    pub(super) namespace_allowed: Option<bool>,
    /// What would be refused, and why.
    pub(super) refusals: Vec<String>,
    /// What could not be looked at.
    pub(super) unknown: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Change {
    Create,
    Update,
    /// The same spec under a new signature.
    Renew,
    None,
    Unknown,
}

/// What has to be brought into the store.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Transfer {
    /// `None`: not known.
    pub(super) files: Option<usize>,
    pub(super) bytes: Option<u64>,
    pub(super) note: String,
}

/// Looks ahead. `explicit` is the provider that was named on the command line.
pub(super) fn forecast(object: &Value, around: &Surroundings, explicit: Option<&Did>, now: Nanos) -> Forecast {
    let Surroundings { live, provider, labels, candidates, revoked, elsewhere, dry_run, files: _, stored_files: _ } =
        around;
    let mut unknown: Vec<String> = Vec::new();
    let mut refusals = Vec::new();
    let live = noted(live.as_ref(), &mut unknown).and_then(Option::as_ref);
    let known = around.live.is_ok();
    let provider = noted(provider.as_ref(), &mut unknown);
    if let Some(None) = provider {
        refusals.push(format!("{} does not exist, so nothing comes of the object", provider_name(object)));
    }
    let provider = provider.and_then(Option::as_ref);
    let terms = provider.and_then(|provider| match terms(&provider.spec) {
        Ok(terms) => Some(terms),
        Err(error) => {
            unknown.push(format!("the terms of {} cannot be read: {error}", provider_name(object)));
            None
        }
    });
    let signature =
        judgement(object, live, provider, terms.as_ref(), explicit, noted(revoked.as_ref(), &mut unknown), now);
    unknown.extend(elsewhere.clone().err());
    unknown.extend(remark(&signature));
    if signature.verdict == Verdict::Reject {
        refusals.push(format!("{}: {}", signature.reason.unwrap_or("Rejected"), signature.message));
    }
    for field in &signature.unknown_fields {
        refusals
            .push(format!("unknown field {field}: the API server would drop it. Correct or remove it, and sign again"));
    }
    let spec: Option<HostingDeploymentSpec> =
        object.get("spec").and_then(|spec| serde_json::from_value(spec.clone()).ok());
    let namespace_allowed = allowed(object, provider, labels, &mut refusals, &mut unknown);
    if let (Some(spec), Some(terms)) = (&spec, &terms) {
        against_terms(spec, terms, around.files.as_ref(), &mut refusals);
    }
    match noted(dry_run.as_ref(), &mut unknown) {
        Some(DryRun::Refused(message)) => refusals.push(format!("the API server: {message}")),
        Some(DryRun::Taken) | None => {}
    }
    let (change, parts) = if known { change(object, live) } else { (Change::Unknown, Vec::new()) };
    if change == Change::Create {
        unknown.push(BEFORE.to_owned());
    }
    let (device, device_note) = device(spec.as_ref(), live, candidates, &mut unknown);
    let transfer = transfer(object, live, around, &mut refusals);
    let mut told = BTreeSet::new();
    unknown.retain(|why| told.insert(why.clone()));
    Forecast {
        namespace: namespace_of(object).unwrap_or_default().to_owned(),
        name: text(object, "/metadata/name").unwrap_or_default().to_owned(),
        change,
        parts,
        device,
        device_note,
        transfer,
        signature,
        namespace_allowed,
        refusals,
        unknown,
    }
}

/// What was seen; otherwise why not is noted.
fn noted<'a, T>(seen: Result<&'a T, &String>, unknown: &mut Vec<String>) -> Option<&'a T> {
    match seen {
        Ok(value) => Some(value),
        Err(why) => {
            unknown.push(why.clone());
            None
        }
    }
}

fn provider_name(object: &Value) -> String {
    let part = |pointer| text(object, pointer).unwrap_or("?");
    format!("HostingProvider {}/{}", part("/spec/providerRef/namespace"), part("/spec/providerRef/name"))
}

fn judgement(
    object: &Value,
    live: Option<&Value>,
    provider: Option<&HostingProvider>,
    terms: Option<&Terms>,
    explicit: Option<&Did>,
    revoked: Option<&BTreeSet<RevocationKey>>,
    now: Nanos,
) -> Judgement {
    let of_cluster = provider.and_then(|provider| Did::parse(provider.status.as_ref()?.did.as_ref()?).ok());
    let named_by = if explicit.is_some() { Source::Argument } else { Source::Cluster };
    let bench = Bench {
        provider: explicit.cloned().or(of_cluster),
        named_by,
        revoked: revoked.cloned().unwrap_or_default(),
        denied: terms.map(|terms| terms.denied.clone()).unwrap_or_default(),
        highest: live.and_then(highest),
        rollback: terms.map_or(Permission::Refuse, |terms| terms.rollback),
    };
    bench.judge(object, now)
}

/// The newest statement that was accepted, by the status.
fn highest(live: &Value) -> Option<Highest> {
    let time: jiff::Timestamp = text(live, "/status/acceptedRevision/time")?.parse().ok()?;
    let digest = text(live, "/status/acceptedRevision/digest")?.to_owned();
    Some(Highest { time: Nanos::from_timestamp(time), digest })
}

fn allowed(
    object: &Value,
    provider: Option<&HostingProvider>,
    labels: &Seen<Option<BTreeMap<String, String>>>,
    refusals: &mut Vec<String>,
    unknown: &mut Vec<String>,
) -> Option<bool> {
    let namespace = namespace_of(object)?;
    let provider_namespace = text(object, "/spec/providerRef/namespace")?;
    let provider = provider?;
    let none = BTreeMap::new();
    let labels = match noted(labels.as_ref(), unknown) {
        Some(Some(labels)) => labels,
        Some(None) => {
            refusals.push(format!("there is no namespace {namespace}"));
            return Some(false);
        }
        // Where labels do not matter, the answer is known all the same.
        None if provider.spec.allowed_namespaces.as_ref().is_some_and(|allowed| allowed.selector.is_some()) => {
            return None;
        }
        None => &none,
    };
    let allowed = namespace_allowed(&provider.spec, provider_namespace, namespace, labels);
    if !allowed {
        refusals.push(format!(
            "NamespaceNotAllowed: {} does not take deployments from namespace {namespace}. Ask the provider to extend \
             spec.allowedNamespaces",
            provider_name(object)
        ));
    }
    Some(allowed)
}

fn against_terms(
    spec: &HostingDeploymentSpec,
    terms: &Terms,
    files: Option<&(Release, &'static str)>,
    refusals: &mut Vec<String>,
) {
    let wanted = wanted(spec);
    if wanted.access == Access::Public && terms.public_access == Permission::Refuse {
        refusals.push(
            "PublicAccessRefused: spec.content.access is Public, which this provider does not permit. Choose Owner or \
             Delegated and sign again, or ask the provider"
                .to_owned(),
        );
    }
    let Some((release, _)) = files.filter(|(release, _)| release.id().to_string() == wanted.release) else {
        return;
    };
    let (bytes, count) = (release.total_bytes(), release.files().len() as u64);
    if bytes > terms.max_release_bytes || count > terms.max_release_files {
        refusals.push(format!(
            "QuotaExceeded: the release has {count} files and {bytes} bytes, and the provider permits {} files and {} bytes",
            terms.max_release_files, terms.max_release_bytes
        ));
    }
}

fn change(object: &Value, live: Option<&Value>) -> (Change, Vec<&'static str>) {
    let Some(live) = live else { return (Change::Create, Vec::new()) };
    let digest = |object: &Value| -> Option<SpecDigest> { spec_digest(object).ok() };
    let (Some(new), Some(old)) = (digest(object), digest(live)) else { return (Change::Unknown, Vec::new()) };
    let parts = old.differing_parts(&new);
    let invocation = "/spec/authorization/invocation";
    match (new.digest == old.digest, text(object, invocation) == text(live, invocation)) {
        (true, true) => (Change::None, parts),
        (true, false) => (Change::Renew, parts),
        (false, _) => (Change::Update, parts),
    }
}

fn device(
    spec: Option<&HostingDeploymentSpec>,
    live: Option<&Value>,
    candidates: &Seen<Vec<Candidate>>,
    unknown: &mut Vec<String>,
) -> (Option<String>, String) {
    if let Some(device) = live.and_then(|live| text(live, "/status/deployment/device")) {
        let there = live.and_then(|live| text(live, "/status/deployment/id")).is_some();
        let note = if there { "it is there" } else { "it was asked for there" };
        return (Some(device.to_owned()), note.to_owned());
    }
    let Some(candidates) = noted(candidates.as_ref(), unknown) else { return (None, "not known".to_owned()) };
    let selector = spec.and_then(|spec| wanted(spec).selector);
    match place(candidates, selector.as_ref()) {
        Some(device) => {
            let note =
                format!("the least loaded that is ready, of {}: {} run there", candidates.len(), device.deployments);
            (Some(device.name.clone()), note)
        }
        None => (None, format!("none of the {} devices takes it now: it would wait for one", candidates.len())),
    }
}

fn transfer(object: &Value, live: Option<&Value>, around: &Surroundings, refusals: &mut Vec<String>) -> Transfer {
    let not_known = |note: String| Transfer { files: None, bytes: None, note };
    let Some(wanted) = text(object, "/spec/content/release") else {
        return not_known("the object names no release".to_owned());
    };
    let served = live.and_then(|live| text(live, "/status/release"));
    if served == Some(wanted) {
        return Transfer { files: Some(0), bytes: Some(0), note: "the release is served already".to_owned() };
    }
    let source = object.pointer("/spec/content/from");
    match &around.files {
        Some((release, _)) if release.id().to_string() == wanted => {
            let old = around.stored_files.as_ref().filter(|old| Some(old.id().to_string().as_str()) == served);
            let stored = old.map(Release::blobs).unwrap_or_default();
            let missing: Vec<u64> = release
                .blobs()
                .into_iter()
                .filter(|(blob, _)| !stored.contains_key(blob))
                .map(|(_, size)| size)
                .collect();
            let note = match old {
                Some(_) => "what the release that is served now lacks".to_owned(),
                None => "at most: what the store holds already is not known here".to_owned(),
            };
            Transfer { files: Some(missing.len()), bytes: Some(missing.iter().sum()), note }
        }
        Some((release, origin)) => {
            refusals.push(format!(
                "ContentDigestMismatch: the files of {origin} make release {}, and spec.content.release is {wanted}. Run \
                 `kubectl hosting sign --refresh`",
                release.id()
            ));
            not_known("the files are not those of the release".to_owned())
        }
        None => match source.and_then(|source| source.pointer("/archive/url")).and_then(Value::as_str) {
            Some(url) => {
                not_known(format!("not known: an archive is fetched from {url} unless the store holds the release"))
            }
            None if source.is_none_or(Value::is_null) => not_known(
                "not known: the release must be in the store already, since the spec names no source".to_owned(),
            ),
            None => not_known("not known: the ConfigMap that content.from names is not at hand".to_owned()),
        },
    }
}

#[cfg(test)]
mod tests;
