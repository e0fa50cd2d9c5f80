//! An actor over real TCP, asked by others and asking itself.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout},
};

use super::{Actor, ActorConfig, Asked, Broadcaster, Denied, Origin, Right, Said, Serves};
use crate::{
    capability::{Capability, Context, Envelope, Handle, Key, Minting, Nanos, Token},
    device::{
        CallError, DeviceClient, DeviceTarget,
        libp2p::{DmsClient, InboundFrame, Link, LinkConfig, PublishError, Via},
    },
};

const SOON: Duration = Duration::from_secs(20);
const OPEN: &str = "/public/open";
const GUARDED: &str = "/dms/actor/guarded";

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

fn path(text: &str) -> Capability {
    Capability::parse(text).unwrap()
}

/// Says back what it is told, as often as there are permits.
struct Echo(Semaphore);

#[async_trait]
impl Serves for Echo {
    fn right(&self, via: &Via, behaviour: &str) -> Option<Right> {
        match (via, behaviour) {
            (Via::Inbox(_), OPEN) => Some(Right::Anybody),
            (Via::Inbox(_), GUARDED) => Some(Right::Capability),
            _ => None,
        }
    }

    async fn answer(&self, asked: &Asked) -> Option<Value> {
        self.0.acquire().await.ok()?.forget();
        Some(
            json!({"told": serde_json::from_slice::<Value>(&asked.envelope.message).ok()?, "by": asked.sender.as_str()}),
        )
    }
}

struct Serving {
    actor: Actor,
    client: DmsClient,
    key: Key,
    echo: Arc<Echo>,
    target: DeviceTarget,
}

async fn link(key: &Key, inboxes: &[&str], topics: &[&str]) -> (Link, mpsc::Receiver<InboundFrame>) {
    let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let config = LinkConfig {
        key: key.clone(),
        listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
        inboxes: names(inboxes),
        topics: Some(names(topics)),
    };
    Link::start(config).await.unwrap()
}

async fn serving(permits: usize) -> Serving {
    let key = Key::from_seed(rand::random());
    let (link, arrived) = link(&key, &["user-1", "root"], &[]).await;
    let echo = Arc::new(Echo(Semaphore::new(permits)));
    let context = Context {
        did: key.did().clone(),
        roots: Vec::new(),
        require: Vec::new(),
        provide: Vec::new(),
        revoke: Vec::new(),
    };
    let actor = Actor::new(ActorConfig { key: key.clone(), context, serves: echo.clone(), clock: now }, &link);
    let target = DeviceTarget { did: key.did().clone(), addresses: link.listen_addresses().await, grant: None };
    let client = DmsClient::beside(actor.clone(), link, arrived, key.clone());
    Serving { actor, client, key, echo, target }
}

