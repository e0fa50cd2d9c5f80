//! How replies leave: as they are, or as the fate of their message wants.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::{sync::mpsc, time};

use super::{
    Served,
    faults::{Fate, Kind},
    reach::Reach,
    serving::{Behaviour, Judged},
};
use crate::{
    capability::Key,
    device::{
        actor::{OutboundFrame, reply},
        libp2p::{Spoil, Spoiling},
    },
};

/// How long replies are held back, to be sent in another order.
const HELD: Duration = Duration::from_millis(500);
/// Longest time that connections are silent at once.
const MUTE: Duration = Duration::from_secs(20);
/// Between two looks whether they still have to be.
const LOOK: Duration = Duration::from_millis(50);

impl Served {
    /// The reply to a message, if there is to be one.
    pub(super) fn reply(&self, judged: &Judged, fate: &Fate, payload: &Value) -> Option<OutboundFrame> {
        let nonce = self.nonce.fetch_add(1, Ordering::Relaxed);
        if fate.is(Kind::DropReplies) || (fate.is(Kind::DropNewReply) && judged.behaviour == Behaviour::New) {
            return None;
        }
        let mut seed = [0; 32];
        seed.iter_mut().zip(fate.lot.to_le_bytes()).for_each(|(seed, lot)| *seed = lot);
        let other = fate.is(Kind::WrongKey).then(|| Key::from_seed(seed));
        let key = other.as_ref().unwrap_or(&self.key);
        let mut frame = reply::reply(key, &judged.envelope, &judged.sender, nonce, payload)?;
        if fate.is(Kind::Cut) {
            frame.spoil = Spoil::Cut;
        } else if fate.is(Kind::HalfOpen) {
            frame.spoil = Spoil::HalfOpen;
        }
        Some(frame)
    }

    pub(super) async fn send(&self, outbound: &mpsc::Sender<OutboundFrame>, reply: Option<OutboundFrame>, fate: &Fate) {
        let Some(reply) = reply else { return };
        let copies = if fate.is(Kind::DuplicateReply) { 2 } else { 1 };
        let mut frames = vec![reply; copies];
        if fate.is(Kind::Reorder) {
            self.held.lock().unwrap_or_else(PoisonError::into_inner).append(&mut frames);
            time::sleep(HELD).await;
            // Whoever wakes first sends all that came until now, the last one first; the others find nothing.
            frames = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
            frames.reverse();
        }
        for frame in frames {
            // A closed channel means that the node is being stopped.
            let _ = outbound.send(frame).await;
        }
    }

    /// Lets connections be silent, and messages be read slowly, as the fate of a message wants.
    pub(super) fn spoil(self: &Arc<Self>, fate: &Fate) {
        let Some(spoiling) = self.reach.get().map(Reach::spoiling) else { return };
        spoiling.read_slowly(fate.is(Kind::SlowRead));
        if fate.is(Kind::Mute) {
            spoiling.mute(true);
            tokio::spawn(Arc::clone(self).speak_again(spoiling.clone()));
        }
    }

    async fn speak_again(self: Arc<Self>, spoiling: Spoiling) {
        let until = time::Instant::now() + MUTE;
        while time::Instant::now() < until && self.course.faults().may(Kind::Mute) {
            time::sleep(LOOK).await;
        }
        spoiling.mute(false);
    }
}
