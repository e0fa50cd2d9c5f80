use std::{
    fs, io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, kill_process_group, waitid};

use super::KitError;

/// Tells the watchdog its process id, then becomes the command. Registered before it runs, so there is no moment at
/// which the command runs unwatched. `$1` is the log.
const LAUNCH: &str = r#"echo $$; log=$1; shift; exec "$@" >>"$log" 2>&1"#;

/// Reads one process id, then waits for the end of input, which comes when the parent is gone, and kills the group of
/// that process. It stands outside the terminal's foreground group and survives what ends the parent.
const WATCHDOG: &str =
    r#"trap '' HUP INT TERM; read -r pid || exit 0; while read -r _; do :; done; kill -s KILL -- "-$pid""#;

/// How often a condition of a process is looked at.
const POLL: Duration = Duration::from_millis(10);

/// A process of this machine with a log file. It is killed, with all of its process group, when this value is dropped
/// and when this program ends in whatever way, SIGKILL included.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    command: Vec<std::ffi::OsString>,
    variables: Vec<(std::ffi::OsString, Option<std::ffi::OsString>)>,
    directory: Option<PathBuf>,
    running: Incarnation,
    /// Kept until the end: what an incarnation that was killed started may be in use by the next one.
    earlier: Vec<Incarnation>,
}

