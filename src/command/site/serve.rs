//! Answering readers: a look-up in the release manifest, and nothing else.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use percent_encoding::percent_decode_str;
use tokio::sync::watch;

use super::pack::Pack;
use crate::store::{Release, release::FileEntry};

const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// Kept by browsers, but asked about each time, so that a new release is seen at once.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD");

/// A release that is here whole.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) release: Arc<Release>,
    pub(super) index_file: String,
    pub(super) pack: Arc<Pack>,
}

/// What readers get.
#[derive(Clone, Debug)]
pub(super) enum Serving {
    /// The operator has not said yet what to serve.
    Starting,
    /// Only some may read, and who reads cannot be told here.
    Private,
    /// Everybody may read this.
    Release(Arc<Held>),
}

impl Serving {
    pub(super) const fn held(&self) -> Option<&Arc<Held>> {
        match self {
            Self::Starting | Self::Private => None,
            Self::Release(held) => Some(held),
        }
    }
}

/// Answers one request.
pub(super) async fn answer(State(serving): State<watch::Receiver<Serving>>, request: Request) -> Response {
    let serving = serving.borrow().clone();
    let mut response = respond(&serving, request.method(), request.uri().path(), request.headers());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.insert(header::CACHE_CONTROL, REVALIDATE);
    response
}

fn respond(serving: &Serving, method: &Method, path: &str, headers: &HeaderMap) -> Response {
    let held = match serving {
        Serving::Starting => return sentence(StatusCode::SERVICE_UNAVAILABLE, "The site is being fetched."),
        Serving::Private => {
            return sentence(
                StatusCode::FORBIDDEN,
                "This site is not public, and private reading is not possible here.",
            );
        }
        Serving::Release(held) => held,
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response = sentence(StatusCode::METHOD_NOT_ALLOWED, "This site can only be read.");
        response.headers_mut().insert(header::ALLOW, ALLOWED);
        return response;
    }
    match find(held, path) {
        Some(file) => give(held, file, method, headers),
        None => sentence(StatusCode::NOT_FOUND, "There is no such page."),
    }
}

/// The file for a path of a URL: decoded once, then it must be in the manifest as it is.
fn find<'a>(held: &'a Held, path: &str) -> Option<&'a FileEntry> {
    let path = percent_decode_str(path.strip_prefix('/')?).decode_utf8().ok()?;
    if path.is_empty() || path.ends_with('/') {
        return held.release.files().get(&format!("{path}{}", held.index_file));
    }
    held.release.files().get(path.as_ref())
}

fn give(held: &Held, file: &FileEntry, method: &Method, headers: &HeaderMap) -> Response {
    let FileEntry { sha256, size, media_type } = file;
    let etag = format!("\"{sha256}\"");
    if matches_etag(headers, &etag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from_stream(held.pack.stream(sha256)) };
    let headers =
        [(header::ETAG, etag), (header::CONTENT_TYPE, media_type.clone()), (header::CONTENT_LENGTH, size.to_string())];
    (headers, body).into_response()
}

/// RFC 9110 §13.1.2: a list of tags or `*`, compared weakly.
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
    })
}

fn sentence(status: StatusCode, text: &str) -> Response {
    (status, format!("{text}\n")).into_response()
}
