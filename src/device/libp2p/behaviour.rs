//! The behaviour that exchanges messages: which connection a message takes, and what became of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::handler::ListenUpgradeError;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use super::budget::{Pool, Share};
use super::frame::{Body, FrameError, FrameIn, FrameOut, Name, Progress, READ_WITHIN, frame};
use super::names;
use super::spoil::{Spoil, Spoiling};
use super::substream::NotAgreed;

/// Tells the messages of one swarm apart.
pub(super) type SendId = u64;

/// What became of messages.
#[derive(Debug)]
pub(super) enum FrameEvent {
    /// One arrived.
    Arrived { peer: PeerId, inbox: String, body: Body },
    /// A stream brought none.
    Broken { peer: PeerId, error: FrameError },
    /// One was written whole; no more is known.
    Sent { id: SendId },
    /// One was not written whole.
    Failed { peer: PeerId, id: SendId, failure: SendFailure, untouched: bool },
}

/// Why a message was not written whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendFailure {
    #[error("there is no connection")]
    NotConnected,
    #[error("the node has no such inbox")]
    NoSuchInbox,
    #[error("it did not take the message in time")]
    Timeout,
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
    #[error("the connection was lost")]
    ConnectionClosed,
    /// It followed at once, since the inbox had been there before.
    #[error("it was on its way before the node agreed to take it: {0}")]
    NotAgreed(NotAgreed),
}

/// When a message leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Once the node has said that it has the inbox: a refusal is known to be one.
    Asked,
    /// At once, if the node had the inbox before on the same connection. That saves the time of one answer.
    Assumed,
}

#[derive(Debug)]
struct UnderWay {
    peer: PeerId,
    connection: ConnectionId,
    progress: Progress,
}

/// Messages over all connections of a swarm.
pub(super) struct FrameBehaviour {
    inboxes: Arc<[Name]>,
    spoiling: Spoiling,
    pool: Arc<Pool>,
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    under_way: HashMap<SendId, UnderWay>,
    next: SendId,
    out: VecDeque<ToSwarm<FrameEvent, Outgoing>>,
    waker: Option<Waker>,
}

impl FrameBehaviour {
    pub(super) fn new(inboxes: &[String], spoiling: Spoiling) -> Self {
        Self {
            inboxes: inboxes.iter().map(|inbox| names::of_inbox(inbox).into()).collect(),
            spoiling,
            pool: Arc::default(),
            connections: HashMap::new(),
            under_way: HashMap::new(),
            next: 0,
            out: VecDeque::new(),
            waker: None,
        }
    }

    /// Sends a message to an inbox of a connected peer.
    pub(super) fn send(
        &mut self,
        peer: PeerId,
        (inbox, body): (&str, &[u8]),
        opening: Opening,
        within: Duration,
        spoil: Spoil,
    ) -> SendId {
        self.next += 1;
        let id = self.next;
        match self.connections.get(&peer).and_then(|connections| connections.first().copied()) {
            None => {
                let failed = FrameEvent::Failed { peer, id, failure: SendFailure::NotConnected, untouched: true };
                self.out.push_back(ToSwarm::GenerateEvent(failed));
            }
            Some(connection) => {
                let event = Outgoing::of(id, (inbox, body), opening, within, spoil);
                let progress = event.out.progress.clone();
                self.under_way.insert(id, UnderWay { peer, connection, progress });
                self.out.push_back(ToSwarm::NotifyHandler {
                    peer_id: peer,
                    handler: NotifyHandler::One(connection),
                    event,
                });
            }
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        id
    }

    fn end(&mut self, id: SendId, failure: Option<SendFailure>) {
        let Some(UnderWay { peer, connection: _, progress }) = self.under_way.remove(&id) else { return };
        let event = match failure {
            None => FrameEvent::Sent { id },
            Some(SendFailure::Timeout) if progress.is_written() => FrameEvent::Sent { id },
            Some(failure) => FrameEvent::Failed { peer, id, failure, untouched: progress.is_untouched() },
        };
        self.out.push_back(ToSwarm::GenerateEvent(event));
    }

    fn closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(connections) = self.connections.get_mut(&peer) {
            connections.retain(|one| *one != connection);
            if connections.is_empty() {
                self.connections.remove(&peer);
            }
        }
        let mut lost: Vec<_> =
            self.under_way.iter().filter(|(_, one)| one.connection == connection).map(|(id, _)| *id).collect();
        lost.sort_unstable();
        for id in lost {
            self.end(id, Some(SendFailure::ConnectionClosed));
        }
    }
}

