//! (work in progress)
use super::CommandError;
use std::process::ExitCode;
/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}
pub fn run(_args: Args) -> Result<ExitCode, CommandError> {
    Err(CommandError::new("not built yet"))
}
