//! The Go peer as a process: as a device, and as a client.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use dms_operator::{
    capability::{Did, Key},
    device::{DeviceTarget, dms::PeersSelf},
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{OurNode, SOON, seed};
use crate::definitions::root;

/// The Go peer, built once for each state of its sources.
pub fn go_peer() -> &'static Path {
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

/// Lines in, lines out. It ends with its standard input, and so with this value.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take().unwrap(), lines, child }
    }

    async fn write(&mut self, line: &Value) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> Value {
        let line = timeout(SOON, self.lines.next_line()).await.expect("the Go peer says nothing").unwrap();
        serde_json::from_str(&line.expect("the Go peer has ended")).unwrap()
    }
}

/// `dms-peer serve`.
pub struct GoPeer {
    process: Process,
    pub target: DeviceTarget,
}

impl GoPeer {
    pub async fn serve(roots: &[&Did], flags: &[&str]) -> Self {
        Self::serve_as(seed(), roots, flags).await
    }

    pub async fn serve_as(seed: [u8; 32], roots: &[&Did], flags: &[&str]) -> Self {
        let mut command = Command::new(go_peer());
        command.args(["serve", "--seed", &hex::encode(seed)]).args(flags);
        for root in roots {
            command.args(["--root", root.as_str()]);
        }
        let did = Key::from_seed(seed).did().clone();
        let target = DeviceTarget { did, addresses: Vec::new(), grant: None };
        let mut peer = Self { process: Process::start(&mut command), target };
        let first = peer.next("listening").await;
        // Both sides derive DID and peer ID from the seed, each by its own code.
        assert_eq!((&first["did"], &first["peer"]), (&json!(peer.target.did), &json!(peer.target.did.peer_id())));
        peer.target.addresses = serde_json::from_value(first["addresses"].clone()).unwrap();
        peer
    }

    /// The next line that tells of this event. None before it may tell of a drop.
    pub async fn next(&mut self, event: &str) -> Value {
        loop {
            let line = self.process.line().await;
            if line["event"] == event {
                return line;
            }
            assert_ne!(line["event"], "dropped", "awaited {event:?}, and the Go peer says {line}");
        }
    }

    /// Waits until it has answered this; until then it must have dropped nothing.
    pub async fn answered(&mut self, behaviour: &str) {
        while self.next("answered").await["behaviour"] != behaviour {}
    }

    /// From now on, each step of a deployment takes so long.
    pub async fn pace(&mut self, milliseconds: u64) {
        self.process.write(&json!({ "pace": milliseconds })).await;
        self.next("paced").await;
    }

    /// Spoils its next reply so many times, and holds the true one back.
    pub async fn lie(&mut self, how: &str, times: u32) {
        self.process.write(&json!({ "lie": how, "times": times })).await;
        self.next("lying").await;
    }

    /// Lets it send the true reply after a lie.
    pub async fn tell_the_truth(&mut self) {
        self.process.write(&json!({ "truth": true })).await;
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.child.id().unwrap()).unwrap()).unwrap()
    }

    pub fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        // The last of its threads may still have answered something.
        waitid(WaitId::Pid(self.pid()), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
    }

    pub fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub async fn kill(mut self) {
        self.process.child.kill().await.unwrap();
    }

    /// A multiaddress with its peer ID.
    pub fn address(&self) -> String {
        format!("{}/p2p/{}", self.target.addresses[0], self.target.did.peer_id())
    }

    pub fn who_it_is(&self) -> PeersSelf {
        let value = json!({"id": self.target.did.peer_id(), "listen_addr": self.target.addresses.join(", ")});
        serde_json::from_value(value).unwrap()
    }
}

/// `dms-peer talk`: calls over one connection.
pub struct GoCaller(Process);

impl GoCaller {
    pub fn start(node: &OurNode, seed: [u8; 32], flags: &[&str]) -> Self {
        let mut command = Command::new(go_peer());
        command.args(["talk", "--seed", &hex::encode(seed), "--to", node.address()]).args(flags);
        Self(Process::start(&mut command))
    }

    /// Has it send a request; the next line tells what came of it.
    pub async fn send(&mut self, request: Value) {
        self.0.write(&request).await;
    }

    pub async fn line(&mut self) -> Value {
        self.0.line().await
    }

    /// The payload of the reply to a request that lives for five minutes. It is spelled as the newest release does, and
    /// no other connection was made for it.
    pub async fn reply(&mut self, behaviour: &str, message: Value) -> Value {
        self.reply_to(json!({"behaviour": behaviour, "message": message, "lives": 300_000})).await
    }

    pub async fn reply_to(&mut self, request: Value) -> Value {
        self.send(request.clone()).await;
        let line = self.line().await;
        assert_eq!((&line["event"], &line["connections"]), (&json!("reply"), &json!(1)), "{request} gives {line}");
        line["message"].clone()
    }

    /// Has it send a request that is wrong in this way. It is not answered: the next line would tell.
    pub async fn spoil(&mut self, how: &str, behaviour: &str, times: u32) {
        self.send(json!({"behaviour": behaviour, "message": {}, "spoil": how, "times": times})).await;
        let line = self.line().await;
        assert_eq!(line["event"], "sent", "{how} gives {line}");
    }
}

/// Runs `dms-peer invoke` and gives its exit code and the last line it printed.
pub async fn go_invokes(node: &OurNode, seed: [u8; 32], flags: &[&str]) -> (Option<i32>, Value) {
    let mut command = Command::new(go_peer());
    command.args(["invoke", "--seed", &hex::encode(seed), "--to", node.address()]).args(flags);
    let output = timeout(SOON, command.kill_on_drop(true).output()).await.expect("the Go peer hangs").unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let last = lines.lines().last().map(|line| serde_json::from_str(line).unwrap());
    (output.status.code(), last.unwrap_or_default())
}
