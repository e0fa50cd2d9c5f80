use std::fs;

use super::*;
use crate::store::{
    memory::{MemoryStore, Requests},
    whole,
};

/// The DID of a key whose seed is one byte repeated.
fn did(seed: u8) -> Did {
    crate::capability::Key::from_seed([seed; 32]).did().clone()
}

pub(crate) fn owner() -> Did {
    did(7)
}

fn site(list: &[(&str, &'static str)]) -> Files {
    list.iter().map(|(path, text)| ((*path).to_owned(), Bytes::from_static(text.as_bytes()))).collect()
}

pub(crate) async fn read(publisher: &Publisher, file: &FileEntry) -> Result<Bytes, StoreError> {
    whole(publisher.open_blob(&owner(), file).await?).await
}

fn setup() -> (Arc<MemoryStore>, Publisher) {
    let store = Arc::new(MemoryStore::default());
    (store.clone(), Publisher::new(store, "/hosting/"))
}

#[tokio::test]
async fn only_what_is_missing_is_uploaded_and_the_second_time_nothing() {
    let (store, publisher) = setup();
    let files = site(&[("a", "same"), ("b", "same"), ("c", "other")]);
    let release = Release::from_files(&files).unwrap();
    let first = publisher.publish(&owner(), &release, &files).await.unwrap();
    let expected = PublishReport { release: release.id(), uploaded_blobs: 2, uploaded_bytes: 9, present_blobs: 0 };
    assert_eq!(first, expected);
    assert_eq!(store.take_requests(), Requests { get: 0, head: 3, put: 3 });

    let second = publisher.publish(&owner(), &release, &files).await.unwrap();
    assert_eq!(second, PublishReport { uploaded_blobs: 0, uploaded_bytes: 0, present_blobs: 2, ..expected });
    assert_eq!(store.take_requests(), Requests { get: 0, head: 1, put: 0 });

    let changed = site(&[("a", "same"), ("c", "changed")]);
    let next = Release::from_files(&changed).unwrap();
    let third = publisher.publish(&owner(), &next, &changed).await.unwrap();
    assert_eq!((third.uploaded_blobs, third.present_blobs), (1, 1));
    assert_eq!(store.take_requests(), Requests { get: 0, head: 3, put: 2 });

    let hash = BlobDigest::of(owner().as_str().as_bytes());
    assert_eq!(
        store.keys(),
        [
            format!("hosting/{hash}/blobs/{}", BlobDigest::of(b"changed")),
            format!("hosting/{hash}/blobs/{}", BlobDigest::of(b"same")),
            format!("hosting/{hash}/blobs/{}", BlobDigest::of(b"other")),
            format!("hosting/{hash}/releases/{}.json", release.id().hex()),
            format!("hosting/{hash}/releases/{}.json", next.id().hex()),
        ]
        .into_iter()
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
    );
    assert!(!publisher.release_exists(&did(8), release.id()).await.unwrap(), "owners share nothing");
}

#[tokio::test]
async fn files_that_make_another_release_upload_nothing() {
    let (store, publisher) = setup();
    let signed = Release::from_files(&site(&[("a", "1"), ("b", "2")])).unwrap();
    let edited = site(&[("a", "1"), ("b", "changed")]);
    let found = Release::from_files(&edited).unwrap().id();
    let error = publisher.publish_files(&owner(), signed.id(), &edited).await.unwrap_err();
    assert!(
        matches!(error, PublishError::DigestMismatch { expected, found: other } if expected == signed.id() && other == found)
    );
    let error = publisher.publish(&owner(), &signed, &edited).await.unwrap_err();
    assert!(matches!(&error, PublishError::FileChanged { path, .. } if path == "b"), "{error}");
    let error = publisher.publish(&owner(), &signed, &site(&[("a", "1")])).await.unwrap_err();
    assert!(matches!(&error, PublishError::FileMissing { path } if path == "b"), "{error}");
    assert_eq!(store.take_requests().put, 0);
    assert_eq!(store.keys(), Vec::<String>::new());
}

#[tokio::test]
async fn a_cut_publication_is_not_a_release_and_is_finished_later() {
    let (store, publisher) = setup();
    let files = site(&[("a", "1"), ("b", "2")]);
    let release = Release::from_files(&files).unwrap();
    store.set_silent(true);
    let error = publisher.publish(&owner(), &release, &files).await.unwrap_err();
    assert!(matches!(error, PublishError::Store(StoreError::Unavailable { .. })), "{error}");
    assert!(publisher.release_exists(&owner(), release.id()).await.is_err(), "silence is not absence");
    store.set_silent(false);
    store.corrupt(&publisher.blob_key(&owner(), BlobDigest::of(b"1")), Bytes::new());
    let report = publisher.publish(&owner(), &release, &files).await.unwrap();
    assert_eq!(report.uploaded_blobs, 2, "a blob cut short is written again");
    assert!(publisher.release_exists(&owner(), release.id()).await.unwrap());
}

#[tokio::test]
async fn what_does_not_hash_to_its_name_is_never_given_out() {
    let (store, publisher) = setup();
    let files = site(&[("a", "page")]);
    let release = Release::from_files(&files).unwrap();
    publisher.publish(&owner(), &release, &files).await.unwrap();
    let file = &release.files()["a"];
    assert_eq!(read(&publisher, file).await.unwrap(), "page");
    store.corrupt(&publisher.blob_key(&owner(), file.sha256), Bytes::from("evil"));
    let error = read(&publisher, file).await.unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt { found, .. } if *found == BlobDigest::of(b"evil").to_string()));

    store.lose(&publisher.blob_key(&owner(), file.sha256));
    let error = read(&publisher, file).await.unwrap_err();
    assert!(matches!(&error, StoreError::Lost(key) if key.ends_with(&file.sha256.to_string())), "{error}");

    let other = Release::from_files(&site(&[("a", "evil")])).unwrap();
    for bytes in [Bytes::copy_from_slice(other.to_json()), Bytes::from("{}"), Bytes::from("x")] {
        store.corrupt(&publisher.release_key(&owner(), release.id()), bytes);
        let error = publisher.load_release(&owner(), release.id()).await.unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    }
}

