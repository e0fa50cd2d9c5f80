//! Judges a message as DMS does: addressed to this node, from the peer it says, not expired, signed, for a behaviour that
//! is served, and authorised by its tokens. Everything else is dropped without a word; only a counter tells.

use super::{
    admission::{Counted, Limits, Slot},
    serving::Behaviour,
};
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
    /// Its place among the messages of its kind that are worked on.
    pub slot: Slot,
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

/// Decides about one frame. Cheap things first: whom it is for, whether there is room, then tokens and signatures.
pub(super) fn judge(frame: &InboundFrame, context: &Context, limits: &Limits, now: Nanos) -> Result<Judged, Dropped> {
    let envelope = Envelope::parse(&frame.body).map_err(|refusal| refused(String::new(), &refusal))?;
    let drop = |(reason, message): (&'static str, &str)| Dropped {
        behaviour: envelope.behaviour.clone(),
        reason,
        message: message.to_owned(),
    };
    check_address(frame, &envelope, context).map_err(drop)?;
    let slot = limits.enter(kind_of(&envelope)).map_err(|reason| drop((reason, "too many are worked on already")))?;
    let found = match &frame.via {
        Via::Inbox(_) => Behaviour::of_root(&envelope.behaviour),
        Via::Topic(topic) => Behaviour::of_topic(topic, &envelope.behaviour),
    };
    let behaviour = found.ok_or_else(|| drop(("UnknownBehaviour", "this node does not serve the behaviour")))?;
    let capability = Capability::parse(&envelope.behaviour)
        .map_err(|_| drop(("UnknownBehaviour", "the behaviour is not a capability")))?;
    let allowed = match &frame.via {
        Via::Inbox(_) => context.authorise(&envelope, &capability, now),
        Via::Topic(topic) => match Capability::parse(topic) {
            Ok(topic) => context.authorise_broadcast(&envelope, &topic, &capability, now),
            Err(_) => return Err(drop(("UnknownBehaviour", "the topic is not a capability"))),
        },
    };
    allowed.map_err(|refusal| refused(envelope.behaviour.clone(), &refusal))?;
    let sender = envelope.from.id.did().ok_or_else(|| drop(("UnsupportedKey", "the sender's key is not Ed25519")))?;
    Ok(Judged { envelope, behaviour, sender, slot })
}

/// Whether the message came the way that it says.
fn check_address(
    frame: &InboundFrame,
    envelope: &Envelope,
    context: &Context,
) -> Result<(), (&'static str, &'static str)> {
    let own = ActorId::of(&context.did);
    match &frame.via {
        Via::Inbox(inbox) if inbox != ROOT_INBOX || envelope.to.id != own => {
            Err(("NotForUs", "it is addressed to another actor"))
        }
        Via::Inbox(_) if envelope.from.host.as_deref() != Some(frame.peer.as_str()) => {
            Err(("ForeignHost", "its sender names another host than the peer that sent it"))
        }
        Via::Topic(topic) if !envelope.is_broadcast() || envelope.topic.as_deref() != Some(topic.as_str()) => {
            Err(("ForeignTopic", "it is not a broadcast on the topic it came by"))
        }
        Via::Topic(_) if envelope.from.id == own => Err(("NotForUs", "it is this node's own broadcast")),
        Via::Inbox(_) | Via::Topic(_) => Ok(()),
    }
}

fn kind_of(envelope: &Envelope) -> Vec<Counted> {
    match &envelope.topic {
        Some(topic) if envelope.is_broadcast() => vec![Counted::Broadcasts, Counted::Topic(topic.clone())],
        _ if envelope.behaviour.starts_with(PUBLIC) => vec![Counted::Public],
        _ => Vec::new(),
    }
}

/// What behaviours begin with that are for everybody who is allowed in at all.
const PUBLIC: &str = "/public/";

fn refused(behaviour: String, refusal: &Refusal) -> Dropped {
    Dropped { behaviour, reason: refusal.reason.code(), message: refusal.message.clone() }
}
