//! Publishing a release, and reading one back.
//!
//! Keys: `<prefix>/<SHA-256 of the owner's DID>/blobs/<sha256>` and `…/releases/<id>.json`. The manifest is written
//! last, so a manifest in the store means that the release is whole. What is read is hashed before it is believed.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    BlobDigest, Files, ObjectStore, Pieces, StoreError,
    release::{FileEntry, MAX_MANIFEST_BYTES, Release, ReleaseError, ReleaseId},
};
use crate::capability::Did;

/// Requests to the store that one publication has under way at most.
const CONCURRENCY: usize = 8;
const MARKER_LIMIT: u64 = 4096;
const JSON: &str = "application/json";
const BYTES: &str = "application/octet-stream";

/// Where the bytes of a release come from.
#[async_trait]
pub trait BlobSource: Send + Sync {
    /// The bytes of the file with this path; `None` when there is no such file.
    async fn read(&self, path: &str) -> io::Result<Option<Bytes>>;
}

#[async_trait]
impl BlobSource for Files {
    async fn read(&self, path: &str) -> io::Result<Option<Bytes>> {
        Ok(self.get(path).cloned())
    }
}

/// Files of a folder, read when they are needed.
#[derive(Clone, Debug)]
pub struct Folder(pub PathBuf);

#[async_trait]
impl BlobSource for Folder {
    async fn read(&self, path: &str) -> io::Result<Option<Bytes>> {
        match tokio::fs::read(self.0.join(path)).await {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What a publication did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishReport {
    /// The release, now whole in the store.
    pub release: ReleaseId,
    /// Blobs written.
    pub uploaded_blobs: u64,
    /// Their sizes together, in bytes.
    pub uploaded_bytes: u64,
    /// Blobs that the store held already.
    pub present_blobs: u64,
}

/// Why a release is not in the store.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The store failed; [`StoreError`] says whether it passes.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The files make another release than the one signed.
    #[error(
        "the files hash to {found}, but the spec is signed for {expected}; restore the files, or sign the spec with `content.release: {found}`"
    )]
    DigestMismatch {
        /// The release that was to be published.
        expected: ReleaseId,
        /// The release that the files make.
        found: ReleaseId,
    },
    /// A file is not what the manifest says.
    #[error(
        "the file {path:?} does not hold the bytes that the release names (SHA-256 {found}); it was changed meanwhile"
    )]
    FileChanged {
        /// Path of the file.
        path: String,
        /// SHA-256 of its bytes now.
        found: BlobDigest,
    },
    /// A file of the manifest is gone.
    #[error("the file {path:?} of the release is not there any more")]
    FileMissing {
        /// Path of the file.
        path: String,
    },
    /// A file cannot be read.
    #[error("the file {path:?} could not be read: {cause}")]
    Read {
        /// Path of the file.
        path: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The files make no release.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The prefix belongs to another installation.
    #[error(
        "s3 prefix {prefix:?} belongs to installation {found:?}, not to this one; give the HostingProvider another `storage.s3.prefix`"
    )]
    ForeignPrefix {
        /// The prefix.
        prefix: String,
        /// The installation named by its marker.
        found: String,
    },
}

/// Reads and writes releases below one prefix of a store.
#[derive(Clone)]
pub struct Publisher {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl fmt::Debug for Publisher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Publisher").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Marker {
    installation: String,
}

/// What becomes of objects that the store holds already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Held {
    Kept,
    Overwritten,
}

enum Outcome {
    Present,
    Uploaded(u64),
}

