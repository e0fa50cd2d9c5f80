//! An archive is measured before it is published: by what the provider permits, which may be less than the operator takes.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, routing::get};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    timed::Timed,
    world::{Tenant, condition, creations, installation_with, name, page, release_of},
};

/// Serves files as an archive on loopback, and counts how often it is asked for. Gives its URL, its SHA-256, and the
/// release that it makes.
pub async fn serve(files: &BTreeMap<String, String>, asked: &Arc<AtomicUsize>) -> (String, String, String) {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, text.as_bytes()).unwrap();
    }
    let bytes = builder.into_inner().unwrap().finish().unwrap();
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let asked = Arc::clone(asked);
    let answer = get(move || {
        asked.fetch_add(1, Ordering::SeqCst);
        let bytes = bytes.clone();
        async move { bytes }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/site.tar.gz", answer)).await });
    (format!("http://{address}/site.tar.gz"), sha256, release_of(files))
}

/// An object whose files come from an archive, not signed yet.
pub fn object(tenant: &Tenant<'_>, name: &str, release: &str, url: &str, sha256: &str) -> Value {
    let mut object = tenant.object(name, release);
    object["spec"]["content"]["from"] = json!({"archive": {"url": url, "sha256": sha256}});
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_beyond_the_quota_is_not_published_and_the_sentence_says_whom_to_ask() {
    let _timed = Timed::start();
    let quotas = json!({"content": {"quotas": {"maxReleaseBytes": 4096, "maxReleaseFiles": 3}}});
    let arguments = ["--resync", "1s", "--allow-private-archives"];
    let installation = installation_with("archives", 1, &arguments, &[], quotas).await;
    let tenant = Tenant::new(&installation).await;
    let many = (0..4).map(|number| (format!("{number}.html"), page().1)).collect();
    let long = BTreeMap::from([("index.html".to_owned(), "x".repeat(4097))]);
    // Too much to be downloaded even before it is looked into.
    let noise = hex::encode(rand::random_iter().take(2 << 20).collect::<Vec<u8>>());
    let heavy = BTreeMap::from([("index.html".to_owned(), noise)]);
    for (files, most) in [(long, "4096 bytes unpacked"), (many, "3 files"), (heavy, "bytes to download")] {
        let (name, asked) = (name(), Arc::new(AtomicUsize::new(0)));
        let (url, sha256, release) = serve(&files, &asked).await;
        tenant.apply(&tenant.sign(object(&tenant, &name, &release, &url, &sha256))).await.unwrap();

        let status = tenant.condition(&name, "ContentPublished", "False", "QuotaExceeded").await;
        let (value, _, message) = condition(&status, "Stalled");
        assert_eq!(value, "True");
        let next = "this provider's quota leaves room for. Make it smaller and sign again, or ask the provider";
        assert!(message.contains(most) && message.contains(next), "{message}");
        assert!(asked.load(Ordering::SeqCst) > 0, "it was fetched, and not refused unseen");
        assert_eq!((status.deployment, creations(&installation)), (None, 0));
        let requests = installation.s3.requests();
        let id = release.trim_start_matches("sha256:");
        let blobs = |path: &str| path.contains("/blobs/") || path.contains(id);
        assert!(!requests.iter().any(|request| request.method == "PUT" && blobs(&request.path)), "{requests:?}");
    }
}
