//! What is said to the provider, and what of its answers is believed.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::CommandError;
use super::super::token::now;
use super::super::wallet::random;
use super::provider::{Provider, Route};
use super::terms::Terms;
use crate::api::door::{
    Answer, CHALLENGE, Challenge, ChallengeRequest, GRANT, GrantAction, GrantRequest, Granted, NOTICE, Refused,
    SIGNED_PREFIX,
};
use crate::capability::{Awaited, Capability, Envelope, Key, Minting, Nanos, Token, check_countersigned, on_one_line};
use crate::command::devices::client;
use crate::device::http::{AskError, HttpClient};
use crate::device::libp2p::DmsClient;
use crate::device::{CallError, DeviceTarget};

/// How long the provider may tell of deployments by the delegation that goes with a login: as long as a usual grant.
const NOTICES_FOR: Duration = Duration::from_hours(720);

/// Why there is no grant. Nothing was stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginError {
    /// The provider says no.
    #[error("the provider {provider} refused: {} ({})", printable(&refused.message), printable(&refused.reason))]
    Refused { provider: String, refused: Refused },
    /// What it says is not to be trusted.
    #[error(
        "{what} of the provider {provider} was not accepted: {}. Nothing was stored; tell its operator",
        printable(cause)
    )]
    Untrusted { what: &'static str, provider: String, cause: String },
    /// It says nothing.
    #[error(
        "the provider {provider} gave no answer within {}s. Check that it is the DID of who listens there, and that the \
         operator runs; nothing was stored", waited.as_secs()
    )]
    Silent { provider: String, waited: Duration },
    /// It could not be asked.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A way to the provider.
enum Way {
    Libp2p(Box<DmsClient>, DeviceTarget),
    Http(Box<HttpClient>, DeviceTarget),
}

impl Way {
    async fn ask(&self, behaviour: &str, request: &Value, wait: Duration) -> Result<Envelope, AskError> {
        match self {
            Self::Libp2p(client, target) => Ok(client.ask(target, behaviour, request.clone(), wait).await?),
            Self::Http(client, target) => client.ask(target, behaviour, request, wait).await,
        }
    }
}

/// A challenge that may be shown and signed.
#[derive(Debug)]
pub(super) struct Offered {
    pub(super) challenge: Challenge,
    /// What it says that is granted.
    pub(super) actions: BTreeSet<GrantAction>,
}

/// A login under way.
pub(super) struct Exchange<'a> {
    key: &'a Key,
    terms: &'a Terms,
    wait: Duration,
    ways: Vec<Way>,
}

impl<'a> Exchange<'a> {
    /// Makes ready to ask; nothing is sent yet.
    pub(super) async fn new(
        key: &'a Key,
        terms: &'a Terms,
        provider: &Provider,
        wait: Duration,
    ) -> Result<Self, CommandError> {
        let mut ways = Vec::new();
        for route in &provider.routes {
            let target = |addresses| DeviceTarget { did: provider.did.clone(), addresses, grant: None };
            ways.push(match route {
                Route::Libp2p(addresses) => Way::Libp2p(Box::new(client(key).await?), target(addresses.clone())),
                Route::Http(url) => {
                    let client = HttpClient::new(url, key.clone())
                        .map_err(|error| CommandError::because("the provider cannot be asked over HTTP", error))?;
                    Way::Http(Box::new(client), target(Vec::new()))
                }
            });
        }
        Ok(Self { key, terms, wait, ways })
    }

    /// Asks for a challenge, and checks what it says.
    pub(super) async fn challenge(&mut self) -> Result<Offered, LoginError> {
        let Terms { own, provider: _, namespace, actions } = self.terms;
        let request = ChallengeRequest {
            did: own.to_string(),
            namespace: namespace.clone(),
            actions: actions.iter().copied().collect(),
        };
        let challenge: Challenge = self.answer("the challenge", CHALLENGE, &request).await?;
        let fits = self.terms.check_challenge(&challenge, now());
        let actions = fits.map_err(|cause| self.untrusted("the challenge", cause))?;
        Ok(Offered { challenge, actions })
    }

    /// Signs a challenge that was checked, and fetches the grant.
    pub(super) async fn grant(&mut self, offered: &Offered) -> Result<Token, LoginError> {
        let Offered { challenge, actions } = offered;
        let signed = [SIGNED_PREFIX.as_bytes(), challenge.text.as_bytes()].concat();
        let notice = self.notice(now())?.to_json();
        let request = GrantRequest {
            state: challenge.state.clone(),
            signature: STANDARD.encode(self.key.sign(&signed)),
            notice: serde_json::from_slice(&notice).ok(),
        };
        let granted: Granted = self.answer("the grant", GRANT, &request).await?;
        self.terms.check_grant(actions, &granted, now()).map_err(|cause| self.untrusted("the grant", cause))
    }

