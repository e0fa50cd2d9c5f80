//! `dms-operator site`: the server of one deployment's release, started by a device.
//!
//! It holds no store credential: with the key made for its attempt it asks the operator what to serve ([`follow`]),
//! fetches it verified into a file without a name ([`pack`]), and serves from the release manifest only ([`serve`]).

mod follow;
mod meter;
mod operator;
mod pack;
mod serve;
mod settings;

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use axum::Router;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::{follow::Follower, operator::Operator, serve::Serving, settings::Settings};
use super::{
    CommandError,
    connections::{Connections, Meter},
};
use crate::gateway::site_protocol::SiteName;

/// How long open connections may go on after the server is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// Readers' connections at one time.
const CONNECTIONS: usize = 512;

/// Arguments. Everything secret comes by environment, where no other user of the machine can see it:
/// `HOSTING_OPERATOR_URL`, `HOSTING_PROVIDER_DID`, `HOSTING_SITE_SEED`, `HOSTING_SITE_GRANT`; optional are
/// `HOSTING_LISTEN` (`ip:port`), `PORT`, and `HOSTING_PARENT_PIPE=1`, which ends the server with its standard input.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment to serve, as `<namespace>/<name>`.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    deployment: SiteName,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let settings = Settings::read(args.deployment, |name| std::env::var(name).ok())
        .map_err(|error| CommandError::because("the site server was not started", error))?;
    let parent_pipe = settings.parent_pipe;
    let stop = CancellationToken::new();
    // Standard output may be a pipe that nobody reads any more; serving goes on.
    let print = |line: &str| {
        let _ = writeln!(std::io::stdout(), "{line}");
    };
    let server = Server::start(settings, stop.clone(), Arc::new(print)).await?;
    print(&format!("listening on {}", server.address));
    until_told(parent_pipe).await?;
    stop.cancel();
    server.finish().await;
    Ok(ExitCode::SUCCESS)
}

/// Returns on SIGTERM, SIGINT and, with `parent_pipe`, when standard input ends because the parent is gone.
async fn until_told(parent_pipe: bool) -> Result<(), CommandError> {
    let failed = |error| CommandError::because("signals cannot be received", error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let (ended, end) = oneshot::channel();
    if parent_pipe {
        // A plain thread: the runtime would wait for a read of its own to return before the process can end.
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while std::io::stdin().read(&mut buffer).is_ok_and(|count| count > 0) {}
            let _ = ended.send(());
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = end => {}
        }
    } else {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    Ok(())
}

/// Where lines for the device go.
type Print = Arc<dyn Fn(&str) + Send + Sync>;

/// A running site server.
struct Server {
    address: SocketAddr,
    meter: Arc<Meter>,
    print: Print,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    async fn start(settings: Settings, stop: CancellationToken, print: Print) -> Result<Self, CommandError> {
        let Settings { operator_url, credentials, listen, parent_pipe: _, pauses } = settings;
        let listener = TcpListener::bind(listen)
            .await
            .map_err(|error| CommandError::because(format!("the site server cannot listen on {listen}"), error))?;
        let failed = |error| CommandError::because("the site server cannot listen", error);
        let address = listener.local_addr().map_err(failed)?;
        let operator = Operator::new(operator_url, credentials)
            .map_err(|error| CommandError::because("the operator cannot be asked", error))?;

        let (state, serving) = watch::channel(Serving::Starting);
        let meter = Arc::new(Meter::default());
        let router = Router::new().fallback(serve::answer).with_state(serving);
        let stopped = stop.clone();
        let connections = Connections::new(listener, CONNECTIONS, meter.clone());
        let http = async move {
            let server = axum::serve(connections, router).with_graceful_shutdown(stopped.cancelled_owned());
            if let Err(error) = server.await {
                tracing::error!(%error, "the site server ended");
            }
        };
        let follower = stop.clone().run_until_cancelled_owned(Follower::new(operator, state, pauses).run());
        let reporter = stop.run_until_cancelled_owned(meter::report(meter.clone(), print.clone()));
        let tasks = vec![
            tokio::spawn(http),
            tokio::spawn(async move {
                let _ = follower.await;
            }),
            tokio::spawn(async move {
                let _ = reporter.await;
            }),
        ];
        Ok(Self { address, meter, print, tasks })
    }

    /// Waits for open connections, but not long, and says the last usage.
    async fn finish(self) {
        let Self { address: _, meter, print, tasks } = self;
        let abort: Vec<_> = tasks.iter().map(JoinHandle::abort_handle).collect();
        if tokio::time::timeout(GRACE, futures::future::join_all(tasks)).await.is_err() {
            abort.iter().for_each(tokio::task::AbortHandle::abort);
        }
        print(&meter::line(&meter));
    }
}

#[cfg(test)]
mod tests;
