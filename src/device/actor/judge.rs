//! Judges a message as DMS does: addressed to this actor, from the peer it says, not expired, signed, for a behaviour that
//! is served, and authorised by its tokens. Everything else is dropped without a word; only a counter tells.

use super::admission::{Counted, Limits, Slot};
use crate::{
    capability::{ActorId, Capability, Context, Did, Envelope, Nanos, Reason, Refusal},
    device::{
        dms::path::ROOT_INBOX,
        libp2p::{InboundFrame, Via},
    },
};

/// Who may ask for a behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Whoever has the capability of its name, as in DMS.
    Capability,
    /// Whoever signs: what is asked for proves itself.
    Anybody,
}

/// A message that may be acted on.
pub(in crate::device) struct Judged<B> {
    /// The message.
    pub envelope: Envelope,
    /// What it asks for.
    pub behaviour: B,
    /// Who signed it.
    pub sender: Did,
    /// Its place among the messages of its kind that are worked on.
    pub slot: Slot,
}

/// A message that is dropped.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::device) struct Dropped {
    /// What it asked for, as far as that could be read.
    pub behaviour: String,
    /// Why, in one word that never changes.
    pub reason: &'static str,
    /// Why, for people.
    pub message: String,
    /// Whether an honest peer does not send such a thing.
    pub is_fault: bool,
}

/// How a message came.
#[derive(Clone, Copy)]
pub(in crate::device) struct Arrived<'a> {
    /// The envelope.
    pub body: &'a [u8],
    /// To what it was sent.
    pub via: &'a Via,
    /// The peer that sent it, where the way it came proves one.
    pub peer: Option<&'a str>,
}

impl<'a> From<&'a InboundFrame> for Arrived<'a> {
    fn from(InboundFrame { peer, via, body }: &'a InboundFrame) -> Self {
        Self { body, via, peer: Some(peer) }
    }
}

/// Decides about one message. Cheap things first: whom it is for, whether there is room, then tokens and signatures. `find`
/// says what is served under a name, the way it came, and who may ask for it.
pub(in crate::device) fn judge<'a, B>(
    arrived: impl Into<Arrived<'a>>,
    context: &Context,
    limits: &Limits,
    find: impl FnOnce(&Via, &str) -> Option<(B, Right)>,
    now: Nanos,
) -> Result<Judged<B>, Dropped> {
    let arrived: Arrived<'_> = arrived.into();
    let envelope = Envelope::parse(arrived.body).map_err(|refusal| refused(String::new(), &refusal))?;
    let drop = |is_fault, (reason, message): (&'static str, &str)| Dropped {
        behaviour: envelope.behaviour.clone(),
        reason,
        message: message.to_owned(),
        is_fault,
    };
    check_address(arrived, &envelope, context).map_err(|told| drop(true, told))?;
    let slot =
        limits.enter(kind_of(&envelope)).map_err(|reason| drop(false, (reason, "too many are worked on already")))?;
    let unknown = |message| drop(false, ("UnknownBehaviour", message));
    let (behaviour, right) =
        find(arrived.via, &envelope.behaviour).ok_or_else(|| unknown("the behaviour is not served here"))?;
    let capability =
        Capability::parse(&envelope.behaviour).map_err(|_| unknown("the behaviour is not a capability"))?;
    let allowed = match (right, arrived.via) {
        (Right::Anybody, _) => envelope.verify(now).map(|_| ()),
        (Right::Capability, Via::Inbox(_)) => context.authorise(&envelope, &capability, now),
        (Right::Capability, Via::Topic(topic)) => {
            let topic = Capability::parse(topic).map_err(|_| unknown("the topic is not a capability"))?;
            context.authorise_broadcast(&envelope, &topic, &capability, now)
        }
    };
    allowed.map_err(|refusal| refused(envelope.behaviour.clone(), &refusal))?;
    let sender =
        envelope.from.id.did().ok_or_else(|| drop(false, ("UnsupportedKey", "the sender's key is not Ed25519")))?;
    Ok(Judged { envelope, behaviour, sender, slot })
}

/// Whether the message came the way that it says.
fn check_address(
    arrived: Arrived<'_>,
    envelope: &Envelope,
    context: &Context,
) -> Result<(), (&'static str, &'static str)> {
    let own = ActorId::of(&context.did);
    match arrived.via {
        Via::Inbox(inbox) if inbox != ROOT_INBOX || envelope.to.id != own => {
            Err(("NotForUs", "it is addressed to another actor"))
        }
        Via::Inbox(_) if arrived.peer.is_some() && envelope.from.host.as_deref() != arrived.peer => {
            Err(("ForeignHost", "its sender names another host than the peer that sent it"))
        }
        Via::Topic(topic) if !envelope.is_broadcast() || envelope.topic.as_deref() != Some(topic.as_str()) => {
            Err(("ForeignTopic", "it is not a broadcast on the topic it came by"))
        }
        Via::Topic(_) if envelope.from.id == own => Err(("NotForUs", "it is its own broadcast")),
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
    let is_fault = matches!(refusal.reason, Reason::Malformed | Reason::BadSignature);
    Dropped { behaviour, reason: refusal.reason.code(), message: refusal.message.clone(), is_fault }
}
