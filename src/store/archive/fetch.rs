//! The download: one connection a hop, to an address that was judged.

use std::{
    error::Error as _,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, Url, header, redirect};

use super::{Admission, ArchiveError, ArchivePolicy, Bound, Refused, TooLarge};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The bytes behind a URL, within a limit.
pub(super) async fn download(
    url: &str,
    policy: &ArchivePolicy,
    limit: Bound,
    admission: &Admission,
) -> Result<Vec<u8>, ArchiveError> {
    let mut target = Url::parse(url).map_err(|_| refused(Refused::Url(url.to_owned())))?;
    for _ in 0..=policy.max_redirects {
        let response = request(&target, policy, admission).await?;
        match response.status() {
            StatusCode::OK => return body(response, &target, limit).await,
            status if status.is_redirection() => target = next_hop(&target, &response)?,
            status => return Err(unavailable(&target, format!("the server answered {status}"))),
        }
    }
    Err(refused(Refused::Redirect("more often than is followed")))
}

async fn request(target: &Url, policy: &ArchivePolicy, admission: &Admission) -> Result<Response, ArchiveError> {
    let not_plain = || refused(Refused::Url(target.to_string()));
    if !matches!(target.scheme(), "http" | "https") || !target.username().is_empty() || target.password().is_some() {
        return Err(not_plain());
    }
    let host = target.host_str().ok_or_else(not_plain)?;
    let port = target.port_or_known_default().ok_or_else(not_plain)?;
    let addresses = resolve(host, port).await.map_err(|cause| unavailable(target, cause))?;
    for address in &addresses {
        admission(*address)
            .map_err(|kind| refused(Refused::Address { host: host.to_owned(), address: address.ip(), kind }))?;
    }
    // A client for one hop: it knows this host at the judged addresses only, and no proxy that would resolve anew.
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .resolve_to_addrs(host, &addresses)
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(policy.read_timeout)
        .user_agent(concat!("dms-operator/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| unavailable(target, causes(&error)))?;
    client.get(target.clone()).send().await.map_err(|error| unavailable(target, causes(&error)))
}

/// All addresses of a host. A literal address is its own; clients connect to literals without asking a resolver, so
/// it is judged here all the same.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(address) = literal.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found =
        tokio::net::lookup_host((host, port)).await.map_err(|error| format!("{host} has no address: {error}"))?;
    let addresses: Vec<SocketAddr> = found.collect();
    if addresses.is_empty() { Err(format!("{host} has no address")) } else { Ok(addresses) }
}

fn next_hop(target: &Url, response: &Response) -> Result<Url, ArchiveError> {
    let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
    let location = location.ok_or_else(|| unavailable(target, "a redirect without a target".to_owned()))?;
    let next = target.join(location).map_err(|_| refused(Refused::Url(location.to_owned())))?;
    if target.scheme() == "https" && next.scheme() != "https" {
        return Err(refused(Refused::Redirect("from https to an address without encryption")));
    }
    Ok(next)
}

async fn body(mut response: Response, target: &Url, limit: Bound) -> Result<Vec<u8>, ArchiveError> {
    let too_large = || ArchiveError::TooLarge(TooLarge::Download(limit));
    let announced = response.content_length().unwrap_or_default();
    if announced > limit.most {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced).unwrap_or_default());
    while let Some(chunk) = response.chunk().await.map_err(|error| unavailable(target, causes(&error)))? {
        if (bytes.len() + chunk.len()) as u64 > limit.most {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

const fn refused(what: Refused) -> ArchiveError {
    ArchiveError::Refused(what)
}

fn unavailable(target: &Url, cause: String) -> ArchiveError {
    ArchiveError::Unavailable { url: target.to_string(), cause }
}

/// The error without the URL, which stands in the sentence already, and with all its causes.
fn causes(error: &reqwest::Error) -> String {
    let mut words = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    if words.is_empty() { "the request failed".to_owned() } else { words.join(": ") }
}
