//! What allocations print, as callers get it.

use serde_json::{Value, json};

use super::rig::{Rig, WAIT, until};
use crate::device::dms::{
    ChunkReply, DeploymentState, InfoReply, LARGEST_CHUNK, LogsJobReply, LogsJobState, LogsReply, Stream, path,
    tolerant,
};

const KEY: &str = "device.web";

/// A deployment that prints nothing until there is a file `more`, and then what is in it.
async fn silent(rig: &mut Rig) -> String {
    let script = format!("while [ ! -e more ]; do sleep 0.01; done; cat more; echo > printed; {WAIT}");
    rig.running(&script, &[]).await
}

/// Lets it print a line.
async fn print(rig: &Rig, id: &str, line: &str) {
    let directory = rig.directory.path().join("deployments").join(id).join(KEY);
    std::fs::write(directory.join("next"), format!("{line}\n")).unwrap();
    std::fs::rename(directory.join("next"), directory.join("more")).unwrap();
    rig.written(id, "printed").await;
}

async fn chunk(rig: &mut Rig, id: &str, request: Value) -> ChunkReply {
    tolerant::decode(rig.call(&path::allocation_logs(id), request).await).unwrap()
}

#[tokio::test]
async fn a_log_is_told_in_chunks() {
    let mut rig = Rig::start().await;
    let lines = 2 * LARGEST_CHUNK / 8;
    let id = rig.running(&format!("seq -f '%07.0f' {lines}; echo oops >&2; echo > printed; {WAIT}"), &[]).await;
    rig.written(&id, "printed").await;
    let log = rig.node.0.lifecycle.log_of(&id, KEY);
    let kept = |stream| log.read(stream, 0, 0).unwrap().end;
    until("all is kept", || kept(Stream::Stdout) == 2 * LARGEST_CHUNK && kept(Stream::Stderr) == 5).await;
    let whole =
        |from: u64| -> String { (from..from + 10).map(|line| format!("{line:07}\n")).collect::<Vec<_>>().concat() };

    // More than is given at once is not given, whatever is asked for.
    let first = chunk(&mut rig, &id, json!({"AllocName": KEY, "Stream": "stdout", "max_bytes": 1 << 30})).await;
    assert_eq!((first.offset, first.next_offset, first.eof), (0, LARGEST_CHUNK, false));
    assert_eq!(first.total_size, 2 * LARGEST_CHUNK);
    assert!(first.data.0.starts_with(whole(1).as_bytes()));
    let second = chunk(&mut rig, &id, json!({"AllocName": KEY, "Stream": "stdout", "offset": LARGEST_CHUNK})).await;
    assert_eq!((second.offset, second.next_offset, second.eof), (LARGEST_CHUNK, 2 * LARGEST_CHUNK, true));
    assert!(second.data.0.starts_with(whole(LARGEST_CHUNK / 8 + 1).as_bytes()));
    let some = chunk(&mut rig, &id, json!({"AllocName": "web", "Stream": "stderr", "offset": 1, "max_bytes": 3})).await;
    assert_eq!((some.data.0.as_slice(), some.total_size, some.eof), (&b"ops"[..], 5, false));
    let beyond = chunk(&mut rig, &id, json!({"AllocName": KEY, "Stream": "stderr", "offset": 5})).await;
    assert_eq!((beyond.offset, beyond.data.0.len(), beyond.eof), (5, 0, true));

    // An older caller names no stream and gets the end of both.
    let old = chunk(&mut rig, &id, json!({"AllocName": KEY})).await;
    assert!(old.is_whole() && old.stderr.0 == b"oops\n", "{old:?}");
    assert_eq!(old.stdout.0.len(), usize::try_from(LARGEST_CHUNK / 2).unwrap());
    assert!(old.stdout.0.ends_with(format!("{lines:07}\n").as_bytes()));

    let other = chunk(&mut rig, &id, json!({"AllocName": "../web", "Stream": "stdout"})).await;
    assert!(other.error.contains("failed to get allocation"), "{other:?}");
    rig.stop().await;
}

