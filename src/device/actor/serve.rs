//! [`Actor`]: serves behaviours to whoever may ask for them.

use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    admission::{Counted, HELD, Limits, Slot},
    judge::{Arrived, Dropped as NotServed, Judged, Right, judge},
    reply::{self, OutboundFrame},
};
use crate::{
    capability::{Context, Did, Envelope, Key, Nanos},
    device::{
        dms::path::ROOT_INBOX,
        libp2p::{Dropped, InboundFrame, Link, Via, WeakLink},
    },
};

/// How long a reply may take to be written.
const SEND_WINDOW: Duration = Duration::from_secs(10);
/// KiB that each message counts at least, so that small ones are bounded in number.
const LEAST_HELD: usize = 4;

/// From where a message came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A libp2p peer, by its peer ID.
    Peer(String),
    /// An address, over HTTP.
    Address(IpAddr),
}

impl Origin {
    /// By what its requests are counted: whoever has one IPv6 address has all that begin with the same 64 bits.
    #[must_use]
    pub fn counted_as(&self) -> String {
        match self {
            Self::Address(IpAddr::V6(address)) if address.to_ipv4_mapped().is_none() => {
                let [a, b, c, d, ..] = address.segments();
                format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
            }
            Self::Peer(_) | Self::Address(_) => self.to_string(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => f.write_str(peer),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}

/// Why a message that waits for its answer gets none that is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// In one word that never changes.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The same may be answered later.
    pub later: bool,
}

/// What was asked, by whom: judged already.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message.
    pub envelope: Envelope,
    /// Who signed it.
    pub sender: Did,
    /// How it came.
    pub via: Via,
    /// From where.
    pub origin: Origin,
    /// When it was judged.
    pub at: Nanos,
}

/// Behaviours.
#[async_trait]
pub trait Serves: Send + Sync + 'static {
    /// Who may ask for this behaviour when it comes this way; `None` when there is no such behaviour.
    fn right(&self, via: &Via, behaviour: &str) -> Option<Right>;

    /// Whether a message from there is looked at at all, before anything is read or verified.
    fn admits(&self, _origin: &Origin, _at: Nanos) -> bool {
        true
    }

    /// Acts, and says what to answer; `None` for nothing at all.
    async fn answer(&self, asked: &Asked) -> Option<Value>;
}

/// How an actor is set up.
pub struct ActorConfig {
    /// Its key.
    pub key: Key,
    /// Whom it trusts; its DID must be the key's.
    pub context: Context,
    /// What it serves.
    pub serves: Arc<dyn Serves>,
    /// Tells the time.
    pub clock: fn() -> Nanos,
}

/// Serves behaviours. Clones are the same actor.
#[derive(Clone)]
pub struct Actor(Arc<Inner>);

struct Inner {
    config: ActorConfig,
    limits: Limits,
    held: Arc<Semaphore>,
    nonce: AtomicU64,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// An actor keeps no link running.
    link: WeakLink,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({})", self.0.config.key.did())
    }
}

impl Actor {
    /// An actor that answers over `link`.
    #[must_use]
    pub fn new(config: ActorConfig, link: &Link) -> Self {
        let nonce = AtomicU64::new((config.clock)().0);
        Self(Arc::new(Inner {
            config,
            limits: Limits::default(),
            held: Arc::new(Semaphore::new(HELD)),
            nonce,
            counts: Mutex::default(),
            link: link.downgrade(),
        }))
    }

    /// How many messages ended how: `Answered`, `Unanswered` (nothing was to be said), or why one was dropped.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many messages of a peer are worked on.
    #[cfg(test)]
    pub(super) fn working(&self, peer: &str) -> usize {
        self.0.limits.count(&Counted::Sender(peer.to_owned()))
    }

    /// Takes a message in. It never waits: what there is no room for is dropped.
    pub(in crate::device) fn receive(&self, frame: InboundFrame) {
        let (sender, room) = match self.0.admit(&frame.peer, frame.body.len()) {
            Ok(admitted) => admitted,
            Err(reason) => return self.0.count(reason),
        };
        let actor = Arc::clone(&self.0);
        tokio::spawn(async move {
            actor.serve(frame, room).await;
            drop(sender);
        });
    }

