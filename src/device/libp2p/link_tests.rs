//! Links over real TCP.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::counters::Dropped;
use super::link::{InboundFrame, Link, LinkConfig, LinkError, MAX_BODY_SENT, SendError, Via};
use super::rig::{random_key, until};
use super::task::{FEW, LONG};
use crate::capability::Key;

const SOON: Duration = Duration::from_secs(20);

async fn listening(key: Key, address: &str, inboxes: &[&str]) -> (Link, mpsc::Receiver<InboundFrame>) {
    let inboxes = inboxes.iter().map(ToString::to_string).collect();
    Link::start(LinkConfig { key, listen: vec![address.to_owned()], inboxes, topics: Vec::new() }).await.unwrap()
}

async fn dialing() -> Link {
    let config =
        LinkConfig { key: random_key(), listen: Vec::new(), inboxes: vec!["user-1".to_owned()], topics: Vec::new() };
    Link::start(config).await.unwrap().0
}

async fn next(arrived: &mut mpsc::Receiver<InboundFrame>) -> InboundFrame {
    timeout(SOON, arrived.recv()).await.expect("no message arrives").expect("the link has stopped")
}

const LOOPBACK: &str = "/ip4/127.0.0.1/tcp/0";

#[tokio::test]
async fn messages_of_every_size_arrive_whole() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["other", "root"]).await;
    let addresses = device.listen_addresses().await;
    let link = dialing().await;
    for length in [0, 1, 7, 8, 1347, 16_384, 262_144, 262_145, MAX_BODY_SENT] {
        let body: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
        link.send(device.peer_id(), &addresses, "root", body.clone(), SOON).await.unwrap();
        let want = InboundFrame { peer: link.peer_id().to_owned(), via: Via::Inbox("root".to_owned()), body };
        assert!(next(&mut arrived).await == want, "{length}");
    }
    let too_long = link.send(device.peer_id(), &addresses, "root", vec![0; MAX_BODY_SENT + 1], SOON).await;
    assert!(matches!(too_long, Err(SendError::NotSent { .. })), "{too_long:?}");
    assert_eq!(link.counters().frames_out(), 9);
    assert_eq!(device.counters().frames_in(), 9);
    assert!(link.connected(device.peer_id()).await);
}

#[tokio::test]
async fn many_at_once_arrive_once_each() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let link = dialing().await;
    let sending = (0..300_u32).map(|number| {
        let (link, addresses, peer) = (link.clone(), addresses.clone(), device.peer_id().to_owned());
        tokio::spawn(async move { link.send(&peer, &addresses, "root", number.to_le_bytes().to_vec(), SOON).await })
    });
    for sent in futures::future::join_all(sending).await {
        sent.unwrap().unwrap();
    }
    let mut got = Vec::new();
    for _ in 0..300 {
        got.push(u32::from_le_bytes(next(&mut arrived).await.body.try_into().unwrap()));
    }
    got.sort_unstable();
    assert_eq!(got, (0..300).collect::<Vec<_>>());
    assert!(arrived.try_recv().is_err());
    assert_eq!(link.counters().connections(), 1, "one connection serves all");
}

#[tokio::test]
async fn an_inbox_that_is_not_there_is_known_not_to_be_reached() {
    let (device, _arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let link = dialing().await;
    let refused = link.send(device.peer_id(), &addresses, "nobody", b"x".to_vec(), SOON).await;
    assert_eq!(refused, Err(SendError::NotSent { cause: "the node has no such inbox".to_owned() }));
}

#[tokio::test]
async fn another_node_at_the_address_is_not_talked_to() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let link = dialing().await;
    let expected = random_key().did().peer_id();
    let refused = link.send(&expected, &addresses, "root", b"x".to_vec(), SOON).await;
    let Err(SendError::NotSent { cause }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains(device.peer_id()) && cause.contains(&expected), "{cause}");
    assert!(arrived.try_recv().is_err());
    assert_eq!((link.counters().failed_dials(), device.counters().frames_in()), (1, 0));
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_at_once_and_the_breaker_opens() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let link = dialing().await;
    let peer = random_key().did().peer_id();
    let addresses = [format!("/ip4/127.0.0.1/tcp/{port}")];
    let refused = link.send(&peer, &addresses, "root", b"x".to_vec(), SOON).await;
    let Err(SendError::NotSent { cause }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains("refused"), "{cause}");
    // Attempts go on without being asked, at growing pauses; a request in between does not cause another one.
    until("the pauses have grown", async || {
        let refused = link.send(&peer, &addresses, "root", b"x".to_vec(), SOON).await;
        matches!(refused, Err(SendError::NotSent { cause }) if cause.contains("dialled again in a while"))
    })
    .await;
    let attempts = link.counters().failed_dials();
    for _ in 0..50 {
        assert!(link.send(&peer, &addresses, "root", b"x".to_vec(), SOON).await.is_err());
    }
    assert!(link.counters().failed_dials() <= attempts + 1);
    for (peer, addresses) in [("nobody", &addresses[..]), (&peer, &["nowhere".to_owned()])] {
        let refused = link.send(peer, addresses, "root", b"x".to_vec(), SOON).await;
        assert!(matches!(refused, Err(SendError::NotSent { .. })), "{refused:?}");
    }
}

#[tokio::test]
async fn a_peer_that_never_shakes_hands_costs_its_time_only() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addresses = [format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port())];
    let link = dialing().await;
    let peer = random_key().did().peer_id();
    let refused = link.send(&peer, &addresses, "root", b"x".to_vec(), Duration::from_millis(300)).await;
    assert_eq!(refused, Err(SendError::NotSent { cause: "no connection was made in time".to_owned() }));
    drop(listener);
}

