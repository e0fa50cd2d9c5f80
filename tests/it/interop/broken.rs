//! Peers that are slow, stuck, gone, or somebody else.

use std::time::Duration;

use dms_operator::{
    capability::Key,
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{
            self,
            path::{self, PEERS_SELF},
        },
        libp2p::Dropped,
    },
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{GoCaller, GoPeer, OurNode, SOON, client, go_invokes, ours::has_dropped, seed, until};
use crate::timed::Timed;

#[tokio::test]
async fn a_frozen_go_peer_is_left_and_found_again() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let go = GoPeer::serve(&[key.did()], &[]).await;
    let client = client(&key).await;
    dms::peers_self(&client, &go.target).await.unwrap();
    go.freeze();
    let begun = Instant::now();
    let failed = client.call(&go.target, PEERS_SELF, json!({}), Duration::from_secs(1)).await.unwrap_err();
    assert!(begun.elapsed() < UNHINDERED, "{failed} after {:?}", begun.elapsed());
    // The connection stands, but the stream is never agreed on: no byte of what must not be lost has left.
    let new = path::DEPLOYMENT_NEW;
    let call = client.prepare(&go.target, new, json!({}), SOON).unwrap();
    let failed = client.send(&go.target, new, call, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(failed, CallError::NotSent { .. }), "{failed}");
    assert!(!client.link().connected(&go.target.did.peer_id()).await, "a connection that takes nothing is closed");
    go.thaw();
    found_again(&client, &go.target).await;
}

async fn found_again(client: &dms_operator::device::libp2p::DmsClient, target: &DeviceTarget) {
    let healed = async {
        while dms::peers_self(client, target).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, healed).await.expect("the link does not come back");
}

#[tokio::test]
async fn a_killed_go_peer_is_found_again() {
    let _timed = Timed::start();
    let (key, device) = (Key::from_seed(seed()), seed());
    let go = GoPeer::serve_as(device, &[key.did()], &[]).await;
    let target = go.target.clone();
    let client = client(&key).await;
    dms::peers_self(&client, &target).await.unwrap();
    go.kill().await;
    let gone = client.call(&target, PEERS_SELF, json!({}), Duration::from_secs(2)).await.unwrap_err();
    assert!(gone.never_sent() || matches!(gone, CallError::Silent { .. }), "{gone}");
    let _again = GoPeer::serve_as(device, &[key.did()], &["--listen", &target.addresses[0]]).await;
    found_again(&client, &target).await;
    assert_eq!(client.link().counters().connections(), 2);
}

#[tokio::test]
async fn an_address_of_another_node_is_not_written_to() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let mut go = GoPeer::serve(&[key.did()], &[]).await;
    let client = client(&key).await;
    let wanted = Key::from_seed(seed()).did().clone();
    let target = DeviceTarget { did: wanted.clone(), ..go.target.clone() };
    let refused = client.call(&target, PEERS_SELF, json!({}), SOON).await.unwrap_err();
    let says = format!("answers {}, not {}", go.target.did.peer_id(), wanted.peer_id());
    assert!(matches!(&refused, CallError::NotSent { cause, .. } if cause.contains(&says)), "{refused}");
    // What had reached it would have been dropped, as it is for another actor.
    dms::peers_self(&client, &go.target).await.unwrap();
    go.answered(PEERS_SELF).await;
}

#[tokio::test]
async fn a_slow_reply_is_awaited() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let mut go = GoPeer::serve(&[key.did()], &["--spoil-reply", "slow"]).await;
    let client = client(&key).await;
    assert_eq!(dms::peers_self(&client, &go.target).await.unwrap(), go.who_it_is());
    go.tell_the_truth().await;
    has_dropped(&client, Dropped::UnknownContinuation, 1).await;
}

/// Less than any time-out.
const UNHINDERED: Duration = Duration::from_secs(5);

#[tokio::test]
async fn streams_that_stay_half_open_hold_nobody_up() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let mut go = GoPeer::serve(&[key.did()], &[]).await;
    let client = client(&key).await;
    let target = go.target.clone();
    for (how, times) in [("half-open", 100), ("unproposed", 50)] {
        go.lie(how, times).await;
        let calling = dms::peers_self(&client, &target);
        let answering = async {
            go.next("lied").await;
            go.tell_the_truth().await;
        };
        tokio::join!(calling, answering).0.unwrap();
        let begun = Instant::now();
        dms::peers_self(&client, &go.target).await.unwrap();
        assert!(begun.elapsed() < UNHINDERED, "{how} streams take {:?}", begun.elapsed());
    }
    assert_eq!(client.link().counters().connections(), 1);
}

#[tokio::test]
async fn requests_that_stay_half_open_hold_nobody_up() {
    let _timed = Timed::start();
    let (stranger, caller) = (seed(), seed());
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut hostile = GoCaller::start(&node, stranger, &[]);
    let mut go = GoCaller::start(&node, caller, &[]);
    hostile.spoil("half-open", PEERS_SELF, 100).await;
    go.spoil("half-open", PEERS_SELF, 100).await;
    let begun = Instant::now();
    go.reply(PEERS_SELF, json!({})).await;
    assert!(begun.elapsed() < UNHINDERED, "a request takes {:?}", begun.elapsed());
    node.stop().await;
}

#[tokio::test]
async fn a_slow_request_is_awaited() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut go = GoCaller::start(&node, caller, &["--polite"]);
    go.reply_to(json!({"behaviour": PEERS_SELF, "message": {}, "spoil": "slow"})).await;
    assert_eq!(node.drops(), 0);
    node.stop().await;
}

#[tokio::test]
async fn an_abuser_is_cut_off_and_nobody_else() {
    let _timed = Timed::start();
    let (stranger, caller) = (seed(), seed());
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    let mut abuser = GoCaller::start(&node, stranger, &[]);
    let mut go = GoCaller::start(&node, caller, &[]);
    go.reply(PEERS_SELF, json!({})).await;
    abuser.send(json!({"behaviour": PEERS_SELF, "message": {}, "spoil": "too-long", "times": 500})).await;
    until("the abuser is cut off", || node.link().counters().cut_off() == 1).await;
    go.reply(PEERS_SELF, json!({})).await;
    // It is not let in again, whatever it brings.
    assert_ne!(go_invokes(&node, stranger, &["--timeout", "1s"]).await.0, Some(0));
    assert_eq!(node.link().counters().cut_off(), 1);
    node.stop().await;
}
