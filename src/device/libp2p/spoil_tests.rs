//! What goes wrong on purpose, and no more than that.

use std::sync::Arc;
use std::time::Duration;

use super::budget::Share;
use super::frame::{frame, read_body};
use super::link::{InboundFrame, Link, LinkConfig};
use super::rig::{compat, random_key, until};
use super::spoil::{BETWEEN_PIECES, HALF_OPEN, Spoil, Spoiling, write};

#[tokio::test(start_paused = true)]
async fn a_spoilt_frame_is_begun_and_never_whole() {
    let body = rand::random::<[u8; 32]>();
    for (spoil, written) in [(Spoil::Cut, 8 + 16), (Spoil::HalfOpen, 8)] {
        let (here, mut there) = tokio::io::duplex(64);
        let begun = tokio::time::Instant::now();
        write(compat(here), &frame(&body), spoil).await.unwrap();
        let mut arrived = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut there, &mut arrived).await.unwrap();
        assert_eq!(arrived, frame(&body)[..written], "{spoil:?}");
        let held = if spoil == Spoil::HalfOpen { HALF_OPEN } else { Duration::ZERO };
        assert_eq!(begun.elapsed(), held, "{spoil:?}");
    }
}

async fn two_links() -> (Link, Link, Vec<String>, tokio::sync::mpsc::Receiver<InboundFrame>) {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".to_owned()];
    let config = LinkConfig { key: random_key(), listen, inboxes: vec!["root".to_owned()], topics: None };
    let (device, arrived) = Link::start(config).await.unwrap();
    let config = LinkConfig { key: random_key(), listen: vec![], inboxes: vec!["root".to_owned()], topics: None };
    let (caller, _) = Link::start(config).await.unwrap();
    let addresses = device.listen_addresses().await;
    (device, caller, addresses, arrived)
}

#[tokio::test]
async fn what_is_spoilt_on_its_way_is_counted_and_the_connection_stays() {
    let (device, caller, addresses, mut arrived) = two_links().await;
    let within = Duration::from_secs(10);
    let send = async |body: &[u8], spoil| {
        caller.send_spoilt(device.peer_id(), &addresses, "root", body.to_vec(), within, spoil).await.unwrap();
    };
    send(b"first", Spoil::None).await;
    assert_eq!(arrived.recv().await.unwrap().body, b"first");
    send(b"never whole", Spoil::Cut).await;
    until("it is counted", async || device.counters().dropped(super::Dropped::BrokenStream) == 1).await;
    send(b"last", Spoil::None).await;
    assert_eq!(arrived.recv().await.unwrap().body, b"last");
    assert_eq!(caller.counters().connections(), 1);
}

#[tokio::test]
async fn a_mute_link_says_nothing_until_it_may() {
    let (device, caller, addresses, mut arrived) = two_links().await;
    let peer = device.peer_id().to_owned();
    let send = async |within| caller.send(&peer, &addresses, "root", b"x".to_vec(), within).await;
    send(Duration::from_secs(10)).await.unwrap();
    arrived.recv().await.unwrap();
    device.spoiling().mute(true);
    // Out of luck it is in the middle of a poll; after that nothing comes.
    let _ = send(Duration::from_millis(300)).await;
    while arrived.try_recv().is_ok() {}
    let sent = send(Duration::from_millis(300)).await;
    assert!(sent.is_err(), "{sent:?}");
    assert!(arrived.try_recv().is_err());
    device.spoiling().mute(false);
    until("it hears again", async || send(Duration::from_secs(2)).await.is_ok() && arrived.try_recv().is_ok()).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_takes_its_time_and_gets_it_all() {
    let body = vec![7; 1000];
    for slowly in [false, true] {
        let spoiling = Spoiling::default();
        spoiling.read_slowly(slowly);
        let (mut here, there) = tokio::io::duplex(4096);
        tokio::io::AsyncWriteExt::write_all(&mut here, &frame(&body)).await.unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(
            read_body(&mut spoiling.reading(compat(there)), &mut Arc::<Share>::default().begin()).await.unwrap(),
            body
        );
        assert_eq!(begun.elapsed() >= BETWEEN_PIECES * 15, slowly, "{:?}", begun.elapsed());
    }
}