async fn caller(key: &Key) -> DmsClient {
    let (link, arrived) = link(key, &["user-2"], &[]).await;
    DmsClient::new(link, arrived, key.clone())
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(SOON, async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn it_answers_everybody_what_is_open_and_the_rest_by_right() {
    let served = serving(Semaphore::MAX_PERMITS).await;
    let key = Key::from_seed(rand::random());
    let client = caller(&key).await;
    let told = json!({"n": rand::random::<u32>()});
    let answer = json!({"told": told, "by": key.did().as_str()});
    assert_eq!(client.call(&served.target, OPEN, told.clone(), SOON).await.unwrap(), answer);

    let brief = Duration::from_millis(300);
    for behaviour in [GUARDED, "/public/other"] {
        let silent = client.call(&served.target, behaviour, told.clone(), brief).await;
        assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    }
    let grant = Minting {
        subject: key.did().clone(),
        audience: None,
        capabilities: vec![path(GUARDED)],
        topics: vec![],
        expires: now().plus(SOON),
        depth: 2,
        nonce: rand::random(),
    };
    let granted =
        DeviceTarget { grant: Some(Token::delegate(&served.key, grant, None).unwrap()), ..served.target.clone() };
    assert_eq!(client.call(&granted, GUARDED, told, SOON).await.unwrap(), answer);
    let counts = served.actor.counts();
    let counts: Vec<_> = counts.iter().map(|(ended, count)| (*ended, *count)).collect();
    assert_eq!(counts, [("Answered", 2), ("NotAnchored", 1), ("UnknownBehaviour", 1)]);
}

#[test]
fn one_network_of_ipv6_counts_as_one() {
    let counted = |text: &str| Origin::Address(text.parse().unwrap()).counted_as();
    assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    assert_eq!(counted("2001:db8:1:2::1"), counted("2001:db8:1:2:ffff::"));
    assert_eq!(counted("192.0.2.7"), "192.0.2.7");
    assert_ne!(counted("::ffff:192.0.2.7"), counted("::ffff:192.0.2.8"));
    assert_eq!(Origin::Peer("12D3".to_owned()).counted_as(), "12D3");
}

/// Over HTTP nothing proves which host a sender is at, so it names any, or none.
#[tokio::test]
async fn what_is_posted_is_answered_where_it_came() {
    let served = serving(Semaphore::MAX_PERMITS).await;
    let key = Key::from_seed(rand::random());
    let here = std::net::IpAddr::from([192, 0, 2, 1]);
    let continuation = format!("/dms/actor/replyto/{:032x}", rand::random::<u128>());
    let asked = |host: Option<String>, continuation: Option<String>| {
        let mut envelope = Envelope { continuation, ..envelope(&key, &served.target) };
        envelope.from.host = host;
        envelope.sign(&key).to_json()
    };
    for host in [None, Some(key.did().peer_id()), Some("elsewhere".to_owned())] {
        let reply = served.actor.exchange(&asked(host, Some(continuation.clone())), here).await.unwrap().unwrap();
        let reply = Envelope::parse(&reply).unwrap();
        assert_eq!(reply.verify(now()).as_ref(), Ok(served.key.did()));
        assert_eq!((reply.behaviour.as_str(), reply.to.id.did().as_ref()), (&*continuation, Some(key.did())));
        let told: Value = serde_json::from_slice(&reply.message).unwrap();
        assert_eq!(told, json!({"told": 0, "by": key.did().as_str()}));
    }
    assert_eq!(served.actor.exchange(&asked(None, None), here).await, Ok(None));
    let denied = |denied: Denied| (denied.reason, denied.later);
    let stranger = Key::from_seed(rand::random());
    let forged = envelope(&key, &served.target).sign(&stranger).to_json();
    let cases = [(b"{}".to_vec(), ("Malformed", false)), (forged, ("BadSignature", false))];
    for (body, expected) in cases {
        assert_eq!(served.actor.exchange(&body, here).await.map_err(denied), Err(expected));
    }
}

#[tokio::test]
async fn it_asks_others_over_the_same_link() {
    let (one, other) = (serving(9).await, serving(9).await);
    let told = json!("well");
    let asked = |by: &Serving| json!({"told": "well", "by": by.key.did().as_str()});
    let (to, fro) = tokio::join!(
        one.client.call(&other.target, OPEN, told.clone(), SOON),
        other.client.call(&one.target, OPEN, told.clone(), SOON),
    );
    assert_eq!((to.unwrap(), fro.unwrap()), (asked(&one), asked(&other)));
}

#[tokio::test]
async fn one_sender_takes_only_so_much_and_the_next_has_room() {
    let served = serving(0).await;
    let (key, other) = (Key::from_seed(rand::random()), Key::from_seed(rand::random()));
    let client = Arc::new(caller(&key).await);
    let asking: Vec<_> = (0..40)
        .map(|n| {
            let (client, target) = (client.clone(), served.target.clone());
            tokio::spawn(async move { client.call(&target, OPEN, json!(n), SOON).await })
        })
        .collect();
    // The link itself sends 32 at a time.
    until("as many as may be are worked on", || served.actor.working(&key.did().peer_id()) == 32).await;
    let one_more = envelope(&key, &served.target).sign(&key);
    client.link().send(&served.key.did().peer_id(), &[], "root", one_more.to_json(), SOON).await.unwrap();
    until("one more is dropped", || served.actor.counts().get("SenderLimit") >= Some(&1)).await;
    let beside = caller(&other).await;
    served.echo.0.add_permits(1000);
    assert!(beside.call(&served.target, OPEN, json!(0), SOON).await.is_ok());
    for call in asking {
        call.abort();
    }
}

/// Makes a message that no honest peer sends.
type Spoil<'a> = Box<dyn Fn() -> Envelope + 'a>;

fn envelope(key: &Key, target: &DeviceTarget) -> Envelope {
    Envelope {
        to: Handle::root_of(&target.did),
        behaviour: OPEN.to_owned(),
        from: Handle::of(key.did(), Some(key.did().peer_id()), Some("user-2".to_owned())),
        nonce: rand::random(),
        expires: now().plus(SOON),
        continuation: None,
        topic: None,
        message: b"0".to_vec(),
        capabilities: Vec::new(),
        signature: None,
    }
}

#[tokio::test]
async fn who_sends_what_no_honest_peer_sends_is_cut_off() {
    let served = serving(Semaphore::MAX_PERMITS).await;
    let (key, stranger) = (Key::from_seed(rand::random()), Key::from_seed(rand::random()));
    let client = caller(&key).await;
    let spoilt: [(&str, Spoil<'_>); 4] = [
        ("BadSignature", Box::new(|| envelope(&key, &served.target).sign(&stranger))),
        ("ForeignHost", Box::new(|| envelope(&stranger, &served.target).sign(&stranger))),
        ("NotForUs", Box::new(|| Envelope { to: Handle::root_of(stranger.did()), ..envelope(&key, &served.target) })),
        ("Expired", Box::new(|| Envelope { expires: now(), ..envelope(&key, &served.target) }.sign(&key))),
    ];
    let counters = served.client.link().counters().clone();
    for (reason, spoil) in &spoilt {
        let frame = spoil().to_json();
        client.link().send(&served.key.did().peer_id(), &served.target.addresses, "root", frame, SOON).await.unwrap();
        until(reason, || served.actor.counts().get(reason) == Some(&1)).await;
    }
    assert_eq!((counters.cut_off(), served.actor.counts().len()), (0, 4));
    let sending = async {
        loop {
            let frame = spoilt[0].1().to_json();
            let peer = served.key.did().peer_id();
            if client.link().send(&peer, &served.target.addresses, "root", frame, SOON).await.is_err() {
                return;
            }
        }
    };
    assert!(timeout(SOON, sending).await.is_ok(), "it is let go on");
    assert_eq!(counters.cut_off(), 1);
}

#[tokio::test]
async fn a_broadcast_carries_the_right_that_a_grant_gives() {
    let (topic, behaviour) = (path("/nunet/revocation"), path("/dms/cap/revoke/broadcast"));
    let (owner, key) = (Key::from_seed(rand::random()), Key::from_seed(rand::random()));
    let (hearing, mut heard) = link(&owner, &["root"], &[topic.as_str()]).await;
    let (telling, _arrived) = link(&key, &["user-1"], &[]).await;
    let broadcaster = Broadcaster::new(&telling, key.clone(), now());
    let message = json!({"n": rand::random::<u32>()});
    let said = Said { topic: &topic, behaviour: &behaviour, message: &message };
    let minting = Minting {
        subject: key.did().clone(),
        audience: None,
        capabilities: vec![behaviour.clone()],
        topics: vec![topic.clone()],
        expires: now().plus(SOON),
        depth: 2,
        nonce: rand::random(),
    };
    let unrelated = Minting { topics: vec![], capabilities: vec![path("/dms/node")], ..minting.clone() };
    let grants = [Token::delegate(&owner, unrelated, None).unwrap(), Token::delegate(&owner, minting, None).unwrap()];
    let ping = envelope(&key, &DeviceTarget { did: owner.did().clone(), addresses: vec![], grant: None });
    telling
        .send(&owner.did().peer_id(), &hearing.listen_addresses().await, "root", ping.to_json(), SOON)
        .await
        .unwrap();
    let telling_all = async {
        loop {
            match broadcaster.tell(said, &grants, now()).await {
                Err(super::BroadcastError::Publish(PublishError::NoListener { .. })) => {
                    sleep(Duration::from_millis(5)).await;
                }
                other => return other.unwrap(),
            }
        }
    };
    timeout(SOON, telling_all).await.expect("nobody listens");
    let frame = loop {
        let frame = timeout(SOON, heard.recv()).await.unwrap().unwrap();
        if frame.via == Via::Topic(topic.to_string()) {
            break frame;
        }
    };
    let envelope = Envelope::parse(&frame.body).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&envelope.message).unwrap(), message);
    let trusting = |roots| Context {
        did: owner.did().clone(),
        roots,
        require: Vec::new(),
        provide: Vec::new(),
        revoke: Vec::new(),
    };
    trusting(vec![]).authorise_broadcast(&envelope, &topic, &behaviour, now()).unwrap();
    let stranger = Context { did: Key::from_seed(rand::random()).did().clone(), ..trusting(vec![]) };
    stranger.authorise_broadcast(&envelope, &topic, &behaviour, now()).unwrap_err();
    let rooted = Context { roots: vec![key.did().clone()], ..stranger };
    rooted.authorise_broadcast(&envelope, &topic, &behaviour, now()).unwrap();
}
