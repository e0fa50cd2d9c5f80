//! The client against a scripted device, over real TCP.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::time::timeout;

use super::breaker::SILENT;
use super::client::{AHEAD, DmsClient};
use super::counters::Dropped;
use super::frame::Body;
use super::link::{InboundFrame, Link, LinkConfig, Via};
use super::rig::{Frozen, random_bytes, random_key, until};
use crate::capability::{Action, Capability, Did, Envelope, Handle, Key, Minting, Nanos, Token, parse_token_list};
use crate::device::actor::OutboundFrame;
use crate::device::dms::path::DEPLOYMENT_NEW;
use crate::device::{CallError, DeviceClient, DeviceTarget, PreparedCall};

const SOON: Duration = Duration::from_secs(20);
const SELF: &str = "/dms/node/peers/self";

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

async fn client() -> DmsClient {
    client_of(random_key()).await
}

async fn client_of(key: Key) -> DmsClient {
    let inboxes = vec![format!("user-{}", now().0)];
    let (link, arrived) =
        Link::start(LinkConfig { key: key.clone(), listen: Vec::new(), inboxes, topics: None }).await.unwrap();
    DmsClient::new(link, arrived, key)
}

/// A device that does what the test says.
struct Device {
    key: Key,
    link: Link,
    arrived: Mutex<mpsc::Receiver<InboundFrame>>,
    target: DeviceTarget,
}

impl Device {
    async fn start() -> Self {
        let key = random_key();
        let config = LinkConfig {
            key: key.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            inboxes: vec!["root".to_owned()],
            topics: None,
        };
        let (link, arrived) = Link::start(config).await.unwrap();
        let addresses = link.listen_addresses().await;
        let target = DeviceTarget { did: key.did().clone(), addresses, grant: None };
        Self { key, link, arrived: Mutex::new(arrived), target }
    }

    async fn request(&self) -> (InboundFrame, Envelope) {
        let frame = timeout(SOON, self.arrived.lock().await.recv()).await.expect("no request arrives").unwrap();
        let envelope = Envelope::parse(&frame.body).unwrap();
        (frame, envelope)
    }

    fn reply(request: &Envelope, message: &Value) -> Envelope {
        Envelope {
            to: request.from.clone(),
            behaviour: request.continuation.clone().unwrap(),
            from: request.to.clone(),
            nonce: 1,
            expires: request.expires,
            continuation: None,
            topic: None,
            message: message.to_string().into_bytes(),
            capabilities: Vec::new(),
            signature: None,
        }
    }

    /// Answers the next request with what it says.
    async fn echo(&self) {
        let (_, request) = self.request().await;
        let message = serde_json::from_slice(&request.message).unwrap_or_default();
        self.answer(&request, &Self::reply(&request, &message).sign(&self.key)).await;
    }

    async fn answer(&self, to: &Envelope, reply: &Envelope) {
        let (host, inbox) = (to.from.host.as_deref().unwrap(), to.from.inbox.as_deref().unwrap());
        self.link.send(host, &[], inbox, reply.to_json(), SOON).await.unwrap();
    }
}

#[tokio::test]
async fn a_request_is_what_a_node_accepts() {
    let device = Device::start().await;
    let client = client().await;
    let own = client.link().peer_id().to_owned();
    let asked = json!({"Host": "somebody", "n": 2});
    let before = now();
    let calling = client.call(&device.target, SELF, asked.clone(), SOON);
    let answering = async {
        let (frame, request) = device.request().await;
        assert_eq!((&frame.peer, &frame.via), (&own, &Via::Inbox("root".to_owned())));
        let signer = request.verify(now()).unwrap();
        assert_eq!(signer.peer_id(), own);
        assert_eq!(request.to, Handle::root_of(device.key.did()));
        let inbox = client.link().inboxes()[0].clone();
        assert_eq!(request.from, Handle::of(&signer, Some(own.clone()), Some(inbox)));
        assert_eq!(request.behaviour, SELF);
        let lives = SOON + AHEAD;
        assert!(request.expires >= before.plus(lives) && request.expires <= now().plus(lives));
        assert_eq!(serde_json::from_slice::<Value>(&request.message).unwrap(), asked);
        let tokens = parse_token_list(&request.capabilities).unwrap();
        let continuation = request.continuation.clone().unwrap();
        check_own_tokens(&tokens, &signer, device.key.did(), &continuation, request.expires);
        let reply = Device::reply(&request, &json!({"id": "me"})).sign(&device.key);
        device.answer(&request, &reply).await;
    };
    let (reply, ()) = tokio::join!(calling, answering);
    assert_eq!(reply.unwrap(), json!({"id": "me"}));
}

