//! The command line: `dms-operator …`, which also answers as `kubectl hosting …` when named `kubectl-hosting`.

mod anchors;
mod completion;
mod confirm;
mod connections;
mod crd;
mod delegate;
#[cfg(feature = "dev")]
mod demo;
mod device;
mod devices;
mod envelope;
mod grants;
mod login;
mod reached;
mod revoke;
mod run;
mod site;
mod specs;
mod token;
mod wallet;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes: 0 done or accepted; 1 not done, with one sentence on standard error, also when the command line is not \
    understood; 2 a token, an envelope, a signed object or the answer of a provider was judged and rejected, or the provider refused; 3 a \
    device or a provider gave no answer.";

/// Kubernetes operator for decentralised hosting on NuNet DMS devices.
#[derive(Debug, Parser)]
#[command(name = "dms-operator", version, about, propagate_version = true, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the operator: watches the cluster and keeps deployments on devices as declared.
    Run(run::Args),
    /// Runs a DMS-compatible node that takes deployments; with a subcommand, sees to the devices of a provider.
    Device(devices::Args),
    /// Runs the site server of one deployment; started by a device.
    Site(site::Args),
    /// Prints the custom resource definitions.
    Crd(crd::Args),
    /// Makes, shows and moves the keys that prove a DID.
    Wallet(wallet::Args),
    /// Makes, judges, explains and takes back capability tokens.
    Token(token::Args),
    /// Judges DMS messages.
    Envelope(envelope::Args),
    /// Proves a DID to a provider, and keeps the grant that it gives.
    Login(login::Args),
    /// Says who a key of the wallet is, and what it was granted.
    Whoami(whoami::Args),
    /// Lists what the keys of the wallet may do where, and until when.
    Grants(grants::Args),
    /// Passes a part of a grant on to another key, for example of a pipeline. Nobody is asked.
    Delegate(delegate::Args),
    /// Takes back what a key of the wallet passed on.
    Revoke(revoke::Args),
    /// Signs `HostingDeployments` in a YAML stream.
    Sign(specs::sign::Args),
    /// Judges signed `HostingDeployments` as the provider does, without a cluster.
    Verify(specs::verify::Args),
    /// Says what would come of applying `HostingDeployments`: where to, what is transferred, what changes, what is refused.
    Plan(specs::plan::Args),
    /// Signs and applies `HostingDeployments`, and waits until they are Ready.
    Apply(specs::apply::Args),
    /// Prints the completion script of a shell.
    Completion(completion::Args),
    /// Starts a whole installation on this machine, shows one deployment from apply to delete, and leaves nothing.
    #[cfg(feature = "dev")]
    Demo(demo::Args),
}

/// What a person is told when a command cannot do what was asked: one sentence with its causes.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    message: String,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl CommandError {
    /// An error without a further cause.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), cause: None }
    }

    /// An error that keeps its cause.
    pub fn because(message: impl Into<String>, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { message: message.into(), cause: Some(cause.into()) }
    }
}

/// Runs the command named by the arguments.
///
/// # Errors
/// [`CommandError`] with the sentence to print; the process then exits with 1. Exit codes other than 0 and 1 belong to
/// the single commands and stand in their help. No command line ends with 2 for a mistake in itself: that code says
/// that something was judged and rejected.
pub async fn run(arguments: Arguments) -> Result<ExitCode, CommandError> {
    match arguments.command {
        Command::Run(args) => Box::pin(run::run(args)).await,
        Command::Device(args) => devices::run(args).await,
        Command::Site(args) => site::run(args).await,
        Command::Crd(args) => crd::run(&args),
        Command::Wallet(args) => wallet::run(args),
        Command::Token(args) => token::run(args),
        Command::Envelope(args) => envelope::run(args),
        Command::Login(args) => login::run(args).await,
        Command::Whoami(args) => whoami::run(&args),
        Command::Grants(args) => grants::run(&args),
        Command::Delegate(args) => delegate::run(args),
        Command::Revoke(args) => revoke::run(args).await,
        Command::Sign(args) => specs::sign::run(args),
        Command::Verify(args) => specs::verify::run(args),
        Command::Plan(args) => specs::plan::run(args).await,
        Command::Apply(args) => specs::apply::run(args).await,
        Command::Completion(args) => completion::run(&args),
        #[cfg(feature = "dev")]
        Command::Demo(args) => demo::run(args).await,
    }
}
