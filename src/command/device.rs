//! `dms-operator device`: a DMS-compatible node on this machine.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, wallet};
use crate::{
    capability::{Context, Did, Key},
    device::node::{Entry, Faults, NodeConfig, Offer, RunningNode, wall_clock},
    telemetry::{self, LogFormat},
};

/// Arguments of `device`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Multiaddress to listen on; may be repeated. What it runs listens on the same host.
    #[arg(long, value_name = "MULTIADDR", default_value = "/ip4/127.0.0.1/tcp/9000")]
    listen: Vec<String>,
    #[command(flatten)]
    key: KeySource,
    #[command(flatten)]
    trust: Trust,
    /// Directory in which the node keeps its state. Only one node may run in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The one image that it runs, as this very program, and of it the site server only. Absent: dms-operator@sha256:<digest of this program>.
    #[arg(long, value_name = "NAME@sha256:HEX")]
    own_image: Option<String>,
    /// Host name or address under which the ports of what it runs are reached.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    public_host: String,
    /// Cores it has to offer. Absent: those of this machine. What is not left is not given; nothing holds a child to what it was given.
    #[arg(long, value_name = "NUMBER")]
    cores: Option<u32>,
    /// Memory it has to offer, in MiB. Absent: that of this machine.
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Disk it has to offer, in MiB. Absent: 65536.
    #[arg(long, value_name = "MIB")]
    disk: Option<u32>,
    /// Offer nothing until told to onboard. It counts at the first start; later ones go on with what was set meanwhile.
    #[arg(long)]
    not_onboarded: bool,
    /// What goes wrong on purpose, for tests, as a list. Always, or with a chance as in drop-replies=0.2: drop (both directions),
    /// drop-requests, drop-replies, drop-new-reply, duplicate-reply, reorder, cut, half-open, mute, slow-read, wrong-key, full-disk,
    /// no-start, die-at-once, list-empty, list-filtered-empty, foreign-id, foreign-peer, impossible-usage, unknown-state. Beside
    /// these: delay=MILLISECONDS or delay=LEAST..MOST, clock=±SECONDSs, seed=NUMBER (the same seed gives the same course; absent: a
    /// random one, which is logged). A file named `faults` in the directory is read for every message instead.
    #[arg(long, value_name = "LIST", default_value = "")]
    faults: Faults,
    /// Write a line to wire.log in the directory for every message that arrives.
    #[arg(long)]
    wire_log: bool,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t, value_name = "FORM")]
    log_format: LogFormat,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct KeySource {
    /// DMS key file; the passphrase is taken from DMS_PASSPHRASE, or asked for.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the seed of an Ed25519 key, 64 hex digits.
    #[arg(long, value_name = "FILE")]
    seed_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Trust {
    /// Capability context of the node, a DMS .cap file.
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// A DID that may do everything on this node, beside those in the context; may be repeated.
    #[arg(long, value_name = "DID")]
    root: Vec<Did>,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args {
        listen,
        key,
        trust,
        dir,
        own_image,
        public_host,
        cores,
        memory,
        disk,
        not_onboarded,
        faults,
        wire_log,
        log_format,
    } = args;
    telemetry::install(log_format);
    let stop = stop_signal()?;
    let key = open(&key)?;
    let context = trusted(&trust, &key)?;
    let program = std::env::current_exe()
        .map_err(|error| CommandError::because("the path of this program could not be found out", error))?;
    let own_image = match own_image {
        Some(image) => image,
        None => own_digest(program.clone()).await?,
    };
    let machine = Offer::of_this_machine();
    let bytes = |mebibytes: Option<u32>| mebibytes.map(|number| f64::from(number) * 1_048_576.0);
    let offer = Offer {
        cores: cores.map_or(machine.cores, f64::from),
        memory_bytes: bytes(memory).unwrap_or(machine.memory_bytes),
        disk_bytes: bytes(disk).unwrap_or(machine.disk_bytes),
    };
    let did = key.did().clone();
    let config = NodeConfig {
        key,
        context,
        directory: dir,
        own_image: own_image.clone(),
        program,
        entry: Entry::SITE,
        bind: host_of(&listen),
        public_host,
        offer,
        onboarded: !not_onboarded,
        faults,
        wire_log,
        clock: wall_clock(),
    };
    let node = RunningNode::start(config, listen)
        .await
        .map_err(|error| CommandError::because("the node did not start", error))?;
    let line = json!({"did": did, "peer": did.peer_id(), "addresses": node.addresses(), "ownImage": own_image});
    let told = writeln!(std::io::stdout(), "{line}");
    if told.is_ok() {
        stop.await;
    }
    node.stop().await;
    told.map_err(|error| CommandError::because("the address of the node could not be printed", error))?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves on SIGTERM or SIGINT. Set up before anything is started, so that none is missed.
fn stop_signal() -> Result<impl Future<Output = ()>, CommandError> {
    let listen = |kind| signal(kind).map_err(|error| CommandError::because("signals cannot be listened to", error));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn open(source: &KeySource) -> Result<Key, CommandError> {
    match source {
        KeySource { key: Some(file), seed_file: _ } => wallet::open_key(file),
        KeySource { key: None, seed_file: Some(file) } => wallet::open_seed(file),
        KeySource { key: None, seed_file: None } => Err(CommandError::new("name a key with --key or --seed-file")),
    }
}

fn trusted(trust: &Trust, key: &Key) -> Result<Context, CommandError> {
    let Trust { context, root } = trust;
    let mut context = match context {
        Some(file) => read_context(file)?,
        None => Context::empty(key.did().clone()),
    };
    context.roots.extend(root.iter().cloned());
    Ok(context)
}

fn read_context(file: &Path) -> Result<Context, CommandError> {
    let name = file.display();
    let bytes =
        std::fs::read(file).map_err(|error| CommandError::because(format!("{name} could not be read"), error))?;
    Context::parse(&bytes)
        .map_err(|error| CommandError::because(format!("{name} is not a capability context of DMS"), error))
}

/// The image that this executable stands for.
pub(super) async fn own_image() -> Result<String, CommandError> {
    let program = std::env::current_exe()
        .map_err(|error| CommandError::because("this program could not be found to name it", error))?;
    own_digest(program).await
}

async fn own_digest(program: PathBuf) -> Result<String, CommandError> {
    let hash = move || -> std::io::Result<String> {
        let (mut file, mut hasher, mut piece) = (std::fs::File::open(program)?, Sha256::new(), vec![0; 1 << 20]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hex::encode(hasher.finalize())),
                length => hasher.update(&piece[..length]),
            }
        }
    };
    let digest = tokio::task::spawn_blocking(hash).await.map_err(std::io::Error::other).and_then(|result| result);
    let digest = digest.map_err(|error| CommandError::because("this program could not be read to name it", error))?;
    Ok(format!("dms-operator@sha256:{digest}"))
}

/// The host of the first address; loopback when it is a name.
fn host_of(listen: &[String]) -> IpAddr {
    let first = listen.first().map(String::as_str).unwrap_or_default();
    let host = match first.split('/').collect::<Vec<_>>()[..] {
        ["", "ip4" | "ip6", host, ..] => host.parse().ok(),
        _ => None,
    };
    host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Alone {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(args: &[&str]) -> Result<Args, clap::Error> {
        Alone::try_parse_from([&["device"], args].concat()).map(|alone| alone.args)
    }

    #[test]
    fn one_key_and_some_trust_are_needed() {
        let did = Key::from_seed([7; 32]).did().to_string();
        let seed = ["--dir", "d", "--seed-file", "s"];
        let args = parsed(&[&seed[..], &["--root", &did, "--root", &did, "--faults", "list-empty,delay=5"]].concat());
        let args = args.unwrap();
        assert_eq!((args.trust.root.len(), args.faults.to_string().as_str()), (2, "list-empty,delay=5"));
        assert!(parsed(&seed).is_err(), "nobody is trusted");
        assert!(parsed(&["--dir", "d", "--root", &did]).is_err(), "no key");
        assert!(parsed(&[&seed[..], &["--key", "k", "--root", &did]].concat()).is_err(), "two keys");
        assert!(parsed(&[&seed[..], &["--root", "did:web:x"]].concat()).is_err(), "not a did:key");
        assert!(parsed(&[&seed[..], &["--root", &did, "--faults", "nonsense"]].concat()).is_err());
        assert!(parsed(&[&seed[..], &["--context", "c"]].concat()).is_ok());
    }

    #[test]
    fn children_listen_on_the_host_of_the_node() {
        for (listen, host) in [
            ("/ip4/0.0.0.0/tcp/9000", "0.0.0.0"),
            ("/ip4/127.0.0.1/tcp/0", "127.0.0.1"),
            ("/ip6/::1/tcp/0", "::1"),
            ("/dns4/localhost/tcp/0", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(host_of(&[listen.to_owned()]).to_string(), host, "{listen}");
        }
    }
}
