//! Releases: what is served, named by its content.
//!
//! A release manifest is a JSON object `path → {"sha256", "size", "type"}`. Its id is the SHA-256 of its RFC 8785
//! form, so it can be computed offline from a folder, an archive or a ConfigMap, and a signature over the id covers
//! every byte served.

mod media;
mod path;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256};

pub use media::media_type;
pub use path::{MAX_PATH_BYTES, PathError, check_path};

/// Largest size of a file that JSON can name exactly, in bytes: 2^53 − 1.
pub const MAX_FILE_BYTES: u64 = (1 << 53) - 1;
/// Largest manifest, in bytes.
pub const MAX_MANIFEST_BYTES: u64 = 64 << 20;
/// Longest media type accepted in a manifest, in bytes.
const MAX_MEDIA_TYPE_BYTES: usize = 127;
const RELEASE_PREFIX: &str = "sha256:";

/// SHA-256 of a blob; as text 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobDigest([u8; 32]);

/// The id of a release: SHA-256 of its manifest; as text `sha256:` and 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseId([u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A blob's digest has another form.
    #[error("the SHA-256 of a file is written as 64 lower-case hex digits")]
    Blob,
    /// A release id has another form.
    #[error(
        "a release id is written as `sha256:` and 64 lower-case hex digits; `kubectl hosting sign` works it out from the files"
    )]
    Release,
}

impl BlobDigest {
    /// The digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the digest.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`IdError::Blob`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        parse_hex(text).map(Self).ok_or(IdError::Blob)
    }
}

impl ReleaseId {
    /// Reads `sha256:` and 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`IdError::Release`] for anything else.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        text.strip_prefix(RELEASE_PREFIX).and_then(parse_hex).map(Self).ok_or(IdError::Release)
    }

    /// The digest without `sha256:`, as it stands in keys of the object store.
    #[must_use]
    pub fn hex(&self) -> String {
        hex::encode(self.0)
    }
}

/// One spelling only: upper-case digits would give one digest two names.
fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let one_spelling = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (one_spelling && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{RELEASE_PREFIX}{}", hex::encode(self.0))
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    };
}
as_text!(BlobDigest);
as_text!(ReleaseId);

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// SHA-256 of its bytes.
    pub sha256: BlobDigest,
    /// Size in bytes.
    pub size: u64,
    /// Media type it is served with.
    #[serde(rename = "type")]
    pub media_type: String,
}

/// A release manifest: at least one file, every path and media type checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    files: BTreeMap<String, FileEntry>,
    canonical: Vec<u8>,
    id: ReleaseId,
}

/// Why there is no release.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Nothing to serve.
    #[error("a release holds at least one file, and there is none")]
    Empty,
    /// A path that is not served.
    #[error("the path {path:?} cannot be in a release: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        reason: PathError,
    },
    /// A file name that is no text.
    #[error("the file name {0:?} is not UTF-8; rename it")]
    NotText(PathBuf),
    /// Something in the folder is neither file nor folder.
    #[error("{0} is a link, a device or a socket; a release holds plain files only")]
    NotAFile(PathBuf),
    /// The file system did not give a file.
    #[error("{path} could not be read: {cause}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The bytes are no release manifest.
    #[error("this is no release manifest: {0}")]
    Syntax(#[source] serde_json::Error),
    /// A manifest that says the same in other bytes would have another id.
    #[error("the release manifest is not in its canonical form (RFC 8785), so its id cannot be told")]
    NotCanonical,
    /// A size that JSON cannot name exactly.
    #[error("the file {path:?} is given {size} bytes; at most 2^53 - 1 are possible")]
    Size {
        /// The path.
        path: String,
        /// Size in bytes.
        size: u64,
    },
    /// Too many or too long paths.
    #[error("the release manifest has {0} bytes; at most {MAX_MANIFEST_BYTES} are possible. Publish fewer files")]
    TooLarge(u64),
    /// A media type that cannot stand in a header.
    #[error("the media type {media_type:?} of {path:?} cannot stand in an HTTP header")]
    MediaType {
        /// The path.
        path: String,
        /// The media type.
        media_type: String,
    },
}

impl Release {
    /// The release that serves these files: path → bytes.
    ///
    /// # Errors
    /// [`ReleaseError::Empty`] and [`ReleaseError::Path`].
    pub fn from_files<B: AsRef<[u8]>>(files: &BTreeMap<String, B>) -> Result<Self, ReleaseError> {
        let entries = files.iter().map(|(path, bytes)| {
            let bytes = bytes.as_ref();
            let entry = FileEntry {
                sha256: BlobDigest::of(bytes),
                size: bytes.len() as u64,
                media_type: media_type(path).to_owned(),
            };
            (path.clone(), entry)
        });
        Self::from_entries(entries.collect())
    }

