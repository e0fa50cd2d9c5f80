//! What stands in the way is said, waited for, and heals; what a person must mend is said with the sentence that helps.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use dms_operator::{api::HostingDeploymentStatus, dev::installation::Installation};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    archives,
    cluster::eventually,
    timed::Timed,
    world::{Tenant, creations, fetch, installation, installation_with, name, page, port_of, release_of},
};

/// Pages fetched to see them counted, and what each request holds beside what it must.
const PAGES: usize = 8;
const PADDING: usize = 4096;

/// The value of one sample on /metrics.
async fn sample(installation: &Installation, name: &str) -> Option<f64> {
    let (_, text) = fetch(&format!("{}/metrics", installation.http)).await;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn message(status: &HostingDeploymentStatus, kind: &str) -> String {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .map(|found| found.message.clone())
        .unwrap_or_default()
}

fn uploads(installation: &Installation) -> usize {
    installation.s3.requests().iter().filter(|request| request.method == "PUT" || request.method == "POST").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_store_it_waits_says_so_and_heals() {
    let _timed = Timed::start();
    let mut installation = installation("s3-down", 1, &["--resync", "1s"], &[]).await;
    let (served, new) = (name(), name());
    let (old_files, old_body) = page();
    let (files, body) = page();
    let seat = {
        let tenant = Tenant::new(&installation).await;
        tenant.deploy(&served, &old_files).await;
        tenant.ready(&served).await;
        tenant.seat()
    };
    installation.s3.stop();
    let tenant = seat.at(&installation);
    tenant.deploy(&new, &files).await;
    let status = tenant.condition(&new, "ContentPublished", "False", "StorageUnavailable").await;
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Reconciling").unwrap();
    assert_eq!((&*ready.status, &*ready.reason), ("True", "StorageUnavailable"));
    assert_eq!(status.deployment, None, "nothing is started for files that are not there");
    assert_eq!(creations(&installation), 1);
    // What is served goes on without the store.
    let url = tenant.status(&served).await.url.unwrap();
    assert_eq!(fetch(&url).await, (200, old_body));
    let seat = tenant.seat();
    installation.s3.resume().await.unwrap();
    let tenant = seat.at(&installation);
    let url = tenant.ready(&new).await.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body));
    assert_eq!(creations(&installation), 2);
}

