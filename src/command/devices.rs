//! `kubectl hosting device …`: the devices of a provider. Without a subcommand, `dms-operator device` is a node itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, FromArgMatches, Subcommand as _};

use self::add::Add;
use self::call::Call;
use self::change::{Adopt, Cordon, Drain, Retry, Uncordon};
use self::show::{Describe, List};
use super::token::make::duration;
use super::token::now;
use super::wallet::{open_key, open_seed, random};
use super::{CommandError, device};
use crate::capability::Key;
use crate::device::CallError;
use crate::device::libp2p::{DmsClient, Link, LinkConfig};

/// Exit code when a device was asked and did not answer.
const NO_ANSWER: u8 = 3;
const EXIT_CODES: &str = "Exit codes: 0 done, or the device replied; 1 not done, with one sentence on standard error; 3 the \
    device was asked and gave no answer.";

/// Arguments of `device`: those of a node that runs here, or what is to be done about others.
#[derive(Debug)]
pub enum Args {
    /// A node on this machine.
    Node(Box<device::Args>),
    /// The devices of a provider.
    Devices(Box<Devices>),
}

/// What is done about devices.
#[derive(Debug, clap::Subcommand)]
pub enum Devices {
    /// Finds out who answers at an address, and prints the HostingDevice for it.
    Add(Add),
    /// Lists the devices of a provider, and what is known of them.
    List(List),
    /// Shows all that is known of a device, and what runs there.
    Describe(Describe),
    /// Asks a device one behaviour and prints its reply.
    Call(Call),
    /// Has the operator look at a device at once.
    Retry(Retry),
    /// Takes a device that lost its state, or contradicted itself, as it is now.
    Adopt(Adopt),
    /// Places nothing new on a device.
    Cordon(Cordon),
    /// Places nothing new on a device, and tells what is still there.
    Drain(Drain),
    /// Lets deployments be placed on a device again.
    Uncordon(Uncordon),
}

impl clap::Args for Args {
    fn augment_args(command: clap::Command) -> clap::Command {
        both(Devices::augment_subcommands(device::Args::augment_args(command)))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        both(Devices::augment_subcommands_for_update(device::Args::augment_args_for_update(command)))
    }
}

/// Either the options of a node or a subcommand.
fn both(command: clap::Command) -> clap::Command {
    command
        .subcommand_required(false)
        .args_conflicts_with_subcommands(true)
        .subcommand_negates_reqs(true)
        .arg_required_else_help(true)
        .after_help(EXIT_CODES)
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        if matches.subcommand_name().is_some() {
            Devices::from_arg_matches_mut(matches).map(Box::new).map(Self::Devices)
        } else {
            device::Args::from_arg_matches_mut(matches).map(Box::new).map(Self::Node)
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    match args {
        Args::Node(node) => device::run(*node).await,
        Args::Devices(devices) => match *devices {
            Devices::Add(add) => add.run().await,
            Devices::List(list) => list.run().await,
            Devices::Describe(describe) => describe.run().await,
            Devices::Call(call) => call.run().await,
            Devices::Retry(retry) => retry.run().await,
            Devices::Adopt(adopt) => adopt.run().await,
            Devices::Cordon(cordon) => cordon.run().await,
            Devices::Drain(drain) => drain.run().await,
            Devices::Uncordon(uncordon) => uncordon.run().await,
        },
    }
}

/// How long something is waited for: no longer than a day.
fn patience(text: &str) -> Result<Duration, String> {
    let patience = duration(text)?;
    if patience > Duration::from_hours(24) {
        return Err("nothing is waited for longer than 24h".to_owned());
    }
    Ok(patience)
}

/// The key that a device is asked with.
#[derive(Debug, clap::Args)]
#[group(id = "caller", multiple = false)]
struct Caller {
    /// Key file to ask with; its passphrase is taken from DMS_PASSPHRASE, or asked for.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with a seed as 64 hex digits to ask with, as the operator's identity Secret holds it.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
}

impl Caller {
    const fn is_given(&self) -> bool {
        self.key.is_some() || self.seed_file.is_some()
    }

    fn open(&self) -> Result<Option<Key>, CommandError> {
        match self {
            Self { key: Some(file), seed_file: _ } => open_key(file).map(Some),
            Self { key: None, seed_file: Some(file) } => open_seed(file).map(Some),
            Self { key: None, seed_file: None } => Ok(None),
        }
    }
}

/// A client that signs with `key`. Its peer ID is made for it: that of the key may be the running operator's, and a node
/// sends what is for a peer ID over whichever connection it has.
pub(super) async fn client(key: &Key) -> Result<DmsClient, CommandError> {
    let config = LinkConfig {
        key: Key::from_seed(random()?),
        listen: Vec::new(),
        inboxes: vec![format!("user-{}", now().0)],
        topics: None,
    };
    let (link, arrived) =
        Link::start(config).await.map_err(|error| CommandError::because("no device can be called from here", error))?;
    Ok(DmsClient::new(link, arrived, key.clone()))
}

/// A device that was asked and is silent has its own exit code; all else that failed is an error.
fn failed(error: CallError) -> Result<ExitCode, CommandError> {
    match error {
        CallError::Silent { .. } => {
            eprintln!("error: {error}");
            Ok(ExitCode::from(NO_ANSWER))
        }
        other => Err(CommandError::new(other.to_string())),
    }
}

/// What goes on without something says so.
fn warn(error: &CommandError) {
    eprintln!("warning: {}", whole(error));
}

/// An error with its causes.
fn whole(error: &CommandError) -> String {
    let errors = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    errors.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

mod add;
mod call;
mod change;
mod place;
mod show;
#[cfg(test)]
mod tests;
mod view;
