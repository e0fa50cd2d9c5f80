//! `/livez`, `/readyz`, `/metrics`: on a thread and runtime of their own, so that they answer whatever the work does.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use crate::metrics::{self, Metrics};

/// Without a beat for this long, the runtime that does the work is stuck.
const STUCK_AFTER: Duration = Duration::from_mins(1);
/// How long open connections may finish after the end.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

/// What this process still waits for before it may be called ready. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    closed: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Readiness {
    /// Not ready before each of these gates was opened.
    #[must_use]
    pub fn new(gates: impl IntoIterator<Item = &'static str>) -> Self {
        let closed = gates.into_iter().map(|gate| (gate, String::new())).collect();
        Self { closed: Arc::new(Mutex::new(closed)) }
    }

    /// What the gate stands for has come.
    pub fn open(&self, gate: &'static str) {
        self.gates().remove(gate);
    }

    /// What the gate stands for is missing (again), and why.
    pub fn close(&self, gate: &'static str, why: impl Into<String>) {
        self.gates().insert(gate, why.into());
    }

    /// The closed gates, each with its reason if one was given: `crds: hostingdevices are not served`.
    #[must_use]
    pub fn pending(&self) -> Vec<String> {
        self.gates()
            .iter()
            .map(|(gate, why)| if why.is_empty() { (*gate).to_owned() } else { format!("{gate}: {why}") })
            .collect()
    }

    fn gates(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last sign of life of the runtime that does the work.
#[derive(Clone, Debug)]
struct Pulse {
    last: Arc<Mutex<Instant>>,
    stuck_after: Duration,
}

impl Pulse {
    /// Beats on the current runtime until `stop`; without a current runtime there is nothing to watch.
    fn start(stuck_after: Duration, stop: &CancellationToken) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        let pulse = Self { last: Arc::new(Mutex::new(Instant::now())), stuck_after };
        let (beating, stop) = (pulse.clone(), stop.clone());
        runtime.spawn(async move {
            while !stop.is_cancelled() {
                *beating.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(stuck_after / 12) => {}
                }
            }
        });
        Some(pulse)
    }

    fn is_stuck(&self) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() > self.stuck_after
    }
}

/// The running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `bind` (port 0 lets the system choose) and serves on a new thread:
    ///
    /// * `/livez`, `/healthz`: 200, or 503 when the runtime this was called on has done nothing for a minute;
    /// * `/readyz`: 200, or 503 with one closed gate a line;
    /// * `/metrics`: OpenMetrics text.
    ///
    /// # Errors
    /// When the address cannot be bound, or the system gives no thread.
    pub fn start(bind: SocketAddr, metrics: Arc<Metrics>, readiness: Readiness) -> io::Result<Self> {
        Self::watching(bind, metrics, readiness, STUCK_AFTER)
    }

    fn watching(
        bind: SocketAddr,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        stuck_after: Duration,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let stop = CancellationToken::new();
        let pulse = Pulse::start(stuck_after, &stop);
        let routes = routes(pulse, readiness, metrics);
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
            if let Err(error) = runtime.block_on(serve(listener, routes, stopped)) {
                tracing::error!(%error, "/livez, /readyz and /metrics are served no more");
            }
        })?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets open ones finish for half a second, and returns when the thread has ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.cancel();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of /livez, /readyz and /metrics had failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(listener: TcpListener, routes: Router, stop: CancellationToken) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let serving = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    let too_late = async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_ANSWERS).await;
    };
    tokio::select! {
        served = serving => served,
        () = too_late => Ok(()),
    }
}

fn routes(pulse: Option<Pulse>, readiness: Readiness, metrics: Arc<Metrics>) -> Router {
    let alive = get(alive).with_state(pulse);
    Router::new()
        .route("/livez", alive.clone())
        .route("/healthz", alive)
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(measured).with_state(metrics))
}

