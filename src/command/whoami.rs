//! `whoami`: who a key of the wallet is, and what it was granted.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::CommandError;
use super::grants::{Row, columns};
use super::token::report::written;
use super::token::{Output, now};
use super::wallet::anchors::Anchors;
use super::wallet::folder::{Folder, Name};
use super::wallet::{open_key, print};
use crate::capability::Did;

const ABOUT_WHOAMI: &str = "The DID stands in the context of the key, once it logged in somewhere; else the key is opened, with the \
    passphrase from DMS_PASSPHRASE or the terminal.";

/// Arguments of `whoami`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_WHOAMI)]
pub struct Args {
    /// Name of the key in the wallet folder. Absent: the only one there, else `default`.
    #[arg(long, value_name = "KEY")]
    name: Option<Name>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: String,
    did: String,
    peer_id: String,
    actor_id: String,
    key: PathBuf,
    /// `None`: it has none yet.
    context: Option<PathBuf>,
    grants: Vec<Row>,
}

pub fn run(args: &Args) -> Result<ExitCode, CommandError> {
    let Args { name, output } = args;
    let folder = Folder::of_environment()?;
    let name = folder.chosen(name.as_ref())?;
    let anchors = Anchors::read(&folder, &name)?;
    let did = match &anchors {
        Some(anchors) => anchors.context.did.clone(),
        None => open_key(&folder.key(&name))?.did().clone(),
    };
    let identity = Identity::of(&folder, &name, &did, anchors.as_ref());
    print(&written(&identity, *output, || identity.table())?)?;
    Ok(ExitCode::SUCCESS)
}

impl Identity {
    fn of(folder: &Folder, name: &Name, did: &Did, anchors: Option<&Anchors>) -> Self {
        let provide = anchors.map(|anchors| anchors.context.provide.as_slice()).unwrap_or_default();
        Self {
            name: name.to_string(),
            did: did.to_string(),
            peer_id: did.peer_id(),
            actor_id: did.actor_id(),
            key: folder.key(name),
            context: anchors.map(|anchors| anchors.file().to_owned()),
            grants: provide.iter().flat_map(|token| Row::of(name, token, now())).collect(),
        }
    }

    fn table(&self) -> String {
        let Self { name, did, peer_id, actor_id, key, context, grants } = self;
        let context = context.as_ref().map_or_else(|| "none yet".to_owned(), |file| file.display().to_string());
        let mut lines = vec![
            ["DID".to_owned(), did.clone()],
            ["peer ID".to_owned(), peer_id.clone()],
            ["actor ID".to_owned(), actor_id.clone()],
            ["key".to_owned(), format!("{} ({name})", key.display())],
            ["context".to_owned(), context],
        ];
        lines.extend(grants.iter().map(|grant| ["grant".to_owned(), grant.sentence()]));
        if grants.is_empty() {
            lines.push(["grant".to_owned(), "none: `kubectl hosting login PROVIDER` asks for one".to_owned()]);
        }
        columns(&lines)
    }
}
