//! [`Broadcaster`]: tells everybody who listens to a topic something, or one actor, and awaits no answer.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    capability::{
        Capability, Did, Envelope, Handle, Key, MAX_CAPABILITIES, MintError, Minting, Nanos, PathError, Token,
        token_list,
    },
    device::{
        dms::{AnchorRequest, TokenList, path},
        libp2p::{Link, PublishError, SendError, WeakLink},
        random,
    },
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

/// What one actor is told.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// Whom.
    pub to: &'a Did,
    /// Peer ID of the node where it listens.
    pub host: &'a str,
    /// Its inbox there.
    pub inbox: &'a str,
    /// The behaviour by which it takes the message.
    pub behaviour: &'a Capability,
    /// The payload.
    pub message: &'a Value,
    /// Its own delegation of that behaviour.
    pub right: &'a Token,
}

/// Why nobody was told.
#[derive(Debug, thiserror::Error)]
pub enum BroadcastError {
    /// The token that goes with it could not be made.
    #[error("the right to broadcast could not be written down")]
    Mint(#[from] MintError),
    /// A name in it is no capability.
    #[error("it could not be named")]
    Path(#[from] PathError),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
    /// The link has ended, or nobody could be told.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// It is not connected, or took too long.
    #[error(transparent)]
    Send(#[from] SendError),
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

    /// Tells those who listen for it what was taken back, as [`Self::tell`] does.
    ///
    /// # Errors
    /// [`BroadcastError`]. Nobody was told then.
    pub async fn tell_of_revocations(
        &self,
        token: TokenList,
        grants: &[Token],
        now: Nanos,
    ) -> Result<(), BroadcastError> {
        let topic = Capability::parse(path::TOPIC_REVOCATION)?;
        let behaviour = Capability::parse(path::CAP_REVOKE_BROADCAST)?;
        let message = json!(AnchorRequest { token });
        self.tell(Said { topic: &topic, behaviour: &behaviour, message: &message }, grants, now).await
    }

    /// Tells one actor that is connected; nobody is dialled. Whether it took it is not known.
    ///
    /// # Errors
    /// [`BroadcastError`]; as a rule it was not told then.
    pub async fn tell_one(&self, letter: Letter<'_>, now: Nanos, within: Duration) -> Result<(), BroadcastError> {
        let Letter { to, host, inbox, behaviour, message, right } = letter;
        let expires = now.plus(HOLDS).min(right.not_after());
        let minting = Minting {
            subject: self.key.did().clone(),
            audience: Some(to.clone()),
            capabilities: vec![behaviour.clone()],
            topics: Vec::new(),
            expires,
            depth: 0,
            nonce: random().map_err(BroadcastError::Random)?,
        };
        let envelope = Envelope {
            to: Handle::of(to, Some(host.to_owned()), Some(inbox.to_owned())),
            behaviour: behaviour.to_string(),
            from: self.from.clone(),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            expires,
            continuation: None,
            topic: None,
            message: message.to_string().into_bytes(),
            capabilities: token_list(&[Token::invoke(&self.key, minting, Some(right))?]),
            signature: None,
        };
        let Some(link) = self.link.upgrade() else {
            return Err(SendError::NotSent { cause: "the link has stopped".to_owned() }.into());
        };
        Ok(link.send(host, &[], inbox, envelope.sign(&self.key).to_json(), within).await?)
    }

    fn rights(&self, said: Said<'_>, grants: &[Token], expires: Nanos) -> Result<Vec<u8>, BroadcastError> {
        let right = |chain: Option<&Token>| {
            let minting = Minting {
                subject: self.key.did().clone(),
                audience: None,
                capabilities: vec![said.behaviour.clone()],
                topics: vec![said.topic.clone()],
                expires: chain.map_or(expires, |grant| expires.min(grant.not_after())),
                depth: 0,
                nonce: random().map_err(BroadcastError::Random)?,
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
