//! What allocations have printed: told in chunks, or copied to the node's disk.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        Served,
        copies::{self, Asked, Job, Progress},
        output::Log,
        state::Record,
    },
    Answer, Judged, request,
};
use crate::{
    capability::Did,
    device::dms::{
        AllocationLogs, Base64, ChunkReply, ChunkRequest, LARGEST_CHUNK, LogsJobReply, LogsJobRequest, LogsReply,
        LogsRequest, Stream, path,
    },
};

/// Between two looks of a job that follows, when nothing else is said, and the least and the most that can be said.
const INTERVAL: u64 = 10;
const INTERVALS: std::ops::RangeInclusive<u64> = 1..=300;

/// The log of one allocation, and who asked for it.
struct Found {
    record: Record,
    key: String,
    asked: Asked,
}

impl Served {
    /// The behaviour of each ensemble by itself: of one that is not here, it is as unknown as any other.
    pub(super) async fn allocation_logs(&self, judged: &Judged) -> Answer {
        let id = path::deployment_of_logs(&judged.envelope.behaviour).unwrap_or_default();
        let Some(record) = self.lifecycle.store.get(id).await else { return Answer::Dropped("UnknownBehaviour") };
        let read = async {
            let asked: ChunkRequest = request(&judged.envelope.message)?;
            let key = key_of(&record, &asked.allocation)?;
            let log = self.log_of(&record, &key);
            let read = tokio::task::spawn_blocking(move || chunk(&log, &asked));
            read.await.map_err(std::io::Error::other).and_then(|read| read).map_err(|error| error.to_string())
        };
        let reply = read.await.unwrap_or_else(|error: String| ChunkReply { error, ..ChunkReply::default() });
        Answer::Reply(json!(reply))
    }

    /// Copies the log once, for `deployment/info`.
    pub(super) async fn logs_of(&self, record: &Record, key: &str, by: &Did) -> AllocationLogs {
        let directory = self.copy_of(&record.id, key, by, "once");
        match self.copy_once(record, key, directory.clone()).await {
            Ok(()) => AllocationLogs {
                stdout_path: copies::file(&directory, Stream::Stdout).display().to_string(),
                stderr_path: copies::file(&directory, Stream::Stderr).display().to_string(),
                written_to: directory.display().to_string(),
                error: String::new(),
            },
            Err(error) => AllocationLogs { error, ..AllocationLogs::default() },
        }
    }

    pub(super) async fn logs(&self, judged: &Judged) -> LogsReply {
        let copied = async {
            let LogsRequest { id, allocation } = request(&judged.envelope.message)?;
            let Found { record, key, asked } = self.find(&id, &allocation, judged).await?;
            let directory = self.copy_of(&id, &key, &asked.by, "once");
            self.copy_once(&record, &key, directory.clone()).await.map(|()| directory)
        };
        match copied.await {
            Ok(directory) => LogsReply { written_to: directory.display().to_string(), error: String::new() },
            Err(error) => LogsReply { written_to: String::new(), error },
        }
    }

    pub(super) async fn begin_logs(&self, judged: &Judged) -> LogsJobReply {
        let begun = async {
            let LogsJobRequest { id, allocation, follow, interval_seconds } = request(&judged.envelope.message)?;
            let Found { record, key, asked } = self.find(&id, &allocation, judged).await?;
            let ends = self.lifecycle.end_of(&id).ok_or(NO_ORCHESTRATOR)?;
            let seconds = if interval_seconds == 0 { INTERVAL } else { interval_seconds };
            let interval = Duration::from_secs(seconds.clamp(*INTERVALS.start(), *INTERVALS.end()));
            let directory = self.copy_of(&id, &key, &asked.by, "job");
            Ok(self.copies.begin(asked, self.log_of(&record, &key), directory, follow.then_some(interval), ends))
        };
        begun.await.map_or_else(no_job, |job| LogsJobReply { bytes_written: None, ..told(&job) })
    }

    pub(super) async fn logs_begun(&self, judged: &Judged) -> LogsJobReply {
        self.job(judged).await.map_or_else(no_job, |job| told(&job))
    }

    pub(super) async fn end_logs(&self, judged: &Judged) -> LogsJobReply {
        self.job(judged).await.map_or_else(no_job, |job| {
            job.stop();
            LogsJobReply { follow: None, interval: None, ..told(&job) }
        })
    }

