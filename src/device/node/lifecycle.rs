//! The life of deployments: taken, provisioned, running, stopped; and taken up again when the node starts.
//!
//! ```text
//! Preparing ─► Provisioning ─► Running ─► ShuttingDown ─► Completed
//!     └─────────────┴──► Failed (deadline passed)
//! ```
//! Generating and Committing last no time on a node that is its own only bidder, so they are not shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{task::JoinHandle, time};
use tokio_util::sync::CancellationToken;

use super::{
    Clock, Entry,
    child::{self, Journal, Program},
    course::Course,
    durable::StateError,
    ensemble::{self, Ensemble, Runnable},
    figures::{Figures, Phase},
    onboarding::{Amounts, NotOnboarded, Onboarding},
    output::{self, Log},
    state::{Given, Record, Store},
};
use crate::{
    capability::Nanos,
    device::dms::{AllocationInfo, DeploymentState, ResourceUsage},
};

/// Between two tries to find a place for a deployment, and the longest a deadline is slept towards at once: the wall clock
/// may be set meanwhile.
const TICK: Duration = Duration::from_secs(1);
/// Public ports are chosen from here: what DMS has by default, below the ports that Linux gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 16384..32768;

/// What running a deployment needs to know of the node.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Peer ID of the node.
    pub peer: String,
    /// Digest of the one image that runs here, `sha256:…`.
    pub image_digest: String,
    /// The executable that stands for this image.
    pub program: PathBuf,
    /// What runs of it.
    pub entry: Entry,
    /// Where children listen.
    pub bind: IpAddr,
    /// The node's directory.
    pub directory: PathBuf,
}

