//! A provider that gives grants by a script, over libp2p and over HTTP, and misbehaves when told to.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Bytes, extract::State, http::StatusCode, response::IntoResponse, routing};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    api::door::{CHALLENGE, ChallengeRequest, GRANT, GrantAction, GrantRequest, NOTICE, SIGNED_PREFIX},
    capability::{Action, Capability, Did, Envelope, Handle, Minting, Nanos, Token, parse_token_list, token_list},
    dev::wallet::{Wallet, in_future},
    device::libp2p::{InboundFrame, Link, LinkConfig},
};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc};

/// What a provider does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    Nothing,
    /// Its text names somebody else.
    OtherDid,
    OtherProvider,
    OtherNamespace,
    MoreInTheText,
    ControlCharacter,
    DmsPrefix,
    ChallengeOver,
    /// Its answers are signed by another key.
    OtherSigner,
    /// They carry no token, or one that does not hang on that of the caller.
    NoCounterSignature,
    OwnCounterSignature,
    /// Its grant is not what was asked for.
    OtherSubject,
    OtherIssuer,
    Wider,
    Narrower,
    Over,
    Unlimited,
    /// It says nothing, or no.
    Silent,
    Refuses,
}

/// What came to it.
#[derive(Debug, Default)]
pub struct Seen {
    pub challenges: usize,
    /// The notice delegations of those that answered rightly.
    pub proved: Vec<Token>,
    /// The grants that were given.
    pub granted: Vec<Token>,
}

struct Desk {
    wallet: Wallet,
    misdeed: Misdeed,
    lifetime: Duration,
    seen: Mutex<Seen>,
}

/// A provider that runs until it is dropped.
pub struct Provider {
    desk: Arc<Desk>,
    _link: Link,
    pub multiaddress: String,
    pub service: String,
}

impl Provider {
    pub async fn start(misdeed: Misdeed) -> Self {
        Self::start_with(misdeed, Duration::from_hours(2)).await
    }

    pub async fn start_with(misdeed: Misdeed, lifetime: Duration) -> Self {
        let wallet = Wallet::random().unwrap();
        let config = LinkConfig {
            key: wallet.key.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            inboxes: vec!["root".to_owned()],
            topics: None,
        };
        let (link, arrived) = Link::start(config).await.unwrap();
        let address = link.listen_addresses().await.remove(0);
        let multiaddress = format!("{address}/p2p/{}", wallet.did().peer_id());
        let desk = Arc::new(Desk { wallet, misdeed, lifetime, seen: Mutex::default() });
        tokio::spawn(over_libp2p(desk.clone(), link.clone(), arrived));
        let service = over_http(desk.clone()).await;
        Self { desk, _link: link, multiaddress, service: format!("http://{service}") }
    }

    pub fn did(&self) -> &Did {
        self.desk.wallet.did()
    }

    pub fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.desk.seen.lock().unwrap())
    }
}

async fn over_libp2p(desk: Arc<Desk>, link: Link, mut arrived: mpsc::Receiver<InboundFrame>) {
    while let Some(frame) = arrived.recv().await {
        let request = Envelope::parse(&frame.body).unwrap();
        if let Some(reply) = desk.reply(&request) {
            let inbox = request.from.inbox.unwrap();
            let _ = link.send(&frame.peer, &[], &inbox, reply, Duration::from_secs(10)).await;
        }
    }
}

