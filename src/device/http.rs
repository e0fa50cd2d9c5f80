//! [`HttpClient`]: asks an actor over HTTP what is asked over libp2p otherwise. The body of a request is the signed
//! envelope, and that of the answer is the reply's, so the transport is trusted with nothing.

use std::{
    error::Error as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::{
    CallError, DeviceTarget,
    libp2p::{AHEAD, random, tokens},
};
use crate::capability::{ActorId, Did, Envelope, Handle, Key, MAX_ENVELOPE, Nanos, on_one_line};

/// Where an actor takes envelopes, below the address of its service.
pub const ACTOR: &str = "v1/actor";
/// How much is shown of what an actor says that is no envelope.
const LONGEST_REASON: usize = 300;

/// A client of one actor.
#[derive(Debug)]
pub struct HttpClient {
    url: Url,
    key: Key,
    client: Client,
    nonce: AtomicU64,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The text is no address of a service.
    #[error(
        "{0:?} is not the address of a service: write it as https://hosting.example.org, without name, password, ? and #"
    )]
    Url(String),
    /// It does not say who it is.
    #[error("{url} does not say who it is: {cause}")]
    Unknown {
        /// What was asked.
        url: String,
        /// What it said.
        cause: String,
    },
    /// No client can be made here.
    #[error("no connection can be made from here: {0}")]
    Local(#[from] reqwest::Error),
}

/// Why an actor gave no signed reply.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// As over any other way.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The service turned the request away, in words that nobody signed.
    #[error("the service answered {status}: {message}")]
    Denied {
        /// The status of HTTP.
        status: u16,
        /// What it says, on one line.
        message: String,
    },
}

impl HttpClient {
    /// A client of the actor below `service` that signs with `key`.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn new(service: &str, key: Key) -> Result<Self, HttpError> {
        Ok(Self { url: actor_of(service)?, key, client: client()?, nonce: AtomicU64::new(now().0) })
    }

    /// Asks one behaviour and returns the reply, verified to come from `target` and to answer this request. The addresses
    /// of `target` are of no use here.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: &Value,
        wait: Duration,
    ) -> Result<Envelope, AskError> {
        let did = target.did.to_string();
        let started = Instant::now();
        let silent =
            || CallError::Silent { did: did.clone(), behaviour: behaviour.to_owned(), waited: started.elapsed() };
        let bad = |cause: String| CallError::BadReply { did: did.clone(), behaviour: behaviour.to_owned(), cause };
        let continuation = format!("/dms/actor/replyto/{}", hex::encode(random::<16>(target)?));
        let envelope = self.envelope(target, behaviour, request, &continuation, now().plus(wait + AHEAD))?;
        let sending = self.client.post(self.url.clone()).body(envelope.to_json()).send();
        let asked = async {
            let response = sending.await.map_err(|error| {
                if error.is_connect() {
                    CallError::NotSent { did: did.clone(), cause: causes(&error) }
                } else {
                    silent()
                }
            })?;
            let status = response.status();
            let body = body(response).await.map_err(|error| {
                let too_long = || bad("it is too long".to_owned());
                error.map_or_else(too_long, |_| silent())
            })?;
            match status {
                StatusCode::OK => Ok(body),
                StatusCode::NO_CONTENT => Err(silent().into()),
                other => Err(AskError::Denied { status: other.as_u16(), message: words(&body) }),
            }
        };
        let body = timeout_at(started + wait, asked).await.map_err(|_| silent())??;
        Ok(read(&body, self.key.did(), &target.did, &continuation).map_err(bad)?)
    }

    fn envelope(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: &Value,
        continuation: &str,
        expires: Nanos,
    ) -> Result<Envelope, CallError> {
        let own = self.key.did();
        let envelope = Envelope {
            to: Handle::root_of(&target.did),
            behaviour: behaviour.to_owned(),
            // Nobody is reached there; the reply is the answer to the request.
            from: Handle::of(own, Some(own.peer_id()), Some("user".to_owned())),
            nonce: self.nonce.fetch_add(1, Ordering::Relaxed),
            expires,
            continuation: Some(continuation.to_owned()),
            topic: None,
            message: request.to_string().into_bytes(),
            capabilities: tokens(&self.key, target, behaviour, Some(continuation), expires)?,
            signature: None,
        };
        Ok(envelope.sign(&self.key))
    }
}

fn actor_of(service: &str) -> Result<Url, HttpError> {
    let wrong = || HttpError::Url(service.to_owned());
    let mut url = Url::parse(service).map_err(|_| wrong())?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !bare || url.fragment().is_some() {
        return Err(wrong());
    }
    url.path_segments_mut().map_err(|()| wrong())?.pop_if_empty().extend(ACTOR.split('/'));
    Ok(url)
}

/// It follows nobody elsewhere: an answer is for the one who was asked to give it.
fn client() -> Result<Client, reqwest::Error> {
    let client = Client::builder().redirect(redirect::Policy::none()).referer(false);
    client.user_agent(concat!("dms-operator/", env!("CARGO_PKG_VERSION"))).build()
}

/// The DID that the actor of a service says it has. Nothing proves it.
///
/// # Errors
/// [`HttpError`].
pub async fn did_of(service: &str, within: Duration) -> Result<Did, HttpError> {
    #[derive(Deserialize)]
    struct Introduction {
        did: Did,
    }
    let url = actor_of(service)?;
    let unknown = |cause: String| HttpError::Unknown { url: url.to_string(), cause };
    let response = client()?.get(url.clone()).timeout(within).send().await.map_err(|error| unknown(causes(&error)))?;
    let status = response.status();
    let body = body(response).await.map_err(|_| unknown("what it says cannot be read".to_owned()))?;
    if status != StatusCode::OK {
        return Err(unknown(format!("it says {status}: {}", words(&body))));
    }
    let said: Introduction = serde_json::from_slice(&body).map_err(|error| unknown(error.to_string()))?;
    Ok(said.did)
}

/// The reply, or what is wrong with it.
fn read(body: &[u8], own: &Did, asked: &Did, continuation: &str) -> Result<Envelope, String> {
    let reply = Envelope::parse(body).map_err(|refusal| refusal.message)?;
    if reply.to.id != ActorId::of(own) {
        return Err("it is addressed to somebody else".to_owned());
    }
    if reply.behaviour != continuation {
        return Err("it answers another request".to_owned());
    }
    if reply.from.id != ActorId::of(asked) {
        return Err(format!(
            "it is from {}",
            reply.from.id.did().map_or("an unknown key".to_owned(), |did| did.to_string())
        ));
    }
    reply.verify(now()).map_err(|refusal| refusal.message)?;
    Ok(reply)
}

/// The body, or how reading it failed; `None`: it is longer than an envelope may be.
async fn body(mut response: Response) -> Result<Vec<u8>, Option<reqwest::Error>> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(Some)? {
        if body.len() + piece.len() > MAX_ENVELOPE {
            return Err(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// What a service says that is no envelope, on one line and without what a terminal obeys.
fn words(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_slice(body).map(|Said { message }| message);
    let text = said.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    on_one_line(&text.trim().chars().take(LONGEST_REASON).collect::<String>())
}

/// The error without the address, which stands in the sentence already.
fn causes(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(error.source(), |&error| error.source());
    let words: Vec<_> = causes.map(ToString::to_string).collect();
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

#[cfg(test)]
mod tests;
