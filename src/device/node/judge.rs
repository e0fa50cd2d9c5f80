//! Judges a message as DMS does: addressed to this node, from the peer it says, not expired, signed, for a behaviour that
//! is served, and authorised by its tokens. Everything else is dropped without a word; only a counter tells.

use super::behaviours::Behaviour;
use crate::{
    capability::{ActorId, Capability, Context, Did, Envelope, Nanos, Refusal},
    device::{
        dms::path::ROOT_INBOX,
        libp2p::{InboundFrame, Via},
    },
};

/// A message that may be acted on.
pub(super) struct Judged {
    /// The message.
    pub envelope: Envelope,
    /// What it asks for.
    pub behaviour: Behaviour,
    /// Who signed it.
    pub sender: Did,
}

/// A message that is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    /// What it asked for, as far as that could be read.
    pub behaviour: String,
    /// Why, in one word that never changes.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
}

/// Decides about one frame.
pub(super) fn judge(frame: &InboundFrame, context: &Context, now: Nanos) -> Result<Judged, Dropped> {
    let InboundFrame { peer, via, body } = frame;
    let envelope = Envelope::parse(body).map_err(|refusal| refused(String::new(), &refusal))?;
    let drop = |reason, message: &str| {
        Err(Dropped { behaviour: envelope.behaviour.clone(), reason, message: message.to_owned() })
    };
    if !matches!(via, Via::Inbox(inbox) if inbox == ROOT_INBOX) || envelope.to.id != ActorId::of(&context.did) {
        return drop("NotForUs", "it is addressed to another actor");
    }
    if envelope.from.host.as_deref() != Some(peer.as_str()) {
        return drop("ForeignHost", "its sender names another host than the peer that sent it");
    }
    let Some(behaviour) = Behaviour::from_path(&envelope.behaviour) else {
        return drop("UnknownBehaviour", "this node does not serve the behaviour");
    };
    let Ok(capability) = Capability::parse(&envelope.behaviour) else {
        return drop("UnknownBehaviour", "the behaviour is not a capability");
    };
    context.authorise(&envelope, &capability, now).map_err(|refusal| refused(envelope.behaviour.clone(), &refusal))?;
    let Some(sender) = envelope.from.id.did() else {
        return drop("UnsupportedKey", "the key of its sender is not Ed25519");
    };
    Ok(Judged { envelope, behaviour, sender })
}

fn refused(behaviour: String, refusal: &Refusal) -> Dropped {
    Dropped { behaviour, reason: refusal.reason.code(), message: refusal.message.clone() }
}
