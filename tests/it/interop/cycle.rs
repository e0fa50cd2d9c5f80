//! Our client walks whole deployments over the Go peer, in both spellings and both manners of stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use dms_operator::{
    capability::Key,
    device::{
        DeviceClient as _, DeviceTarget,
        dms::{
            self, Base64, DeploymentState, Hello, InfoRequest, ListPage, ListQuery, LogBounds, LogRead, LogSource,
            LogsJobReply, LogsJobRequest, LogsJobState, LogsRequest, ManifestAllocation, ManifestNode, NewReply,
            NewStatus, NodeStatuses, Outcome, PruneRequest, PublicStatus, ResourceUsage, Stream, path, tolerant,
        },
        libp2p::DmsClient,
    },
    plan::build::EnsembleSpec,
};
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{GoPeer, SOON, client, ours::hello, seed};
use crate::timed::Timed;

const MINUTES: Duration = Duration::from_mins(5);
/// More than two chunks, and what an older device sends in one message.
const LOG_BYTES: (usize, usize) = (1_200_000, 300_000);

#[derive(Clone, Copy, PartialEq)]
enum Spelling {
    New,
    Old,
}

/// One client and one device.
struct Walk {
    go: GoPeer,
    target: DeviceTarget,
    client: DmsClient,
    spelling: Spelling,
}

#[tokio::test]
async fn our_client_walks_deployments_over_the_go_peer() {
    let _timed = Timed::start();
    let other = GoPeer::serve(&[], &[]).await;
    let each = [(Spelling::New, false), (Spelling::New, true), (Spelling::Old, false), (Spelling::Old, true)];
    join_all(each.map(|(spelling, polite)| Walk::go_all_the_way(spelling, polite, &other))).await;
}

impl Walk {
    async fn go_all_the_way(spelling: Spelling, polite: bool, other: &GoPeer) {
        let mut walk = Self::start(spelling, polite).await;
        walk.tells_of_itself(other).await;
        let specs = [(); 3].map(|()| hello(&walk.target.did.peer_id()));
        let ids = walk.begins(&specs).await;
        walk.lists(&specs, &ids).await;
        walk.shows(&specs[0], &ids[0]).await;
        walk.gives_logs(&ids[0]).await;
        if spelling == Spelling::New {
            walk.writes_logs(&ids[0]).await;
        }
        walk.has_given_away_what_was_asked().await;
        walk.changes(&ids[0]).await;
        walk.ends(&ids).await;
        // By this, all lines before it are read: none tells of a request that it could not take.
        walk.go.pace(1).await;
        assert_eq!(walk.client.link().counters().connections(), 1);
    }

    async fn start(spelling: Spelling, polite: bool) -> Self {
        let key = Key::from_seed(seed());
        let (spelled, bytes) = match spelling {
            Spelling::New => ("new", LOG_BYTES.0),
            Spelling::Old => ("old", LOG_BYTES.1),
        };
        let bytes = bytes.to_string();
        // Deployments are Preparing until told otherwise.
        let mut flags = vec!["--spelling", spelled, "--page", "2", "--log-bytes", &bytes, "--pace", "1h"];
        flags.extend(polite.then_some("--polite"));
        let go = GoPeer::serve(&[key.did()], &flags).await;
        Self { target: go.target.clone(), go, client: client(&key).await, spelling }
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, behaviour: &str, request: Value) -> T {
        let reply = self.client.call(&self.target, behaviour, request, SOON).await.unwrap();
        tolerant::decode(reply).unwrap()
    }

    async fn tells_of_itself(&self, other: &GoPeer) {
        let Self { go, target, client, .. } = self;
        assert_eq!(dms::peers_self(client, target).await.unwrap(), go.who_it_is());
        let connected = dms::peers_connect(client, target, &other.address()).await.unwrap();
        assert_eq!((connected.status.as_str(), connected.error.as_str()), ("CONNECTED", ""));
        let refused = dms::peers_connect(client, target, &other.target.addresses[0]).await.unwrap();
        assert!(refused.status.is_empty() && !refused.error.is_empty(), "{refused:?}");
        let peers = dms::peers_list(client, target).await.unwrap().peers;
        let expected = [other.target.did.peer_id(), client.link().peer_id().to_owned()];
        assert_eq!(peers.into_iter().collect::<BTreeSet<_>>(), BTreeSet::from(expected));
        assert_eq!(dms::peers_ping(client, target, &other.target.did.peer_id()).await.unwrap().error, "");
        assert_ne!(dms::peers_ping(client, target, &target.did.peer_id()).await.unwrap().error, "");
        assert!(dms::onboarding_status(client, target).await.unwrap().onboarded);
        assert_eq!(self.ask::<Hello>(path::PUBLIC_HELLO, json!({})).await.did.uri, target.did.to_string());
        let status: PublicStatus = self.ask(path::PUBLIC_STATUS, json!({})).await;
        assert_eq!((status.status.as_str(), json!(status.resources.cpu.cores)), ("OK", json!(4.0)));
        let statuses: NodeStatuses = self.ask(path::NODE_STATUS, json!({})).await;
        let status = &statuses[&target.did.peer_id()];
        assert_eq!((&status.did, &status.network.p2p), (&target.did.to_string(), &go.who_it_is()));
        let well: Outcome = self.ask(path::HEALTHCHECK, json!("")).await;
        assert_eq!(well, Outcome { ok: true, error: String::new() });
    }

