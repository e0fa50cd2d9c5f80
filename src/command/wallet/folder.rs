//! The folder in which DMS keeps keys and contexts.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::CommandError;
use crate::capability::{Context, Refusal};

const USER_FOLDER: &str = "DMS_GENERAL_USER_DIR";
/// For the owner alone.
const PRIVATE: u32 = 0o700;
const LONGEST_NAME: usize = 64;
const DEFAULT: &str = "default";

/// A context file, and what was read of it.
pub(in crate::command) type ContextFile = (PathBuf, Result<Context, Refusal>);

/// Name of a key: one part of a path, which no terminal or shell reads as anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(in crate::command) struct Name(String);

impl FromStr for Name {
    type Err = CommandError;

    fn from_str(text: &str) -> Result<Self, CommandError> {
        let fits = (1..=LONGEST_NAME).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@+".contains(&byte))
            && !text.starts_with(['.', '-']);
        if fits {
            return Ok(Self(text.to_owned()));
        }
        Err(CommandError::new(format!(
            "{text:?} cannot be the name of a key: write at most {LONGEST_NAME} letters, digits and . _ - @ +, \
             beginning with neither . nor -"
        )))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The key that is meant by a command that names none.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::command) enum Choice {
    There(Name),
    Missing(Name),
}

/// The user folder of DMS.
#[derive(Debug)]
pub(in crate::command) struct Folder {
    root: PathBuf,
}

/// One key in the folder.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Entry {
    name: Name,
    file: PathBuf,
    /// The context of the same name, when there is one.
    context: Option<PathBuf>,
}

