//! Logs: read in chunks from the node that runs an allocation, or written to its disk.

use std::time::Duration;

use super::{CHANGE_WINDOW, READ_WINDOW, ask, bad};
use crate::device::{
    CallError, DeviceClient, DeviceTarget,
    dms::{
        Base64, ChunkReply, ChunkRequest, LARGEST_CHUNK, LogsJobReply, LogsJobRequest, LogsReply, LogsRequest, Stream,
        path,
    },
};

/// Which log is read.
#[derive(Clone, Copy, Debug)]
pub struct LogSource<'a> {
    /// Id of the deployment.
    pub deployment: &'a str,
    /// Manifest key of the allocation.
    pub allocation: &'a str,
    /// Of which stream.
    pub stream: Stream,
}

/// The most that is read at once: a device says itself when its log ends, and must not be able to fill the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// Bytes in all.
    pub bytes: u64,
    /// Chunks asked for.
    pub chunks: usize,
}

impl Default for LogBounds {
    fn default() -> Self {
        Self { bytes: 16 << 20, chunks: 64 }
    }
}

/// What was read of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogRead {
    /// Where the first byte stands; later than asked for, when the device has dropped what was before.
    pub begins: u64,
    /// The bytes.
    pub bytes: Base64,
    /// Where it goes on, when a bound was met or it was truncated. `None`: it was read to its end.
    pub next: Option<u64>,
    /// Whether the log ends before a byte that was there, or was asked for: it was truncated. The bytes are what it held
    /// before; what it holds now begins at 0.
    pub truncated: bool,
    /// Why the device could not tell; empty on success.
    pub error: String,
}

/// Reads a log from the byte `from` on, chunk by chunk, until its end or a bound. A device of an older version answers
/// with all of it at once.
///
/// # Errors
/// [`CallError`]; [`CallError::BadReply`] also when a chunk is another than the one asked for, or is empty and not the last.
/// What the device itself could not tell stands in [`LogRead::error`], and that the log became shorter in
/// [`LogRead::truncated`].
pub async fn allocation_log(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    source: LogSource<'_>,
    from: u64,
    bounds: LogBounds,
) -> Result<LogRead, CallError> {
    let behaviour = path::allocation_logs(source.deployment);
    let (mut log, mut at, mut longest) = (Vec::new(), from, 0);
    let mut begins = None;
    for _ in 0..bounds.chunks {
        let left = bounds.bytes.saturating_sub(length(&log));
        if left == 0 {
            break;
        }
        let asked = left.min(LARGEST_CHUNK);
        let request = ChunkRequest {
            allocation: source.allocation.to_owned(),
            ack: at,
            offset: at,
            max_bytes: asked,
            stream: Some(source.stream),
        };
        let reply: ChunkReply = ask(client, target, &behaviour, &request, CHUNK_WINDOW).await?;
        if !reply.error.is_empty() {
            // What came before it was read well, and can be gone on from.
            let next = begins.map(|_| at);
            let (begins, bytes) = (begins.unwrap_or(from), Base64(log));
            return Ok(LogRead { begins, bytes, next, error: reply.error, ..LogRead::default() });
        }
        if reply.stream.is_some_and(|told| told != source.stream) {
            return Err(bad(target, &behaviour, "it is of the other stream"));
        }
        if begins.is_none() && reply.is_whole() {
            return Ok(whole(reply, source.stream, from, bounds));
        }
        check(&reply, asked).map_err(|cause| bad(target, &behaviour, cause))?;
        if is_truncated(&reply, at, longest) {
            let (begins, bytes) = (begins.unwrap_or(from), Base64(log));
            return Ok(LogRead { begins, bytes, next: Some(0), truncated: true, ..LogRead::default() });
        }
        if reply.offset < at || (reply.offset > at && begins.is_some()) {
            return Err(bad(target, &behaviour, "it is not the chunk that was asked for"));
        }
        begins = begins.or(Some(reply.offset));
        at = reply.offset.saturating_add(length(&reply.data.0));
        longest = reply.total_size;
        log.extend(reply.data.0);
        if reply.eof {
            return Ok(LogRead { begins: begins.unwrap_or(from), bytes: Base64(log), ..LogRead::default() });
        }
    }
    Ok(LogRead { begins: begins.unwrap_or(from), bytes: Base64(log), next: Some(at), ..LogRead::default() })
}