    /// Answers a message where it came: the signed envelope, or nothing where nothing is to be said. Which host the sender
    /// names counts for nothing, since no connection proves it.
    ///
    /// # Errors
    /// [`Denied`], when it is not looked at or not served.
    pub async fn exchange(&self, body: &[u8], from: IpAddr) -> Result<Option<Vec<u8>>, Denied> {
        let inner = &self.0;
        let origin = Origin::Address(from);
        let busy = |reason: &'static str| {
            inner.count(reason);
            let message = format!("too much is asked from {from} or of this provider. Ask again in a while");
            Denied { reason, message, later: true }
        };
        if !inner.config.serves.admits(&origin, (inner.config.clock)()) {
            return Err(busy("TooManyRequests"));
        }
        let (sender, room) = inner.admit(&origin.counted_as(), body.len()).map_err(busy)?;
        let via = Via::Inbox(ROOT_INBOX.to_owned());
        let taken = inner.take(Arrived { body, via: &via, peer: None }, origin).await;
        drop((sender, room));
        match taken {
            Ok(Some(Taken { request, sender, payload })) => {
                inner.count("Answered");
                Ok(reply::reply_body(&inner.config.key, &request, &sender, inner.nonce(), &payload))
            }
            Ok(None) => Ok(None),
            Err(NotServed { behaviour, reason, message, is_fault: _ }) => {
                tracing::debug!(%from, behaviour, reason, message, "a message was dropped");
                inner.count(reason);
                Err(Denied { reason, message, later: reason.ends_with("Limit") })
            }
        }
    }
}

/// The room that the bytes of a message take, its sender's and everybody's.
type Room = (Slot, OwnedSemaphorePermit);

/// A message that was acted on, and what to answer.
struct Taken {
    request: Envelope,
    sender: Did,
    payload: Value,
}

impl Inner {
    /// Makes room for a message, or says why there is none.
    fn admit(&self, sender: &str, bytes: usize) -> Result<(Slot, Room), &'static str> {
        let slot = self.limits.enter(vec![Counted::Sender(sender.to_owned())])?;
        let weight = bytes.div_ceil(1024).max(LEAST_HELD);
        let share = self.limits.enter_weighed(vec![(Counted::Held(sender.to_owned()), weight)])?;
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let held = Arc::clone(&self.held).try_acquire_many_owned(weight).map_err(|_| "Crowded")?;
        Ok((slot, (share, held)))
    }

    /// Judges a message and acts on it.
    async fn take(&self, arrived: Arrived<'_>, origin: Origin) -> Result<Option<Taken>, NotServed> {
        let ActorConfig { key: _, context, serves, clock } = &self.config;
        let at = clock();
        let find = |via: &Via, name: &str| Some(((), serves.right(via, name)?));
        let Judged { envelope, behaviour: (), sender, slot } = judge(arrived, context, &self.limits, find, at)?;
        let asked = Asked { envelope, sender, via: arrived.via.clone(), origin, at };
        let answer = serves.answer(&asked).await;
        // Who has its reply may ask for the next thing, so it must not count any more then.
        drop(slot);
        let Some(payload) = answer else {
            self.count("Unanswered");
            return Ok(None);
        };
        let Asked { envelope: request, sender, via: _, origin: _, at: _ } = asked;
        Ok(Some(Taken { request, sender, payload }))
    }

    async fn serve(&self, frame: InboundFrame, room: Room) {
        let Taken { request, sender, payload } =
            match self.take(Arrived::from(&frame), Origin::Peer(frame.peer.clone())).await {
                Ok(Some(taken)) => taken,
                Ok(None) => return,
                Err(NotServed { behaviour, reason, message, is_fault }) => {
                    tracing::debug!(peer = frame.peer, behaviour, reason, message, "a message was dropped");
                    self.count(reason);
                    if let (true, Some(link)) = (is_fault, self.link.upgrade()) {
                        link.complain(&frame.peer, Dropped::Unverified).await;
                    }
                    return;
                }
            };
        let reply = reply::reply(&self.config.key, &request, &sender, self.nonce(), &payload);
        self.count("Answered");
        // A peer that is slow to take its reply holds no room for the next message of others.
        drop((frame, request, payload, room));
        let (Some(OutboundFrame { peer, inbox, body, spoil: _ }), Some(link)) = (reply, self.link.upgrade()) else {
            return;
        };
        // The peer is connected, or was a moment ago; nobody is dialled to be answered.
        if let Err(error) = link.send(&peer, &[], &inbox, body, SEND_WINDOW).await {
            tracing::debug!(peer, inbox, %error, "a reply was lost");
        }
    }

    fn nonce(&self) -> u64 {
        self.nonce.fetch_add(1, Ordering::Relaxed)
    }

    fn count(&self, ended: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(ended).or_default() += 1;
    }
}