impl Publisher {
    /// Works below this prefix; slashes at its ends do not matter, and an empty one is the whole bucket.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let prefix = match prefix.trim_matches('/') {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Self { store, prefix }
    }

    /// Takes the prefix for an installation, or confirms that it has it. The marker is read back after it is written,
    /// so of two installations that race, at most one is told yes once both have written.
    ///
    /// # Errors
    /// [`PublishError::ForeignPrefix`] and [`PublishError::Store`].
    pub async fn claim_prefix(&self, installation: &str) -> Result<(), PublishError> {
        let key = format!("{}installation", self.prefix);
        if let Some(marker) = self.store.get(&key, MARKER_LIMIT).await? {
            return self.judge_marker(&marker, installation);
        }
        let marker = Marker { installation: installation.to_owned() };
        let marker = serde_json::to_vec(&marker).map_err(ReleaseError::Syntax)?;
        self.store.put(&key, marker.into(), JSON).await?;
        match self.store.get(&key, MARKER_LIMIT).await? {
            Some(marker) => self.judge_marker(&marker, installation),
            None => Err(PublishError::Store(StoreError::Unavailable {
                action: format!("reading back {key}"),
                cause: "the object just written is not there".into(),
            })),
        }
    }

    fn judge_marker(&self, marker: &[u8], installation: &str) -> Result<(), PublishError> {
        let found = match serde_json::from_slice::<Marker>(marker) {
            Ok(Marker { installation: found }) if found == installation => return Ok(()),
            Ok(Marker { installation: found }) => found,
            Err(_) => "(a marker that cannot be read)".to_owned(),
        };
        Err(PublishError::ForeignPrefix { prefix: self.prefix.trim_end_matches('/').to_owned(), found })
    }

    /// Publishes files under the release id that was signed.
    ///
    /// # Errors
    /// [`PublishError::DigestMismatch`] before anything is sent, and whatever [`Self::publish`] returns.
    pub async fn publish_files(
        &self,
        owner: &Did,
        expected: ReleaseId,
        files: &Files,
    ) -> Result<PublishReport, PublishError> {
        let release = signed_release(files, expected)?;
        self.send(owner, &release, files, Held::Kept).await
    }

    /// The same, but nothing that the store holds already is relied on: everything is written again. This is how a
    /// damaged store is mended.
    ///
    /// # Errors
    /// As of [`Self::publish_files`].
    pub async fn republish_files(
        &self,
        owner: &Did,
        expected: ReleaseId,
        files: &Files,
    ) -> Result<PublishReport, PublishError> {
        let release = signed_release(files, expected)?;
        self.send(owner, &release, files, Held::Overwritten).await
    }

    /// Uploads what the store lacks of a release, the manifest last. Every file is hashed before the first upload, and
    /// again as it is sent. Doing it again is harmless, and sends nothing.
    ///
    /// # Errors
    /// [`PublishError`]; what was uploaded until then is kept and found by the next try.
    pub async fn publish(
        &self,
        owner: &Did,
        release: &Release,
        source: &dyn BlobSource,
    ) -> Result<PublishReport, PublishError> {
        self.send(owner, release, source, Held::Kept).await
    }

    async fn send(
        &self,
        owner: &Did,
        release: &Release,
        source: &dyn BlobSource,
        held: Held,
    ) -> Result<PublishReport, PublishError> {
        let mut report =
            PublishReport { release: release.id(), uploaded_blobs: 0, uploaded_bytes: 0, present_blobs: 0 };
        let blobs: BTreeMap<BlobDigest, &str> =
            release.files().iter().map(|(path, file)| (file.sha256, path.as_str())).collect();
        if held == Held::Kept && self.release_exists(owner, release.id()).await? {
            report.present_blobs = blobs.len() as u64;
            return Ok(report);
        }
        for (path, file) in release.files() {
            read_verified(source, path, file.sha256).await?;
        }
        // Boxed one by one: the compiler cannot tell that a mapped stream of them may move between threads.
        let mut uploads = Vec::with_capacity(blobs.len());
        for (digest, path) in blobs {
            uploads.push(self.upload(owner, digest, path, source, held).boxed());
        }
        let mut uploads = stream::iter(uploads).buffer_unordered(CONCURRENCY);
        while let Some(outcome) = uploads.try_next().await? {
            match outcome {
                Outcome::Present => report.present_blobs += 1,
                Outcome::Uploaded(bytes) => {
                    report.uploaded_blobs += 1;
                    report.uploaded_bytes += bytes;
                }
            }
        }
        let manifest = Bytes::copy_from_slice(release.to_json());
        self.store.put(&self.release_key(owner, release.id()), manifest, JSON).await?;
        Ok(report)
    }

    async fn upload(
        &self,
        owner: &Did,
        digest: BlobDigest,
        path: &str,
        source: &dyn BlobSource,
        held: Held,
    ) -> Result<Outcome, PublishError> {
        let key = self.blob_key(owner, digest);
        let bytes = read_verified(source, path, digest).await?;
        let size = bytes.len() as u64;
        // Another size under this name is a write that was cut: it is written again.
        if held == Held::Kept && self.store.head(&key).await? == Some(size) {
            return Ok(Outcome::Present);
        }
        self.store.put(&key, bytes, BYTES).await?;
        Ok(Outcome::Uploaded(size))
    }

    /// Whether a release is whole in the store.
    ///
    /// # Errors
    /// [`StoreError`]: then it is not known.
    pub async fn release_exists(&self, owner: &Did, id: ReleaseId) -> Result<bool, StoreError> {
        Ok(self.store.head(&self.release_key(owner, id)).await?.is_some())
    }

    /// The manifest of a release, verified; `None` when the store has none.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what is stored does not hash to the id, and the store's own errors.
    pub async fn load_release(&self, owner: &Did, id: ReleaseId) -> Result<Option<Release>, StoreError> {
        let key = self.release_key(owner, id);
        let Some(bytes) = self.store.get(&key, MAX_MANIFEST_BYTES).await? else { return Ok(None) };
        match Release::parse(&bytes) {
            Ok(release) if release.id() == id => Ok(Some(release)),
            Ok(_) | Err(_) => Err(StoreError::Corrupt { key, found: BlobDigest::of(&bytes).to_string() }),
        }
    }

    /// Opens a file. Its last bytes come only once all together hash to its name, so who has them all has the file.
    ///
    /// # Errors
    /// [`StoreError::Lost`], and the store's own errors. What is stored under the name and is something else ends in
    /// [`StoreError::Corrupt`], and a size that is not the manifest's in [`StoreError::OtherSize`].
    pub async fn open_blob(&self, owner: &Did, file: &FileEntry) -> Result<Pieces, StoreError> {
        let key = self.blob_key(owner, file.sha256);
        match self.store.open(&key, file.size).await? {
            Some(pieces) => Ok(verified(pieces, key, file)),
            None => Err(StoreError::Lost(key)),
        }
    }

    /// Every key of an owner starts with this: a fixed length, and nothing an owner writes.
    fn owner_prefix(&self, owner: &Did) -> String {
        format!("{}{}", self.prefix, BlobDigest::of(owner.as_str().as_bytes()))
    }

    fn release_key(&self, owner: &Did, id: ReleaseId) -> String {
        format!("{}/releases/{}.json", self.owner_prefix(owner), id.hex())
    }

    fn blob_key(&self, owner: &Did, digest: BlobDigest) -> String {
        format!("{}/blobs/{digest}", self.owner_prefix(owner))
    }
}

