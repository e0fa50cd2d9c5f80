//! Bad input, one wrong at a time: each is dropped and counted under its own reason, and the connection that brought it is
//! kept.

use dms_operator::{
    capability::Key,
    device::{
        dms::{self, path::PEERS_SELF},
        libp2p::Dropped,
    },
};
use serde_json::json;

use super::{
    GoCaller, GoPeer, OurNode, client,
    ours::{has_dropped, hello},
    seed,
};
use crate::timed::Timed;

/// What a sender can get wrong, and what our node calls it.
const REQUESTS: [(&str, &str); 13] = [
    ("garbage", "Malformed"),
    ("short", "BrokenStream"),
    ("trailing", "TrailingBytes"),
    ("too-long", "TooLong"),
    ("two-gib", "TooLong"),
    ("reset", "BrokenStream"),
    ("recipient", "NotForUs"),
    ("host", "ForeignHost"),
    ("behaviour", "UnknownBehaviour"),
    ("expired", "Expired"),
    ("signature", "BadSignature"),
    ("signer", "SignerMismatch"),
    ("no-cap", "CapabilityMissing"),
];

#[tokio::test]
async fn our_node_drops_what_is_wrong_and_keeps_the_connection() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut go = GoCaller::start(&node, caller, &[]);
    go.reply(PEERS_SELF, json!({})).await;
    for (sent, (how, reason)) in (1..).zip(REQUESTS) {
        let before = node.dropped(reason);
        go.spoil(how, PEERS_SELF, 1).await;
        node.has_dropped(reason, before + 1).await;
        assert_eq!(node.drops(), sent, "{how} is counted for more than one reason");
        // Any reply to what was spoiled would come before this one.
        go.reply(PEERS_SELF, json!({})).await;
    }
    node.stop().await;
}

#[tokio::test]
async fn our_node_takes_a_new_deployment_once() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut go = GoCaller::start(&node, caller, &[]);
    let new = go.reply(dms::path::DEPLOYMENT_NEW, dms::deployment_new_request(&hello(&node.peer_id()))).await;
    assert_eq!(new["Status"], "OK", "{new}");
    // The very same bytes once more.
    go.spoil("again", dms::path::DEPLOYMENT_NEW, 1).await;
    node.has_dropped("Replayed", 1).await;
    let list = go.reply(dms::path::DEPLOYMENT_LIST, json!({})).await;
    assert_eq!((&list["total"], &list["deployments"][0]["orchestrator_id"]), (&json!(1), &new["EnsembleID"]));
    node.stop().await;
}

/// What a device can get wrong in a reply, and what our client calls it.
const REPLIES: [(&str, Dropped); 12] = [
    ("garbage", Dropped::Undecodable),
    ("short", Dropped::BrokenStream),
    ("trailing", Dropped::TrailingBytes),
    ("too-long", Dropped::TooLong),
    ("two-gib", Dropped::TooLong),
    ("reset", Dropped::BrokenStream),
    ("recipient", Dropped::NotForUs),
    ("host", Dropped::ForeignHost),
    ("behaviour", Dropped::UnknownContinuation),
    ("expired", Dropped::Expired),
    ("signature", Dropped::Unverified),
    ("signer", Dropped::ForeignSigner),
];

#[tokio::test]
async fn our_client_believes_the_true_reply_only() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let mut go = GoPeer::serve(&[key.did()], &[]).await;
    let client = client(&key).await;
    let target = go.target.clone();
    for (how, reason) in REPLIES {
        go.lie(how, 1).await;
        let calling = dms::peers_self(&client, &target);
        let before = client.link().counters().dropped(reason);
        let answering = async {
            go.next("lied").await;
            has_dropped(&client, reason, before + 1).await;
            go.tell_the_truth().await;
        };
        let (reply, ()) = tokio::join!(calling, answering);
        assert_eq!(reply.unwrap(), go.who_it_is(), "{how}");
        go.answered(PEERS_SELF).await;
    }
    // True, but the second time.
    go.lie("twice", 1).await;
    dms::peers_self(&client, &go.target).await.unwrap();
    let before = client.link().counters().dropped(Dropped::UnknownContinuation);
    go.tell_the_truth().await;
    has_dropped(&client, Dropped::UnknownContinuation, before + 1).await;
    let drops = Dropped::ALL.map(|reason| client.link().counters().dropped(reason)).iter().sum::<u64>();
    assert_eq!((drops, client.link().counters().connections()), (13, 1));
}
