//! Replies that are awaited. Each is accepted once, and only from the device that was asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::counters::Dropped;
use super::link::{InboundFrame, Via};
use crate::capability::{ActorId, Did, Envelope, Nanos, Reason};

/// By continuation.
#[derive(Debug)]
pub(super) struct Pending {
    /// The inbox that replies come to, and the actor that they are for.
    inbox: String,
    own: ActorId,
    calls: Mutex<HashMap<String, Awaited>>,
}

#[derive(Debug)]
struct Awaited {
    device: Did,
    peer: String,
    reply: oneshot::Sender<Envelope>,
}

/// Awaits one reply; dropping it ends that.
#[derive(Debug)]
pub(super) struct Expected {
    pending: Arc<Pending>,
    continuation: String,
    pub(super) reply: oneshot::Receiver<Envelope>,
}

impl Drop for Expected {
    fn drop(&mut self) {
        self.pending.calls().remove(&self.continuation);
    }
}

impl Pending {
    pub(super) fn new(inbox: String, own: &Did) -> Self {
        Self { inbox, own: ActorId::of(own), calls: Mutex::default() }
    }

    /// From now on, accepts one reply of `device` on `continuation`; `None` when one is awaited there already.
    pub(super) fn expect(self: &Arc<Self>, continuation: &str, device: &Did) -> Option<Expected> {
        let (sender, reply) = oneshot::channel();
        let mut calls = self.calls();
        if calls.contains_key(continuation) {
            return None;
        }
        let awaited = Awaited { device: device.clone(), peer: device.peer_id(), reply: sender };
        calls.insert(continuation.to_owned(), awaited);
        drop(calls);
        Some(Expected { pending: self.clone(), continuation: continuation.to_owned(), reply })
    }

    /// Judges what arrived and gives it to the call that awaits it. What costs least is tested first; the signature last.
    pub(super) fn accept(&self, frame: &InboundFrame, now: Nanos) -> Result<(), Dropped> {
        if !self.is_for(&frame.via) {
            return Err(Dropped::ForeignInbox);
        }
        let envelope = Envelope::parse(&frame.body).map_err(|_| Dropped::Undecodable)?;
        if envelope.to.id != self.own {
            return Err(Dropped::NotForUs);
        }
        self.check_origin(frame, &envelope)?;
        envelope.verify(now).map_err(|refusal| match refusal.reason {
            Reason::Expired => Dropped::Expired,
            _ => Dropped::Unverified,
        })?;
        let awaited = self.calls().remove(&envelope.behaviour).ok_or(Dropped::UnknownContinuation)?;
        awaited.reply.send(envelope).map_err(|_| Dropped::UnknownContinuation)
    }

    /// Whether what comes this way can be a reply.
    pub(super) fn is_for(&self, via: &Via) -> bool {
        matches!(via, Via::Inbox(inbox) if *inbox == self.inbox)
    }

    fn check_origin(&self, frame: &InboundFrame, envelope: &Envelope) -> Result<(), Dropped> {
        let calls = self.calls();
        let awaited = calls.get(&envelope.behaviour).ok_or(Dropped::UnknownContinuation)?;
        if frame.peer != awaited.peer {
            return Err(Dropped::ForeignPeer);
        }
        if envelope.from.host.as_deref() != Some(frame.peer.as_str()) {
            return Err(Dropped::ForeignHost);
        }
        if envelope.from.id != ActorId::of(&awaited.device) {
            return Err(Dropped::ForeignSigner);
        }
        Ok(())
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<String, Awaited>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
