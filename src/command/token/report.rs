//! A verdict over one chain, and the forms in which it is printed.

use std::process::ExitCode;

use serde::Serialize;

use super::{CommandError, Output};
use crate::capability::{Capability, Nanos, Refusal, Token, printable};

/// Exit code for what was judged and rejected.
pub(in crate::command) const REJECTED: u8 = 2;

/// What was decided over one token or envelope, with the chain that it rests on.
#[derive(Debug, Serialize)]
pub(in crate::command) struct Report {
    verdict: Verdict,
    /// Code of the refusal; `None` when accepted.
    reason: Option<&'static str>,
    message: String,
    /// Until when the acceptance holds.
    not_after: Option<u64>,
    /// The root first; empty when it could not be read.
    chain: Vec<Link>,
    /// Number of the link that the refusal is about.
    #[serde(skip)]
    failed: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Accept,
    Reject,
}

#[derive(Debug, Serialize)]
struct Link {
    #[serde(rename = "link")]
    number: usize,
    action: &'static str,
    issuer: String,
    subject: String,
    /// `None`: any.
    audience: Option<String>,
    capabilities: Vec<String>,
    topics: Vec<String>,
    expires: u64,
    /// How many links may hang below; `None`: no limit.
    depth: Option<u64>,
    nonce: String,
}

impl Link {
    fn of(number: usize, token: &Token) -> Self {
        let texts = |paths: &[Capability]| paths.iter().map(|path| path.as_str().to_owned()).collect();
        Self {
            number,
            action: token.action().as_str(),
            issuer: token.issuer().to_string(),
            subject: token.subject().to_string(),
            audience: token.audience().map(ToString::to_string),
            capabilities: texts(token.capabilities()),
            topics: texts(token.topics()),
            expires: token.expires().0,
            depth: Some(token.depth()).filter(|depth| *depth > 0),
            nonce: hex::encode(token.nonce()),
        }
    }

    /// What it gives, where, how deep and until when.
    fn terms(&self) -> String {
        let Self { audience, capabilities, topics, expires, depth, .. } = self;
        let gives = if capabilities.is_empty() { "nothing".to_owned() } else { joined(capabilities) };
        let topics = if topics.is_empty() { String::new() } else { format!("  on {}", joined(topics)) };
        let audience = audience.as_deref().map_or(String::new(), |audience| format!("  for {audience}"));
        let depth = depth.map_or(String::new(), |depth| format!("  at most {depth} below"));
        format!("{gives}{topics}{audience}{depth}  until {}", Nanos(*expires))
    }
}

impl Report {
    pub(in crate::command) fn accepted(token: Option<&Token>, not_after: Nanos, message: String) -> Self {
        Self {
            verdict: Verdict::Accept,
            reason: None,
            message,
            not_after: Some(not_after.0),
            chain: chain_of(token),
            failed: None,
        }
    }

    /// `token` is what the refusal is about, when it could be read.
    pub(in crate::command) fn refused(token: Option<&Token>, refusal: &Refusal) -> Self {
        Self {
            verdict: Verdict::Reject,
            reason: Some(refusal.reason.code()),
            message: refusal.message.clone(),
            not_after: None,
            chain: chain_of(token),
            failed: refusal.link.as_deref().and_then(number_of),
        }
    }

    /// What the process exits with.
    pub(in crate::command) fn code(&self) -> ExitCode {
        match self.verdict {
            Verdict::Accept => ExitCode::SUCCESS,
            Verdict::Reject => ExitCode::from(REJECTED),
        }
    }

    pub(super) const fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Accept)
    }

    /// One line for each link, then the verdict.
    pub(in crate::command) fn lines(&self) -> String {
        let line = |link: &Link| {
            let Link { number, action, issuer, subject, .. } = link;
            format!("{number}  {action:<9}  {issuer} → {subject}  {}\n", link.terms())
        };
        format!("{}{}\n", self.chain.iter().map(line).collect::<String>(), self.summary())
    }

    /// The chain as a tree, the root's issuer on top; below the link that fails stands why.
    pub(super) fn tree(&self) -> String {
        let mut lines: Vec<_> = self.chain.first().map(|root| root.issuer.clone()).into_iter().collect();
        let mut holder = lines.first().cloned().unwrap_or_default();
        let mut indent = String::new();
        for link in &self.chain {
            let Link { number, action, issuer, subject, .. } = link;
            let by = if *issuer == holder { String::new() } else { format!(" by {issuer}") };
            lines.push(format!("{indent}└─ {number} {action}{by} → {subject}  {}", link.terms()));
            indent.push_str("   ");
            if self.failed == Some(*number) {
                lines.push(format!("{indent}{}", self.summary()));
            }
            holder.clone_from(subject);
        }
        if self.failed.is_none_or(|number| number > self.chain.len()) {
            lines.push(self.summary());
        }
        lines.join("\n") + "\n"
    }

    fn summary(&self) -> String {
        match self.reason {
            Some(reason) => format!("✗  {reason}: {}", self.message),
            None => format!("✓  {}", self.message),
        }
    }
}

/// The links of a token, the root first.
fn chain_of(token: Option<&Token>) -> Vec<Link> {
    let mut links: Vec<_> = token.iter().flat_map(|token| token.links()).collect();
    links.reverse();
    links.into_iter().zip(1..).map(|(link, number)| Link::of(number, link)).collect()
}

/// The number in the name of a link, `link 2 of 3: …`.
fn number_of(link: &str) -> Option<usize> {
    link.strip_prefix("link ")?.split(' ').next()?.parse().ok()
}

fn joined(paths: &[String]) -> String {
    // A path may hold spaces and anything else that is no control character below 0x20, but no line is broken by it.
    paths.iter().map(|path| printable(path)).collect::<Vec<_>>().join(" ")
}

/// What is printed for `value`: `table` says it to people.
pub(in crate::command) fn written<T: Serialize>(
    value: &T,
    output: Output,
    table: impl FnOnce() -> String,
) -> Result<String, CommandError> {
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| CommandError::because("no output could be made", error);
    match output {
        Output::Table => Ok(table()),
        Output::Json => {
            serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| failed(error.into()))
        }
        Output::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(error.into())),
    }
}
