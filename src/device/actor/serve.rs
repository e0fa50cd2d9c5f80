//! [`Actor`]: serves behaviours to whoever may ask for them.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::{
    admission::{Counted, Limits},
    judge::{Dropped as NotServed, Judged, Right, judge},
    reply::{self, OutboundFrame},
};
use crate::{
    capability::{Context, Did, Envelope, Key, Nanos},
    device::libp2p::{Dropped, InboundFrame, Link, Via, WeakLink},
};

/// How long a reply may take to be written.
const SEND_WINDOW: Duration = Duration::from_secs(10);
/// KiB of messages held at a time; what is above is dropped.
const HELD: usize = 32 * 1024;
/// KiB that each message counts at least, so that small ones are bounded in number.
const LEAST_HELD: u32 = 4;

/// What was asked, by whom: judged already.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message.
    pub envelope: Envelope,
    /// Who signed it.
    pub sender: Did,
    /// How it came.
    pub via: Via,
    /// When it was judged.
    pub at: Nanos,
}

/// Behaviours.
#[async_trait]
pub trait Serves: Send + Sync + 'static {
    /// Who may ask for this behaviour when it comes this way; `None` when there is no such behaviour.
    fn right(&self, via: &Via, behaviour: &str) -> Option<Right>;

    /// Acts, and says what to answer; `None` for nothing at all.
    async fn answer(&self, asked: Asked) -> Option<Value>;
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
        let sender = match self.0.limits.enter(vec![Counted::Sender(frame.peer.clone())]) {
            Ok(slot) => slot,
            Err(reason) => return self.0.count(reason),
        };
        let weight = u32::try_from(frame.body.len() / 1024).unwrap_or(u32::MAX).max(LEAST_HELD);
        let Ok(room) = Arc::clone(&self.0.held).try_acquire_many_owned(weight) else {
            return self.0.count("Crowded");
        };
        let actor = Arc::clone(&self.0);
        tokio::spawn(async move {
            actor.serve(frame).await;
            drop((sender, room));
        });
    }
}

impl Inner {
    async fn serve(&self, frame: InboundFrame) {
        let ActorConfig { key, context, serves, clock } = &self.config;
        let at = clock();
        let find = |via: &Via, name: &str| Some(((), serves.right(via, name)?));
        let Judged { envelope, behaviour: (), sender, slot } = match judge(&frame, context, &self.limits, find, at) {
            Ok(judged) => judged,
            Err(NotServed { behaviour, reason, message, is_fault }) => {
                tracing::debug!(peer = frame.peer, behaviour, reason, message, "a message was dropped");
                self.count(reason);
                if let (true, Some(link)) = (is_fault, self.link.upgrade()) {
                    link.complain(&frame.peer, Dropped::Unverified).await;
                }
                return;
            }
        };
        let asked = Asked { envelope: envelope.clone(), sender: sender.clone(), via: frame.via.clone(), at };
        let Some(payload) = serves.answer(asked).await else { return self.count("Unanswered") };
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
        let reply = reply::reply(key, &envelope, &sender, nonce, &payload);
        // Who has its reply may ask for the next thing, so it must not count any more then.
        drop(slot);
        self.count("Answered");
        let (Some(OutboundFrame { peer, inbox, body, spoil: _ }), Some(link)) = (reply, self.link.upgrade()) else {
            return;
        };
        // The peer is connected, or was a moment ago; nobody is dialled to be answered.
        if let Err(error) = link.send(&peer, &[], &inbox, body, SEND_WINDOW).await {
            tracing::debug!(peer, inbox, %error, "a reply was lost");
        }
    }

    fn count(&self, ended: &'static str) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(ended).or_default() += 1;
    }
}