/// Where an object of a release lies on the disk of the store.
fn stored(installation: &Installation, name: &str) -> std::path::PathBuf {
    let mut folders = vec![installation.s3.folder().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_name() == name {
                return entry.path();
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("{name} is not in the store")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_lost_or_spoilt_is_published_anew_from_its_source() {
    let _timed = Timed::start();
    let installation = installation("s3-damage", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (files, body) = page();
    let first = name();
    let release = tenant.deploy(&first, &files).await;
    tenant.ready(&first).await;
    let blob = stored(&installation, &hex::encode(Sha256::digest(&body)));
    let manifest = stored(&installation, &format!("{}.json", release.trim_start_matches("sha256:")));
    let whole = std::fs::read(&manifest).unwrap();
    for damage in ["lost blob", "spoilt blob", "spoilt manifest"] {
        match damage {
            "lost blob" => std::fs::remove_file(&blob).unwrap(),
            "spoilt blob" => std::fs::write(&blob, vec![b'x'; body.len()]).unwrap(),
            _ => std::fs::write(&manifest, "{}").unwrap(),
        }
        // Its site has none of the files yet.
        let next = name();
        tenant.deploy(&next, &files).await;
        let url = tenant.ready(&next).await.url.unwrap();
        assert_eq!(fetch(&url).await, (200, body.clone()), "{damage}");
        assert_eq!(
            (std::fs::read(&blob).unwrap(), std::fs::read(&manifest).unwrap()),
            (body.clone().into(), whole.clone())
        );
    }
}

/// No upload names a release, nor any of the files in it.
fn assert_not_uploaded(installation: &Installation, release: &str, files: &BTreeMap<String, String>) {
    let mut names: Vec<_> = files.values().map(|text| hex::encode(Sha256::digest(text))).collect();
    names.push(release.trim_start_matches("sha256:").to_owned());
    let requests = installation.s3.requests();
    let uploaded = requests.iter().filter(|request| request.method != "GET" && request.method != "HEAD");
    let found: Vec<_> = uploaded.filter(|request| names.iter().any(|name| request.path.contains(name))).collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// What is wrong with one object's content, side by side in one installation.
#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_was_signed_is_not_served() {
    let _timed = Timed::start();
    let quotas = json!({"content": {"quotas": {"maxReleaseBytes": 4096, "maxReleaseFiles": 3}}});
    let installation = installation_with("content", 1, &["--resync", "1s"], &[], quotas).await;
    let tenant = Tenant::new(&installation).await;
    futures::join!(
        missing_config_map(&tenant),
        other_bytes(&tenant),
        too_large(&tenant),
        private(&tenant),
        archive_at_a_private_address(&tenant),
        nowhere(&tenant),
        unreadable(&tenant),
    );
}

async fn missing_config_map(tenant: &Tenant<'_>) {
    let name = name();
    let (files, body) = page();
    tenant.apply(&tenant.sign(tenant.object(&name, &release_of(&files)))).await.unwrap();
    let status = tenant.condition(&name, "ContentPublished", "False", "ConfigMapNotFound").await;
    assert!(message(&status, "ContentPublished").contains(&format!("{}/{name}", tenant.namespace)));
    assert_eq!(status.deployment, None);
    tenant.files(&name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body));
}

/// A release is signed whose bytes the ConfigMap does not hold: the one before goes on.
async fn other_bytes(tenant: &Tenant<'_>) {
    let name = name();
    let (files, body) = page();
    let release = tenant.deploy(&name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    let (signed_files, other_files) = (page().0, page().0);
    let (signed, other) = (release_of(&signed_files), tenant.files(&name, &other_files).await);
    tenant.apply(&tenant.sign(tenant.object(&name, &signed))).await.unwrap();
    let status = tenant.condition(&name, "ContentPublished", "False", "ContentDigestMismatch").await;
    assert!(message(&status, "ContentPublished").contains(&signed), "{}", message(&status, "ContentPublished"));
    assert!(message(&status, "Stalled").contains("The release before goes on being served"));
    assert_eq!(status.release, Some(release));
    assert_not_uploaded(tenant.installation, &signed, &signed_files);
    assert_not_uploaded(tenant.installation, &other, &other_files);
    assert_eq!(fetch(&url).await, (200, body));
}

async fn too_large(tenant: &Tenant<'_>) {
    let bytes = BTreeMap::from([("index.html".to_owned(), "x".repeat(4097))]);
    let count: BTreeMap<String, String> = (0..4).map(|number| (format!("{number}.html"), number.to_string())).collect();
    for (files, says) in [(bytes, "1 files with 4097 bytes"), (count, "4 files with 4 bytes")] {
        let name = name();
        let release = tenant.deploy(&name, &files).await;
        let status = tenant.condition(&name, "ContentPublished", "False", "QuotaExceeded").await;
        let message = message(&status, "Stalled");
        assert!(message.contains(says) && message.contains("3 files with 4096 bytes"), "{message}");
        assert_eq!(status.deployment, None);
        assert_not_uploaded(tenant.installation, &release, &files);
    }
}

/// Nobody may read it, since nobody can prove to be its owner yet.
async fn private(tenant: &Tenant<'_>) {
    for access in [None, Some("Owner"), Some("Delegated")] {
        let name = name();
        let (files, body) = page();
        let release = tenant.files(&name, &files).await;
        let mut object = tenant.object(&name, &release);
        match access {
            Some(access) => object["spec"]["content"]["access"] = json!(access),
            None => drop(object["spec"]["content"].as_object_mut().unwrap().remove("access")),
        }
        tenant.apply(&tenant.sign(object)).await.unwrap();
        let status = tenant.condition(&name, "Ready", "False", "PrivateAccessNotAvailable").await;
        assert_eq!(status.url, None);
        // Its port is not told; whoever finds it reads nothing.
        let site = format!("http://127.0.0.1:{}/", port_of(tenant.installation, &status));
        let text = eventually("the site knows what it may not serve", async || match fetch(&site).await {
            (403, text) => Ok(text),
            (503, _) => Err("it waits to be told".to_owned()),
            other => panic!("{access:?}: {other:?}"),
        })
        .await;
        assert!(!text.contains(&body), "{access:?}");
    }
}

async fn archive_at_a_private_address(tenant: &Tenant<'_>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (url, sha256, release) = archives::serve(&page().0, &asked).await;
    let name = name();
    tenant.apply(&tenant.sign(archives::object(tenant, &name, &release, &url, &sha256))).await.unwrap();
    let status = tenant.condition(&name, "ContentPublished", "False", "ArchiveRefused").await;
    assert!(message(&status, "ContentPublished").contains("127.0.0.1"), "{}", message(&status, "ContentPublished"));
    assert_eq!(asked.load(Ordering::SeqCst), 0, "nothing was asked of the private address");
}

async fn nowhere(tenant: &Tenant<'_>) {
    let name = name();
    let mut object = tenant.object(&name, &release_of(&page().0));
    object["spec"]["content"].as_object_mut().unwrap().remove("from");
    tenant.apply(&tenant.sign(object)).await.unwrap();
    tenant.condition(&name, "ContentPublished", "False", "ReleaseNotFound").await;
}

/// It fits the schema, and is no key all the same.
async fn unreadable(tenant: &Tenant<'_>) {
    let name = name();
    let mut object = tenant.sign(tenant.object(&name, &release_of(&page().0)));
    object["spec"]["owner"] = json!(format!("did:key:z6Mk{}", "1".repeat(44)));
    tenant.apply(&object).await.unwrap();
    let events = async || {
        let events = tenant.events(&name).await.into_iter();
        events.map(|event| (event.reason, event.series.map(|series| series.count))).collect::<Vec<_>>()
    };
    eventually("the Event", async || if events().await.is_empty() { Err(String::new()) } else { Ok(()) }).await;
    let passes = "dms_operator_reconciles_total{kind=\"HostingDeployment\"}";
    let before = sample(tenant.installation, passes).await.unwrap_or_default();
    eventually("more passes", async || {
        let now = sample(tenant.installation, passes).await.unwrap_or_default();
        if now >= before + 10.0 { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
    assert_eq!(events().await, [(Some("InvalidObject".to_owned()), None)]);
    assert_eq!(tenant.status(&name).await.conditions, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_served_when_it_is_the_one_that_was_named() {
    let _timed = Timed::start();
    let arguments = ["--resync", "1s", "--allow-private-archives"];
    let installation = installation("archive", 1, &arguments, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let body = page().1;
    let files = BTreeMap::from([("sub/start.html".to_owned(), body.clone()), ("a.css".to_owned(), "a{}".to_owned())]);
    let (url, sha256, release) = archives::serve(&files, &asked).await;

    let wrong = name();
    let object = archives::object(&tenant, &wrong, &release, &url, &"0".repeat(64));
    tenant.apply(&tenant.sign(object)).await.unwrap();
    let before = uploads(&installation);
    let status = tenant.condition(&wrong, "ContentPublished", "False", "ArchiveDigestMismatch").await;
    assert!(message(&status, "Stalled").contains(&sha256), "{}", message(&status, "Stalled"));
    assert_eq!(uploads(&installation), before);

    let right = name();
    let mut object = archives::object(&tenant, &right, &release, &url, &sha256);
    object["spec"]["content"]["indexFile"] = json!("start.html");
    tenant.apply(&tenant.sign(object)).await.unwrap();
    let url = tenant.ready(&right).await.url.unwrap();
    assert_eq!(fetch(&format!("{url}sub/")).await, (200, body));
    assert_eq!(fetch(&format!("{url}a.css")).await, (200, "a{}".to_owned()));
    assert_eq!(fetch(&url).await.0, 404, "there is no start.html at the top");
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_while_it_runs_and_goes_with_the_object() {
    let _timed = Timed::start();
    let installation = installation("usage", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (files, body) = page();
    tenant.deploy(&name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body.clone()));
    let labels = format!("{{namespace=\"{}\",name=\"{name}\"}}", tenant.namespace);
    let usage = async |meter: &str| sample(&installation, &format!("dms_operator_usage_{meter}{labels}")).await;
    let (seconds, cpu, memory, disk) = eventually("usage", async || {
        let seconds = usage("allocation_seconds_total").await.unwrap_or_default();
        let sent = usage("network_sent_bytes_total").await.unwrap_or_default();
        if seconds < 2.0 || sent < 1.0 {
            return Err(format!("{seconds} s, {sent} bytes"));
        }
        let cpu = usage("reserved_cpu_millicore_seconds_total").await.unwrap_or_default();
        let memory = usage("reserved_memory_byte_seconds_total").await.unwrap_or_default();
        let disk = usage("reserved_disk_byte_seconds_total").await.unwrap_or_default();
        // All of one reading: not between two looks.
        if usage("allocation_seconds_total").await == Some(seconds) {
            Ok((seconds, cpu, memory, disk))
        } else {
            Err("a reading came in between".to_owned())
        }
    })
    .await;
    let (reserved_cpu, reserved_memory, reserved_disk) = (100.0, 134_217_728.0, 1_073_741_824.0);
    assert_eq!((cpu, memory, disk), (seconds * reserved_cpu, seconds * reserved_memory, seconds * reserved_disk));
    let size = f64::from(u32::try_from(body.len()).unwrap());
    assert!(usage("network_sent_bytes_total").await.unwrap() >= size);
    assert_eq!(usage("stored_bytes").await, Some(size));

    // Readers who send far more than they get: the two directions are not taken for each other.
    let bytes = async || {
        let received = usage("network_received_bytes_total").await.unwrap_or_default();
        (received, usage("network_sent_bytes_total").await.unwrap_or_default())
    };
    let before = bytes().await;
    let reader = reqwest::Client::new();
    for _ in 0..PAGES {
        let answer = reader.get(&url).header("x-padding", "x".repeat(PADDING)).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), body);
    }
    let padding = f64::from(u32::try_from(PAGES * PADDING).unwrap());
    let (received, sent) = eventually("the pages are counted", async || {
        let now = bytes().await;
        let (received, sent) = (now.0 - before.0, now.1 - before.1);
        if received >= padding { Ok((received, sent)) } else { Err(format!("{received} received, {sent} sent")) }
    })
    .await;
    assert!(received < 2.0 * padding && sent < padding, "{received} received, {sent} sent");

    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    assert_eq!(usage("allocation_seconds_total").await, None);
    assert_eq!(usage("stored_bytes").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_is_left_as_it_is() {
    let _timed = Timed::start();
    let installation = installation("suspend", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (held, other) = (name(), name());
    let (files, body) = page();
    tenant.deploy(&held, &files).await;
    let before = tenant.ready(&held).await;
    let annotate = async |value: Value| {
        let patch = json!({"metadata": {"annotations": {"hosting.nunet.io/suspend": value}}});
        tenant.api().patch(&held, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    };
    annotate(json!("true")).await;
    let (new_files, new_body) = page();
    tenant.deploy(&held, &new_files).await;
    // Another object goes through the whole pass meanwhile.
    tenant.deploy(&other, &page().0).await;
    tenant.ready(&other).await;
    assert_eq!(tenant.status(&held).await, before);
    let url = before.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body));
    annotate(Value::Null).await;
    eventually("the new page", async || {
        let seen = fetch(&url).await;
        if seen == (200, new_body.clone()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}
