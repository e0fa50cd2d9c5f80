//! The device link, the bytes, the signatures and the files against an independent peer: go-libp2p, Go's own JSON and
//! Ed25519, written from the protocol notes (`tests/interop`). Two ends of our own that agree would prove nothing.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
    time::Duration,
};

use dms_operator::{
    capability::{Capability, Context, Did, Key, Minting, Nanos, Token},
    device::{
        CallError, DeviceClient as _, DeviceTarget,
        dms::{self, PeersSelf},
        libp2p::{DmsClient, Link, LinkConfig},
        node::{Entry, Faults, NodeConfig, Offer, RunningNode, wall_clock},
    },
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::{definitions::root, timed::Timed};

mod answers;
mod bytes;
mod files;
mod hostile;
mod signed;

const SOON: Duration = Duration::from_secs(20);
const SELF: &str = "/dms/node/peers/self";

/// The Go peer, built once for each state of its sources.
fn go_peer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let sources = root().join("tests/interop");
        let built = cache_folder().join("bin").join(format!("dms-peer-{}", fingerprint(&sources)));
        if !built.exists() {
            build(&sources, &built);
        }
        built
    })
}

fn cache_folder() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = || set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    set("DMS_OPERATOR_CACHE")
        .or_else(|| Some(cache()?.join("dms-operator")))
        .expect("set HOME or DMS_OPERATOR_CACHE: the Go peer is built into a cache folder")
}

fn fingerprint(sources: &Path) -> String {
    let mut digest = Sha256::new();
    let mut files: Vec<_> = fs::read_dir(sources).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| {
        path.extension().is_some_and(|extension| ["go", "mod", "sum"].iter().any(|one| extension == *one))
    });
    files.sort();
    for path in files {
        digest.update(fs::read(path).unwrap());
    }
    hex::encode(&digest.finalize()[..6])
}

fn build(sources: &Path, built: &Path) {
    fs::create_dir_all(built.parent().unwrap()).unwrap();
    let partial = built.with_extension(std::process::id().to_string());
    let mut go = std::process::Command::new("go");
    // The flags that `go test` uses, so that both share one build of go-libp2p.
    go.current_dir(sources).args(["build", "-mod=readonly", "-o"]).arg(&partial);
    let output = go.output().unwrap_or_else(|error| {
        panic!("Go is needed to build the independent peer, and 'go' does not run ({error}): install Go 1.26 or newer (https://go.dev/dl/)")
    });
    assert!(output.status.success(), "the Go peer does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    // Another test run may have been faster: the rename is atomic, and both built the same.
    fs::rename(partial, built).unwrap();
}

fn seed() -> [u8; 32] {
    rand::random()
}

/// `dms-peer serve`. It ends with its standard input, and so with this value.
struct GoPeer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    target: DeviceTarget,
}

impl GoPeer {
    async fn serve(roots: &[&Did], flags: &[&str]) -> Self {
        let seed = seed();
        let mut command = Command::new(go_peer());
        command.args(["serve", "--seed", &hex::encode(seed)]).args(flags);
        for root in roots {
            command.args(["--root", root.as_str()]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let did = Key::from_seed(seed).did().clone();
        let target = DeviceTarget { did, addresses: Vec::new(), grant: None };
        let mut peer = Self { child, lines, target };
        let first = peer.next("listening").await;
        // Both sides derive DID and peer ID from the seed, each by its own code.
        assert_eq!((&first["did"], &first["peer"]), (&json!(peer.target.did), &json!(peer.target.did.peer_id())));
        peer.target.addresses = serde_json::from_value(first["addresses"].clone()).unwrap();
        peer
    }

    /// The next line that tells of this event.
    async fn next(&mut self, event: &str) -> Value {
        let find = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the Go peer has ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["event"] == event {
                    return line;
                }
            }
        };
        timeout(SOON, find).await.unwrap_or_else(|_| panic!("the Go peer does not tell of {event:?}"))
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id().unwrap()).unwrap()).unwrap()
    }

    fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        // The last of its threads may still have answered something.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
    }

    fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    fn who_it_is(&self) -> PeersSelf {
        let value = json!({"id": self.target.did.peer_id(), "listen_addr": self.target.addresses.join(", ")});
        serde_json::from_value(value).unwrap()
    }
}

