//! [`DmsClient`]: asks behaviours of devices over a [`Link`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::behaviour::Opening;
use super::breaker::Breakers;
use super::link::{InboundFrame, Link, MAX_BODY_SENT, SendError, WeakLink};
use super::pending::{Expected, Pending};
use super::spoil::Spoil;
use crate::capability::{
    Action, Capability, Envelope, Handle, Key, MAX_CAPABILITIES, Minting, Nanos, Token, token_list,
};
use crate::device::actor::Actor;
use crate::device::dms::path::{self, DEPLOYMENT_NEW, DEPLOYMENT_UPDATE, ROOT_INBOX};
use crate::device::{CallError, DeviceClient, DeviceTarget, PreparedCall};

/// How long a reply is still awaited after the connection broke under the request: a node that lost us looks for us for
/// three seconds.
const AFTER_LOSS: Duration = Duration::from_secs(5);

/// How far the clock of a device may be ahead of ours: it drops what has expired, by its own clock, without a word.
pub(in crate::device) const AHEAD: Duration = Duration::from_secs(30);

/// A client of DMS nodes.
///
/// One inbox serves all calls; what tells replies apart is the continuation, which has 128 random bits. A reply is accepted
/// once, and only if it comes over the connection of the device asked, is signed by its key, is addressed to this client
/// and has not expired. Everything else is counted in [`Link::counters`] and dropped.
#[derive(Debug)]
pub struct DmsClient {
    link: Link,
    key: Key,
    inbox: String,
    nonce: AtomicU64,
    pending: Arc<Pending>,
    breakers: Arc<Breakers>,
}

impl DmsClient {
    /// A client that sends with `link` and takes the replies out of `arrived`, both of one [`Link::start`]. Replies come to
    /// the first inbox of the link. `key` signs; it may be another than that of the link, since a request names as its host
    /// the peer that the connection proves, and a node holds only these two against each other.
    pub fn new(link: Link, arrived: mpsc::Receiver<InboundFrame>, key: Key) -> Self {
        Self::start(link, arrived, key, None)
    }

    /// The same, and what comes to another inbox than the first, or to a topic, goes to `actor`.
    pub fn beside(actor: Actor, link: Link, arrived: mpsc::Receiver<InboundFrame>, key: Key) -> Self {
        Self::start(link, arrived, key, Some(actor))
    }

    fn start(link: Link, arrived: mpsc::Receiver<InboundFrame>, key: Key, actor: Option<Actor>) -> Self {
        // proven: a link without an inbox is not started.
        let inbox = link.inboxes().first().cloned().unwrap_or_default();
        let pending = Arc::new(Pending::new(inbox.clone(), key.did()));
        tokio::spawn(take(pending.clone(), actor, arrived, link.downgrade()));
        Self { link, key, inbox, nonce: AtomicU64::new(now().0), pending, breakers: Arc::default() }
    }

    /// The link that is sent with.
    pub const fn link(&self) -> &Link {
        &self.link
    }

    /// Tells a device something and awaits no reply. Success means written: whether the device took it is not known.
    ///
    /// # Errors
    /// [`CallError`]; `Silent` when the message may have been lost on its way.
    pub async fn tell(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        message: &Value,
        wait: Duration,
    ) -> Result<(), CallError> {
        let expires = self.expiry(target, behaviour, wait + AHEAD)?;
        let frame = self.signed(target, behaviour, message, expires, None)?.to_json();
        check_length(target, &frame)?;
        let peer = target.did.peer_id();
        let started = Instant::now();
        match self
            .link
            .send_opening((&peer, &target.addresses), ROOT_INBOX, frame, opening(behaviour), wait, Spoil::None)
            .await
        {
            Ok(()) => Ok(()),
            Err(SendError::NotSent { cause }) => Err(not_sent(target, cause)),
            Err(SendError::Unknown { .. }) => Err(CallError::Silent {
                did: target.did.to_string(),
                behaviour: behaviour.to_owned(),
                waited: started.elapsed(),
            }),
        }
    }

