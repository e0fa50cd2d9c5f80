//! The embedded device: a DMS-compatible node (`dms-operator device`).
//!
//! It answers the behaviours of a DMS node's root actor, judges tokens as DMS does (silence included), keeps its state on
//! disk and takes its deployments up again after a restart. It has no container engine: it runs exactly the project's own
//! image, as a child process, and nothing else. A child process has no walls around it, and the image holds every command
//! of the program; so of the image it runs one command, the site server, told nothing but what a site server is told
//! ([`Entry`]): whoever may deploy here gets a site, and not the machine. What it takes and cannot run fails at its
//! deadline, as a deployment does for which nobody bids.
//!
//! Where it differs from DMS, it is stricter: a `deployment/new` whose (sender, nonce) was taken before is dropped until
//! the message has expired, since DMS itself has no replay protection; one with the marks of a deployment of the same owner
//! that is not over is answered with that one; and a deployment that is not over cannot be deleted. What it does not serve
//! stands with what it does, in `serving`.
//!
//! [`Node`] has no network: frames in, frames out. [`RunningNode`] is one that listens.

mod child;
mod copies;
mod course;
mod durable;
mod ensemble;
mod faults;
mod figures;
mod lies;
mod lifecycle;
mod network;
mod offer;
mod onboarding;
mod output;
mod reach;
mod sending;
mod serving;
mod state;
mod trust;
mod wire;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt, io,
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock, atomic::AtomicU64},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    child::{LISTEN, PARENT_PIPE, PORT},
    durable::StateError,
    faults::{Faults, Kind, UnknownFault},
    network::RunningNode,
    offer::Offer,
    state::{Given, Record, Store, Taken},
    wire::{WIRE_LOG, WireLine},
};
use self::{
    copies::Copies,
    course::Course,
    faults::Fate,
    lifecycle::{Lifecycle, Site},
    onboarding::Onboarding,
    reach::Reach,
    serving::{Answer, Behaviour},
    trust::Trust,
    wire::Wire,
};
use crate::{
    capability::{Context, Did, Key, Nanos},
    device::{
        actor::{
            OutboundFrame,
            admission::{Counted, Limits, Slot},
            judge::{self, Dropped, Right},
        },
        libp2p::{InboundFrame, Link, LinkError},
    },
    plan::build::{SITE_COMMAND, SITE_ENVIRONMENT},
};

/// Name of the file in the node's directory that, while it is there, says which faults hold.
pub const FAULTS_FILE: &str = "faults";

/// Tells the time; the product's is [`wall_clock`].
pub type Clock = Arc<dyn Fn() -> Nanos + Send + Sync>;

/// The wall clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Nanos(0).plus(since)
    })
}

/// How a node is set up.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's key: its DID and its peer ID.
    pub key: Key,
    /// Whom it trusts; its DID must be the key's.
    pub context: Context,
    /// Where it keeps its state.
    pub directory: PathBuf,
    /// The one image that it runs, `name@sha256:…`.
    pub own_image: String,
    /// The executable that stands for this image.
    pub program: PathBuf,
    /// What it runs of it.
    pub entry: Entry,
    /// Where children listen.
    pub bind: IpAddr,
    /// Under which name or address public ports are reached.
    pub public_host: String,
    /// What the machine has to offer.
    pub offer: Offer,
    /// Whether all of it is offered from the first start on. Later starts go on with what was set meanwhile.
    pub onboarded: bool,
    /// What goes wrong on purpose, unless the file [`FAULTS_FILE`] says otherwise.
    pub faults: Faults,
    /// Whether to write [`WIRE_LOG`].
    pub wire_log: bool,
    /// Tells the time.
    pub clock: Clock,
}

/// What a node runs of its image. Its children are processes of its own user, so anything else would hand out the machine.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The first argument.
    pub command: &'static str,
    /// The variables that it may be given.
    pub environment: &'static [&'static str],
}