    async fn deploy(&self, spec: &EnsembleSpec, expires_in: Duration) -> NewReply {
        let request = dms::deployment_new_request(spec);
        let call = self.client.prepare(&self.target, path::DEPLOYMENT_NEW, request, expires_in).unwrap();
        let reply = self.client.send(&self.target, path::DEPLOYMENT_NEW, call, SOON).await.unwrap();
        dms::deployment_new_reply(&self.target, reply).unwrap()
    }

    /// From new to Running, and through nothing but what lies between.
    async fn begins(&mut self, specs: &[EnsembleSpec]) -> Vec<String> {
        let short = self.deploy(&specs[0], Duration::from_secs(58)).await;
        let too_short = "requested deployment time too short";
        assert_eq!((short.status, short.error.as_str()), (NewStatus::Error, too_short));
        let mut ids = Vec::new();
        for spec in specs {
            let taken = self.deploy(spec, MINUTES).await;
            assert_eq!((taken.status, taken.error.as_str()), (NewStatus::Ok, ""));
            ids.push(taken.ensemble_id);
        }
        let early = dms::deployment_shutdown(&self.client, &self.target, &ids[0]).await.unwrap();
        assert_eq!(early, Outcome { ok: false, error: "deployment is not running".to_owned() });
        assert_eq!(self.state(&ids[0]).await, DeploymentState::Preparing);
        self.go.pace(100).await;
        self.until(&ids[2], &["Preparing", "Generating", "Committing", "Provisioning", "Running"]).await;
        ids
    }

    async fn state(&self, id: &str) -> DeploymentState {
        let status = dms::deployment_status(&self.client, &self.target, id, false).await.unwrap();
        assert_eq!(status.error, "");
        status.state.unwrap().known().unwrap()
    }

    /// Waits for the last of these states; until then only they come, in this order.
    async fn until(&self, id: &str, states: &[&str]) {
        let deadline = Instant::now() + SOON;
        let mut at = 0;
        while at + 1 < states.len() {
            let state = self.state(id).await.name();
            let next = states.iter().position(|one| *one == state);
            at = next.filter(|next| *next >= at).unwrap_or_else(|| panic!("{state} after {}", states[at]));
            assert!(Instant::now() < deadline, "still {state}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn lists(&self, specs: &[EnsembleSpec], ids: &[String]) {
        let Self { client, target, spelling, .. } = self;
        let all = dms::deployment_list_all(client, target, &BTreeMap::new()).await.unwrap();
        let got: BTreeMap<_, _> = all.iter().map(|entry| (&entry.id, &entry.metadata)).collect();
        let none = BTreeMap::new();
        let told = |spec| if *spelling == Spelling::New { spec } else { &none };
        let expected = ids.iter().zip(specs).map(|(id, spec)| (id, told(&spec.metadata))).collect();
        assert_eq!(got, expected);
        // It stands on the last of the pages.
        let mine = dms::deployment_list_all(client, target, &specs[2].metadata).await.unwrap();
        assert_eq!(mine.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&ids[2]]);
        assert_eq!(mine[0].created_at.is_some(), *spelling == Spelling::New);
        let page = dms::deployment_list(client, target, &ListQuery::default()).await.unwrap();
        let (length, next) = if *spelling == Spelling::New { (2, Some(2)) } else { (3, None) };
        assert_eq!((page.deployments.len(), page.next_offset), (length, next));
        let running = ListQuery { status: vec![DeploymentState::Running], id: ids[1].clone(), ..ListQuery::default() };
        let page = dms::deployment_list(client, target, &running).await.unwrap();
        assert_eq!(page.deployments.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&ids[1]]);
        // An error looks like a device that has nothing.
        let failed: ListPage = self.ask(path::DEPLOYMENT_LIST, json!({"offset": -1})).await;
        assert_eq!((failed.deployments, failed.has_more), (Vec::new(), false));
    }

