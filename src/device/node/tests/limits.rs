//! How much is worked on at a time.

use serde_json::{Value, json};

use super::{
    MINUTES,
    rig::{Rig, random_key, until},
};
use crate::device::dms::path;

#[tokio::test]
async fn one_sender_does_not_take_all_the_room() {
    let mut rig = Rig::start().await;
    let lifecycle = std::sync::Arc::clone(&rig.node.0.lifecycle);
    // Whoever wants to offboard waits for this.
    let held = lifecycle.hold_places().await;
    let offboard = |rig: &Rig| rig.envelope(&rig.caller, path::ONBOARDING_OFFBOARD, &json!({}), MINUTES);
    for _ in 0..32 {
        rig.send(&offboard(&rig).sign(&rig.caller)).await;
    }
    assert_eq!(rig.node.dropped().get("SenderLimit"), None);
    for _ in 0..3 {
        rig.send(&offboard(&rig).sign(&rig.caller)).await;
    }
    until("what is above the bound is dropped", || rig.node.dropped().get("SenderLimit") == Some(&3)).await;

    // Another sender is judged all the while.
    let stranger = random_key();
    let asked = rig.envelope(&stranger, path::PEERS_SELF, &Value::Null, MINUTES).sign(&stranger);
    rig.send_frame(stranger.did().peer_id(), "root", asked.to_json()).await;
    until("the stranger is judged", || rig.node.dropped().get("NotAnchored") == Some(&1)).await;
    assert!(rig.outbound.try_recv().is_err(), "something was answered");

    drop(held);
    for _ in 0..32 {
        rig.outbound.recv().await.unwrap();
    }
    assert_eq!(rig.call(path::ONBOARDING_STATUS, json!({})).await, json!({"onboarded": false}));
    rig.stop().await;
}

#[tokio::test]
async fn who_waits_for_each_reply_is_never_above_the_bound() {
    let mut rig = Rig::start().await;
    for _ in 0..32 {
        rig.send(&rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES).sign(&rig.caller)).await;
    }
    for _ in 0..200 {
        rig.outbound.recv().await.unwrap();
        rig.send(&rig.envelope(&rig.caller, path::PEERS_SELF, &Value::Null, MINUTES).sign(&rig.caller)).await;
    }
    assert!(rig.node.dropped().is_empty(), "{:?}", rig.node.dropped());
    rig.stop().await;
}