fn path(text: &str) -> Capability {
    Capability::parse(text).unwrap()
}

fn check_own_tokens(tokens: &[Token], own: &Did, device: &Did, continuation: &str, expires: Nanos) {
    let random = continuation.strip_prefix("/dms/actor/replyto/").unwrap();
    assert!(random.len() == 32 && random.bytes().all(|byte| byte.is_ascii_hexdigit()), "{continuation}");
    let said = tokens.iter().map(|token| {
        token.verify(now(), &|_| false).unwrap();
        let issuer = token.issuer().clone();
        let audience = token.audience().cloned();
        (token.action(), issuer, token.subject().clone(), audience, token.capabilities().to_vec(), token.depth())
    });
    let own = own.clone();
    let wanted = [
        (Action::Invoke, own.clone(), own.clone(), Some(device.clone()), vec![path(SELF)], 0),
        (Action::Delegate, own.clone(), device.clone(), Some(own), vec![path(continuation)], 1),
    ];
    assert_eq!(said.collect::<Vec<_>>(), wanted);
    assert!(tokens.iter().all(|token| token.expires() == expires));
}

#[tokio::test]
async fn what_a_request_says_is_not_printed() {
    let device = Device::start().await;
    let client = client().await;
    let call = client.prepare(&device.target, SELF, json!({"seed": "of a site"}), SOON).unwrap();
    let PreparedCall { nonce, expires, frame, .. } = call.clone();
    assert_eq!(format!("{call:?}"), format!("PreparedCall({nonce} until {expires}, {} bytes)", frame.len()));
    let arrived = InboundFrame { peer: "12D3KooW".to_owned(), via: Via::Inbox("root".to_owned()), body: frame.clone() };
    assert_eq!(format!("{arrived:?}"), format!("InboundFrame(inbox root from 12D3KooW, {} bytes)", frame.len()));
    assert_eq!(format!("{:?}", Body(frame.clone())), format!("{} bytes", frame.len()));
    let reply = OutboundFrame {
        peer: "12D3KooW".to_owned(),
        inbox: "user-1".to_owned(),
        body: frame.clone(),
        spoil: super::Spoil::None,
    };
    assert_eq!(format!("{reply:?}"), format!("OutboundFrame(user-1 of 12D3KooW, {} bytes)", frame.len()));
}

#[tokio::test]
async fn continuations_nonces_and_tokens_are_never_the_same() {
    let device = Device::start().await;
    let client = client().await;
    let calls: Vec<_> = (0..200)
        .map(|_| client.prepare(&device.target, SELF, Value::Null, SOON).unwrap())
        .map(|call| (call.continuation, call.nonce, Envelope::parse(&call.frame).unwrap().capabilities))
        .collect();
    let distinct = |mut list: Vec<Vec<u8>>| {
        list.sort_unstable();
        list.dedup();
        list.len()
    };
    assert_eq!(distinct(calls.iter().map(|call| call.0.clone().into_bytes()).collect()), 200);
    assert_eq!(distinct(calls.iter().map(|call| call.1.to_le_bytes().to_vec()).collect()), 200);
    assert_eq!(distinct(calls.iter().map(|call| call.2.clone()).collect()), 200);
}

