//! `login`: proves a DID to a provider, and keeps the grant that it gives.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kube::config::Kubeconfig;
use serde::Serialize;

use self::exchange::{Exchange, LoginError};
use self::provider::Named;
use self::terms::Terms;
use super::CommandError;
use super::confirm::confirmed;
use super::grants::{columns, delegations};
use super::token::Output;
use super::token::make::{HostingAction, duration};
use super::token::report::{REJECTED, written};
use super::wallet::anchors::Anchors;
use super::wallet::folder::{Choice, Folder, Name};
use super::wallet::{make_key_named, open_key, print};
use crate::api::door::GrantAction;
use crate::api::names::is_label;
use crate::capability::{Did, Key, Token};

/// Exit code when the provider was asked and did not answer.
const NO_ANSWER: u8 = 3;
/// A provider takes no request that lives longer than five minutes.
const LONGEST_WAIT: Duration = Duration::from_mins(4);
const ABOUT_LOGINS: &str = "The provider writes a text, which is shown; the key signs it, and the provider answers with a grant. Who was \
    asked, for what, and how far the answer goes is checked before anything is kept. The grant goes into the DMS context of \
    the key, ~/.nunet/cap/KEY.cap (DMS_GENERAL_USER_DIR names another folder than ~/.nunet).\n\n\
    Exit codes: 0 granted and kept; 1 not done, with one sentence on standard error; 2 the provider refused, or what it \
    answered was judged and rejected; 3 the provider gave no answer.";

/// Arguments of `login`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_LOGINS)]
pub struct Args {
    /// The provider: an address such as /dns4/hosting.example.org/tcp/9000/p2p/12D3KooW…, a web service with --did, or a
    /// HostingProvider of the cluster as NAMESPACE/NAME.
    #[arg(value_name = "PROVIDER", value_parser = Named::parse)]
    provider: Named,
    /// Kubernetes namespace in which to host. Absent: that of the current context.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// What to ask for, with commas between. Absent: all that the provider gives.
    #[arg(long, value_name = "ACTIONS", value_enum, value_delimiter = ',')]
    can: Vec<HostingAction>,
    /// DID of the provider. A web service cannot prove it by its address, so it must be named or confirmed.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    did: Option<Did>,
    /// Name of the key in the wallet folder. Absent: the only one there, else `default`.
    #[arg(long, value_name = "KEY")]
    name: Option<Name>,
    /// Make the key, where there is none of that name. Its passphrase is taken from DMS_PASSPHRASE, or asked for twice.
    #[arg(long)]
    new: bool,
    /// Sign without asking what was checked.
    #[arg(short, long)]
    yes: bool,
    /// How long each answer is awaited, for example 30s.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = patience)]
    timeout: Duration,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// How long an answer is awaited.
fn patience(text: &str) -> Result<Duration, String> {
    let patience = duration(text)?;
    if patience > LONGEST_WAIT {
        return Err("no answer is awaited longer than 4m".to_owned());
    }
    Ok(patience)
}

/// What was granted, and where it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    did: String,
    provider: String,
    namespace: String,
    actions: Vec<&'static str>,
    expires: String,
    /// How often it may be passed on.
    delegations: u64,
    key: String,
    context: PathBuf,
}

impl Told {
    fn of(terms: &Terms, granted: (&Token, &BTreeSet<GrantAction>), key: &Name, context: PathBuf) -> Self {
        let Terms { own, provider, namespace, actions: _ } = terms;
        let (token, actions) = granted;
        Self {
            did: own.to_string(),
            provider: provider.to_string(),
            namespace: namespace.clone(),
            actions: actions.iter().map(|action| action.as_str()).collect(),
            expires: token.not_after().to_string(),
            delegations: delegations(token),
            key: key.to_string(),
            context,
        }
    }

