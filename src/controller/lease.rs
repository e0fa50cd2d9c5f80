//! Who leads: one process at a time, by a `Lease` of `coordination.k8s.io/v1`.
//!
//! Fail-stop. The claim of the holder ends by its own clock, whether the API server answers or not, and before any
//! other candidate may take over: the holder counts from the *start* of the last request that renewed the lease and
//! stops a margin early; a candidate counts the full duration from the moment at which it *first saw* the lease in its
//! present version. Wall clocks of other machines are written for people and never read. Every write carries the
//! resourceVersion that was read, so of two writers one fails.
//!
//! A process that is paused past its deadline cannot notice while it is paused. What must never happen twice is
//! therefore fenced again at the object it concerns, by compare-and-swap.

#[cfg(test)]
mod tests;

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// How a lease is named and timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Namespace of the `Lease`.
    pub namespace: String,
    /// Name of the `Lease`.
    pub name: String,
    /// Who the candidate is, for people: the name of the pod. A random part is added, so that two processes are never
    /// taken for one.
    pub identity: String,
    /// How long after its last renewal another may take the lease; whole seconds. Default: 30 s.
    pub duration: Duration,
    /// How often the holder renews. Default: 10 s.
    pub renew: Duration,
}

impl LeaseConfig {
    /// A lease with the default times: 30 s, renewed every 10 s.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            duration: Duration::from_secs(30),
            renew: Duration::from_secs(10),
        }
    }

    /// How long before another may take over the claim ends: time to stop, and room for clocks that run unevenly.
    #[must_use]
    pub fn margin(&self) -> Duration {
        self.duration / 5
    }

    /// How long one call may take.
    fn call_timeout(&self) -> Duration {
        self.renew * 2 / 5
    }

    /// Least time from one call to the next, and between the looks of a candidate.
    fn retry(&self) -> Duration {
        self.renew / 5
    }

    fn check(&self) -> Result<(), LeaseError> {
        let whole = self.duration.subsec_nanos() == 0 && i32::try_from(self.duration.as_secs()).is_ok();
        if whole && !self.renew.is_zero() && self.renew * 2 + self.margin() <= self.duration {
            return Ok(());
        }
        Err(LeaseError::Times { duration: self.duration, renew: self.renew })
    }
}

/// Why a campaign could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The times leave no room for a second try.
    #[error(
        "a lease of {duration:?} renewed every {renew:?} would be lost at the first slow answer; the duration must be \
         whole seconds and at least two and a half times the renewal interval"
    )]
    Times {
        /// Duration of the lease.
        duration: Duration,
        /// Interval of renewal.
        renew: Duration,
    },
}

/// Why a call to the API server did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LeaseCallError {
    /// The lease is not as it was read: another wrote, created or deleted it. Certain to have changed nothing.
    #[error("the lease has changed since it was read")]
    Conflict,
    /// Anything else; a write may have happened or not.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The three calls that a lease needs.
#[async_trait]
pub trait LeaseApi: Send + Sync + 'static {
    /// Reads the lease; `None` when there is none.
    async fn get(&self, name: &str) -> Result<Option<Lease>, LeaseCallError>;
    /// Creates it; [`LeaseCallError::Conflict`] when it exists.
    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseCallError>;
    /// Replaces it if its resourceVersion is still the one given; else [`LeaseCallError::Conflict`].
    async fn replace(&self, name: &str, lease: &Lease) -> Result<Lease, LeaseCallError>;
}

#[async_trait]
impl LeaseApi for Api<Lease> {
    async fn get(&self, name: &str) -> Result<Option<Lease>, LeaseCallError> {
        self.get_opt(name).await.map_err(call_error)
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, LeaseCallError> {
        Self::create(self, &PostParams::default(), lease).await.map_err(call_error)
    }

    async fn replace(&self, name: &str, lease: &Lease) -> Result<Lease, LeaseCallError> {
        Self::replace(self, name, &PostParams::default(), lease).await.map_err(call_error)
    }
}

fn call_error(error: kube::Error) -> LeaseCallError {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => LeaseCallError::Conflict,
        _ => LeaseCallError::Failed(error.into()),
    }
}

/// A lease as this process knows it, in local time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none. `held_until` is set when another held it before it vanished: that one may not know yet.
    Absent {
        /// Until when that other may believe to lead.
        held_until: Option<Instant>,
    },
    /// There is one.
    Present {
        /// Who holds it; `None` when it was released.
        holder: Option<String>,
        /// Its resourceVersion.
        version: String,
        /// How long its holder may believe to lead after a renewal.
        duration: Duration,
        /// When this version was first seen here.
        since: Instant,
    },
}

/// What a candidate knows of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me<'a> {
    /// The text in `spec.holderIdentity`.
    pub identity: &'a str,
    /// While it leads: when that ends, and when to renew.
    pub holding: Option<Holding>,
}