async fn client(key: &Key) -> DmsClient {
    let inboxes = vec![format!("user-{}", now().0)];
    let (link, arrived) = Link::start(LinkConfig { key: key.clone(), listen: Vec::new(), inboxes }).await.unwrap();
    DmsClient::new(link, arrived, key.clone())
}

fn now() -> Nanos {
    Nanos::from_timestamp(jiff::Timestamp::now())
}

fn grant(owner: &Key, subject: &Did, path: &str) -> Token {
    let minting = Minting {
        subject: subject.clone(),
        audience: None,
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: Vec::new(),
        expires: now().plus(Duration::from_mins(5)),
        depth: 1,
        nonce: rand::random(),
    };
    Token::delegate(owner, minting, None).unwrap()
}

#[tokio::test]
async fn our_client_asks_the_go_peer() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    for flags in [&[][..], &["--polite"]] {
        let mut go = GoPeer::serve(&[key.did()], flags).await;
        let client = client(&key).await;
        assert_eq!(dms::peers_self(&client, &go.target).await.unwrap(), go.who_it_is());
        let answered = go.next("answered").await;
        assert_eq!((&answered["behaviour"], &answered["peer"]), (&json!(SELF), &json!(key.did().peer_id())));
        // More at once than a go-libp2p peer has streams for.
        let calls = (0..300).map(|_| client.call(&go.target, SELF, json!({}), SOON));
        for reply in futures::future::join_all(calls).await {
            assert_eq!(reply.unwrap()["id"], json!(go.target.did.peer_id()));
        }
        assert_eq!(client.link().counters().connections(), 1);
    }
}

#[tokio::test]
async fn the_go_peer_takes_our_chained_token_for_what_it_grants() {
    let _timed = Timed::start();
    let (key, owner) = (Key::from_seed(seed()), Key::from_seed(seed()));
    let mut go = GoPeer::serve(&[owner.did()], &[]).await;
    let client = client(&key).await;
    let target = DeviceTarget { grant: Some(grant(&owner, key.did(), "/dms/node/peers")), ..go.target.clone() };
    assert_eq!(dms::peers_self(&client, &target).await.unwrap(), go.who_it_is());
    go.next("answered").await;
    // A grant by somebody whom the device does not know looks right from here; only the device can tell.
    let stranger = Key::from_seed(seed());
    let target = DeviceTarget { grant: Some(grant(&stranger, key.did(), "/dms/node/peers")), ..target };
    let silent = client.call(&target, SELF, json!({}), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    assert_eq!(go.next("dropped").await["reason"], "NotAuthorised");
}

#[tokio::test]
async fn the_go_peer_is_silent_to_whom_it_does_not_know() {
    let _timed = Timed::start();
    let (key, stranger) = (Key::from_seed(seed()), Key::from_seed(seed()));
    let mut go = GoPeer::serve(&[stranger.did()], &[]).await;
    let client = client(&key).await;
    let silent = client.call(&go.target, SELF, json!({}), Duration::from_secs(1)).await;
    assert!(matches!(silent, Err(CallError::Silent { .. })), "{silent:?}");
    let dropped = go.next("dropped").await;
    let why = format!("no link of the token of {} is issued by a root", key.did());
    assert_eq!(
        (&dropped["reason"], &dropped["detail"], &dropped["dropped"], &dropped["peer"]),
        (&json!("NotAuthorised"), &json!(why), &json!(1), &json!(key.did().peer_id()))
    );
}

#[tokio::test]
async fn a_frozen_go_peer_is_left_and_found_again() {
    let _timed = Timed::start();
    let key = Key::from_seed(seed());
    let go = GoPeer::serve(&[key.did()], &[]).await;
    let client = client(&key).await;
    dms::peers_self(&client, &go.target).await.unwrap();
    go.freeze();
    let call = client.prepare(&go.target, SELF, json!({}), SOON).unwrap();
    let failed = client.send(&go.target, SELF, call, Duration::from_secs(1)).await.unwrap_err();
    // The connection stands, but the stream was never agreed on: no byte of the request has left.
    assert!(matches!(failed, CallError::NotSent { .. }), "{failed}");
    assert!(!client.link().connected(&go.target.did.peer_id()).await, "a connection that takes nothing is closed");
    go.thaw();
    let healed = async {
        while dms::peers_self(&client, &go.target).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, healed).await.expect("the link does not come back");
}

/// A node of ours that trusts these roots.
struct OurNode {
    running: RunningNode,
    address: String,
    _directory: TempDir,
}

impl OurNode {
    async fn start(roots: &[&Did]) -> Self {
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
            own_image: format!("dms-operator@sha256:{}", "ab".repeat(32)),
            program: "/bin/false".into(),
            entry: Entry::SITE,
            bind: [127, 0, 0, 1].into(),
            public_host: "127.0.0.1".to_owned(),
            offer: Offer { cores: 1.0, memory_bytes: 1e9, disk_bytes: 1e9 },
            onboarded: true,
            faults: Faults::default(),
            wire_log: false,
            clock: wall_clock(),
        };
        let running = RunningNode::start(config, vec!["/ip4/127.0.0.1/tcp/0".to_owned()]).await.unwrap();
        let address = format!("{}/p2p/{}", running.addresses()[0], key.did().peer_id());
        Self { running, address, _directory: directory }
    }

    fn dropped(&self) -> BTreeMap<&'static str, u64> {
        self.running.node().dropped()
    }
}