impl Folder {
    pub(in crate::command) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder that DMS itself would use.
    pub(in crate::command) fn of_environment() -> Result<Self, CommandError> {
        let named = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from);
        named(USER_FOLDER)
            .or_else(|| Some(named("HOME")?.join(".nunet")))
            .map(Self::new)
            .ok_or_else(|| CommandError::new(format!("the wallet folder is not known: set {USER_FOLDER}, or HOME")))
    }

    /// Where key files lie.
    fn keys(&self) -> PathBuf {
        self.root.join("key")
    }

    pub(in crate::command) fn key(&self, name: &Name) -> PathBuf {
        self.keys().join(format!("{name}.json"))
    }

    /// Where the context of a key lies.
    pub(in crate::command) fn context(&self, name: &Name) -> PathBuf {
        self.contexts().join(format!("{name}.cap"))
    }

    fn contexts(&self) -> PathBuf {
        self.root.join("cap")
    }

    /// The file for a context, in a folder that nobody else can read.
    pub(super) fn place_for_context(&self, name: &Name) -> Result<PathBuf, CommandError> {
        private_or_told(&self.contexts())?;
        Ok(self.context(name))
    }

    /// Where what a key passed on is kept, so that it can be taken back. It is no folder of DMS.
    pub(super) fn delegated(&self, name: &Name) -> PathBuf {
        self.root.join("hosting").join("delegated").join(name.to_string())
    }

    /// The keys that passed something on.
    pub(super) fn delegating(&self) -> Result<Vec<Name>, CommandError> {
        let folder = self.root.join("hosting").join("delegated");
        listed(&folder, |entry| entry.is_dir().then(|| entry.file_name()?.to_str()?.parse().ok())?)
    }

    /// The same, made if need be.
    pub(super) fn place_for_delegated(&self, name: &Name) -> Result<PathBuf, CommandError> {
        let folder = self.delegated(name);
        private_or_told(&folder)?;
        Ok(folder)
    }

    /// Names of the contexts there are, with or without a key beside them.
    pub(in crate::command) fn contexts_there(&self) -> Result<Vec<Name>, CommandError> {
        Self::names(&self.contexts(), ".cap")
    }

    /// The names of the files in a folder that end so.
    pub(super) fn names(folder: &Path, end: &str) -> Result<Vec<Name>, CommandError> {
        listed(folder, |file| {
            let name = file.file_name().and_then(|name| name.to_str()?.strip_suffix(end)?.parse().ok());
            name.filter(|_| file.is_file())
        })
    }

    /// The key that is meant: the one that is named, else the only one there, else `default`.
    pub(in crate::command) fn choose(&self, name: Option<&Name>) -> Result<Choice, CommandError> {
        if let Some(name) = name.cloned() {
            return Ok(if self.key(&name).exists() { Choice::There(name) } else { Choice::Missing(name) });
        }
        let entries = self.entries()?;
        let default = Name(DEFAULT.to_owned());
        match entries.as_slice() {
            [] => Ok(Choice::Missing(default)),
            [only] => Ok(Choice::There(only.name.clone())),
            _ if entries.iter().any(|entry| entry.name == default) => Ok(Choice::There(default)),
            _ => {
                let names: Vec<_> = entries.iter().map(|entry| entry.name.0.as_str()).collect();
                Err(CommandError::new(format!(
                    "there are {} keys in {}, and none of them is named {DEFAULT}: say with --name which is meant, {}",
                    names.len(),
                    self.keys().display(),
                    names.join(", ")
                )))
            }
        }
    }

    /// The same where the key must be there.
    pub(in crate::command) fn chosen(&self, name: Option<&Name>) -> Result<Name, CommandError> {
        match self.choose(name)? {
            Choice::There(name) => Ok(name),
            Choice::Missing(name) => Err(self.no_key(&name)),
        }
    }

    /// Every context file, by name, read.
    pub(super) fn context_files(&self) -> Result<Vec<ContextFile>, CommandError> {
        let read = |name: Name| {
            let file = self.context(&name);
            let bytes = fs::read(&file)
                .map_err(|error| CommandError::because(format!("{} could not be read", file.display()), error))?;
            Ok((file, Context::parse(&bytes)))
        };
        self.contexts_there()?.into_iter().map(read).collect()
    }

    /// The key file, when there is exactly one.
    pub(super) fn only_key(&self) -> Result<Option<PathBuf>, CommandError> {
        let mut entries = self.entries()?;
        Ok(entries.pop().filter(|_| entries.is_empty()).map(|entry| entry.file))
    }

    /// The file for a new key, in a folder that nobody else can read.
    pub(super) fn place_for(&self, name: &Name) -> Result<PathBuf, CommandError> {
        private_or_told(&self.keys())?;
        Ok(self.key(name))
    }

    /// Every key file, by name.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, CommandError> {
        let names = Self::names(&self.keys(), ".json")?;
        Ok(names.into_iter().map(|name| self.entry(name)).collect())
    }

    fn entry(&self, name: Name) -> Entry {
        let context = Some(self.context(&name)).filter(|context| context.is_file());
        Entry { file: self.key(&name), name, context }
    }

    pub(super) fn no_key(&self, name: &Name) -> CommandError {
        CommandError::new(format!(
            "there is no key {name} in {}: `kubectl hosting wallet list` shows those that are there",
            self.keys().display()
        ))
    }
}

/// The names in a folder that `named` gives; none, when there is no folder.
fn listed(folder: &Path, named: impl Fn(&Path) -> Option<Name>) -> Result<Vec<Name>, CommandError> {
    let failed = |error: io::Error| CommandError::because(format!("{} could not be read", folder.display()), error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(named(&entry.map_err(failed)?.path()));
    }
    names.sort();
    Ok(names)
}

fn private_or_told(folder: &Path) -> Result<(), CommandError> {
    private(folder).map_err(|error| {
        CommandError::because(format!("{} could not be made a private folder", folder.display()), error)
    })
}

/// Makes the folder, or takes from others the right to enter it.
fn private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE).create(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode();
    if mode & 0o077 != 0 { fs::set_permissions(folder, Permissions::from_mode(mode & PRIVATE)) } else { Ok(()) }
}

/// The entries, one a line.
pub(super) fn table(entries: &[Entry], folder: &Folder) -> String {
    if entries.is_empty() {
        let keys = folder.keys();
        return format!("no key in {}: make one with `kubectl hosting wallet new --name NAME`\n", keys.display());
    }
    let width = entries.iter().map(|entry| entry.name.0.len()).max().unwrap_or_default();
    let line = |Entry { name, file, context }: &Entry| {
        let context = if context.is_some() { "context" } else { "-" };
        format!("{name:<width$}  {context:<7}  {}\n", file.display(), name = name.0)
    };
    entries.iter().map(line).collect()
}
