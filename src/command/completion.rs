//! `dms-operator completion`: the completion script of a shell.

use std::{io::Write as _, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Arguments, CommandError};

/// Arguments of `dms-operator completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Shell to complete in.
    #[arg(value_enum)]
    shell: SupportedShell,
}

/// The shells for which a script can be made.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SupportedShell {
    /// source <(dms-operator completion bash)
    Bash,
    /// dms-operator completion zsh > "${fpath[1]}/_dms-operator"
    Zsh,
    /// dms-operator completion fish | source
    Fish,
}

impl From<SupportedShell> for Shell {
    fn from(shell: SupportedShell) -> Self {
        match shell {
            SupportedShell::Bash => Self::Bash,
            SupportedShell::Zsh => Self::Zsh,
            SupportedShell::Fish => Self::Fish,
        }
    }
}

/// Prints the script.
pub fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let mut script = Vec::new();
    clap_complete::generate(Shell::from(args.shell), &mut Arguments::command(), "dms-operator", &mut script);
    std::io::stdout()
        .write_all(&script)
        .map_err(|error| CommandError::because("standard output was closed before all was written", error))?;
    Ok(ExitCode::SUCCESS)
}
