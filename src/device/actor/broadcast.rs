//! [`Broadcaster`]: tells everybody who listens to a topic something, as a DMS does.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;

use crate::{
    capability::{Capability, Envelope, Handle, Key, MAX_CAPABILITIES, MintError, Minting, Nanos, Token, token_list},
    device::libp2p::{Link, PublishError, WeakLink},
};

/// How long a broadcast holds: nodes pass it on, and their clocks differ.
const HOLDS: Duration = Duration::from_mins(1);

/// What is said, and where.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// The topic.
    pub topic: &'a Capability,
    /// The behaviour by which those who listen take it.
    pub behaviour: &'a Capability,
    /// The payload.
    pub message: &'a Value,
}

/// Why nobody was told a broadcast.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The token that goes with it could not be made.
    #[error("the right to broadcast could not be written down")]
    Mint(#[from] MintError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The link has ended, or nobody could be told.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Broadcasts under one key. It keeps no link running.
#[derive(Debug)]
pub struct Broadcaster {
    link: WeakLink,
    from: Handle,
    key: Key,
    nonce: AtomicU64,
}

impl Broadcaster {
    /// One that publishes over `link`, with `now` as its first nonce.
    #[must_use]
    pub fn new(link: &Link, key: Key, now: Nanos) -> Self {
        let from = Handle::of(key.did(), Some(link.peer_id().to_owned()), link.inboxes().first().cloned());
        Self { link: link.downgrade(), from, key, nonce: AtomicU64::new(now.0) }
    }

    /// Tells it to those who listen. It carries the own right, for nodes that have this key as a root, and what each of
    /// `grants` adds to it, as long as there is room. Nobody answers, so whether a node took it is not known.
    ///
    /// # Errors
    /// [`BroadcastError`]. Nobody was told then.
    pub async fn tell(&self, said: Said<'_>, grants: &[Token], now: Nanos) -> Result<(), BroadcastError> {
        let Said { topic, behaviour, message } = said;
        let expires = now.plus(HOLDS);
        let envelope = Envelope {
            to: Handle::default(),
            behaviour: behaviour.to_string(),
            from: self.from.clone(),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            expires,
            continuation: None,
            topic: Some(topic.to_string()),
            message: message.to_string().into_bytes(),
            capabilities: self.rights(said, grants, expires)?,
            signature: None,
        };
        let Some(link) = self.link.upgrade() else {
            let cause = "the link has stopped".to_owned();
            return Err(PublishError::NotSent { topic: topic.to_string(), cause }.into());
        };
        Ok(link.publish(topic.as_str(), envelope.sign(&self.key).to_json()).await?)
    }

    fn rights(&self, said: Said<'_>, grants: &[Token], expires: Nanos) -> Result<Vec<u8>, BroadcastError> {
        let right = |chain: Option<&Token>| {
            let mut nonce = [0; 12];
            getrandom::fill(&mut nonce).map_err(BroadcastError::Random)?;
            let minting = Minting {
                subject: self.key.did().clone(),
                audience: None,
                capabilities: vec![said.behaviour.clone()],
                topics: vec![said.topic.clone()],
                expires: chain.map_or(expires, |grant| expires.min(grant.not_after())),
                depth: 0,
                nonce,
            };
            Token::broadcast(&self.key, minting, chain).map_err(BroadcastError::from)
        };
        let mut rights = vec![right(None)?];
        let mut list = token_list(&rights);
        for grant in grants {
            // Most grants say nothing of broadcasts.
            let Ok(more) = right(Some(grant)) else { continue };
            rights.push(more);
            let longer = token_list(&rights);
            if longer.len() > MAX_CAPABILITIES {
                break;
            }
            list = longer;
        }
        Ok(list)
    }
}
