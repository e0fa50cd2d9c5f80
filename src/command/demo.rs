//! `dms-operator demo`: a whole installation on this machine, and one site from apply to delete.
//!
//! Everything that a person would do is done by the commands that the person would type, and shown.

mod cluster;
mod names;
mod proof;
mod screen;
mod shell;
mod story;
mod timeline;

use std::{path::Path, process::ExitCode, time::Instant};

use clap::ValueEnum;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use self::{cluster::Cluster, names::OPERATOR_NAMESPACE, proof::Traces, screen::Screen, shell::Shell, story::Story};
use super::CommandError;
use crate::dev::{
    KitError,
    installation::{Installation, Plan},
};

const DEVICES: usize = 2;

/// Arguments of the demo.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave everything running after the second release, and say what to try next; Ctrl-C ends it.
    #[arg(long)]
    keep: bool,
    /// Which cluster to use: one of its own, or the one of the current kubeconfig context, which it names and asks about
    /// first.
    #[arg(long, value_enum, default_value_t = Where::Own)]
    cluster: Where,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Where {
    Own,
    Current,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { keep, cluster } = args;
    let screen = Screen::new();
    let folder = tempfile::Builder::new()
        .prefix("dms-operator-demo-")
        .tempdir()
        .map_err(|error| CommandError::because("no temporary folder could be made", error))?;
    let mut interrupted = Interruption::new()?;
    let started = Instant::now();

    screen.heading("Control plane");
    let found = async {
        match cluster {
            Where::Own => Cluster::own(&screen, folder.path()).await,
            Where::Current => Cluster::current(&screen).await,
        }
    };
    let cluster = tokio::select! {
        cluster = found => cluster?,
        () = interrupted.came() => {
            // What was being started has ended by now; in a cluster of the person nothing was begun.
            remove(folder)?;
            return Ok(told_of_interruption(&screen));
        }
    };
    let shell = Shell::new(&screen, folder.path(), cluster.credentials())?;
    let mut traces = Traces::default();
    if let Some(control_plane) = cluster.control_plane() {
        traces.control_plane(control_plane);
    }

    let result = {
        let told = tokio::select! {
            result = tell(&screen, folder.path(), &cluster, &shell, keep, &mut traces) => result.map(Some),
            () = interrupted.came() => Ok(None),
        };
        // What was left on the way, also by an error or Ctrl-C; a cluster of its own simply ends.
        match cluster.leave(&shell).await {
            Ok(()) => told,
            Err(error) => told.and(Err(error)),
        }
    };
    drop(cluster);
    let path = folder.path().to_owned();
    remove(folder)?;
    let Some(ending) = result? else {
        let code = told_of_interruption(&screen);
        return Ok(if keep { ExitCode::SUCCESS } else { code });
    };

    screen.heading("Nothing is left");
    traces.assert_gone(&screen, &path).await?;
    screen.heading("Figures");
    ending.print(&screen, started.elapsed());
    Ok(ExitCode::SUCCESS)
}

fn remove(folder: TempDir) -> Result<(), CommandError> {
    let path = folder.path().to_owned();
    folder.close().map_err(|error| CommandError::because(format!("{} could not be removed", path.display()), error))
}

/// The exit code is that of a shell after Ctrl-C.
fn told_of_interruption(screen: &Screen) -> ExitCode {
    screen.line("interrupted; everything that was started has been stopped");
    ExitCode::from(130)
}

/// Starts the parts, tells the story, and stops the parts.
async fn tell(
    screen: &Screen,
    folder: &Path,
    cluster: &Cluster,
    shell: &Shell<'_>,
    keep: bool,
    traces: &mut Traces,
) -> Result<story::Ending, CommandError> {
    cluster.prepare(shell).await?;
    screen.heading("Object store, two devices, the operator");
    let executable = std::env::current_exe()
        .map_err(|error| CommandError::because("the path of this program could not be found out", error))?;
    let plan = Plan {
        executable,
        folder: folder.join("installation"),
        namespace: OPERATOR_NAMESPACE.to_owned(),
        credentials: cluster.credentials().clone(),
        devices: DEVICES,
        // Usage is read at each look, so that the demo need not wait a minute for figures.
        arguments: ["--resync", "1s"].map(str::to_owned).into(),
        variables: Vec::new(),
        // Whoever proves a DID may host here for an hour.
        provider: serde_json::json!({"grants": [{
            "subjects": {"any": {}}, "actions": ["apply", "publish", "read", "usage", "delete"], "lifetime": "1h",
        }]}),
    };
    let installation = Installation::start(cluster.client().clone(), plan).await.map_err(kit)?;
    traces.installation(&installation);
    screen.line(&format!("S3          {} (bucket {})", installation.s3.endpoint(), installation.s3.bucket()));
    for device in &installation.devices {
        screen.line(&format!("{}    {}", device.name, device.address));
    }
    screen.line(&format!("operator    {}  (/readyz, /metrics)", installation.http));

    let story = Story::new(screen, shell, cluster.client(), &installation);
    let mut served = story.serve().await?;
    traces.port("site", served.url());
    if keep {
        story.invite(&served).await;
    }
    story.take_back(&mut served).await?;
    story.end(served).await
}

/// Ctrl-C, or a request to terminate.
struct Interruption {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Interruption {
    fn new() -> Result<Self, CommandError> {
        let on = |kind| signal(kind).map_err(|error| CommandError::because("signals cannot be received", error));
        Ok(Self { terminate: on(SignalKind::terminate())?, interrupt: on(SignalKind::interrupt())? })
    }

    async fn came(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn kit(error: KitError) -> CommandError {
    CommandError::because("the demo could not go on", error)
}
