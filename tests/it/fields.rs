//! No field without effect: every leaf of every `spec` names the test that shows it obeyed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::definitions::{definitions, leaves, root};

/// Leaf of a spec → test that fails when the leaf is ignored.
const SHOWN_BY: &[(&str, &str)] = &[
    ("CapabilityRevocation.spec.token", "what_is_taken_back_stops_and_stays_stopped"),
    (
        "HostingDeployment.spec.authorization.invocation",
        "a_spec_without_right_is_refused_and_reaches_neither_device_nor_store",
    ),
    ("HostingDeployment.spec.content.access", "content_that_is_not_what_was_signed_is_not_served"),
    ("HostingDeployment.spec.content.from.archive.sha256", "an_archive_is_served_when_it_is_the_one_that_was_named"),
    ("HostingDeployment.spec.content.from.archive.url", "an_archive_is_served_when_it_is_the_one_that_was_named"),
    ("HostingDeployment.spec.content.from.configMap.name", "fifty_at_once_are_all_ready_and_none_twice"),
    ("HostingDeployment.spec.content.indexFile", "an_archive_is_served_when_it_is_the_one_that_was_named"),
    ("HostingDeployment.spec.content.release", "an_applied_site_is_served_updated_and_deleted"),
    ("HostingDeployment.spec.onExpiry", "expired_work_ends_as_its_spec_says"),
    ("HostingDeployment.spec.owner", "a_spec_without_right_is_refused_and_reaches_neither_device_nor_store"),
    (
        "HostingDeployment.spec.placement.deviceSelector.matchLabels{}",
        "a_deployment_goes_where_the_spec_and_the_devices_permit",
    ),
    ("HostingDeployment.spec.providerRef.name", "another_provider_is_not_served_and_says_so"),
    ("HostingDeployment.spec.providerRef.namespace", "another_provider_is_not_served_and_says_so"),
    ("HostingDevice.spec.addresses[]", "a_device_is_found_at_its_address_and_by_its_key"),
    ("HostingDevice.spec.did", "a_device_is_found_at_its_address_and_by_its_key"),
    ("HostingDevice.spec.grant", "a_deployment_goes_where_the_spec_and_the_devices_permit"),
    ("HostingDevice.spec.unschedulable", "a_deployment_goes_where_the_spec_and_the_devices_permit"),
    ("HostingProvider.spec.allowedNamespaces.from", "the_provider_decides_from_where_and_how_openly"),
    ("HostingProvider.spec.allowedNamespaces.selector.matchLabels{}", "the_provider_decides_from_where_and_how_openly"),
    ("HostingProvider.spec.content.quotas.maxReleaseBytes", "content_that_is_not_what_was_signed_is_not_served"),
    ("HostingProvider.spec.content.quotas.maxReleaseFiles", "content_that_is_not_what_was_signed_is_not_served"),
    ("HostingProvider.spec.content.retainAfterDelete", "expired_work_ends_as_its_spec_says"),
    ("HostingProvider.spec.deniedDIDs[]", "whom_the_provider_denies_has_no_right_and_none_left"),
    ("HostingProvider.spec.grants[].actions[]", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.grants[].lifetime", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.grants[].maxDelegations", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.grants[].namespaces[]", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.grants[].subjects.any", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.grants[].subjects.dids[]", "a_did_is_given_what_the_provider_offers_it"),
    ("HostingProvider.spec.identity.keySecretRef.name", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
    ("HostingProvider.spec.notices.webhook.url", "each_accepted_change_is_confirmed_and_each_refusal_told"),
    ("HostingProvider.spec.policy.keepExpiredFor", "expired_work_ends_as_its_spec_says"),
    ("HostingProvider.spec.policy.publicAccess", "the_provider_decides_from_where_and_how_openly"),
    ("HostingProvider.spec.policy.rollback", "what_was_signed_before_does_not_come_back"),
    (
        "HostingProvider.spec.storage.s3.auth.secretRef.name",
        "the_provider_speaks_with_its_key_and_stores_where_it_is_told",
    ),
    ("HostingProvider.spec.storage.s3.bucket", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
    ("HostingProvider.spec.storage.s3.endpoint", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
    ("HostingProvider.spec.storage.s3.pathStyle", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
    ("HostingProvider.spec.storage.s3.prefix", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
    ("HostingProvider.spec.storage.s3.region", "the_provider_speaks_with_its_key_and_stores_where_it_is_told"),
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
    let listed: BTreeSet<String> = shown.keys().map(|&leaf| leaf.to_owned()).collect();
    let untested: Vec<_> = existing.difference(&listed).collect();
    assert!(untested.is_empty(), "fields without a test that shows them obeyed: {untested:?}");
    let gone: Vec<_> = listed.difference(&existing).collect();
    assert!(gone.is_empty(), "fields that do not exist any more: {gone:?}");

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
