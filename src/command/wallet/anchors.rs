//! The context file of a key: what it may present to others. DMS writes such files too, so what is not understood in one
//! stays as it is.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::CommandError;
use super::folder::{Folder, Name};
use super::replace;
use crate::capability::{Capability, Context, Did, Nanos, Token};

const PROVIDE: &str = "provide";

/// A context file and what was read of it.
#[derive(Debug)]
pub(in crate::command) struct Anchors {
    file: PathBuf,
    /// The file as it is; `None`, when there is none yet.
    json: Option<Value>,
    pub(in crate::command) context: Context,
}

impl Anchors {
    /// The context of a key, when there is one.
    pub(in crate::command) fn read(folder: &Folder, name: &Name) -> Result<Option<Self>, CommandError> {
        let file = folder.context(name);
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(&file, "read", error)),
        };
        let odd = |cause: Box<dyn std::error::Error + Send + Sync>| {
            let what = format!(
                "{} is no context file as DMS writes it and was left as it is: move it away, or name another key with --name",
                file.display()
            );
            CommandError::because(what, cause)
        };
        let bytes = bytes.trim_ascii();
        let context = Context::parse(bytes).map_err(|refusal| odd(refusal.into()))?;
        let json = serde_json::from_slice(bytes).map_err(|error| odd(error.into()))?;
        Ok(Some(Self { file, json: Some(json), context }))
    }

    /// The context of a key, to be changed: it must be of this DID. It is new, when there is none.
    pub(in crate::command) fn of(folder: &Folder, name: &Name, did: &Did) -> Result<Self, CommandError> {
        let file = folder.place_for_context(name)?;
        let new = Context::empty(did.clone());
        let anchors = Self::read(folder, name)?.unwrap_or(Self { file, json: None, context: new });
        if anchors.context.did == *did {
            return Ok(anchors);
        }
        Err(CommandError::new(format!(
            "{} is the context of {}, and the key {name} is {did}: move it away, or name another key with --name",
            anchors.file.display(),
            anchors.context.did
        )))
    }

    pub(in crate::command) fn file(&self) -> &Path {
        &self.file
    }

    /// Adds a grant to what the key may present, in place of those that it makes superfluous. The file is replaced as a
    /// whole, from what it holds at this moment.
    pub(in crate::command) fn keep(folder: &Folder, name: &Name, grant: &Token) -> Result<PathBuf, CommandError> {
        let place = folder.place_for_context(name)?;
        let lock = place.with_extension("lock");
        let _held = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|error| failed(&lock, "locked", error))?;
        let Self { file, json, mut context } = Self::of(folder, name, grant.subject())?;
        let bytes = match json {
            None => {
                context.provide.push(grant.clone());
                context.to_json()
            }
            Some(json) => with(json, grant).ok_or_else(|| odd_list(&file))?.to_string().into_bytes(),
        };
        // A link to a file elsewhere stays one.
        let target = fs::canonicalize(&file).unwrap_or_else(|_| file.clone());
        let kept = || {
            replace(&target, &bytes, None)?;
            File::open(target.parent().unwrap_or(&target))?.sync_all()
        };
        kept().map_err(|error| failed(&file, "written", error))?;
        Ok(file)
    }
}

fn odd_list(file: &Path) -> CommandError {
    CommandError::new(format!(
        "{} has no list of tokens to provide and was left as it is: move it away",
        file.display()
    ))
}

fn failed(file: &Path, verb: &str, error: io::Error) -> CommandError {
    CommandError::because(format!("{} could not be {verb}", file.display()), error)
}

/// The content of a context file with one more token to provide. `None`: it does not have the form of one.
fn with(mut json: Value, grant: &Token) -> Option<Value> {
    let members = json.as_object_mut()?;
    // Older releases of DMS wrote the names with other letter case.
    let name = members.keys().find(|name| name.eq_ignore_ascii_case(PROVIDE)).cloned();
    let list = members.entry(name.unwrap_or_else(|| PROVIDE.to_owned())).or_insert_with(|| serde_json::json!({}));
    let tokens = list.as_object_mut()?.entry("tok").or_insert_with(|| serde_json::json!([])).as_array_mut()?;
    tokens.retain(|token| {
        let old = Token::parse(token.to_string().as_bytes());
        !old.is_ok_and(|old| is_superfluous(&old, grant))
    });
    tokens.push(serde_json::from_slice(&grant.to_json()).ok()?);
    Some(json)
}

/// Whether `new` gives all that `old` gives, for at least as long and as deep.
fn is_superfluous(old: &Token, new: &Token) -> bool {
    let gives = |capability: &Capability| new.capabilities().iter().any(|given| given.implies(capability));
    old.chain().is_none()
        && new.chain().is_none()
        && (old.action(), old.issuer(), old.subject(), old.audience())
            == (new.action(), new.issuer(), new.subject(), new.audience())
        && old.topics().is_empty()
        && old.expires() <= new.expires()
        && old.depth() != 0
        && (new.depth() == 0 || old.depth() <= new.depth())
        && old.capabilities().iter().all(gives)
}

/// Whether it can still be used.
pub(in crate::command) fn is_over(token: &Token, now: Nanos) -> bool {
    token.not_after() < now
}

#[cfg(test)]
mod tests;
