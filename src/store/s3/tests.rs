//! Against `s3s-fs`, an independent S3 server, over real HTTP on a port of its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use futures::TryStreamExt as _;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::store::{
    Files,
    publish::{
        Publisher,
        tests::{owner, read},
    },
    release::Release,
};

const BUCKET: &str = "sites";

/// An S3 server over one folder; it and its connections end with it.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
}

impl Server {
    async fn start(root: &Path) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root).unwrap());
        service.set_auth(SimpleAuth::from_single("key", "secret"));
        let service = service.build();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    accepted = listener.accept() => {
                        let (socket, service) = (TokioIo::new(accepted.unwrap().0), service.clone());
                        connections.spawn(async move {
                            let _ = Builder::new(TokioExecutor::new()).serve_connection(socket, service).await;
                        });
                    }
                }
            }
        });
        Self { address, stop }
    }

    fn config(&self) -> S3Config {
        S3Config {
            endpoint: format!("http://{}", self.address),
            region: "us-east-1".into(),
            bucket: BUCKET.into(),
            prefix: "hosting".into(),
            path_style: true,
            access_key_id: "key".into(),
            secret_access_key: Zeroizing::new("secret".into()),
        }
    }
}

fn bucket() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join(BUCKET)).unwrap();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    root
}

fn random(count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).unwrap();
    bytes.into()
}

#[tokio::test]
async fn what_is_written_is_read_back_and_what_is_not_there_is_absent() {
    let root = bucket();
    let server = Server::start(root.path()).await;
    let store = S3Store::new(&server.config());
    let body = random(300_000);
    assert_eq!(store.get("a/b", 1 << 20).await.unwrap(), None);
    assert_eq!(store.head("a/b").await.unwrap(), None);
    store.put("a/b", body.clone(), "text/plain").await.unwrap();
    store.put("a/b", body.clone(), "text/plain").await.unwrap();
    assert_eq!(store.get("a/b", 300_000).await.unwrap(), Some(body.clone()));
    assert_eq!(store.head("a/b").await.unwrap(), Some(300_000));
    assert_eq!(std::fs::read(root.path().join(BUCKET).join("a/b")).unwrap(), body, "a key is a path in the bucket");
    let error = store.get("a/b", 299_999).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { limit: 299_999, .. }), "{error}");
    store.put("empty", Bytes::new(), "text/plain").await.unwrap();
    assert_eq!(store.head("empty").await.unwrap(), Some(0));
}

#[tokio::test]
async fn wrong_credentials_are_refusals() {
    let root = bucket();
    let server = Server::start(root.path()).await;
    let wrong_secret = S3Config { secret_access_key: Zeroizing::new("guess".into()), ..server.config() };
    let wrong_key = S3Config { access_key_id: "nobody".into(), ..server.config() };
    for config in [wrong_secret, wrong_key] {
        let store = S3Store::new(&config);
        for error in [
            store.put("a", random(10), "text/plain").await.unwrap_err(),
            store.get("a", 10).await.unwrap_err(),
            store.head("a").await.unwrap_err(),
        ] {
            assert!(matches!(&error, StoreError::Refused { cause, .. } if cause.contains("403")), "{error}");
        }
    }
    assert!(!root.path().join(BUCKET).join("a").exists());
}

/// `s3s-fs` has no such answers, so they are written out as services give them.
#[tokio::test]
async fn answers_are_told_apart_by_what_to_do() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    for (status, code, absent, passes) in [
        (404, "NoSuchKey", true, false),
        (404, "NoSuchBucket", false, false),
        (400, "InvalidRequest", false, false),
        (301, "PermanentRedirect", false, false),
        (403, "AccessDenied", false, false),
        (409, "OperationAborted", false, true),
        (429, "TooManyRequests", false, true),
        (500, "InternalError", false, true),
        (503, "SlowDown", false, true),
    ] {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as told</Message></Error>");
        let status_code = axum::http::StatusCode::from_u16(status).unwrap();
        let router = axum::Router::new().fallback(async move || (status_code, body));
        let store = S3Store::new(&fake(router).await);
        let get = store.get("a", 10).await;
        match get {
            Ok(found) => assert!(absent && found.is_none(), "{code}"),
            Err(StoreError::Unavailable { cause, .. }) => {
                assert!(passes && !absent, "{code}");
                assert_eq!(cause, format!("HTTP {status} {code}: as told"));
            }
            Err(StoreError::Refused { cause, .. }) => {
                assert!(!passes && !absent, "{code}");
                assert_eq!(cause, format!("HTTP {status} {code}: as told"));
            }
            Err(error) => panic!("{code}: {error}"),
        }
    }
}

