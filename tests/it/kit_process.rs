//! A process of the kit ends when it is told to, and with its parent in any case.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use dms_operator::dev::{KitError, Process, free_port};

use crate::{
    cluster::{eventually, scratch},
    timed::Timed,
};

const GRACE: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

/// `R`, `S`, `T`, `Z`, … as proc(5) has it; `None` when there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

fn start(name: &str, script: &str) -> Process {
    Process::start(name, &shell(script), scratch("processes").join(name)).unwrap()
}

async fn logged(process: &Process, line: &str) {
    eventually(&format!("{} logs {line:?}", process.name()), async || {
        let log = process.log().unwrap();
        if log.lines().any(|found| found == line) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_process_is_asked_to_stop_first() {
    let _timed = Timed::start();
    let polite = start("polite", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.01; done");
    logged(&polite, "up").await;
    let log = scratch("processes").join("polite");
    assert_eq!(polite.stop(GRACE).await, Some(7));
    assert_eq!(fs::read_to_string(log).unwrap(), "up\nbye\n");
}

#[tokio::test]
async fn a_process_that_does_not_stop_is_killed_with_what_it_started() {
    let _timed = Timed::start();
    let stubborn = start("stubborn", "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000");
    let child = eventually("the child's id", async || {
        let log = stubborn.log().unwrap();
        log.trim().parse::<u32>().map_err(|error| error.to_string())
    })
    .await;
    let pid = stubborn.pid();
    assert_eq!(stubborn.stop(Duration::from_millis(100)).await, None);
    assert_eq!(state(pid), None);
    eventually("the child ends", async || gone(child)).await;
}

/// An orphan is reaped by whoever adopts it, which may take a moment or forever.
fn gone(pid: u32) -> Result<(), String> {
    match state(pid) {
        None | Some('Z') => Ok(()),
        Some(state) => Err(format!("process {pid} is in state {state}")),
    }
}

#[tokio::test]
async fn a_process_is_frozen_killed_and_started_again() {
    let _timed = Timed::start();
    let mut process = start("again", "sleep 1000 & echo up $!; wait");
    let first = process.pid();
    process.pause().unwrap();
    eventually("it stands still", async || if state(first) == Some('T') { Ok(()) } else { Err("it runs".into()) })
        .await;
    assert!(process.is_running());
    process.resume().unwrap();
    let child = eventually("the child's id", async || {
        let log = process.log().unwrap();
        log.trim().trim_start_matches("up ").parse::<u32>().map_err(|error| error.to_string())
    })
    .await;

    process.kill9().unwrap();
    assert!(!process.is_running());
    assert!(gone(child).is_err(), "what it started goes on");
    process.restart().unwrap();
    assert_ne!(process.pid(), first);
    assert!(process.is_running());
    assert!(gone(child).is_err(), "what it started goes on");
    drop(process);
    eventually("the child ends", async || gone(child)).await;
}

#[tokio::test]
async fn an_early_end_is_told_with_the_log() {
    let _timed = Timed::start();
    let process = start("broken", "echo no disk; exit 3");
    assert_eq!(process.exit_code(GRACE).await, Some(3));
    let error = process.ready(GRACE, async || Err::<(), _>("closed")).await.unwrap_err();
    assert!(matches!(&error, KitError::Ended { name, log } if name == "broken" && log == "no disk"), "{error:?}");

    let process = start("silent", "exec sleep 1000");
    let error = process.ready(Duration::from_millis(50), async || Err::<(), _>("closed")).await.unwrap_err();
    assert!(
        matches!(&error, KitError::NotReady { name, last, .. } if name == "silent" && last == "closed"),
        "{error:?}"
    );
}

#[tokio::test]
async fn nothing_outlives_a_parent_that_is_killed() {
    let _timed = Timed::start();
    // This test binary again, running nothing but the test below.
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kit_process::parent", "--nocapture"])
        .env(PARENT, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pids = lines.find_map(|line| line.split_once("pids ").map(|(_, pids)| pids.to_owned())).unwrap();
    let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.iter().map(|pid| gone(*pid).is_err()).collect::<Vec<_>>(), [true; 2], "both run");
    parent.kill().unwrap();
    parent.wait().unwrap();
    for pid in pids {
        eventually("the orphan ends", async || gone(pid)).await;
    }
}

const PARENT: &str = "DMS_OPERATOR_TEST_PARENT";

/// The parent of the test above; it never returns. Without being asked it does nothing.
#[test]
fn parent() {
    if std::env::var_os(PARENT).is_none() {
        return;
    }
    let process = start("orphan", "sleep 1000 & echo $!; wait");
    let child = loop {
        if let Ok(child) = process.log().unwrap().trim().parse::<u32>() {
            break child;
        }
        assert!(process.is_running());
        std::thread::yield_now();
    };
    println!("pids {} {child}", process.pid());
    loop {
        std::thread::park();
    }
}

#[test]
fn no_port_is_given_twice() {
    let _timed = Timed::start();
    let mut ports: Vec<u16> = (0..50).map(|_| free_port().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}

#[test]
fn a_process_that_is_not_there_ends_at_once() {
    let _timed = Timed::start();
    let log = scratch("processes").join("missing");
    let process = Process::start("missing", &Command::new("/nowhere/at-all"), &log).unwrap();
    process.kill9().unwrap();
    drop(process);
    assert!(Path::new(&log).parent().unwrap().exists());
}