#[tokio::test]
async fn the_end_of_a_file_is_held_back_until_the_whole_is_known() {
    let (store, publisher) = setup();
    let page = Bytes::from(vec![7; 20_000]);
    let files = Files::from([("a".to_owned(), page.clone()), ("empty".to_owned(), Bytes::new())]);
    let release = Release::from_files(&files).unwrap();
    publisher.publish(&owner(), &release, &files).await.unwrap();
    let pieces = |path| publisher.open_blob(&owner(), &release.files()[path]).now_or_never().unwrap().unwrap();
    let honest: Vec<_> = pieces("a").try_collect().await.unwrap();
    assert!(honest.len() > 2, "it comes in pieces");
    assert_eq!(honest.concat(), page);
    assert_eq!(whole(pieces("empty")).await.unwrap(), "");

    // Other bytes at the start: all but the last piece go out before anybody can know.
    let spoilt = [&[8], &page[1..]].concat();
    store.corrupt(&publisher.blob_key(&owner(), BlobDigest::of(&page)), spoilt.into());
    let mut given: Vec<_> = pieces("a").collect().await;
    let error = given.pop().unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(given.len(), honest.len() - 1);
}

#[tokio::test]
async fn publishing_again_mends_what_the_store_lost_or_spoilt() {
    let (store, publisher) = setup();
    let files = site(&[("a", "page"), ("b", "other"), ("c", "third")]);
    let release = Release::from_files(&files).unwrap();
    publisher.publish(&owner(), &release, &files).await.unwrap();
    store.corrupt(&publisher.release_key(&owner(), release.id()), Bytes::from("{}"));
    store.corrupt(&publisher.blob_key(&owner(), BlobDigest::of(b"page")), Bytes::from("evil"));
    store.lose(&publisher.blob_key(&owner(), BlobDigest::of(b"other")));

    let error = publisher.republish_files(&owner(), release.id(), &site(&[("a", "page")])).await.unwrap_err();
    assert!(matches!(error, PublishError::DigestMismatch { .. }), "{error}");
    let report = publisher.republish_files(&owner(), release.id(), &files).await.unwrap();
    assert_eq!((report.uploaded_blobs, report.present_blobs), (3, 0));
    assert_eq!(publisher.load_release(&owner(), release.id()).await.unwrap(), Some(release.clone()));
    for (path, bytes) in &files {
        assert_eq!(read(&publisher, &release.files()[path]).await.unwrap(), bytes, "{path}");
    }
}

#[tokio::test]
async fn a_manifest_that_lies_about_a_size_gives_no_file() {
    let (_, publisher) = setup();
    let files = site(&[("a", "page")]);
    let release = Release::from_files(&files).unwrap();
    publisher.publish(&owner(), &release, &files).await.unwrap();
    let file = &release.files()["a"];
    let larger = FileEntry { size: 10, ..file.clone() };
    let error = read(&publisher, &larger).await.unwrap_err();
    assert!(matches!(error, StoreError::OtherSize { expected: 10, found: 4, .. }), "{error}");
    let smaller = FileEntry { size: 3, ..file.clone() };
    let error = read(&publisher, &smaller).await.unwrap_err();
    assert!(matches!(error, StoreError::TooLarge { limit: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_prefix_has_one_installation() {
    let (store, publisher) = setup();
    publisher.claim_prefix("one").await.unwrap();
    publisher.claim_prefix("one").await.unwrap();
    assert_eq!(store.keys(), ["hosting/installation"]);
    let error = publisher.claim_prefix("two").await.unwrap_err();
    assert!(
        matches!(&error, PublishError::ForeignPrefix { prefix, found } if prefix == "hosting" && found == "one"),
        "{error}"
    );
    Publisher::new(store.clone(), "other").claim_prefix("two").await.unwrap();
    store.corrupt("hosting/installation", Bytes::from("junk"));
    assert!(matches!(publisher.claim_prefix("one").await, Err(PublishError::ForeignPrefix { .. })));
}

#[tokio::test]
async fn a_folder_publishes_as_its_files_do() {
    let (_, publisher) = setup();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("d")).unwrap();
    fs::write(folder.path().join("d/x.css"), "body{}").unwrap();
    let release = Release::from_dir(folder.path()).unwrap();
    publisher.publish(&owner(), &release, &Folder(folder.path().to_owned())).await.unwrap();
    let file = &release.files()["d/x.css"];
    assert_eq!(read(&publisher, file).await.unwrap(), "body{}");
}
