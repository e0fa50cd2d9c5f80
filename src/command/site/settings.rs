//! What a site server is told by its environment.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use reqwest::Url;
use zeroize::Zeroizing;

use crate::{
    capability::{Did, Key, Token},
    gateway::site_protocol::{SiteCredentials, SiteName},
    plan::backoff::Backoff,
    plan::build::{OPERATOR_URL, PROVIDER_DID, SITE_GRANT, SITE_PORT, SITE_SEED},
};

const LISTEN: &str = "HOSTING_LISTEN";
const PORT: &str = "PORT";
const PAUSES: Backoff = Backoff { first: Duration::from_millis(500), cap: Duration::from_secs(30) };
const PARENT_PIPE: &str = "HOSTING_PARENT_PIPE";

/// Everything a site server needs.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) operator_url: Url,
    pub(super) credentials: SiteCredentials,
    pub(super) listen: SocketAddr,
    pub(super) parent_pipe: bool,
    /// Pauses after failures to follow the operator.
    pub(super) pauses: Backoff,
}

/// What is wrong with the environment. The value of a secret is never repeated.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SettingsError {
    #[error("the environment variable {0} is not set; the operator sets it in the ensemble")]
    Missing(&'static str),
    #[error("the environment variable {name} cannot be read: {cause}")]
    Invalid { name: &'static str, cause: String },
}

impl Settings {
    /// Reads the variables by `variable`.
    pub(super) fn read(
        site: SiteName,
        variable: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let required = |name| variable(name).ok_or(SettingsError::Missing(name));
        let url = required(OPERATOR_URL)?;
        let operator_url = Url::parse(&url).map_err(|error| invalid(OPERATOR_URL, error))?;
        if !matches!(operator_url.scheme(), "http" | "https") || operator_url.query().is_some() {
            return Err(invalid(OPERATOR_URL, "it is no http or https URL without a query"));
        }
        let provider = Did::parse(&required(PROVIDER_DID)?).map_err(|error| invalid(PROVIDER_DID, error))?;
        let key = key(&Zeroizing::new(required(SITE_SEED)?))?;
        let grant = Token::parse(required(SITE_GRANT)?.as_bytes()).map_err(|refusal| invalid(SITE_GRANT, refusal))?;
        let listen = match (variable(LISTEN), variable(PORT)) {
            (Some(listen), _) => listen.parse().map_err(|error| invalid(LISTEN, error))?,
            (None, Some(port)) => {
                let port = port.parse().map_err(|error| invalid(PORT, error))?;
                SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
            }
            (None, None) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), SITE_PORT),
        };
        let parent_pipe = variable(PARENT_PIPE).as_deref() == Some("1");
        let credentials = SiteCredentials { key, grant, provider, site };
        Ok(Self { operator_url, credentials, listen, parent_pipe, pauses: PAUSES })
    }
}

fn key(text: &str) -> Result<Key, SettingsError> {
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text, seed.as_mut()).map_err(|_| invalid(SITE_SEED, "a seed is written as 64 hex digits"))?;
    Ok(Key::from_seed(*seed))
}

fn invalid(name: &'static str, cause: impl fmt::Display) -> SettingsError {
    SettingsError::Invalid { name, cause: cause.to_string() }
}
