//! `kubectl hosting verify`: the gate of a pipeline. What it lets through, the provider accepts.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::super::CommandError;
use super::super::token::judge::read_context;
use super::super::token::report::{REJECTED, written};
use super::super::token::{Output, now};
use super::super::wallet::{print, read_bytes, shown};
use super::judge::{Bench, Judgement, Source, Verdict};
use super::stream::Stream;
use super::{Files, is_kind, is_ours, objects, odd_list, placed, text};
use crate::capability::{Did, Refusal, RevocationKey, Token, on_one_line, verify_revocation};

const CODES: &str = "Nothing is asked of a cluster, so it cannot be told what was accepted before, or what was revoked there: \
    `kubectl hosting plan` looks. Exit codes: 0 all are accepted and have no unknown fields; 2 one is rejected, or has a field \
    that the API server would drop; 1 nothing was judged.";

/// Arguments of `verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = CODES)]
pub struct Args {
    #[command(flatten)]
    files: Files,
    /// DID of the provider. Absent: whom the objects themselves are addressed to, and the output says so.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    provider: Option<Did>,
    #[command(flatten)]
    taken_back: TakenBack,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Tokens that count as taken back.
#[derive(Debug, clap::Args)]
pub(super) struct TakenBack {
    /// DMS context file (`.cap`) whose revocations count.
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// File with revocations that count: a revocation token, or CapabilityRevocations as `kubectl get caprev -A -o yaml`
    /// prints them. Give it once for each.
    #[arg(long, value_name = "FILE")]
    revocations: Vec<PathBuf>,
}

impl TakenBack {
    pub(super) fn read(&self) -> Result<BTreeSet<RevocationKey>, CommandError> {
        let Self { context, revocations } = self;
        let mut keys = BTreeSet::new();
        if let Some(file) = context {
            keys.extend(read_context(file)?.revoke.iter().filter_map(|token| in_force(token).ok()));
        }
        for file in revocations {
            keys.extend(revoked_by(file)?);
        }
        Ok(keys)
    }
}

/// What the revocations of a file take back. Those that nobody's signature bears out take nothing back, and are named.
fn revoked_by(file: &Path) -> Result<Vec<RevocationKey>, CommandError> {
    let bytes = read_bytes(file)?;
    if let Ok(token) = Token::parse(bytes.trim_ascii()) {
        let key = in_force(&token);
        return key.map(|key| vec![key]).map_err(|refusal| {
            CommandError::because(format!("{} holds no revocation that is in force", shown(file)), refusal)
        });
    }
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
        CommandError::because(format!("{} holds neither a revocation token nor objects", shown(file)), error)
    };
    let stream = Stream::parse(String::from_utf8(bytes).map_err(|error| failed(error.into()))?)
        .map_err(|error| failed(error.into()))?;
    if let Some(odd) = stream.documents().iter().find_map(odd_list) {
        return Err(CommandError::new(format!("{} was not looked at: {odd}", shown(file))));
    }
    let mut keys = Vec::new();
    for object in objects(stream.documents().iter()).filter(|object| is_kind(object, "CapabilityRevocation", is_ours)) {
        let token = Token::parse(text(object, "/spec/token").unwrap_or_default().as_bytes());
        match token.and_then(|token| in_force(&token)) {
            Ok(key) => keys.push(key),
            Err(refusal) => {
                let name = text(object, "/metadata/name").unwrap_or("without a name");
                let said = format!("CapabilityRevocation {name} in {} takes nothing back: {refusal}", shown(file));
                eprintln!("warning: {}", on_one_line(&said));
            }
        }
    }
    Ok(keys)
}

pub(super) fn in_force(token: &Token) -> Result<RevocationKey, Refusal> {
    verify_revocation(token)?;
    Ok(token.revocation_key())
}

/// The verdict over each object of some files.
#[derive(Debug, Serialize)]
struct Report {
    verdict: Verdict,
    objects: Vec<Judgement>,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { files, provider, taken_back, output } = args;
    let bench = Bench { provider, revoked: taken_back.read()?, ..Bench::default() };
    let now = now();
    let deployments = placed(&files)?;
    let objects: Vec<Judgement> = deployments.iter().map(|object| bench.judge(object, now)).collect();
    if objects.is_empty() {
        return Err(files.no_deployment());
    }
    let clean = objects.iter().all(Judgement::is_clean);
    let report = Report { verdict: if clean { Verdict::Accept } else { Verdict::Reject }, objects };
    print(&written(&report, output, || lines(&report.objects))?)?;
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::from(REJECTED) })
}

fn lines(judgements: &[Judgement]) -> String {
    let mut out = String::new();
    for judgement in judgements {
        out.push_str(&verdict_of(judgement));
        for field in &judgement.unknown_fields {
            let field = on_one_line(field);
            let _ = writeln!(
                out,
                "   unknown field {field}: the API server would drop it. Correct or remove it, and sign again"
            );
        }
        if let Some(remark) = remark(judgement) {
            let _ = writeln!(out, "   {remark}");
        }
    }
    out
}

/// The verdict in a line.
fn verdict_of(judgement: &Judgement) -> String {
    let Judgement { namespace, name, verdict, reason, message, .. } = judgement;
    let called = format!("{}/{}", namespace.as_deref().unwrap_or("-"), name.as_deref().unwrap_or("-"));
    let line = match verdict {
        Verdict::Accept => format!("✓  {called}: {message}"),
        Verdict::Reject => format!("✗  {called}: {}: {message}", reason.unwrap_or("Rejected")),
    };
    format!("{}\n", on_one_line(&line))
}

/// Whose word it is that this is the provider, where nobody else named one.
pub(super) fn remark(judgement: &Judgement) -> Option<String> {
    let provider = judgement.provider.as_ref()?;
    let whose = match judgement.provider_from {
        Source::Envelope => "whom it is addressed to",
        Source::Grant => "who issued its grant",
        Source::Argument | Source::Cluster | Source::Nowhere => return None,
    };
    Some(format!("judged as the provider {provider}, {whose}: name the one that is meant with --provider DID"))
}
