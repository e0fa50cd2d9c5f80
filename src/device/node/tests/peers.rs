//! The node among others: whom it sees, whom it connects to, and what it tells them.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time;

use super::{
    network::client,
    rig::{Rig, config, random_key},
};
use crate::{
    capability::{Capability, Key, Minting, Token},
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{self, AnchorRequest, ConnectReply, TokenList, path},
        libp2p::DmsClient,
        node::{Clock, NodeConfig, RunningNode, wall_clock},
    },
};

const SOON: Duration = Duration::from_secs(20);

/// A node over TCP, and who may do everything there.
struct Reached {
    node: RunningNode,
    key: Key,
    target: DeviceTarget,
    client: DmsClient,
    /// By how many seconds its clock is slow.
    behind: Arc<AtomicU64>,
    _directory: tempfile::TempDir,
}

impl Reached {
    /// One that also obeys this key.
    async fn obeying(other: Option<&Key>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (key, caller) = (random_key(), random_key());
        let behind = Arc::new(AtomicU64::new(0));
        let clock: Clock = {
            let behind = Arc::clone(&behind);
            Arc::new(move || wall_clock()().minus(Duration::from_secs(behind.load(Ordering::SeqCst))))
        };
        let mut config = NodeConfig { clock, ..config(directory.path(), &key, &caller, &Arc::default()) };
        config.context.roots.extend(other.map(|key| key.did().clone()));
        let node = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".into()]).await.unwrap();
        let target = DeviceTarget { did: key.did().clone(), addresses: node.addresses().to_vec(), grant: None };
        Self { node, key, target, client: client(&caller).await, behind, _directory: directory }
    }

    fn peer(&self) -> String {
        self.key.did().peer_id()
    }

    /// Where others connect to it.
    fn address(&self) -> String {
        format!("{}/p2p/{}", self.node.addresses()[0], self.peer())
    }

    async fn connect(&self, address: &str) -> ConnectReply {
        dms::peers_connect(&self.client, &self.target, address).await.unwrap()
    }

    async fn call(&self, behaviour: &str, request: Value) -> Value {
        self.client.call(&self.target, behaviour, request, SOON).await.unwrap()
    }

    /// Has it keep revocations of what it granted.
    async fn revokes<'a>(&self, granted: impl IntoIterator<Item = &'a Token>) {
        let revoked: Vec<Token> = granted.into_iter().map(|token| Token::revoke(&self.key, token).unwrap()).collect();
        let kept = self.call(path::CAP_REVOKE, json!(AnchorRequest { token: TokenList::of(&revoked) })).await;
        assert_eq!(kept, json!({"OK": true, "Error": ""}));
    }

    async fn tell(&self) -> Value {
        self.call(path::CAP_REVOKE_BROADCAST, json!({"Context": "dms"})).await
    }
}

