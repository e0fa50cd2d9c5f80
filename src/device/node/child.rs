//! One allocation as a child process: started, watched, started again when it ends, stopped.
//!
//! A child never outlives its node: it has a pipe as standard input, and ends when that is closed (environment
//! `HOSTING_PARENT_PIPE=1`). It sees no environment but its own, so no secret of the node.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::AsyncRead,
    process::{Child, Command},
    task::JoinHandle,
    time,
};
use tokio_util::sync::CancellationToken;

use super::{
    course::{Course, Start},
    figures::{Figures, Phase},
    output::{self, Log},
};
use crate::device::dms::Stream;

/// Tells the child that its standard input is a pipe of its parent, at whose end it has to end too.
pub const PARENT_PIPE: &str = "HOSTING_PARENT_PIPE";
/// Tells the child where to listen, `ip:port`; port 0 when it has no public one.
pub const LISTEN: &str = "HOSTING_LISTEN";
/// The port of [`LISTEN`] alone.
pub const PORT: &str = "PORT";

const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Shorter than the pause between the looks of who waits for it to run.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A process that lived so long is started again without a longer pause.
const SETTLED: Duration = Duration::from_mins(1);
/// How long a child may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);
/// How long output is still read after the end of a child; a grandchild may hold the pipe for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone)]
pub(super) struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment asked for. It holds secrets, hence no `Debug`.
    pub env: Vec<(String, String)>,
    /// Where the child has to listen.
    pub listen: SocketAddr,
    /// Working directory.
    pub directory: PathBuf,
    /// Whether it is started again when it ends.
    pub restart: bool,
    /// What goes wrong with it on purpose.
    pub course: Arc<Course>,
}

/// What is told of a child's life, to be kept.
#[async_trait::async_trait]
pub(super) trait Journal: Send + Sync + 'static {
    /// A process starts.
    async fn started(&self);
    /// A process has ended; these are the bytes received and sent by all so far.
    async fn ended(&self, received: u64, sent: u64);
}

/// Keeps a child running until `stop`.
pub(super) async fn supervise(
    program: Program,
    figures: Arc<Figures>,
    log: Arc<Log>,
    journal: Arc<dyn Journal>,
    stop: CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let begun = Instant::now();
        match spawn(&program) {
            Ok(child) => {
                journal.started().await;
                figures.begin(child.id());
                watch(child, &figures, &log, &stop).await;
                let (received, sent) = figures.end();
                journal.ended(received, sent).await;
            }
            Err(error) => {
                tracing::warn!(%error, listen = %program.listen, "an allocation could not be started; it is tried again");
            }
        }
        if stop.is_cancelled() {
            break;
        }
        if !program.restart {
            figures.set_phase(Phase::Stopped);
            stop.cancelled().await;
            break;
        }
        figures.set_phase(Phase::Restarting);
        pause = if begun.elapsed() >= SETTLED { FIRST_PAUSE } else { pause };
        tokio::select! {
            () = stop.cancelled() => break,
            () = time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
    figures.set_phase(Phase::Stopped);
}

fn spawn(program: &Program) -> std::io::Result<Child> {
    let Program { path, args, env, listen, directory, restart: _, course } = program;
    let start = course.start();
    if start == Start::Fails {
        return Err(std::io::ErrorKind::WouldBlock.into());
    }
    // A process of an earlier run may still be on its way out: rather wait for it than start a child that must fail.
    drop(TcpListener::bind(listen)?);
    std::fs::create_dir_all(directory)?;
    let mut child = Command::new(path)
        .args(args)
        .env_clear()
        .envs(env.iter().map(|(name, value)| (name, value)))
        .env(PARENT_PIPE, "1")
        .env(LISTEN, listen.to_string())
        .env(PORT, listen.port().to_string())
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // The interrupt key of a terminal reaches the node, which then stops its children in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    if start == Start::Dies {
        child.start_kill()?;
    }
    Ok(child)
}

/// Waits for the end of the child, or ends it on `stop`.
async fn watch(mut child: Child, figures: &Arc<Figures>, log: &Arc<Log>, stop: &CancellationToken) {
    // Taken out, since waiting for a child closes its input, and the child ends with it.
    let input = child.stdin.take();
    let readers = [
        child.stdout.take().map(|pipe| follow(pipe, Stream::Stdout, log, Some(figures))),
        child.stderr.take().map(|pipe| follow(pipe, Stream::Stderr, log, None)),
    ];
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = stop.cancelled() => None,
    };
    drop(input);
    match ended {
        Some(Ok(status)) => tracing::warn!(%status, "an allocation ended by itself"),
        Some(Err(error)) => tracing::warn!(%error, "an allocation cannot be watched"),
        None => end(&mut child).await,
    }
    for reader in readers.into_iter().flatten() {
        let abort = reader.abort_handle();
        if time::timeout(DRAIN, reader).await.is_err() {
            abort.abort();
        }
    }
}

async fn end(child: &mut Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in this moment; then there is nobody to tell.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    }
    if time::timeout(GRACE, child.wait()).await.is_err()
        && let Err(error) = child.kill().await
    {
        tracing::warn!(%error, "an allocation could not be killed");
    }
}

fn follow(
    pipe: impl AsyncRead + Unpin + Send + 'static,
    stream: Stream,
    log: &Arc<Log>,
    figures: Option<&Arc<Figures>>,
) -> JoinHandle<()> {
    let (log, figures) = (Arc::clone(log), figures.cloned());
    tokio::spawn(async move { output::follow(pipe, stream, &log, figures.as_deref()).await })
}
