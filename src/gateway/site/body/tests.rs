use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::*;
use crate::{
    gateway::{
        READS_A_SITE, SiteName,
        site::tests::{Asker, World, key, now},
    },
    store::{Files, ObjectStore, Release, publish::Publisher},
};

/// A store whose blobs are zeros, as many as are asked for, none of them in memory.
struct Zeros {
    manifest: Bytes,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    open: usize,
    most: usize,
    given: u64,
}

/// Counts a stream for as long as it lives.
struct Open(Arc<Mutex<Counts>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.lock().unwrap().open -= 1;
    }
}

#[async_trait::async_trait]
impl ObjectStore for Zeros {
    async fn open(&self, _key: &str, limit: u64) -> Result<Option<Pieces>, StoreError> {
        let mut counts = self.counts.lock().unwrap();
        counts.open += 1;
        counts.most = counts.most.max(counts.open);
        let state = (Open(self.counts.clone()), limit);
        let pieces = stream::unfold(state, async |(open, left)| {
            let size = left.min(64 << 10);
            open.0.lock().unwrap().given += size;
            (size > 0).then(|| (Ok(vec![0; usize::try_from(size).unwrap()].into()), (open, left - size)))
        });
        Ok(Some(pieces.boxed()))
    }

    async fn get(&self, _key: &str, _limit: u64) -> Result<Option<Bytes>, StoreError> {
        Ok(Some(self.manifest.clone()))
    }

    async fn head(&self, _key: &str) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    async fn put(&self, _key: &str, _body: Bytes, _media_type: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What the sockets between take in is less than half of this.
const LARGE: usize = 32 << 20;

#[tokio::test]
async fn sites_that_do_not_read_hold_neither_bytes_nor_others() {
    let files = Files::from([("large".to_owned(), vec![0; LARGE].into()), ("small".to_owned(), vec![0; 999].into())]);
    let release = Release::from_files(&files).unwrap();
    let counts = Arc::new(Mutex::new(Counts::default()));
    let zeros = Zeros { manifest: Bytes::copy_from_slice(release.to_json()), counts: counts.clone() };
    let mut world = World::new();
    world.publisher = Publisher::new(Arc::new(zeros), "hosting");
    world.service.blob_patience = |_| Duration::from_secs(1);
    world.fill();
    let key = key();
    let paths = ["web", "other"].map(|name| {
        let site = SiteName::new("shop", name).unwrap();
        world.table.set(&site, world.target(&key, release.id()));
        let path = |file: &str| format!("/v1/blobs/{}?site={site}", release.files()[file].sha256);
        (path("large"), path("small"))
    });
    let credentials = world.credentials(&key);
    let of_other = World { site: SiteName::new("shop", "other").unwrap(), ..world };
    let asker = Asker::new(&of_other).await;

    let mut stuck = Vec::new();
    for _ in 0..=READS_A_SITE {
        let mut stream = TcpStream::connect(asker.address).await.unwrap();
        let (path, authorization) = (&paths[0].0, credentials.authorization(&paths[0].0, now(), 1, rand::random()));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", authorization.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    for stream in &mut stuck[..READS_A_SITE] {
        assert_eq!(stream.read_u64().await.unwrap(), u64::from_be_bytes(*b"HTTP/1.1"));
    }
    assert_eq!(counts.lock().unwrap().most, READS_A_SITE, "the last one waits for its turn");
    let small = asker.ask(&of_other.credentials(&key), &paths[1].1).await;
    assert_eq!(small, (200, files["small"].clone()), "another site does not wait");
    // Its turn comes when those before it are cut off.
    let small = tokio::time::timeout(Duration::from_secs(20), asker.ask(&credentials, &paths[0].1)).await;
    assert_eq!(small.unwrap(), (200, files["small"].clone()));
    let Counts { given, .. } = *counts.lock().unwrap();
    assert!(given < (stuck.len() * LARGE / 2) as u64, "nothing is read for who does not take it: {given}");
    let mut rest = Vec::new();
    let _ = stuck[0].read_to_end(&mut rest).await;
    assert!(rest.len() < LARGE, "it was cut off");
}