/// Runs `dms-peer invoke` and gives its exit code and the last line it printed.
async fn go_invokes(node: &OurNode, seed: [u8; 32], flags: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(go_peer());
    command.args(["invoke", "--seed", &hex::encode(seed), "--to", &node.address, "--behaviour", SELF]).args(flags);
    let output = timeout(SOON, command.kill_on_drop(true).output()).await.expect("the Go peer hangs").unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let last = lines.lines().last().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), last.unwrap_or_default())
}

#[tokio::test]
async fn the_go_peer_asks_our_node() {
    let _timed = Timed::start();
    let caller = seed();
    let node = OurNode::start(&[Key::from_seed(caller).did()]).await;
    for flags in [&[][..], &["--polite"]] {
        let (code, line) = go_invokes(&node, caller, flags).await;
        assert_eq!((code, &line["event"]), (Some(0), &json!("reply")), "{line}");
        let reply: PeersSelf = serde_json::from_value(line["message"].clone()).unwrap();
        assert_eq!(reply.id, node.running.node().did().peer_id());
    }
    assert_eq!(node.dropped().values().sum::<u64>(), 0);
    node.running.stop().await;
}

#[tokio::test]
async fn our_node_is_silent_to_a_go_peer_without_right() {
    let _timed = Timed::start();
    let (caller, stranger, owner) = (seed(), seed(), Key::from_seed(seed()));
    let node = OurNode::start(&[Key::from_seed(caller).did(), owner.did()]).await;
    let spoiled = ["signature", "expired", "host", "no-cap"].map(|how| (caller, vec!["--spoil", how]));
    let mut drops = 0;
    for (seed, mut flags) in spoiled.into_iter().chain([(stranger, vec![])]) {
        flags.extend(["--timeout", "700ms"]);
        assert_eq!(go_invokes(&node, seed, &flags).await, (Some(3), Value::Null), "{flags:?}");
        drops += 1;
        assert_eq!(node.dropped().values().sum::<u64>(), drops, "{flags:?}: {:?}", node.dropped());
    }
    // The stranger with a grant of the owner is answered.
    let grant = grant(&owner, Key::from_seed(stranger).did(), "/dms/node/peers");
    let grant = String::from_utf8(grant.to_json()).unwrap();
    assert_eq!(go_invokes(&node, stranger, &["--grant", &grant]).await.0, Some(0));
    node.running.stop().await;
}