#[tokio::test]
async fn a_node_connects_to_another_sees_it_and_pings_it() {
    let (node, other) = (Reached::obeying(None).await, Reached::obeying(None).await);
    let own_caller = node.client.link().peer_id().to_owned();
    let list = async || dms::peers_list(&node.client, &node.target).await.unwrap().peers;
    assert_eq!(list().await, std::slice::from_ref(&own_caller));
    let unseen = dms::peers_ping(&node.client, &node.target, &other.peer()).await.unwrap();
    assert!(unseen.error.contains("is not connected to") && unseen.error.contains(&other.peer()), "{unseen:?}");

    let raw = node.call(path::PEERS_CONNECT, json!({"Address": other.address()})).await;
    assert_eq!(raw, json!({"Status": "CONNECTED", "Error": ""}));
    let mut both = vec![own_caller, other.peer()];
    both.sort();
    assert_eq!(list().await, both);
    // At once, before any ping is due by itself, and as DMS writes it: whole milliseconds.
    let raw = node.call(path::PEERS_PING, json!({"Host": other.peer()})).await;
    assert!(raw["Error"] == "" && raw["RTT"].as_u64().is_some_and(|rtt| rtt <= 1000), "{raw}");
    assert_eq!(other.node.link().peers().iter().filter(|peer| peer.peer == node.peer()).count(), 1);
    // Again: it is there already.
    assert_eq!(node.connect(&other.address()).await.error, "");
    assert_eq!(other.node.link().counters().connections(), 1);

    other.node.stop().await;
    let deadline = time::Instant::now() + SOON;
    while list().await.len() > 1 {
        assert!(time::Instant::now() < deadline, "it still sees a node that has stopped");
        time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(node.node.node().dropped().len(), 0);
    node.node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_connected_to_is_told_and_let_be() {
    let (node, other) = (Reached::obeying(None).await, Reached::obeying(None).await);
    let nobody = random_key().did().peer_id();
    let there = node.node.addresses()[0].clone();
    let (closed, silent) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let of =
        |listener: &TcpListener| format!("/ip4/127.0.0.1/tcp/{}/p2p/{nobody}", listener.local_addr().unwrap().port());
    let (refusing, silent_at) = (of(&closed), of(&silent));
    drop(closed);
    for (address, why) in [
        (other.node.addresses()[0].clone(), "no multiaddress that ends in the peer ID"),
        (format!("/p2p/{}", other.peer()), "no multiaddress that ends in the peer ID"),
        ("192.0.2.1:9000".to_owned(), "no multiaddress that ends in the peer ID"),
        (format!("{}/p2p/{nobody}", other.node.addresses()[0]), "belongs to another node"),
        (format!("{there}/p2p/{}", node.peer()), "could not connect to"),
        (refusing.clone(), "refused"),
    ] {
        let refused = node.connect(&address).await;
        assert!(refused.status.is_empty() && refused.error.contains(why), "{address}: {refused:?}");
    }
    assert_eq!(dms::peers_list(&node.client, &node.target).await.unwrap().peers.len(), 1);
    // Nobody who could not be reached is dialled again: the answer is that of a new try, and not of a pause.
    for _ in 0..8 {
        let again = node.connect(&refusing).await;
        assert!(again.error.contains("refused") && !again.error.contains("again in a while"), "{again:?}");
    }

    // More than a few at once are not dialled; who answers nothing does not hold them for ever.
    let many = (0..6).map(|_| node.connect(&silent_at));
    let answers = futures::future::join_all(many).await;
    let busy = answers.iter().filter(|answer| answer.error.contains("being made already")).count();
    let late = answers.iter().filter(|answer| answer.error.contains("no connection was made in time")).count();
    assert_eq!((busy, late), (2, 4), "{answers:?}");
    assert_eq!(node.connect(&other.address()).await.status, "CONNECTED");
    for reached in [node, other] {
        reached.node.stop().await;
    }
}

#[tokio::test]
async fn a_node_without_a_network_says_so() {
    let mut rig = Rig::start().await;
    assert_eq!(rig.call(path::PEERS_LIST, json!({})).await, json!({"Peers": []}));
    let none = "this node has no network";
    let peer = random_key().did().peer_id();
    assert_eq!(rig.call(path::PEERS_PING, json!({"Host": peer})).await, json!({"Error": none, "RTT": 0}));
    let address = format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}");
    assert_eq!(rig.call(path::PEERS_CONNECT, json!({"Address": address})).await, json!({"Status": "", "Error": none}));
    // There is nothing to tell, so nobody is missed.
    let told = rig.call(path::CAP_REVOKE_BROADCAST, json!({"Context": "dms"})).await;
    assert_eq!(told, json!({"OK": true, "Error": "", "TokensCount": 0}));
    let minting = minting(&random_key(), "/dms");
    let token = Token::delegate(&rig.node_key, Minting { expires: rig.now().plus(SOON), ..minting }, None).unwrap();
    let revocation = Token::revoke(&rig.node_key, &token).unwrap();
    rig.call(path::CAP_REVOKE, json!(AnchorRequest { token: TokenList::of(&[revocation]) })).await;
    let told = rig.call(path::CAP_REVOKE_BROADCAST, json!({"Context": "dms"})).await;
    assert_eq!(told, json!({"OK": false, "Error": none, "TokensCount": 0}));
    rig.stop().await;
}

fn minting(to: &Key, capability: &str) -> Minting {
    Minting {
        subject: to.did().clone(),
        audience: None,
        capabilities: vec![Capability::parse(capability).unwrap()],
        topics: vec![],
        expires: wall_clock()().plus(Duration::from_mins(5)),
        depth: 1,
        nonce: rand::random(),
    }
}

/// The second node obeys the first, which gave a guest leave to ask the second; it takes that back, and tells everybody.
#[tokio::test]
async fn what_a_node_revoked_it_tells_others_when_asked() {
    let node = Reached::obeying(None).await;
    let other = Reached::obeying(Some(&node.key)).await;
    let guest = random_key();
    let grant = Token::delegate(&node.key, minting(&guest, path::PEERS_SELF), None).unwrap();
    let as_guest = DeviceTarget { grant: Some(grant.clone()), ..other.target.clone() };
    let guest = client(&guest).await;
    let ask = async |wait| guest.call(&as_guest, path::PEERS_SELF, json!({}), wait).await;
    ask(SOON).await.unwrap();

    // More than fit into one broadcast, and one that has run out and need not be told any more.
    let others: Vec<Token> =
        (0..99).map(|_| Token::delegate(&node.key, minting(&random_key(), "/dms"), None).unwrap()).collect();
    for some in others.chunks(33) {
        node.revokes(some).await;
    }
    node.revokes([&grant]).await;
    node.behind.store(20, Ordering::SeqCst);
    let ended = Minting { expires: wall_clock()(), ..minting(&node.key, "/dms") };
    node.revokes([&Token::delegate(&node.key, ended, None).unwrap()]).await;
    node.behind.store(0, Ordering::SeqCst);

    let alone = node.tell().await;
    assert!(alone["OK"] == false && alone["TokensCount"] == 0, "{alone}");
    assert!(alone["Error"].as_str().unwrap().contains("no connected node listens"), "{alone}");
    ask(SOON).await.expect("nobody was told yet");
    assert_eq!(node.connect(&other.address()).await.error, "");
    // Who listens to what is told right after the connection is made.
    let deadline = time::Instant::now() + SOON;
    let told = loop {
        let told = node.tell().await;
        if told["OK"] == true {
            break told;
        }
        assert!(time::Instant::now() < deadline, "{told}");
        time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(told, json!({"OK": true, "Error": "", "TokensCount": 100}));
    let deadline = time::Instant::now() + 2 * SOON;
    let heard = async || {
        let trusted: dms::Anchors = dms::tolerant::decode(other.call(path::CAP_LIST, json!({})).await).unwrap();
        trusted.revoke.list.len()
    };
    while heard().await < 100 {
        assert!(time::Instant::now() < deadline, "the other node heard of {}", heard().await);
        time::sleep(Duration::from_millis(20)).await;
    }
    let silent = ask(Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    assert_eq!(other.node.node().dropped().get("Revoked"), Some(&1));

    // It is a right like any other.
    let stranger = client(&random_key()).await;
    let silent = stranger.call(&node.target, path::CAP_REVOKE_BROADCAST, json!({}), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    assert_eq!(node.node.node().dropped().get("NotAnchored"), Some(&1));
    for reached in [node, other] {
        reached.node.stop().await;
    }
}