fn minting(to: &Did, paths: &[&str], expires: Nanos) -> Minting {
    let capabilities = paths.iter().map(|text| path(text)).collect();
    let (subject, nonce) = (to.clone(), random_bytes());
    Minting { subject, audience: None, capabilities, topics: Vec::new(), expires, depth: 1, nonce }
}

fn grant(owner: &Key, to: &Did, audience: Option<&Did>, paths: &[&str], expires: Nanos) -> Token {
    let minting = Minting { audience: audience.cloned(), ..minting(to, paths, expires) };
    Token::delegate(owner, minting, None).unwrap()
}

#[tokio::test]
async fn a_grant_is_what_the_invocation_hangs_on() {
    let device = Device::start().await;
    let key = random_key();
    let client = client_of(key.clone()).await;
    let owner = random_key();
    for audience in [None, Some(device.key.did())] {
        let expires = now().plus(Duration::from_secs(15));
        let grant = grant(&owner, key.did(), audience, &["/dms/node/deployment", "/dms/node/peers"], expires);
        let target = DeviceTarget { grant: Some(grant.clone()), ..device.target.clone() };
        let call = client.prepare(&target, SELF, Value::Null, SOON).unwrap();
        assert_eq!(call.expires, expires, "no longer than the grant");
        let frame = call.frame.clone();
        let calling = client.send(&target, SELF, call, SOON);
        let answering = async {
            let (arrived, request) = device.request().await;
            assert_eq!(arrived.body, frame, "what was prepared is what is sent");
            assert_eq!(request.message, b"");
            let tokens = parse_token_list(&request.capabilities).unwrap();
            let [chained, own @ ..] = &tokens[..] else { panic!("no tokens") };
            chained.verify(now(), &|_| false).unwrap();
            assert_eq!(chained.chain(), Some(&grant));
            assert_eq!((chained.action(), chained.issuer(), chained.subject()), (Action::Invoke, key.did(), key.did()));
            assert_eq!(chained.audience(), Some(device.key.did()));
            assert_eq!(chained.capabilities(), [path(SELF)]);
            assert_eq!(chained.expires(), expires);
            let continuation = request.continuation.clone().unwrap();
            check_own_tokens(own, key.did(), device.key.did(), &continuation, request.expires);
            device.answer(&request, &Device::reply(&request, &json!(1)).sign(&device.key)).await;
        };
        let (reply, ()) = tokio::join!(calling, answering);
        assert_eq!(reply.unwrap(), json!(1));
    }
}

#[tokio::test]
async fn what_the_grant_lacks_is_told_without_asking_the_device() {
    let device = Device::start().await;
    let key = random_key();
    let client = client_of(key.clone()).await;
    let owner = random_key();
    let (own, later) = (key.did(), now().plus(SOON));
    let stranger = random_key();
    let cases = [
        (grant(&owner, own, None, &["/dms/node/deployment"], later), "/dms/node/deployment"),
        (grant(&owner, own, None, &["/dms/node/peers/selfish"], later), "/dms/node/peers/selfish"),
        (grant(&owner, own, None, &["/dms"], now().minus(SOON)), "expired at"),
        (grant(&owner, stranger.did(), None, &["/dms"], later), own.as_str()),
        (grant(&owner, own, Some(stranger.did()), &["/dms"], later), stranger.did().as_str()),
        (Token::invoke(&key, minting(own, &["/dms"], later), None).unwrap(), "not a token to delegate"),
    ];
    for (grant, cause) in cases {
        let target = DeviceTarget { grant: Some(grant), ..device.target.clone() };
        let refused = client.call(&target, SELF, Value::Null, SOON).await.unwrap_err();
        assert!(matches!(&refused, CallError::NotGranted { capability, .. } if capability == SELF), "{refused}");
        assert!(refused.never_sent());
        assert!(refused.to_string().contains(cause), "{refused} does not say {cause}");
    }
    assert_eq!((device.link.counters().frames_in(), client.link().counters().connections()), (0, 0));
}

