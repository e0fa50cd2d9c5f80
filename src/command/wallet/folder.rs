//! The folder in which DMS keeps keys and contexts.

use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Serialize;

use super::CommandError;

const USER_FOLDER: &str = "DMS_GENERAL_USER_DIR";
/// For the owner alone.
const PRIVATE: u32 = 0o700;
const LONGEST_NAME: usize = 64;

/// Name of a key: one part of a path, which no terminal or shell reads as anything else.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Name(String);

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

/// The user folder of DMS.
#[derive(Debug)]
pub(super) struct Folder {
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
    pub(super) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder that DMS itself would use.
    pub(super) fn of_environment() -> Result<Self, CommandError> {
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

    pub(super) fn key(&self, name: &Name) -> PathBuf {
        self.keys().join(format!("{name}.json"))
    }

    fn context(&self, name: &Name) -> PathBuf {
        self.root.join("cap").join(format!("{name}.cap"))
    }

    /// The file for a new key, in a folder that nobody else can read.
    pub(super) fn place_for(&self, name: &Name) -> Result<PathBuf, CommandError> {
        let keys = self.keys();
        private(&keys).map_err(|error| {
            CommandError::because(format!("{} could not be made a private folder", keys.display()), error)
        })?;
        Ok(self.key(name))
    }

    /// Every key file, by name.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, CommandError> {
        let keys = self.keys();
        let failed = |error: io::Error| CommandError::because(format!("{} could not be read", keys.display()), error);
        let files = match fs::read_dir(&keys) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(failed)?,
        };
        let mut entries = Vec::new();
        for file in files {
            let file = file.map_err(failed)?.path();
            entries.extend(self.entry(file));
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(entries)
    }

    /// `None` for what is no key file.
    fn entry(&self, file: PathBuf) -> Option<Entry> {
        let name: Name = file.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()?;
        let context = Some(self.context(&name)).filter(|context| context.is_file());
        file.is_file().then_some(Entry { name, file, context })
    }

    pub(super) fn no_key(&self, name: &Name) -> CommandError {
        CommandError::new(format!(
            "there is no key {name} in {}: `kubectl hosting wallet list` shows those that are there",
            self.keys().display()
        ))
    }
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
