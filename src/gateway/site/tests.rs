use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use futures::StreamExt as _;
use jiff::Timestamp;
use reqwest::Client;
use tokio::{net::TcpListener, task::JoinHandle};

use super::*;
use crate::{
    capability::{Capability, Key, Minting, Token},
    gateway::site_protocol::{SiteCredentials, Target},
    store::{Files, memory::MemoryStore, publish::Publisher},
};

const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn now() -> Nanos {
    Nanos::from_timestamp(Timestamp::now())
}

pub(crate) fn random_files(paths: &[&str]) -> Files {
    let bytes = |size| {
        let mut bytes = vec![0; size];
        getrandom::fill(&mut bytes).unwrap();
        Bytes::from(bytes)
    };
    paths.iter().enumerate().map(|(number, path)| ((*path).to_owned(), bytes(1000 + number))).collect()
}

/// An operator over a store in memory, on a port of its own.
pub(crate) struct World {
    pub(crate) table: SiteTable,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) publisher: Publisher,
    pub(crate) provider: Key,
    pub(crate) owner: Key,
    pub(crate) site: SiteName,
    /// Seconds by which the operator's clock goes ahead.
    pub(crate) ahead: Arc<AtomicI64>,
    pub(crate) revoked: Arc<Mutex<BTreeSet<RevocationKey>>>,
    pub(super) service: SiteService,
}

pub(crate) fn key() -> Key {
    Key::from_seed(rand::random())
}

impl World {
    pub(crate) fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let store = Arc::new(MemoryStore::default());
        let publisher = Publisher::new(store.clone(), "hosting");
        let (table, provider) = (SiteTable::new(), key());
        let ahead = Arc::new(AtomicI64::new(0));
        let revoked = Arc::new(Mutex::new(BTreeSet::new()));
        let (offset, list) = (ahead.clone(), revoked.clone());
        let service = SiteService {
            table: table.clone(),
            clock: Arc::new(move || {
                let seconds = offset.load(Ordering::SeqCst);
                let distance = Duration::from_secs(seconds.unsigned_abs());
                if seconds < 0 { now().minus(distance) } else { now().plus(distance) }
            }),
            revoked: Arc::new(move |link| list.lock().unwrap().contains(link)),
            patience: Duration::from_millis(300),
            blob_patience,
        };
        let site = SiteName::new("shop", "web").unwrap();
        Self { table, store, publisher, provider, owner: key(), site, ahead, revoked, service }
    }

    pub(crate) fn router(&self) -> Router {
        router(self.service.clone())
    }

    /// Lets the controller's part be done: provider and store are known.
    pub(crate) fn fill(&self) {
        self.table.set_backing(Backing { provider: self.provider.clone(), publisher: self.publisher.clone() });
    }

    pub(crate) fn credentials(&self, key: &Key) -> SiteCredentials {
        let site = self.site.clone();
        let grant = self.grant(key, site.read_capability().unwrap(), now().plus(HOUR));
        SiteCredentials { key: key.clone(), grant, provider: self.provider.did().clone(), site }
    }

    fn grant(&self, key: &Key, capability: Capability, expires: Nanos) -> Token {
        let minting = Minting {
            subject: key.did().clone(),
            audience: Some(self.provider.did().clone()),
            capabilities: vec![capability],
            topics: Vec::new(),
            expires,
            depth: 1,
            nonce: rand::random(),
        };
        Token::delegate(&self.provider, minting, None).unwrap()
    }

    pub(crate) async fn publish(&self, files: &Files) -> ReleaseId {
        let id = Release::from_files(files).unwrap().id();
        self.publisher.publish_files(self.owner.did(), id, files).await.unwrap();
        id
    }

    pub(crate) fn target(&self, key: &Key, release: ReleaseId) -> SiteTarget {
        SiteTarget {
            site: key.did().clone(),
            owner: self.owner.did().clone(),
            release,
            index_file: "index.html".into(),
            public: true,
            not_after: now().plus(HOUR),
            links: Vec::new(),
        }
    }

    pub(crate) fn blob_key(&self, digest: BlobDigest) -> String {
        format!("hosting/{}/blobs/{digest}", BlobDigest::of(self.owner.did().as_str().as_bytes()))
    }

    pub(crate) fn release_key(&self, id: ReleaseId) -> String {
        format!("hosting/{}/releases/{}.json", BlobDigest::of(self.owner.did().as_str().as_bytes()), id.hex())
    }
}

