//! `kubectl hosting sign --renew`: what is signed already is signed again, before its signature ends.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::super::CommandError;
use super::super::token::Output as Form;
use super::super::token::report::written;
use super::super::wallet::{print, read};
use super::carried::Carried;
use super::judge::Bench;
use super::sign::{Output, replace, rewritten};
use super::signer::Hand;
use super::signing::Signing;
use super::stream::Stream;
use super::{is_deployment, name_of, namespace_of, objects_mut, odd_list, sentence};
use crate::capability::{Did, Nanos, Reason, on_one_line};
use crate::plan::authorise::Standing;

const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];
const CHANGED: &str = "it was changed since it was signed: look at the change, and run `kubectl hosting sign` for it";

/// What is signed again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    /// What ends within this time.
    pub(super) within: Duration,
    pub(super) now: Nanos,
}

/// What became of one object.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    file: PathBuf,
    /// `None`: the file could not be read.
    namespace: Option<String>,
    name: Option<String>,
    outcome: Outcome,
    /// When the signature ended that was there.
    ended: Option<Nanos>,
    /// Until when the one that is there now holds.
    not_after: Option<Nanos>,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Outcome {
    Renewed,
    Kept,
    Unsigned,
    Failed,
}

/// Renews in files, and in those of folders, and says which.
pub(super) fn renew(
    paths: &[PathBuf],
    hand: &Hand,
    renewal: &Renewal,
    output: Option<Output>,
) -> Result<ExitCode, CommandError> {
    let mut files = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            return Err(CommandError::new("standard input cannot be renewed in place: name files or folders"));
        }
        collect(path, &mut files)?;
    }
    let signing = OnceCell::new();
    let opened = || {
        if let Some(signing) = signing.get() {
            return Ok(signing);
        }
        // Only now: where nothing ends soon, no passphrase is asked for.
        let signer = hand.open()?;
        Ok(signing.get_or_init(|| Signing { signer, namespace: None, content: None, refresh: false, now: renewal.now }))
    };
    let mut rows = Vec::new();
    let gone_through = files.iter().try_for_each(|file| in_file(file, renewal, &opened, &mut rows));
    let form = match output {
        None => Form::Table,
        Some(Output::Yaml) => Form::Yaml,
        Some(Output::Json) => Form::Json,
    };
    if gone_through.is_ok() || !rows.is_empty() {
        print(&written(&rows, form, || table(&rows))?)?;
    }
    gone_through?;
    match rows.iter().filter(|row| row.outcome == Outcome::Failed).count() {
        0 => Ok(ExitCode::SUCCESS),
        failed => Err(CommandError::new(format!(
            "{failed} of {} could not be renewed and are as they were: see above",
            rows.len()
        ))),
    }
}

/// A file, or the files in a folder and below that can hold objects. Hidden folders are passed over.
fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), CommandError> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let failed = |error: std::io::Error| {
        CommandError::because(format!("the folder {} could not be read", path.display()), error)
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let kind = entry.file_type().map_err(failed)?;
        let path = entry.path();
        let holds = path.extension().is_some_and(|ending| ENDINGS.iter().any(|known| ending == *known));
        if !hidden && (kind.is_dir() || (kind.is_file() && holds)) {
            found.push(path);
        }
    }
    found.sort();
    found.iter().try_for_each(|path| collect(path, files))
}

/// Renews what is in a file and adds a row for each HostingDeployment. A file that cannot be read is one row, unless it has
/// nothing to do with us: the others are renewed all the same.
fn in_file<'a>(
    file: &Path,
    renewal: &Renewal,
    opened: &dyn Fn() -> Result<&'a Signing, CommandError>,
    rows: &mut Vec<Row>,
) -> Result<(), CommandError> {
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            rows.push(unread(file, sentence(&error)));
            return Ok(());
        }
    };
    if !text.contains("HostingDeployment") {
        return Ok(());
    }
    let stream = match Stream::parse(text) {
        Ok(stream) => stream,
        Err(error) => {
            rows.push(unread(file, format!("it is not a stream of YAML documents: {error}")));
            return Ok(());
        }
    };
    let mut documents = stream.documents().to_vec();
    if let Some(odd) = documents.iter().find_map(odd_list) {
        rows.push(unread(file, odd));
        return Ok(());
    }
    let first = rows.len();
    for object in documents.iter_mut().flat_map(objects_mut).filter(|object| is_deployment(object)) {
        rows.push(one(file, object, renewal, opened)?);
    }
    if !rows.iter().skip(first).any(|row| row.outcome == Outcome::Renewed) {
        return Ok(());
    }
    if let Err(error) = rewritten(file, &stream, &documents).and_then(|text| replace(file, &text)) {
        for row in rows.iter_mut().skip(first).filter(|row| row.outcome == Outcome::Renewed) {
            (row.outcome, row.not_after, row.message) = (Outcome::Failed, None, sentence(&error));
        }
    }
    Ok(())
}

