//! Files from elsewhere: a gzip-compressed tar archive over HTTP, or a ConfigMap.
//!
//! The address of an archive is written by a tenant, and the request leaves from the operator's network. So each
//! name is resolved here, every address is judged before the connection, and the connection goes to the judged
//! address and nowhere else; after a redirect the same again. The bytes are hashed before they are unpacked.

mod address;
mod fetch;
mod unpack;

use std::{collections::BTreeMap, fmt, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use k8s_openapi::ByteString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use address::AddressKind;
use unpack::unpack;

use super::{BlobDigest, Files};

/// Archives held in memory at one time by one [`ArchiveFetcher`].
const IN_MEMORY: usize = 2;

/// What the operator accepts as an archive, whoever provides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivePolicy {
    /// Whether archives may lie at private, loopback and link-local addresses. For clusters without a way out and
    /// for tests; with it, a tenant can make the operator ask any address in its network.
    pub allow_private_addresses: bool,
    /// Most bytes that are downloaded.
    pub max_archive_bytes: u64,
    /// Most bytes that all files have together, unpacked.
    pub max_bytes: u64,
    /// Most files.
    pub max_files: u64,
    /// How many times larger than its compressed form an archive may become (beyond the first MiB).
    pub max_ratio: u64,
    /// Most redirects followed.
    pub max_redirects: usize,
    /// Longest silence of a server.
    pub read_timeout: Duration,
    /// Time for everything, from the name to the last byte.
    pub timeout: Duration,
}

impl Default for ArchivePolicy {
    fn default() -> Self {
        Self {
            allow_private_addresses: false,
            max_archive_bytes: 64 << 20,
            max_bytes: 128 << 20,
            max_files: 20_000,
            max_ratio: 200,
            max_redirects: 3,
            read_timeout: Duration::from_secs(10),
            timeout: Duration::from_mins(2),
        }
    }
}

/// What a provider permits of one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Most bytes that all files have together.
    pub max_bytes: u64,
    /// Most files.
    pub max_files: u64,
}

/// The most there may be of something, and by whose word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// So many are accepted, and no more.
    pub most: u64,
    /// Whose limit it is.
    pub whose: Whose,
}

/// Who set a limit, and so could change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// [`ArchivePolicy`].
    Operator,
    /// [`Quota`].
    Provider,
}

impl fmt::Display for Whose {
    /// The end of a sentence: what the limit is, and what to do.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Operator => "the most that the operator takes from an archive. Make it smaller and sign again",
            Self::Provider => {
                "the most that this provider's quota leaves room for. Make it smaller and sign again, or ask the provider"
            }
        })
    }
}

impl Bound {
    fn smaller(operator: u64, provider: u64) -> Self {
        let whose = if provider < operator { Whose::Provider } else { Whose::Operator };
        Self { most: operator.min(provider), whose }
    }
}

/// What holds for one archive.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes that are downloaded.
    archive_bytes: Bound,
    /// Bytes that all files have together.
    bytes: Bound,
    /// Files.
    files: Bound,
    /// See [`ArchivePolicy::max_ratio`].
    ratio: u64,
}

impl ArchivePolicy {
    /// The smaller one of each limit and the quota.
    fn within(&self, quota: Quota) -> Limits {
        let Quota { max_bytes, max_files } = quota;
        Limits {
            archive_bytes: Bound::smaller(self.max_archive_bytes, unpack::packed(max_bytes, max_files)),
            bytes: Bound::smaller(self.max_bytes, max_bytes),
            files: Bound::smaller(self.max_files, max_files),
            ratio: self.max_ratio,
        }
    }
}

/// Why an archive gives no files.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It could not be fetched now: try again later.
    #[error("the archive {url} could not be fetched: {cause}. The operator tries again")]
    Unavailable {
        /// Address asked.
        url: String,
        /// What went wrong.
        cause: String,
    },
    /// Other bytes than those signed for.
    #[error(
        "the archive {url} has SHA-256 {found}, but the spec names {expected}; put the archive back, or sign the spec for the new one"
    )]
    DigestMismatch {
        /// Address asked.
        url: String,
        /// SHA-256 in the spec.
        expected: BlobDigest,
        /// SHA-256 of what came.
        found: BlobDigest,
    },
    /// It holds, or is, something that is never accepted.
    #[error("the archive is refused: {0}")]
    Refused(Refused),
    /// It passes a limit.
    #[error("the archive is too large: {0}")]
    TooLarge(TooLarge),
}

