//! The operator's side of site servers: what to serve, and the bytes of it, for the current attempt's key only.
//!
//! | path | answer |
//! |---|---|
//! | `GET /v1/sites/{namespace}/{name}?serving=&known=` | the target, signed; waits while there is nothing new, then 204 |
//! | `GET /v1/releases/{id}?site=` | the manifest of the targeted release |
//! | `GET /v1/blobs/{sha256}?site=` | one file of the targeted release |
//!
//! Each request is judged anew, and so is the deployment's own verdict: past its end, or with a link revoked, the
//! answer is 403. No credential of the store leaves the operator.

mod body;

use std::{fmt, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::TryStreamExt as _;
use serde::Deserialize;
use tokio::{sync::Semaphore, time::Instant};

use self::body::Turn;
pub use self::body::patience as blob_patience;
use super::{
    site_protocol::{CLOCK_SKEW, REQUEST_LIFETIME, ReadMessage, SCHEME, SiteName},
    site_table::{Backing, SiteReport, SiteTable, SiteTarget},
};
use crate::{
    capability::{Did, Envelope, Expectation, MAX_INVOCATION, Nanos, Reason, Refusal, RevocationKey, judge},
    store::{BlobDigest, Release, ReleaseId, StoreError},
};

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> Nanos + Send + Sync>;
/// Tells whether a link was taken back.
pub type Revocations = Arc<dyn Fn(&RevocationKey) -> bool + Send + Sync>;

/// How long a site waits for news at most.
pub const PATIENCE: Duration = Duration::from_secs(25);
/// Blobs on their way to all sites at one time. Each has pieces of some hundred KiB in memory.
const READS: usize = 32;
/// Manifests that are read from the store at one time; each is held whole.
const LOADS: usize = 2;
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// What the router needs.
#[derive(Clone)]
pub struct SiteService {
    /// Who may serve what.
    pub table: SiteTable,
    /// The wall clock.
    pub clock: Clock,
    /// The revocations in force.
    pub revoked: Revocations,
    /// How long a site waits for news; [`PATIENCE`] but in tests.
    pub patience: Duration,
    /// How long a site may take over a blob of so many bytes; [`blob_patience`] but in tests.
    pub blob_patience: fn(u64) -> Duration,
}

impl fmt::Debug for SiteService {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SiteService").field("table", &self.table).finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Shared {
    service: SiteService,
    reads: Arc<Semaphore>,
    loads: Arc<Semaphore>,
}

/// The router of the paths above. It is not to stand below a prefix that the site does not see.
pub fn router(service: SiteService) -> Router {
    let (reads, loads) = (Arc::new(Semaphore::new(READS)), Arc::new(Semaphore::new(LOADS)));
    let shared = Shared { service, reads, loads };
    Router::new()
        .route("/v1/sites/{namespace}/{name}", get(answer_target))
        .route("/v1/releases/{id}", get(answer_release))
        .route("/v1/blobs/{sha256}", get(answer_blob))
        .with_state(shared)
}

/// Why a request is not answered.
#[derive(Debug, thiserror::Error)]
enum Denial {
    #[error("the operator has no store yet; ask again")]
    NotReady,
    #[error("the request cannot be read: {0}")]
    Malformed(&'static str),
    #[error("{code}: {0}", code = .0.reason.code())]
    Refused(#[from] Refusal),
    #[error("NotCurrent: this is not the key of the current attempt of a deployment that the operator serves now")]
    NotCurrent,
    #[error("{0} is not part of the release that this site is to serve")]
    NotTargeted(String),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the answer could not be written")]
    Answer,
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotReady | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Refused(_) | Self::NotCurrent => StatusCode::FORBIDDEN,
            Self::NotTargeted(_) => StatusCode::NOT_FOUND,
            Self::Answer => StatusCode::INTERNAL_SERVER_ERROR,
        };
        tracing::debug!(%status, reason = %self, "a site's request is not answered");
        // The store's own words name its address and keys, which are no business of a device.
        let text = match self {
            Self::Store(_) => "the store did not give it; ask again".to_owned(),
            other => other.to_string(),
        };
        let mut response = (status, format!("{text}\n")).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        response
    }
}

/// A request that was judged.
struct Admitted {
    backing: Arc<Backing>,
    signer: Did,
    nonce: u64,
    time: Nanos,
}

impl Shared {
    fn now(&self) -> Nanos {
        (self.service.clock)()
    }

    /// Judges a request. Who asks for a deployment that is not here goes the same way to the same refusals, so that
    /// nobody learns which ones exist.
    fn admit(&self, parts: &Parts, site: &SiteName) -> Result<Admitted, Denial> {
        let SiteService { table, revoked, .. } = &self.service;
        let backing = table.backing().ok_or(Denial::NotReady)?;
        let now = self.now();
        let provider = backing.provider.did();
        let target = table.target(site);
        let behaviour = site.read_capability().map_err(|_| Denial::Malformed("the deployment's name"))?;
        let bytes = envelope_bytes(parts)?;
        let expectation = Expectation {
            provider,
            anchors: std::slice::from_ref(provider),
            owner: target.as_ref().map_or(provider, |target| &target.site),
            behaviour: &behaviour,
            revoked: revoked.as_ref(),
            // The chain is the provider's word to a key that it made for the site.
            denied: &|_| false,
            now,
        };
        let verdict = judge(&bytes, &expectation).map_err(|refusal| match refusal.reason {
            Reason::OwnerMismatch => Denial::NotCurrent,
            _ => Denial::Refused(refusal),
        })?;
        let envelope = Envelope::parse(&bytes)?;
        let message: ReadMessage =
            serde_json::from_slice(&verdict.message).map_err(|_| Denial::Malformed("the signed message"))?;
        check_request(&message, envelope.expires, parts, now)?;
        self.current(site, &verdict.signer)?;
        Ok(Admitted { backing, signer: verdict.signer, nonce: envelope.nonce, time: message.time })
    }

    /// What the site with this key is to serve now: tested at every request, and again after every wait.
    fn current(&self, site: &SiteName, signer: &Did) -> Result<SiteTarget, Denial> {
        let target = self.service.table.target(site).filter(|target| target.site == *signer);
        let target = target.ok_or(Denial::NotCurrent)?;
        let refused = |reason, message: &str| Err(Denial::Refused(Refusal::new(reason, None, message)));
        if target.not_after < self.now() {
            return refused(Reason::Expired, "the authorisation of the deployment has expired");
        }
        if target.links.iter().any(|link| (self.service.revoked)(link)) {
            return refused(Reason::Revoked, "a link of the deployment's authorisation was revoked");
        }
        Ok(target)
    }

    /// The manifest of the targeted release.
    async fn manifest(&self, site: &SiteName, target: &SiteTarget, backing: &Backing) -> Result<Arc<Release>, Denial> {
        let kept = || self.service.table.manifest(site).filter(|release| release.id() == target.release);
        if let Some(release) = kept() {
            return Ok(release);
        }
        let _load = self.loads.acquire().await.map_err(|_| Denial::NotReady)?;
        // Another request may have read it meanwhile.
        if let Some(release) = kept() {
            return Ok(release);
        }
        let loaded = backing.publisher.load_release(&target.owner, target.release).await;
        let loaded =
            loaded.and_then(|found| found.ok_or_else(|| StoreError::Lost(format!("the release {}", target.release))));
        let release = Arc::new(loaded.inspect_err(|error| self.store_failed(site, target.release, error))?);
        self.service.table.keep_manifest(site, &release);
        Ok(release)
    }

    /// What the store lost or spoilt is told to people, and to the controller, which may have a source for it.
    fn store_failed(&self, site: &SiteName, release: ReleaseId, error: &StoreError) {
        if error.is_damage() {
            tracing::warn!(
                %site, %release, %error,
                "the store does not hold what was published; it is published anew from spec.content.from. A deployment \
                 without that needs the release uploaded again"
            );
            self.service.table.note_damage(site, release);
        }
    }

    /// Waits until the site may read a blob. A site that holds all of its own keeps no other one waiting.
    async fn turn(&self, site: &SiteName) -> Result<Turn, Denial> {
        let reads = self.service.table.reads(site).ok_or(Denial::NotCurrent)?;
        let of_site = reads.acquire_owned().await.map_err(|_| Denial::NotReady)?;
        let of_all = self.reads.clone().acquire_owned().await.map_err(|_| Denial::NotReady)?;
        Ok((of_site, of_all))
    }
}

fn envelope_bytes(parts: &Parts) -> Result<Vec<u8>, Denial> {
    let malformed = Denial::Malformed("it has no `Authorization: DMS <base64>` header");
    let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((SCHEME, encoded)) = value.and_then(|value| value.split_once(' ')) else { return Err(malformed) };
    if encoded.len() > MAX_INVOCATION.div_ceil(3) * 4 {
        return Err(Denial::Malformed("its envelope is too large"));
    }
    STANDARD.decode(encoded).map_err(|_| malformed)
}

/// The signature is over one request, made just now.
fn check_request(message: &ReadMessage, expires: Nanos, parts: &Parts, now: Nanos) -> Result<(), Denial> {
    let ReadMessage { method, path, time } = message;
    let asked = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if method != parts.method.as_str() || path != asked {
        return Err(Denial::Malformed("it is signed for another request"));
    }
    let latest = now.plus(REQUEST_LIFETIME + CLOCK_SKEW);
    let earliest = now.minus(REQUEST_LIFETIME + CLOCK_SKEW);
    if expires > latest || *time > latest || *time < earliest {
        return Err(Denial::Malformed("it is signed for longer than a minute, or the clocks differ by more than 30 s"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollQuery {
    /// The release that the site serves whole.
    serving: Option<ReleaseId>,
    /// Version of the target that the site has put in place.
    known: Option<String>,
}

async fn answer_target(
    State(shared): State<Shared>,
    Path((namespace, name)): Path<(String, String)>,
    Query(query): Query<PollQuery>,
    request: Request,
) -> Result<Response, Denial> {
    let site = SiteName::new(&namespace, &name).map_err(|_| Denial::Malformed("the deployment's name"))?;
    let (parts, _) = request.into_parts();
    let admitted = shared.admit(&parts, &site)?;
    let PollQuery { serving, known } = query;
    shared.service.table.note(&site, &admitted.signer, SiteReport { serving, time: admitted.time });

    let deadline = Instant::now() + shared.service.patience;
    loop {
        let changes = shared.service.table.changes(&site).ok_or(Denial::NotCurrent)?;
        let mut change = std::pin::pin!(changes.notified());
        // Enlisted before the look at the target, so that no change is missed in between.
        change.as_mut().enable();
        let target = shared.current(&site, &admitted.signer)?.target();
        let nothing_new = match &known {
            Some(known) => *known == target.version(),
            None => serving == Some(target.release),
        };
        if !nothing_new {
            let provider = &admitted.backing.provider;
            let signed = target.answer(provider, &admitted.signer, admitted.nonce, shared.now());
            return Ok(answer("application/json", signed.map_err(|_| Denial::Answer)?.into()));
        }
        if tokio::time::timeout_at(deadline, change).await.is_err() {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SiteQuery {
    site: String,
}

impl SiteQuery {
    fn name(&self) -> Result<SiteName, Denial> {
        self.site.parse().map_err(|_| Denial::Malformed("the deployment's name"))
    }
}

async fn answer_release(
    State(shared): State<Shared>,
    Path(id): Path<ReleaseId>,
    Query(query): Query<SiteQuery>,
    request: Request,
) -> Result<Response, Denial> {
    let site = query.name()?;
    let (parts, _) = request.into_parts();
    let admitted = shared.admit(&parts, &site)?;
    let target = shared.current(&site, &admitted.signer)?;
    if id != target.release {
        return Err(Denial::NotTargeted(id.to_string()));
    }
    let release = shared.manifest(&site, &target, &admitted.backing).await?;
    Ok(answer("application/json", Bytes::from_owner(Manifest(release)).into()))
}

/// The bytes of a manifest, shared by all who are being sent them.
struct Manifest(Arc<Release>);

impl AsRef<[u8]> for Manifest {
    fn as_ref(&self) -> &[u8] {
        self.0.to_json()
    }
}

async fn answer_blob(
    State(shared): State<Shared>,
    Path(digest): Path<BlobDigest>,
    Query(query): Query<SiteQuery>,
    request: Request,
) -> Result<Response, Denial> {
    let site = query.name()?;
    let (parts, _) = request.into_parts();
    let admitted = shared.admit(&parts, &site)?;
    shared.current(&site, &admitted.signer)?;
    let turn = shared.turn(&site).await?;
    let target = shared.current(&site, &admitted.signer)?;
    let release = shared.manifest(&site, &target, &admitted.backing).await?;
    let absent = || Denial::NotTargeted(digest.to_string());
    let file = release.files().values().find(|file| file.sha256 == digest).ok_or_else(absent)?;
    let (teller, about) = (shared.clone(), site.clone());
    let failed = move |error: &StoreError| teller.store_failed(&about, target.release, error);
    let opened = admitted.backing.publisher.open_blob(&target.owner, file).await;
    let mut pieces = opened.inspect_err(&failed)?;
    // What fails at once is answered as a failure.
    let first = pieces.try_next().await.inspect_err(&failed)?;
    let body = body::body(first, pieces, turn, (shared.service.blob_patience)(file.size), failed);
    let mut response = answer("application/octet-stream", body);
    response.headers_mut().insert(header::CONTENT_LENGTH, file.size.into());
    Ok(response)
}

fn answer(media_type: &'static str, body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, media_type), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

#[cfg(test)]
pub(crate) mod tests;
