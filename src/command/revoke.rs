//! `revoke`: takes back what a key of the wallet passed on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kube::api::{Api, PostParams};

use super::CommandError;
use super::confirm::picked;
use super::grants::WRITTEN;
use super::token::read_token;
use super::token::revoke::{object, revocation, yaml_of};
use super::wallet::anchors::Anchors;
use super::wallet::delegated::{self, Delegated};
use super::wallet::folder::{Folder, Name};
use super::wallet::{open_key, print, write_new};
use crate::api::CapabilityRevocation;
use crate::capability::{Key, Token};

const ABOUT_REVOKING: &str = "With the token all that hangs below it is taken back. It counts once a CapabilityRevocation is in the cluster of the \
    provider: --apply puts it there, else what is printed is for `kubectl apply -f -`, or for the provider. The passphrase of \
    the key is taken from DMS_PASSPHRASE, or asked for.";
/// Fewer digits than these may be a slip, and no revocation is undone.
const FEWEST_DIGITS: usize = 8;

/// Arguments of `revoke`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_REVOKING)]
pub struct Args {
    /// What is taken back: an ID as `grants --delegated` prints it, or at least 8 of its digits, the DID it was passed on to,
    /// or a file with the token. Absent: it is asked for.
    #[arg(value_name = "GRANT|FILE")]
    which: Option<String>,
    /// Name of the key in the wallet folder that issued it. Absent: found out.
    #[arg(long, value_name = "KEY")]
    name: Option<Name>,
    /// Creates the CapabilityRevocation in the cluster instead of printing it.
    #[arg(long, conflicts_with = "out")]
    apply: bool,
    /// Namespace of the CapabilityRevocation. Absent: that of the current context.
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Where to write it; an existing file is never overwritten. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Args { which, name, apply, namespace, out } = args;
    let folder = Folder::of_environment()?;
    let (name, token) = match &which {
        Some(file) if Path::new(file).is_file() => {
            let token = read_token(Path::new(file))?;
            (issuer_of(&folder, &token, name.as_ref())?, token)
        }
        which => {
            let Delegated { key, token, revocation_written: _ } = delegation(&folder, which.as_deref(), name.as_ref())?;
            (key, token)
        }
    };
    let key = open_key(&folder.key(&name))?;
    let revocation = taken_back(&key, &token)?;
    let json = String::from_utf8_lossy(&revocation.to_json()).into_owned();
    let object = object(&format!("revoked-{}", delegated::id(&revocation)), namespace.as_deref(), json)?;
    if apply {
        put(&object, &revocation).await?;
    } else {
        let text = yaml_of(&object)?;
        match out {
            Some(file) => write_new(&file, text.as_bytes())?,
            None => print(&text)?,
        }
    }
    Delegated::note_revoked(&folder, &name, &revocation)?;
    Ok(ExitCode::SUCCESS)
}

/// The revocation of the last link that the key issued.
fn taken_back(key: &Key, token: &Token) -> Result<Token, CommandError> {
    let count = token.links().count();
    let below = token.links().position(|link| link.issuer() == key.did()).ok_or_else(|| {
        CommandError::new(format!(
            "nothing was revoked: the token was issued by {}, and the key is {}. Only its issuer takes it back",
            token.issuer(),
            key.did()
        ))
    })?;
    revocation(key, token, Some(count - below))
}

/// The key of the wallet that issued a link of the token, the last that one did: by what the contexts say, else the usual
/// one.
fn issuer_of(folder: &Folder, token: &Token, name: Option<&Name>) -> Result<Name, CommandError> {
    if name.is_some() {
        return folder.chosen(name);
    }
    let mut there = Vec::new();
    for name in folder.contexts_there()? {
        let Ok(Some(anchors)) = Anchors::read(folder, &name) else { continue };
        if folder.key(&name).exists() {
            there.push((anchors.context.did, name));
        }
    }
    let held = token.links().find_map(|link| there.iter().find(|(did, _)| did == link.issuer()));
    held.map_or_else(|| folder.chosen(None), |(_, name)| Ok(name.clone()))
}

/// What was passed on and is meant.
fn delegation(folder: &Folder, which: Option<&str>, name: Option<&Name>) -> Result<Delegated, CommandError> {
    let mut all = Delegated::all(folder, name)?;
    let list = "`kubectl hosting grants --delegated` lists what was passed on";
    let Some(which) = which else {
        let lines: Vec<String> = all.iter().map(line).collect();
        let index = picked("Which is taken back?", &lines)?;
        return index
            .filter(|index| *index < all.len())
            .map(|index| all.swap_remove(index))
            .ok_or_else(|| CommandError::new(format!("nothing was revoked: name what is to be taken back; {list}")));
    };
    let digits = Some(which.to_ascii_lowercase()).filter(|digits| digits.len() >= FEWEST_DIGITS);
    let is_meant = |Delegated { key: _, token, revocation_written: _ }: &Delegated| {
        token.subject().as_str() == which
            || digits.as_ref().is_some_and(|digits| hex::encode(token.nonce()).starts_with(digits))
    };
    all.retain(is_meant);
    match (all.pop(), all.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(CommandError::new(format!(
            "nothing was revoked: {which:?} is no file, and no token that this wallet passed on has this ID or DID (of an ID at \
             least {FEWEST_DIGITS} digits are needed); {list}"
        ))),
        (Some(_), false) => Err(CommandError::new(format!(
            "nothing was revoked: {which:?} is more than one token; {list} by their IDs"
        ))),
    }
}

fn line(Delegated { key, token, revocation_written }: &Delegated) -> String {
    let paths: Vec<_> = token.capabilities().iter().map(ToString::to_string).collect();
    let written = if *revocation_written { WRITTEN } else { "" };
    let (id, subject, until) = (delegated::id(token), token.subject(), token.not_after());
    format!("{id}  {key} → {subject}  {}  until {until}{written}", paths.join(" "))
}

/// Creates it in the cluster. That it is there already is as good.
async fn put(object: &CapabilityRevocation, revocation: &Token) -> Result<(), CommandError> {
    let client = kube::Client::try_default().await.map_err(|error| {
        CommandError::because(
            "nothing was revoked: no Kubernetes API server is configured. Set KUBECONFIG, or leave out --apply",
            error,
        )
    })?;
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| client.default_namespace().to_owned());
    let name = object.metadata.name.clone().unwrap_or_default();
    let api: Api<CapabilityRevocation> = Api::namespaced(client, &namespace);
    let said = match api.create(&PostParams::default(), object).await {
        Ok(_) => "created",
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get(&name).await.is_ok_and(|there| there.spec == object.spec);
            if !there {
                return Err(CommandError::new(format!(
                    "nothing was revoked: there is another CapabilityRevocation {name} in namespace {namespace}; -n names another"
                )));
            }
            "unchanged"
        }
        Err(error) => {
            let what = format!(
                "nothing was revoked: the CapabilityRevocation {name} could not be created in namespace {namespace}. Without \
                 --apply it is printed, for somebody who may"
            );
            return Err(CommandError::because(what, error));
        }
    };
    print(&format!(
        "capabilityrevocation.hosting.nunet.io/{name} {said} in {namespace}: {} loses it once the operator has taken that \
         up, and `kubectl get caprev {name} -n {namespace}` says True under READY\n",
        revocation.subject()
    ))
}

#[cfg(test)]
mod tests;