#[tokio::test]
async fn only_the_reply_of_the_device_is_believed_and_only_once() {
    let device = Device::start().await;
    let client = client().await;
    let counters = client.link().counters().clone();
    let stranger = Device::start().await;
    // So that the stranger has a connection to send its replies over.
    let met = client.call(&stranger.target, SELF, Value::Null, Duration::from_millis(300)).await;
    assert!(matches!(met, Err(CallError::Silent { .. })), "{met:?}");
    let calling = client.call(&device.target, SELF, json!({}), SOON);
    let answering = async {
        let (_, request) = device.request().await;
        let right = Device::reply(&request, &json!("right"));
        let wrong = Device::reply(&request, &json!("wrong"));
        let of = |did: &Did, at: &Device| Handle::of(did, Some(at.key.did().peer_id()), Some("root".to_owned()));
        let tampered = Envelope { message: b"\"tampered\"".to_vec(), ..right.clone().sign(&device.key) };
        let forged = [
            (Envelope { signature: None, ..wrong.clone() }, Dropped::Unverified),
            (tampered, Dropped::Unverified),
            (wrong.clone().sign(&stranger.key), Dropped::Unverified),
            (Envelope { expires: now().minus(SOON), ..wrong.clone() }.sign(&device.key), Dropped::Expired),
            (
                Envelope { from: of(stranger.key.did(), &device), ..wrong.clone() }.sign(&stranger.key),
                Dropped::ForeignSigner,
            ),
            (
                Envelope { from: of(device.key.did(), &stranger), ..wrong.clone() }.sign(&device.key),
                Dropped::ForeignHost,
            ),
            (Envelope { to: request.to.clone(), ..wrong.clone() }.sign(&device.key), Dropped::NotForUs),
            (
                Envelope { behaviour: "/dms/actor/replyto/1".to_owned(), ..wrong.clone() }.sign(&device.key),
                Dropped::UnknownContinuation,
            ),
        ];
        for (reply, reason) in forged {
            let before = counters.dropped(reason);
            device.answer(&request, &reply).await;
            until(reason.code(), async || counters.dropped(reason) == before + 1).await;
        }
        // Signed by the device and carried by somebody else.
        stranger.answer(&request, &wrong.clone().sign(&device.key)).await;
        until("the carrier is noticed", async || counters.dropped(Dropped::ForeignPeer) == 1).await;
        let garbage = Envelope { behaviour: String::new(), ..wrong }.sign(&device.key).to_json();
        let (host, inbox) = (request.from.host.clone().unwrap(), request.from.inbox.clone().unwrap());
        device.link.send(&host, &[], &inbox, garbage[1..].to_vec(), SOON).await.unwrap();
        until("garbage is noticed", async || counters.dropped(Dropped::Undecodable) == 1).await;
        let right = right.sign(&device.key);
        device.answer(&request, &right).await;
        let before = counters.dropped(Dropped::UnknownContinuation);
        device.answer(&request, &right).await;
        until("the second is noticed", async || counters.dropped(Dropped::UnknownContinuation) == before + 1).await;
    };
    let (reply, ()) = tokio::join!(calling, answering);
    assert_eq!(reply.unwrap(), json!("right"));
}

#[tokio::test]
async fn replies_find_their_calls() {
    let device = Device::start().await;
    let client = client().await;
    let calls = (0..100).map(|number| client.call(&device.target, SELF, json!({ "number": number }), SOON));
    let calls: Vec<_> = calls.collect();
    let answering = async {
        let mut requests = Vec::new();
        for _ in 0..100 {
            requests.push(device.request().await.1);
        }
        // In another order than they came.
        for request in requests.into_iter().rev() {
            let message = serde_json::from_slice(&request.message).unwrap();
            device.answer(&request, &Device::reply(&request, &message).sign(&device.key)).await;
        }
    };
    let (replies, ()) = tokio::join!(futures::future::join_all(calls), answering);
    let got: Vec<_> = replies.into_iter().map(Result::unwrap).collect();
    assert_eq!(got, (0..100).map(|number| json!({ "number": number })).collect::<Vec<_>>());
}