fn signed_release(files: &Files, expected: ReleaseId) -> Result<Release, PublishError> {
    let release = Release::from_files(files)?;
    if release.id() == expected {
        Ok(release)
    } else {
        Err(PublishError::DigestMismatch { expected, found: release.id() })
    }
}

async fn read_verified(source: &dyn BlobSource, path: &str, expected: BlobDigest) -> Result<Bytes, PublishError> {
    let read = source.read(path).await.map_err(|cause| PublishError::Read { path: path.to_owned(), cause })?;
    let bytes = read.ok_or_else(|| PublishError::FileMissing { path: path.to_owned() })?;
    let found = BlobDigest::of(&bytes);
    if found == expected { Ok(bytes) } else { Err(PublishError::FileChanged { path: path.to_owned(), found }) }
}

/// The same bytes, hashed on the way; one piece is held back until it is known what follows.
fn verified(pieces: Pieces, key: String, file: &FileEntry) -> Pieces {
    let FileEntry { sha256, size: expected, media_type: _ } = *file;
    let start = Verifying { pieces, key, sha256, expected, hash: Sha256::new(), size: 0, held: None };
    let verified = stream::try_unfold(Some(start), async |state| {
        let Some(mut state) = state else { return Ok(None) };
        while let Some(piece) = state.pieces.try_next().await? {
            state.hash.update(&piece);
            state.size += piece.len() as u64;
            if let Some(earlier) = state.held.replace(piece) {
                return Ok(Some((earlier, Some(state))));
            }
        }
        let Verifying { pieces: _, key, sha256, expected, hash, size, held } = state;
        let found = BlobDigest::from_bytes(hash.finalize().into());
        if found != sha256 {
            return Err(StoreError::Corrupt { key, found: found.to_string() });
        }
        if size != expected {
            return Err(StoreError::OtherSize { key, expected, found: size });
        }
        Ok(held.map(|last| (last, None)))
    });
    verified.boxed()
}

/// A file that is on its way.
struct Verifying {
    pieces: Pieces,
    key: String,
    sha256: BlobDigest,
    expected: u64,
    hash: Sha256,
    size: u64,
    held: Option<Bytes>,
}

#[cfg(test)]
pub(crate) mod tests;
