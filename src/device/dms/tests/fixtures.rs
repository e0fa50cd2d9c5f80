//! Every behaviour by its fixture: `tests/fixtures/dms/<path with dashes>.json` holds requests and replies as
//! `dms-protocol.md` tells them, new and older.

use std::{collections::BTreeSet, fmt::Debug, path::PathBuf};

use serde::de::DeserializeOwned;

use super::*;

const DID: &str = "did:key:z6Mko9hTggMwjSTEaJaPUfE6tqcy2xvU6BnNq3e3o8qVBiyH";

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/dms")
}

fn file_of(path: &str) -> String {
    format!("{}.json", path.trim_start_matches('/').replace(ID, "id").replace('/', "-"))
}

/// What each name in a fixture must be read as.
type Expected<'a, T> = &'a [(&'a str, T)];

#[derive(Default)]
struct Walk(BTreeSet<String>);

impl Walk {
    /// Reads all of a fixture and compares it; the first request is the one that is written here.
    fn check<Q, R>(&mut self, path: &str, requests: Expected<'_, Q>, replies: Expected<'_, R>)
    where
        Q: DeserializeOwned + Serialize + PartialEq + Debug,
        R: DeserializeOwned + Serialize + PartialEq + Debug,
    {
        let file = file_of(path);
        let text = std::fs::read(folder().join(&file)).unwrap_or_else(|error| panic!("{path}: {file}: {error}"));
        let fixture: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(fixture["behaviour"], path);
        assert_read(path, &fixture["requests"], requests);
        assert_read(path, &fixture["replies"], replies);
        let (first, request) = &requests[0];
        assert_eq!(serde_json::to_string(&json!(request)).unwrap(), fixture["requests"][first].to_string(), "{path}");
        assert!(self.0.insert(file), "{path} was checked before");
    }

    /// The same with one reply for what is done and one for what is refused.
    fn check_outcome<Q>(&mut self, path: &str, requests: Expected<'_, Q>, refusal: &str)
    where
        Q: DeserializeOwned + Serialize + PartialEq + Debug,
    {
        let done = Outcome { ok: true, error: String::new() };
        self.check(path, requests, &[("done", done), ("refused", Outcome { ok: false, error: refusal.into() })]);
    }
}

fn assert_read<T: DeserializeOwned + Serialize + PartialEq + Debug>(
    path: &str,
    given: &Value,
    expected: Expected<'_, T>,
) {
    let names: BTreeSet<&str> = given.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect(), "{path}");
    for (name, expected) in expected {
        let read: T = tolerant::decode(given[name].clone()).unwrap_or_else(|error| panic!("{path}, {name:?}: {error}"));
        assert_eq!(read, *expected, "{path}, {name:?}");
        // What is written is read as the same.
        assert_eq!(tolerant::decode::<T>(json!(expected)).unwrap(), *expected, "{path}, {name:?}");
    }
}

fn web() -> String {
    format!("{ID}_device.web")
}

fn usage() -> ResourceUsage {
    ResourceUsage {
        cpu_usage_percent: 1.5,
        memory_used_bytes: 4096,
        memory_limit_bytes: 8192,
        network_rx_bytes: u64::MAX,
        network_tx_bytes: 2,
    }
}

fn manifest() -> Manifest {
    let allocation = ManifestAllocation {
        id: web(),
        node_id: "device".into(),
        kind: "service".into(),
        dns_name: "web".into(),
        ports: BTreeMap::from([(16500, 80)]),
        status: "running".into(),
    };
    let node = ManifestNode {
        id: "device".into(),
        peer: "12D3KooWX".into(),
        pub_address: vec!["192.0.2.7".into()],
        allocations: vec!["web".into()],
    };
    Manifest {
        id: ID.into(),
        metadata: BTreeMap::from([("owner".into(), "interop".into())]),
        allocations: BTreeMap::from([("device.web".into(), allocation)]),
        nodes: BTreeMap::from([("device".into(), node)]),
    }
}

fn resources() -> Resources {
    Resources { cpu: Cpu { clock_speed: 1e9, cores: 2.0 }, ram: Size { size: 1024.0 }, disk: Size { size: 2048.0 } }
}

fn ensembles() -> Ensembles {
    let v1 =
        json!({"escalation_strategy": "teardown", "allocations": {}, "nodes": {}, "metadata": {"owner": "interop"}});
    Ensembles { v1 }
}

#[test]
fn every_behaviour_is_read_and_written_as_its_fixture_says() {
    let mut walk = Walk::default();
    check_deployments(&mut walk);
    check_lists(&mut walk);
    check_logs(&mut walk);
    check_jobs(&mut walk);
    check_resources(&mut walk);
    check_peers(&mut walk);
    check_onboarding(&mut walk);
    check_told(&mut walk);
    check_anchors(&mut walk);
    let on_disk: BTreeSet<String> =
        std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(walk.0, on_disk, "checked, and there");
    let known = path::ALL.iter().map(|path| file_of(path)).chain([file_of(&path::allocation_logs(ID))]);
    assert_eq!(known.collect::<BTreeSet<_>>(), on_disk, "known, and there");
}

fn check_deployments(walk: &mut Walk) {
    let request = NewRequest { ensemble: ensembles() };
    let taken = NewReply { status: NewStatus::Ok, ensemble_id: ID.into(), error: String::new() };
    let refused = NewReply {
        status: NewStatus::Error,
        ensemble_id: String::new(),
        error: "requested deployment time too short".into(),
    };
    let requests = [("new", request.clone()), ("old", request)];
    walk.check(path::DEPLOYMENT_NEW, &requests, &[("taken", taken), ("refused", refused)]);

    let request = UpdateRequest { id: ID.into(), ensemble: ensembles() };
    walk.check_outcome(path::DEPLOYMENT_UPDATE, &[("new", request)], "deployment is not running");

    let request = |include_usage| StatusRequest { id: ID.into(), include_usage };
    let info = AllocationInfo {
        allocation_id: web(),
        status: "running".into(),
        resource_usage: usage(),
        dns_name: "web".into(),
    };
    let running = StatusReply { state: Some(DeploymentState::Running.into()), ..StatusReply::default() };
    let full = StatusReply { allocations: BTreeMap::from([(web(), info)]), ..running.clone() };
    let failed = StatusReply { error: "failed to get deployment".into(), ..StatusReply::default() };
    let replies = [("new", full), ("old", running), ("failed", failed)];
    walk.check(path::DEPLOYMENT_STATUS, &[("new", request(true)), ("old", request(false))], &replies);

    let request = DeploymentId { id: ID.into() };
    let reply = ManifestReply { manifest: Some(manifest()), error: String::new() };
    let failed = ManifestReply { manifest: None, error: "not found".into() };
    let replies = [("new", reply.clone()), ("old", reply), ("failed", failed)];
    walk.check(path::DEPLOYMENT_MANIFEST, &[("new", request.clone()), ("old", request.clone())], &replies);
    walk.check_outcome(path::DEPLOYMENT_SHUTDOWN, &[("new", request)], "deployment is not running");

    let request = DeleteRequest { id: ID.into() };
    walk.check_outcome(path::DEPLOYMENT_DELETE, &[("new", request)], "not found");
    let request = PruneRequest { before: "7d".into(), all: false };
    let all = PruneRequest { before: String::new(), all: true };
    walk.check_outcome(path::DEPLOYMENT_PRUNE, &[("new", request), ("all", all)], "before is required");
}

fn check_lists(walk: &mut Walk) {
    let metadata = BTreeMap::from([("Owner".to_owned(), "a".to_owned())]);
    let bare = ListQuery { metadata: metadata.clone(), ..ListQuery::default() };
    let query = ListQuery {
        limit: Some(100),
        offset: Some(200),
        status: vec![DeploymentState::Running, DeploymentState::Failed],
        id: ID.into(),
        created_after: Some("2026-01-01T00:00:00Z".parse().unwrap()),
        ..bare.clone()
    };
    let entry = ListEntry {
        id: ID.into(),
        state: DeploymentState::Running.into(),
        created_at: Some("2026-01-01T00:00:00.5Z".parse().unwrap()),
        updated_at: None,
        metadata,
    };
    let old = ListEntry { created_at: None, metadata: BTreeMap::new(), ..entry.clone() };
    let page = ListPage { deployments: vec![entry], total: Some(3), has_more: true, next_offset: Some(1) };
    let old = ListPage { deployments: vec![old], ..ListPage::default() };
    let failed = ListPage { total: Some(0), ..ListPage::default() };
    let replies = [("new", page), ("old", old), ("failed", failed)];
    walk.check(path::DEPLOYMENT_LIST, &[("new", query), ("old", bare)], &replies);

    let request = InfoRequest {
        id: ID.into(),
        include_usage: true,
        include_logs: true,
        allocation_names: vec!["device.web".into()],
    };
    let logs = AllocationLogs {
        stdout_path: "/w/stdout.log".into(),
        stderr_path: "/w/stderr.log".into(),
        written_to: "/w".into(),
        error: String::new(),
    };
    let detail = AllocationDetail {
        allocation_id: web(),
        status: "running".into(),
        resource_usage: usage(),
        dns_name: "web".into(),
        logs: Some(logs),
    };
    let reply = InfoReply {
        id: ID.into(),
        state: Some(DeploymentState::Running.into()),
        error: String::new(),
        manifest: Some(manifest()),
        allocations: BTreeMap::from([("device.web".into(), detail)]),
    };
    let failed = InfoReply { error: "not found".into(), ..InfoReply::default() };
    walk.check(path::DEPLOYMENT_INFO, &[("new", request)], &[("new", reply), ("failed", failed)]);
}

fn check_logs(walk: &mut Walk) {
    let new = ChunkRequest {
        allocation: "device.web".into(),
        ack: 3,
        offset: 3,
        max_bytes: LARGEST_CHUNK,
        stream: Some(Stream::Stderr),
    };
    let old = ChunkRequest { allocation: "web".into(), ..ChunkRequest::default() };
    let chunk = |offset, data: &[u8], eof| ChunkReply {
        offset,
        next_offset: offset + 3,
        total_size: 9,
        eof,
        data: Base64(data.to_vec()),
        stream: Some(Stream::Stderr),
        ..ChunkReply::default()
    };
    let whole =
        ChunkReply { stdout: Base64(b"out".to_vec()), stderr: Base64(b"err".to_vec()), ..ChunkReply::default() };
    let failed = ChunkReply { error: "failed to get allocation".into(), ..ChunkReply::default() };
    let replies =
        [("new", chunk(3, b"abc", false)), ("last", chunk(6, b"def", true)), ("old", whole), ("failed", failed)];
    walk.check(&path::allocation_logs(ID), &[("new", new), ("old", old)], &replies);

    let request = |allocation: &str| LogsRequest { id: ID.into(), allocation: allocation.into() };
    let new = LogsReply { written_to: "/w/deployments/web".into(), error: String::new() };
    let failed = LogsReply { written_to: String::new(), error: "failed to get orchestrator".into() };
    let requests = [("new", request("device.web")), ("old", request("web"))];
    walk.check(path::DEPLOYMENT_LOGS, &requests, &[("new", new), ("failed", failed)]);
}

fn check_jobs(walk: &mut Walk) {
    let request = LogsJobRequest { id: ID.into(), allocation: "device.web".into(), follow: true, interval_seconds: 10 };
    let running = LogsJobReply {
        written_to: "/w".into(),
        state: Some(LogsJobState::Running),
        follow: Some(true),
        interval: Some("10s".into()),
        ..LogsJobReply::default()
    };
    let failed = LogsJobReply {
        follow: Some(false),
        interval: Some(String::new()),
        error: "failed to get orchestrator".into(),
        ..LogsJobReply::default()
    };
    walk.check(path::DEPLOYMENT_LOGS_ASYNC, &[("new", request)], &[("new", running), ("failed", failed)]);

    let request = LogsRequest { id: ID.into(), allocation: "device.web".into() };
    let stopped = LogsJobReply {
        written_to: "/w".into(),
        state: Some(LogsJobState::Stopped),
        bytes_written: Some(12),
        ..LogsJobReply::default()
    };
    let complete = LogsJobReply {
        state: Some(LogsJobState::Complete),
        follow: Some(false),
        interval: Some("0s".into()),
        ..stopped.clone()
    };
    walk.check(path::DEPLOYMENT_LOGS_ASYNC_STATUS, &[("new", request.clone())], &[("new", complete)]);
    walk.check(path::DEPLOYMENT_LOGS_ASYNC_STOP, &[("new", request)], &[("new", stopped)]);
}

fn check_resources(walk: &mut Walk) {
    let told = |ok| ResourcesReply { ok, resources: resources(), error: String::new() };
    let failed = ResourcesReply { error: "no resources".into(), ..ResourcesReply::default() };
    let replies = [("new", told(true)), ("unset", told(false)), ("failed", failed)];
    for path in [
        path::RESOURCES_FREE,
        path::RESOURCES_ALLOCATED,
        path::RESOURCES_ONBOARDED,
        path::HARDWARE_SPEC,
        path::HARDWARE_USAGE,
    ] {
        walk.check(path, &[("new", Nothing {})], &replies);
    }
}

fn check_peers(walk: &mut Walk) {
    let nothing = [("new", Nothing {})];
    let addresses = "/ip4/127.0.0.1/tcp/9000, /ip4/10.0.0.1/udp/9000/quic-v1,";
    let about = PeersSelf { id: "12D3KooWX".into(), listen_addr: addresses.into() };
    walk.check(path::PEERS_SELF, &nothing, &[("new", about)]);

    let peers = PeersList { peers: vec!["12D3KooWX".into(), "12D3KooWY".into()] };
    walk.check(path::PEERS_LIST, &nothing, &[("new", peers), ("none", PeersList::default())]);

    let answered = PingReply { error: String::new(), rtt: 7.0 };
    let silent = PingReply { error: "timeout".into(), rtt: 0.0 };
    let request = PingRequest { host: "12D3KooWX".into() };
    walk.check(path::PEERS_PING, &[("new", request)], &[("new", answered), ("failed", silent)]);

    let request = ConnectRequest { address: "/ip4/127.0.0.1/tcp/9000/p2p/12D3KooWX".into() };
    let connected = ConnectReply { status: "CONNECTED".into(), error: String::new() };
    let failed = ConnectReply { status: String::new(), error: "no route".into() };
    walk.check(path::PEERS_CONNECT, &[("new", request)], &[("new", connected), ("failed", failed)]);

    let table = PeersDht { peers: vec![json!({"Id": "12D3KooWX"})] };
    walk.check(path::PEERS_DHT, &nothing, &[("new", table), ("none", PeersDht::default())]);
    let score = PeersScore { score: BTreeMap::from([("12D3KooWX".into(), json!({"Score": 5}))]) };
    walk.check(path::PEERS_SCORE, &nothing, &[("new", score), ("none", PeersScore::default())]);
}

fn check_onboarding(walk: &mut Walk) {
    let nothing = [("new", Nothing {})];
    let onboarded = OnboardingReply { onboarded: true, error: String::new() };
    let failed = OnboardingReply { onboarded: false, error: "no config".into() };
    walk.check(path::ONBOARDING_STATUS, &nothing, &[("new", onboarded), ("failed", failed)]);

    let config = OnboardingConfig { resources: resources() };
    let request = OnboardRequest { no_gpu: true, gpus: Value::Null, config };
    let done = OnboardReply { success: true, error: String::new(), config: Some(config) };
    let failed = OnboardReply { error: "too much".into(), ..OnboardReply::default() };
    let requests = [("new", request.clone()), ("dms", request)];
    walk.check(path::ONBOARDING_ONBOARD, &requests, &[("new", done.clone()), ("failed", failed.clone())]);
    let replies = [
        ("new", OnboardReply { config: None, ..done }),
        ("failed", OnboardReply { error: "not onboarded".into(), ..failed }),
    ];
    walk.check(path::ONBOARDING_OFFBOARD, &nothing, &replies);
}

fn check_told(walk: &mut Walk) {
    let nothing = [("new", Nothing {})];
    let interface =
        Interface { name: "eth0".into(), ip: vec!["10.0.0.1/8".into()], mac_address: "00:00:5e:00:53:01".into() };
    let p2p = PeersSelf { id: "12D3KooWX".into(), listen_addr: "/ip4/10.0.0.1/tcp/9000".into() };
    let told = NodeStatus {
        hostname: "h".into(),
        did: DID.into(),
        network: NodeNetwork { interfaces: vec![interface], p2p },
        onboarded: true,
        resources: ResourceSummary {
            total: resources(),
            onboarded: resources(),
            allocated: Resources::default(),
            free: resources(),
        },
    };
    let statuses: NodeStatuses = BTreeMap::from([("12D3KooWX".into(), told)]);
    walk.check(path::NODE_STATUS, &nothing, &[("new", statuses.clone())]);
    walk.check(path::BROADCAST_STATUS, &nothing, &[("new", statuses)]);

    let hello = Hello { did: DidText { uri: DID.into() } };
    for path in [path::PUBLIC_HELLO, path::BROADCAST_HELLO] {
        walk.check(path, &[("new", Nothing {}), ("none", Nothing {})], &[("new", hello.clone())]);
    }
    let well = PublicStatus { status: "OK".into(), resources: resources() };
    let unwell = PublicStatus { status: "ERROR".into(), resources: Resources::default() };
    walk.check(path::PUBLIC_STATUS, &nothing, &[("new", well), ("failed", unwell)]);
    walk.check_outcome(path::HEALTHCHECK, &nothing, "unhealthy");
}

fn check_anchors(walk: &mut Walk) {
    let did = || json!({"uri": DID});
    let token = json!({"dms": {"act": "delegate", "iss": did(), "sub": did(), "aud": {}, "cap": ["/dms"],
        "nonce": "AAECAwQFBgcICQoL", "exp": 1_900_000_000_000_000_000_u64, "sig": "AA=="}});
    let tokens = TokenList { list: vec![token] };
    let request = AnchorsRequest { context: "dms".into() };
    let anchors = Anchors {
        ok: true,
        error: String::new(),
        roots: vec![DidText { uri: DID.into() }],
        require: tokens.clone(),
        provide: TokenList::default(),
        revoke: TokenList::default(),
    };
    let failed = Anchors { error: "no context".into(), ..Anchors::default() };
    walk.check(path::CAP_LIST, &[("new", request)], &[("new", anchors), ("failed", failed)]);

    let request = AnchorRequest { token: tokens };
    for path in [path::CAP_REQUIRE, path::CAP_PROVIDE, path::CAP_REVOKE] {
        walk.check_outcome(path, &[("new", request.clone())], "signature verification failed");
    }
    let told = RevokeBroadcastReply { ok: true, error: String::new(), tokens_count: 1 };
    let failed = RevokeBroadcastReply { error: "no tokens".into(), ..RevokeBroadcastReply::default() };
    walk.check(path::CAP_REVOKE_BROADCAST, &[("new", request)], &[("new", told), ("failed", failed)]);
}