/// What a proxy says of a host that it does not know must not make a prefix look free.
#[tokio::test]
async fn only_the_service_itself_can_say_that_nothing_is_there() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let writes = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    for text in ["", "404 page not found", "<html><h1>Not Found</h1></html>", "<Error><Code>NotFound</Code></Error>"] {
        let count = writes.clone();
        let router = axum::Router::new().fallback(async move |method: axum::http::Method| {
            count.fetch_add(usize::from(method == axum::http::Method::PUT), std::sync::atomic::Ordering::SeqCst);
            (axum::http::StatusCode::NOT_FOUND, text)
        });
        let store = S3Store::new(&fake(router).await);
        let error = store.get("a", 10).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Refused { cause, .. } if cause.starts_with("HTTP 404")),
            "{text}: {error}"
        );
        let publisher = Publisher::new(std::sync::Arc::new(store), "hosting");
        let error = publisher.claim_prefix("installation-1").await.unwrap_err();
        assert!(error.to_string().contains("HTTP 404"), "{error}");
    }
    assert_eq!(writes.load(std::sync::atomic::Ordering::SeqCst), 0, "no marker is overwritten");
}

#[tokio::test]
async fn a_body_comes_as_it_is_sent_and_not_beyond_its_limit() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let receiver = std::sync::Arc::new(std::sync::Mutex::new(receiver));
    let router = axum::Router::new().fallback(async move || {
        let pieces = stream::poll_fn(move |context| receiver.lock().unwrap().poll_recv(context));
        axum::body::Body::from_stream(pieces.map(Ok::<Bytes, std::io::Error>))
    });
    let store = S3Store::new(&fake(router).await);
    let (opened, _) = tokio::join!(store.open("a", 8), sender.send("first".into()));
    let mut pieces = opened.unwrap().unwrap();
    assert_eq!(pieces.try_next().await.unwrap().unwrap(), "first", "the rest was not sent yet");
    sender.send("more".into()).await.unwrap();
    let error = pieces.try_next().await.unwrap_err();
    assert!(matches!(&error, StoreError::TooLarge { key, limit: 8 } if key == "a"), "{error}");
}

#[tokio::test]
async fn a_write_carries_its_sha256_and_no_other_checksum() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(async move |headers: axum::http::HeaderMap, body: Bytes| {
        sender.send((headers, body)).unwrap();
        [("x-amz-checksum-sha256", STANDARD.encode([0; 32]))]
    });
    let store = S3Store::new(&fake(router).await);
    let error = store.put("a", Bytes::from("hello"), "text/css").await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { key, .. } if key == "a"), "the answer names other bytes: {error}");
    let (headers, body) = seen.recv().await.unwrap();
    assert_eq!(body, "hello", "not wrapped into chunks with a trailer");
    assert_eq!(headers["x-amz-checksum-sha256"], "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=");
    assert_eq!(headers["content-type"], "text/css");
    let others: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-amz-checksum-")).collect();
    assert_eq!(others, ["x-amz-checksum-sha256"]);
}

async fn fake(router: axum::Router) -> S3Config {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server { address, stop: CancellationToken::new() }.config()
}

#[tokio::test]
async fn a_stopped_server_is_unavailable_not_empty() {
    let root = bucket();
    let server = Server::start(root.path()).await;
    let store = S3Store::new(&server.config());
    store.put("a", random(10), "text/plain").await.unwrap();
    server.stop.cancel();
    let (get, head, put) = tokio::join!(store.get("a", 10), store.head("a"), store.put("a", random(10), "text/plain"));
    for error in [get.unwrap_err(), head.unwrap_err(), put.unwrap_err()] {
        assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_release_published_over_http_is_read_back_whole() {
    let root = bucket();
    let server = Server::start(root.path()).await;
    let publisher = Publisher::new(std::sync::Arc::new(S3Store::new(&server.config())), "hosting");
    publisher.claim_prefix("installation-1").await.unwrap();
    let files: Files = (0..20).map(|number| (format!("d/{number}.bin"), random(1000 + number))).collect();
    let release = Release::from_files(&files).unwrap();
    let report = publisher.publish_files(&owner(), release.id(), &files).await.unwrap();
    assert_eq!((report.uploaded_blobs, report.uploaded_bytes), (20, release.total_bytes()));
    let loaded = publisher.load_release(&owner(), release.id()).await.unwrap().unwrap();
    assert_eq!(loaded, release);
    for (path, file) in loaded.files() {
        assert_eq!(read(&publisher, file).await.unwrap(), files[path]);
    }
}

#[test]
fn the_secret_is_not_printed() {
    let config = S3Config {
        endpoint: String::new(),
        region: String::new(),
        bucket: String::new(),
        prefix: String::new(),
        path_style: true,
        access_key_id: "visible".into(),
        secret_access_key: Zeroizing::new("hidden-text".into()),
    };
    let text = format!("{config:?} {:?}", S3Store::new(&config));
    assert!(text.contains("visible") && !text.contains("hidden-text"), "{text}");
}