async fn alive(State(pulse): State<Option<Pulse>>) -> (StatusCode, &'static str) {
    if pulse.is_some_and(|pulse| pulse.is_stuck()) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the runtime that does the work is stuck\n");
    }
    (StatusCode::OK, "ok\n")
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let pending = readiness.pending();
    if pending.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", pending.join("\nwaiting for ")))
}

async fn measured(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::MEDIA_TYPE)], metrics.encode())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{Ipv4Addr, TcpStream},
    };

    use super::*;

    fn start(readiness: &Readiness, stuck_after: Duration) -> Server {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Server::watching(any_port, Arc::new(Metrics::new()), readiness.clone(), stuck_after).unwrap()
    }

    /// Status line and body of `GET path`, over a plain socket.
    fn get(server: &Server, path: &str) -> (String, String, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let (status, headers) = head.split_once("\r\n").unwrap();
        (status.to_owned(), headers.to_lowercase(), body.to_owned())
    }

    #[test]
    fn ready_when_the_last_gate_opens_and_not_again_when_one_closes() {
        let readiness = Readiness::new(["crds", "leader or standby"]);
        let server = start(&readiness, STUCK_AFTER);
        let answer = |path| {
            let (status, _, body) = get(&server, path);
            (status, body)
        };
        let not_ready = "HTTP/1.1 503 Service Unavailable".to_owned();
        let text = "waiting for crds\nwaiting for leader or standby\n".to_owned();
        assert_eq!(answer("/readyz"), (not_ready.clone(), text));
        readiness.close("crds", "hostingdevices are not served");
        readiness.open("leader or standby");
        let text = "waiting for crds: hostingdevices are not served\n".to_owned();
        assert_eq!(answer("/readyz"), (not_ready.clone(), text));
        assert_eq!(answer("/livez").0, "HTTP/1.1 200 OK", "waiting is no reason to be restarted");
        readiness.open("crds");
        assert_eq!(answer("/readyz"), ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned()));
        readiness.close("crds", "");
        assert_eq!(answer("/readyz").0, not_ready);
        assert_eq!(answer("/healthz"), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()));
        assert_eq!(answer("/other").0, "HTTP/1.1 404 Not Found");
    }

    #[test]
    fn metrics_come_as_openmetrics() {
        let server = start(&Readiness::default(), STUCK_AFTER);
        let (status, headers, body) = get(&server, "/metrics");
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(headers.contains(&format!("content-type: {}", metrics::MEDIA_TYPE)), "{headers}");
        assert!(body.contains("dms_operator_build_info{") && body.ends_with("# EOF\n"), "{body}");
    }

    /// The work blocks its only thread: probes still answer, and say so once it has lasted too long.
    #[tokio::test]
    async fn a_stuck_runtime_is_told_of_by_a_server_that_is_not() {
        let server = start(&Readiness::default(), Duration::from_millis(300));
        tokio::task::yield_now().await;
        let blocked = Instant::now();
        let mut seen = Vec::new();
        while blocked.elapsed() < Duration::from_secs(5) && seen.last().is_none_or(|status| status == "HTTP/1.1 200 OK")
        {
            seen.push(get(&server, "/livez").0);
        }
        assert_eq!(seen.first().unwrap(), "HTTP/1.1 200 OK");
        assert_eq!(seen.last().unwrap(), "HTTP/1.1 503 Service Unavailable");
        // Once the runtime breathes again, so does the pulse.
        while get(&server, "/livez").0 != "HTTP/1.1 200 OK" {
            assert!(blocked.elapsed() < Duration::from_secs(10), "still called stuck");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[test]
    fn stopping_frees_the_port_even_with_an_open_connection() {
        let server = start(&Readiness::default(), STUCK_AFTER);
        let address = server.address();
        let _idle = TcpStream::connect(address).unwrap();
        let before = Instant::now();
        server.stop();
        assert!(before.elapsed() < Duration::from_secs(5));
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn an_address_in_use_is_an_error_at_once() {
        let server = start(&Readiness::default(), STUCK_AFTER);
        let again = Server::start(server.address(), Arc::new(Metrics::new()), Readiness::default());
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