pub(crate) async fn listen(router: Router) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (address, tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }))
}

pub(super) struct Asker {
    pub(super) address: SocketAddr,
    client: Client,
}

impl Asker {
    pub(super) async fn new(world: &World) -> Self {
        Self { address: listen(world.router()).await.0, client: Client::new() }
    }

    async fn send(&self, path: &str, authorization: Option<String>) -> (u16, Bytes) {
        let mut request = self.client.get(format!("http://{}{path}", self.address));
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap())
    }

    /// An answer whose body was not read yet.
    async fn open(&self, credentials: &SiteCredentials, path: &str) -> reqwest::Response {
        let authorization = credentials.authorization(path, now(), 42, rand::random()).unwrap();
        let request = self.client.get(format!("http://{}{path}", self.address)).header("authorization", authorization);
        request.send().await.unwrap()
    }

    pub(super) async fn ask(&self, credentials: &SiteCredentials, path: &str) -> (u16, Bytes) {
        let authorization = credentials.authorization(path, now(), 42, rand::random()).unwrap();
        self.send(path, Some(authorization)).await
    }

    /// Asserts a refusal and the start of its text.
    async fn refused(&self, credentials: &SiteCredentials, path: &str, status: u16, text: &str) {
        let (found, body) = self.ask(credentials, path).await;
        let body = String::from_utf8_lossy(&body);
        assert!(found == status && body.starts_with(text), "{path}: {found} {body}");
    }
}

const POLL: &str = "/v1/sites/shop/web";

#[tokio::test]
async fn the_current_key_gets_target_manifest_and_blobs_of_the_targeted_release_only() {
    let world = World::new();
    let asker = Asker::new(&world).await;
    let key = key();
    let credentials = world.credentials(&key);
    asker.refused(&credentials, POLL, 503, "the operator has no store yet").await;
    world.fill();
    asker.refused(&credentials, POLL, 403, "NotCurrent").await;

    let mut files = random_files(&["index.html", "a.css"]);
    files.insert("long.bin".into(), rand::random::<[u8; 32]>().repeat(1000).into());
    let others = random_files(&["index.html"]);
    let (release, other) = (world.publish(&files).await, world.publish(&others).await);
    world.table.set(&world.site, world.target(&key, release));

    let (status, answer) = asker.ask(&credentials, POLL).await;
    assert_eq!(status, 200);
    let target = Target::from_answer(&answer, world.provider.did(), key.did(), 42, now()).unwrap();
    assert_eq!(target, Target { release, index_file: "index.html".into(), public: true });

    let (status, manifest) = asker.ask(&credentials, &format!("/v1/releases/{release}?site=shop/web")).await;
    assert_eq!((status, Release::parse(&manifest).unwrap().id()), (200, release));
    for bytes in files.values() {
        let path = format!("/v1/blobs/{}?site=shop/web", BlobDigest::of(bytes));
        assert_eq!(asker.ask(&credentials, &path).await, (200, bytes.clone()));
    }
    let foreign = BlobDigest::of(&others["index.html"]);
    asker.refused(&credentials, &format!("/v1/releases/{other}?site=shop/web"), 404, "").await;
    asker.refused(&credentials, &format!("/v1/blobs/{foreign}?site=shop/web"), 404, "").await;

    let digest = BlobDigest::of(&files["long.bin"]);
    world.store.corrupt(&world.blob_key(digest), Bytes::from(vec![1; files["long.bin"].len()]));
    let path = format!("/v1/blobs/{digest}?site=shop/web");
    let cut = asker.open(&credentials, &path).await.bytes().await;
    assert!(cut.is_err(), "what turns out wrong is cut short");

    let digest = BlobDigest::of(&files["index.html"]);
    let path = format!("/v1/blobs/{digest}?site=shop/web");
    world.store.corrupt(&world.blob_key(digest), Bytes::from("evil"));
    asker.refused(&credentials, &path, 503, "the store did not give it").await;
    world.store.set_silent(true);
    asker.refused(&credentials, &path, 503, "the store did not give it").await;
}

