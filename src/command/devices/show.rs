//! `list` and `describe`.

use std::process::ExitCode;

use super::super::CommandError;
use super::super::token::report::written;
use super::super::token::{Output, now};
use super::super::wallet::print;
use super::place::{Place, on};
use super::view::{Colours, View, description, table};
use super::warn;

/// Arguments of `list`.
#[derive(Debug, clap::Args)]
pub struct List {
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl List {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Self { place, output } = self;
        let cluster = place.open().await?;
        let devices = cluster.all().await?;
        // Who may read devices may still not be allowed to see what runs there.
        let deployments = cluster.deployments().await.map_err(|error| warn(&error)).ok();
        let view = |device| View::of(device, deployments.as_ref().map(|all| on(all, device)));
        let views: Vec<View> = devices.iter().map(view).collect();
        if views.is_empty() {
            eprintln!("There is no HostingDevice in namespace {}; -n names another one.", cluster.namespace);
        }
        print(&written(&views, output, || table(&views, now(), Colours::of_environment()))?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `describe`.
#[derive(Debug, clap::Args)]
pub struct Describe {
    /// Name of the HostingDevice.
    device: String,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Describe {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Self { device, place, output } = self;
        let cluster = place.open().await?;
        let device = cluster.device(&device).await?;
        // Who may read devices may still not be allowed to see what runs there.
        let deployments = cluster.deployments().await.map_err(|error| warn(&error)).ok();
        let view = View::of(&device, deployments.as_ref().map(|all| on(all, &device)));
        print(&written(&view, output, || description(&view, now(), Colours::of_environment()))?)?;
        Ok(ExitCode::SUCCESS)
    }
}