pub(super) struct Lifecycle {
    pub site: Site,
    pub store: Store,
    pub onboarding: Onboarding,
    clock: Clock,
    course: Arc<Course>,
    works: Mutex<Works>,
    /// Held while ports and resources are chosen and written down, so that no two deployments choose the same.
    choosing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Works {
    closed: bool,
    by_id: BTreeMap<String, Work>,
}

type FiguresByKey = Arc<OnceLock<BTreeMap<String, Arc<Figures>>>>;

struct Work {
    stop: CancellationToken,
    /// Cancelled when the work has ended, for whatever reason.
    ended: CancellationToken,
    task: JoinHandle<()>,
    figures: FiguresByKey,
}

/// Why a deployment was not shut down; the text is what DMS answers.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotStopped {
    #[error("failed to get orchestrator")]
    Unknown,
    #[error("deployment is not running")]
    NotRunning,
    #[error(transparent)]
    State(#[from] StateError),
}

impl Lifecycle {
    pub(super) fn new(site: Site, store: Store, onboarding: Onboarding, clock: Clock, course: Arc<Course>) -> Self {
        let (works, choosing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { site, store, onboarding, clock, course, works, choosing }
    }

    pub(super) fn now(&self) -> Nanos {
        (self.clock)()
    }

    /// Directory of one deployment.
    pub(super) fn directory_of(&self, id: &str) -> PathBuf {
        self.site.directory.join("deployments").join(id)
    }

    /// Takes up all that was going on when the node was stopped.
    pub(super) async fn resume(self: &Arc<Self>) {
        for record in self.store.all().await {
            if !record.state.is_over() {
                self.begin(&record.id);
            }
        }
    }

    /// Begins to work on a deployment that stands in the store.
    pub(super) fn begin(self: &Arc<Self>, id: &str) {
        let mut works = self.works();
        if works.closed || works.by_id.contains_key(id) {
            return;
        }
        let (stop, ended, figures) = (CancellationToken::new(), CancellationToken::new(), FiguresByKey::default());
        let over = ended.clone();
        let (this, of) = (Arc::clone(self), id.to_owned());
        let deployed = Arc::clone(self).deploy(of.clone(), stop.clone(), Arc::clone(&figures));
        let task = tokio::spawn(async move {
            deployed.await;
            // Who stops it has taken it out already; it may have ended by itself.
            this.works().by_id.remove(&of);
            over.cancel();
        });
        works.by_id.insert(id.to_owned(), Work { stop, ended, task, figures });
    }

    /// What is cancelled when the work on a deployment has ended; `None`, when it is not worked on.
    pub(super) fn end_of(&self, id: &str) -> Option<CancellationToken> {
        self.works().by_id.get(id).map(|work| work.ended.clone())
    }

    /// What allocation `key` of a deployment prints.
    pub(super) fn log_of(&self, id: &str, key: &str) -> Log {
        Log::new(output::directory(&self.directory_of(id), key))
    }

    /// What is given to deployments, `except` for one.
    pub(super) async fn used(&self, except: Option<&str>) -> Amounts {
        let records = self.store.all().await;
        let placed = records.iter().filter(|record| is_placed(record) && Some(record.id.as_str()) != except);
        placed
            .filter_map(|record| ensemble::read(&record.ensemble).ok())
            .fold(Amounts::default(), |sum, ensemble| sum.plus(Amounts::of_ensemble(&ensemble)))
    }

    /// Percent of a core, and bytes of memory, that all children use.
    pub(super) fn usage(&self) -> (f64, u64) {
        let figures: Vec<FiguresByKey> = self.works().by_id.values().map(|work| Arc::clone(&work.figures)).collect();
        let all = figures.iter().filter_map(|figures| figures.get()).flat_map(BTreeMap::values);
        all.map(|figures| figures.usage()).fold((0.0, 0), |(percent, memory), usage| {
            (percent + usage.cpu_usage_percent, memory + usage.memory_used_bytes)
        })
    }

    /// Begins to offer `wanted`, which must hold what runs already.
    pub(super) async fn onboard(&self, wanted: Amounts) -> Result<(), NotOnboarded> {
        let _choosing = self.choosing.lock().await;
        self.onboarding.onboard(wanted, self.used(None).await).await
    }

    /// Offers nothing any more, unless something runs.
    pub(super) async fn offboard(&self) -> Result<(), NotOnboarded> {
        let _choosing = self.choosing.lock().await;
        if self.store.all().await.iter().any(is_placed) {
            return Err(NotOnboarded::Running);
        }
        self.onboarding.offboard().await
    }

    /// Stops a running deployment.
    pub(super) async fn shutdown(self: &Arc<Self>, id: &str) -> Result<(), NotStopped> {
        let stopping = self
            .store
            .change(id, self.now(), |record| {
                let running = record.state == DeploymentState::Running;
                if running {
                    record.state = DeploymentState::ShuttingDown;
                }
                running
            })
            .await?;
        if stopping.is_none() {
            let known = self.store.get(id).await.is_some();
            return Err(if known { NotStopped::NotRunning } else { NotStopped::Unknown });
        }
        let work = self.works().by_id.remove(id);
        if let Some(work) = work {
            work.end().await;
        }
        if let Err(error) = self.set_state(id, DeploymentState::Completed).await {
            // It does not run any more, so nobody can ask again.
            self.begin(id);
            return Err(error.into());
        }
        Ok(())
    }

    /// Ends all work; deployments stay as they are, to be taken up again.
    pub(super) async fn close(&self) {
        let works: Vec<Work> = {
            let mut works = self.works();
            works.closed = true;
            std::mem::take(&mut works.by_id).into_values().collect()
        };
        futures::future::join_all(works.into_iter().map(Work::end)).await;
    }

    /// What the allocations of a deployment do, by full allocation id.
    pub(super) fn allocations_of(&self, record: &Record, with_usage: bool) -> BTreeMap<String, AllocationInfo> {
        let figures = self.works().by_id.get(&record.id).map(|work| Arc::clone(&work.figures));
        let figures = figures.as_deref().and_then(OnceLock::get);
        let info = |(key, given): (&String, &Given)| {
            let id = allocation_id(&record.id, key);
            let figures = figures.and_then(|figures| figures.get(key));
            let kept = ResourceUsage {
                network_rx_bytes: given.received,
                network_tx_bytes: given.sent,
                ..ResourceUsage::default()
            };
            let resource_usage = match (with_usage, figures) {
                (false, _) => ResourceUsage::default(),
                (true, Some(figures)) => figures.usage(),
                (true, None) => kept,
            };
            let idle = if record.state.is_over() { Phase::Stopped } else { Phase::Pending };
            let status = figures.map_or(idle, |figures| figures.phase()).name().to_owned();
            let dns_name = key.split_once('.').map_or(key.as_str(), |(_, name)| name).to_owned();
            (id.clone(), AllocationInfo { allocation_id: id, status, resource_usage, dns_name })
        };
        record.allocations.iter().map(info).collect()
    }

    async fn deploy(self: Arc<Self>, id: String, stop: CancellationToken, figures: FiguresByKey) {
        let Some((record, runnables)) = self.find_place(&id, &stop).await else { return };
        let children = stop.child_token();
        let mut tasks = Vec::new();
        let mut by_key = BTreeMap::new();
        for runnable in runnables {
            let given = record.allocations.get(&runnable.key).cloned().unwrap_or_default();
            let own = Arc::new(Figures::new(given.received, given.sent));
            by_key.insert(runnable.key.clone(), Arc::clone(&own));
            let journal = Kept { lifecycle: Arc::clone(&self), id: id.clone(), key: runnable.key.clone() };
            let log = Arc::new(self.log_of(&id, &runnable.key));
            let program = self.program(&id, runnable, &given);
            let supervised = child::supervise(program, own, log, Arc::new(journal), children.clone());
            tasks.push(tokio::spawn(supervised));
        }
        let by_key = figures.get_or_init(|| by_key);
        if record.state != DeploymentState::Running {
            let all_run = futures::future::join_all(by_key.values().map(|figures| figures.running()));
            tokio::select! {
                _ = all_run => self.settle(&id, DeploymentState::Running, &stop).await,
                () = self.sleep_until(record.deadline) => {
                    tracing::warn!(deployment = id, "its allocations did not start before the deadline");
                    children.cancel();
                    self.settle(&id, DeploymentState::Failed, &stop).await;
                }
                () = stop.cancelled() => {}
            }
        }
        children.cancelled().await;
        futures::future::join_all(tasks).await;
    }

    /// Tries until the deployment has a place, or its deadline passes: `None` then, and when it or the node is stopped.
    async fn find_place(&self, id: &str, stop: &CancellationToken) -> Option<(Record, Vec<Runnable>)> {
        let mut told = false;
        loop {
            let record = self.store.get(id).await?;
            // What ran has ended; only to keep that is left.
            if record.state == DeploymentState::ShuttingDown {
                self.settle(id, DeploymentState::Completed, stop).await;
                return None;
            }
            let late = record.state != DeploymentState::Running && self.now() >= record.deadline;
            let placed = if late { Err("its deadline has passed".to_owned()) } else { self.place(&record).await };
            let cause = match placed {
                Ok(placed) => return Some(placed),
                Err(cause) => cause,
            };
            // What ran before and cannot run any more, after a change of the image say, has nothing to wait for.
            if late || record.state == DeploymentState::Running {
                tracing::warn!(deployment = id, cause, "a deployment failed");
                self.settle(id, DeploymentState::Failed, stop).await;
                return None;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(
                    deployment = id,
                    cause,
                    "a deployment has no place here; it is tried until its deadline"
                );
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = time::sleep(record.deadline.since(self.now()).min(TICK)) => {}
            }
        }
    }

    async fn place(&self, record: &Record) -> Result<(Record, Vec<Runnable>), String> {
        let ensemble = ensemble::read(&record.ensemble)?;
        let runnables = ensemble::runnable(&ensemble, &self.site).map_err(|unrunnable| unrunnable.to_string())?;
        if record.state == DeploymentState::Running {
            return Ok((record.clone(), runnables));
        }
        let _choosing = self.choosing.lock().await;
        self.check_room(record, &ensemble).await?;
        let given = self.give(record, &runnables).await?;
        let provisioning = |record: &mut Record| {
            record.state = DeploymentState::Provisioning;
            record.allocations = given;
            true
        };
        match self.store.change(&record.id, self.now(), provisioning).await {
            Ok(Some(record)) => Ok((record, runnables)),
            Ok(None) => Err("its record is gone".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether what is offered holds this deployment beside those that have a place.
    async fn check_room(&self, record: &Record, ensemble: &Ensemble) -> Result<(), String> {
        let offered = self.onboarding.offered().ok_or("the node is not onboarded")?;
        let wanted = self.used(Some(&record.id)).await.plus(Amounts::of_ensemble(ensemble));
        wanted.excess(&offered).map_or(Ok(()), |what| Err(format!("not enough {what} is left")))
    }

    /// Gives each allocation its public port, the same as before if it had one.
    async fn give(&self, record: &Record, runnables: &[Runnable]) -> Result<BTreeMap<String, Given>, String> {
        let others = self.store.all().await.into_iter().filter(|other| other.id != record.id && !other.state.is_over());
        let mut taken: BTreeSet<u16> = others.flat_map(|other| ports_of(&other)).collect();
        let mut given = BTreeMap::new();
        for Runnable { key, port, .. } in runnables {
            let mut own = record.allocations.get(key).cloned().unwrap_or_default();
            if let Some((wanted, private)) = port
                && own.ports.is_empty()
            {
                let public = self.choose(*wanted, &taken)?;
                own.ports = BTreeMap::from([(public, *private)]);
            }
            taken.extend(own.ports.keys());
            given.insert(key.clone(), own);
        }
        Ok(given)
    }

    fn choose(&self, wanted: u16, taken: &BTreeSet<u16>) -> Result<u16, String> {
        let free = |port: &u16| !taken.contains(port) && TcpListener::bind((self.site.bind, *port)).is_ok();
        if wanted != 0 {
            return Some(wanted).filter(free).ok_or_else(|| format!("port {wanted} is in use"));
        }
        // From anywhere in the range, so that several nodes on one machine do not meet.
        let first = PORTS.start + rand::random::<u16>() % (PORTS.end - PORTS.start);
        (first..PORTS.end).chain(PORTS.start..first).find(free).ok_or_else(|| "all ports are in use".to_owned())
    }

    fn program(&self, id: &str, runnable: Runnable, given: &Given) -> Program {
        let Runnable { key, args, env, port: _, restart } = runnable;
        let port = given.ports.keys().next().copied().unwrap_or(0);
        Program {
            path: self.site.program.clone(),
            args,
            env,
            listen: SocketAddr::new(self.site.bind, port),
            directory: self.directory_of(id).join(key),
            restart,
            course: Arc::clone(&self.course),
        }
    }

    async fn sleep_until(&self, deadline: Nanos) {
        loop {
            let left = deadline.since(self.now());
            if left.is_zero() {
                return;
            }
            time::sleep(left.min(TICK)).await;
        }
    }

    async fn set_state(&self, id: &str, state: DeploymentState) -> Result<bool, StateError> {
        let changed = self
            .store
            .change(id, self.now(), |record| {
                let differs = record.state != state;
                record.state = state;
                differs
            })
            .await?;
        if changed.is_some() {
            tracing::info!(deployment = id, %state, "a deployment changed its state");
        }
        Ok(changed.is_some())
    }

    /// Sets the state, and tries until it stands on disk: a deployment must not hang in between for a disk that was full
    /// for a moment.
    async fn settle(&self, id: &str, state: DeploymentState, stop: &CancellationToken) {
        let mut told = false;
        while let Err(error) = self.set_state(id, state).await {
            if !std::mem::replace(&mut told, true) {
                tracing::error!(deployment = id, %state, %error, "a state could not be kept; it is tried until it is");
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(TICK) => {}
            }
        }
    }

    /// While this is held, no deployment gets a place and nothing is on- or offboarded.
    #[cfg(test)]
    pub(super) async fn hold_places(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.choosing.lock().await
    }

    /// The deployments that are worked on.
    #[cfg(test)]
    pub(super) fn at_work(&self) -> Vec<String> {
        self.works().by_id.keys().cloned().collect()
    }

    fn works(&self) -> MutexGuard<'_, Works> {
        // Every change of the map is one call, so it is whole even if a thread panicked.
        self.works.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the work on a deployment broke");
        }
    }
}

/// Full allocation id of a manifest key.
pub(super) fn allocation_id(deployment: &str, key: &str) -> String {
    format!("{deployment}_{key}")
}

/// Whether something was given to it and not given back.
fn is_placed(record: &Record) -> bool {
    !record.state.is_over() && !record.allocations.is_empty()
}

fn ports_of(record: &Record) -> Vec<u16> {
    record.allocations.values().flat_map(|given| given.ports.keys().copied()).collect()
}

/// Keeps what happens to one allocation.
struct Kept {
    lifecycle: Arc<Lifecycle>,
    id: String,
    key: String,
}

impl Kept {
    async fn keep(&self, change: impl FnOnce(&mut Given) + Send) {
        let change = |record: &mut Record| record.allocations.get_mut(&self.key).map(change).is_some();
        if let Err(error) = self.lifecycle.store.change(&self.id, self.lifecycle.now(), change).await {
            tracing::error!(deployment = self.id, %error, "what an allocation has used could not be kept");
        }
    }
}

#[async_trait]
impl Journal for Kept {
    async fn started(&self) {
        self.keep(|given| given.incarnation += 1).await;
    }

    async fn ended(&self, received: u64, sent: u64) {
        self.keep(|given| (given.received, given.sent) = (received, sent)).await;
    }
}
