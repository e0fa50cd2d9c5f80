//! Broadcasts: gossipsub, and what of it is passed on and delivered, by the rules of a DMS.

use std::io;

use libp2p::PeerId;
use libp2p::gossipsub::{
    self, AllowAllSubscriptionFilter, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter,
    Message, MessageAcceptance, MessageAuthenticity, MessageId, ValidationMode,
};
use libp2p::identity::Keypair;

use super::counters::Dropped;
use super::frame::MAX_BODY;
use crate::capability::{Envelope, Nanos, Reason};

pub(super) type Gossip =
    gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<AllowAllSubscriptionFilter>>;

/// What gossipsub puts around a message that it passes on: source, topic, signature, key.
const AROUND: usize = 1 << 10;
/// Topics that one peer may say it listens to. A DMS has four.
const TOPICS_A_PEER: usize = 64;

/// Listens to these topics; may publish to any.
pub(super) fn behaviour(key: &Keypair, topics: &[String]) -> io::Result<Gossip> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(MAX_BODY + AROUND)
        .message_id_fn(message_id)
        .build()
        .map_err(io::Error::other)?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter {},
        max_subscribed_topics: TOPICS_A_PEER,
        max_subscriptions_per_request: TOPICS_A_PEER,
    };
    let signed = MessageAuthenticity::Signed(key.clone());
    let mut gossip = Gossip::new_with_subscription_filter(signed, config, filter).map_err(io::Error::other)?;
    for topic in topics {
        gossip.subscribe(&IdentTopic::new(topic)).map_err(io::Error::other)?;
    }
    Ok(gossip)
}

/// As go-libp2p makes it: peers tell each other by these names what they have, so both sides must make the same.
fn message_id(message: &Message) -> MessageId {
    let mut id = message.source.map(PeerId::to_bytes).unwrap_or_default();
    id.extend(message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId(id)
}

/// Whether what came to a topic is a broadcast to it that still holds. Its signature is checked too: a DMS passes on
/// nothing that is not signed, and cuts off who does.
pub(super) fn check(body: &[u8], topic: &str, now: Nanos) -> Result<(), Dropped> {
    let envelope = Envelope::parse(body).map_err(|_| Dropped::Undecodable)?;
    if !envelope.is_broadcast() || envelope.topic.as_deref() != Some(topic) {
        return Err(Dropped::ForeignTopic);
    }
    match envelope.verify(now) {
        Ok(_) => Ok(()),
        Err(refusal) if refusal.reason == Reason::Expired => Err(Dropped::Expired),
        Err(_) => Err(Dropped::Unverified),
    }
}

/// What gossipsub is told about a message that is dropped. What honest peers may pass on is no fault of theirs.
pub(super) const fn verdict(dropped: Dropped) -> MessageAcceptance {
    match dropped {
        Dropped::Undecodable | Dropped::ForeignTopic | Dropped::Unverified => MessageAcceptance::Reject,
        _ => MessageAcceptance::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::super::rig::{broadcast, random_key};
    use super::*;
    use crate::capability::Handle;

    const TOPIC: &str = "/nunet/hello";
    const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

    #[test]
    fn only_a_broadcast_to_the_topic_that_holds_is_passed_on() {
        let key = random_key();
        let good = broadcast(&key, TOPIC, NOW);
        assert_eq!(check(&good.clone().sign(&key).to_json(), TOPIC, NOW), Ok(()));
        let wrong = |change: fn(&mut Envelope)| {
            let mut envelope = good.clone();
            change(&mut envelope);
            envelope.sign(&key).to_json()
        };
        let reject = [
            (b"{}".to_vec(), Dropped::Undecodable),
            (wrong(|envelope| envelope.topic = None), Dropped::ForeignTopic),
            (wrong(|envelope| envelope.topic = Some("/nunet/status".to_owned())), Dropped::ForeignTopic),
            (wrong(|envelope| envelope.to = Handle::root_of(random_key().did())), Dropped::ForeignTopic),
            (good.to_json(), Dropped::Unverified),
            (good.clone().sign(&random_key()).to_json(), Dropped::Unverified),
        ];
        for (body, reason) in reject {
            assert_eq!(check(&body, TOPIC, NOW), Err(reason));
            assert_eq!(verdict(reason), MessageAcceptance::Reject, "{reason:?}");
        }
        let late = good.sign(&key).to_json();
        assert_eq!(check(&late, TOPIC, Nanos(NOW.0 + 1)), Err(Dropped::Expired));
        for reason in [Dropped::Expired, Dropped::QueueFull] {
            assert_eq!(verdict(reason), MessageAcceptance::Ignore, "{reason:?}");
        }
    }

    #[test]
    fn messages_are_named_as_go_names_them() {
        let source = PeerId::random();
        let message = Message {
            source: Some(source),
            data: Vec::new(),
            sequence_number: Some(0x0102_0304_0506_0708),
            topic: IdentTopic::new(TOPIC).hash(),
        };
        assert_eq!(message_id(&message).0, [&source.to_bytes()[..], &[1, 2, 3, 4, 5, 6, 7, 8]].concat());
    }
}
