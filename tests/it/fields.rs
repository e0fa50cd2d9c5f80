//! No field without effect: every leaf of every `spec` names the test that shows it obeyed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::definitions::{definitions, leaves, root};

/// Leaf of a spec → test that fails when the leaf is ignored.
const SHOWN_BY: &[(&str, &str)] = &[];

/// Leaves whose tests are still to land; each entry is a debt, and one that is paid must go.
const NOT_YET_SHOWN: &[&str] = &[
    "CapabilityRevocation.spec.token",
    "HostingDeployment.spec.authorization.invocation",
    "HostingDeployment.spec.content.access",
    "HostingDeployment.spec.content.from.archive.sha256",
    "HostingDeployment.spec.content.from.archive.url",
    "HostingDeployment.spec.content.from.configMap.name",
    "HostingDeployment.spec.content.indexFile",
    "HostingDeployment.spec.content.release",
    "HostingDeployment.spec.onExpiry",
    "HostingDeployment.spec.owner",
    "HostingDeployment.spec.placement.deviceSelector.matchLabels{}",
    "HostingDeployment.spec.providerRef.name",
    "HostingDeployment.spec.providerRef.namespace",
    "HostingDevice.spec.addresses[]",
    "HostingDevice.spec.did",
    "HostingDevice.spec.grant",
    "HostingDevice.spec.unschedulable",
    "HostingProvider.spec.allowedNamespaces.from",
    "HostingProvider.spec.allowedNamespaces.selector.matchLabels{}",
    "HostingProvider.spec.content.quotas.maxReleaseBytes",
    "HostingProvider.spec.content.quotas.maxReleaseFiles",
    "HostingProvider.spec.content.retainAfterDelete",
    "HostingProvider.spec.identity.keySecretRef.name",
    "HostingProvider.spec.policy.keepExpiredFor",
    "HostingProvider.spec.policy.publicAccess",
    "HostingProvider.spec.policy.rollback",
    "HostingProvider.spec.storage.s3.auth.secretRef.name",
    "HostingProvider.spec.storage.s3.bucket",
    "HostingProvider.spec.storage.s3.endpoint",
    "HostingProvider.spec.storage.s3.pathStyle",
    "HostingProvider.spec.storage.s3.prefix",
    "HostingProvider.spec.storage.s3.region",
];

#[test]
fn every_leaf_of_a_spec_names_the_test_that_shows_it_obeyed() {
    let existing: BTreeSet<String> = definitions()
        .iter()
        .flat_map(|definition| {
            leaves("spec", &definition.schema["properties"]["spec"])
                .into_iter()
                .map(|leaf| format!("{}.{leaf}", definition.kind))
        })
        .collect();
    let shown: BTreeMap<&str, &str> = SHOWN_BY.iter().copied().collect();
    assert_eq!(shown.len(), SHOWN_BY.len(), "a leaf stands in SHOWN_BY twice");
    let owed: BTreeSet<&str> = NOT_YET_SHOWN.iter().copied().collect();
    assert_eq!(owed.len(), NOT_YET_SHOWN.len(), "a leaf stands in NOT_YET_SHOWN twice");

    let listed: BTreeSet<String> = shown.keys().chain(&owed).map(|&leaf| leaf.to_owned()).collect();
    let untested: Vec<_> = existing.difference(&listed).collect();
    assert!(untested.is_empty(), "fields without a test that shows them obeyed: {untested:?}");
    let gone: Vec<_> = listed.difference(&existing).collect();
    assert!(gone.is_empty(), "fields that do not exist any more: {gone:?}");
    let paid: Vec<_> = owed.iter().filter(|leaf| shown.contains_key(*leaf)).collect();
    assert!(paid.is_empty(), "remove from NOT_YET_SHOWN: {paid:?}");

    let tests = test_functions();
    let missing: Vec<_> = shown.iter().filter(|(_, test)| !tests.contains(**test)).collect();
    assert!(missing.is_empty(), "named tests that do not exist: {missing:?}");
}

#[test]
fn test_functions_are_told_from_other_functions() {
    let tests = test_functions();
    assert!(tests.contains("test_functions_are_told_from_other_functions"));
    assert!(!tests.contains("test_functions"));
    assert!(!tests.contains("spec_digest"));
}

/// Names of the functions in `tests/` and `src/` that carry a test attribute.
fn test_functions() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in rust_files(&root().join("tests")).into_iter().chain(rust_files(&root().join("src"))) {
        let mut marked = false;
        for line in fs::read_to_string(file).unwrap().lines().map(str::trim) {
            let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').skip_while(|word| *word == "pub");
            match line {
                _ if line.starts_with("#[") => {
                    marked |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                }
                _ if line.starts_with("//") || line.is_empty() => {}
                _ => {
                    if marked && words.by_ref().any(|word| word == "fn") {
                        found.extend(words.next().map(str::to_owned));
                    }
                    marked = false;
                }
            }
        }
    }
    found
}

/// Every `.rs` file below a folder.
pub fn rust_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}
