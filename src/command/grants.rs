//! `grants`: what the keys of the wallet may do where, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use serde::Serialize;

use super::CommandError;
use super::token::make::links_left;
use super::token::report::written;
use super::token::{Output, now};
use super::wallet::anchors::{Anchors, is_over};
use super::wallet::delegated::{self, Delegated};
use super::wallet::folder::{Folder, Name};
use super::wallet::print;
use crate::capability::{MAX_LINKS, Nanos, Token};

const ABOUT_GRANTS: &str = "What is printed was read from the context files of the wallet; whether a provider revoked a grant is not \
    known here.";

/// How a token is shown that this wallet wrote a revocation of.
pub(super) const WRITTEN: &str = " (revocation written)";

/// Arguments of `grants`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_GRANTS)]
pub struct Args {
    /// Name of a key in the wallet folder. Absent: all of them.
    #[arg(long, value_name = "KEY")]
    name: Option<Name>,
    /// Lists what the keys passed on to others by `kubectl hosting delegate`, instead of what they hold.
    #[arg(long)]
    delegated: bool,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// One namespace of one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    /// Tells it from others, see `revoke`.
    pub(super) id: String,
    /// The key of the wallet.
    pub(super) key: String,
    /// Whose hosting it is for: the issuer of the root.
    pub(super) provider: String,
    /// Who may use it.
    subject: String,
    /// `None`: it is not about hosting.
    namespace: Option<String>,
    actions: Vec<String>,
    /// Names of the objects it is limited to; empty: it is not.
    names: Vec<String>,
    /// All that it gives, as it stands in the token.
    capabilities: Vec<String>,
    pub(super) expires: String,
    expired: bool,
    /// This wallet wrote a revocation of it. Whether that reached the provider, or a provider took a grant back, is not
    /// known here.
    revocation_written: bool,
    /// How often it may still be passed on.
    delegations: u64,
}

impl Row {
    /// The rows of a token, one for each namespace.
    pub(super) fn of(key: &Name, token: &Token, now: Nanos) -> Vec<Self> {
        let mut places: BTreeMap<Option<String>, (BTreeSet<String>, BTreeSet<String>)> = BTreeMap::new();
        for capability in token.capabilities() {
            let path = capability.to_string();
            let mut parts = path.trim_start_matches('/').split('/');
            let (namespace, action, name) = match (parts.next(), parts.next(), parts.next()) {
                (Some("hosting"), Some(namespace), Some(action)) => {
                    let name = parts.collect::<Vec<_>>().join("/");
                    (Some(namespace.to_owned()), action.to_owned(), Some(name).filter(|name| !name.is_empty()))
                }
                _ => (None, path.clone(), None),
            };
            let (actions, names) = places.entry(namespace).or_default();
            actions.insert(action);
            names.extend(name);
        }
        let row = |(namespace, (actions, names)): (Option<String>, (BTreeSet<String>, BTreeSet<String>))| Self {
            id: delegated::id(token),
            key: key.to_string(),
            provider: token.root().issuer().to_string(),
            subject: token.subject().to_string(),
            namespace,
            actions: actions.into_iter().collect(),
            names: names.into_iter().collect(),
            capabilities: token.capabilities().iter().map(ToString::to_string).collect(),
            expires: token.not_after().to_string(),
            expired: is_over(token, now),
            revocation_written: false,
            delegations: delegations(token),
        };
        places.into_iter().map(row).collect()
    }
}

impl Row {
    /// The same for people.
    pub(super) fn sentence(&self) -> String {
        let Self {
            id, key: _, provider, subject: _, namespace, actions, names, capabilities: _, expires, expired, ..
        } = self;
        let place = namespace.as_ref().map_or(String::new(), |namespace| format!(" in {namespace}"));
        let names = if names.is_empty() { String::new() } else { format!(" for {}", names.join(", ")) };
        let until = if *expired { "was over at" } else { "until" };
        format!("{id}: {}{names}{place} by {provider} {until} {expires}", actions.join(", "))
    }
}

/// How often a token may be passed on: the last link is that of the invocation.
pub(super) fn delegations(token: &Token) -> u64 {
    let read = u64::try_from(MAX_LINKS.saturating_sub(token.links().count())).unwrap_or(u64::MAX);
    links_left(token).unwrap_or(read).min(read).saturating_sub(1)
}

pub fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let Args { name, delegated, output } = args;
    let folder = Folder::of_environment()?;
    let rows = if *delegated { passed_on(&folder, name.as_ref())? } else { held(&folder, name.as_ref())? };
    print(&written(&rows, *output, || table(&rows, *delegated))?)?;
    Ok(ExitCode::SUCCESS)
}

fn held(folder: &Folder, name: Option<&Name>) -> Result<Vec<Row>, CommandError> {
    let names = match name {
        Some(name) => vec![name.clone()],
        None => folder.contexts_there()?,
    };
    let mut rows = Vec::new();
    for name in names {
        if let Some(anchors) = Anchors::read(folder, &name)? {
            rows.extend(anchors.context.provide.iter().flat_map(|token| Row::of(&name, token, now())));
        }
    }
    Ok(rows)
}

fn passed_on(folder: &Folder, name: Option<&Name>) -> Result<Vec<Row>, CommandError> {
    let all = Delegated::all(folder, name)?;
    let rows = all.iter().flat_map(|Delegated { key, token, revocation_written }| {
        Row::of(key, token, now()).into_iter().map(|row| Row { revocation_written: *revocation_written, ..row })
    });
    Ok(rows.collect())
}

/// The rows in columns.
fn table(rows: &[Row], delegated: bool) -> String {
    if rows.is_empty() {
        let none = if delegated {
            "nothing was passed on: `kubectl hosting delegate` does that\n"
        } else {
            "no grant in the wallet: ask a provider for one with `kubectl hosting login PROVIDER`\n"
        };
        return none.to_owned();
    }
    let whom = if delegated { "TO" } else { "PROVIDER" };
    let mut lines = vec![["ID", "KEY", whom, "NAMESPACE", "ACTIONS", "NAMES", "UNTIL", "PASSED ON"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let Row {
            id,
            key,
            provider,
            subject,
            namespace,
            actions,
            names,
            capabilities: _,
            expires,
            expired,
            revocation_written,
            delegations,
        } = row;
        let over = match (revocation_written, expired) {
            (true, _) => WRITTEN,
            (false, true) => " (over)",
            (false, false) => "",
        };
        [
            id.clone(),
            key.clone(),
            if delegated { subject.clone() } else { provider.clone() },
            namespace.clone().unwrap_or_else(|| "-".to_owned()),
            actions.join(","),
            if names.is_empty() { "any".to_owned() } else { names.join(",") },
            format!("{expires}{over}"),
            format!("{delegations} times"),
        ]
    }));
    columns(&lines)
}

/// Cells below each other.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |line: &[String; N]| {
        let cells: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