impl Process {
    /// Starts `command` under `name`, with nothing to read and both outputs appended to `log`. Program, arguments,
    /// variables and folder are taken from `command`; its own redirections are not.
    ///
    /// # Errors
    /// [`KitError::Start`] when it can't be started; a program that does not exist ends at once and says so in the log.
    pub fn start(name: impl Into<String>, command: &Command, log: impl Into<PathBuf>) -> Result<Self, KitError> {
        let (name, log) = (name.into(), log.into());
        let words = std::iter::once(command.get_program()).chain(command.get_args()).map(Into::into).collect();
        let variables = command.get_envs().map(|(key, value)| (key.into(), value.map(Into::into))).collect();
        let directory = command.get_current_dir().map(Path::to_owned);
        let running = Incarnation::start(&log, &words, &variables, directory.as_deref())
            .map_err(|source| KitError::Start { name: name.clone(), source })?;
        Ok(Self { name, log, command: words, variables, directory, running, earlier: Vec::new() })
    }

    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id. It names no other process as long as this value lives.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Whether it runs, paused or not.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.running.ended(WaitIdOptions::NOHANG).is_none()
    }

    /// Waits until it ended by itself and gives its exit code: `None` when a signal ended it or `deadline` passed.
    pub async fn exit_code(&self, deadline: Duration) -> Option<i32> {
        let until = Instant::now() + deadline;
        loop {
            if let Some(status) = self.running.ended(WaitIdOptions::NOHANG) {
                return status.exit_status();
            }
            if Instant::now() >= until {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end with SIGTERM, kills it after `grace`, and leaves nothing of its process group. Gives the exit
    /// code: `None` when it had to be killed.
    pub async fn stop(self, grace: Duration) -> Option<i32> {
        // A process that ended meanwhile can't be signalled, and need not be.
        let _ = self.running.signal(Signal::TERM);
        let _ = self.running.signal(Signal::CONT);
        self.exit_code(grace).await
    }

    /// Kills it as a power cut would, and returns when it is gone. What it started itself goes on, until this value
    /// is dropped.
    ///
    /// # Errors
    /// [`KitError::Signal`] when the system does not let us.
    pub fn kill9(&self) -> Result<(), KitError> {
        self.signal(Signal::KILL)?;
        self.running.ended(WaitIdOptions::empty());
        Ok(())
    }

    /// Freezes it.
    ///
    /// # Errors
    /// [`KitError::Signal`] when the system does not let us.
    pub fn pause(&self) -> Result<(), KitError> {
        self.signal(Signal::STOP)
    }

    /// Lets a frozen process go on.
    ///
    /// # Errors
    /// [`KitError::Signal`] when the system does not let us.
    pub fn resume(&self) -> Result<(), KitError> {
        self.signal(Signal::CONT)
    }

    /// Kills it if it still runs, and starts the same command again with the same log.
    ///
    /// # Errors
    /// [`KitError::Signal`], [`KitError::Start`].
    pub fn restart(&mut self) -> Result<(), KitError> {
        if self.is_running() {
            self.kill9()?;
        }
        let next = Incarnation::start(&self.log, &self.command, &self.variables, self.directory.as_deref())
            .map_err(|source| KitError::Start { name: self.name.clone(), source })?;
        self.earlier.push(std::mem::replace(&mut self.running, next));
        Ok(())
    }

    /// What it wrote so far.
    ///
    /// # Errors
    /// [`KitError::File`] when the log can't be read.
    pub fn log(&self) -> Result<String, KitError> {
        match fs::read(&self.log) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(KitError::file("read", &self.log)(error)),
        }
    }

    /// The last lines of its log, for a message.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(15);
        lines.get(from..).unwrap_or_default().join("\n")
    }

    /// Asks `question` until it answers with a value, the process ends, or `deadline` passes. The error of the last
    /// question goes into the message.
    ///
    /// # Errors
    /// [`KitError::Ended`], [`KitError::NotReady`].
    pub async fn ready<T, E, F>(&self, deadline: Duration, mut question: F) -> Result<T, KitError>
    where
        F: AsyncFnMut() -> Result<T, E>,
        E: std::fmt::Display,
    {
        let until = Instant::now() + deadline;
        loop {
            // A question may hang on a frozen process; it gets no longer than what is left.
            let left = until.saturating_duration_since(Instant::now());
            let last = match tokio::time::timeout(left, question()).await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "no answer".to_owned(),
            };
            if !self.is_running() {
                return Err(KitError::Ended { name: self.name.clone(), log: self.log_end() });
            }
            if Instant::now() >= until {
                let (name, seconds) = (self.name.clone(), deadline.as_secs());
                return Err(KitError::NotReady { name, seconds, last, log: self.log_end() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), KitError> {
        self.running.signal(signal).map_err(|source| KitError::Signal {
            name: self.name.clone(),
            pid: self.pid(),
            source,
        })
    }
}

/// One run of a command. Its process is not reaped before the drop, so its id and its group stay ours.
#[derive(Debug)]
struct Incarnation {
    child: Child,
    watchdog: Child,
    /// Held open for as long as we live: its end is what the watchdog waits for.
    _alive: OwnedFd,
}

impl Incarnation {
    fn start(
        log: &Path,
        words: &Vec<std::ffi::OsString>,
        variables: &Vec<(std::ffi::OsString, Option<std::ffi::OsString>)>,
        directory: Option<&Path>,
    ) -> io::Result<Self> {
        let (theirs, ours) = io::pipe()?;
        let mut watchdog = Command::new("sh");
        watchdog.arg("-c").arg(WATCHDOG).process_group(0);
        let watchdog = watchdog.stdin(theirs).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let ours = OwnedFd::from(ours);

        let mut launch = Command::new("sh");
        launch.arg("-c").arg(LAUNCH).arg("sh").arg(log).args(words).process_group(0);
        for (key, value) in variables {
            match value {
                Some(value) => launch.env(key, value),
                None => launch.env_remove(key),
            };
        }
        if let Some(directory) = directory {
            launch.current_dir(directory);
        }
        let register = ours.as_fd().try_clone_to_owned()?;
        let child = launch.stdin(Stdio::null()).stdout(register).stderr(Stdio::null()).spawn()?;
        Ok(Self { child, watchdog, _alive: ours })
    }

    /// The id of the process; also of its group, which it leads.
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// How it ended, if it did; with `NOHANG` without waiting for it. Does not reap it.
    fn ended(&self, options: WaitIdOptions) -> Option<WaitIdStatus> {
        let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(self.pid()), options).unwrap_or_default()
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        // Only what is gone already can't be killed.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.wait();
    }
}