/// The times of a holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// From here on it does not lead any more.
    pub until: Instant,
    /// From here on it should renew.
    pub renew_at: Instant,
}

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write oneself in as the holder.
    Acquire,
    /// Write again as the holder.
    Renew,
    /// Nothing before this moment.
    Wait(Instant),
    /// Stop leading, for good.
    Lost,
}

/// What a candidate that knows this does now. Pure.
#[must_use]
pub fn decide(now: Instant, seen: &Seen, me: &Me<'_>) -> Decision {
    if let Some(Holding { until, renew_at }) = me.holding {
        let mine = matches!(seen, Seen::Present { holder: Some(holder), .. } if holder == me.identity);
        return match (mine && now < until, now < renew_at) {
            (false, _) => Decision::Lost,
            (true, true) => Decision::Wait(renew_at),
            (true, false) => Decision::Renew,
        };
    }
    let free_at = match seen {
        Seen::Absent { held_until } => *held_until,
        Seen::Present { holder: None, .. } => None,
        // An own earlier write whose answer was lost.
        Seen::Present { holder: Some(holder), .. } if holder == me.identity => None,
        Seen::Present { duration, since, .. } => Some(*since + *duration),
    };
    match free_at {
        Some(free_at) if now < free_at => Decision::Wait(free_at),
        _ => Decision::Acquire,
    }
}

/// What is known after a read (or an answered write) at `now`.
fn observe(now: Instant, lease: Option<&Lease>, before: Option<&Seen>, own_duration: Duration) -> Seen {
    let Some(lease) = lease else {
        let held_until = match before {
            Some(Seen::Present { holder: Some(_), duration, since, .. }) => Some(*since + *duration),
            Some(Seen::Absent { held_until }) => *held_until,
            Some(Seen::Present { holder: None, .. }) | None => None,
        };
        return Seen::Absent { held_until };
    };
    let version = lease.metadata.resource_version.clone().unwrap_or_default();
    let since = match before {
        Some(Seen::Present { version: known, since, .. }) if *known == version => *since,
        _ => now,
    };
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    Seen::Present {
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        version,
        duration: seconds.filter(|seconds| *seconds > 0).map_or(own_duration, Duration::from_secs),
        since,
    }
}

/// Whether this process leads. Cheap to clone; ends by itself at its deadline, even if nobody tells it.
#[derive(Clone, Debug)]
pub struct Claim {
    until: watch::Receiver<Option<Instant>>,
}

