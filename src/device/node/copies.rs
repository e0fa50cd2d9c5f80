//! Logs copied to the node's own disk, as DMS does it when asked: at once, or by a job that may go on while the allocation
//! prints. Each who asks gets copies of their own.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time;
use tokio_util::sync::CancellationToken;

use super::output::{self, Copied, Log};
use crate::{
    capability::Did,
    device::dms::{LogsJobState, Stream},
};

/// The longest that a copy of one stream becomes.
const LARGEST_COPY: u64 = 64 * 1024 * 1024;

/// Who asked for the log of which allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    /// Id of the deployment.
    pub deployment: String,
    /// Manifest key.
    pub allocation: String,
    /// By whom.
    pub by: Did,
}

/// The jobs, those that have ended included, until their deployment is forgotten.
#[derive(Default)]
pub(super) struct Copies(Mutex<BTreeMap<Asked, Arc<Job>>>);

/// One job.
pub(super) struct Job {
    /// The directory that it writes to.
    pub written_to: PathBuf,
    /// Time between two looks; `None`: it looks once.
    pub follow: Option<Duration>,
    progress: Mutex<Progress>,
    stop: CancellationToken,
}

/// How a job stands.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Whether it goes on.
    pub state: LogsJobState,
    /// Bytes written of both streams.
    pub written: u64,
    /// Whether the log was truncated while it was followed: the copy goes on with its first byte then.
    pub truncated: bool,
    /// Why it failed.
    pub error: String,
}

impl Copies {
    /// Begins a job that ends with `ends` at the latest. One that goes on is left to go on, and given.
    pub(super) fn begin(
        &self,
        asked: Asked,
        log: Log,
        written_to: PathBuf,
        follow: Option<Duration>,
        ends: CancellationToken,
    ) -> Arc<Job> {
        let mut jobs = self.jobs();
        if let Some(job) = jobs.get(&asked).filter(|job| job.progress().state == LogsJobState::Running) {
            return Arc::clone(job);
        }
        let progress = Progress { state: LogsJobState::Running, written: 0, truncated: false, error: String::new() };
        let job = Arc::new(Job { written_to, follow, progress: Mutex::new(progress), stop: CancellationToken::new() });
        jobs.insert(asked, Arc::clone(&job));
        drop(jobs);
        tokio::spawn(Arc::clone(&job).run(log, ends));
        job
    }

    /// The job that was begun, if there was one.
    pub(super) fn find(&self, asked: &Asked) -> Option<Arc<Job>> {
        self.jobs().get(asked).cloned()
    }

    /// Ends all jobs of a deployment and forgets them.
    pub(super) fn forget(&self, deployment: &str) {
        self.jobs().retain(|asked, job| {
            let stays = asked.deployment != deployment;
            if !stays {
                job.stop.cancel();
            }
            stays
        });
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeMap<Asked, Arc<Job>>> {
        // Every change of the map is one call, so it is whole even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    pub(super) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends it. One that has ended stays as it ended.
    pub(super) fn stop(&self) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.state == LogsJobState::Running {
            progress.state = LogsJobState::Stopped;
        }
        drop(progress);
        self.stop.cancel();
    }

    async fn run(self: Arc<Self>, log: Log, ends: CancellationToken) {
        let mut at = [0; 2];
        let mut begun = false;
        loop {
            // What ends while it is copied is looked at once more.
            let last = self.follow.is_none() || ends.is_cancelled();
            match self.copy(&log, at, begun).await {
                Ok(reached) => at = reached,
                Err(error) => return self.end(LogsJobState::Failed, &error.to_string()),
            }
            begun = true;
            if last {
                break;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = ends.cancelled() => {}
                () = time::sleep(self.follow.unwrap_or_default()) => {}
            }
        }
        if self.follow.is_none() && self.progress().written == 0 {
            return self.end(LogsJobState::Failed, NOTHING);
        }
        self.end(LogsJobState::Complete, "");
    }

    async fn copy(self: &Arc<Self>, log: &Log, from: [u64; 2], append: bool) -> io::Result<[u64; 2]> {
        let (log, directory) = (log.clone(), self.written_to.clone());
        let copied = tokio::task::spawn_blocking(move || {
            let mut reached = from;
            let (mut written, mut truncated) = (0, false);
            for (stream, at) in Stream::ALL.into_iter().zip(&mut reached) {
                let mut file = open(&directory, stream, append)?;
                let before = file.metadata()?.len();
                let copied = output::copy(&log, stream, *at, &mut file, LARGEST_COPY.saturating_sub(before))?;
                let Copied { next, truncated: anew } = copied;
                *at = next;
                truncated |= anew;
                let after = file.metadata()?.len();
                written += after - before;
                if after >= LARGEST_COPY {
                    let full = format!("the copy has reached {LARGEST_COPY} bytes");
                    return Err(io::Error::other(full));
                }
            }
            Ok((reached, written, truncated))
        });
        let (reached, written, truncated) = copied.await.map_err(io::Error::other)??;
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.written += written;
        progress.truncated |= truncated;
        drop(progress);
        Ok(reached)
    }

    fn end(&self, state: LogsJobState, error: &str) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if progress.state == LogsJobState::Running {
            progress.state = state;
            error.clone_into(&mut progress.error);
        }
    }
}

/// What is told of a job whose log was truncated. It is no failure: the job goes on.
pub(super) const TRUNCATED: &str =
    "the log was truncated while it was followed: the copy goes on with the first byte of what is there now";

/// What DMS, too, takes for an error.
const NOTHING: &str = "the allocation has printed nothing";

/// Copies both streams once; what is empty leaves an older copy as it is.
pub(super) fn copy_all(log: &Log, directory: &Path) -> Result<(), String> {
    let mut any = false;
    for stream in Stream::ALL {
        let first = log.read(stream, 0, 1).map_err(|error| failed(&error))?;
        if first.bytes.is_empty() {
            continue;
        }
        any = true;
        open(directory, stream, false)
            .and_then(|mut file| output::copy(log, stream, 0, &mut file, LARGEST_COPY).map(drop))
            .map_err(|error| failed(&error))?;
    }
    if any { Ok(()) } else { Err(NOTHING.to_owned()) }
}

fn failed(error: &io::Error) -> String {
    format!("the log could not be copied: {error}")
}

fn open(directory: &Path, stream: Stream, append: bool) -> io::Result<File> {
    std::fs::create_dir_all(directory)?;
    File::options().create(true).write(true).append(append).truncate(!append).open(file(directory, stream))
}

/// The copy of one stream.
pub(super) fn file(directory: &Path, stream: Stream) -> PathBuf {
    directory.join(format!("{}.log", stream.name()))
}