/// How long a chunk may take to come.
const CHUNK_WINDOW: Duration = Duration::from_mins(2);

/// Whether this is a chunk, and the log goes forward with it.
fn check(reply: &ChunkReply, asked: u64) -> Result<(), &'static str> {
    let ChunkReply { offset, next_offset, total_size, eof, data, .. } = reply;
    let data = length(&data.0);
    let end = offset.saturating_add(data);
    if data > asked {
        return Err("the chunk is larger than what was asked for");
    }
    if data > 0 && *total_size < end && *total_size != 0 {
        return Err("the chunk ends after the log");
    }
    if !eof && (data == 0 || *next_offset != end) {
        return Err("it says that more follows and does not go on");
    }
    Ok(())
}

/// Whether the log has become shorter than what was read of it, or than the byte `at` that was asked for. Some devices then
/// begin anew, others give nothing; one that does not tell how long a log is cannot be told from one at its end.
const fn is_truncated(reply: &ChunkReply, at: u64, longest: u64) -> bool {
    let ChunkReply { offset, total_size, eof, data, .. } = reply;
    let begins_anew = *offset < at && *total_size < at;
    let ends_before = data.is_empty() && *eof && *total_size < at && *total_size != 0;
    begins_anew || ends_before || *total_size < longest
}

fn whole(reply: ChunkReply, stream: Stream, from: u64, bounds: LogBounds) -> LogRead {
    let Base64(mut log) = match stream {
        Stream::Stdout => reply.stdout,
        Stream::Stderr => reply.stderr,
    };
    let total = length(&log);
    let begins = from.min(total);
    log.drain(..usize::try_from(begins).unwrap_or(usize::MAX).min(log.len()));
    log.truncate(usize::try_from(bounds.bytes).unwrap_or(usize::MAX));
    let end = begins.saturating_add(length(&log));
    LogRead { begins, bytes: Base64(log), next: (end < total).then_some(end), ..LogRead::default() }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Has the device write the logs of an allocation to its own disk.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`LogsReply::error`].
pub async fn deployment_logs(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    id: &str,
    allocation: &str,
) -> Result<LogsReply, CallError> {
    let request = LogsRequest { id: id.to_owned(), allocation: allocation.to_owned() };
    ask(client, target, path::DEPLOYMENT_LOGS, &request, CHANGE_WINDOW).await
}

/// Has the device begin to write them. While that goes on, asking again gives the same job.
///
/// # Errors
/// [`CallError`]; a refusal by the device is [`LogsJobReply::error`].
pub async fn deployment_logs_start(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    request: &LogsJobRequest,
) -> Result<LogsJobReply, CallError> {
    job(client, target, path::DEPLOYMENT_LOGS_ASYNC, request).await
}

/// How far the writing has come. With a state, [`LogsJobReply::error`] may also tell that the log was truncated meanwhile.
///
/// # Errors
/// [`CallError`]; that there is no such job stands in [`LogsJobReply::error`].
pub async fn deployment_logs_status(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    request: &LogsRequest,
) -> Result<LogsJobReply, CallError> {
    job(client, target, path::DEPLOYMENT_LOGS_ASYNC_STATUS, request).await
}

/// Ends the writing.
///
/// # Errors
/// [`CallError`]; that there is no such job stands in [`LogsJobReply::error`].
pub async fn deployment_logs_stop(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    request: &LogsRequest,
) -> Result<LogsJobReply, CallError> {
    job(client, target, path::DEPLOYMENT_LOGS_ASYNC_STOP, request).await
}

async fn job(
    client: &dyn DeviceClient,
    target: &DeviceTarget,
    behaviour: &str,
    request: &(impl serde::Serialize + Sync),
) -> Result<LogsJobReply, CallError> {
    let reply: LogsJobReply = ask(client, target, behaviour, request, READ_WINDOW).await?;
    if reply.state.is_none() && reply.error.is_empty() {
        return Err(bad(target, behaviour, "it has neither a state nor an error"));
    }
    Ok(reply)
}
