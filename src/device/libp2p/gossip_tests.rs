//! Broadcasts between links over real TCP.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::counters::Dropped;
use super::link::{InboundFrame, Link, LinkConfig, PublishError, Via};
use super::rig::{broadcast, random_bytes, random_key, until};
use crate::capability::{Envelope, Key, Nanos};

const SOON: Duration = Duration::from_secs(20);

/// A node that listens, and hears broadcasts of these topics.
struct Hearing {
    key: Key,
    link: Link,
    arrived: mpsc::Receiver<InboundFrame>,
}

impl Hearing {
    async fn start(topics: &[&str]) -> Self {
        let key = random_key();
        let config = LinkConfig {
            key: key.clone(),
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            inboxes: vec!["root".to_owned()],
            topics: Some(topics.iter().map(ToString::to_string).collect()),
        };
        let (link, arrived) = Link::start(config).await.unwrap();
        Self { key, link, arrived }
    }

    async fn connect_to(&self, other: &mut Self) {
        let addresses = other.link.listen_addresses().await;
        self.link.send(other.link.peer_id(), &addresses, "root", b"hello".to_vec(), SOON).await.unwrap();
        assert_eq!(other.next().await.body, b"hello");
    }

    async fn next(&mut self) -> InboundFrame {
        timeout(SOON, self.arrived.recv()).await.expect("nothing arrives").expect("the link has stopped")
    }

    /// Publishes as soon as a neighbour has said that it listens.
    async fn publish(&self, topic: &str, body: &[u8]) {
        let nobody = PublishError::NoListener { topic: topic.to_owned() };
        until("somebody listens", async || match self.link.publish_unchecked(topic, body.to_vec()).await {
            Ok(()) => true,
            Err(error) if error == nobody => false,
            Err(error) => panic!("{error}"),
        })
        .await;
    }
}

fn soon() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now()).plus(SOON)
}

fn topic() -> String {
    format!("/nunet/{}", hex::encode(random_bytes::<8>()))
}

#[tokio::test]
async fn a_broadcast_reaches_who_listens_and_what_is_wrong_is_not_passed_on() {
    let topic = topic();
    let publisher = Hearing::start(&[]).await;
    let mut near = Hearing::start(&[&topic]).await;
    let mut far = Hearing::start(&[&topic]).await;
    near.connect_to(&mut far).await;
    publisher.connect_to(&mut near).await;
    let signed = |envelope: Envelope| envelope.sign(&publisher.key).to_json();
    let good = || broadcast(&publisher.key, &topic, soon());
    // That the far one is known to listen: what the near one publishes comes there.
    let greeting = broadcast(&near.key, &topic, soon()).sign(&near.key).to_json();
    near.publish(&topic, &greeting).await;
    let want = InboundFrame { peer: near.link.peer_id().to_owned(), via: Via::Topic(topic.clone()), body: greeting };
    assert_eq!(far.next().await, want);
    let wrong = [
        (b"no envelope".to_vec(), Dropped::Undecodable),
        (signed(Envelope { topic: Some("/nunet/other".to_owned()), ..good() }), Dropped::ForeignTopic),
        (signed(Envelope { to: good().from, ..good() }), Dropped::ForeignTopic),
        (signed(Envelope { expires: Nanos(1), ..good() }), Dropped::Expired),
        (good().sign(&random_key()).to_json(), Dropped::Unverified),
    ];
    for (body, reason) in wrong {
        let before = near.link.counters().dropped(reason);
        publisher.publish(&topic, &body).await;
        until(reason.code(), async || near.link.counters().dropped(reason) == before + 1).await;
    }
    // Over the one stream what comes later is later: if this arrives first, nothing of the above was passed on.
    let right = signed(good());
    publisher.publish(&topic, &right).await;
    let source = publisher.link.peer_id().to_owned();
    for node in [&mut near, &mut far] {
        let frame = node.next().await;
        assert_eq!((&frame.peer, &frame.via), (&source, &Via::Topic(topic.clone())));
        assert!(frame.body == right, "another message than the right one");
    }
    assert!(Dropped::ALL.iter().all(|reason| far.link.counters().dropped(*reason) == 0));
    assert!(near.link.connected(&source).await, "a few wrong ones cost no connection");
}

#[tokio::test]
async fn what_nodes_would_refuse_is_not_published() {
    let topic = topic();
    let mut node = Hearing::start(&[&topic]).await;
    let publisher = Hearing::start(&[]).await;
    let good = || broadcast(&publisher.key, &topic, soon());
    let right = good().sign(&publisher.key).to_json();
    let alone = publisher.link.publish(&topic, right.clone()).await;
    assert_eq!(alone, Err(PublishError::NoListener { topic: topic.clone() }));
    publisher.connect_to(&mut node).await;
    publisher.publish(&topic, &right).await;
    assert_eq!(node.next().await.body, right);
    let cases = [
        (b"{".to_vec(), "not an envelope"),
        (Envelope { topic: None, ..good() }.sign(&publisher.key).to_json(), "not a broadcast to this topic"),
        (Envelope { expires: Nanos(1), ..good() }.sign(&publisher.key).to_json(), "expired"),
        (good().to_json(), "signature"),
        (vec![b' '; (1 << 20) + 1], "longer than 1 MiB"),
    ];
    for (body, cause) in cases {
        let refused = publisher.link.publish(&topic, body).await.unwrap_err();
        assert!(matches!(&refused, PublishError::Refused { .. }) && refused.to_string().contains(cause), "{refused}");
    }
    publisher.link.publish(&topic, good().sign(&publisher.key).to_json()).await.unwrap();
    node.next().await;
    assert!(Dropped::ALL.iter().all(|reason| node.link.counters().dropped(*reason) == 0));
    publisher.link.clone().stop().await;
    let stopped = publisher.link.publish(&topic, good().sign(&publisher.key).to_json()).await;
    assert!(matches!(stopped, Err(PublishError::NotSent { .. })), "{stopped:?}");
}