    /// The release that serves what lies in a folder, folders below included. Files are hashed as they are read, and
    /// are not held in memory.
    ///
    /// # Errors
    /// [`ReleaseError`]; links and devices are refused rather than followed or left out.
    pub fn from_dir(root: &Path) -> Result<Self, ReleaseError> {
        let mut entries = BTreeMap::new();
        let mut folders = vec![(root.to_owned(), String::new())];
        while let Some((folder, prefix)) = folders.pop() {
            let failed = |cause| ReleaseError::Read { path: folder.clone(), cause };
            for item in folder.read_dir().map_err(failed)? {
                let item = item.map_err(failed)?;
                let kind = item.file_type().map_err(failed)?;
                let name = item.file_name().into_string().map_err(|name| ReleaseError::NotText(folder.join(name)))?;
                let path = format!("{prefix}{name}");
                if kind.is_dir() {
                    folders.push((item.path(), format!("{path}/")));
                } else if kind.is_file() {
                    let (sha256, size) = hash_file(&item.path())?;
                    let media_type = media_type(&path).to_owned();
                    entries.insert(path, FileEntry { sha256, size, media_type });
                } else {
                    return Err(ReleaseError::NotAFile(item.path()));
                }
            }
        }
        Self::from_entries(entries)
    }

    /// Reads a manifest in its canonical form, as [`Self::to_json`] writes it.
    ///
    /// # Errors
    /// [`ReleaseError`] for unknown or repeated members, for paths, sizes and media types that are not served, and
    /// for any other spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReleaseError> {
        let release = Self::from_entries(serde_json::from_slice(bytes).map_err(ReleaseError::Syntax)?)?;
        if release.canonical == bytes { Ok(release) } else { Err(ReleaseError::NotCanonical) }
    }

    fn from_entries(files: BTreeMap<String, FileEntry>) -> Result<Self, ReleaseError> {
        if files.is_empty() {
            return Err(ReleaseError::Empty);
        }
        for (path, FileEntry { sha256: _, size, media_type }) in &files {
            check_path(path).map_err(|reason| ReleaseError::Path { path: path.clone(), reason })?;
            if *size > MAX_FILE_BYTES {
                return Err(ReleaseError::Size { path: path.clone(), size: *size });
            }
            if !stands_in_a_header(media_type) {
                return Err(ReleaseError::MediaType { path: path.clone(), media_type: media_type.clone() });
            }
        }
        let canonical = serde_json_canonicalizer::to_vec(&files).map_err(ReleaseError::Syntax)?;
        if canonical.len() as u64 > MAX_MANIFEST_BYTES {
            return Err(ReleaseError::TooLarge(canonical.len() as u64));
        }
        let id = ReleaseId(Sha256::digest(&canonical).into());
        Ok(Self { files, canonical, id })
    }

    /// The id: SHA-256 of [`Self::to_json`].
    #[must_use]
    pub const fn id(&self) -> ReleaseId {
        self.id
    }

    /// The manifest in its canonical form (RFC 8785).
    #[must_use]
    pub fn to_json(&self) -> &[u8] {
        &self.canonical
    }

    /// Path → file, sorted by path.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<String, FileEntry> {
        &self.files
    }

    /// The distinct blobs and their sizes in bytes: files with the same bytes share one.
    #[must_use]
    pub fn blobs(&self) -> BTreeMap<BlobDigest, u64> {
        self.files.values().map(|file| (file.sha256, file.size)).collect()
    }

    /// Sum of the sizes of all files, in bytes; a blob used twice counts twice.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

/// Visible ASCII and spaces with one slash in it: enough that no header can be injected, and no more, so that a
/// manifest made with a later table is still read.
fn stands_in_a_header(media_type: &str) -> bool {
    media_type.len() <= MAX_MEDIA_TYPE_BYTES
        && media_type.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && media_type.split_once('/').is_some_and(|(first, second)| !first.is_empty() && !second.is_empty())
}

fn hash_file(path: &Path) -> Result<(BlobDigest, u64), ReleaseError> {
    let failed = |cause| ReleaseError::Read { path: path.to_owned(), cause };
    let mut file = File::open(path).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = file.read(&mut buffer).map_err(failed)?;
        let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
            return Ok((BlobDigest(hash.finalize().into()), size));
        };
        hash.update(read);
        size += count as u64;
    }
}

#[cfg(test)]
mod tests;
