//! An S3-compatible service as [`ObjectStore`].
//!
//! Checksums of the SDK's own choice are off, since several services refuse them; every write carries the SHA-256 of
//! its body instead, which they all check. Large bodies get time in proportion to their size.

use std::{error::Error, fmt, time::Duration};

use async_trait::async_trait;
use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Config, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        http::HttpResponse, retry::RetryConfig, timeout::TimeoutConfig,
    },
    error::{ProvideErrorMetadata, SdkError},
    primitives::ByteStream,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use zeroize::Zeroizing;

use super::{BlobDigest, ObjectStore, Pieces, StoreError, whole};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 3;
/// A body that comes slower than this, in bytes per second, counts as silence.
const SLOWEST_RATE: u64 = 1 << 20;
/// Longest cause kept from a service's answer, in characters.
const MAX_CAUSE: usize = 300;

/// How to reach a bucket.
#[derive(Clone)]
pub struct S3Config {
    /// Address of the service, `http://` or `https://`.
    pub endpoint: String,
    /// Region that requests are signed for.
    pub region: String,
    /// Name of the bucket.
    pub bucket: String,
    /// Start of every key, without a slash at its end; see [`super::publish::Publisher`].
    pub prefix: String,
    /// Whether the bucket stands in the path instead of the host name.
    pub path_style: bool,
    /// Name of the credentials.
    pub access_key_id: String,
    /// The secret of the credentials.
    pub secret_access_key: Zeroizing<String>,
}

impl fmt::Debug for S3Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, region, bucket, prefix, path_style, access_key_id, secret_access_key: _ } = self;
        formatter
            .debug_struct("S3Config")
            .field("endpoint", endpoint)
            .field("region", region)
            .field("bucket", bucket)
            .field("prefix", prefix)
            .field("path_style", path_style)
            .field("access_key_id", access_key_id)
            .field("secret_access_key", &"(redacted)")
            .finish()
    }
}

/// One bucket of an S3-compatible service. Cloning shares the connections.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: Client,
    bucket: String,
    endpoint: String,
}

impl S3Store {
    /// A store that speaks to the service named; nothing is sent yet.
    #[must_use]
    pub fn new(config: &S3Config) -> Self {
        let S3Config { endpoint, region, bucket, prefix: _, path_style, access_key_id, secret_access_key } = config;
        let credentials =
            Credentials::new(access_key_id.clone(), secret_access_key.as_str(), None, None, "HostingProvider");
        let settings = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new(region.clone()))
            .credentials_provider(credentials)
            .force_path_style(*path_style)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
            .timeout_config(timeouts(0))
            .build();
        Self { client: Client::from_conf(settings), bucket: bucket.clone(), endpoint: endpoint.clone() }
    }

    fn action(&self, verb: &str, key: &str) -> String {
        format!("{verb} s3://{}/{key} at {}", self.bucket, self.endpoint)
    }
}

/// Time limits of an operation that carries a body of so many bytes.
fn timeouts(bytes: u64) -> TimeoutConfig {
    let extra = Duration::from_secs(bytes / SLOWEST_RATE);
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT_TIMEOUT + extra)
        .operation_timeout(OPERATION_TIMEOUT + extra * ATTEMPTS)
        .build()
}

#[async_trait]
impl ObjectStore for S3Store {
    async fn open(&self, key: &str, limit: u64) -> Result<Option<Pieces>, StoreError> {
        let action = self.action("reading", key);
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            // Said in so many words: any proxy between may answer 404, and who reads "nothing there" may write there.
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(failed(action, &error)),
        };
        let announced = answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0);
        if announced > limit {
            return Err(StoreError::TooLarge { key: key.to_owned(), limit });
        }
        let body = Body { stream: answer.body, left: limit, limit, key: key.to_owned(), action };
        let pieces = stream::try_unfold(body, async |mut body| Ok(body.next().await?.map(|piece| (piece, body))));
        Ok(Some(pieces.boxed()))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, StoreError> {
        let Some(pieces) = self.open(key, limit).await? else { return Ok(None) };
        let patience = ATTEMPT_TIMEOUT + Duration::from_secs(limit / SLOWEST_RATE);
        if let Ok(result) = tokio::time::timeout(patience, whole(pieces)).await {
            return result.map(Some);
        }
        let cause = format!("the body did not come within {} s", patience.as_secs());
        Err(StoreError::Unavailable { action: self.action("reading", key), cause })
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            // Only an object without a body may leave its length out.
            Ok(answer) => Ok(Some(answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0))),
            // It has no body that could say more. What stands there is read before it counts, and what is written over
            // it is the same.
            Err(error) if not_found(&error) => Ok(None),
            Err(error) => Err(failed(self.action("looking for", key), &error)),
        }
    }

    async fn put(&self, key: &str, body: Bytes, media_type: &str) -> Result<(), StoreError> {
        let digest = BlobDigest::of(&body);
        let length = body.len() as u64;
        let checksum = STANDARD.encode(digest.as_bytes());
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(media_type)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(body));
        let settings = Config::builder().timeout_config(timeouts(length));
        match request.customize().config_override(settings).send().await {
            Ok(answer) => match answer.checksum_sha256() {
                Some(stored) if stored != checksum => {
                    Err(StoreError::Corrupt { key: key.to_owned(), found: stored.to_owned() })
                }
                _ => Ok(()),
            },
            Err(error) => Err(failed(self.action("writing", key), &error)),
        }
    }
}

/// The body of an answer.
struct Body {
    stream: ByteStream,
    left: u64,
    limit: u64,
    key: String,
    action: String,
}

impl Body {
    /// The next piece, within the limit and not after a long silence.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Self { stream, left, limit, key, action } = self;
        let failed = |cause| StoreError::Unavailable { action: action.clone(), cause };
        let Ok(next) = tokio::time::timeout(ATTEMPT_TIMEOUT, stream.next()).await else {
            return Err(failed(format!("nothing came of the body for {} s", ATTEMPT_TIMEOUT.as_secs())));
        };
        let Some(piece) = next.transpose().map_err(|error| failed(causes(&error)))? else { return Ok(None) };
        let too_large = || StoreError::TooLarge { key: key.clone(), limit: *limit };
        *left = left.checked_sub(piece.len() as u64).ok_or_else(too_large)?;
        Ok(Some(piece))
    }
}

fn not_found<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map(|response| response.status().as_u16());
    status == Some(404) && matches!(error.code(), None | Some("NotFound"))
}

fn failed<E>(action: String, error: &SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = error.raw_response().map(|response| response.status().as_u16());
    let passes = match error {
        SdkError::ConstructionFailure(_) => false,
        // 408, 409 and 429 ask for another try; every other 4xx and every redirect is about the request itself.
        SdkError::ServiceError(_) => matches!(status, None | Some(408 | 409 | 429 | 500..)),
        _ => true,
    };
    let cause = match (status, error.code(), error.message()) {
        (Some(status), Some(code), Some(message)) => format!("HTTP {status} {code}: {message}"),
        (Some(status), Some(code), None) => format!("HTTP {status} {code}"),
        (Some(status), ..) => format!("HTTP {status}"),
        (None, ..) => causes(error),
    };
    let cause = cause.chars().take(MAX_CAUSE).collect();
    if passes { StoreError::Unavailable { action, cause } } else { StoreError::Refused { action, cause } }
}

fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
#[cfg(feature = "dev")]
mod tests;
