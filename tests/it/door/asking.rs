//! One who has a DID and asks the provider's actor, over libp2p or over HTTP.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    api::{
        HostingProvider,
        door::{CHALLENGE, Challenge, Confirmation, GRANT, Granted, Refused, SIGNED_PREFIX},
    },
    capability::{Capability, Envelope, Handle, Minting, Nanos, Token, token_list},
    controller::clock::wall,
    dev::{installation::Installation, wallet::Wallet},
    device::{
        DeviceClient as _, DeviceTarget,
        libp2p::{DmsClient, Link, LinkConfig},
    },
};
use kube::Api;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub const SOON: Duration = Duration::from_secs(30);

/// Where the provider's status says that its actor is reached.
pub struct Reached {
    pub libp2p: Vec<String>,
    pub http: String,
}

pub async fn reached(installation: &Installation) -> Reached {
    let api: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let addresses = api.get("default").await.unwrap().status.unwrap().addresses;
    let suffix = format!("/p2p/{}", installation.provider.did().peer_id());
    let libp2p: Vec<_> =
        addresses.iter().filter_map(|address| Some(address.strip_suffix(&suffix)?.to_owned())).collect();
    let http = addresses.iter().find(|address| address.starts_with("http://")).unwrap().clone();
    assert_eq!(libp2p.len() + 1, addresses.len(), "{addresses:?}");
    Reached { libp2p, http: format!("{http}/v1/actor") }
}

/// The way a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Libp2p,
    Http,
}

/// An asker.
pub struct Asker {
    pub wallet: Wallet,
    pub provider: dms_operator::capability::Did,
    client: DmsClient,
    libp2p: Vec<String>,
    pub http: String,
    web: reqwest::Client,
}

/// What comes back: what was asked for, or the refusal.
pub type Answer<T> = Result<T, Refused>;

fn answer<T: DeserializeOwned>(value: Value) -> Answer<T> {
    match value.get("refused") {
        Some(refused) => Err(serde_json::from_value(refused.clone()).unwrap()),
        None => Ok(serde_json::from_value(value).unwrap()),
    }
}

impl Asker {
    pub async fn new(installation: &Installation) -> Self {
        Self::with(installation, Wallet::random().unwrap()).await
    }

    pub async fn with(installation: &Installation, wallet: Wallet) -> Self {
        let Reached { libp2p, http } = reached(installation).await;
        let config = LinkConfig {
            key: wallet.key.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            inboxes: vec![format!("user-{}", wall().0)],
            topics: Some(vec![]),
        };
        let (link, arrived) = Link::start(config).await.unwrap();
        let client = DmsClient::new(link, arrived, wallet.key.clone());
        let provider = installation.provider.did().clone();
        Self { wallet, provider, client, libp2p, http, web: reqwest::Client::new() }
    }

    /// An envelope as a wallet makes it, not signed yet: the right that `grant` gives, and the delegation of the reply.
    pub fn envelope(&self, behaviour: &str, message: &Value, grant: Option<&Token>) -> Envelope {
        let expires = wall().plus(Duration::from_mins(2));
        let continuation = format!("/dms/actor/replyto/{:032x}", rand::random::<u128>());
        let minting = |subject, audience, path: &str, depth| Minting {
            subject,
            audience: Some(audience),
            capabilities: vec![Capability::parse(path).unwrap()],
            topics: vec![],
            expires,
            depth,
            nonce: rand::random(),
        };
        let (own, provider) = (self.wallet.did(), &self.provider);
        let invoke = minting(own.clone(), provider.clone(), behaviour, 0);
        let reply = minting(provider.clone(), own.clone(), &continuation, 1);
        let mut tokens = vec![];
        // What the grant does not give can't be written down; then the self-signed one is all there is.
        tokens.extend(grant.and_then(|grant| Token::invoke(&self.wallet.key, invoke.clone(), Some(grant)).ok()));
        tokens.push(Token::invoke(&self.wallet.key, invoke, None).unwrap());
        tokens.push(Token::delegate(&self.wallet.key, reply, None).unwrap());
        Envelope {
            to: Handle::root_of(provider),
            behaviour: behaviour.to_owned(),
            from: Handle::of(own, None, None),
            nonce: rand::random(),
            expires,
            continuation: Some(continuation),
            topic: None,
            message: message.to_string().into_bytes(),
            capabilities: token_list(&tokens),
            signature: None,
        }
    }

