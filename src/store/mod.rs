//! The object store: releases, and the blobs they are made of.
//!
//! [`ObjectStore`] is the port; [`s3`] speaks to an S3-compatible service, [`memory`] serves tests of the pure parts.
//! Blobs are immutable and named by their hash, so a lost race costs nothing and no precondition of a backend is
//! trusted.

pub mod archive;
pub mod memory;
pub mod publish;
pub mod release;
pub mod s3;

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{TryStreamExt as _, stream::BoxStream};

pub use release::{BlobDigest, Release, ReleaseId};

/// The files of a release in memory: path → bytes.
pub type Files = BTreeMap<String, Bytes>;

/// The bytes of an object, as they come.
pub type Pieces = BoxStream<'static, Result<Bytes, StoreError>>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It did not answer, or answered with an error that may pass: try again later.
    #[error("{action} failed: {cause}. The operator tries again; check the storage service and its endpoint")]
    Unavailable {
        /// What was tried, on which key.
        action: String,
        /// What the service said.
        cause: String,
    },
    /// It refused in a way that does not pass by itself: credentials, bucket, rights.
    #[error("{action} was refused: {cause}. Check the bucket and the credentials named by the HostingProvider")]
    Refused {
        /// What was tried, on which key.
        action: String,
        /// What the service said.
        cause: String,
    },
    /// What it returned is not what was stored.
    #[error("{key} does not hold the bytes its name promises (SHA-256 {found})")]
    Corrupt {
        /// The key read.
        key: String,
        /// SHA-256 of what came.
        found: String,
    },
    /// An object that a release is made of is gone.
    #[error("{0} is not in the store any more")]
    Lost(String),
    /// A manifest gives a file another size than its bytes have, so what is sent could not be what was announced.
    #[error(
        "{key} holds {found} bytes where the manifest of the release names {expected}; make the manifest from the files again, \
         and sign the release that it gives"
    )]
    OtherSize {
        /// The key read.
        key: String,
        /// The size in the manifest, in bytes.
        expected: u64,
        /// The size of what is stored, in bytes.
        found: u64,
    },
    /// An object is larger than anything stored under its key can be.
    #[error("{key} is larger than {limit} bytes, the most that belongs there; it was not read")]
    TooLarge {
        /// The key read.
        key: String,
        /// The limit, in bytes.
        limit: u64,
    },
}

impl StoreError {
    /// Whether it answered, and does not hold what was published: to be mended by publishing again.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        !matches!(self, Self::Unavailable { .. } | Self::Refused { .. })
    }
}

/// A store of immutable objects under keys.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Opens an object of at most `limit` bytes; `None` when there is none under this key. Nothing is read ahead of who
    /// takes the pieces, and a larger object ends in an error.
    async fn open(&self, key: &str, limit: u64) -> Result<Option<Pieces>, StoreError>;
    /// Reads a whole object of at most `limit` bytes; `None` when there is none under this key.
    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, StoreError>;
    /// Whether an object stands under this key, and its size in bytes.
    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError>;
    /// Writes an object; writing the same bytes again is harmless.
    async fn put(&self, key: &str, body: Bytes, media_type: &str) -> Result<(), StoreError>;
}

/// All pieces in one.
pub(crate) async fn whole(pieces: Pieces) -> Result<Bytes, StoreError> {
    let whole = pieces.try_fold(BytesMut::new(), async |mut whole, piece| {
        whole.extend_from_slice(&piece);
        Ok(whole)
    });
    Ok(whole.await?.freeze())
}
