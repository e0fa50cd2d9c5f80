//! (work in progress)
use std::process::ExitCode;

use super::CommandError;
/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {}
#[allow(clippy::unused_async)]
pub async fn run(_args: Args) -> Result<ExitCode, CommandError> {
    Err(CommandError::new("not built yet"))
}
