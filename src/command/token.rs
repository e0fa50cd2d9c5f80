//! Making and explaining capability tokens.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};

use super::CommandError;
use super::wallet::{open_key, open_seed, print, random, read, shown, write_new};
use crate::capability::{
    Action, Capability, Did, Key, MAX_LINKS, Minting, Nanos, Refusal, Token, parse_token_list, verify_revocation,
};

/// What a provider needs on a device.
const ON_DEVICE: [&str; 5] =
    ["/dms/node/deployment", "/dms/node/peers", "/dms/node/resources", "/dms/node/onboarding/status", "/dms/ensemble"];
/// The grant and the invocation take two of the links that are read.
const MOST_DELEGATIONS: u64 = MAX_LINKS as u64 - 2;

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
    /// Prints the chain of a token, one link a line, and whether it holds. Exits with 1 when it does not.
    Inspect(Inspect),
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
struct Grant {
    #[command(flatten)]
    signer: Signer,
    /// DID of the owner.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    to: Did,
    /// Kubernetes namespace in which the owner may host.
    #[arg(long)]
    namespace: String,
    /// What the owner may do there.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = HostingAction::value_variants().to_vec())]
    actions: Vec<HostingAction>,
    /// How long it is valid, for example 720h.
    #[arg(long = "for", value_name = "DURATION", default_value = "720h", value_parser = duration)]
    lifetime: Duration,
    /// How often it may be passed on.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=MOST_DELEGATIONS))]
    max_delegations: u64,
    /// Where to write it; an existing file is never overwritten. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct DeviceGrant {
    #[command(flatten)]
    signer: Signer,
    /// DID of the provider.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    to: Did,
    /// DID of the one device it is for. Absent: every device that trusts the signer.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    device: Option<Did>,
    /// How long it is valid, for example 8760h.
    #[arg(long = "for", value_name = "DURATION", default_value = "8760h", value_parser = duration)]
    lifetime: Duration,
    /// Where to write it; an existing file is never overwritten. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Delegate {
    #[command(flatten)]
    signer: Signer,
    /// The grant of which a part is passed on.
    #[arg(long, value_name = "FILE")]
    grant: PathBuf,
    /// DID of the key that it is passed on to.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    to: Did,
    /// What is passed on, for example /hosting/shop/apply/web; may be given several times. Absent: all of the grant.
    #[arg(long = "capability", value_name = "PATH", value_parser = Capability::parse)]
    capabilities: Vec<Capability>,
    /// How long it is valid, for example 24h. Absent: as long as the grant.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    /// How often it may be passed on again.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MOST_DELEGATIONS))]
    max_delegations: u64,
    /// Where to write it; an existing file is never overwritten. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Inspect {
    /// File with a token or a list of tokens; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    token: PathBuf,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// What an owner may be granted in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum HostingAction {
    /// Create and change deployments.
    Apply,
    /// Upload content.
    Publish,
    /// Read content that is not public.
    Read,
    /// Read usage.
    Usage,
    /// Delete content for good.
    Delete,
}