#[tokio::test]
async fn a_log_that_was_truncated_is_told_from_its_first_byte_on() {
    let mut rig = Rig::start().await;
    let id = rig.running(&format!("echo 123456789; echo > printed; {WAIT}"), &[]).await;
    rig.written(&id, "printed").await;
    let log = rig.node.0.lifecycle.log_of(&id, KEY);
    until("it is kept", || log.read(Stream::Stdout, 0, 0).unwrap().end == 10).await;
    std::fs::write(output_of(&rig, &id).join("stdout.0.log"), "abc").unwrap();
    let anew = chunk(&mut rig, &id, json!({"AllocName": KEY, "Stream": "stdout", "offset": 10, "ack": 10})).await;
    assert_eq!((anew.offset, anew.next_offset, anew.total_size, anew.eof), (0, 3, 3, true));
    assert_eq!((anew.data.0.as_slice(), anew.error.as_str()), (&b"abc"[..], ""));
    rig.stop().await;
}

/// Where the output of the one allocation is kept.
fn output_of(rig: &Rig, id: &str) -> std::path::PathBuf {
    rig.directory.path().join("deployments").join(id).join("output").join(KEY)
}

#[tokio::test]
async fn a_job_goes_on_with_a_log_that_was_truncated_and_says_so() {
    let mut rig = Rig::start().await;
    let id = silent(&mut rig).await;
    print(&rig, &id, "a long line").await;
    let follow = json!({"EnsembleID": id, "AllocationName": KEY, "Follow": true, "FollowIntervalSeconds": 1});
    let begun = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, follow).await;
    let copied = job_when(&mut rig, &id, |job| job.bytes_written == Some(12)).await;
    assert_eq!((copied.state, copied.error.as_str()), (Some(LogsJobState::Running), ""));
    std::fs::write(output_of(&rig, &id).join("stdout.0.log"), "short\n").unwrap();
    let goes_on = job_when(&mut rig, &id, |job| job.bytes_written == Some(18)).await;
    assert_eq!(goes_on.state, Some(LogsJobState::Running), "it is no failure");
    assert!(goes_on.error.contains("was truncated"), "{goes_on:?}");
    let copy = std::path::Path::new(&begun.written_to).join("stdout.log");
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "a long line\nshort\n");
    let stopped =
        job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC_STOP, json!({"EnsembleID": id, "AllocationName": KEY})).await;
    assert_eq!((stopped.state, stopped.bytes_written), (Some(LogsJobState::Stopped), Some(18)));
    rig.stop().await;
}

#[tokio::test]
async fn of_an_ensemble_that_is_not_here_nothing_is_told() {
    let rig = Rig::start().await;
    for id in ["ab".repeat(32), "x".to_owned()] {
        let request =
            rig.envelope(&rig.caller, &path::allocation_logs(&id), &json!({"AllocName": KEY}), super::MINUTES);
        rig.send(&request.sign(&rig.caller)).await;
    }
    until("both are dropped", || rig.node.dropped().get("UnknownBehaviour") == Some(&2)).await;
    rig.stop().await;
}

async fn job(rig: &mut Rig, path: &str, request: Value) -> LogsJobReply {
    tolerant::decode(rig.call(path, request).await).unwrap()
}

