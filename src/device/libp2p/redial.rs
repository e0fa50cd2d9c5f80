//! Which peers are connected to: on demand, and again after a loss, at growing pauses.

use std::time::Duration;

use libp2p::swarm::DialError;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::backoff;
use super::task::Task;

/// How long after its last use a lost connection is still set up again, so that replies under way find us.
const WANTED_FOR: Duration = Duration::from_mins(5);
/// A connection that lived shorter than this counts as a failed attempt.
const STABLE_AFTER: Duration = Duration::from_secs(10);
/// A request waits this long for the next attempt to connect; if that is later, it fails at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// A peer that was asked for.
pub(super) struct Wanted {
    addresses: Vec<Multiaddr>,
    until: Instant,
    state: State,
    failures: u32,
    pub(super) heard: Instant,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

enum State {
    Idle,
    Dialing,
    Up { since: Instant },
    Down { cause: String, retry: Instant },
}

impl Wanted {
    fn new(now: Instant, connected: bool) -> Self {
        Self {
            addresses: Vec::new(),
            until: now,
            state: if connected { State::Up { since: now } } else { State::Idle },
            failures: 0,
            heard: now,
            waiting: Vec::new(),
        }
    }

    /// Whether it is known where to dial it.
    pub(super) const fn is_dialled(&self) -> bool {
        !self.addresses.is_empty()
    }
}

impl Task {
    /// Notes that a peer is used, and where it is reached. Says whether it is connected.
    pub(super) fn want(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) -> bool {
        let now = Instant::now();
        let connected = self.swarm.is_connected(&peer);
        // Anybody can be named as whom to answer; nobody is looked for on that account.
        if !connected && addresses.is_empty() && !self.wanted.contains_key(&peer) {
            return false;
        }
        let wanted = self.wanted.entry(peer).or_insert_with(|| Wanted::new(now, connected));
        wanted.until = now + WANTED_FOR;
        // A reply to a caller whose address is not known must not make us forget where to dial it.
        if !addresses.is_empty() && wanted.addresses != addresses {
            wanted.addresses = addresses;
            wanted.failures = 0;
            if matches!(wanted.state, State::Down { .. }) {
                wanted.state = State::Idle;
            }
        }
        connected
    }

    pub(super) fn connect(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        done: oneshot::Sender<Result<(), String>>,
    ) {
        if self.want(peer, addresses) {
            let _ = done.send(Ok(()));
            return;
        }
        let Some(wanted) = self.wanted.get_mut(&peer) else {
            let _ = done.send(Err("it is not connected, and no address of it is given".to_owned()));
            return;
        };
        match &wanted.state {
            State::Down { cause, retry } if *retry > Instant::now() + PATIENCE => {
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

    pub(super) fn dial_failed(&mut self, peer: PeerId, error: &DialError) {
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
        if wanted.addresses.is_empty() {
            self.wanted.remove(&peer);
            return;
        }
        let retry = Instant::now() + backoff::pause(wanted.failures, rand::random());
        wanted.state = State::Down { cause, retry };
        self.redial_at(retry);
    }

    /// Leaves a peer that could not be reached alone until somebody asks for it again.
    pub(super) fn forget(&mut self, peer: PeerId) {
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        match wanted.state {
            State::Down { .. } if wanted.waiting.is_empty() => drop(self.wanted.remove(&peer)),
            State::Down { .. } | State::Dialing => wanted.until = Instant::now(),
            State::Idle | State::Up { .. } => {}
        }
    }

    /// Dials those whose pause is over.
    pub(super) fn redial(&mut self) {
        let now = Instant::now();
        self.wanted.retain(|_, wanted| wanted.until > now || !matches!(wanted.state, State::Down { .. }));
        let due = |wanted: &Wanted| matches!(wanted.state, State::Down { retry, .. } if retry <= now);
        let due: Vec<_> = self.wanted.iter().filter(|(_, wanted)| due(wanted)).map(|(peer, _)| *peer).collect();
        let next = |wanted: &Wanted| match wanted.state {
            State::Down { retry, .. } if retry > now => Some(retry),
            State::Idle | State::Dialing | State::Up { .. } | State::Down { .. } => None,
        };
        self.redial = self.wanted.values().filter_map(next).min();
        for peer in due {
            self.dial(peer);
        }
    }

    fn redial_at(&mut self, retry: Instant) {
        self.redial = Some(self.redial.map_or(retry, |earlier| earlier.min(retry)));
    }

    pub(super) fn established(&mut self, peer: PeerId) {
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

    pub(super) fn closed(&mut self, peer: PeerId) {
        let Some(wanted) = self.wanted.get_mut(&peer) else { return };
        let State::Up { since } = wanted.state else { return };
        wanted.failures = if since.elapsed() < STABLE_AFTER { wanted.failures.saturating_add(1) } else { 0 };
        if wanted.addresses.is_empty() {
            self.wanted.remove(&peer);
            return;
        }
        let retry = Instant::now() + backoff::pause(wanted.failures, rand::random());
        wanted.state = State::Down { cause: "the connection was lost".to_owned(), retry };
        self.redial_at(retry);
    }
}

fn explain(peer: &PeerId, error: &DialError) -> String {
    match error {
        DialError::WrongPeerId { obtained, address } => {
            format!("at {address} answers {obtained}, not {peer}: the address belongs to another node")
        }
        DialError::NoAddresses => "no address is known".to_owned(),
        DialError::LocalPeerId { address } => format!("{address} is this process itself"),
        DialError::Denied { .. } => {
            "it sent too much that was no message, or has connections enough, so it is not talked to for a while"
                .to_owned()
        }
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
