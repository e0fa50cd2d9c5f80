//! Files that are replaced as a whole: temporary file, fsync, rename, fsync of the directory. So a crash leaves either the
//! old or the new one. Each says which version of its form it has, and only its owner may read it.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::NamedTempFile;

/// What temporary files begin with. One that is left over was never renamed, so nothing of it has happened.
const TEMPORARY: &str = ".next-";

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk did not do as asked.
    #[error("the node could not {action} {}: {cause}", .path.display())]
    Disk {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        cause: io::Error,
    },
    /// Another process has it.
    #[error("another node runs with the directory {}: stop it, or choose another --dir", .0.display())]
    InUse(PathBuf),
    /// It cannot be understood.
    #[error("{} is not a file that this version reads: {cause}. Move it away to start without what it holds", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
}

impl StateError {
    pub(super) fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Disk { action, path: path.to_owned(), cause }
    }

    pub(super) fn damaged(path: &Path, cause: &impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), cause: cause.to_string() }
    }
}

/// Reads a file; `None` when there is none.
pub(super) fn read(path: &Path, schema: u32) -> Result<Option<Value>, StateError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::disk("read", path)(error)),
    };
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| StateError::damaged(path, &error))?;
    // The version first: another one may hold anything else.
    if value.get("schema").and_then(Value::as_u64) != Some(u64::from(schema)) {
        return Err(StateError::damaged(path, &format!("its schema is not {schema}")));
    }
    Ok(Some(value))
}

/// Replaces a file of the directory.
pub(super) fn replace(directory: &Path, file: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_beside(directory, bytes)?;
    temporary.persist(directory.join(file)).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Replaces a file without holding up others; whoever asked may stop waiting.
pub(super) async fn replace_later(directory: &Path, file: &'static str, bytes: Vec<u8>) -> Result<(), StateError> {
    let (directory, path) = (directory.to_owned(), directory.join(file));
    let written = tokio::task::spawn_blocking(move || replace(&directory, file, &bytes)).await;
    written.map_err(io::Error::other).and_then(|result| result).map_err(StateError::disk("write", &path))
}

fn write_beside(directory: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Removes what a crash has left over.
pub(super) fn sweep(directory: &Path) -> Result<(), StateError> {
    let entries = std::fs::read_dir(directory).map_err(StateError::disk("read", directory))?;
    for entry in entries.filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY)
            && let Err(error) = std::fs::remove_file(entry.path())
        {
            tracing::warn!(%error, file = %entry.path().display(), "what a crash has left over stays");
        }
    }
    Ok(())
}

/// Writes all of a file beside the one it is to replace, and stops there, as a crash would.
#[cfg(test)]
pub(super) fn crash_before_rename(directory: &Path, bytes: &[u8]) -> PathBuf {
    write_beside(directory, bytes).unwrap().into_temp_path().keep().unwrap()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        let old = json!({"schema": 7, "number": rand::random::<u32>()});
        replace(directory.path(), "a.json", old.to_string().as_bytes()).unwrap();
        let left = crash_before_rename(directory.path(), br#"{"schema":7,"number":0}"#);
        std::fs::write(directory.path().join(".next-torn"), "{").unwrap();
        std::fs::write(directory.path().join("other"), "").unwrap();
        assert_eq!(read(&path, 7).unwrap(), Some(old.clone()));
        sweep(directory.path()).unwrap();
        assert!(!left.exists());
        let mut names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.json", "other"]);
        assert_eq!(read(&path, 7).unwrap(), Some(old));
    }

    #[test]
    fn a_file_of_another_version_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        assert!(matches!(read(&path, 1), Ok(None)));
        for text in [r#"{"schema":2}"#, "{", "[]", "", r#"{"schema":"1"}"#] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(read(&path, 1), Err(StateError::Damaged { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