    fn key(&self) -> &'static str {
        match self.spelling {
            Spelling::New => "device.web",
            Spelling::Old => "web",
        }
    }

    async fn shows(&self, spec: &EnsembleSpec, id: &str) {
        let Self { client, target, spelling, .. } = self;
        let full = format!("{id}_{}", self.key());
        let manifest = dms::deployment_manifest(client, target, id).await.unwrap().manifest.unwrap();
        let allocation = ManifestAllocation {
            id: full.clone(),
            node_id: "device".to_owned(),
            kind: "service".to_owned(),
            dns_name: "web".to_owned(),
            ports: BTreeMap::from([(20000, 8080)]),
            status: "running".to_owned(),
        };
        let node = ManifestNode {
            id: "device".to_owned(),
            peer: target.did.peer_id(),
            pub_address: vec!["127.0.0.1".to_owned()],
            allocations: vec!["web".to_owned()],
        };
        assert_eq!((manifest.id.as_str(), &manifest.metadata), (id, &spec.metadata));
        assert_eq!(manifest.allocations, BTreeMap::from([(self.key().to_owned(), allocation)]));
        assert_eq!(manifest.nodes, BTreeMap::from([("device".to_owned(), node)]));
        let unknown = dms::deployment_manifest(client, target, "none").await.unwrap();
        assert!(unknown.manifest.is_none() && !unknown.error.is_empty(), "{unknown:?}");
        assert_ne!(dms::deployment_status(client, target, "none", false).await.unwrap().error, "");
        if *spelling == Spelling::Old {
            return;
        }
        let status = dms::deployment_status(client, target, id, true).await.unwrap();
        let info = &status.allocations[&full];
        let ResourceUsage { network_rx_bytes, network_tx_bytes, .. } = info.resource_usage;
        let expected = ResourceUsage {
            cpu_usage_percent: 12.5,
            memory_used_bytes: 1 << 20,
            memory_limit_bytes: spec.allocations[0].memory_bytes,
            network_rx_bytes,
            network_tx_bytes,
        };
        assert_eq!((&info.resource_usage, status.allocations.len()), (&expected, 1));
        assert!(network_rx_bytes > 0 && network_tx_bytes > network_rx_bytes, "{info:?}");
        let request = InfoRequest { id: id.to_owned(), include_logs: true, ..InfoRequest::default() };
        let detail = dms::deployment_info(client, target, &request).await.unwrap();
        assert_eq!((detail.state, detail.manifest), (Some(DeploymentState::Running.into()), Some(manifest)));
        let logs = detail.allocations["device.web"].logs.clone().unwrap();
        assert!(logs.written_to.contains(id) && logs.stdout_path.starts_with(&logs.written_to), "{logs:?}");
    }

    async fn gives_logs(&self, id: &str) {
        let (all, alas) = (written(self.key(), self.spelling), format!("warning of {}\n", self.key()).into_bytes());
        let read = async |stream, from, bounds| {
            let source = LogSource { deployment: id, allocation: self.key(), stream };
            dms::allocation_log(&self.client, &self.target, source, from, bounds).await.unwrap()
        };
        let part = |from: usize, to: usize, next| LogRead {
            begins: from as u64,
            bytes: Base64(all[from..to].to_vec()),
            next,
            ..LogRead::default()
        };
        let (end, bounds) = (all.len(), LogBounds::default());
        assert_eq!(read(Stream::Stdout, 0, bounds).await, part(0, end, None));
        assert_eq!(read(Stream::Stdout, 1000, bounds).await, part(1000, end, None));
        let bounded = LogBounds { bytes: 250_000, ..bounds };
        assert_eq!(read(Stream::Stdout, 10, bounded).await, part(10, 250_010, Some(250_010)));
        assert_eq!(read(Stream::Stderr, 0, bounds).await.bytes, Base64(alas));
        let source = LogSource { deployment: id, allocation: "none", stream: Stream::Stdout };
        let none = dms::allocation_log(&self.client, &self.target, source, 0, bounds).await.unwrap();
        assert!(none.bytes.is_empty() && !none.error.is_empty(), "{none:?}");
    }

    async fn writes_logs(&self, id: &str) {
        let Self { client, target, .. } = self;
        let request = LogsRequest { id: id.to_owned(), allocation: "device.web".to_owned() };
        let written_to = dms::deployment_logs(client, target, id, "device.web").await.unwrap().written_to;
        assert!(written_to.contains(id), "{written_to}");
        let never = dms::deployment_logs_status(client, target, &request).await.unwrap();
        assert!(never.state.is_none() && !never.error.is_empty(), "{never:?}");
        let begin = |follow| {
            let allocation = request.allocation.clone();
            LogsJobRequest { id: id.to_owned(), allocation, follow, interval_seconds: 3 }
        };
        let job = |state, bytes: Option<usize>, follow| LogsJobReply {
            written_to: written_to.clone(),
            state: Some(state),
            bytes_written: bytes.map(|bytes| bytes as u64),
            follow,
            interval: follow.map(|_| "3s".to_owned()),
            error: String::new(),
        };
        let bytes = Some(written("device.web", Spelling::New).len() + "warning of device.web\n".len());
        let begun = dms::deployment_logs_start(client, target, &begin(true)).await.unwrap();
        assert_eq!(begun, job(LogsJobState::Running, None, Some(true)));
        // It is the same one as long as it runs.
        let again = dms::deployment_logs_start(client, target, &begin(false)).await.unwrap();
        assert_eq!(again, begun);
        let status = dms::deployment_logs_status(client, target, &request).await.unwrap();
        assert_eq!(status, job(LogsJobState::Running, bytes, Some(true)));
        let stopped = dms::deployment_logs_stop(client, target, &request).await.unwrap();
        assert_eq!(stopped, job(LogsJobState::Stopped, bytes, None));
        dms::deployment_logs_start(client, target, &begin(false)).await.unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            let status = dms::deployment_logs_status(client, target, &request).await.unwrap();
            if status == job(LogsJobState::Complete, bytes, Some(false)) {
                break;
            }
            assert_eq!(status, job(LogsJobState::Running, bytes, Some(false)));
            assert!(Instant::now() < deadline, "the log job does not end");
            sleep(Duration::from_millis(5)).await;
        }
    }

    async fn has_given_away_what_was_asked(&self) {
        let Self { client, target, .. } = self;
        let all = dms::resources_onboarded(client, target).await.unwrap();
        let free = dms::resources_free(client, target).await.unwrap();
        let given = dms::resources_allocated(client, target).await.unwrap();
        // One of them leaves `OK` false, as one release does.
        assert_eq!((all.ok, free.ok, given.ok, given.error.as_str()), (true, true, false, ""));
        let mebibytes = [&all, &free, &given].map(|reply| reply.resources.ram.size / 1_048_576.0);
        assert_eq!(json!(mebibytes), json!([8192.0, 8189.0, 3.0]));
    }

    async fn changes(&self, id: &str) {
        let Self { client, target, .. } = self;
        let spec = hello(&target.did.peer_id());
        let done = Outcome { ok: true, error: String::new() };
        assert_eq!(dms::deployment_update(client, target, id, &spec).await.unwrap(), done);
        let manifest = dms::deployment_manifest(client, target, id).await.unwrap().manifest.unwrap();
        assert_eq!(manifest.metadata, spec.metadata);
        // An ensemble for another device is refused.
        let refused = dms::deployment_update(client, target, id, &hello("elsewhere")).await.unwrap();
        assert!(!refused.ok && refused.error.contains("elsewhere"), "{refused:?}");
    }

    /// One is deleted, one is pruned, and one goes on.
    async fn ends(&self, ids: &[String]) {
        let Self { client, target, .. } = self;
        let done = Outcome { ok: true, error: String::new() };
        for id in &ids[..2] {
            assert_eq!(dms::deployment_shutdown(client, target, id).await.unwrap(), done);
            let again = dms::deployment_shutdown(client, target, id).await.unwrap();
            assert_eq!(again, Outcome { ok: false, error: "deployment is not running".to_owned() });
            self.until(id, &["ShuttingDown", "Completed"]).await;
        }
        let left = async || {
            let all = dms::deployment_list_all(client, target, &BTreeMap::new()).await.unwrap();
            all.into_iter().map(|entry| entry.id).collect::<BTreeSet<_>>()
        };
        assert_eq!(dms::deployment_delete(client, target, &ids[0]).await.unwrap(), done);
        assert_eq!(left().await, BTreeSet::from([ids[1].clone(), ids[2].clone()]));
        let gone = dms::deployment_delete(client, target, &ids[0]).await.unwrap();
        assert!(!gone.ok && gone.error.contains("not found"), "{gone:?}");
        let request = PruneRequest { before: "1d".to_owned(), ..PruneRequest::default() };
        assert_eq!(dms::deployment_prune(client, target, &request).await.unwrap(), done);
        assert_eq!(left().await.len(), 2);
        let request = PruneRequest { all: true, ..PruneRequest::default() };
        assert_eq!(dms::deployment_prune(client, target, &request).await.unwrap(), done);
        assert_eq!(left().await, BTreeSet::from([ids[2].clone()]));
    }
}

/// What the Go peer says that an allocation wrote.
fn written(allocation: &str, spelling: Spelling) -> Vec<u8> {
    let size = if spelling == Spelling::New { LOG_BYTES.0 } else { LOG_BYTES.1 };
    let mut text = Vec::new();
    for number in 0.. {
        if text.len() >= size {
            break;
        }
        text.extend(format!("{allocation} {number}\n").into_bytes());
    }
    text
}