#[tokio::test]
async fn silence_is_unknown_and_what_is_not_json_is_a_bad_reply() {
    let device = Device::start().await;
    let client = client().await;
    let wait = Duration::from_millis(200);
    let call = client.prepare(&device.target, SELF, Value::Null, SOON).unwrap();
    let silent = client.send(&device.target, SELF, call, wait).await.unwrap_err();
    assert!(matches!(&silent, CallError::Silent { waited, .. } if *waited >= wait), "{silent}");
    assert!(!silent.never_sent());
    let (_, request) = device.request().await;
    device.answer(&request, &Device::reply(&request, &json!("late")).sign(&device.key)).await;
    let counters = client.link().counters();
    until("late is too late", async || counters.dropped(Dropped::UnknownContinuation) == 1).await;
    for (message, want) in [(&b"no json"[..], None), (b"", Some(Value::Null))] {
        let calling = client.call(&device.target, SELF, Value::Null, SOON);
        let answering = async {
            let (_, request) = device.request().await;
            let reply = Envelope { message: message.to_vec(), ..Device::reply(&request, &Value::Null) };
            device.answer(&request, &reply.sign(&device.key)).await;
        };
        match tokio::join!(calling, answering).0 {
            Ok(value) => assert_eq!(Some(value), want),
            Err(error) => assert!(want.is_none() && matches!(error, CallError::BadReply { .. }), "{error}"),
        }
    }
}

#[tokio::test]
async fn what_was_not_sent_is_known() {
    let device = Device::start().await;
    let client = client().await;
    let gone = DeviceTarget { addresses: vec!["/ip4/127.0.0.1/tcp/1".to_owned()], ..device.target.clone() };
    let refused = client.call(&gone, SELF, Value::Null, SOON).await.unwrap_err();
    assert!(matches!(refused, CallError::NotSent { .. }), "{refused}");
    let expired = client.prepare(&device.target, SELF, Value::Null, Duration::ZERO).unwrap();
    let refused = client.send(&device.target, SELF, expired, SOON).await.unwrap_err();
    assert!(matches!(&refused, CallError::NotSent { cause, .. } if cause.contains("expired")), "{refused}");
    let long = json!("x".repeat(1 << 20));
    let refused = client.prepare(&device.target, SELF, long, SOON).unwrap_err();
    assert!(matches!(&refused, CallError::NotSent { cause, .. } if cause.contains("1048568")), "{refused}");
    assert_eq!(device.link.counters().frames_in(), 0);
}

#[tokio::test]
async fn the_same_request_is_not_sent_twice_at_a_time() {
    let device = Device::start().await;
    let client = client().await;
    let call = client.prepare(&device.target, SELF, Value::Null, SOON).unwrap();
    let first = client.send(&device.target, SELF, call.clone(), SOON);
    let second = async {
        let (_, request) = device.request().await;
        let refused = client.send(&device.target, SELF, call, SOON).await.unwrap_err();
        assert!(refused.never_sent(), "{refused}");
        device.answer(&request, &Device::reply(&request, &json!(true)).sign(&device.key)).await;
    };
    let (reply, ()) = tokio::join!(first, second);
    assert_eq!(reply.unwrap(), json!(true));
    assert_eq!(device.link.counters().frames_in(), 1);
}