impl Claim {
    /// Whether it leads now.
    #[must_use]
    pub fn held(&self) -> bool {
        self.until.has_changed().is_ok() && self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it leads; `false` when the campaign ended first.
    pub async fn acquired(&mut self) -> bool {
        while !self.held() {
            if self.until.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits until it does not lead (any more). A lost lease does not come back: stop working, then end the process.
    pub async fn lost(&mut self) {
        while self.held() {
            let Some(until) = *self.until.borrow_and_update() else { return };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = self.until.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A running campaign for a lease. Dropped without [`Campaign::end`], the lease runs out by itself.
#[derive(Debug)]
pub struct Campaign {
    claim: Claim,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Campaign {
    /// Starts to compete for the lease, in a task of its own.
    ///
    /// # Errors
    /// [`LeaseError`], when the times of the configuration cannot work.
    pub fn start(api: Arc<dyn LeaseApi>, config: LeaseConfig) -> Result<Self, LeaseError> {
        config.check()?;
        let (publish, until) = watch::channel(None);
        let stop = CancellationToken::new();
        let identity = format!("{}_{}", config.identity, uuid::Uuid::new_v4());
        let candidate = Candidate { api, config, identity, lease: None, seen: None, holding: None, publish };
        let task = tokio::spawn(candidate.run(stop.clone()));
        Ok(Self { claim: Claim { until }, stop, task })
    }

    /// Whether this process leads.
    #[must_use]
    pub fn claim(&self) -> Claim {
        self.claim.clone()
    }

    /// Gives the lease up, so that another can take it at once. Call it when the work that needed it has stopped.
    pub async fn end(mut self) {
        self.stop.cancel();
        // An aborted or failed task has nothing left to give up.
        let _ended = (&mut self.task).await;
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The state of the campaign's task.
struct Candidate {
    api: Arc<dyn LeaseApi>,
    config: LeaseConfig,
    identity: String,
    /// As last read or written; its resourceVersion guards the next write.
    lease: Option<Lease>,
    /// `None`: to be read before anything is decided.
    seen: Option<Seen>,
    holding: Option<Holding>,
    publish: watch::Sender<Option<Instant>>,
}

/// The next step of a campaign.
enum Next {
    Decide,
    Read,
}

impl Candidate {
    async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.compete() => {
                tracing::error!(lease = %self.config.name, "the lease is lost");
                self.publish.send_replace(None);
            }
            () = stop.cancelled() => self.release().await,
        }
    }

    /// Competes, holds, renews; returns when a lease that was held is lost.
    async fn compete(&mut self) {
        let mut next = Next::Read;
        loop {
            if self.holding.is_some_and(|holding| Instant::now() >= holding.until) {
                return;
            }
            next = match next {
                Next::Read => self.read().await,
                Next::Decide => match self.decision() {
                    Decision::Lost => return,
                    Decision::Wait(until) if self.holding.is_some() => {
                        sleep_until(until).await;
                        Next::Decide
                    }
                    Decision::Wait(until) => {
                        sleep_until(until.min(Instant::now() + self.config.retry())).await;
                        Next::Read
                    }
                    Decision::Acquire | Decision::Renew => self.write().await,
                },
            };
        }
    }

    fn decision(&self) -> Decision {
        let me = Me { identity: &self.identity, holding: self.holding };
        self.seen.as_ref().map_or(Decision::Wait(Instant::now()), |seen| decide(Instant::now(), seen, &me))
    }

    async fn read(&mut self) -> Next {
        let api = Arc::clone(&self.api);
        let name = self.config.name.clone();
        let started = Instant::now();
        match self.bounded(api.get(&name)).await {
            Ok(lease) => {
                self.remember(lease);
                Next::Decide
            }
            Err(error) => {
                tracing::warn!(lease = %name, %error, "the lease could not be read; trying again");
                self.pause(started).await;
                Next::Read
            }
        }
    }

    async fn write(&mut self) -> Next {
        let api = Arc::clone(&self.api);
        let started = Instant::now();
        let wanted = self.wanted();
        let written = match &self.lease {
            Some(_) => self.bounded(api.replace(&self.config.name, &wanted)).await,
            None => self.bounded(api.create(&wanted)).await,
        };
        match written {
            Ok(lease) => {
                if self.holding.is_none() {
                    tracing::info!(lease = %self.config.name, identity = %self.identity, "the lease is taken");
                }
                self.remember(Some(lease));
                let until = started + self.config.duration.saturating_sub(self.config.margin());
                self.holding = Some(Holding { until, renew_at: started + self.config.renew });
                self.publish.send_replace(Some(until));
                Next::Decide
            }
            Err(LeaseCallError::Conflict) => Next::Read,
            Err(error) => {
                tracing::warn!(lease = %self.config.name, %error, "the lease could not be written; trying again");
                self.pause(started).await;
                Next::Read
            }
        }
    }

    fn remember(&mut self, lease: Option<Lease>) {
        self.seen = Some(observe(Instant::now(), lease.as_ref(), self.seen.as_ref(), self.config.duration));
        self.lease = lease;
    }

    /// The lease with this process as its holder, over what was read.
    fn wanted(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = self.lease.clone().unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                namespace: Some(self.config.namespace.clone()),
                name: Some(self.config.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.identity.clone());
        // proven: `check` admits only durations that fit.
        spec.lease_duration_seconds = Some(i32::try_from(self.config.duration.as_secs()).unwrap_or(i32::MAX));
        spec.renew_time = Some(now);
        lease
    }

    /// Ends the claim, then writes the lease without a holder. Best effort: else it runs out.
    async fn release(&mut self) {
        self.publish.send_replace(None);
        self.holding = None;
        let api = Arc::clone(&self.api);
        let name = self.config.name.clone();
        let Ok(Some(mut lease)) = self.bounded(api.get(&name)).await else { return };
        match &mut lease.spec {
            Some(spec) if spec.holder_identity.as_deref() == Some(self.identity.as_str()) => {
                spec.holder_identity = None;
            }
            _ => return,
        }
        match self.bounded(api.replace(&name, &lease)).await {
            Ok(_) => tracing::info!(lease = %name, "the lease is given up"),
            Err(error) => tracing::warn!(lease = %name, %error, "the lease was not given up; it runs out by itself"),
        }
    }

    /// A call, cut off when it takes too long or when the claim ends.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, LeaseCallError>>) -> Result<T, LeaseCallError> {
        timeout_at(self.unless_over(Instant::now() + self.config.call_timeout()), call)
            .await
            .unwrap_or_else(|_| Err(LeaseCallError::Failed("the API server did not answer in time".into())))
    }

    /// Pauses after a call that began then and failed; not at all when it took long enough to fail.
    async fn pause(&self, started: Instant) {
        sleep_until(self.unless_over(started + self.config.retry())).await;
    }

    /// This moment, or the end of the claim if that comes first.
    fn unless_over(&self, limit: Instant) -> Instant {
        self.holding.map_or(limit, |holding| limit.min(holding.until))
    }
}
