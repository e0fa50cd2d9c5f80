//! Whole calls: signed, judged, answered, checked.

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use bench::capability::Key;
use bench::device::dms::path::PEERS_SELF;
use bench::device::libp2p::{DmsClient, Link, LinkConfig};
use bench::device::{DeviceClient as _, DeviceTarget};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;

use super::ROUNDS;
use super::peer::{Node, Peer};
use super::table::{Bound, ratio};
use super::trips::Traveller;

const CALLS: usize = 1000;
const WITHIN: Duration = Duration::from_secs(20);
/// What a call signs and verifies: here two tokens and the request, and the reply; there the request and one token, and two
/// tokens and the reply.
const OURS: (usize, usize) = (3, 1);
const THEIRS: (&str, &str) = ("3", "2");
/// About what a token or an envelope without its tokens has.
const SIGNED: usize = 512;

/// A call against one trip of a frame as long as its request, and its signatures, made bare.
pub async fn compare(peer: &Path) -> Result<(), Box<dyn Error>> {
    let key = Key::from_seed(rand::random());
    let node = Node::start(peer, "serve", &["--quiet", "--root", key.did().as_str()]).await?;
    let echo = Node::start(peer, "echo", &[]).await?;
    let config = LinkConfig {
        key: key.clone(),
        listen: Vec::new(),
        inboxes: vec!["user-1".to_owned()],
        topics: None,
    };
    let (link, arrived) = Link::start(config).await?;
    let client = DmsClient::new(link, arrived, key);
    let traveller = Traveller::start(&echo.target).await?;
    let frame = client.prepare(&node.target, PEERS_SELF, json!({}), WITHIN)?.frame.len();
    calls(&client, &node.target).await?;
    traveller.run(CALLS, 1, frame).await?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let (whole, trip) = if round % 2 == 0 {
            let whole = calls(&client, &node.target).await?;
            (whole, traveller.run(CALLS, 1, frame).await?.p50)
        } else {
            let trip = traveller.run(CALLS, 1, frame).await?.p50;
            (calls(&client, &node.target).await?, trip)
        };
        rounds.push((whole, trip + bare()? + bare_in_go(peer).await?));
    }
    ratio(&format!("call of {frame} bytes : trip and bare signatures, p50"), Bound::AtMost(1.1), "µs", &rounds);
    Ok(())
}

/// What a call takes, in the middle of many.
async fn calls(client: &DmsClient, target: &DeviceTarget) -> Result<f64, Box<dyn Error>> {
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        client.call(target, PEERS_SELF, json!({}), WITHIN).await?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[CALLS / 2].as_nanos() as f64 / 1e3)
}

fn bare() -> Result<f64, Box<dyn Error>> {
    let key = SigningKey::from_bytes(&rand::random());
    let message = [0x5a; SIGNED];
    let (signs, verifies) = OURS;
    let mut took = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        let mut signature = key.sign(&message);
        (1..signs).for_each(|_| signature = key.sign(&message));
        for _ in 0..verifies {
            key.verifying_key().verify_strict(&message, &signature)?;
        }
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    Ok(took[CALLS / 2].as_nanos() as f64 / 1e3)
}

async fn bare_in_go(peer: &Path) -> Result<f64, Box<dyn Error>> {
    let (signs, verifies) = THEIRS;
    let size = SIGNED.to_string();
    let mut go = Peer::start(peer, &["bare", "--signs", signs, "--verifies", verifies, "--size", &size])?;
    let line = go.next("bare").await?;
    line["p50"].as_f64().ok_or_else(|| format!("no p50 in {line}").into())
}