#[tokio::test]
async fn every_other_key_time_and_request_is_refused() {
    let world = World::new();
    world.fill();
    let asker = Asker::new(&world).await;
    let (old, new) = (key(), key());
    let release = world.publish(&random_files(&["index.html"])).await;
    let target = world.target(&old, release);
    let (of_old, of_new) = (world.credentials(&old), world.credentials(&new));
    world.table.set(&world.site, target.clone());
    assert_eq!(asker.ask(&of_old, POLL).await.0, 200);

    world.table.set(&world.site, world.target(&new, release));
    assert_eq!(asker.ask(&of_new, POLL).await.0, 200);
    for path in [POLL.to_owned(), format!("/v1/releases/{release}?site=shop/web")] {
        asker.refused(&of_old, &path, 403, "NotCurrent").await;
    }
    let elsewhere = SiteCredentials { site: SiteName::new("shop", "other").unwrap(), ..of_new.clone() };
    assert!(elsewhere.authorization("/v1/sites/shop/other", now(), 1, [0; 12]).is_err(), "the grant is for one name");
    let wide = Capability::parse("/hosting/shop/read").unwrap();
    let wide = SiteCredentials { grant: world.grant(&new, wide, now().plus(HOUR)), ..elsewhere };
    asker.refused(&wide, "/v1/sites/shop/other", 403, "NotCurrent").await;
    asker.refused(&wide, POLL, 403, "WrongBehaviour").await;

    let own = SiteCredentials { provider: new.did().clone(), ..of_new.clone() };
    assert!(own.authorization(POLL, now(), 1, [0; 12]).is_err(), "the audience of the grant is the provider");
    let usurper = World { provider: key(), ..World::new() };
    let forged = SiteCredentials { provider: world.provider.did().clone(), ..usurper.credentials(&new) };
    if let Ok(value) = forged.authorization(POLL, now(), 1, [0; 12]) {
        assert_eq!(asker.send(POLL, Some(value)).await.0, 403);
    }

    for (path, value) in [
        (POLL, None),
        (POLL, Some("Bearer x".to_owned())),
        (POLL, Some("DMS !".to_owned())),
        (POLL, Some(format!("DMS {}", "A".repeat(MAX_INVOCATION * 2)))),
        (POLL, of_new.authorization("/v1/sites/shop/web?serving=", now(), 1, [0; 12]).ok()),
        (POLL, of_new.authorization(POLL, now().plus(Duration::from_mins(2)), 1, [0; 12]).ok()),
    ] {
        assert_eq!(asker.send(path, value.clone()).await.0, 400, "{value:?}");
    }
    let late = of_new.authorization(POLL, now().minus(Duration::from_mins(2)), 1, [0; 12]).unwrap();
    let (status, text) = asker.send(POLL, Some(late)).await;
    assert!(status == 403 && text.starts_with(b"Expired"), "{text:?}");
}

#[tokio::test]
async fn the_deployments_own_verdict_is_tested_at_each_request() {
    let world = World::new();
    world.fill();
    let asker = Asker::new(&world).await;
    let key = key();
    let credentials = world.credentials(&key);
    let release = world.publish(&random_files(&["index.html"])).await;
    let link = RevocationKey { issuer: key.did().clone(), subject: key.did().clone(), nonce: vec![1] };
    let target = SiteTarget {
        not_after: now().plus(Duration::from_secs(20)),
        links: vec![link.clone()],
        ..world.target(&key, release)
    };
    world.table.set(&world.site, target.clone());
    assert_eq!(asker.ask(&credentials, POLL).await.0, 200);
    world.ahead.store(21, Ordering::SeqCst);
    asker.refused(&credentials, POLL, 403, "Expired").await;
    world.table.set(&world.site, SiteTarget { not_after: now().plus(HOUR), ..target });
    assert_eq!(asker.ask(&credentials, POLL).await.0, 200, "renewed without a new key");
    world.revoked.lock().unwrap().insert(link);
    asker.refused(&credentials, POLL, 403, "Revoked").await;
    world.revoked.lock().unwrap().clear();
    world.revoked.lock().unwrap().insert(credentials.grant.revocation_key());
    asker.refused(&credentials, POLL, 403, "Revoked").await;
    world.revoked.lock().unwrap().clear();
    world.table.remove(&world.site);
    asker.refused(&credentials, POLL, 403, "NotCurrent").await;
}

