//! What a thousand connections cost the process that holds them.

use std::error::Error;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bench::capability::Key;
use bench::device::libp2p::{Link, LinkConfig};
use futures::{StreamExt as _, TryStreamExt as _};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::table::{Bound, figure};

const DEVICES: usize = 1000;
/// Each simulates so many.
const A_PROCESS: usize = 250;
const WITHIN: Duration = Duration::from_secs(60);

fn this(arguments: &[&str]) -> Result<Child, Box<dyn Error>> {
    let mut command = Command::new(std::env::current_exe()?);
    Ok(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?)
}

async fn first_line(child: &mut Child) -> Result<String, Box<dyn Error>> {
    let output = child.stdout.take().ok_or("no output")?;
    let line = BufReader::new(output).lines().next_line().await?;
    Ok(line.ok_or("a process of the bench has ended")?)
}

/// Holds connections to a thousand nodes in a process of its own, and prints what it grew by.
pub async fn measure() -> Result<(), Box<dyn Error>> {
    let mut simulating = Vec::new();
    let mut nodes = Vec::new();
    for _ in 0..DEVICES / A_PROCESS {
        let mut child = this(&["--simulate", &A_PROCESS.to_string()])?;
        nodes.extend(serde_json::from_str::<Vec<(String, String)>>(&first_line(&mut child).await?)?);
        simulating.push(child);
    }
    let mut holding = this(&["--hold"])?;
    let mut input = holding.stdin.take().ok_or("no input")?;
    input.write_all(serde_json::to_string(&nodes)?.as_bytes()).await?;
    drop(input);
    let held: Value = serde_json::from_str(&first_line(&mut holding).await?)?;
    let number = |name: &str| held[name].as_f64().ok_or_else(|| format!("no {name} in {held}"));
    let grown = (number("after")? - number("before")?) / f64::from(1 << 20);
    figure(&format!("memory of {DEVICES} connected devices above base"), grown, "MB", Bound::AtMost(150.0));
    figure("of these, a device", grown * 1024.0 / DEVICES as f64, "KB", Bound::None);
    figure(&format!("{DEVICES} devices connected and sent one frame each"), number("seconds")?, "s", Bound::None);
    Ok(())
}

fn many_files() -> Result<(), Box<dyn Error>> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn link(listen: Vec<String>, inbox: &str) -> LinkConfig {
    LinkConfig {
        key: Key::from_seed(rand::random()),
        listen,
        inboxes: vec![inbox.to_owned()],
        topics: Some(vec!["/nunet/hello".to_owned()]),
    }
}

/// Runs so many nodes, and prints where they are.
pub async fn simulate(count: usize) -> Result<(), Box<dyn Error>> {
    many_files()?;
    let mut nodes = Vec::with_capacity(count);
    let mut links = Vec::with_capacity(count);
    for _ in 0..count {
        let (link, mut arrived) = Link::start(link(vec!["/ip4/127.0.0.1/tcp/0".to_owned()], "root")).await?;
        tokio::spawn(async move { while arrived.recv().await.is_some() {} });
        let address = link.listen_addresses().await.pop().ok_or("it does not listen")?;
        nodes.push((link.peer_id().to_owned(), address));
        links.push(link);
    }
    println!("{}", serde_json::to_string(&nodes)?);
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    Ok(())
}

/// Connects to the nodes of its standard input, and prints its resident bytes before and after.
pub async fn hold() -> Result<(), Box<dyn Error>> {
    many_files()?;
    let mut text = Vec::new();
    tokio::io::stdin().read_to_end(&mut text).await?;
    let nodes: Vec<(String, String)> = serde_json::from_slice(&text)?;
    let mut config = link(Vec::new(), "user-1");
    config.topics = Some(Vec::new());
    let (link, _arrived) = Link::start(config).await?;
    let before = resident()?;
    let begun = Instant::now();
    let send = async |(peer, address): &(String, String)| {
        link.send(peer, std::slice::from_ref(address), "root", vec![0; 1347], WITHIN).await
    };
    futures::stream::iter(&nodes).map(send).buffer_unordered(32).try_collect::<Vec<()>>().await?;
    let seconds = begun.elapsed().as_secs_f64();
    // Each has answered a ping, so identify and the rest of what begins with a connection is over, too.
    while link.peers().iter().filter(|peer| peer.rtt.is_some()).count() < nodes.len() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if begun.elapsed() > WITHIN {
            return Err("not all devices stay connected".into());
        }
    }
    println!("{}", json!({ "before": before, "after": resident()?, "seconds": seconds }));
    Ok(())
}

fn resident() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? << 10)
}
