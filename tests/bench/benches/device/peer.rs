//! The Go peer of `tests/interop`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bench::capability::{Did, Key};
use bench::device::DeviceTarget;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Builds it; Go's own cache makes that quick the second time.
pub fn build() -> Result<PathBuf, Box<dyn Error>> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dms-peer");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../interop");
    let mut go = std::process::Command::new("go");
    let status = go.current_dir(sources).args(["build", "-mod=readonly", "-o"]).arg(&built).status()?;
    if status.success() { Ok(built) } else { Err("the Go peer does not build".into()) }
}

/// One running; it ends with its standard input.
pub struct Peer {
    _child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Peer {
    pub fn start(peer: &Path, arguments: &[&str]) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(peer);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the Go peer has no pipes".into());
        };
        Ok(Self { _child: child, input, lines: BufReader::new(output).lines() })
    }

    /// The next line that tells of this event.
    pub async fn next(&mut self, event: &str) -> Result<Value, Box<dyn Error>> {
        while let Some(line) = self.lines.next_line().await? {
            let line: Value = serde_json::from_str(&line)?;
            if line["event"] == event {
                return Ok(line);
            }
            if line["event"] == "broken" {
                return Err(format!("the Go peer tells of a broken stream: {line}").into());
            }
        }
        Err("the Go peer has ended".into())
    }

    pub async fn say(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        Ok(self.input.write_all(format!("{line}\n").as_bytes()).await?)
    }
}

/// A node of the peer that listens.
pub struct Node {
    /// It runs as long as this is kept.
    _peer: Peer,
    pub target: DeviceTarget,
}

impl Node {
    pub async fn start(peer: &Path, what: &str, flags: &[&str]) -> Result<Self, Box<dyn Error>> {
        let seed: [u8; 32] = rand::random();
        let did: Did = Key::from_seed(seed).did().clone();
        let mut peer = Peer::start(peer, &[&[what, "--seed", &hex::encode(seed)], flags].concat())?;
        let listening = peer.next("listening").await?;
        let addresses = serde_json::from_value(listening["addresses"].clone())?;
        Ok(Self { _peer: peer, target: DeviceTarget { did, addresses, grant: None } })
    }

    /// Its first address, with its peer ID.
    pub fn address(&self) -> String {
        format!("{}/p2p/{}", self.target.addresses[0], self.target.did.peer_id())
    }
}