#[tokio::test]
async fn a_restarted_peer_is_found_again_without_being_asked() {
    let key = random_key();
    let (device, mut arrived) = listening(key.clone(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let peer = device.peer_id().to_owned();
    let link = dialing().await;
    link.send(&peer, &addresses, "root", b"one".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"one");
    device.stop().await;
    until("the loss is noticed", async || !link.connected(&peer).await).await;
    let (_device, mut arrived) = listening(key, &addresses[0], &["root"]).await;
    until("the connection is back", async || link.connected(&peer).await).await;
    link.send(&peer, &addresses, "root", b"two".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"two");
}

#[tokio::test]
async fn a_reply_takes_the_connection_of_the_caller() {
    let (device, mut at_device) = listening(random_key(), LOOPBACK, &["root"]).await;
    let config =
        LinkConfig { key: random_key(), listen: Vec::new(), inboxes: vec!["user-7".to_owned()], topics: Vec::new() };
    let (caller, mut at_caller) = Link::start(config).await.unwrap();
    let addresses = device.listen_addresses().await;
    caller.send(device.peer_id(), &addresses, "root", b"question".to_vec(), SOON).await.unwrap();
    let question = next(&mut at_device).await;
    device.send(&question.peer, &[], "user-7", b"answer".to_vec(), SOON).await.unwrap();
    let want = InboundFrame {
        peer: device.peer_id().to_owned(),
        via: Via::Inbox("user-7".to_owned()),
        body: b"answer".to_vec(),
    };
    assert_eq!(next(&mut at_caller).await, want);
}

#[tokio::test]
async fn the_last_handle_stops_the_swarm() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let second = device.clone();
    drop(device);
    assert_eq!(second.listen_addresses().await.len(), 1);
    drop(second);
    assert_eq!(timeout(SOON, arrived.recv()).await.expect("the swarm goes on"), None);
}

#[tokio::test]
async fn a_stopped_link_says_so() {
    let link = dialing().await;
    link.clone().stop().await;
    let peer = random_key().did().peer_id();
    let refused = link.send(&peer, &[], "root", Vec::new(), SOON).await;
    assert_eq!(refused, Err(SendError::NotSent { cause: "the link has stopped".to_owned() }));
    assert!(!link.connected(&peer).await && link.listen_addresses().await.is_empty());
}

#[tokio::test]
async fn messages_that_nobody_takes_are_counted() {
    let (device, arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    drop(arrived);
    let link = dialing().await;
    link.send(device.peer_id(), &addresses, "root", b"x".to_vec(), SOON).await.unwrap();
    until("it is counted", async || device.counters().dropped(Dropped::QueueFull) == 1).await;
}

#[tokio::test]
async fn long_messages_are_not_queued_behind_many() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let link = dialing().await;
    let send = async |length: usize| {
        link.send(device.peer_id(), &addresses, "root", vec![0; length], SOON).await.unwrap();
    };
    for _ in 0..FEW {
        send(1).await;
    }
    until("all wait", async || device.counters().frames_in() == FEW as u64).await;
    send(LONG + 1).await;
    until("the long one is dropped", async || device.counters().dropped(Dropped::QueueFull) == 1).await;
    send(LONG).await;
    for want in std::iter::repeat_n(1, FEW).chain([LONG]) {
        assert_eq!(next(&mut arrived).await.body.len(), want);
    }
    // When few wait it is taken.
    send(LONG + 1).await;
    assert_eq!(next(&mut arrived).await.body.len(), LONG + 1);
    assert_eq!(device.counters().dropped(Dropped::QueueFull), 1);
}

#[tokio::test]
async fn one_peer_has_few_connections() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let key = random_key();
    let mut links = Vec::new();
    for _ in 0..3 {
        let config =
            LinkConfig { key: key.clone(), listen: Vec::new(), inboxes: vec!["user-1".to_owned()], topics: Vec::new() };
        links.push(Link::start(config).await.unwrap().0);
    }
    for link in &links[..2] {
        link.send(device.peer_id(), &addresses, "root", b"in".to_vec(), SOON).await.unwrap();
        assert_eq!(next(&mut arrived).await.body, b"in");
    }
    let third = links[2].send(device.peer_id(), &addresses, "root", b"out".to_vec(), SOON).await;
    assert!(third.is_err(), "{third:?}");
    // Somebody else is let in all the same.
    let other = dialing().await;
    other.send(device.peer_id(), &addresses, "root", b"other".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"other");
    assert_eq!(device.counters().frames_in(), 3);
}

#[tokio::test]
async fn wrong_configurations_are_refused() {
    let start = async |listen: &str, inboxes: &[&str]| {
        let inboxes = inboxes.iter().map(ToString::to_string).collect();
        Link::start(LinkConfig { key: random_key(), listen: vec![listen.to_owned()], inboxes, topics: Vec::new() })
            .await
            .map(|_| ())
    };
    assert!(matches!(start(LOOPBACK, &[]).await, Err(LinkError::Inbox { .. })));
    assert!(matches!(start(LOOPBACK, &["root", "a/b"]).await, Err(LinkError::Inbox { name }) if name == "a/b"));
    assert!(matches!(start("localhost:9000", &["root"]).await, Err(LinkError::Address { .. })));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    assert!(matches!(start(&address, &["root"]).await, Err(LinkError::Listen { .. })));
}
