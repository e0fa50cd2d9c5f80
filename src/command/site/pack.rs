//! The bytes of one release in one file without a name: nothing is left when the process ends, however it ends.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};
use sha2::{Digest as _, Sha256};

use crate::store::{BlobDigest, Release};

/// Bytes read or written at one time.
pub(super) const CHUNK: usize = 256 * 1024;

#[derive(Clone, Copy, Debug)]
struct Span {
    offset: u64,
    size: u64,
}

/// Blobs side by side in one file.
#[derive(Debug)]
pub(super) struct Pack {
    file: Arc<File>,
    spans: BTreeMap<BlobDigest, Span>,
}

impl Pack {
    /// A pack with a place for each blob of a release; nothing is in it yet.
    pub(super) async fn for_release(release: &Release) -> io::Result<Self> {
        let mut spans = BTreeMap::new();
        let mut offset = 0_u64;
        for (digest, size) in release.blobs() {
            spans.insert(digest, Span { offset, size });
            offset = offset.checked_add(size).ok_or(io::ErrorKind::FileTooLarge)?;
        }
        let file = blocking(tempfile::tempfile).await?;
        Ok(Self { file: Arc::new(file), spans })
    }

    /// Size of a blob, when it has a place here.
    pub(super) fn size(&self, digest: &BlobDigest) -> Option<u64> {
        self.spans.get(digest).map(|span| span.size)
    }

    /// Loses everything, as a faulty disk would.
    #[cfg(test)]
    pub(super) fn lose(&self) {
        self.file.set_len(0).unwrap();
    }

    /// Writes blobs piece by piece.
    pub(super) fn writer(&self, digest: BlobDigest) -> io::Result<BlobWriter> {
        let span = *self.spans.get(&digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(BlobWriter { file: self.file.clone(), digest, span, written: 0, hash: Sha256::new() })
    }

    /// The bytes of a blob, in pieces.
    pub(super) fn stream(&self, digest: &BlobDigest) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        let file = self.file.clone();
        let span = self.spans.get(digest).copied().unwrap_or(Span { offset: 0, size: 0 });
        stream::try_unfold((file, span), |(file, Span { offset, size })| async move {
            let count = size.min(CHUNK as u64);
            if count == 0 {
                return Ok(None);
            }
            let reader = file.clone();
            let piece = blocking(move || {
                let mut piece = vec![0; usize::try_from(count).unwrap_or(CHUNK)];
                reader.read_exact_at(&mut piece, offset)?;
                Ok(Bytes::from(piece))
            });
            let rest = Span { offset: offset + count, size: size - count };
            Ok(Some((piece.await?, (file, rest))))
        })
    }
}

/// Takes the bytes of one blob, hashing on the way.
pub(super) struct BlobWriter {
    file: Arc<File>,
    digest: BlobDigest,
    span: Span,
    written: u64,
    hash: Sha256,
}

/// Why a blob is not in its place.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("the file {digest} came with other bytes (SHA-256 {found}) and is not served")]
    Tampered { digest: BlobDigest, found: BlobDigest },
    #[error("the file {digest} came with more than its {size} bytes and is not served")]
    TooLong { digest: BlobDigest, size: u64 },
    #[error("the file {digest} has {written} bytes where the release names {size}, and is not served")]
    TooShort { digest: BlobDigest, size: u64, written: u64 },
    #[error("the release could not be kept on disk: {0}")]
    Disk(#[from] io::Error),
}

impl BlobWriter {
    /// Takes the next bytes.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), WriteError> {
        let Span { offset, size } = self.span;
        let end = self.written + piece.len() as u64;
        if end > size {
            return Err(WriteError::TooLong { digest: self.digest, size });
        }
        self.hash.update(&piece);
        let (file, at) = (self.file.clone(), offset + self.written);
        blocking(move || file.write_all_at(&piece, at)).await?;
        self.written = end;
        Ok(())
    }

    /// Confirms that the blob is whole.
    pub(super) fn finish(self) -> Result<(), WriteError> {
        let Self { file: _, digest, span: Span { offset: _, size }, written, hash } = self;
        let found = BlobDigest::from_bytes(hash.finalize().into());
        if found != digest {
            return Err(WriteError::Tampered { digest, found });
        }
        // A manifest may lie; what it announces of a file is what readers are told.
        if written != size {
            return Err(WriteError::TooShort { digest, size, written });
        }
        Ok(())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, TryStreamExt as _};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_file_has_the_hash_and_the_size_that_the_manifest_names() {
        let bytes = Bytes::from_static(b"a page");
        let digest = BlobDigest::of(&bytes);
        for size in [5, 6, 7] {
            let manifest = json!({"a": {"sha256": digest, "size": size, "type": "text/plain"}});
            let pack = Pack::for_release(&Release::parse(manifest.to_string().as_bytes()).unwrap()).await.unwrap();
            let mut writer = pack.writer(digest).unwrap();
            let written = writer.write(bytes.clone()).await.and_then(|()| writer.finish());
            match (size, written) {
                (6, Ok(())) => assert_eq!(pack.stream(&digest).boxed().try_next().await.unwrap(), Some(bytes.clone())),
                (7, Err(WriteError::TooShort { size: 7, written: 6, .. }))
                | (5, Err(WriteError::TooLong { size: 5, .. })) => {}
                (_, other) => panic!("{size}: {other:?}"),
            }
        }
    }
}
