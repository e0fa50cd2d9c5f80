//! `delegate`: passes a part of a grant in the wallet on, offline.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::CommandError;
use super::grants::delegations;
use super::token::make::{HostingAction, MOST_DELEGATIONS, Part, duration, links_left};
use super::token::now;
use super::wallet::anchors::{Anchors, is_over};
use super::wallet::delegated::{self, Delegated};
use super::wallet::folder::{Folder, Name};
use super::wallet::{open_key, print, random, write_new};
use crate::api::door::GrantAction;
use crate::api::names::is_label;
use crate::capability::{Capability, Did, Nanos, Token};

const ABOUT_DELEGATIONS: &str = "Nobody is asked: the token that is written hangs on the grant, and whoever holds the other key presents both. It \
    is kept in the wallet too, so that `kubectl hosting revoke` can take it back. The passphrase of the key is taken from \
    DMS_PASSPHRASE, or asked for.";

/// Arguments of `delegate`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_DELEGATIONS)]
pub struct Args {
    /// DID of the key that it is passed on to.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    to: Did,
    /// What is passed on, with commas between.
    #[arg(long, value_name = "ACTIONS", value_enum, value_delimiter = ',', required = true)]
    can: Vec<HostingAction>,
    /// Namespace in which it counts. Absent: the one that the grants in the wallet are for.
    #[arg(long = "in", value_name = "NS")]
    namespace: Option<String>,
    /// Name of the one object that it is for. Absent: all.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// How long it is valid, for example 30d; never longer than the grant. Absent: as long as the grant.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    lifetime: Option<Duration>,
    /// How often it may be passed on again.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=MOST_DELEGATIONS))]
    max_delegations: u64,
    /// DID of the provider, where the wallet holds grants of several.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    provider: Option<Did>,
    /// Name of the key in the wallet folder. Absent: the only one there, else `default`.
    #[arg(long, value_name = "KEY")]
    name: Option<Name>,
    /// Where to write it; an existing file is never overwritten. Absent, or `-`: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// What of a grant is passed on.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) actions: Vec<GrantAction>,
    pub(super) namespace: Option<String>,
    pub(super) only: Option<String>,
    pub(super) provider: Option<Did>,
    /// Links that must be able to hang below.
    pub(super) links: u64,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { to, can, namespace, only, lifetime, max_delegations, provider, name, out } = args;
    let folder = Folder::of_environment()?;
    let name = folder.chosen(name.as_ref())?;
    let now = now();
    let wanted = Wanted {
        actions: can.into_iter().map(GrantAction::from).collect(),
        namespace,
        only,
        provider,
        links: max_delegations + 2,
    };
    let none = || {
        CommandError::new(format!("the key {name} holds no grant: ask for one with `kubectl hosting login PROVIDER`"))
    };
    let anchors = Anchors::read(&folder, &name)?.ok_or_else(none)?;
    let (grant, capabilities) = wanted.of(&anchors.context.provide, now)?;
    // Thirty days of a grant for thirty days are over after it.
    let ends_first = lifetime.is_some_and(|lifetime| now.plus(lifetime) > grant.not_after());
    if ends_first {
        eprintln!("The grant ends earlier than --for says: what is passed on ends with it.");
    }
    let lifetime = lifetime.filter(|_| !ends_first);
    let key = open_key(&folder.key(&name))?;
    let part = Part { to, capabilities, lifetime, max_delegations };
    let token = part.token(&key, grant, now, random()?)?;
    let text = format!("{}\n", String::from_utf8_lossy(&token.to_json()));
    // What could not be written was not passed on, and what is printed can be taken back.
    if let Some(file) = out.filter(|out| out != Path::new("-")) {
        write_new(&file, text.as_bytes())?;
        Delegated::keep(&folder, &name, &token)?;
    } else {
        Delegated::keep(&folder, &name, &token)?;
        print(&text)?;
    }
    let paths: Vec<_> = token.capabilities().iter().map(ToString::to_string).collect();
    eprintln!(
        "{} may use {} until {}. `kubectl hosting revoke {}` takes it back.",
        token.subject(),
        paths.join(", "),
        token.not_after(),
        delegated::id(&token)
    );
    Ok(ExitCode::SUCCESS)
}

