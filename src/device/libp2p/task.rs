//! The task that owns the swarm: it connects on demand, connects again after a loss, and passes messages on.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAcceptance, MessageId};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::backoff;
use super::behaviour::{FrameEvent, SendFailure, SendId};
use super::counters::{Dropped, LinkCounters};
use super::frame::Body;
use super::gossip;
use super::link::{InboundFrame, PublishError, SendError, Via};
use super::spoil::Spoil;
use super::swarm::{Behaviour, BehaviourEvent};
use crate::capability::Nanos;

/// How long after its last use a lost connection is still set up again, so that replies under way find us.
const WANTED_FOR: Duration = Duration::from_mins(5);
/// A connection that lived shorter than this counts as a failed attempt.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A request waits this long for the next attempt to connect; if that is later, it fails at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// A peer of which nothing was heard for this long, not even an answer to a ping, is cut off when it owes a reply.
const QUIET: Duration = Duration::from_secs(16);

/// Messages longer than this are taken only while few wait: the queue is bounded by number, and this bounds its bytes.
pub(super) const LONG: usize = 64 << 10;
/// So many may wait when a long one is taken.
pub(super) const FEW: usize = 64;
/// Between two warnings that messages are dropped.
const QUIET_AFTER_WARNING: Duration = Duration::from_secs(10);

