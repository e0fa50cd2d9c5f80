//! The task that owns the swarm: it connects on demand, connects again after a loss, and passes messages on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::abuse::{Abuse, Allowance};
use super::behaviour::{FrameEvent, Opening, SendFailure, SendId};
use super::counters::{Dropped, LinkCounters};
use super::frame::Body;
use super::gossip;
use super::link::{InboundFrame, PublishError, SendError, Via};
use super::peers::Peers;
use super::redial::Wanted;
use super::spoil::Spoil;
use super::swarm::{Behaviour, BehaviourEvent};
use super::waiting::Waiting;
use crate::capability::Nanos;

/// A peer of which nothing was heard for this long, not even an answer to a ping, is cut off when it owes a reply.
const QUIET: Duration = Duration::from_secs(16);

/// How long the connections may take to be closed when the link stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Between two warnings that messages are dropped.
const QUIET_AFTER_WARNING: Duration = Duration::from_secs(10);

/// What the handles of a link ask of the task.
pub(super) enum Command {
    Connect { peer: PeerId, addresses: Vec<Multiaddr>, done: oneshot::Sender<Result<(), String>> },
    Send { letter: Arc<Letter>, addresses: Vec<Multiaddr>, within: Duration, done: oneshot::Sender<Outcome> },
    Publish { topic: String, body: Vec<u8>, done: oneshot::Sender<Result<(), PublishError>> },
    IsConnected { peer: PeerId, answer: oneshot::Sender<bool> },
    ListenAddresses { answer: oneshot::Sender<Vec<String>> },
    Forget { peer: PeerId },
    Suspect { peer: PeerId },
    Complain { peer: PeerId },
    Stop { done: oneshot::Sender<()> },
}

/// A message to be sent.
pub(super) struct Letter {
    pub(super) peer: PeerId,
    pub(super) inbox: String,
    pub(super) body: Vec<u8>,
    pub(super) opening: Opening,
    pub(super) spoil: Spoil,
}

/// What became of it.
pub(super) enum Outcome {
    Sent,
    /// Nothing was done.
    NotConnected,
    Failed(SendError),
}

pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    frames: mpsc::Sender<InboundFrame>,
    waiting: Waiting,
    peers: Arc<Peers>,
    pub(super) counters: Arc<LinkCounters>,
    pub(super) wanted: HashMap<PeerId, Wanted>,
    /// Not later than the next peer has to be dialled.
    pub(super) redial: Option<Instant>,
    sending: HashMap<SendId, oneshot::Sender<Outcome>>,
    abuse: Abuse,
    warned: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        frames: mpsc::Sender<InboundFrame>,
        peers: Arc<Peers>,
        counters: Arc<LinkCounters>,
    ) -> Self {
        Self {
            swarm,
            commands,
            frames,
            waiting: Waiting::default(),
            peers,
            counters,
            wanted: HashMap::new(),
            redial: None,
            sending: HashMap::new(),
            abuse: Abuse::new(),
            warned: None,
        }
    }

    /// Runs until the last handle is gone or one of them says stop.
    pub(super) async fn run(mut self) {
        let stopped = loop {
            let alarm = [self.redial, self.abuse.next()].into_iter().flatten().min();
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => break None,
                    Some(Command::Stop { done }) => break Some(done),
                    Some(command) => self.obey(command),
                },
                event = self.swarm.select_next_some() => self.notice(event),
                open = has_room(&self.frames), if !self.waiting.is_empty() => self.hand_out(open),
                () = at(alarm) => {
                    self.redial();
                    self.let_in();
                }
            }
        };
        self.close().await;
        if let Some(done) = stopped {
            drop(self);
            let _ = done.send(());
        }
    }

    /// Closes all connections in order, so that peers need not find out. Who asks now is told that the link has stopped.
    async fn close(&mut self) {
        self.commands.close();
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while self.swarm.connected_peers().next().is_some() {
                let event = self.swarm.select_next_some().await;
                self.notice(event);
            }
        };
        let _ = timeout(CLOSE_WITHIN, closing).await;
        self.peers.clear();
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connect { peer, addresses, done } => self.connect(peer, addresses, done),
            Command::Send { letter, addresses, within, done } => {
                // Whoever does not wait any more shall not be surprised by what is sent.
                if done.is_closed() {
                    return;
                }
                let Letter { peer, inbox, body, opening, spoil } = &*letter;
                if !self.want(*peer, addresses) {
                    let _ = done.send(Outcome::NotConnected);
                    return;
                }
                let id = self.swarm.behaviour_mut().frame.send(*peer, (inbox, body), *opening, within, *spoil);
                self.sending.insert(id, done);
            }
            Command::Publish { topic, body, done } => {
                let _ = done.send(self.publish(topic, body));
            }
            Command::IsConnected { peer, answer } => {
                let _ = answer.send(self.swarm.is_connected(&peer));
            }
            Command::ListenAddresses { answer } => {
                let _ = answer.send(self.swarm.listeners().map(ToString::to_string).collect());
            }
            Command::Forget { peer } => self.forget(peer),
            Command::Suspect { peer } => {
                let quiet = self.wanted.get(&peer).is_some_and(|wanted| wanted.heard.elapsed() > QUIET);
                if quiet {
                    self.cut(peer);
                }
            }
            Command::Complain { peer } => self.fault(peer),
            Command::Stop { done } => drop(done),
        }
    }

    fn publish(&mut self, topic: String, body: Vec<u8>) -> Result<(), PublishError> {
        let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() else {
            return Err(PublishError::NotSent { topic, cause: "this link takes no part in broadcasts".to_owned() });
        };
        match gossip.publish(IdentTopic::new(&topic), body) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NoListener { topic }),
            Err(error) => Err(PublishError::NotSent { topic, cause: error.to_string() }),
        }
    }

    /// A connection over which nothing comes may still look alive for minutes.
    fn cut(&mut self, peer: PeerId) {
        if self.swarm.disconnect_peer_id(peer).is_ok() {
            tracing::info!(%peer, "connection closed: the peer does not answer");
        }
    }

    fn notice(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Frame(event)) => self.frame_event(event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => self.broadcast(propagation_source, &message_id, message),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, connection, result })) => {
                self.pinged(peer, connection, result);
            }
            SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                self.counters.count_connection();
                self.peers.connected(peer_id);
                self.established(peer_id);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.peers.lost(peer_id);
                self.closed(peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.dial_failed(peer, &error),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "the link no longer listens there");
            }
            _ => {}
        }
    }

    fn pinged(&mut self, peer: PeerId, connection: ConnectionId, result: Result<Duration, ping::Failure>) {
        match result {
            Ok(rtt) => {
                self.peers.pinged(peer, rtt);
                self.heard(peer);
            }
            Err(ping::Failure::Unsupported) => {}
            Err(error) => {
                tracing::info!(%peer, %error, "connection closed: the peer does not answer pings");
                self.swarm.close_connection(connection);
            }
        }
    }

    fn heard(&mut self, peer: PeerId) {
        if let Some(wanted) = self.wanted.get_mut(&peer) {
            wanted.heard = Instant::now();
        }
    }

    /// What a DMS would pass on is passed on and delivered.
    fn broadcast(&mut self, from: PeerId, id: &MessageId, message: gossipsub::Message) {
        self.heard(from);
        let gossipsub::Message { source, data: body, sequence_number: _, topic } = message;
        let topic = topic.into_string();
        let now = Nanos::from_timestamp(jiff::Timestamp::now());
        let result = match self.abuse.broadcast(from, Instant::now()) {
            Allowance::PassOn => gossip::check(&body, &topic, now),
            Allowance::Ignore => Err(Dropped::TooMany),
            Allowance::CutOff => {
                self.keep_out(from);
                Err(Dropped::TooMany)
            }
        };
        let result = result.and_then(|()| {
            // Strict validation leaves nothing without a source.
            let peer = source.unwrap_or(from).to_string();
            self.deliver(from, InboundFrame { peer, via: Via::Topic(topic), body })
        });
        let acceptance = match result {
            Ok(()) => MessageAcceptance::Accept,
            Err(dropped) => {
                tracing::debug!(peer = %from, reason = dropped.code(), "broadcast dropped");
                self.dropped(from, dropped);
                gossip::verdict(dropped)
            }
        };
        if let Some(gossip) = self.swarm.behaviour_mut().gossip.as_mut() {
            gossip.report_message_validation_result(id, &from, acceptance);
        }
    }

    /// Never waits: who takes these may be waiting for this task itself.
    fn deliver(&mut self, from: PeerId, frame: InboundFrame) -> Result<(), Dropped> {
        let left = if self.waiting.is_empty() {
            match self.frames.try_send(frame) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(frame)) => self.waiting.put(from, frame),
                Err(TrySendError::Closed(frame)) => Err(frame),
            }
        } else {
            self.waiting.put(from, frame)
        };
        if left.is_ok() {
            return Ok(());
        }
        if may_warn(&mut self.warned, Instant::now()) {
            tracing::warn!(peer = %from, "messages are dropped: more arrive than are taken");
        }
        Err(Dropped::QueueFull)
    }

    /// Makes those that wait ready to be taken.
    fn hand_out(&mut self, somebody_takes: bool) {
        if !somebody_takes {
            (0..self.waiting.len()).for_each(|_| self.counters.count_dropped(Dropped::QueueFull));
            self.waiting.clear();
        }
        // This task alone puts messages there, so what has room now has room in a moment.
        while self.frames.capacity() > 0
            && let Some(frame) = self.waiting.next()
        {
            let _ = self.frames.try_send(frame);
        }
    }

    fn frame_event(&mut self, event: FrameEvent) {
        match event {
            FrameEvent::Arrived { peer, inbox, body: Body(body) } => {
                self.counters.count_frame_in();
                self.heard(peer);
                let frame = InboundFrame { peer: peer.to_string(), via: Via::Inbox(inbox), body };
                if let Err(dropped) = self.deliver(peer, frame) {
                    self.dropped(peer, dropped);
                }
            }
            FrameEvent::Broken { peer, error } => {
                tracing::debug!(%peer, %error, "a stream brought no message");
                self.dropped(peer, error.reason());
            }
            FrameEvent::Sent { id } => {
                self.counters.count_frame_out();
                self.sent(id, Outcome::Sent);
            }
            FrameEvent::Failed { peer, id, failure, untouched } => {
                if matches!(failure, SendFailure::Timeout) {
                    self.cut(peer);
                }
                let cause = failure.to_string();
                let error = if untouched { SendError::NotSent { cause } } else { SendError::Unknown { cause } };
                self.sent(id, Outcome::Failed(error));
            }
        }
    }

    fn sent(&mut self, id: SendId, outcome: Outcome) {
        if let Some(done) = self.sending.remove(&id) {
            let _ = done.send(outcome);
        }
    }

    fn dropped(&mut self, peer: PeerId, reason: Dropped) {
        self.counters.count_dropped(reason);
        if reason.is_fault() {
            self.fault(peer);
        }
    }

    fn fault(&mut self, peer: PeerId) {
        if self.abuse.fault(peer, Instant::now()) {
            self.keep_out(peer);
        }
    }

    fn keep_out(&mut self, peer: PeerId) {
        // Whom we ask ourselves is dialled again, with growing pauses: a device may be well again at any moment.
        if self.wanted.get(&peer).is_some_and(Wanted::is_dialled) {
            if self.swarm.disconnect_peer_id(peer).is_ok() {
                tracing::warn!(%peer, "connection closed: too much comes over it that is no message");
                self.counters.count_cut_off();
            }
            return;
        }
        if !self.swarm.behaviour_mut().kept_out.block_peer(peer) {
            return;
        }
        tracing::warn!(%peer, "cut off for a while: it sends too much that is no message");
        self.counters.count_cut_off();
        if let Some(first) = self.abuse.keep_out(peer, Instant::now()) {
            self.swarm.behaviour_mut().kept_out.unblock_peer(first);
        }
    }

    fn let_in(&mut self) {
        while let Some(peer) = self.abuse.let_in(Instant::now()) {
            self.swarm.behaviour_mut().kept_out.unblock_peer(peer);
        }
    }
}

/// Whoever sends more than is taken must not fill the log, too.
fn may_warn(warned: &mut Option<Instant>, now: Instant) -> bool {
    let due = warned.is_none_or(|last| now.duration_since(last) >= QUIET_AFTER_WARNING);
    if due {
        *warned = Some(now);
    }
    due
}

/// Waits until a message can be made ready; false when nobody takes any.
async fn has_room(frames: &mpsc::Sender<InboundFrame>) -> bool {
    frames.reserve().await.is_ok()
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_come_seldom() {
        let (mut warned, begun) = (None, Instant::now());
        let said = (0..25_u64).filter(|second| may_warn(&mut warned, begun + Duration::from_secs(*second)));
        assert_eq!(said.collect::<Vec<_>>(), [0, 10, 20]);
    }
}