impl NetworkBehaviour for FrameBehaviour {
    type ConnectionHandler = Frames;
    type ToSwarm = FrameEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Frames::new(self.inboxes.clone(), Share::of(&self.pool), self.spoiling.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Frames::new(self.inboxes.clone(), Share::of(&self.pool), self.spoiling.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.connections.entry(established.peer_id).or_default().push(established.connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                self.closed(peer_id, connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, _: ConnectionId, event: FromConnection) {
        match event {
            FromConnection::Arrived { name, body } => {
                let inbox = names::inbox_of(&name).unwrap_or_default().to_owned();
                self.out.push_back(ToSwarm::GenerateEvent(FrameEvent::Arrived { peer, inbox, body }));
            }
            FromConnection::Broken(error) => {
                self.out.push_back(ToSwarm::GenerateEvent(FrameEvent::Broken { peer, error }));
            }
            FromConnection::Ended(id, failure) => self.end(id, failure),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, Outgoing>> {
        if let Some(event) = self.out.pop_front() {
            return Poll::Ready(event);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// A message for one connection.
#[derive(Debug)]
pub(super) struct Outgoing {
    id: SendId,
    out: FrameOut,
    opening: Opening,
    within: Duration,
}

impl Outgoing {
    pub(super) fn of(
        id: SendId,
        (inbox, body): (&str, &[u8]),
        opening: Opening,
        within: Duration,
        spoil: Spoil,
    ) -> Self {
        let (name, frame) = (names::of_inbox(inbox).into(), Body(frame(body)));
        Self {
            id,
            out: FrameOut { name, frame, progress: Progress::default(), spoil, assumed: false },
            opening,
            within,
        }
    }
}

/// What one connection reports.
#[derive(Debug)]
pub(super) enum FromConnection {
    Arrived { name: Name, body: Body },
    Broken(FrameError),
    Ended(SendId, Option<SendFailure>),
}

/// Inboxes of one peer that are known to be there. More than a DMS node and its allocations are asked for at a time.
const KNOWN: usize = 16;

/// Messages over one connection.
pub(super) struct Frames {
    inboxes: Arc<[Name]>,
    spoiling: Spoiling,
    share: Arc<Share>,
    /// Names of inboxes that the peer agreed to, the last at the end.
    known: VecDeque<Name>,
    outgoing: VecDeque<Outgoing>,
    events: VecDeque<FromConnection>,
}

impl Frames {
    const fn new(inboxes: Arc<[Name]>, share: Arc<Share>, spoiling: Spoiling) -> Self {
        Self { inboxes, spoiling, share, known: VecDeque::new(), outgoing: VecDeque::new(), events: VecDeque::new() }
    }

    #[cfg(test)]
    pub(super) fn to_nobody() -> Self {
        Self::new(Arc::from([]), Arc::default(), Spoiling::default())
    }

    fn learn(&mut self, name: Name) {
        if self.known.contains(&name) {
            return;
        }
        if self.known.len() == KNOWN {
            self.known.pop_front();
        }
        self.known.push_back(name);
    }

    fn failed(&mut self, name: &Name, error: StreamUpgradeError<std::io::Error>) -> SendFailure {
        let failure = match error {
            StreamUpgradeError::NegotiationFailed => SendFailure::NoSuchInbox,
            StreamUpgradeError::Timeout => SendFailure::Timeout,
            StreamUpgradeError::Apply(error) | StreamUpgradeError::Io(error) => match NotAgreed::of(&error) {
                Some(why) => SendFailure::NotAgreed(why),
                None => SendFailure::Io(error),
            },
        };
        // Whatever went wrong: the next one asks first.
        self.known.retain(|known| known != name);
        failure
    }
}

impl ConnectionHandler for Frames {
    type FromBehaviour = Outgoing;
    type ToBehaviour = FromConnection;
    type InboundProtocol = FrameIn;
    type OutboundProtocol = FrameOut;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = (SendId, Name);

    fn listen_protocol(&self) -> SubstreamProtocol<FrameIn> {
        // The swarm only logs its own time-out of an inbound stream, so the upgrade has a shorter one of its own.
        let frames =
            FrameIn { inboxes: self.inboxes.clone(), share: self.share.clone(), spoiling: self.spoiling.clone() };
        SubstreamProtocol::new(frames, ()).with_timeout(READ_WITHIN + Duration::from_secs(2))
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<FrameOut, (SendId, Name), FromConnection>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        match self.outgoing.pop_front() {
            None => Poll::Pending,
            Some(Outgoing { id, mut out, opening, within }) => {
                out.assumed = opening == Opening::Assumed && self.known.contains(&out.name);
                let info = (id, out.name.clone());
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(out, info).with_timeout(within),
                })
            }
        }
    }

    fn on_behaviour_event(&mut self, outgoing: Outgoing) {
        self.outgoing.push_back(outgoing);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, FrameIn, FrameOut, (), (SendId, Name)>) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (name, body), info: () }) => {
                FromConnection::Arrived { name, body }
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info: (), error }) => {
                FromConnection::Broken(error)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (), info: (id, name) }) => {
                self.learn(name);
                FromConnection::Ended(id, None)
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: (id, name), error }) => {
                FromConnection::Ended(id, Some(self.failed(&name, error)))
            }
            _ => return,
        };
        self.events.push_back(event);
    }
}