    fn table(&self) -> String {
        let Self { did, provider, namespace, actions, expires, delegations, key, context } = self;
        columns(&[
            ["granted".to_owned(), format!("{} in namespace {namespace}", actions.join(", "))],
            ["by".to_owned(), provider.clone()],
            ["to".to_owned(), format!("{did} (key {key})")],
            ["until".to_owned(), expires.clone()],
            ["passed on".to_owned(), format!("at most {delegations} times")],
            ["kept in".to_owned(), context.display().to_string()],
        ])
    }
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let output = args.output;
    match login(args).await {
        Ok(told) => {
            print(&written(&told, output, || told.table())?)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(LoginError::Command(error)) => Err(error),
        Err(error @ (LoginError::Refused { .. } | LoginError::Untrusted { .. })) => Ok(told_of(&error, REJECTED)),
        Err(error @ LoginError::Silent { .. }) => Ok(told_of(&error, NO_ANSWER)),
    }
}

fn told_of(error: &LoginError, code: u8) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(code)
}

async fn login(args: Args) -> Result<Told, LoginError> {
    let Args { provider, namespace, can, did, name, new, yes, timeout, output: _ } = args;
    let folder = Folder::of_environment()?;
    let namespace = namespace_of(namespace)?;
    let choice = folder.choose(name.as_ref())?;
    let provider = provider.resolve(did.as_ref(), timeout).await?;
    let (name, key) = open(&folder, choice, new)?;
    // What could not be kept is not asked for.
    Anchors::of(&folder, &name, key.did())?;
    let terms = Terms {
        own: key.did().clone(),
        provider: provider.did.clone(),
        namespace,
        actions: can.into_iter().map(GrantAction::from).collect(),
    };
    let mut exchange = Exchange::new(&key, &terms, &provider, timeout).await?;
    let granted = ask(&mut exchange, yes).await;
    exchange.end().await;
    let (token, actions) = granted?;
    let context = Anchors::keep(&folder, &name, &token)?;
    Ok(Told::of(&terms, (&token, &actions), &name, context))
}

async fn ask(exchange: &mut Exchange<'_>, yes: bool) -> Result<(Token, BTreeSet<GrantAction>), LoginError> {
    let offered = exchange.challenge().await?;
    eprintln!("The provider asks to have this signed:\n");
    for line in offered.challenge.text.lines() {
        eprintln!("  {line}");
    }
    eprintln!();
    if !yes {
        match confirmed("Sign this?")? {
            Some(true) => {}
            Some(false) => return Err(CommandError::new("nothing was signed, and nothing was granted").into()),
            None => {
                let message = "nothing was signed, since nobody can be asked here: run it on a terminal, or with --yes";
                return Err(CommandError::new(message).into());
            }
        }
    }
    let token = exchange.grant(&offered).await?;
    Ok((token, offered.actions))
}

/// The key to log in with, which is made when that is wanted.
fn open(folder: &Folder, choice: Choice, new: bool) -> Result<(Name, Key), CommandError> {
    match choice {
        Choice::There(name) if new => Err(CommandError::new(format!(
            "there is a key {name} already: leave out --new to use it, or name another with --name"
        ))),
        Choice::There(name) => {
            let key = open_key(&folder.key(&name))?;
            Ok((name, key))
        }
        Choice::Missing(name) => {
            if !new && confirmed(&format!("There is no key {name} in the wallet. Make one?"))? != Some(true) {
                return Err(CommandError::new(format!(
                    "there is no key {name} in the wallet: run it with --new to make one, or name another with --name; \
                     `kubectl hosting wallet list` shows those that are there"
                )));
            }
            let key = make_key_named(folder, &name)?;
            eprintln!("The new key {name} is {}. It lies in {}.", key.did(), folder.key(&name).display());
            Ok((name, key))
        }
    }
}

/// The namespace that is named, or that of the current context.
fn namespace_of(named: Option<String>) -> Result<String, CommandError> {
    let namespace = named.or_else(of_kubeconfig).ok_or_else(|| {
        CommandError::new("no namespace to host in is known: name one with --namespace, as the provider tells it")
    })?;
    if is_label(&namespace) {
        return Ok(namespace);
    }
    Err(CommandError::new(format!("{namespace:?} is not the name of a Kubernetes namespace")))
}

fn of_kubeconfig() -> Option<String> {
    let config = Kubeconfig::read().ok()?;
    let current = config.current_context?;
    config.contexts.into_iter().find(|context| context.name == current)?.context?.namespace
}

mod exchange;
mod provider;
mod terms;
#[cfg(test)]
mod tests;
