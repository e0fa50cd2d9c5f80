use std::{io, path::PathBuf};

/// Why a part of the kit could not be started, asked or stopped.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A command is not on this machine yet.
    #[error("{name} is not in {}: run `make tools`", folder.display())]
    ToolMissing {
        /// The command.
        name: &'static str,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Neither an environment variable nor a home folder says where built commands are kept.
    #[error("no cache folder is known: set DMS_OPERATOR_CACHE to a folder with room for 1 GB")]
    NoCacheFolder,
    /// No free port.
    #[error("no free TCP port was found on 127.0.0.1")]
    Port(#[source] io::Error),
    /// A file or folder could not be read or written.
    #[error("{} could not be {done}", path.display())]
    File {
        /// What was tried, as a participle: `read`, `written`, `created`.
        done: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A process could not be started.
    #[error("{name} could not be started")]
    Start {
        /// Its name.
        name: String,
        /// What the system answered.
        source: io::Error,
    },
    /// A process could not be signalled or waited for.
    #[error("process {pid} ({name}) could not be signalled")]
    Signal {
        /// Its name.
        name: String,
        /// Its process id.
        pid: u32,
        /// What the system answered.
        source: io::Error,
    },
    /// A process ended although it was to go on.
    #[error("{name} ended before it was ready; the end of its log:\n{log}")]
    Ended {
        /// Its name.
        name: String,
        /// Last lines of its log.
        log: String,
    },
    /// Something did not become ready in time.
    #[error("{name} was not ready after {seconds} s: {last}; the end of its log:\n{log}")]
    NotReady {
        /// Its name.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// What the last question brought.
        last: String,
        /// Last lines of its log.
        log: String,
    },
    /// A key or certificate could not be made.
    #[error("a certificate for the test control plane could not be made")]
    Certificate(#[from] rcgen::Error),
    /// A kubeconfig was not understood.
    #[error("the kubeconfig of the test control plane was not understood")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The kubeconfig names no context, or one that it does not hold.
    #[error("the kubeconfig has no current context with a server: choose one with `kubectl config use-context NAME`")]
    NoContext,
    /// The API server refused or did not answer.
    #[error("the API server did not do what was asked: {asked}")]
    Kubernetes {
        /// What was asked.
        asked: String,
        /// The refusal.
        source: kube::Error,
    },
    /// The system gave no random bytes.
    #[error("no random bytes could be had: {0}")]
    Random(getrandom::Error),
    /// A token or signature could not be made.
    #[error("{0}")]
    Token(String),
    /// The S3 service could not be set up.
    #[error("the S3 service could not be set up: {0}")]
    S3(String),
}

impl KitError {
    pub(super) fn file(done: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { done, path, source }
    }

    pub(super) fn kubernetes(asked: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let asked = asked.into();
        move |source| Self::Kubernetes { asked, source }
    }
}