    /// Posts an envelope. Gives the status and the body.
    pub async fn post(&self, envelope: Vec<u8>) -> (u16, Vec<u8>) {
        let response = self.web.post(&self.http).body(envelope).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    /// Posts a signed envelope and reads the signed reply to it: addressed back, under the continuation, by the right that
    /// was delegated for it.
    pub async fn exchange(&self, envelope: &Envelope) -> Value {
        let (status, body) = self.post(envelope.to_json()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        let reply = Envelope::parse(&body).unwrap();
        assert_eq!(reply.verify(wall()).unwrap(), self.provider);
        assert_eq!((Some(&reply.behaviour), &reply.to), (envelope.continuation.as_ref(), &envelope.from));
        let tokens = dms_operator::capability::parse_token_list(&reply.capabilities).unwrap();
        assert_eq!(tokens[0].root().issuer(), self.wallet.did(), "what the user gave for the reply is counter-signed");
        tokens[0].verify(wall(), &|_| false).unwrap();
        serde_json::from_slice(&reply.message).unwrap()
    }

    pub async fn ask<T: DeserializeOwned>(
        &self,
        way: Way,
        behaviour: &str,
        message: Value,
        grant: Option<&Token>,
    ) -> Answer<T> {
        answer(match way {
            Way::Http => self.exchange(&self.envelope(behaviour, &message, grant).sign(&self.wallet.key)).await,
            Way::Libp2p => {
                let target =
                    DeviceTarget { did: self.provider.clone(), addresses: self.libp2p.clone(), grant: grant.cloned() };
                self.client.call(&target, behaviour, message, SOON).await.unwrap()
            }
        })
    }

    pub async fn challenge(&self, way: Way, namespace: &str, actions: &[&str]) -> Answer<Challenge> {
        let request = json!({"did": self.wallet.did(), "namespace": namespace, "actions": actions});
        self.ask(way, CHALLENGE, request, None).await
    }

    /// The answer to a challenge.
    pub fn signed(&self, challenge: &Challenge) -> Value {
        let signature = self.wallet.key.sign(format!("{SIGNED_PREFIX}{}", challenge.text).as_bytes());
        json!({"state": challenge.state, "signature": STANDARD.encode(signature)})
    }

    /// Challenge, signature, grant.
    pub async fn login(&self, way: Way, namespace: &str, actions: &[&str]) -> Answer<Token> {
        let challenge = self.challenge(way, namespace, actions).await?;
        let Granted { grant, expires } = self.ask(way, GRANT, self.signed(&challenge), None).await?;
        let token = Token::parse(grant.to_string().as_bytes()).unwrap();
        assert_eq!(token.expires(), expires);
        token.verify(wall(), &|_| false).unwrap();
        Ok(token)
    }

    pub async fn apply(&self, way: Way, object: &Value, grant: &Token) -> Answer<Confirmation> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
        let behaviour = format!("/hosting/{}/apply/{}", text("/metadata/namespace"), text("/metadata/name"));
        self.ask(way, &behaviour, json!({"object": object}), Some(grant)).await
    }

    pub async fn delete(
        &self,
        way: Way,
        (namespace, name): (&str, &str),
        uid: Option<&str>,
        grant: &Token,
    ) -> Answer<Confirmation> {
        let message = uid.map_or_else(|| json!({}), |uid| json!({"uid": uid}));
        self.ask(way, &format!("/hosting/{namespace}/delete/{name}"), message, Some(grant)).await
    }
}

/// Reason of a refusal.
pub fn reason<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    let Refused { reason, message } = answer.unwrap_err();
    assert!(message.len() > reason.len() && message.contains(' '), "a refusal says why: {message:?}");
    reason
}

/// From now on for a while.
pub fn later(span: Duration) -> Nanos {
    wall().plus(span)
}
