//! When a message is opened without asking.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::noop_waker;
use libp2p::swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedOutbound};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError};

use super::behaviour::{Frames, FromConnection, Opening, Outgoing, SendFailure, SendId};
use super::frame::Name;
use super::rig::random_bytes;
use super::spoil::Spoil;
use super::substream::NotAgreed;

fn inbox() -> String {
    format!("user-{}", u64::from_le_bytes(random_bytes()))
}

/// Opens a stream for a message, and says whether it is opened without asking.
fn open(frames: &mut Frames, id: SendId, inbox: &str, opening: Opening) -> (bool, (SendId, Name)) {
    frames.on_behaviour_event(Outgoing::of(id, (inbox, b"x"), opening, Duration::from_secs(1), Spoil::None));
    match frames.poll(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol }) => {
            let (out, info) = protocol.into_upgrade();
            (out.assumed, info)
        }
        other => panic!("no stream is opened: {other:?}"),
    }
}

fn ended(frames: &mut Frames, id: SendId) -> Option<SendFailure> {
    match frames.poll(&mut Context::from_waker(&noop_waker())) {
        Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(FromConnection::Ended(of, failure))) if of == id => failure,
        other => panic!("its end is not told: {other:?}"),
    }
}

#[test]
fn an_inbox_is_asked_for_until_it_was_there_and_again_after_a_failure() {
    let mut frames = Frames::to_nobody();
    let (inbox, other) = (inbox(), inbox());
    let (assumed, info) = open(&mut frames, 1, &inbox, Opening::Assumed);
    assert!(!assumed, "the first");
    let (assumed, _) = open(&mut frames, 2, &inbox, Opening::Assumed);
    assert!(!assumed, "the first is not through");
    let done = FullyNegotiatedOutbound { protocol: (), info };
    frames.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(done));
    assert!(ended(&mut frames, 1).is_none());
    assert!(open(&mut frames, 3, &inbox, Opening::Assumed).0, "it was there");
    assert!(!open(&mut frames, 4, &inbox, Opening::Asked).0, "this one must be sure");
    assert!(!open(&mut frames, 5, &other, Opening::Assumed).0, "another inbox");
    let (assumed, info) = open(&mut frames, 6, &inbox, Opening::Assumed);
    assert!(assumed);
    let error = StreamUpgradeError::Apply(io::Error::from(NotAgreed::NoSuchInbox));
    frames.on_connection_event(ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }));
    let failure = ended(&mut frames, 6);
    assert!(matches!(failure, Some(SendFailure::NotAgreed(NotAgreed::NoSuchInbox))), "{failure:?}");
    assert!(!open(&mut frames, 7, &inbox, Opening::Assumed).0, "it is gone");
}

#[test]
fn few_inboxes_are_remembered() {
    let mut frames = Frames::to_nobody();
    let inboxes: Vec<_> = (0..40).map(|_| inbox()).collect();
    for (id, inbox) in (1..).zip(&inboxes) {
        let (_, info) = open(&mut frames, id, inbox, Opening::Assumed);
        let done = FullyNegotiatedOutbound { protocol: (), info };
        frames.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(done));
        assert!(ended(&mut frames, id).is_none());
    }
    let known = inboxes.iter().map(|inbox| open(&mut frames, 99, inbox, Opening::Assumed).0).collect::<Vec<_>>();
    assert_eq!(known, [[false; 24].as_slice(), &[true; 16]].concat());
}