impl Entry {
    /// The site server.
    pub const SITE: Self = Self { command: SITE_COMMAND, environment: &SITE_ENVIRONMENT };
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeConfig({} in {})", self.key.did(), self.directory.display())
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The context is somebody else's.
    #[error("the capability context is that of {context}, and the key that of {key}: give the node its own context")]
    ForeignContext {
        /// The context's.
        context: Did,
        /// The key's.
        key: Did,
    },
    /// No digest.
    #[error("{0:?} names no image by digest: give it as name@sha256:<64 hex digits>")]
    Image(String),
    /// The state.
    #[error(transparent)]
    State(#[from] StateError),
    /// The wire log.
    #[error("the node could not open {WIRE_LOG} in its directory")]
    WireLog(#[source] io::Error),
    /// The network.
    #[error("the node cannot be reached")]
    Link(#[from] LinkError),
}

/// A node without a network. Clones are the same node.
#[derive(Clone)]
pub struct Node(Arc<Served>);

struct Served {
    key: Key,
    trust: Trust,
    copies: Copies,
    limits: Limits,
    addresses: Vec<String>,
    public_host: String,
    course: Arc<Course>,
    reach: OnceLock<Reach>,
    held: Mutex<Vec<OutboundFrame>>,
    wire: Wire,
    nonce: AtomicU64,
    lifecycle: Arc<Lifecycle>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.0.key.did())
    }
}

/// KiB of messages held at a time; more wait their turn.
const HELD: usize = 64 * 1024;
/// KiB that each message counts at least, so that small ones are bounded in number.
const LEAST_HELD: u32 = 4;
/// How long messages being worked on are waited for when the node is stopped.
const PATIENCE: Duration = Duration::from_secs(10);

impl Node {
    /// Opens the node's state and takes its deployments up again. `addresses` is what it tells of itself.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn open(config: NodeConfig, addresses: Vec<String>) -> Result<Self, NodeError> {
        let NodeConfig {
            key,
            context,
            directory,
            own_image,
            program,
            entry,
            bind,
            public_host,
            offer,
            onboarded,
            faults,
            wire_log,
            clock,
        } = config;
        if context.did != *key.did() {
            return Err(NodeError::ForeignContext { context: context.did, key: key.did().clone() });
        }
        let image_digest = digest_of(&own_image).ok_or_else(|| NodeError::Image(own_image.clone()))?.to_owned();
        let course = Arc::new(Course::new(faults, &directory));
        let clock = course.clock(clock);
        let store = Store::open_on(&directory, disk(&course))?;
        let trust = Trust::open(&directory, context, clock())?;
        let onboarding = Onboarding::open(&directory, &offer, onboarded)?;
        let wire = Wire::open(&directory, wire_log).map_err(NodeError::WireLog)?;
        // The counter begins with the time, as in DMS, so that it does not fall over restarts.
        let nonce = AtomicU64::new(clock().0);
        let site = Site { peer: key.did().peer_id(), image_digest, program, entry, bind, directory };
        let lifecycle = Arc::new(Lifecycle::new(site, store, onboarding, clock, Arc::clone(&course)));
        lifecycle.resume().await;
        let (copies, limits) = (Copies::default(), Limits::default());
        let (reach, held) = (OnceLock::new(), Mutex::default());
        let served =
            Served { key, trust, copies, limits, addresses, public_host, course, reach, held, wire, nonce, lifecycle };
        Ok(Self(Arc::new(served)))
    }

    /// Gives the node the link by which it is reached: what it tells of its peers, has them told, and lets go wrong.
    fn attach(&self, link: &Link) {
        self.0.reach.get_or_init(|| Reach::new(link, self.0.key.clone(), self.0.lifecycle.now()));
    }

