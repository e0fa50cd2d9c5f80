//! Unpacking in memory, within limits that are tested as the bytes come.

use std::{
    collections::btree_map::Entry,
    io::{self, Read},
};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::{ArchiveError, Limits, Refused, TooLarge};
use crate::store::{Files, release::check_path};

/// Room for names and headers: tar pads and describes each file with blocks of 512 bytes, long names with more.
const OVERHEAD_PER_FILE: u64 = 4096;
/// Room for the rest at least: folders are described too, and an archive of few files may have many.
const OVERHEAD: u64 = 1 << 20;
/// What packing adds to bytes that cannot be made smaller, as a part of them: more than gzip does with any setting.
const PACKING: u64 = 1024;
/// Growth below this is never called a bomb: small archives of blank files grow much.
const RATIO_FLOOR: u64 = 1 << 20;

/// Unpacks a gzip-compressed tar archive: path → bytes. A leading `./` is taken off; folders are passed over.
///
/// # Errors
/// [`ArchiveError::Refused`] for anything but plain files at plain relative paths, each once, and
/// [`ArchiveError::TooLarge`].
pub(super) fn unpack(archive: &[u8], limits: &Limits) -> Result<Files, ArchiveError> {
    let absolute = with_headers(limits.bytes.most, limits.files.most);
    let ratio = (archive.len() as u64).saturating_mul(limits.ratio).max(RATIO_FLOOR);
    let mut limited = Limited { inner: MultiGzDecoder::new(archive), left: absolute.min(ratio), passed: false };
    let result = read_entries(&mut limited, limits);
    if !limited.passed {
        return result;
    }
    // Past the limit the reader only fails, so whatever the tar reader made of it, this is why.
    Err(if ratio < absolute {
        ArchiveError::Refused(Refused::Bomb(limits.ratio))
    } else {
        ArchiveError::TooLarge(TooLarge::Unpacked(limits.bytes))
    })
}

/// The most bytes that a tar archive of such files has.
const fn with_headers(bytes: u64, files: u64) -> u64 {
    bytes.saturating_add(files.saturating_mul(OVERHEAD_PER_FILE)).saturating_add(OVERHEAD)
}

/// The most bytes that a compressed archive of such files has.
pub(super) const fn packed(bytes: u64, files: u64) -> u64 {
    with_headers(bytes, files).saturating_add(bytes / PACKING)
}

fn read_entries(reader: impl Read, limits: &Limits) -> Result<Files, ArchiveError> {
    let mut files = Files::new();
    let mut total = 0_u64;
    let mut archive = Archive::new(reader);
    for entry in archive.entries().map_err(|error| format(&error))? {
        let mut entry = entry.map_err(|error| format(&error))?;
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let raw = String::from_utf8(entry.path_bytes().into_owned()).map_err(|error| {
            let path = String::from_utf8_lossy(error.as_bytes()).into_owned();
            refused(Refused::Path { path, reason: "it is not UTF-8".to_owned() })
        })?;
        let is_folder = kind == EntryType::Directory;
        let Some(path) = plain_path(&raw, is_folder)? else { continue };
        match kind {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {}
            other => return Err(refused(Refused::NotAFile { path: raw, kind: name_of(other) })),
        }
        if files.len() as u64 >= limits.files.most {
            return Err(ArchiveError::TooLarge(TooLarge::Files(limits.files)));
        }
        total = total.saturating_add(entry.size());
        if total > limits.bytes.most {
            return Err(ArchiveError::TooLarge(TooLarge::Unpacked(limits.bytes)));
        }
        // Within the limit, and no more than is needed: a vector that grows may take twice its size.
        let mut bytes = Vec::with_capacity(usize::try_from(entry.size()).unwrap_or_default());
        entry.read_to_end(&mut bytes).map_err(|error| format(&error))?;
        match files.entry(path) {
            Entry::Occupied(taken) => return Err(refused(Refused::Duplicate(taken.key().clone()))),
            Entry::Vacant(free) => free.insert(Bytes::from(bytes)),
        };
    }
    Ok(files)
}

/// The path in the release; `None` for the root folder itself. Folders are judged too, since one that climbs out has
/// no honest purpose.
fn plain_path(raw: &str, is_folder: bool) -> Result<Option<String>, ArchiveError> {
    let mut path = raw;
    while let Some(rest) = path.strip_prefix("./") {
        path = rest;
    }
    if is_folder {
        path = path.strip_suffix('/').unwrap_or(path);
        if matches!(path, "" | ".") {
            return Ok(None);
        }
    }
    match check_path(path) {
        Ok(()) => Ok(Some(path.to_owned())),
        Err(reason) => Err(refused(Refused::Path { path: raw.to_owned(), reason: reason.to_string() })),
    }
}

fn name_of(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "hard link",
        EntryType::Symlink => "symbolic link",
        EntryType::Char => "character device",
        EntryType::Block => "block device",
        EntryType::Fifo => "pipe",
        EntryType::GNUSparse => "sparse file",
        _ => "special entry",
    }
}

const fn refused(what: Refused) -> ArchiveError {
    ArchiveError::Refused(what)
}

fn format(error: &io::Error) -> ArchiveError {
    refused(Refused::Format(error.to_string()))
}

/// Fails once more than `left` bytes came, so that no reader above it can be made to go on.
struct Limited<R> {
    inner: R,
    left: u64,
    passed: bool,
}

impl<R: Read> Read for &mut Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.passed = true;
            return Err(io::Error::other("a limit was passed"));
        };
        self.left = left;
        Ok(count)
    }
}
