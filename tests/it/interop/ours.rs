//! Our own ends: the client and the embedded node.

use std::{collections::BTreeMap, time::Duration};

use dms_operator::{
    capability::{Context, Did, Key},
    device::{
        libp2p::{DmsClient, Dropped, Link, LinkConfig},
        node::{Entry, Faults, NodeConfig, Offer, RunningNode, wall_clock},
    },
    plan::build::{AllocationSpec, EnsembleSpec, PortSpec},
};
use tempfile::TempDir;

use super::{now, seed, until};

pub async fn client(key: &Key) -> DmsClient {
    let inboxes = vec![format!("user-{}", now().0)];
    let config = LinkConfig { key: key.clone(), listen: Vec::new(), inboxes, topics: Some(Vec::new()) };
    let (link, arrived) = Link::start(config).await.unwrap();
    DmsClient::new(link, arrived, key.clone())
}

/// Waits until our client has dropped so many for this reason.
pub async fn has_dropped(client: &DmsClient, reason: Dropped, times: u64) {
    let counters = client.link().counters();
    until(reason.code(), || counters.dropped(reason) == times).await;
}

/// Something that says hello and waits, for a device with this peer ID. Our node runs it too.
pub fn hello(peer: &str) -> EnsembleSpec {
    let script = "echo hello; echo alas >&2; while read line; do :; done";
    EnsembleSpec {
        peer: peer.to_owned(),
        allocations: vec![AllocationSpec {
            name: "web".to_owned(),
            image: OurNode::image(),
            args: vec!["-c".to_owned(), script.to_owned()],
            env: Vec::new(),
            cpu_millis: 500,
            memory_bytes: 1 << 20,
            disk_bytes: 1 << 20,
            ports: vec![PortSpec { public: 0, private: 8080 }],
        }],
        metadata: BTreeMap::from([("owner".to_owned(), hex::encode(rand::random::<[u8; 8]>()))]),
    }
}

/// A node of ours that trusts these roots. Of its image it runs a shell.
pub struct OurNode {
    running: RunningNode,
    address: String,
    _directory: TempDir,
}

impl OurNode {
    pub async fn start(roots: &[&Did]) -> Self {
        let key = Key::from_seed(seed());
        let directory = tempfile::tempdir().unwrap();
        let context = Context {
            did: key.did().clone(),
            roots: roots.iter().map(|root| (*root).clone()).collect(),
            require: Vec::new(),
            provide: Vec::new(),
            revoke: Vec::new(),
        };
        let config = NodeConfig {
            key: key.clone(),
            context,
            directory: directory.path().to_owned(),
            own_image: Self::image(),
            program: "/bin/sh".into(),
            entry: Entry { command: "-c", environment: &[] },
            bind: [127, 0, 0, 1].into(),
            public_host: "127.0.0.1".to_owned(),
            offer: Offer { cores: 4.0, memory_bytes: 1e9, disk_bytes: 1e9 },
            onboarded: true,
            faults: Faults::default(),
            wire_log: false,
            clock: wall_clock(),
        };
        let running = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".to_owned()]).await.unwrap();
        let address = format!("{}/p2p/{}", running.addresses()[0], key.did().peer_id());
        Self { running, address, _directory: directory }
    }

    pub fn image() -> String {
        format!("dms-operator@sha256:{}", "ab".repeat(32))
    }

    /// A multiaddress with its peer ID.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn peer_id(&self) -> String {
        self.running.node().did().peer_id()
    }

    pub fn did(&self) -> &Did {
        self.running.node().did()
    }

    pub fn link(&self) -> &Link {
        self.running.link()
    }

    /// How many messages it dropped for this reason: by its own count and by that of its link.
    pub fn dropped(&self, reason: &str) -> u64 {
        let by_node = self.running.node().dropped().get(reason).copied().unwrap_or_default();
        let by_link = Dropped::ALL.into_iter().find(|one| one.code() == reason);
        by_node + by_link.map_or(0, |one| self.link().counters().dropped(one))
    }

    /// How many it dropped for whatever reason.
    pub fn drops(&self) -> u64 {
        let counters = self.link().counters();
        self.running.node().dropped().values().sum::<u64>()
            + Dropped::ALL.into_iter().map(|reason| counters.dropped(reason)).sum::<u64>()
    }

    pub async fn has_dropped(&self, reason: &str, times: u64) {
        until(&format!("{times} are dropped for {reason}"), || self.dropped(reason) >= times).await;
        assert_eq!(self.dropped(reason), times, "{reason}");
    }

    pub async fn stop(self) {
        tokio::time::timeout(Duration::from_secs(20), self.running.stop()).await.expect("the node does not stop");
    }
}
