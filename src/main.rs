//! Entry point: one TLS provider, arguments, then the command.

use std::{error::Error as _, process::ExitCode};

use clap::Parser as _;
use dms_operator::command::{self, Arguments};

fn main() -> ExitCode {
    // Several libraries speak TLS; the first provider installed is the one they all use.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        eprintln!("error: another TLS provider was installed before ours");
        return ExitCode::FAILURE;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(message) => {
            // Help and version were asked for. Anything else is a mistake, and 2 would say that a token was rejected.
            let code = if message.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            return if message.print().is_ok() { code } else { ExitCode::FAILURE };
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the async runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command::run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            eprint!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
