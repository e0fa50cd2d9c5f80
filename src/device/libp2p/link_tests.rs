//! Links over real TCP.

use std::time::Duration;

use futures::StreamExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::abuse::FAULTS;
use super::behaviour::Opening;
use super::counters::Dropped;
use super::frame::MAX_BODY;
use super::link::{InboundFrame, Link, LinkConfig, LinkError, MAX_BODY_SENT, SendError, Via};
use super::peers::ConnectedPeer;
use super::rig::{Frozen, random_key, until};
use super::spoil::Spoil;
use super::task::{Command, Letter, Outcome};
use super::waiting::FRAMES;
use crate::capability::Key;

const SOON: Duration = Duration::from_secs(20);

async fn listening(key: Key, address: &str, inboxes: &[&str]) -> (Link, mpsc::Receiver<InboundFrame>) {
    let inboxes = inboxes.iter().map(ToString::to_string).collect();
    Link::start(LinkConfig { key, listen: vec![address.to_owned()], inboxes, topics: None }).await.unwrap()
}

async fn dialing() -> Link {
    let config = LinkConfig { key: random_key(), listen: Vec::new(), inboxes: vec!["user-1".to_owned()], topics: None };
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

/// Sends what a link itself would refuse to.
async fn send_any(link: &Link, peer: &str, body: Vec<u8>) {
    let letter = Letter {
        peer: peer.parse().unwrap(),
        inbox: "root".to_owned(),
        body,
        opening: Opening::Asked,
        spoil: Spoil::None,
    };
    let (done, sent) = oneshot::channel();
    let command = Command::Send { letter: letter.into(), addresses: Vec::new(), within: SOON, done };
    assert!(link.ask(command).await);
    assert!(!matches!(sent.await.unwrap(), Outcome::NotConnected), "it is not connected");
}

#[tokio::test]
async fn the_longest_message_is_taken_and_one_byte_more_is_not() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let link = dialing().await;
    link.send(device.peer_id(), &device.listen_addresses().await, "root", Vec::new(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body.len(), 0);
    assert_eq!((MAX_BODY, MAX_BODY_SENT), (1_048_576, 1_048_568));
    send_any(&link, device.peer_id(), vec![7; MAX_BODY]).await;
    assert_eq!(next(&mut arrived).await.body, vec![7; MAX_BODY]);
    send_any(&link, device.peer_id(), vec![7; MAX_BODY + 1]).await;
    until("it is counted", async || device.counters().dropped(Dropped::TooLong) == 1).await;
    assert!(arrived.try_recv().is_err());
    assert!(link.connected(device.peer_id()).await, "the connection is kept");
}

#[tokio::test]
async fn who_sends_too_much_that_is_no_message_is_cut_off() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let (bad, good) = (dialing().await, dialing().await);
    for link in [&bad, &good] {
        link.send(device.peer_id(), &addresses, "root", Vec::new(), SOON).await.unwrap();
        next(&mut arrived).await;
    }
    let faults = u64::from(FAULTS);
    let wrong = async |number: u64| {
        send_any(&bad, device.peer_id(), vec![0; MAX_BODY + 1]).await;
        until("it is counted", async || device.counters().dropped(Dropped::TooLong) == number).await;
    };
    for number in 1..faults {
        wrong(number).await;
    }
    assert!(bad.connected(device.peer_id()).await && device.counters().cut_off() == 0, "too early");
    wrong(faults).await;
    until("it is cut off", async || device.peers().iter().all(|peer| peer.peer != bad.peer_id())).await;
    assert_eq!(device.counters().cut_off(), 1);
    let again = bad.send(device.peer_id(), &addresses, "root", b"again".to_vec(), Duration::from_secs(1)).await;
    assert!(again.is_err(), "it is let in again");
    let back = device.send(bad.peer_id(), &[LOOPBACK.to_owned()], "user-1", Vec::new(), SOON).await;
    assert!(matches!(&back, Err(SendError::NotSent { cause }) if cause.contains("for a while")), "{back:?}");
    good.send(device.peer_id(), &addresses, "root", b"good".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"good");
}

