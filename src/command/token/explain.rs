//! A chain of tokens in words.

use serde::Serialize;

use super::{Action, CommandError, Nanos, Output, Refusal, Token, verify_revocation};
use crate::capability::Capability;

/// One token with its chain, the root first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Explained {
    links: Vec<Link>,
    /// The earliest expiry in the chain.
    not_after: String,
    /// Whether nothing has expired, each link fits the one above it and every signature is right.
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    action: &'static str,
    issuer: String,
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    capabilities: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    topics: Vec<String>,
    expires: String,
    /// How many links may hang below; absent: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    depth: Option<u64>,
    nonce: String,
}

impl Link {
    fn of(token: &Token) -> Self {
        let texts = |paths: &[Capability]| paths.iter().map(ToString::to_string).collect();
        Self {
            action: token.action().as_str(),
            issuer: token.issuer().to_string(),
            subject: token.subject().to_string(),
            audience: token.audience().map(ToString::to_string),
            capabilities: texts(token.capabilities()),
            topics: texts(token.topics()),
            expires: token.expires().to_string(),
            depth: Some(token.depth()).filter(|depth| *depth > 0),
            nonce: hex::encode(token.nonce()),
        }
    }

    fn line(&self, number: usize) -> String {
        let Self { action, issuer, subject, audience, capabilities, topics, expires, depth, nonce: _ } = self;
        let audience = audience.as_deref().map_or(String::new(), |audience| format!("  for {audience}"));
        let topics = if topics.is_empty() { String::new() } else { format!("  on {}", topics.join(" ")) };
        let depth = depth.map_or(String::new(), |depth| format!("  at most {depth} below"));
        let capabilities = capabilities.join(" ");
        format!(
            "{number}  {action:<8}  {issuer} → {subject}  {capabilities}{topics}{audience}{depth}  until {expires}\n"
        )
    }
}

impl Explained {
    fn of(token: &Token, now: Nanos) -> Self {
        let result = verdict(token, now);
        let refusal = result.as_ref().err();
        let mut links: Vec<_> = token.links().map(Link::of).collect();
        links.reverse();
        Self {
            links,
            not_after: token.not_after().to_string(),
            holds: result.is_ok(),
            reason: refusal.map(|refusal| refusal.reason.code()),
            message: refusal.map(|refusal| refusal.message.clone()),
        }
    }

    fn table(&self) -> String {
        let links: String = self.links.iter().zip(1..).map(|(link, number)| link.line(number)).collect();
        let Self { not_after, reason, message, .. } = self;
        match (reason, message) {
            (Some(reason), Some(message)) => format!("{links}✗  {reason}: {message}\n"),
            _ => format!("{links}✓  every signature fits and nothing is wider; valid until {not_after}\n"),
        }
    }
}

fn verdict(token: &Token, now: Nanos) -> Result<(), Refusal> {
    match token.action() {
        Action::Revoke => verify_revocation(token).map(drop),
        Action::Invoke | Action::Delegate | Action::Broadcast => token.verify(now, &|_| false),
    }
}

/// The tokens in words, and whether all of them hold at `now`. Revocations and trust are the verifier's to know.
pub(super) fn explain(tokens: &[Token], now: Nanos, output: Output) -> Result<(String, bool), CommandError> {
    let explained: Vec<_> = tokens.iter().map(|token| Explained::of(token, now)).collect();
    let holds = explained.iter().all(|token| token.holds);
    let failed =
        |error: Box<dyn std::error::Error + Send + Sync>| CommandError::because("no output could be made", error);
    let text = match output {
        Output::Table => explained.iter().map(Explained::table).collect::<Vec<_>>().join("\n"),
        Output::Json => serde_json::to_string_pretty(&explained).map_err(|error| failed(error.into()))? + "\n",
        Output::Yaml => serde_saphyr::to_string(&explained).map_err(|error| failed(error.into()))?,
    };
    Ok((text, holds))
}
