//! What the store holds, for whom, and what happens without it.

use std::path::{Path, PathBuf};

use cucumber::{then, when};
use sha2::{Digest as _, Sha256};

use super::documents;
use crate::{
    desk::Desk,
    stage::{Page, Stage, prefix},
    world::name,
};

/// Every file of the store with this name.
fn found(folder: &Path, called: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.file_name() == called {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// The names of what makes up a release, and the bytes of its files.
fn objects(page: &Page) -> Vec<(String, Option<String>)> {
    let manifest = (format!("{}.json", page.release.trim_start_matches("sha256:")), None);
    let blobs = page.files.values().map(|text| (hex::encode(Sha256::digest(text)), Some(text.clone())));
    blobs.chain([manifest]).collect()
}

/// All of a page lies under the DIDs of these, and nowhere else.
fn assert_held(stage: &Stage, page: &Page, desks: &[&Desk]) {
    let folder = stage.installation().s3.folder();
    for (called, text) in objects(page) {
        let found = found(folder, &called);
        assert_eq!(found.len(), desks.len(), "{called}: {found:?}");
        for desk in desks {
            let place = format!("/{}/", prefix(desk));
            let file = found.iter().find(|path| path.to_string_lossy().contains(&place)).expect("it is under the DID");
            if let Some(text) = &text {
                assert_eq!(std::fs::read_to_string(file).unwrap(), *text);
            }
        }
    }
}

#[then("the store holds the page and its release under the owner's DID and nowhere else")]
fn under_the_did(stage: &mut Stage) {
    assert_held(stage, &stage.page, &[stage.owner()]);
}

#[then("the store holds the page for each of the two owners")]
fn for_each(stage: &mut Stage) {
    assert_held(stage, &stage.page, &[stage.owner(), stage.neighbour.as_ref().unwrap()]);
}

#[then("the store holds both releases under the owner's DID")]
fn both(stage: &mut Stage) {
    for page in [&stage.page, &stage.other] {
        assert_held(stage, page, &[stage.owner()]);
    }
}

#[then("the file that both releases hold was uploaded once")]
fn uploaded_once(stage: &mut Stage) {
    assert_eq!(stage.page.files["style.css"], stage.other.files["style.css"]);
    let shared = hex::encode(Sha256::digest(&stage.page.files["style.css"]));
    let writes = stage.writes_of(stage.owner());
    let uploads: Vec<_> = writes.iter().filter(|request| request.path.ends_with(&shared)).collect();
    assert_eq!(uploads.len(), 1, "{uploads:?}");
}

#[when("the owner signs a deployment of the page, and other files are put in its place before it is applied")]
async fn other_files(stage: &mut Stage) {
    let name = name();
    let objects = stage.site(&name, &stage.page);
    let text = stage.owner().sign(&objects, stage.grant.as_deref()).await;
    let object = documents(&text).pop().unwrap().to_string();
    assert!(object.contains("HostingDeployment"), "{object}");
    let other = stage.files(&name, &stage.other).to_string();
    stage.owner().apply(&other).await.done();
    stage.applying(&name, &object);
    stage.owner().apply(&object).await.done();
}

#[then("the store holds neither the page nor the other files")]
fn neither(stage: &mut Stage) {
    for page in [&stage.page, &stage.other] {
        assert_held(stage, page, &[]);
    }
}

#[when("the store is unavailable")]
fn unavailable(stage: &mut Stage) {
    stage.own.as_mut().expect("others need the shared store").s3.stop();
}

#[when("the store is available again")]
async fn available(stage: &mut Stage) {
    stage.own.as_mut().unwrap().s3.resume().await.unwrap();
}
