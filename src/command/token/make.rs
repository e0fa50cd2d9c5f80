//! Making grants and delegations, which never give more than they rest on.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use jiff::SignedDuration;

use super::{CommandError, Signer};
use crate::api::door::GrantAction;
use crate::api::names::is_label;
use crate::capability::{Capability, Did, Key, MAX_LINKS, MintError, Minting, Nanos, Token};

/// What a provider needs on a device.
pub(super) const ON_DEVICE: [&str; 5] =
    ["/dms/node/deployment", "/dms/node/peers", "/dms/node/resources", "/dms/node/onboarding/status", "/dms/ensemble"];
/// The grant and the invocation take two of the links that are read.
pub(in crate::command) const MOST_DELEGATIONS: u64 = MAX_LINKS as u64 - 2;

#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    #[command(flatten)]
    pub(super) signer: Signer,
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
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct DeviceGrant {
    #[command(flatten)]
    pub(super) signer: Signer,
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
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Delegate {
    #[command(flatten)]
    pub(super) signer: Signer,
    /// The grant of which a part is passed on.
    #[arg(long, value_name = "FILE")]
    pub(super) grant: PathBuf,
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
    pub(super) out: Option<PathBuf>,
}

/// [`GrantAction`] on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::command) enum HostingAction {
    /// Create and change deployments.
    Apply,
    /// Upload content.
    Publish,
    /// Read content that is not public.
    Read,
    /// Read usage.
    Usage,
    /// Delete deployments through the provider, and content for good.
    Delete,
}

impl From<HostingAction> for GrantAction {
    fn from(action: HostingAction) -> Self {
        match action {
            HostingAction::Apply => Self::Apply,
            HostingAction::Publish => Self::Publish,
            HostingAction::Read => Self::Read,
            HostingAction::Usage => Self::Usage,
            HostingAction::Delete => Self::Delete,
        }
    }
}

pub(super) fn grant_token(key: &Key, grant: &Grant, now: Nanos, nonce: [u8; 12]) -> Result<Token, CommandError> {
    let Grant { signer: _, to, namespace, actions, lifetime, max_delegations, out: _ } = grant;
    if !is_label(namespace) {
        return Err(CommandError::new(format!("{namespace:?} is not the name of a Kubernetes namespace")));
    }
    let paths = actions.iter().map(|action| format!("/hosting/{namespace}/{}", GrantAction::from(*action).as_str()));
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

pub(super) fn device_token(key: &Key, grant: &DeviceGrant, now: Nanos, nonce: [u8; 12]) -> Result<Token, CommandError> {
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

pub(super) fn delegated_token(
    key: &Key,
    delegation: &Delegate,
    grant: &Token,
    now: Nanos,
    nonce: [u8; 12],
) -> Result<Token, CommandError> {
    let Delegate { signer: _, grant: _, to, capabilities, lifetime, max_delegations, out: _ } = delegation;
    let part = Part {
        to: to.clone(),
        capabilities: if capabilities.is_empty() { grant.capabilities().to_vec() } else { capabilities.clone() },
        lifetime: *lifetime,
        max_delegations: *max_delegations,
    };
    part.token(key, grant, now, nonce)
}

/// A part of a grant that is passed on.
pub(in crate::command) struct Part {
    pub(in crate::command) to: Did,
    pub(in crate::command) capabilities: Vec<Capability>,
    /// `None`: as long as the grant.
    pub(in crate::command) lifetime: Option<Duration>,
    pub(in crate::command) max_delegations: u64,
}

impl Part {
    /// The token that passes it on.
    pub(in crate::command) fn token(
        self,
        key: &Key,
        grant: &Token,
        now: Nanos,
        nonce: [u8; 12],
    ) -> Result<Token, CommandError> {
        let Self { to, capabilities, lifetime, max_delegations } = self;
        if grant.not_after() < now {
            let message = format!("the grant expired at {}: ask its issuer for a new one", grant.not_after());
            return Err(CommandError::new(message));
        }
        // What hangs on a chain that does not hold is refused everywhere.
        grant.verify(now, &|_| false).map_err(|refusal| CommandError::because("the grant does not hold", refusal))?;
        let depth = max_delegations + 1;
        if let Some(left) = links_left(grant).filter(|left| *left < depth + 1) {
            let times = left.saturating_sub(2);
            let message = match left {
                0 | 1 => "the grant may not be passed on: ask its issuer for one with more delegations".to_owned(),
                _ => {
                    format!("the grant lets the new token be passed on {times} times at most: lower --max-delegations")
                }
            };
            return Err(CommandError::new(message));
        }
        let minting = Minting {
            subject: to,
            audience: grant.audience().cloned(),
            capabilities,
            topics: Vec::new(),
            expires: lifetime.map_or(grant.not_after(), |lifetime| now.plus(lifetime)),
            depth,
            nonce,
        };
        Token::delegate(key, minting, Some(grant)).map_err(not_made)
    }
}

/// A hundred years.
const MOST_DAYS: u64 = 36_500;

/// How many links may hang below `token`, by the depth of each link of its chain; `None`: no link limits it.
pub(in crate::command) fn links_left(token: &Token) -> Option<u64> {
    let limits = token.links().zip(0_u64..).filter(|(link, _)| link.depth() > 0);
    limits.map(|(link, below)| link.depth().saturating_sub(below)).min()
}

fn capabilities(paths: impl Iterator<Item = String>) -> Result<Vec<Capability>, CommandError> {
    paths
        .map(|path| Capability::parse(&path))
        .collect::<Result<_, _>>()
        .map_err(|error| CommandError::because("the token was not made", error))
}

fn not_made(error: MintError) -> CommandError {
    CommandError::because("the token was not made", error)
}

/// A positive duration such as `720h` or `30d`.
pub(in crate::command) fn duration(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok()).filter(|days| *days <= MOST_DAYS);
    let parsed: Option<Duration> = match days {
        Some(days) => Some(Duration::from_hours(days * 24)),
        None => text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok()),
    };
    parsed.filter(|duration| !duration.is_zero()).ok_or_else(|| {
        "write a positive duration in days, hours, minutes or seconds, for example 30d or 720h".to_owned()
    })
}
