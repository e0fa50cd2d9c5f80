//! The command line: `dms-operator …`, which also answers as `kubectl hosting …` when named `kubectl-hosting`.

mod completion;
mod connections;
mod crd;
#[cfg(feature = "dev")]
mod demo;
mod device;
mod devices;
mod envelope;
mod run;
mod sign;
mod site;
mod token;
mod wallet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes: 0 done or accepted; 1 not done, with one sentence on standard error, also when the command line is not \
    understood; 2 a token or an envelope was judged and rejected; 3 a device gave no answer.";

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
    /// Signs `HostingDeployments` in a YAML stream.
    Sign(sign::Args),
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
        Command::Run(args) => run::run(args).await,
        Command::Device(args) => devices::run(args).await,
        Command::Site(args) => site::run(args).await,
        Command::Crd(args) => crd::run(&args),
        Command::Wallet(args) => wallet::run(args),
        Command::Token(args) => token::run(args),
        Command::Envelope(args) => envelope::run(args),
        Command::Sign(args) => sign::run(args),
        Command::Completion(args) => completion::run(&args),
        #[cfg(feature = "dev")]
        Command::Demo(args) => demo::run(args).await,
    }
}