    /// Serves frames until there are no more or `stop`; then stops what runs. Deployments stay as they are on disk, to be
    /// taken up again.
    pub async fn serve(
        &self,
        mut inbound: mpsc::Receiver<InboundFrame>,
        outbound: mpsc::Sender<OutboundFrame>,
        stop: CancellationToken,
    ) {
        let mut working = JoinSet::new();
        let held = Arc::new(Semaphore::new(HELD));
        while let Some(frame) = next(&mut inbound, &stop).await {
            while working.try_join_next().is_some() {}
            let slot = match self.0.limits.enter(vec![Counted::Sender(frame.peer.clone())]) {
                Ok(slot) => slot,
                Err(reason) => {
                    self.0.wire.dropped("", &frame.peer, reason);
                    continue;
                }
            };
            let weight = u32::try_from(frame.body.len() / 1024).unwrap_or(u32::MAX).max(LEAST_HELD);
            let room = tokio::select! {
                () = stop.cancelled() => break,
                room = Arc::clone(&held).acquire_many_owned(weight) => room,
            };
            // Drawn in the order in which messages come, so that a seed fixes the course.
            let fate = self.0.course.message();
            let receiving = Arc::clone(&self.0).receive(frame, slot, fate, outbound.clone(), stop.clone());
            working.spawn(async move {
                receiving.await;
                drop(room);
            });
        }
        // What was begun is ended: a shutdown half done would leave a deployment in between.
        let ended = async { while working.join_next().await.is_some() {} };
        if time::timeout(PATIENCE, ended).await.is_err() {
            working.shutdown().await;
        }
        self.0.lifecycle.close().await;
    }

    /// How many messages were dropped, by reason.
    #[must_use]
    pub fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.0.wire.counts()
    }

    /// The node's DID.
    #[must_use]
    pub fn did(&self) -> &Did {
        self.0.key.did()
    }
}

impl Served {
    async fn receive(
        self: Arc<Self>,
        frame: InboundFrame,
        slot: Slot,
        fate: Fate,
        outbound: mpsc::Sender<OutboundFrame>,
        stop: CancellationToken,
    ) {
        self.spoil(&fate);
        if fate.is(Kind::DropRequests) {
            self.wire.dropped("", &frame.peer, "Fault");
            return;
        }
        let find = |via: &_, name: &str| Some((Behaviour::of(via, name)?, Right::Capability));
        let judged = match judge::judge(&frame, &self.trust.current(), &self.limits, find, self.lifecycle.now()) {
            Ok(judged) => judged,
            Err(Dropped { behaviour, reason, message, is_fault: _ }) => {
                tracing::debug!(peer = frame.peer, behaviour, reason, message, "a message was dropped");
                self.wire.dropped(&behaviour, &frame.peer, reason);
                return;
            }
        };
        let (mut payload, begins) = match self.answer(&judged, &fate).await {
            Answer::Reply(payload) => (payload, None),
            Answer::Took(payload, id) => (payload, Some(id)),
            Answer::Dropped(reason) => {
                self.wire.dropped(&judged.envelope.behaviour, &frame.peer, reason);
                return;
            }
        };
        self.wire.accepted(&judged.envelope.behaviour, &frame.peer);
        lies::tell(judged.behaviour, &fate, &mut payload);
        let reply = self.reply(&judged, &fate, &payload);
        // Who has its reply may ask for the next thing, so it must not count any more then.
        drop((slot, judged.slot));
        // Without a delay the reply goes first, as in DMS; a delay delays the reply and not the work.
        if fate.delay > Duration::ZERO {
            self.begin(begins);
            tokio::select! {
                () = stop.cancelled() => {}
                () = time::sleep(fate.delay) => self.send(&outbound, reply, &fate).await,
            }
        } else {
            self.send(&outbound, reply, &fate).await;
            self.begin(begins);
        }
    }

    fn begin(&self, id: Option<String>) {
        if let Some(id) = id {
            self.lifecycle.begin(&id);
        }
    }
}

/// The disk, as full as the faults want it.
fn disk(course: &Arc<Course>) -> state::Disk {
    let course = Arc::clone(course);
    Arc::new(move || course.write())
}

/// The next frame; `None`: there are no more, or the node is being stopped.
async fn next(inbound: &mut mpsc::Receiver<InboundFrame>, stop: &CancellationToken) -> Option<InboundFrame> {
    tokio::select! {
        () = stop.cancelled() => None,
        frame = inbound.recv() => frame,
    }
}

/// The digest in `name@sha256:<64 hex digits>`.
fn digest_of(image: &str) -> Option<&str> {
    let (name, digest) = image.rsplit_once('@')?;
    let hex = digest.strip_prefix("sha256:")?;
    let is_hex = |digit: char| digit.is_ascii_digit() || ('a'..='f').contains(&digit);
    (!name.is_empty() && hex.len() == 64 && hex.chars().all(is_hex)).then_some(digest)
}