    /// By this the provider may tell the owner what becomes of deployments, and nothing else.
    fn notice(&self, now: Nanos) -> Result<Token, CommandError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            CommandError::because("the right to send notices could not be written down", error)
        };
        let Terms { own, provider, namespace: _, actions: _ } = self.terms;
        let minting = Minting {
            subject: provider.clone(),
            audience: Some(own.clone()),
            capabilities: vec![Capability::parse(NOTICE).map_err(|error| failed(error.into()))?],
            topics: Vec::new(),
            expires: now.plus(NOTICES_FOR),
            depth: 1,
            nonce: random()?,
        };
        Token::delegate(self.key, minting, None).map_err(|error| failed(error.into()))
    }

    /// Asks by the first way on which the provider answers, and from then on by no other.
    async fn answer<T: DeserializeOwned>(
        &mut self,
        what: &'static str,
        behaviour: &str,
        request: &impl Serialize,
    ) -> Result<T, LoginError> {
        let request = serde_json::to_value(request)
            .map_err(|error| CommandError::because("the request has no JSON form", error))?;
        let mut unreached = Vec::new();
        while let Some(way) = self.ways.first() {
            match way.ask(behaviour, &request, self.wait).await {
                Ok(reply) => return self.believed(what, &reply),
                Err(AskError::Denied { status, message }) => {
                    let provider = &self.terms.provider;
                    let message =
                        format!("the service of the provider {provider} took no request ({status}): {message}");
                    return Err(CommandError::new(message).into());
                }
                Err(AskError::Call(CallError::NotSent { did: _, cause })) => {
                    unreached.push(cause);
                    self.close(1).await;
                }
                // Nothing is lost by asking for a challenge twice; a grant is asked for once.
                Err(AskError::Call(CallError::Silent { .. })) if behaviour == CHALLENGE && self.ways.len() > 1 => {
                    self.close(1).await;
                }
                Err(AskError::Call(CallError::Silent { waited, .. })) => {
                    return Err(LoginError::Silent { provider: self.terms.provider.to_string(), waited });
                }
                Err(AskError::Call(CallError::BadReply { cause, .. })) => {
                    return Err(self.untrusted("the answer", cause));
                }
                Err(AskError::Call(other)) => return Err(CommandError::new(other.to_string()).into()),
            }
        }
        let (provider, causes) = (&self.terms.provider, unreached.join("; "));
        let message = format!(
            "the provider {provider} could not be reached: {}. Check its address, and that its operator runs",
            printable(&causes)
        );
        Err(CommandError::new(message).into())
    }

    /// The payload of an answer that is proved to be one to the own request. Its signature was checked by the client.
    fn believed<T: DeserializeOwned>(&self, what: &'static str, reply: &Envelope) -> Result<T, LoginError> {
        let Terms { own, provider, .. } = self.terms;
        let awaited = Awaited { asker: own, asked: provider, continuation: &reply.behaviour };
        check_countersigned(&reply.capabilities, &awaited, now())
            .map_err(|refusal| self.untrusted("the answer", refusal.message))?;
        match serde_json::from_slice(&reply.message) {
            Ok(Answer::Done(answer)) => Ok(answer),
            Ok(Answer::Refused { refused }) => Err(LoginError::Refused { provider: provider.to_string(), refused }),
            Err(_) => Err(self.untrusted(what, "it does not have the form of one".to_owned())),
        }
    }

    fn untrusted(&self, what: &'static str, cause: String) -> LoginError {
        LoginError::Untrusted { what, provider: self.terms.provider.to_string(), cause }
    }

    /// Ends the connections of the first ways.
    async fn close(&mut self, count: usize) {
        for way in self.ways.drain(..count.min(self.ways.len())) {
            if let Way::Libp2p(client, _) = way {
                client.link().clone().stop().await;
            }
        }
    }

    /// Ends all connections.
    pub(super) async fn end(mut self) {
        self.close(usize::MAX).await;
    }
}

/// Text of somebody else on one line, without what a terminal obeys.
pub(super) fn printable(text: &str) -> String {
    on_one_line(text.trim_end_matches('.'))
}
