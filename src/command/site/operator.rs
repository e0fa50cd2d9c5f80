//! Asking the operator.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use jiff::Timestamp;
use reqwest::{Client, Response, StatusCode, Url, header, redirect};

use crate::{
    capability::Nanos,
    gateway::{
        site::PATIENCE,
        site_protocol::{AnswerError, SigningError, SiteCredentials, Target},
    },
    store::{
        BlobDigest, Release, ReleaseId,
        release::{MAX_MANIFEST_BYTES, ReleaseError},
    },
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence on a connection; a poll is silent while it waits.
const READ_TIMEOUT: Duration = PATIENCE.saturating_add(Duration::from_secs(10));
const ANSWER_LIMIT: u64 = 64 << 10;
/// Longest text of a refusal that is repeated, in characters.
const LONGEST_REASON: usize = 300;

/// Why the operator gave nothing usable.
#[derive(Debug, thiserror::Error)]
pub(super) enum OperatorError {
    #[error("the operator at {url} could not be reached: {cause}")]
    Unreachable { url: Url, cause: String },
    #[error("the operator answered {status}: {reason}")]
    Refused { status: StatusCode, reason: String },
    #[error(transparent)]
    Answer(#[from] AnswerError),
    #[error("the operator's answer is longer than {0} bytes")]
    TooLong(u64),
    #[error("the operator sent another release than {expected}: {found}")]
    OtherRelease { expected: ReleaseId, found: ReleaseId },
    #[error(transparent)]
    Release(#[from] ReleaseError),
    #[error(transparent)]
    Signing(#[from] SigningError),
}

/// The operator, as this site sees it.
pub(super) struct Operator {
    client: Client,
    url: Url,
    base: String,
    credentials: SiteCredentials,
}

impl Operator {
    pub(super) fn new(url: Url, credentials: SiteCredentials) -> Result<Self, reqwest::Error> {
        // No redirects: the signature is for this operator, and it never redirects.
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            .user_agent(concat!("dms-operator-site/", env!("CARGO_PKG_VERSION")))
            .build()?;
        let base = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, url, base, credentials })
    }

    /// What to serve, once it is other than what is in place; `None` when nothing changed for a while.
    pub(super) async fn poll(
        &self,
        in_place: Option<&Target>,
        serving: Option<ReleaseId>,
    ) -> Result<Option<Target>, OperatorError> {
        let site = &self.credentials.site;
        let mut query = Vec::new();
        query.extend(serving.map(|release| format!("serving={release}")));
        query.extend(in_place.map(|target| format!("known={}", target.version())));
        let path = match query.as_slice() {
            [] => format!("/v1/sites/{site}"),
            query => format!("/v1/sites/{site}?{}", query.join("&")),
        };
        let (response, request) = self.get(&path).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let answer = self.collect(response, ANSWER_LIMIT).await?;
        let SiteCredentials { key, provider, .. } = &self.credentials;
        Ok(Some(Target::from_answer(&answer, provider, key.did(), request, now())?))
    }

    /// The manifest of a release, verified.
    pub(super) async fn release(&self, id: ReleaseId) -> Result<Release, OperatorError> {
        let path = format!("/v1/releases/{id}?site={}", self.credentials.site);
        let (response, _) = self.get(&path).await?;
        let release = Release::parse(&self.collect(response, MAX_MANIFEST_BYTES).await?)?;
        if release.id() == id {
            Ok(release)
        } else {
            Err(OperatorError::OtherRelease { expected: id, found: release.id() })
        }
    }

    /// The bytes of a blob as they come; not verified.
    pub(super) async fn blob(
        &self,
        digest: BlobDigest,
    ) -> Result<impl Stream<Item = Result<Bytes, OperatorError>> + Send + use<>, OperatorError> {
        let path = format!("/v1/blobs/{digest}?site={}", self.credentials.site);
        let (response, _) = self.get(&path).await?;
        let url = self.url.clone();
        Ok(response.bytes_stream().map_err(move |error| unreachable(&url, &error)))
    }

    /// A signed GET; returns the nonce that names the request.
    async fn get(&self, path: &str) -> Result<(Response, u64), OperatorError> {
        let nonce = rand::random();
        let authorization = self.credentials.authorization(path, now(), nonce, rand::random())?;
        let request = self.client.get(format!("{}{path}", self.base)).header(header::AUTHORIZATION, authorization);
        let response = request.send().await.map_err(|error| unreachable(&self.url, &error))?;
        let status = response.status();
        if status.is_success() {
            return Ok((response, nonce));
        }
        let reason = self.collect(response, ANSWER_LIMIT).await.unwrap_or_default();
        let reason = String::from_utf8_lossy(&reason).trim().chars().take(LONGEST_REASON).collect();
        Err(OperatorError::Refused { status, reason })
    }

    async fn collect(&self, mut response: Response, limit: u64) -> Result<Vec<u8>, OperatorError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| unreachable(&self.url, &error))? {
            if (body.len() + piece.len()) as u64 > limit {
                return Err(OperatorError::TooLong(limit));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

fn unreachable(url: &Url, error: &reqwest::Error) -> OperatorError {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    let cause = if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") };
    OperatorError::Unreachable { url: url.clone(), cause }
}

fn now() -> Nanos {
    Nanos::from_timestamp(Timestamp::now())
}