async fn over_http(desk: Arc<Desk>) -> SocketAddr {
    async fn post(State(desk): State<Arc<Desk>>, body: Bytes) -> impl IntoResponse {
        match desk.reply(&Envelope::parse(&body).unwrap()) {
            Some(reply) => (StatusCode::OK, reply),
            None => std::future::pending().await,
        }
    }
    async fn get(State(desk): State<Arc<Desk>>) -> String {
        json!({"did": desk.wallet.did().as_str()}).to_string()
    }
    let router = Router::new().route("/v1/actor", routing::post(post).get(get)).with_state(desk);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

impl Desk {
    fn reply(&self, request: &Envelope) -> Option<Vec<u8>> {
        let sender = request.verify(in_future(Duration::ZERO)).unwrap();
        if self.misdeed == Misdeed::Silent {
            return None;
        }
        let said = match request.behaviour.as_str() {
            _ if self.misdeed == Misdeed::Refuses => {
                json!({"refused": {"reason": "NotInPolicy", "message": "nothing for\nyou\u{1b}[2J here."}})
            }
            CHALLENGE => self.challenge(&sender, &serde_json::from_slice(&request.message).unwrap()),
            GRANT => self.grant(&sender, &serde_json::from_slice(&request.message).unwrap()),
            other => panic!("{other}"),
        };
        let key = match self.misdeed {
            Misdeed::OtherSigner => Wallet::random().unwrap().key,
            _ => self.wallet.key.clone(),
        };
        let reply = Envelope {
            to: request.from.clone(),
            behaviour: request.continuation.clone().unwrap(),
            from: Handle::root_of(self.wallet.did()),
            nonce: rand::random(),
            expires: request.expires,
            continuation: None,
            topic: None,
            message: said.to_string().into_bytes(),
            capabilities: self.counter_signed(request, &sender),
            signature: None,
        };
        Some(reply.sign(&key).to_json())
    }

    fn counter_signed(&self, request: &Envelope, sender: &Did) -> Vec<u8> {
        let continuation = Capability::parse(request.continuation.as_deref().unwrap()).unwrap();
        let own = parse_token_list(&request.capabilities).unwrap().into_iter().find(|token| {
            token.action() == Action::Delegate && token.capabilities() == std::slice::from_ref(&continuation)
        });
        let chain = match self.misdeed {
            Misdeed::NoCounterSignature => return Vec::new(),
            Misdeed::OwnCounterSignature => None,
            _ => Some(own.unwrap()),
        };
        let minting = Minting {
            subject: self.wallet.did().clone(),
            audience: Some(sender.clone()),
            capabilities: vec![continuation],
            topics: vec![],
            expires: request.expires,
            depth: 0,
            nonce: rand::random(),
        };
        // What was meant for another provider cannot be counter-signed.
        token_list(&Vec::from_iter(Token::invoke(&self.wallet.key, minting, chain.as_ref())))
    }

    /// As the provider's actor writes it.
    fn text(&self, sender: &Did, namespace: &str, actions: &[GrantAction], expires: Nanos) -> String {
        let stranger = Wallet::random().unwrap().did().clone();
        let (mut did, mut provider, mut place) = (sender.clone(), self.wallet.did().clone(), namespace.to_owned());
        match self.misdeed {
            Misdeed::OtherDid => did = stranger,
            Misdeed::OtherProvider => provider = stranger,
            Misdeed::OtherNamespace => place.push('x'),
            _ => {}
        }
        let prefix = if self.misdeed == Misdeed::DmsPrefix { "dms:token:" } else { "" };
        let names = actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        let host = if self.misdeed == Misdeed::ControlCharacter { "hosting\u{1b}[2J" } else { "hosting.example.org" };
        let mut text = format!(
            "{prefix}{host} wants you to sign in with your DID:\n{did}\n\nGrant {names} in namespace {place} of the hosting \
             provider.\n\nURI: {provider}\nVersion: 1\nNonce: {}\nIssued At: {}\nExpiration Time: {expires}\nRequest ID: \
             00112233\nResources:",
            hex::encode(rand::random::<[u8; 16]>()),
            in_future(Duration::ZERO),
        );
        for action in actions {
            write!(text, "\n- /hosting/{place}/{}", action.as_str()).unwrap();
        }
        if self.misdeed == Misdeed::MoreInTheText {
            write!(text, "\n- /dms/node").unwrap();
        }
        text + "\n"
    }

    fn challenge(&self, sender: &Did, request: &ChallengeRequest) -> Value {
        self.seen.lock().unwrap().challenges += 1;
        assert_eq!(request.did, sender.as_str());
        let all = [GrantAction::Apply, GrantAction::Publish, GrantAction::Read];
        let mut actions = if request.actions.is_empty() { all.to_vec() } else { request.actions.clone() };
        actions.sort_unstable();
        let expires = if self.misdeed == Misdeed::ChallengeOver { Nanos(1) } else { in_future(Duration::from_mins(5)) };
        let text = self.text(sender, &request.namespace, &actions, expires);
        let state = json!({"text": text, "namespace": request.namespace, "actions": actions}).to_string();
        json!({"text": text, "state": STANDARD.encode(state), "expires": expires})
    }

    fn grant(&self, sender: &Did, request: &GrantRequest) -> Value {
        let state: Value = serde_json::from_slice(&STANDARD.decode(&request.state).unwrap()).unwrap();
        let text = state["text"].as_str().unwrap();
        let key = VerifyingKey::from_bytes(sender.public_key()).unwrap();
        let signature = Signature::from_slice(&STANDARD.decode(&request.signature).unwrap()).unwrap();
        key.verify_strict(format!("{SIGNED_PREFIX}{text}").as_bytes(), &signature).unwrap();
        self.seen.lock().unwrap().proved.push(self.notice(sender, request.notice.as_ref().unwrap()));

        let actions: Vec<GrantAction> = serde_json::from_value(state["actions"].clone()).unwrap();
        let namespace = state["namespace"].as_str().unwrap();
        let mut paths: Vec<String> =
            actions.iter().map(|action| format!("/hosting/{namespace}/{}", action.as_str())).collect();
        let stranger = Wallet::random().unwrap();
        let mut issuer = &self.wallet;
        let (mut subject, mut depth, mut expires) = (sender.clone(), 3, in_future(self.lifetime));
        match self.misdeed {
            Misdeed::OtherSubject => subject = stranger.did().clone(),
            Misdeed::OtherIssuer => issuer = &stranger,
            Misdeed::Wider => paths.push(format!("/hosting/{namespace}/delete")),
            Misdeed::Narrower => drop(paths.pop()),
            Misdeed::Over => expires = Nanos(in_future(Duration::ZERO).0 - 1_000_000_000),
            Misdeed::Unlimited => depth = 0,
            _ => {}
        }
        let token = issuer.delegate(&subject, Some(self.wallet.did()), &paths, expires, depth, None).unwrap();
        let grant: Value = serde_json::from_slice(&token.to_json()).unwrap();
        self.seen.lock().unwrap().granted.push(token);
        json!({"grant": grant, "expires": expires})
    }

    fn notice(&self, sender: &Did, notice: &Value) -> Token {
        let token = Token::parse(notice.to_string().as_bytes()).unwrap();
        token.verify(in_future(Duration::ZERO), &|_| false).unwrap();
        let capabilities = [Capability::parse(NOTICE).unwrap()];
        let said = (token.action(), token.issuer(), token.subject(), token.audience(), token.capabilities());
        assert_eq!(said, (Action::Delegate, sender, self.wallet.did(), Some(sender), capabilities.as_slice()));
        assert!(token.chain().is_none() && token.topics().is_empty() && token.depth() == 1);
        token
    }
}
