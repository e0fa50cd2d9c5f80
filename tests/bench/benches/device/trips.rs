//! The transport alone: a frame goes to a node of the Go peer, which sends it back over a stream of its own.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bench::capability::Key;
use bench::device::DeviceTarget;
use bench::device::libp2p::{InboundFrame, Link, LinkConfig};
use tokio::sync::{mpsc, oneshot};

use super::ROUNDS;
use super::peer::{Node, Peer};
use super::table::{Bound, figure, median, ratio};

/// The frame of one request as a DMS client makes it.
const FRAME: usize = 1347;
const ONE_BY_ONE: usize = 2000;
const SIDE_BY_SIDE: usize = 8000;
const IN_FLIGHT: usize = 32;
const WITHIN: Duration = Duration::from_secs(20);

type Awaited = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// Sends frames and awaits them back.
#[derive(Clone)]
pub struct Traveller {
    link: Link,
    awaited: Awaited,
    to: Arc<DeviceTarget>,
}

pub struct Result1 {
    pub p50: f64,
    pub p99: f64,
    pub per_second: f64,
}

impl Traveller {
    pub async fn start(to: &DeviceTarget) -> Result<Self, Box<dyn Error>> {
        let config = LinkConfig {
            key: Key::from_seed(rand::random()),
            listen: Vec::new(),
            inboxes: vec!["user-1".to_owned()],
            topics: None,
        };
        let (link, arrived) = Link::start(config).await?;
        let awaited = Awaited::default();
        tokio::spawn(take(arrived, awaited.clone()));
        Ok(Self { link, awaited, to: Arc::new(to.clone()) })
    }

    /// One frame there and back.
    pub async fn trip(&self, size: usize) -> Result<Duration, String> {
        let number = rand::random();
        let (back, mut came) = oneshot::channel();
        self.awaited.lock().map_err(|error| error.to_string())?.insert(number, back);
        let mut body = vec![0; size];
        body[..8].copy_from_slice(&u64::to_le_bytes(number));
        let begun = Instant::now();
        let peer = self.to.did.peer_id();
        let sending = self.link.send(&peer, &self.to.addresses, "root", body, WITHIN);
        tokio::select! {
            biased;
            _ = &mut came => return Ok(begun.elapsed()),
            sent = sending => sent.map_err(|error| error.to_string())?,
        }
        tokio::time::timeout(WITHIN, came).await.map_err(|_| "a frame did not come back")?.map_err(|_| "the link ended")?;
        Ok(begun.elapsed())
    }

    pub async fn run(&self, count: usize, in_flight: usize, size: usize) -> Result<Result1, Box<dyn Error>> {
        let begun = Instant::now();
        let workers = (0..in_flight).map(|_| {
            let traveller = self.clone();
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(count / in_flight);
                for _ in 0..count / in_flight {
                    took.push(traveller.trip(size).await?);
                }
                Ok::<_, String>(took)
            })
        });
        let mut took = Vec::with_capacity(count);
        for worker in futures::future::join_all(workers).await {
            took.extend(worker??);
        }
        let per_second = took.len() as f64 / begun.elapsed().as_secs_f64();
        took.sort_unstable();
        let micros = |share: usize| took[took.len() * share / 100].as_nanos() as f64 / 1e3;
        Ok(Result1 { p50: micros(50), p99: micros(99), per_second })
    }
}

async fn take(mut arrived: mpsc::Receiver<InboundFrame>, awaited: Awaited) {
    while let Some(frame) = arrived.recv().await {
        let Some(number) = frame.body.first_chunk().map(|first| u64::from_le_bytes(*first)) else { continue };
        let back = awaited.lock().ok().and_then(|mut awaited| awaited.remove(&number));
        if let Some(back) = back {
            let _ = back.send(());
        }
    }
}

/// Go to Go.
async fn theirs(peer: &mut Peer, count: usize, in_flight: usize) -> Result<Result1, Box<dyn Error>> {
    peer.say(&format!("{count} {in_flight} {FRAME}")).await?;
    let line = peer.next("trips").await?;
    let figure = |name: &str| line[name].as_f64().ok_or_else(|| format!("no {name} in {line}"));
    Ok(Result1 { p50: figure("p50")?, p99: figure("p99")?, per_second: figure("per_second")? })
}

/// Rust to Go against Go to Go, towards nodes of one style.
pub async fn compare(peer: &Path, flags: &[&str]) -> Result<(), Box<dyn Error>> {
    let node = Node::start(peer, "echo", flags).await?;
    let ours = Traveller::start(&node.target).await?;
    let (seed, address) = (hex::encode(rand::random::<[u8; 32]>()), node.address());
    let mut go = Peer::start(peer, &[&["trips", "--seed", &seed, "--to", &address], flags].concat())?;
    // Both have warm caches then.
    ours.run(ONE_BY_ONE, 8, FRAME).await?;
    theirs(&mut go, ONE_BY_ONE, 8).await?;
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for (count, in_flight, into) in [(ONE_BY_ONE, 1, &mut alone), (SIDE_BY_SIDE, IN_FLIGHT, &mut together)] {
            let pair = if round % 2 == 0 {
                let first = ours.run(count, in_flight, FRAME).await?;
                (first, theirs(&mut go, count, in_flight).await?)
            } else {
                let first = theirs(&mut go, count, in_flight).await?;
                (ours.run(count, in_flight, FRAME).await?, first)
            };
            into.push(pair);
        }
    }
    let style = if flags.is_empty() { "as a DMS" } else { "as a go-libp2p host" };
    let of = |rounds: &[(Result1, Result1)], what: fn(&Result1) -> f64| {
        rounds.iter().map(|(ours, peer)| (what(ours), what(peer))).collect::<Vec<_>>()
    };
    let row = |what: &str, bound, unit, rounds: Vec<_>| ratio(&format!("trip, node {style}: {what}"), bound, unit, &rounds);
    row("p50, 1 in flight", Bound::AtMost(0.85), "µs", of(&alone, |one| one.p50));
    row("p99, 1 in flight", Bound::None, "µs", of(&alone, |one| one.p99));
    row("per second, 1 in flight", Bound::None, "/s", of(&alone, |one| one.per_second));
    row("p50, 32 in flight", Bound::None, "µs", of(&together, |one| one.p50));
    row("p99, 32 in flight", Bound::None, "µs", of(&together, |one| one.p99));
    row("per second, 32 in flight", Bound::AtLeast(1.2), "/s", of(&together, |one| one.per_second));
    Ok(())
}

/// What the first trip costs, which makes the connection and asks for the inbox.
pub async fn connect(peer: &Path) -> Result<(), Box<dyn Error>> {
    let node = Node::start(peer, "echo", &[]).await?;
    let mut took = Vec::new();
    for _ in 0..30 {
        took.push(Traveller::start(&node.target).await?.trip(FRAME).await?.as_secs_f64() * 1e3);
    }
    figure("connection and first trip, median of 30", median(took.into_iter()), "ms", Bound::None);
    Ok(())
}