    async fn job(&self, judged: &Judged) -> Result<Arc<Job>, String> {
        let LogsRequest { id, allocation } = request(&judged.envelope.message)?;
        let Found { record: _, key: _, asked } = self.find(&id, &allocation, judged).await?;
        self.copies.find(&asked).ok_or_else(|| "there is no such job: begin one with logs/async".to_owned())
    }

    /// As DMS: only while the deployment is worked on.
    async fn find(&self, id: &str, allocation: &str, judged: &Judged) -> Result<Found, String> {
        let record = self.lifecycle.store.get(id).await.filter(|_| self.lifecycle.end_of(id).is_some());
        let record = record.ok_or(NO_ORCHESTRATOR)?;
        let key = key_of(&record, allocation)?;
        let asked = Asked { deployment: id.to_owned(), allocation: key.clone(), by: judged.sender.clone() };
        Ok(Found { record, key, asked })
    }

    async fn copy_once(&self, record: &Record, key: &str, directory: PathBuf) -> Result<(), String> {
        let log = self.log_of(record, key);
        let copied = tokio::task::spawn_blocking(move || copies::copy_all(&log, &directory));
        copied.await.map_err(|error| error.to_string())?
    }

    fn log_of(&self, record: &Record, key: &str) -> Log {
        self.lifecycle.log_of(&record.id, key)
    }

    /// Who asks is named by a hash: a DID has a colon, which not every file system takes.
    fn copy_of(&self, id: &str, key: &str, by: &Did, kind: &str) -> PathBuf {
        let asker = hex::encode(&Sha256::digest(by.as_str())[..8]);
        self.lifecycle.directory_of(id).join("copies").join(key).join(asker).join(kind)
    }
}

const NO_ORCHESTRATOR: &str = "failed to get orchestrator";

/// The manifest key that an allocation is asked for by; older callers leave the node's name out.
fn key_of(record: &Record, allocation: &str) -> Result<String, String> {
    let mut matching = record
        .allocations
        .keys()
        .filter(|key| key.as_str() == allocation || key.split_once('.').is_some_and(|(_, name)| name == allocation));
    match (matching.next(), matching.next()) {
        (Some(key), None) => Ok(key.clone()),
        _ => Err(format!("failed to get allocation {allocation:?}")),
    }
}

/// A chunk; or, for an older caller, who names no stream, the end of both streams at once.
fn chunk(log: &Log, asked: &ChunkRequest) -> std::io::Result<ChunkReply> {
    let ChunkRequest { allocation: _, ack: _, offset, max_bytes, stream } = asked;
    let Some(stream) = *stream else {
        let end_of = |stream| {
            let end = log.read(stream, 0, 0)?.end;
            let from = end.saturating_sub(LARGEST_CHUNK / 2);
            log.read(stream, from, LARGEST_CHUNK / 2).map(|excerpt| Base64(excerpt.bytes))
        };
        let (stdout, stderr) = (end_of(Stream::Stdout)?, end_of(Stream::Stderr)?);
        return Ok(ChunkReply { stdout, stderr, ..ChunkReply::default() });
    };
    let most = if *max_bytes == 0 { LARGEST_CHUNK } else { LARGEST_CHUNK.min(*max_bytes) };
    let excerpt = log.read(stream, *offset, most)?;
    let next_offset = excerpt.next();
    Ok(ChunkReply {
        offset: excerpt.offset,
        next_offset,
        total_size: excerpt.end,
        eof: next_offset >= excerpt.end,
        data: Base64(excerpt.bytes),
        stream: Some(stream),
        ..ChunkReply::default()
    })
}

fn told(job: &Job) -> LogsJobReply {
    let Progress { state, written, truncated, error } = job.progress();
    let error = if error.is_empty() && truncated { copies::TRUNCATED.to_owned() } else { error };
    LogsJobReply {
        written_to: job.written_to.display().to_string(),
        state: Some(state),
        bytes_written: Some(written),
        follow: Some(job.follow.is_some()),
        interval: Some(go_duration(job.follow.unwrap_or_default())),
        error,
    }
}

fn no_job(error: String) -> LogsJobReply {
    LogsJobReply { error, ..LogsJobReply::default() }
}

/// Whole seconds as Go writes a duration below an hour.
fn go_duration(duration: Duration) -> String {
    let (minutes, seconds) = (duration.as_secs() / 60, duration.as_secs() % 60);
    if minutes == 0 { format!("{seconds}s") } else { format!("{minutes}m{seconds}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (seconds, text) in [(0, "0s"), (10, "10s"), (60, "1m0s"), (90, "1m30s"), (300, "5m0s")] {
            assert_eq!(go_duration(Duration::from_secs(seconds)), text);
        }
    }
}
