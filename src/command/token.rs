//! Making and explaining capability tokens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use jiff::Timestamp;

use self::judge::{Manner, Question, Trust, each_by_itself, read_tokens};
use self::make::{Delegate, DeviceGrant, Grant, delegated_token, device_token, grant_token};
use self::report::{REJECTED, Report, written};
use self::revoke::Revoke;
use super::CommandError;
use super::wallet::{open_key, open_seed, print, random, read_bytes, shown, write_new};
use crate::capability::{Capability, Key, Nanos, Token};

/// What the commands that judge exit with.
pub(super) const VERDICTS: &str =
    "Exit codes: 0 accepted, 2 rejected, 1 not judged: the command line, the context or a file cannot be read.";

/// Arguments of `token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Tokens,
}

#[derive(Debug, clap::Subcommand)]
enum Tokens {
    /// Grants an owner the right to host in a namespace. Run by the provider.
    Grant(Grant),
    /// Grants a provider the right to deploy on a device. Run by the owner of the device.
    DeviceGrant(DeviceGrant),
    /// Passes a part of a grant on to another key, for example of a pipeline.
    Delegate(Delegate),
    /// Takes a token back, and with it all that hangs below. Run by its issuer.
    Revoke(Revoke),
    /// Prints what a token holds, one link a line, and whether it holds by itself.
    Inspect(Inspect),
    /// Judges a token as a node does.
    Verify(Verify),
    /// Draws the chain of a token: who gave what to whom until when, and the first thing that fails.
    ///
    /// Without --context and --audience the token is judged by itself, whoever issued its root.
    Explain(Explain),
}

/// The key that signs.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Signer {
    /// Key file; its passphrase is taken from DMS_PASSPHRASE, or asked for.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with a seed as 64 hex digits, as the operator's identity Secret holds it.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
}

impl Signer {
    fn open(&self) -> Result<Key, CommandError> {
        match (&self.key, &self.seed_file) {
            (Some(file), None) => open_key(file),
            (None, Some(file)) => open_seed(file),
            _ => Err(CommandError::new("name the key to sign with: --key FILE or --seed-file FILE")),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = VERDICTS)]
struct Inspect {
    /// File with a token or a list of tokens; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[command(after_help = VERDICTS)]
struct Verify {
    /// File with a token, or with a list of tokens, of which one must be accepted; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// What it must give; may be given several times, and then all of it is asked.
    #[arg(long = "capability", value_name = "PATH", required = true, value_parser = Capability::parse)]
    capabilities: Vec<Capability>,
    #[command(flatten)]
    manner: Manner,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, clap::Args)]
#[command(after_help = VERDICTS)]
struct Explain {
    /// File with a token or a list of tokens; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// What it must give; may be given several times. Absent: what it says that it gives.
    #[arg(long = "capability", value_name = "PATH", value_parser = Capability::parse)]
    capabilities: Vec<Capability>,
    #[command(flatten)]
    manner: Manner,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    Json,
    Yaml,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    match args.command {
        Tokens::Grant(grant) => {
            let key = grant.signer.open()?;
            emit(&grant_token(&key, &grant, now(), random()?)?, grant.out.as_deref())
        }
        Tokens::DeviceGrant(grant) => {
            let key = grant.signer.open()?;
            emit(&device_token(&key, &grant, now(), random()?)?, grant.out.as_deref())
        }
        Tokens::Delegate(delegation) => {
            let grant = read_token(&delegation.grant)?;
            let key = delegation.signer.open()?;
            emit(&delegated_token(&key, &delegation, &grant, now(), random()?)?, delegation.out.as_deref())
        }
        Tokens::Revoke(revoke) => {
            let token = revoke.target()?;
            let key = revoke.signer.open()?;
            write(&revoke.text(&key, &token)?, revoke.out.as_deref())
        }
        Tokens::Inspect(args) => return inspect(args),
        Tokens::Verify(args) => return verify(args),
        Tokens::Explain(args) => return explain(args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: Inspect) -> Result<ExitCode, CommandError> {
    let Inspect { token, output } = args;
    let reports = each_by_itself(read_tokens(&token)?, now());
    let table = || reports.iter().map(Report::lines).collect::<Vec<_>>().join("\n");
    print(&written(&reports, output, table)?)?;
    let all = reports.iter().all(Report::is_accepted);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(REJECTED) })
}

fn verify(args: Verify) -> Result<ExitCode, CommandError> {
    let Verify { token, trust, capabilities, manner, output } = args;
    let now = trust.now();
    let question =
        Question { trust: Some(trust.required()?), manner: &manner, capabilities: &capabilities, obeyed: true, now };
    let report = question.decide(read_tokens(&token)?)?;
    print(&written(&report, output, || report.lines())?)?;
    Ok(report.code())
}

fn explain(args: Explain) -> Result<ExitCode, CommandError> {
    let Explain { token, trust, capabilities, manner, output } = args;
    let now = trust.now();
    let question = Question { trust: trust.open()?, manner: &manner, capabilities: &capabilities, obeyed: false, now };
    let report = question.decide(read_tokens(&token)?)?;
    print(&written(&report, output, || report.tree())?)?;
    Ok(report.code())
}

fn emit(token: &Token, out: Option<&Path>) -> Result<(), CommandError> {
    write(&format!("{}\n", String::from_utf8_lossy(&token.to_json())), out)
}

fn write(text: &str, out: Option<&Path>) -> Result<(), CommandError> {
    match out {
        Some(file) => write_new(file, text.as_bytes()),
        None => print(text),
    }
}

/// The wall clock.
pub(super) fn now() -> Nanos {
    Nanos::from_timestamp(Timestamp::now())
}

/// Reads a file with one token.
pub(super) fn read_token(file: &Path) -> Result<Token, CommandError> {
    Token::parse(read_bytes(file)?.trim_ascii())
        .map_err(|refusal| CommandError::because(format!("{} holds no token that can be read", shown(file)), refusal))
}

pub(super) mod judge;
pub(super) mod make;
pub(super) mod report;
pub(super) mod revoke;
#[cfg(test)]
mod tests;