/// The row of a file whose objects are not known.
fn unread(file: &Path, message: String) -> Row {
    Row {
        file: file.to_owned(),
        namespace: None,
        name: None,
        outcome: Outcome::Failed,
        ended: None,
        not_after: None,
        message,
    }
}

/// Signs one object again, if it is time.
fn one<'a>(
    file: &Path,
    object: &mut Value,
    renewal: &Renewal,
    opened: &dyn Fn() -> Result<&'a Signing, CommandError>,
) -> Result<Row, CommandError> {
    let Renewal { within, now } = *renewal;
    let (namespace, name) = (namespace_of(object).map(str::to_owned), name_of(object).map(str::to_owned));
    let row = |outcome, ended, not_after, message| Row {
        file: file.to_owned(),
        namespace: namespace.clone(),
        name: name.clone(),
        outcome,
        ended,
        not_after,
        message,
    };
    let Some(carried) = Carried::of(object) else {
        let message = "it carries no signature that can be read: run `kubectl hosting sign` first".to_owned();
        return Ok(row(Outcome::Unsigned, None, None, message));
    };
    let end = carried.not_after;
    if end > now.plus(within) {
        return Ok(row(Outcome::Kept, None, Some(end), format!("valid until {end}")));
    }
    let failed = |message| row(Outcome::Failed, Some(end), None, message);
    let Some(provider) = carried.for_whom() else {
        return Ok(failed("it is addressed to nobody: run `kubectl hosting sign` for it".to_owned()));
    };
    if let Some(refused) = refusal(object, provider, now) {
        return Ok(failed(refused));
    }
    let signing = opened()?;
    if let Some(named) = signing.signer.provider.as_ref().filter(|named| *named != provider) {
        let message = format!(
            "it was signed for the provider {provider}, and --provider names {named}: run `kubectl hosting sign` to sign it \
             for another"
        );
        return Ok(failed(message));
    }
    let mut next = object.clone();
    match signing.renew(&mut next, Some(provider)) {
        Err(error) => Ok(failed(sentence(&error))),
        Ok(signed) if signed.not_after <= end => Ok(failed(format!(
            "it ends at {end}, and with the newest grant at hand no later: ask for a new grant first"
        ))),
        Ok(signed) => {
            *object = next;
            let message = format!("valid until {}, before only until {end}", signed.not_after);
            Ok(row(Outcome::Renewed, Some(end), Some(signed.not_after), message))
        }
    }
}

/// Why an object is not signed again: what it carries was never good for it. A signature that is over is no reason.
fn refusal(object: &Value, provider: &Did, now: Nanos) -> Option<String> {
    match Bench::default().standing(object, provider, now) {
        Standing::Valid(_) | Standing::Expired { .. } => None,
        Standing::Refused(refusal) if refusal.reason == Reason::DigestMismatch => Some(CHANGED.to_owned()),
        Standing::Refused(refusal) => Some(format!("what it carries does not authorise it: {}", refusal.message)),
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no HostingDeployment is there\n".to_owned();
    }
    let mut out = String::new();
    for Row { file, namespace, name, outcome, ended: _, not_after: _, message } in rows {
        let outcome = match outcome {
            Outcome::Renewed => "renewed",
            Outcome::Kept => "kept",
            Outcome::Unsigned => "unsigned",
            Outcome::Failed => "failed",
        };
        let unknown = "-".to_owned();
        let (namespace, name) = (namespace.as_ref().unwrap_or(&unknown), name.as_ref().unwrap_or(&unknown));
        let line = format!("{outcome:<8}  {}  {namespace}/{name}: {message}", file.display());
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{}", on_one_line(&line));
    }
    out
}

#[cfg(test)]
mod tests;
