//! A refusal that a person can act on.

use super::Reason;

/// A token or an envelope was refused. Its text is a sentence that says what is wrong, where, and what to run next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for machines.
    pub reason: Reason,
    /// Where in the chain: `link 2 of 3: did:key:… → did:key:…`. Link 1 is the root.
    pub link: Option<String>,
    /// Why, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with a message of its own.
    pub fn new(reason: Reason, link: Option<String>, message: impl Into<String>) -> Self {
        Self { reason, link, message: message.into() }
    }

    /// A refusal that says `what` and then the next step of its reason.
    pub fn explained(reason: Reason, what: impl std::fmt::Display) -> Self {
        Self::new(reason, None, format!("{what}. {}", reason.next_step()))
    }

    /// A refusal about one link of a chain.
    pub(super) fn at(reason: Reason, link: String, what: impl std::fmt::Display) -> Self {
        let message = format!("{link} {what}. {}", reason.next_step());
        Self::new(reason, Some(link), message)
    }
}