#[tokio::test]
async fn a_poll_waits_for_news_and_tells_the_report() {
    let world = World::new();
    world.fill();
    let asker = Asker::new(&world).await;
    let key = key();
    let credentials = world.credentials(&key);
    let (first, second) =
        (world.publish(&random_files(&["index.html"])).await, world.publish(&random_files(&["index.html"])).await);
    world.table.set(&world.site, world.target(&key, first));
    let serving = format!("{POLL}?serving={first}");
    assert_eq!(asker.ask(&credentials, &serving).await, (204, Bytes::new()));
    assert_eq!(world.table.reported(&world.site), Some(first));
    let known = Target { release: first, index_file: "index.html".into(), public: true }.version();
    let settled = format!("{serving}&known={known}");
    assert_eq!(asker.ask(&credentials, &settled).await, (204, Bytes::new()));

    let change = async {
        tokio::task::yield_now().await;
        world.table.set(&world.site, world.target(&key, second));
    };
    let ((status, answer), ()) = tokio::join!(asker.ask(&credentials, &settled), change);
    let target = Target::from_answer(&answer, world.provider.did(), key.did(), 42, now()).unwrap();
    assert_eq!((status, target.release), (200, second));

    world.table.set(&world.site, SiteTarget { public: false, ..world.target(&key, first) });
    assert_eq!(asker.ask(&credentials, &settled).await.0, 200, "the same release, served otherwise");

    let revoked = async {
        tokio::task::yield_now().await;
        world.table.set(&world.site, world.target(&self::key(), second));
    };
    world.table.set(&world.site, world.target(&key, first));
    let ((status, _), ()) = tokio::join!(asker.ask(&credentials, &settled), revoked);
    assert_eq!(status, 403, "a key that is replaced while it waits gets nothing");
}

/// What is logged by this thread while it lives.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _recording: tracing::subscriber::DefaultGuard,
}

impl Log {
    fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(lines.clone());
        let subscriber = tracing_subscriber::fmt().with_writer(move || sink.clone()).with_ansi(false).finish();
        Self { lines, _recording: tracing::subscriber::set_default(subscriber) }
    }

    fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn damage_in_the_store_is_told_to_people_and_once_to_the_controller() {
    let world = World::new();
    world.fill();
    let asker = Asker::new(&world).await;
    let key = key();
    let credentials = world.credentials(&key);
    let mut files = random_files(&["index.html", "spoilt.css", "lost.js"]);
    files.insert("long.bin".into(), rand::random::<[u8; 32]>().repeat(1000).into());
    let digest = |path: &str| BlobDigest::of(&files[path]);
    let path = |file: &str| format!("/v1/blobs/{}?site=shop/web", digest(file));
    let release = world.publish(&files).await;
    world.table.set(&world.site, world.target(&key, release));
    world.store.set_silent(true);
    asker.refused(&credentials, &path("lost.js"), 503, "the store did not give it").await;
    world.store.set_silent(false);
    assert!(!world.table.take_damage(&world.site, release), "silence is no damage");

    let mut reports = Box::pin(world.table.reports());
    for damaged in ["spoilt.css", "lost.js", "long.bin", "manifest"] {
        // A site that is set anew has no manifest yet, and no damage.
        world.table.remove(&world.site);
        world.table.set(&world.site, world.target(&key, release));
        let log = Log::start();
        match damaged {
            "lost.js" => world.store.lose(&world.blob_key(digest(damaged))),
            "manifest" => world.store.corrupt(&world.release_key(release), Bytes::from("{}")),
            file => world.store.corrupt(&world.blob_key(digest(file)), Bytes::from(vec![0; files[file].len()])),
        }
        let ask = async || match damaged {
            "long.bin" => assert!(asker.open(&credentials, &path(damaged)).await.bytes().await.is_err()),
            "manifest" => asker.refused(&credentials, &path("index.html"), 503, "the store did not give it").await,
            file => asker.refused(&credentials, &path(file), 503, "the store did not give it").await,
        };
        ask().await;
        let text = log.text();
        assert!(text.contains("WARN") && text.contains("spec.content.from") && text.contains("shop/web"), "{text}");
        assert_eq!(reports.next().await, Some(world.site.clone()), "{damaged}");
        let other = ReleaseId::parse(&format!("sha256:{}", "a".repeat(64))).unwrap();
        assert!(!world.table.take_damage(&world.site, other), "{damaged}");
        assert!(world.table.take_damage(&world.site, release), "{damaged}");
        ask().await;
        assert!(!world.table.take_damage(&world.site, release), "{damaged}: not again so soon");
        world.publisher.republish_files(world.owner.did(), release, &files).await.unwrap();
    }
}