impl HostingAction {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Usage => "usage",
            Self::Delete => "delete",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
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
        Tokens::Inspect(inspect) => {
            let tokens = read_tokens(&inspect.token)?;
            let (text, holds) = explain::explain(&tokens, now(), inspect.output)?;
            print(&text)?;
            return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn grant_token(key: &Key, grant: &Grant, now: Nanos, nonce: [u8; 12]) -> Result<Token, CommandError> {
    let Grant { signer: _, to, namespace, actions, lifetime, max_delegations, out: _ } = grant;
    let label = !namespace.is_empty()
        && namespace.len() <= 63
        && namespace.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !namespace.starts_with('-')
        && !namespace.ends_with('-');
    if !label {
        return Err(CommandError::new(format!("{namespace:?} is not the name of a Kubernetes namespace")));
    }
    let paths = actions.iter().map(|action| format!("/hosting/{namespace}/{}", action.as_str()));
    let minting = Minting {
        subject: to.clone(),
        audience: Some(key.did().clone()),
        capabilities: capabilities(paths)?,
        topics: Vec::new(),
        expires: now.plus(*lifetime),
        depth: max_delegations + 1,
        nonce,
    };
    Token::delegate(key, minting, None).map_err(not_made)
}

fn device_token(key: &Key, grant: &DeviceGrant, now: Nanos, nonce: [u8; 12]) -> Result<Token, CommandError> {
    let DeviceGrant { signer: _, to, device, lifetime, out: _ } = grant;
    let minting = Minting {
        subject: to.clone(),
        audience: device.clone(),
        capabilities: capabilities(ON_DEVICE.into_iter().map(str::to_owned))?,
        topics: Vec::new(),
        expires: now.plus(*lifetime),
        depth: 1,
        nonce,
    };
    Token::delegate(key, minting, None).map_err(not_made)
}

fn delegated_token(
    key: &Key,
    delegation: &Delegate,
    grant: &Token,
    now: Nanos,
    nonce: [u8; 12],
) -> Result<Token, CommandError> {
    let Delegate { signer: _, grant: _, to, capabilities, lifetime, max_delegations, out: _ } = delegation;
    if grant.not_after() < now {
        let message = format!("the grant expired at {}: ask its issuer for a new one", grant.not_after());
        return Err(CommandError::new(message));
    }
    let depth = max_delegations + 1;
    if let Some(left) = links_left(grant).filter(|left| *left < depth + 1) {
        let times = left.saturating_sub(2);
        let message = match left {
            0 | 1 => "the grant may not be passed on: ask its issuer for one with more delegations".to_owned(),
            _ => format!("the grant lets the new token be passed on {times} times at most: lower --max-delegations"),
        };
        return Err(CommandError::new(message));
    }
    let minting = Minting {
        subject: to.clone(),
        audience: grant.audience().cloned(),
        capabilities: if capabilities.is_empty() { grant.capabilities().to_vec() } else { capabilities.clone() },
        topics: Vec::new(),
        expires: lifetime.map_or(grant.not_after(), |lifetime| now.plus(lifetime)),
        depth,
        nonce,
    };
    Token::delegate(key, minting, Some(grant)).map_err(not_made)
}

/// How many links may hang below `token`, by the depth of each link of its chain; `None`: no link limits it.
fn links_left(token: &Token) -> Option<u64> {
    let limits = token.links().zip(0_u64..).filter(|(link, _)| link.depth() > 0);
    limits.map(|(link, below)| link.depth().saturating_sub(below)).min()
}

fn capabilities(paths: impl Iterator<Item = String>) -> Result<Vec<Capability>, CommandError> {
    paths
        .map(|path| Capability::parse(&path))
        .collect::<Result<_, _>>()
        .map_err(|error| CommandError::because("the token was not made", error))
}

fn not_made(error: crate::capability::MintError) -> CommandError {
    CommandError::because("the token was not made", error)
}

fn emit(token: &Token, out: Option<&Path>) -> Result<(), CommandError> {
    let mut json = token.to_json();
    json.push(b'\n');
    match out {
        Some(file) => write_new(file, &json),
        None => print(&String::from_utf8_lossy(&json)),
    }
}

/// The wall clock.
pub(super) fn now() -> Nanos {
    Nanos::from_timestamp(Timestamp::now())
}

/// Reads a file with one token.
pub(super) fn read_token(file: &Path) -> Result<Token, CommandError> {
    Token::parse(read(file)?.trim().as_bytes()).map_err(|refusal| no_token(file, refusal))
}

fn read_tokens(file: &Path) -> Result<Vec<Token>, CommandError> {
    let text = read(file)?;
    let bytes = text.trim().as_bytes();
    match Token::parse(bytes) {
        Ok(token) => Ok(vec![token]),
        Err(refusal) => match parse_token_list(bytes) {
            Ok(tokens) if !tokens.is_empty() => Ok(tokens),
            _ => Err(no_token(file, refusal)),
        },
    }
}

fn no_token(file: &Path, refusal: Refusal) -> CommandError {
    CommandError::because(format!("{} holds no token that can be read", shown(file)), refusal)
}

/// A positive duration such as `720h`.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed: Result<SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|duration| Duration::try_from(duration).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "write a positive duration in hours, minutes or seconds, for example 720h".to_owned())
}

mod explain;
#[cfg(test)]
mod tests;