async fn job_when(rig: &mut Rig, id: &str, wanted: impl Fn(&LogsJobReply) -> bool) -> LogsJobReply {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        let request = json!({"EnsembleID": id, "AllocationName": KEY});
        let reply = job(rig, path::DEPLOYMENT_LOGS_ASYNC_STATUS, request).await;
        if wanted(&reply) {
            return reply;
        }
        assert!(std::time::Instant::now() < deadline, "still {reply:?}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_job_follows_until_it_is_stopped() {
    let mut rig = Rig::start().await;
    let id = silent(&mut rig).await;
    let which = json!({"EnsembleID": id, "AllocationName": KEY});
    let none = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC_STATUS, which.clone()).await;
    assert!(none.state.is_none() && none.error.contains("no such job"), "{none:?}");

    let follow = json!({"EnsembleID": id, "AllocationName": "web", "Follow": true, "FollowIntervalSeconds": 1});
    let begun = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, follow.clone()).await;
    assert_eq!((begun.state, begun.interval.as_deref()), (Some(LogsJobState::Running), Some("1s")));
    print(&rig, &id, "line").await;
    let copied = job_when(&mut rig, &id, |job| job.bytes_written == Some(5)).await;
    assert_eq!((copied.state, &copied.written_to), (Some(LogsJobState::Running), &begun.written_to));
    let copy = std::path::Path::new(&begun.written_to).join("stdout.log");
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "line\n");
    // While it runs there is one.
    let again = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, json!({"EnsembleID": id, "AllocationName": KEY})).await;
    assert_eq!((again.follow, again.interval.as_deref()), (Some(true), Some("1s")));

    for _ in 0..2 {
        let stopped = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC_STOP, which.clone()).await;
        assert_eq!((stopped.state, stopped.bytes_written), (Some(LogsJobState::Stopped), Some(5)));
    }
    // A new one begins anew, and ends with what it follows.
    let begun = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, follow).await;
    assert_eq!(begun.state, Some(LogsJobState::Running));
    job_when(&mut rig, &id, |job| job.bytes_written == Some(5)).await;
    let running = rig.node.0.copies.find(&rig.asked(&id, KEY)).unwrap();
    assert_eq!(rig.call(path::DEPLOYMENT_SHUTDOWN, json!({"ID": id})).await["OK"], true);
    until("the job has ended", || running.progress().state == LogsJobState::Complete).await;
    assert_eq!(std::fs::read_to_string(&copy).unwrap(), "line\n");
    let over = job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC_STATUS, which).await;
    assert_eq!(over.error, "failed to get orchestrator");
    assert_eq!(rig.call(path::DEPLOYMENT_DELETE, json!({"orchestrator_id": id})).await["ok"], true);
    assert!(rig.node.0.copies.find(&rig.asked(&id, KEY)).is_none() && !copy.exists());
    rig.stop().await;
}

#[tokio::test]
async fn logs_are_copied_once() {
    let mut rig = Rig::start().await;
    let id = silent(&mut rig).await;
    let which = json!({"EnsembleID": id, "AllocationName": KEY});
    let logs = |value| tolerant::decode::<LogsReply>(value).unwrap();
    let empty = logs(rig.call(path::DEPLOYMENT_LOGS, which.clone()).await);
    assert!(empty.written_to.is_empty() && empty.error.contains("printed nothing"), "{empty:?}");
    job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, which.clone()).await;
    let failed = job_when(&mut rig, &id, |job| job.state == Some(LogsJobState::Failed)).await;
    assert!(failed.error.contains("printed nothing"), "{failed:?}");

    print(&rig, &id, "line").await;
    let log = rig.node.0.lifecycle.log_of(&id, KEY);
    until("it is kept", || log.read(Stream::Stdout, 0, 9).unwrap().bytes == b"line\n").await;
    let written = logs(rig.call(path::DEPLOYMENT_LOGS, which.clone()).await);
    let copy = |stream| std::fs::read_to_string(std::path::Path::new(&written.written_to).join(stream));
    assert_eq!(copy("stdout.log").unwrap(), "line\n");
    assert!(copy("stderr.log").is_err(), "what is empty is not written");
    job(&mut rig, path::DEPLOYMENT_LOGS_ASYNC, which).await;
    let complete = job_when(&mut rig, &id, |job| job.state == Some(LogsJobState::Complete)).await;
    assert_eq!((complete.bytes_written, complete.follow, complete.error.as_str()), (Some(5), Some(false), ""));

    let request = json!({"id": id, "include_logs": true, "include_usage": true, "allocation_names": ["web"]});
    let info: InfoReply = tolerant::decode(rig.call(path::DEPLOYMENT_INFO, request).await).unwrap();
    assert_eq!((info.state, info.id.as_str()), (Some(DeploymentState::Running.into()), id.as_str()));
    assert_eq!(info.manifest, rig.manifest(&id).await.manifest);
    let detail = &info.allocations[KEY];
    assert!(detail.status == "running" && detail.resource_usage.memory_used_bytes > 0, "{detail:?}");
    let logs = detail.logs.clone().unwrap();
    assert_eq!((&logs.written_to, logs.error.as_str()), (&written.written_to, ""));
    let none = json!({"id": id, "allocation_names": ["other"]});
    let none: InfoReply = tolerant::decode(rig.call(path::DEPLOYMENT_INFO, none).await).unwrap();
    assert!(none.allocations.is_empty() && none.manifest.is_some(), "{none:?}");
    rig.stop().await;
}