/// What the handles of a link ask of the task.
pub(super) enum Command {
    Connect {
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        done: oneshot::Sender<Result<(), String>>,
    },
    Send {
        peer: PeerId,
        inbox: String,
        body: Vec<u8>,
        within: Duration,
        spoil: Spoil,
        done: oneshot::Sender<Result<(), SendError>>,
    },
    Publish {
        topic: String,
        body: Vec<u8>,
        done: oneshot::Sender<Result<(), PublishError>>,
    },
    IsConnected {
        peer: PeerId,
        answer: oneshot::Sender<bool>,
    },
    ListenAddresses {
        answer: oneshot::Sender<Vec<String>>,
    },
    Suspect {
        peer: PeerId,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

/// A peer that was asked for.
struct Wanted {
    addresses: Vec<Multiaddr>,
    until: Instant,
    state: State,
    failures: u32,
    heard: Instant,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

enum State {
    Idle,
    Dialing,
    Up { since: Instant },
    Down { cause: String, retry: Instant },
}

pub(super) struct Task {
    swarm: Swarm<Behaviour>,
    commands: mpsc::Receiver<Command>,
    frames: mpsc::Sender<InboundFrame>,
    counters: Arc<LinkCounters>,
    wanted: HashMap<PeerId, Wanted>,
    sending: HashMap<SendId, oneshot::Sender<Result<(), SendError>>>,
    warned: Option<Instant>,
}

impl Task {
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        commands: mpsc::Receiver<Command>,
        frames: mpsc::Sender<InboundFrame>,
        counters: Arc<LinkCounters>,
    ) -> Self {
        Self { swarm, commands, frames, counters, wanted: HashMap::new(), sending: HashMap::new(), warned: None }
    }

    /// Runs until the last handle is gone or one of them says stop.
    pub(super) async fn run(mut self) {
        loop {
            let retry = self.next_retry();
            tokio::select! {
                command = self.commands.recv() => match command {
                    None => return,
                    Some(Command::Stop { done }) => {
                        drop(self);
                        let _ = done.send(());
                        return;
                    }
                    Some(command) => self.obey(command),
                },
                event = self.swarm.select_next_some() => self.notice(event),
                () = at(retry) => self.retry(),
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connect { peer, addresses, done } => self.connect(peer, addresses, done),
            Command::Send { peer, inbox, body, within, spoil, done } => {
                let id = self.swarm.behaviour_mut().frame.send(peer, &inbox, &body, within, spoil);
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
            Command::Suspect { peer } => {
                let quiet = self.wanted.get(&peer).is_some_and(|wanted| wanted.heard.elapsed() > QUIET);
                if quiet {
                    self.cut(peer);
                }
            }
            Command::Stop { done } => drop(done),
        }
    }

    fn publish(&mut self, topic: String, body: Vec<u8>) -> Result<(), PublishError> {
        match self.swarm.behaviour_mut().gossip.publish(IdentTopic::new(&topic), body) {
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

    fn connect(&mut self, peer: PeerId, addresses: Vec<Multiaddr>, done: oneshot::Sender<Result<(), String>>) {
        let now = Instant::now();
        let connected = self.swarm.is_connected(&peer);
        let wanted = self.wanted.entry(peer).or_insert_with(|| Wanted {
            addresses: Vec::new(),
            until: now,
            state: if connected { State::Up { since: now } } else { State::Idle },
            failures: 0,
            heard: now,
            waiting: Vec::new(),
        });
        wanted.until = now + WANTED_FOR;
        // A reply to a caller whose address is not known must not make us forget where to dial it.
        if !addresses.is_empty() && wanted.addresses != addresses {
            wanted.addresses = addresses;
            wanted.failures = 0;
            if matches!(wanted.state, State::Down { .. }) {
                wanted.state = State::Idle;
            }
        }
        if connected {
            let _ = done.send(Ok(()));
            return;
        }
        match &wanted.state {
            State::Down { cause, retry } if *retry > now + PATIENCE => {
                let _ = done.send(Err(format!("{cause}; it is dialled again in a while")));
            }
            State::Dialing | State::Down { .. } => wanted.waiting.push(done),
            State::Idle | State::Up { .. } => {
                wanted.waiting.push(done);
                self.dial(peer);
            }
        }
    }

    fn dial(&mut self, peer: PeerId) {
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        wanted.state = State::Dialing;
        let to = DialOpts::peer_id(peer).addresses(wanted.addresses.clone()).build();
        if let Err(error) = self.swarm.dial(to) {
            self.dial_failed(peer, &error);
        }
    }

    fn dial_failed(&mut self, peer: PeerId, error: &DialError) {
        if matches!(error, DialError::DialPeerConditionFalse(_)) {
            // Connected or being connected already; what comes of that decides.
            if self.swarm.is_connected(&peer) {
                self.established(peer);
            }
            return;
        }
        self.counters.count_failed_dial();
        let cause = explain(&peer, error);
        tracing::debug!(%peer, %cause, "could not connect");
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        wanted.failures = wanted.failures.saturating_add(1);
        for waiting in wanted.waiting.drain(..) {
            let _ = waiting.send(Err(cause.clone()));
        }
        let retry = Instant::now() + backoff::pause(wanted.failures, rand::random());
        wanted.state = State::Down { cause, retry };
    }

    fn next_retry(&self) -> Option<Instant> {
        let retries = self.wanted.values().filter_map(|wanted| match wanted.state {
            State::Down { retry, .. } => Some(retry),
            State::Idle | State::Dialing | State::Up { .. } => None,
        });
        retries.min()
    }

    fn retry(&mut self) {
        let now = Instant::now();
        self.wanted.retain(|_, wanted| wanted.until > now || !matches!(wanted.state, State::Down { .. }));
        let due = |wanted: &Wanted| matches!(wanted.state, State::Down { retry, .. } if retry <= now);
        let due: Vec<_> = self.wanted.iter().filter(|(_, wanted)| due(wanted)).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.dial(peer);
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
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.established(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.closed(peer_id);
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => self.dial_failed(peer, &error),
            SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                tracing::error!(?addresses, %error, "the link no longer listens there");
            }
            _ => {}
        }
    }

    fn established(&mut self, peer: PeerId) {
        self.counters.count_connection();
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        let now = Instant::now();
        wanted.heard = now;
        if !matches!(wanted.state, State::Up { .. }) {
            wanted.state = State::Up { since: now };
        }
        for waiting in wanted.waiting.drain(..) {
            let _ = waiting.send(Ok(()));
        }
    }

    fn closed(&mut self, peer: PeerId) {
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        let State::Up { since } = wanted.state else { return };
        wanted.failures = if since.elapsed() < STABLE_AFTER { wanted.failures.saturating_add(1) } else { 0 };
        if wanted.addresses.is_empty() {
            self.wanted.remove(&peer);
            return;
        }
        let retry = Instant::now() + backoff::pause(wanted.failures, rand::random());
        wanted.state = State::Down { cause: "the connection was lost".to_owned(), retry };
    }

    fn pinged(&mut self, peer: PeerId, connection: ConnectionId, result: Result<Duration, ping::Failure>) {
        match result {
            Ok(_) => self.heard(peer),
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
        let result = gossip::check(&body, &topic, now).and_then(|()| {
            // Strict validation leaves nothing without a source.
            let peer = source.unwrap_or(from).to_string();
            self.deliver(from, InboundFrame { peer, via: Via::Topic(topic), body })
        });
        let acceptance = match result {
            Ok(()) => MessageAcceptance::Accept,
            Err(dropped) => {
                tracing::debug!(peer = %from, reason = dropped.code(), "broadcast dropped");
                self.counters.count_dropped(dropped);
                gossip::verdict(dropped)
            }
        };
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, &from, acceptance);
    }

    /// Never waits: who takes these may be waiting for this task itself.
    fn deliver(&mut self, from: PeerId, frame: InboundFrame) -> Result<(), Dropped> {
        let waiting = self.frames.max_capacity() - self.frames.capacity();
        let crowded = frame.body.len() > LONG && waiting >= FEW;
        if !crowded && self.frames.try_send(frame).is_ok() {
            return Ok(());
        }
        if may_warn(&mut self.warned, Instant::now()) {
            tracing::warn!(peer = %from, "messages are dropped: more arrive than are taken");
        }
        Err(Dropped::QueueFull)
    }

    fn frame_event(&mut self, event: FrameEvent) {
        match event {
            FrameEvent::Arrived { peer, inbox, body: Body(body) } => {
                self.counters.count_frame_in();
                self.heard(peer);
                let frame = InboundFrame { peer: peer.to_string(), via: Via::Inbox(inbox), body };
                if let Err(dropped) = self.deliver(peer, frame) {
                    self.counters.count_dropped(dropped);
                }
            }
            FrameEvent::Broken { peer, error } => {
                tracing::debug!(%peer, %error, "a stream brought no message");
                self.counters.count_dropped(error.reason());
            }
            FrameEvent::Sent { id } => {
                self.counters.count_frame_out();
                self.sent(id, Ok(()));
            }
            FrameEvent::Failed { peer, id, failure, untouched } => {
                if matches!(failure, SendFailure::Timeout) {
                    self.cut(peer);
                }
                let cause = failure.to_string();
                self.sent(id, Err(if untouched { SendError::NotSent { cause } } else { SendError::Unknown { cause } }));
            }
        }
    }

    fn sent(&mut self, id: SendId, result: Result<(), SendError>) {
        if let Some(done) = self.sending.remove(&id) {
            let _ = done.send(result);
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

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn explain(peer: &PeerId, error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            format!("at {address} answers {obtained}, not {peer}: the address belongs to another node")
        }
        DialError::NoAddresses => "no address is known".to_owned(),
        DialError::LocalPeerId { address } => format!("{address} is this process itself"),
        DialError::Transport(attempts) => {
            let attempts = attempts.iter().map(|(address, error)| format!("{address}: {}", root_cause(error)));
            attempts.collect::<Vec<_>>().join("; ")
        }
        other => root_cause(other),
    }
}

/// What lies at the bottom of an error: transports wrap it several times and print only the wrapping.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string).unwrap_or_default()
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