/// What is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The address is no `http` or `https` URL with a host and without credentials.
    #[error("the address {0} is no plain http or https URL with a host and without user and password")]
    Url(String),
    /// The host lies in a network that tenants are not led into.
    #[error("{host} is at {address}, a {kind} address; archives must lie at public addresses")]
    Address {
        /// Host in the URL.
        host: String,
        /// Address it stands for.
        address: std::net::IpAddr,
        /// What sort of address that is.
        kind: AddressKind,
    },
    /// More redirects than followed, or one from `https` to `http`.
    #[error("it is redirected {0}")]
    Redirect(&'static str),
    /// The bytes are no gzip-compressed tar archive.
    #[error("it cannot be read as a gzip-compressed tar archive: {0}")]
    Format(String),
    /// A path that is not in any release.
    #[error("it holds the path {path:?}: {reason}")]
    Path {
        /// The path as it stands in the archive.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A link, device, pipe or other entry that is no plain file.
    #[error("it holds {path:?}, which is a {kind}; only plain files and folders are accepted")]
    NotAFile {
        /// The path as it stands in the archive.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// One path twice.
    #[error("it holds the path {0:?} twice")]
    Duplicate(String),
    /// It becomes so much larger that it was made to.
    #[error("it grows to more than {0} times its size, which no honest archive does")]
    Bomb(u64),
}

/// Which limit is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The download.
    #[error("more than {} bytes to download, {}", .0.most, .0.whose)]
    Download(Bound),
    /// The files together.
    #[error("more than {} bytes unpacked, {}", .0.most, .0.whose)]
    Unpacked(Bound),
    /// The number of files.
    #[error("more than {} files, {}", .0.most, .0.whose)]
    Files(Bound),
}

/// The files of an archive. While this lives, it counts as one of the few that are in memory.
#[derive(Debug)]
pub struct Fetched {
    /// Path → bytes.
    pub files: Files,
    _slot: Option<OwnedSemaphorePermit>,
}

impl From<Files> for Fetched {
    /// Files that came in some other way, and count as nothing.
    fn from(files: Files) -> Self {
        Self { files, _slot: None }
    }
}

/// Decides whether a connection may go to an address.
type Admission = dyn Fn(SocketAddr) -> Result<(), AddressKind> + Send + Sync;

/// Fetches archives under one policy, a few at a time.
#[derive(Clone)]
pub struct ArchiveFetcher {
    policy: ArchivePolicy,
    admission: Arc<Admission>,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for ArchiveFetcher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ArchiveFetcher").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl ArchiveFetcher {
    /// Fetches under this policy.
    #[must_use]
    pub fn new(policy: ArchivePolicy) -> Self {
        let private = policy.allow_private_addresses;
        let admission = move |address: SocketAddr| match address::kind(address.ip()) {
            AddressKind::Public => Ok(()),
            // Nothing listens for tenants there even in a cluster without a way out.
            kind @ (AddressKind::Multicast | AddressKind::Unspecified) => Err(kind),
            _ if private => Ok(()),
            kind => Err(kind),
        };
        Self::with_admission(policy, Arc::new(admission))
    }

    fn with_admission(policy: ArchivePolicy, admission: Arc<Admission>) -> Self {
        Self { policy, admission, slots: Arc::new(Semaphore::new(IN_MEMORY)) }
    }

    /// Fetches an archive, compares its SHA-256, and unpacks it. Of the policy's limits and the quota the smaller ones
    /// hold, so that nothing is fetched in vain. Who comes while others are in memory is sent away rather than kept
    /// waiting: slow servers are to delay nobody but those who name them.
    ///
    /// # Errors
    /// [`ArchiveError`]; only [`ArchiveError::Unavailable`] may pass by itself.
    pub async fn fetch(&self, url: &str, sha256: BlobDigest, quota: Quota) -> Result<Fetched, ArchiveError> {
        let failed = |cause: String| ArchiveError::Unavailable { url: url.to_owned(), cause };
        let limits = self.policy.within(quota);
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| failed(format!("{IN_MEMORY} others are being fetched")))?;
        let work = async {
            let archive = fetch::download(url, &self.policy, limits.archive_bytes, self.admission.as_ref()).await?;
            let address = url.to_owned();
            let unpacking = tokio::task::spawn_blocking(move || {
                let found = BlobDigest::of(&archive);
                if found != sha256 {
                    return Err(ArchiveError::DigestMismatch { url: address, expected: sha256, found });
                }
                // With the slot, since this goes on when nobody waits for it any more.
                Ok(Fetched { files: unpack(&archive, &limits)?, _slot: Some(slot) })
            });
            unpacking.await.map_err(|error| failed(error.to_string()))?
        };
        match tokio::time::timeout(self.policy.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(failed(format!("it did not come whole within {} s", self.policy.timeout.as_secs()))),
        }
    }
}

/// The files of an archive that is at hand: path → bytes. It is held to what an archive is held to that is fetched.
///
/// # Errors
/// [`ArchiveError::Refused`] and [`ArchiveError::TooLarge`].
pub fn unpacked(archive: &[u8], policy: &ArchivePolicy) -> Result<Files, ArchiveError> {
    unpack(archive, &policy.within(Quota { max_bytes: u64::MAX, max_files: u64::MAX }))
}

/// The files of a ConfigMap: each key of `data` and `binaryData` is a file. The API server sees to it that no key
/// stands in both.
#[must_use]
pub fn from_config_map(
    data: Option<&BTreeMap<String, String>>,
    binary_data: Option<&BTreeMap<String, ByteString>>,
) -> Files {
    let text = data.into_iter().flatten().map(|(name, text)| (name.clone(), Bytes::copy_from_slice(text.as_bytes())));
    let binary =
        binary_data.into_iter().flatten().map(|(name, bytes)| (name.clone(), Bytes::copy_from_slice(&bytes.0)));
    text.chain(binary).collect()
}

#[cfg(test)]
mod tests;