#[tokio::test]
async fn a_device_that_does_not_answer_is_left_alone_and_tried_again() {
    let device = Device::start().await;
    let client = client().await;
    let (met, ()) = tokio::join!(client.call(&device.target, SELF, Value::Null, SOON), device.echo());
    assert_eq!(met.unwrap(), Value::Null);
    let wait = Duration::from_millis(300);
    let calls = (0..SILENT).map(|_| client.call(&device.target, SELF, Value::Null, wait));
    for silent in futures::future::join_all(calls).await {
        assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
        device.request().await;
    }
    let refused = client.call(&device.target, SELF, Value::Null, SOON).await.unwrap_err();
    assert!(refused.never_sent() && refused.to_string().contains("tried again in"), "{refused}");
    assert_eq!(device.link.counters().frames_in(), u64::from(SILENT) + 1, "it reached the device");
    // Another device is called as ever.
    let other = Device::start().await;
    let (reply, ()) = tokio::join!(client.call(&other.target, SELF, Value::Null, SOON), other.echo());
    assert_eq!(reply.unwrap(), Value::Null);
    let trial = async {
        loop {
            match client.call(&device.target, SELF, json!(1), SOON).await {
                Err(error) if error.never_sent() => tokio::time::sleep(wait / 10).await,
                result => return result,
            }
        }
    };
    let (reply, ()) = tokio::join!(trial, device.echo());
    assert_eq!(reply.unwrap(), json!(1));
    let calls = futures::future::join_all((0..4).map(|_| client.call(&device.target, SELF, json!(2), SOON)));
    let echoes = async {
        for _ in 0..4 {
            device.echo().await;
        }
    };
    let (replies, ()) = tokio::join!(calls, echoes);
    assert!(replies.into_iter().all(|reply| reply.unwrap() == json!(2)), "a reply closes it for all");
}

#[tokio::test]
async fn a_frozen_device_delays_no_other() {
    let key = random_key();
    let frozen = Frozen::start(key.clone()).await;
    let stuck = DeviceTarget { did: key.did().clone(), addresses: frozen.addresses.clone(), grant: None };
    let devices = futures::future::join_all((0..20).map(|_| Device::start())).await;
    let client = Arc::new(client().await);
    let all_answer = async || {
        let round = devices.iter().map(|device| async {
            let asked = json!(now().0);
            let (reply, ()) = tokio::join!(client.call(&device.target, SELF, asked.clone(), SOON), device.echo());
            assert_eq!(reply.unwrap(), asked);
        });
        let begun = tokio::time::Instant::now();
        futures::future::join_all(round).await;
        begun.elapsed()
    };
    // Connections are made first, also to the one that freezes.
    all_answer().await;
    client.link().send(&frozen.peer, &frozen.addresses, "root", Vec::new(), SOON).await.unwrap();
    frozen.freeze();
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let (client, stuck) = (client.clone(), stuck.clone());
            tokio::spawn(async move { client.call(&stuck, DEPLOYMENT_NEW, Value::Null, 2 * SOON).await })
        })
        .collect();
    tokio::task::yield_now().await;
    for _ in 0..5 {
        let took = all_answer().await;
        assert!(took < SOON / 2, "the others took {took:?}");
    }
    assert!(waiting.iter().all(|call| !call.is_finished()), "its calls were not under way");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn what_is_told_awaits_no_reply() {
    let device = Device::start().await;
    let client = client().await;
    client.tell(&device.target, SELF, &json!({"n": 1}), SOON).await.unwrap();
    let (_, told) = device.request().await;
    assert_eq!(told.verify(now()).unwrap().peer_id(), client.link().peer_id());
    assert_eq!((told.behaviour.as_str(), told.continuation.as_deref()), (SELF, None));
    assert_eq!(serde_json::from_slice::<Value>(&told.message).unwrap(), json!({"n": 1}));
    let tokens = parse_token_list(&told.capabilities).unwrap();
    let actions = tokens.iter().map(|token| (token.action(), token.capabilities().to_vec())).collect::<Vec<_>>();
    assert_eq!(actions, [(Action::Invoke, vec![path(SELF)])]);
    let gone = DeviceTarget { did: random_key().did().clone(), ..device.target.clone() };
    let refused = client.tell(&gone, SELF, &Value::Null, SOON).await.unwrap_err();
    assert!(matches!(refused, CallError::NotSent { .. }), "{refused}");
}
