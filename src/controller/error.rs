//! What a pass can fail with, typed by what to do.

use std::time::Duration;

/// Why a pass ended early. Everything that a person should act upon is a condition, not an error; what is here is
/// tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do what was asked.
    #[error("{action} failed")]
    Api {
        /// What was tried, on what.
        action: String,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// Somebody else wrote the object meanwhile: read it again.
    #[error("{0} was changed meanwhile; it is read again")]
    Conflict(String),
    /// The pass took too long.
    #[error("the pass over {object} took longer than {}s and was given up", .limit.as_secs())]
    Timeout {
        /// The object.
        object: String,
        /// The limit.
        limit: Duration,
    },
    /// The finalizer could not be put on or taken off.
    #[error("the finalizer of {object} could not be changed: {cause}")]
    Finalizer {
        /// The object.
        object: String,
        /// What the API server said.
        cause: String,
    },
    /// A deletion waits, for a reason that the status tells; the finalizer stays.
    #[error("{0}")]
    Holding(String),
    /// The system gave no random bytes.
    #[error("no random bytes could be had")]
    Random(#[source] getrandom::Error),
    /// A token could not be made.
    #[error("the site's read delegation could not be made")]
    Mint(#[source] crate::capability::MintError),
}

impl Error {
    /// An API error with what was tried; a conflict becomes [`Error::Conflict`].
    pub fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |source| {
            let action = action.into();
            match source {
                kube::Error::Api(status) if status.code == 409 => Self::Conflict(action),
                source => Self::Api { action, source: Box::new(source) },
            }
        }
    }

    /// A label for metrics: what is to be done about it.
    #[must_use]
    pub const fn category(&self) -> &'static str {
        match self {
            Self::Conflict(_) => "conflict",
            Self::Api { .. } | Self::Finalizer { .. } => "api",
            Self::Timeout { .. } => "timeout",
            Self::Holding(_) => "holding",
            Self::Random(_) | Self::Mint(_) => "internal",
        }
    }
}
