//! Whether the clock can be trusted: the wall clock, the API server's `Date` and the monotonic clock must agree.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kube::{Client, client::Body};

use crate::capability::Nanos;

/// How far the clocks may be apart.
const TOLERANCE: Duration = Duration::from_secs(30);
/// How often they are compared.
const INTERVAL: Duration = Duration::from_secs(30);

/// The wall clock, and whether it may be believed.
#[derive(Clone, Debug)]
pub struct Clock {
    suspect: Arc<AtomicBool>,
    started: Instant,
    started_wall: Nanos,
}

impl Default for Clock {
    fn default() -> Self {
        Self { suspect: Arc::default(), started: Instant::now(), started_wall: wall() }
    }
}

/// The wall clock, in unix nanoseconds.
#[must_use]
pub fn wall() -> Nanos {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

impl Clock {
    /// The time.
    #[must_use]
    pub fn now(&self) -> Nanos {
        wall()
    }

    /// Whether the clocks disagree: then nothing is admitted, stopped or purged.
    #[must_use]
    pub fn suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed) || self.stepped()
    }

    /// The wall clock was set while this process ran.
    fn stepped(&self) -> bool {
        apart(wall(), self.started_wall.plus(self.started.elapsed())) > TOLERANCE
    }

    /// Compares with the API server for ever.
    pub async fn watch(self, client: Client) {
        loop {
            if let Some(theirs) = server_date(&client).await {
                let suspect = apart(wall(), theirs) > TOLERANCE;
                if suspect != self.suspect.swap(suspect, Ordering::Relaxed) {
                    tracing::warn!(suspect, api_server = %theirs, here = %wall(), "the clocks were compared");
                }
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

fn apart(a: Nanos, b: Nanos) -> Duration {
    a.since(b).max(b.since(a))
}

async fn server_date(client: &Client) -> Option<Nanos> {
    let request = axum::http::Request::get("/version").body(Body::empty()).ok()?;
    let response = tokio::time::timeout(Duration::from_secs(5), client.send(request)).await.ok()?.ok()?;
    let date = response.headers().get("date")?.to_str().ok()?;
    let parsed = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(Nanos::from_timestamp(parsed.timestamp()))
}