    /// Asks one behaviour as [`DeviceClient::call`] does, and returns the whole reply: who asked may want to see by what right
    /// it came.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn ask(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        wait: Duration,
    ) -> Result<Envelope, CallError> {
        let call = self.prepare(target, behaviour, request, wait + AHEAD)?;
        self.send_for_reply(target, behaviour, call, wait).await
    }

    async fn send_for_reply(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        call: PreparedCall,
        wait: Duration,
    ) -> Result<Envelope, CallError> {
        let PreparedCall { nonce: _, expires, frame, continuation } = call;
        let left = expires.since(now());
        if left.is_zero() {
            return Err(not_sent(target, "the request has expired"));
        }
        let Some(mut expected) = self.pending.expect(&continuation, &target.did) else {
            return Err(not_sent(target, "the same request is under way already"));
        };
        let started = Instant::now();
        let pass = self.breakers.admit(&target.did, started).map_err(|alone| not_sent(target, alone.to_string()))?;
        // A reply carries the expiry of its request: past that, none can be valid.
        let reply = self.exchange(target, &mut expected, frame, opening(behaviour), wait.min(left)).await?;
        match &reply {
            Some(_) => pass.answered(),
            None => pass.silent(Instant::now(), rand::random()),
        }
        reply.ok_or_else(|| CallError::Silent {
            did: target.did.to_string(),
            behaviour: behaviour.to_owned(),
            waited: started.elapsed(),
        })
    }

    fn signed(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        message: &Value,
        expires: Nanos,
        continuation: Option<String>,
    ) -> Result<Envelope, CallError> {
        let capabilities = tokens(&self.key, target, behaviour, continuation.as_deref(), expires)?;
        let envelope = Envelope {
            to: Handle::root_of(&target.did),
            behaviour: behaviour.to_owned(),
            from: Handle::of(self.key.did(), Some(self.link.peer_id().to_owned()), Some(self.inbox.clone())),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            expires,
            continuation,
            topic: None,
            message: if message.is_null() { Vec::new() } else { message.to_string().into_bytes() },
            capabilities,
            signature: None,
        };
        Ok(envelope.sign(&self.key))
    }

    /// When a request that shall live for `expires_in` expires: no later than the grant, since no token may outlive what
    /// it hangs on.
    fn expiry(&self, target: &DeviceTarget, behaviour: &str, expires_in: Duration) -> Result<Nanos, CallError> {
        let now = now();
        let wanted = now.plus(expires_in);
        let Some(grant) = &target.grant else { return Ok(wanted) };
        check_grant(grant, &self.key, target, behaviour, now).map_err(|cause| not_granted(target, behaviour, cause))?;
        Ok(wanted.min(grant.not_after()))
    }

    async fn exchange(
        &self,
        target: &DeviceTarget,
        expected: &mut Expected,
        frame: Vec<u8>,
        opening: Opening,
        wait: Duration,
    ) -> Result<Option<Envelope>, CallError> {
        let peer = target.did.peer_id();
        let sending = self.link.send_opening((&peer, &target.addresses), ROOT_INBOX, frame, opening, wait, Spoil::None);
        tokio::pin!(sending);
        let mut deadline = Instant::now() + wait;
        let mut sent = false;
        loop {
            tokio::select! {
                biased;
                reply = &mut expected.reply => return Ok(reply.ok()),
                result = &mut sending, if !sent => match result {
                    Ok(()) => sent = true,
                    Err(SendError::NotSent { cause }) => return Err(not_sent(target, cause)),
                    Err(SendError::Unknown { cause }) => {
                        tracing::debug!(device = %target.did, %cause, "a request may have been lost");
                        sent = true;
                        deadline = deadline.min(Instant::now() + AFTER_LOSS);
                    }
                },
                () = sleep_until(deadline), if sent => {
                    self.link.suspect(&peer).await;
                    return Ok(None);
                }
            }
        }
    }
}

#[async_trait]
impl DeviceClient for DmsClient {
    async fn call(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        wait: Duration,
    ) -> Result<Value, CallError> {
        let call = self.prepare(target, behaviour, request, wait + AHEAD)?;
        self.send(target, behaviour, call, wait).await
    }

    fn prepare(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        expires_in: Duration,
    ) -> Result<PreparedCall, CallError> {
        let expires = self.expiry(target, behaviour, expires_in)?;
        let continuation = format!("/dms/actor/replyto/{}", hex::encode(random::<16>(target)?));
        let envelope = self.signed(target, behaviour, &request, expires, Some(continuation.clone()))?;
        let (nonce, frame) = (envelope.nonce, envelope.to_json());
        check_length(target, &frame)?;
        Ok(PreparedCall { nonce, expires, frame, continuation })
    }

    async fn send(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        call: PreparedCall,
        wait: Duration,
    ) -> Result<Value, CallError> {
        let Envelope { message, .. } = self.send_for_reply(target, behaviour, call, wait).await?;
        if message.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&message).map_err(|error| CallError::BadReply {
            did: target.did.to_string(),
            behaviour: behaviour.to_owned(),
            cause: error.to_string(),
        })
    }
}

