//! What a site server and the operator say to each other.
//!
//! Each request of a site carries `Authorization: DMS <base64 of a signed envelope>`: an invocation of
//! `/hosting/<namespace>/read/<name>` whose message names method, path with query, and time. The answer that names the
//! release to serve is an envelope signed by the provider that repeats the nonce of the request, so the network
//! between can neither invent it nor bring an old one back.

use std::{fmt, str::FromStr, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::{
    capability::{
        ActorId, Capability, Did, Envelope, Handle, Key, MintError, Minting, Nanos, Refusal, Token, token_list,
    },
    store::{BlobDigest, ReleaseId},
};

/// The scheme in the `Authorization` header.
pub const SCHEME: &str = "DMS";
/// The behaviour of the answer that names a release.
pub const TARGET_BEHAVIOUR: &str = "/hosting/site/target";
/// How long a request is valid.
pub const REQUEST_LIFETIME: Duration = Duration::from_mins(1);
/// How far the clocks of site and operator may differ beyond that.
pub const CLOCK_SKEW: Duration = Duration::from_secs(30);
/// How long an answer is valid; its freshness comes from the nonce, so slow clocks cost nothing.
const ANSWER_LIFETIME: Duration = Duration::from_mins(10);
const LONGEST_LABEL: usize = 253;

/// Names a `HostingDeployment`; as text `<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SiteName {
    namespace: String,
    name: String,
}

/// Why a text names no deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no deployment; write `<namespace>/<name>`, both in lower-case letters, digits, `-` and `.`")]
pub struct SiteNameError(String);

impl SiteName {
    /// The deployment with these names.
    ///
    /// # Errors
    /// [`SiteNameError`] when one of them cannot be a name in Kubernetes.
    pub fn new(namespace: &str, name: &str) -> Result<Self, SiteNameError> {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= LONGEST_LABEL
                && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
                && !matches!(text, "." | "..")
        };
        if plain(namespace) && plain(name) {
            Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
        } else {
            Err(SiteNameError(format!("{namespace}/{name}")))
        }
    }

    /// Namespace of the deployment.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Name of the deployment.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The capability to read the deployment's content.
    ///
    /// # Errors
    /// [`SiteNameError`]; does not happen for names that [`Self::new`] took.
    pub fn read_capability(&self) -> Result<Capability, SiteNameError> {
        let Self { namespace, name } = self;
        Capability::parse(&format!("/hosting/{namespace}/read/{name}")).map_err(|_| SiteNameError(self.to_string()))
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, name } = self;
        write!(formatter, "{namespace}/{name}")
    }
}

impl FromStr for SiteName {
    type Err = SiteNameError;

    fn from_str(text: &str) -> Result<Self, SiteNameError> {
        let (namespace, name) = text.split_once('/').ok_or_else(|| SiteNameError(text.to_owned()))?;
        Self::new(namespace, name)
    }
}

/// What a site's request says, beside who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadMessage {
    /// Method of the request.
    pub method: String,
    /// Path and query of the request, from `/v1` on.
    pub path: String,
    /// When it was asked.
    pub time: Nanos,
}

/// What a site is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The release.
    pub release: ReleaseId,
    /// File served for a path that ends in `/`.
    pub index_file: String,
    /// Whether everybody may read. Otherwise the site serves nothing: only a gateway could tell readers apart.
    pub public: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct TargetMessage {
    release: ReleaseId,
    index_file: String,
    public: bool,
    /// Nonce of the request that is answered, in decimal.
    request: String,
}

/// Why an answer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is no valid envelope.
    #[error("the operator's answer is refused: {0}")]
    Refused(#[from] Refusal),
    /// It is signed by somebody else.
    #[error("the operator's answer is signed by {0}, not by the provider")]
    NotTheProvider(Did),
    /// It is an answer to something or somebody else.
    #[error("the operator's answer is not for this request")]
    NotForThisRequest,
    /// Its message cannot be read.
    #[error("the operator's answer cannot be read: {0}")]
    Syntax(#[from] serde_json::Error),
}

impl Target {
    /// Tells two targets apart: 64 hex digits.
    #[must_use]
    pub fn version(&self) -> String {
        let Self { release, index_file, public } = self;
        // The release has a fixed length and the last part has no NUL, so no two targets are joined to one text.
        BlobDigest::of(format!("{release}\0{public}\0{index_file}").as_bytes()).to_string()
    }

    /// The answer to a site's request, signed by the provider.
    ///
    /// # Errors
    /// None in practice: the message is always JSON.
    pub fn answer(&self, provider: &Key, site: &Did, request: u64, now: Nanos) -> Result<Vec<u8>, serde_json::Error> {
        let Self { release, index_file, public } = self.clone();
        let message = TargetMessage { release, index_file, public, request: request.to_string() };
        let envelope = Envelope {
            to: Handle::of(site, None, None),
            behaviour: TARGET_BEHAVIOUR.to_owned(),
            from: Handle::of(provider.did(), None, None),
            nonce: request,
            expires: now.plus(ANSWER_LIFETIME),
            continuation: None,
            topic: None,
            message: serde_json::to_vec(&message)?,
            capabilities: Vec::new(),
            signature: None,
        };
        Ok(envelope.sign(provider).to_json())
    }

    /// Reads the answer to a request, and believes the provider only.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn from_answer(
        answer: &[u8],
        provider: &Did,
        site: &Did,
        request: u64,
        now: Nanos,
    ) -> Result<Self, AnswerError> {
        let envelope = Envelope::parse(answer)?;
        let signer = envelope.verify(now)?;
        if signer != *provider {
            return Err(AnswerError::NotTheProvider(signer));
        }
        let message: TargetMessage = serde_json::from_slice(&envelope.message)?;
        let TargetMessage { release, index_file, public, request: answered } = message;
        let ours = envelope.to.id == ActorId::of(site)
            && envelope.topic.is_none()
            && envelope.behaviour == TARGET_BEHAVIOUR
            && answered == request.to_string();
        if ours { Ok(Self { release, index_file, public }) } else { Err(AnswerError::NotForThisRequest) }
    }
}