impl Wanted {
    /// The grant that fits and holds longest, and what of it is passed on.
    pub(super) fn of<'a>(&self, grants: &'a [Token], now: Nanos) -> Result<(&'a Token, Vec<Capability>), CommandError> {
        let namespace = self.namespace_of(grants, now)?;
        let capabilities = self.capabilities(&namespace)?;
        let mut first = None;
        let mut fitting: Vec<&Token> = Vec::new();
        for grant in grants {
            match self.fits(grant, &capabilities, now) {
                Ok(()) => fitting.push(grant),
                Err(cause) => first = first.or(Some(cause)),
            }
        }
        let Some(best) = fitting.iter().copied().max_by_key(|grant| grant.not_after()) else {
            let cause = first.map_or_else(|| "there is none".to_owned(), |cause| format!("the first {cause}"));
            return Err(CommandError::new(format!(
                "no grant in the wallet lets this be passed on in namespace {namespace}: {cause}. `kubectl hosting grants` \
                 lists them, and `kubectl hosting login PROVIDER` asks for another"
            )));
        };
        if let Some(other) = fitting.iter().find(|grant| grant.root().issuer() != best.root().issuer()) {
            return Err(CommandError::new(format!(
                "{} and {} both granted this: say with --provider which is meant",
                best.root().issuer(),
                other.root().issuer()
            )));
        }
        Ok((best, capabilities))
    }

    fn namespace_of(&self, grants: &[Token], now: Nanos) -> Result<String, CommandError> {
        if let Some(namespace) = &self.namespace {
            return Ok(namespace.clone());
        }
        let live = grants.iter().filter(|grant| !is_over(grant, now)).flat_map(Token::capabilities);
        let mut places: Vec<&str> =
            live.filter_map(|path| path.as_str().strip_prefix("/hosting/")?.split('/').next()).collect();
        places.sort_unstable();
        places.dedup();
        match places.as_slice() {
            [only] => Ok((*only).to_owned()),
            [] => Err(CommandError::new(
                "the wallet holds no grant to host anywhere that is still valid: ask for one with `kubectl hosting login PROVIDER`",
            )),
            several => Err(CommandError::new(format!(
                "the grants in the wallet are for several namespaces: say with --in which is meant, {}",
                several.join(", ")
            ))),
        }
    }

    fn capabilities(&self, namespace: &str) -> Result<Vec<Capability>, CommandError> {
        for name in [Some(namespace), self.only.as_deref()].into_iter().flatten() {
            if !is_label(name) {
                return Err(CommandError::new(format!("{name:?} is not a name that Kubernetes takes here")));
            }
        }
        let mut actions = self.actions.clone();
        actions.sort_unstable();
        actions.dedup();
        let only = self.only.as_ref().map_or(String::new(), |name| format!("/{name}"));
        let paths = actions.into_iter().map(|action| format!("/hosting/{namespace}/{}{only}", action.as_str()));
        paths
            .map(|path| Capability::parse(&path))
            .collect::<Result<_, _>>()
            .map_err(|error| CommandError::because("nothing was passed on", error))
    }

    /// Whether `grant` lets it be passed on. Else, why not.
    fn fits(&self, grant: &Token, capabilities: &[Capability], now: Nanos) -> Result<(), String> {
        let issuer = grant.root().issuer();
        if self.provider.as_ref().is_some_and(|provider| provider != issuer) {
            return Err(format!("is of {issuer}"));
        }
        let missing =
            capabilities.iter().find(|wanted| !grant.capabilities().iter().any(|given| given.implies(wanted)));
        if let Some(missing) = missing {
            return Err(format!("does not give {missing}"));
        }
        if is_over(grant, now) {
            return Err(format!("expired at {}", grant.not_after()));
        }
        if links_left(grant).is_some_and(|left| left < self.links) {
            return Err(format!("may be passed on {} times in a row, and that is too few", delegations(grant)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
