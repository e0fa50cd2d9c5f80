use std::{
    future::Future,
    net::Ipv4Addr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use reqwest::{Client, Method, StatusCode, Url};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    capability::Key,
    gateway::{
        site::tests::{World, key, listen, random_files},
        site_table::SiteTarget,
    },
    plan::backoff::Backoff,
    plan::build::{OPERATOR_URL, PROVIDER_DID, SITE_GRANT, SITE_SEED},
    store::BlobDigest,
};

/// A site server in this process, following an operator.
struct Site {
    url: String,
    client: Client,
    stop: CancellationToken,
    lines: Arc<Mutex<Vec<String>>>,
    server: Option<Server>,
}

impl Site {
    async fn start(world: &World, key: &Key, operator: SocketAddr) -> Self {
        let settings = Settings {
            operator_url: Url::parse(&format!("http://{operator}/")).unwrap(),
            credentials: world.credentials(key),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            parent_pipe: false,
            pauses: Backoff { first: Duration::from_millis(10), cap: Duration::from_millis(50) },
        };
        let (stop, lines) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let sink = lines.clone();
        let print: Print = Arc::new(move |line| sink.lock().unwrap().push(line.to_owned()));
        let server = Server::start(settings, stop.clone(), print).await.unwrap();
        let url = format!("http://{}", server.address);
        Self { url, client: Client::new(), stop, lines, server: Some(server) }
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> (StatusCode, Response<Bytes>) {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let mut answer = Response::new(response.bytes().await.unwrap());
        *answer.headers_mut() = headers;
        (status, answer)
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        let (status, answer) = self.ask(Method::GET, path, &[]).await;
        (status.as_u16(), answer.into_body())
    }

    /// The first line of the answer to a path as it is written, which no client has tidied up.
    async fn raw(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.server.as_ref().unwrap().address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    }

    /// Waits until the page is these bytes.
    async fn shows(&self, path: &str, bytes: &Bytes) {
        until(|| async { self.get(path).await == (200, bytes.clone()) }).await;
    }

    async fn answers(&self, status: u16) {
        until(|| async { self.get("/").await.0 == status }).await;
    }
}

/// Waits for a condition, but not for ever.
async fn until<F: Future<Output = bool>>(condition: impl Fn() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_release_is_served_whole_and_the_next_one_takes_its_place() {
    let world = World::new();
    world.fill();
    let (key, operator) = (key(), listen(world.router()).await.0);
    let mut first = random_files(&["index.html", "docs/index.html", "a b.css", "same.png"]);
    first.insert("empty.txt".into(), Bytes::new());
    first.insert("big.bin".into(), Bytes::from(vec![7; pack::CHUNK * 2 + 1]));
    let first_id = world.publish(&first).await;
    world.table.set(&world.site, world.target(&key, first_id));
    let mut site = Site::start(&world, &key, operator).await;
    site.shows("/", &first["index.html"]).await;
    for (path, file) in [
        ("/index.html?x=1", "index.html"),
        ("/docs/", "docs/index.html"),
        ("/a%20b.css", "a b.css"),
        ("/big.bin", "big.bin"),
        ("/empty.txt", "empty.txt"),
    ] {
        assert_eq!(site.get(path).await, (200, first[file].clone()), "{path}");
    }
    for path in [
        "/missing",
        "/docs",
        "//index.html",
        "/./index.html",
        "/../index.html",
        "/..%2findex.html",
        "/%2e%2e/index.html",
        "/docs/../index.html",
        "/docs%00",
        "/%ff",
        "/a%2520b.css",
    ] {
        assert_eq!(site.raw(path).await, "HTTP/1.1 404 Not Found", "{path}");
    }
    assert_eq!(site.raw("/docs%2Findex.html").await, "HTTP/1.1 200 OK");
    until(|| async { world.table.reported(&world.site) == Some(first_id) }).await;

    let mut second = random_files(&["index.html", "new.html"]);
    second.insert("same.png".into(), first["same.png"].clone());
    let second_id = world.publish(&second).await;
    world.table.set(&world.site, world.target(&key, second_id));
    site.shows("/", &second["index.html"]).await;
    assert_eq!(site.get("/new.html").await, (200, second["new.html"].clone()));
    assert_eq!(site.get("/same.png").await, (200, first["same.png"].clone()));
    assert_eq!(site.get("/docs/").await.0, 404, "nothing of the old release is left");
    until(|| async { world.table.reported(&world.site) == Some(second_id) }).await;

    site.stop.cancel();
    site.server.take().unwrap().finish().await;
    let lines = site.lines.lock().unwrap().clone();
    let (received, sent) = lines.last().unwrap().strip_prefix("usage rx=").unwrap().split_once(" tx=").unwrap();
    let served: usize = first.values().map(Bytes::len).sum();
    assert!(sent.parse::<usize>().unwrap() > served, "every body and head was counted: {lines:?}");
    assert!(received.parse::<usize>().unwrap() > 1000, "{lines:?}");
    assert!(Client::new().get(&site.url).send().await.is_err(), "nothing listens any more");
}

#[tokio::test]
async fn headers_tell_browsers_what_it_is_and_whether_it_changed() {
    let world = World::new();
    world.fill();
    let (key, operator) = (key(), listen(world.router()).await.0);
    let files = random_files(&["index.html", "x.unknown"]);
    world.table.set(&world.site, world.target(&key, world.publish(&files).await));
    let site = Site::start(&world, &key, operator).await;
    site.shows("/", &files["index.html"]).await;

    let etag = format!("\"{}\"", BlobDigest::of(&files["index.html"]));
    for method in [Method::GET, Method::HEAD] {
        let (status, answer) = site.ask(method.clone(), "/", &[]).await;
        assert_eq!(status, 200);
        let headers = answer.headers();
        assert_eq!(headers["content-type"], "text/html; charset=utf-8");
        assert_eq!(headers["content-length"], files["index.html"].len().to_string());
        assert_eq!(headers["etag"], etag);
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-cache");
        assert_eq!(answer.body().is_empty(), method == Method::HEAD);
    }
    let (_, answer) = site.ask(Method::GET, "/x.unknown", &[]).await;
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");

    for value in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let (status, answer) = site.ask(Method::GET, "/", &[("if-none-match", &value)]).await;
        assert_eq!((status.as_u16(), answer.headers()["etag"].to_str().unwrap()), (304, etag.as_str()), "{value}");
        assert!(answer.body().is_empty());
    }
    assert_eq!(site.ask(Method::GET, "/", &[("if-none-match", "\"x\"")]).await.0, 200);
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        let (status, answer) = site.ask(method.clone(), "/", &[]).await;
        assert_eq!((status.as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"), "{method}");
    }
}

#[tokio::test]
async fn what_is_not_public_is_never_served() {
    let world = World::new();
    let (key, operator) = (key(), listen(world.router()).await.0);
    let site = Site::start(&world, &key, operator).await;
    assert_eq!(site.get("/").await.0, 503, "nothing is known yet");
    world.fill();
    let files = random_files(&["index.html", "home.html"]);
    let target = world.target(&key, world.publish(&files).await);
    world.table.set(&world.site, SiteTarget { public: false, ..target.clone() });
    site.answers(403).await;
    for (method, path) in [(Method::GET, "/index.html"), (Method::GET, "/x"), (Method::POST, "/"), (Method::HEAD, "/")]
    {
        assert_eq!(site.ask(method, path, &[("if-none-match", "*")]).await.0, 403, "{path}");
    }
    world.table.set(&world.site, target.clone());
    site.shows("/", &files["index.html"]).await;
    world.table.set(&world.site, SiteTarget { index_file: "home.html".into(), ..target.clone() });
    site.shows("/", &files["home.html"]).await;
    world.table.set(&world.site, SiteTarget { public: false, ..target });
    site.answers(403).await;
    assert_eq!(site.get("/home.html").await.0, 403);
}

/// The operator's answers on the way to the site, for a liar in between.
async fn with_liar(world: &World, lie: impl Fn(&str, Bytes) -> Bytes + Clone + Send + Sync + 'static) -> SocketAddr {
    let layer = axum::middleware::from_fn(move |request: Request, next: Next| {
        let (path, lie) = (request.uri().path().to_owned(), lie.clone());
        async move {
            let (parts, body) = next.run(request).await.into_parts();
            let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
            let mut parts = parts;
            parts.headers.remove("content-length");
            Response::from_parts(parts, Body::from(lie(&path, bytes)))
        }
    });
    listen(world.router().layer(layer)).await.0
}

#[tokio::test]
async fn a_tampered_blob_or_manifest_is_never_served_and_the_old_release_stays() {
    let world = World::new();
    world.fill();
    let (first, second) = (random_files(&["index.html"]), random_files(&["index.html", "second.html"]));
    let victim = BlobDigest::of(&second["second.html"]).to_string();
    let (lying, lies) = (Arc::new(Mutex::new("manifest")), Arc::new(AtomicUsize::new(0)));
    let (mode, count) = (lying.clone(), lies.clone());
    let lie = move |path: &str, bytes: Bytes| {
        let mode = *mode.lock().unwrap();
        let changed: Bytes = match mode {
            "blob" if path.ends_with(&victim) => Bytes::from(vec![b'x'; bytes.len()]),
            "longer" if path.ends_with(&victim) => [&bytes[..], b"x"].concat().into(),
            "shorter" if path.ends_with(&victim) => bytes.slice(1..),
            "manifest" if path.starts_with("/v1/releases/") && bytes.windows(6).any(|part| part == b"second") => {
                String::from_utf8_lossy(&bytes).replace("second.html", "sxcond.html").into_bytes().into()
            }
            _ => return bytes,
        };
        count.fetch_add(1, Ordering::SeqCst);
        changed
    };
    let (key, operator) = (key(), with_liar(&world, lie).await);
    let first_id = world.publish(&first).await;
    world.table.set(&world.site, world.target(&key, first_id));
    let site = Site::start(&world, &key, operator).await;
    site.shows("/", &first["index.html"]).await;
    let second_id = world.publish(&second).await;
    world.table.set(&world.site, world.target(&key, second_id));
    // The manifest first: once it came, it is kept.
    for mode in ["manifest", "blob", "longer", "shorter"] {
        *lying.lock().unwrap() = mode;
        let before = lies.load(Ordering::SeqCst);
        // Two lies: when the second was told, the site has dealt with the first.
        until(|| async { lies.load(Ordering::SeqCst) >= before + 2 }).await;
        assert_eq!(site.get("/").await, (200, first["index.html"].clone()), "{mode}");
        assert_eq!(site.get("/second.html").await.0, 404, "{mode}");
        assert_eq!(world.table.reported(&world.site), Some(first_id), "{mode}");
    }
    *lying.lock().unwrap() = "nothing";
    site.shows("/", &second["index.html"]).await;
}

#[tokio::test]
async fn only_the_providers_word_counts_and_a_lost_operator_stops_nothing() {
    let world = World::new();
    world.fill();
    let key = key();
    let files = random_files(&["index.html"]);
    let release = world.publish(&files).await;
    world.table.set(&world.site, world.target(&key, release));

    let told = Arc::new(AtomicUsize::new(0));
    let count = told.clone();
    let impostor = crate::gateway::site::tests::key();
    let site_did = key.did().clone();
    let forged = with_liar(&world, move |path, bytes| {
        if !path.starts_with("/v1/sites/") || bytes.is_empty() {
            return bytes;
        }
        count.fetch_add(1, Ordering::SeqCst);
        let request = crate::capability::Envelope::parse(&bytes).unwrap().nonce;
        let target = crate::gateway::site_protocol::Target { release, index_file: "index.html".into(), public: true };
        target.answer(&impostor, &site_did, request, crate::gateway::site::tests::now()).unwrap().into()
    })
    .await;
    let misled = Site::start(&world, &key, forged).await;
    until(|| async { told.load(Ordering::SeqCst) >= 2 }).await;
    assert_eq!(misled.get("/").await.0, 503);

    let (operator, task) = listen(world.router()).await;
    let site = Site::start(&world, &key, operator).await;
    site.shows("/", &files["index.html"]).await;
    task.abort();
    let _ = task.await;
    world.table.remove(&world.site);
    assert_eq!(site.get("/").await, (200, files["index.html"].clone()), "silence of the operator stops nothing");
}

#[test]
fn the_environment_is_read_and_its_secrets_are_not_repeated() {
    let world = World::new();
    let credentials = world.credentials(&key());
    let seed = hex::encode(credentials.key.expose_seed());
    let grant = String::from_utf8(credentials.grant.to_json()).unwrap();
    let read = |changes: &[(&str, Option<&str>)]| {
        Settings::read(world.site.clone(), |name| match changes.iter().find(|(changed, _)| *changed == name) {
            Some((_, value)) => value.map(ToOwned::to_owned),
            None => match name {
                OPERATOR_URL => Some("http://operator:8080".to_owned()),
                PROVIDER_DID => Some(world.provider.did().to_string()),
                SITE_SEED => Some(seed.clone()),
                SITE_GRANT => Some(grant.clone()),
                _ => None,
            },
        })
    };
    let settings = read(&[]).unwrap();
    assert_eq!(settings.credentials.key.did(), credentials.key.did());
    assert_eq!((settings.listen.to_string(), settings.parent_pipe), ("0.0.0.0:8080".to_owned(), false));
    assert!(!format!("{settings:?}").contains(&seed));
    let listen = |changes| read(changes).unwrap().listen.to_string();
    assert_eq!(listen(&[("PORT", Some("81"))]), "0.0.0.0:81");
    assert_eq!(listen(&[("PORT", Some("81")), ("HOSTING_LISTEN", Some("127.0.0.1:0"))]), "127.0.0.1:0");
    assert!(read(&[("HOSTING_PARENT_PIPE", Some("1"))]).unwrap().parent_pipe);
    for name in [OPERATOR_URL, PROVIDER_DID, SITE_SEED, SITE_GRANT] {
        assert_eq!(read(&[(name, None)]).unwrap_err(), settings::SettingsError::Missing(name));
        let error = read(&[(name, Some("hunter2"))]).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    assert!(!read(&[(SITE_SEED, Some("hunter2"))]).unwrap_err().to_string().contains("hunter2"));
}