/// What a site proves its right to read with.
#[derive(Clone, Debug)]
pub struct SiteCredentials {
    /// The key made for this attempt.
    pub key: Key,
    /// The provider's `read` delegation to it.
    pub grant: Token,
    /// The provider, to whom requests are addressed.
    pub provider: Did,
    /// The deployment.
    pub site: SiteName,
}

/// Why no request can be made.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The grant does not carry the request.
    #[error("the read grant of this site does not permit the request: {0}")]
    Grant(#[from] MintError),
    /// The name of the deployment is no name.
    #[error(transparent)]
    Name(#[from] SiteNameError),
    /// Does not happen: a message is always JSON.
    #[error("the request cannot be written: {0}")]
    Syntax(#[from] serde_json::Error),
}

impl SiteCredentials {
    /// The value of the `Authorization` header of a GET of `path` (with query, from `/v1` on). `nonce` names the
    /// request, and `token_nonce` its one-time token.
    ///
    /// # Errors
    /// [`SigningError`], when the grant does not cover the deployment or has expired.
    pub fn authorization(
        &self,
        path: &str,
        now: Nanos,
        nonce: u64,
        token_nonce: [u8; 12],
    ) -> Result<String, SigningError> {
        let Self { key, grant, provider, site } = self;
        let capability = site.read_capability()?;
        let behaviour = capability.as_str().to_owned();
        let expires = now.plus(REQUEST_LIFETIME);
        let minting = Minting {
            subject: key.did().clone(),
            audience: Some(provider.clone()),
            capabilities: vec![capability],
            topics: Vec::new(),
            expires: expires.min(grant.not_after()),
            depth: 0,
            nonce: token_nonce,
        };
        let token = Token::invoke(key, minting, Some(grant))?;
        let message = ReadMessage { method: "GET".to_owned(), path: path.to_owned(), time: now };
        let envelope = Envelope {
            to: Handle::of(provider, None, None),
            behaviour,
            from: Handle::of(key.did(), None, None),
            nonce,
            expires,
            continuation: None,
            topic: None,
            message: serde_json::to_vec(&message)?,
            capabilities: token_list(&[token]),
            signature: None,
        };
        Ok(format!("{SCHEME} {}", STANDARD.encode(envelope.sign(key).to_json())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            release: ReleaseId::parse(&format!("sha256:{}", "a".repeat(64))).unwrap(),
            index_file: "index.html".into(),
            public: true,
        }
    }

    #[test]
    fn an_answer_is_believed_from_the_provider_for_this_request_only() {
        let (provider, site, other) = (Key::from_seed([1; 32]), Key::from_seed([2; 32]), Key::from_seed([3; 32]));
        let now = Nanos(1_800_000_000_000_000_000);
        let answer = target().answer(&provider, site.did(), 7, now).unwrap();
        let read =
            |answer: &[u8], site: &Key, request| Target::from_answer(answer, provider.did(), site.did(), request, now);
        assert_eq!(read(&answer, &site, 7).unwrap(), target());
        assert!(matches!(read(&answer, &site, 8), Err(AnswerError::NotForThisRequest)));
        assert!(matches!(read(&answer, &other, 7), Err(AnswerError::NotForThisRequest)));
        let forged = target().answer(&other, site.did(), 7, now).unwrap();
        assert!(matches!(read(&forged, &site, 7), Err(AnswerError::NotTheProvider(did)) if did == *other.did()));
        let old = target().answer(&provider, site.did(), 7, now.minus(Duration::from_hours(1))).unwrap();
        assert!(matches!(read(&old, &site, 7), Err(AnswerError::Refused(_))));
        let mut changed = Envelope::parse(&answer).unwrap();
        changed.message = String::from_utf8(changed.message).unwrap().replace("true", "false").into_bytes();
        assert!(matches!(read(&changed.to_json(), &site, 7), Err(AnswerError::Refused(_))));
    }

    #[test]
    fn every_member_of_a_target_changes_its_version() {
        let release = ReleaseId::parse(&format!("sha256:{}", "b".repeat(64))).unwrap();
        let versions = [
            target(),
            Target { release, ..target() },
            Target { index_file: "home.html".into(), ..target() },
            Target { public: false, ..target() },
        ]
        .map(|target| target.version());
        assert_eq!(versions.iter().collect::<std::collections::BTreeSet<_>>().len(), versions.len());
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        let site: SiteName = "shop/web-1".parse().unwrap();
        assert_eq!(site.to_string(), "shop/web-1");
        assert_eq!(site.read_capability().unwrap().as_str(), "/hosting/shop/read/web-1");
        for text in ["shop", "/web", "shop/", "shop/../x", "shop/..", "Shop/web", "shop/web/x", "a b/c"] {
            assert_eq!(text.parse::<SiteName>(), Err(SiteNameError(text.to_owned())), "{text}");
        }
    }
}
