//! Whether the clock can be trusted: the wall clock, the API server's `Date` and the monotonic clock must agree.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use kube::{Client, client::Body};
use tokio_util::sync::CancellationToken;

use crate::capability::Nanos;

/// How far the clocks may be apart.
const TOLERANCE: Duration = Duration::from_secs(30);
/// How often they are compared.
const INTERVAL: Duration = Duration::from_secs(30);

/// Between tries of the first comparison.
const PAUSE: Duration = Duration::from_secs(1);
/// So many agreements with the API server in a row make a jump of the wall clock believable.
const AGREEMENTS: u32 = 2;

/// The wall clock, and whether it may be believed.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Agreement>>);

impl Default for Clock {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Agreement::new(wall(), Instant::now()))))
    }
}

/// What the comparisons so far say.
#[derive(Debug)]
struct Agreement {
    /// A moment by both clocks of this machine.
    anchor: (Nanos, Instant),
    /// Comparisons with the API server in a row that agreed.
    agreed: u32,
    /// The last comparison did not agree.
    apart: bool,
}

impl Agreement {
    const fn new(wall: Nanos, monotonic: Instant) -> Self {
        Self { anchor: (wall, monotonic), agreed: 0, apart: false }
    }

    /// The wall clock was set since the anchor, or the machine slept.
    fn jumped(&self, wall: Nanos, monotonic: Instant) -> bool {
        let (then, at) = self.anchor;
        apart(wall, then.plus(monotonic.saturating_duration_since(at))) > TOLERANCE
    }

    fn suspect(&self, wall: Nanos, monotonic: Instant) -> bool {
        self.apart || self.jumped(wall, monotonic)
    }

    /// Takes a comparison with the API server's clock. After a jump the wall clock is believed again once the API server
    /// has agreed with it for a while.
    fn compare(&mut self, theirs: Nanos, wall: Nanos, monotonic: Instant) {
        self.apart = apart(wall, theirs) > TOLERANCE;
        self.agreed = if self.apart { 0 } else { self.agreed.saturating_add(1) };
        if self.agreed >= AGREEMENTS {
            self.anchor = (wall, monotonic);
        }
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
        self.agreement().suspect(wall(), Instant::now())
    }

    fn agreement(&self) -> MutexGuard<'_, Agreement> {
        // Every change is one call, so it is whole even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compares with the API server for the first time, however long that takes: nothing may be judged before.
    pub async fn first_comparison(&self, client: &Client, stop: &CancellationToken) {
        let mut told = false;
        while !self.compare(client).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("waiting for the API server to tell the time, by the header Date of /version");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }

    /// Compares with the API server for ever.
    pub async fn watch(self, client: Client) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            self.compare(&client).await;
        }
    }

    /// Whether there was something to compare with.
    async fn compare(&self, client: &Client) -> bool {
        let Some(theirs) = server_date(client).await else { return false };
        let before = self.suspect();
        self.agreement().compare(theirs, wall(), Instant::now());
        let suspect = self.suspect();
        if suspect != before {
            tracing::warn!(suspect, api_server = %theirs, here = %wall(), "the clocks were compared");
        }
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Nanos = Nanos(1_800_000_000_000_000_000);

    #[test]
    fn a_jump_is_believed_once_the_api_server_has_agreed_twice() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let wall = |seconds| THEN.plus(Duration::from_secs(seconds));
        let mut agreement = Agreement::new(THEN, start);
        assert!(!agreement.suspect(wall(30), start));
        assert!(agreement.suspect(wall(31), start), "31 s on the wall and none by the monotonic clock");
        // The machine slept for an hour: the API server's clock went on as the wall clock did.
        agreement.compare(wall(3_600), wall(3_600), after(1));
        assert!(agreement.suspect(wall(3_600), after(1)), "once is not enough");
        agreement.compare(wall(3_630), wall(3_630), after(31));
        assert!(!agreement.suspect(wall(3_631), after(32)));
        // Set backwards, and nobody agrees.
        agreement.compare(wall(3_660), wall(60), after(61));
        agreement.compare(wall(3_690), wall(90), after(91));
        agreement.compare(wall(3_720), wall(120), after(121));
        assert!(agreement.suspect(wall(120), after(121)));
        // Set right again.
        agreement.compare(wall(3_750), wall(3_750), after(151));
        assert!(!agreement.suspect(wall(3_750), after(151)));
    }
}