#[tokio::test]
async fn whom_we_dial_ourselves_is_dialled_again() {
    let (device, _taken) = listening(random_key(), LOOPBACK, &["root"]).await;
    let (link, _arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    link.send(device.peer_id(), &addresses, "root", Vec::new(), SOON).await.unwrap();
    for number in 1..=u64::from(FAULTS) {
        send_any(&device, link.peer_id(), vec![0; MAX_BODY + 1]).await;
        until("it is counted", async || link.counters().dropped(Dropped::TooLong) == number).await;
    }
    until("it is cut off", async || link.counters().cut_off() == 1).await;
    until("it is asked again", async || {
        link.send(device.peer_id(), &addresses, "root", Vec::new(), SOON).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn complaints_about_messages_count_like_broken_streams() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let link = dialing().await;
    link.send(device.peer_id(), &device.listen_addresses().await, "root", Vec::new(), SOON).await.unwrap();
    next(&mut arrived).await;
    for _ in 0..FAULTS {
        device.complain(link.peer_id(), Dropped::UnknownContinuation).await;
    }
    for _ in 1..FAULTS {
        device.complain(link.peer_id(), Dropped::Undecodable).await;
    }
    assert!(device.connected(link.peer_id()).await);
    device.complain(link.peer_id(), Dropped::Undecodable).await;
    until("it is cut off", async || !device.connected(link.peer_id()).await).await;
}

#[tokio::test]
async fn names_are_resolved_and_an_address_may_name_its_peer() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let link = dialing().await;
    let port = device.listen_addresses().await[0].rsplit('/').next().unwrap().to_owned();
    let stranger = random_key().did().peer_id();
    let foreign = [format!("/dns4/localhost/tcp/{port}/p2p/{stranger}")];
    let refused = link.send(device.peer_id(), &foreign, "root", b"x".to_vec(), SOON).await;
    let Err(SendError::NotSent { cause }) = refused else { panic!("{refused:?}") };
    assert!(cause.contains(&stranger) && cause.contains(device.peer_id()), "{cause}");
    assert_eq!((link.counters().failed_dials(), link.counters().connections()), (0, 0));
    let own = [format!("/dns4/localhost/tcp/{port}/p2p/{}", device.peer_id())];
    link.send(device.peer_id(), &own, "root", b"named".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"named");
    let unnamed = [format!("/dns4/localhost/tcp/{port}")];
    dialing().await.send(device.peer_id(), &unnamed, "root", b"unnamed".to_vec(), SOON).await.unwrap();
    assert_eq!(next(&mut arrived).await.body, b"unnamed");
}

#[tokio::test]
async fn who_is_connected_is_known_and_how_far_away() {
    let (device, _arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let link = dialing().await;
    assert_eq!((link.peers(), link.rtt(device.peer_id())), (Vec::new(), None));
    link.send(device.peer_id(), &device.listen_addresses().await, "root", Vec::new(), SOON).await.unwrap();
    until("a ping is answered", async || link.rtt(device.peer_id()).is_some()).await;
    let rtt = link.rtt(device.peer_id());
    assert!(rtt < Some(Duration::from_secs(5)), "{rtt:?}");
    assert_eq!(link.peers(), [ConnectedPeer { peer: device.peer_id().to_owned(), rtt }]);
    assert_eq!(device.peers().len(), 1);
    device.stop().await;
    until("the loss is noticed", async || link.peers().is_empty()).await;
    assert_eq!(link.rtt("nobody"), None);
}

#[tokio::test]
async fn a_link_that_stops_ends_what_is_under_way() {
    let key = random_key();
    let stuck = Frozen::start(key.clone()).await;
    let link = dialing().await;
    link.send(&stuck.peer, &stuck.addresses, "root", Vec::new(), SOON).await.unwrap();
    stuck.freeze();
    let sending = tokio::spawn({
        let (link, peer) = (link.clone(), stuck.peer.clone());
        async move { link.send_asking(&peer, &[], "root", b"x".to_vec(), SOON).await }
    });
    // Commands are obeyed in turn: after this answer the message is on its way.
    tokio::task::yield_now().await;
    assert!(link.connected(&stuck.peer).await);
    link.stop().await;
    let ended = timeout(Duration::from_secs(5), sending).await.expect("it is still under way").unwrap();
    assert!(ended.is_err(), "{ended:?}");
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
    let config = LinkConfig { key: random_key(), listen: Vec::new(), inboxes: vec!["user-7".to_owned()], topics: None };
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
async fn who_is_not_connected_is_not_dialled_to_be_answered() {
    let link = dialing().await;
    let peer = random_key().did().peer_id();
    for _ in 0..3 {
        let refused = link.send(&peer, &[], "root", b"x".to_vec(), SOON).await;
        let Err(SendError::NotSent { cause }) = refused else { panic!("{refused:?}") };
        assert!(cause.contains("it is not connected"), "{cause}");
    }
    assert_eq!((link.counters().failed_dials(), link.counters().connections()), (0, 0));
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
async fn one_peer_cannot_fill_the_room_for_all() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let (greedy, modest) = (dialing().await, dialing().await);
    let full = async || device.counters().dropped(Dropped::QueueFull) > 0;
    let sending = futures::stream::iter(0..4 * FRAMES)
        .map(|_| greedy.send(device.peer_id(), &addresses, "root", b"greedy".to_vec(), SOON));
    let mut sending = std::pin::pin!(sending.buffer_unordered(32));
    while !full().await {
        sending.next().await.expect("its share is never full").unwrap();
    }
    modest.send(device.peer_id(), &addresses, "root", b"modest".to_vec(), SOON).await.unwrap();
    until("it arrives", async || device.counters().frames_in() > device.counters().dropped(Dropped::QueueFull)).await;
    // Those that could be taken at once come first; then they take turns.
    let mut before = 0;
    while next(&mut arrived).await.peer != modest.peer_id() {
        before += 1;
        assert!(before < FRAMES / 8, "others wait behind all messages of one");
    }
}

#[tokio::test]
async fn one_peer_has_few_connections() {
    let (device, mut arrived) = listening(random_key(), LOOPBACK, &["root"]).await;
    let addresses = device.listen_addresses().await;
    let key = random_key();
    let mut links = Vec::new();
    for _ in 0..3 {
        let config =
            LinkConfig { key: key.clone(), listen: Vec::new(), inboxes: vec!["user-1".to_owned()], topics: None };
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
        Link::start(LinkConfig { key: random_key(), listen: vec![listen.to_owned()], inboxes, topics: None })
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