/// What a DMS attaches: invocations, chained on the grant and self-signed, and what lets the device reply.
pub(in crate::device) fn tokens(
    key: &Key,
    target: &DeviceTarget,
    behaviour: &str,
    continuation: Option<&str>,
    expires: Nanos,
) -> Result<Vec<u8>, CallError> {
    let path = |text: &str| {
        Capability::parse(text).map_err(|error| not_sent(target, format!("{text:?} is no behaviour: {error}")))
    };
    let own = key.did();
    let minting = |subject, audience, capability, depth| {
        random(target).map(|nonce| Minting {
            subject,
            audience: Some(audience),
            capabilities: vec![capability],
            topics: Vec::new(),
            expires,
            depth,
            nonce,
        })
    };
    let invoking = path(behaviour)?;
    let mut tokens = Vec::with_capacity(3);
    if let Some(grant) = &target.grant {
        let minting = minting(own.clone(), target.did.clone(), invoking.clone(), 0)?;
        let chained = Token::invoke(key, minting, Some(grant));
        tokens.push(chained.map_err(|error| not_granted(target, behaviour, error.to_string()))?);
    }
    let unchained = minting(own.clone(), target.did.clone(), invoking, 0)?;
    // proven: a token without a chain above it is refused only when it gives nothing.
    tokens.push(Token::invoke(key, unchained, None).map_err(|error| not_sent(target, error.to_string()))?);
    if let Some(continuation) = continuation {
        let reply = minting(target.did.clone(), own.clone(), path(continuation)?, 1)?;
        tokens.push(Token::delegate(key, reply, None).map_err(|error| not_sent(target, error.to_string()))?);
    }
    let list = token_list(&tokens);
    if list.len() > MAX_CAPABILITIES {
        let cause = format!("with it the request carries {} bytes of tokens, more than {MAX_CAPABILITIES}", list.len());
        return Err(not_granted(target, behaviour, cause));
    }
    Ok(list)
}

/// Passes on what arrives until the link stops. Who only takes from it does not keep it running.
async fn take(pending: Arc<Pending>, actor: Option<Actor>, mut arrived: mpsc::Receiver<InboundFrame>, link: WeakLink) {
    while let Some(frame) = arrived.recv().await {
        if let (Some(actor), false) = (&actor, pending.is_for(&frame.via)) {
            actor.receive(frame);
            continue;
        }
        if let Err(reason) = pending.accept(&frame, now()) {
            tracing::debug!(peer = %frame.peer, reason = reason.code(), "message dropped");
            let Some(link) = link.upgrade() else { return };
            link.counters().count_dropped(reason);
            link.complain(&frame.peer, reason).await;
        }
    }
}

/// How a request is opened. What would be done twice if a refusal were taken for silence asks first.
fn opening(behaviour: &str) -> Opening {
    match behaviour {
        DEPLOYMENT_NEW | DEPLOYMENT_UPDATE => Opening::Asked,
        _ => Opening::Assumed,
    }
}

/// Tests what can be tested without the device, which would only be silent. Says what is wrong.
fn check_grant(grant: &Token, key: &Key, target: &DeviceTarget, behaviour: &str, now: Nanos) -> Result<(), String> {
    if grant.action() != Action::Delegate {
        return Err("it is not a token to delegate".to_owned());
    }
    if grant.subject() != key.did() {
        return Err(format!("it is for {}, not for {}", grant.subject(), key.did()));
    }
    if let Some(audience) = grant.audience().filter(|audience| **audience != target.did) {
        return Err(format!("it is for use at {audience}"));
    }
    if !path::allows(grant.capabilities(), behaviour) {
        let granted = grant.capabilities().iter().map(Capability::as_str).collect::<Vec<_>>().join(", ");
        return Err(format!("it allows {granted}"));
    }
    if grant.not_after() < now {
        return Err(format!("it expired at {}", grant.not_after()));
    }
    Ok(())
}

fn check_length(target: &DeviceTarget, frame: &[u8]) -> Result<(), CallError> {
    if frame.len() <= MAX_BODY_SENT {
        return Ok(());
    }
    let cause = format!("the request has {} bytes, more than a node takes ({MAX_BODY_SENT})", frame.len());
    Err(not_sent(target, cause))
}

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

pub(in crate::device) fn random<const N: usize>(target: &DeviceTarget) -> Result<[u8; N], CallError> {
    crate::device::random().map_err(|error| not_sent(target, format!("the system gives no random bytes: {error}")))
}

fn not_sent(target: &DeviceTarget, cause: impl Into<String>) -> CallError {
    CallError::NotSent { did: target.did.to_string(), cause: cause.into() }
}

fn not_granted(target: &DeviceTarget, capability: &str, cause: impl Into<String>) -> CallError {
    CallError::NotGranted { did: target.did.to_string(), capability: capability.to_owned(), cause: cause.into() }
}
