//! `kubectl hosting sign`: what is printed, or stands in the files then, is what may be applied.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::super::CommandError;
use super::super::token::make::duration;
use super::super::token::now;
use super::super::wallet::{self, print, shown};
use super::content::{Supplied, config_maps};
use super::renew::{Renewal, renew};
use super::signer::Hand;
use super::signing::{Signed, Signing};
use super::stream::Stream;
use super::{objects, read_stream};

const RENDER_FIRST: &str = "The stream is printed as it came, comments and all, with every HostingDeployment in it signed: \
    only namespace, owner, release and invocation are written. Render first, then sign: a name prefix, substitution or \
    target namespace applied after signing is refused. A pipeline gives key and grant in DMS_OPERATOR_KEY_SEED and \
    DMS_OPERATOR_GRANT.";

/// Arguments of `sign`.
#[derive(Debug, clap::Args)]
#[command(after_help = RENDER_FIRST)]
pub struct Args {
    /// File with documents; `-` for standard input. Give it once for each. With --renew also a folder.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    hand: Hand,
    /// Namespace of the documents that name none.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Folder, or gzip-compressed tar archive, of which `content.release` is computed. Absent: the ConfigMap that
    /// `content.from` names, when it is in the stream.
    #[arg(long, value_name = "DIR|ARCHIVE")]
    content: Option<PathBuf>,
    /// Compute `content.release` anew where it is set already. It is always computed where it is absent or `auto`.
    #[arg(long)]
    refresh: bool,
    /// Write the files themselves instead of standard output.
    #[arg(short, long)]
    in_place: bool,
    /// Sign again, in the files themselves, what is signed already and whose signature ends soon; in folders, every YAML
    /// and JSON file. What is signed stays the same.
    #[arg(long, requires = "within", conflicts_with_all = ["namespace", "content", "refresh", "in_place"])]
    renew: bool,
    /// With --renew: sign again what ends within this time, for example 30d.
    #[arg(long, value_name = "DURATION", requires = "renew", value_parser = duration)]
    within: Option<Duration>,
    /// Form of the output. Absent: as the text came; with --renew, lines for people.
    #[arg(short, long, value_enum, conflicts_with = "in_place")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Yaml,
    Json,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { files, hand, namespace, content, refresh, in_place, renew: renewing, within, output } = args;
    if let (true, Some(within)) = (renewing, within) {
        return renew(&files, &hand, &Renewal { within, now: now() }, output);
    }
    if in_place && files.iter().any(|file| file == Path::new("-")) {
        return Err(CommandError::new(
            "standard input cannot be written in place: leave out -i, and what is signed is printed",
        ));
    }
    let streams = files.iter().map(|file| read_stream(file)).collect::<Result<Vec<_>, _>>()?;
    let content = content.map(|path| Supplied::read(&path)).transpose()?;
    let signing = Signing { signer: hand.open()?, namespace, content, refresh, now: now() };
    let done = sign(&signing, &streams)?;
    if done.iter().all(|stream| stream.signed.is_empty()) {
        let shown: Vec<String> = files.iter().map(|file| shown(file)).collect();
        let message = format!("{} holds no HostingDeployment, so there is nothing to sign", shown.join(" and "));
        return Err(CommandError::new(message));
    }
    if output == Some(Output::Json) {
        print(&written(done.iter().flat_map(|stream| &stream.documents))?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let texts = files
        .iter()
        .zip(streams.iter().zip(&done))
        .map(|(file, (stream, done))| rewritten(file, stream, &done.documents))
        .collect::<Result<Vec<_>, _>>()?;
    if !in_place {
        print(&joined(&streams, texts))?;
        return Ok(ExitCode::SUCCESS);
    }
    for ((file, text), (stream, done)) in files.iter().zip(&texts).zip(streams.iter().zip(&done)) {
        if text != stream.text() {
            replace(file, text)?;
        }
        print(&lines(file, &done.signed))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What became of one stream.
struct Done {
    signed: Vec<Signed>,
    /// All of its documents.
    documents: Vec<Value>,
}

/// Signs what stands in the streams.
fn sign(signing: &Signing, streams: &[Stream]) -> Result<Vec<Done>, CommandError> {
    let config_maps = config_maps(objects(streams.iter().flat_map(Stream::documents)));
    let one = |stream: &Stream| {
        let mut documents = stream.documents().to_vec();
        let signed = signing.sign_each(&mut documents, &config_maps)?;
        Ok(Done { signed, documents })
    };
    streams.iter().map(one).collect()
}

/// The text of a file with its documents signed.
pub(super) fn rewritten(file: &Path, stream: &Stream, documents: &[Value]) -> Result<String, CommandError> {
    stream
        .rewritten(documents)
        .map_err(|error| CommandError::because(format!("{} was signed and could not be written", shown(file)), error))
}

/// One stream of all texts; a single one stays as it is.
fn joined(streams: &[Stream], texts: Vec<String>) -> String {
    let yaml = streams.iter().any(|stream| !stream.is_json());
    let mut out = String::new();
    for text in texts {
        if !out.is_empty() {
            if !out.ends_with('\n') {
                out.push('\n');
            }
            let begins =
                text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#')).unwrap_or_default();
            if yaml && !begins.starts_with("---") && !begins.starts_with('%') {
                out.push_str("---\n");
            }
        }
        out.push_str(&text);
    }
    out
}

/// All documents as JSON, one after the other.
fn written<'a>(documents: impl Iterator<Item = &'a Value>) -> Result<String, CommandError> {
    let mut out = String::new();
    for document in documents {
        let text = serde_json::to_string_pretty(document)
            .map_err(|error| CommandError::because("the documents could not be written", error))?;
        out.push_str(&text);
        out.push('\n');
    }
    Ok(out)
}

fn lines(file: &Path, signed: &[Signed]) -> String {
    let mut out = String::new();
    for Signed { namespace, name, owner, signer, provider: _, not_after } in signed {
        let by = if owner == signer { String::new() } else { format!(" for {owner}") };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{}: HostingDeployment {namespace}/{name} signed by {signer}{by}, valid until {not_after}",
            file.display()
        );
    }
    out
}

/// Puts a text in the place of a file at once, with the rights that the file has. Whoever reads it meanwhile sees either the
/// one or the other.
pub(super) fn replace(file: &Path, text: &str) -> Result<(), CommandError> {
    let write = || {
        // What a link leads to is replaced, not the link.
        let target = fs::canonicalize(file)?;
        let rights = fs::metadata(&target)?.permissions();
        wallet::replace(&target, text.as_bytes(), Some(rights))
    };
    write().map_err(|error: std::io::Error| {
        CommandError::because(format!("{} could not be written and is as it was", file.display()), error)
    })
}
