//! What removes a defence still fits the code, and names a test that is there.

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use crate::{definitions::root, fields::rust_files};

/// What is tried against those who sign in, and against those who let them: by number the common attacks (replay; relay
/// from another site; text brought into a field; a nonce of the attacker's; a malleable signature; a choice of algorithm;
/// another spelling of a DID; a signature made for something else; a wrong clock; a header that names somebody else; a right
/// that was taken back), by name the faults that sign-in code was seen to have.
const ATTACKS: [&str; 17] = [
    "1",
    "2",
    "3",
    "4",
    "5",
    "6",
    "7",
    "8",
    "17",
    "18",
    "22",
    "domain not bound",
    "domain check skipped when the option is missing",
    "nonce constant",
    "nonce not bound to the session",
    "nonce not consumed",
    "nonce searched as a substring",
];

fn patches() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("tests/sabotage")).unwrap().map(|entry| entry.unwrap().path());
    let mut patches: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "patch")).collect();
    patches.sort();
    assert!(patches.len() > 20, "{patches:?}");
    patches
}

/// The value of a line such as `# test: name`.
fn header(text: &str, name: &str) -> Option<String> {
    let begin = format!("# {name}: ");
    text.lines().take_while(|line| line.starts_with('#')).find_map(|line| line.strip_prefix(&begin)).map(str::to_owned)
}

/// Every function of the sources by its own name.
fn functions() -> BTreeSet<String> {
    let files = ["src", "tests/it"].into_iter().flat_map(|folder| rust_files(&root().join(folder)));
    let texts = files.map(|file| fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| {
            let words = text.split("fn ").skip(1);
            words.map(|rest| rest.split(['(', '<']).next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn every_patch_fits_and_names_a_test() {
    let functions = functions();
    for patch in patches() {
        let shown = patch.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&patch).unwrap();
        assert!(
            header(&text, "removes").is_some_and(|defence| !defence.is_empty()),
            "{shown} does not say what it removes"
        );
        let test = header(&text, "test").unwrap_or_else(|| panic!("{shown} names no test"));
        let function = test.rsplit("::").next().unwrap();
        assert!(functions.contains(function), "{shown} names {test}, which is not there");
        let output = Command::new("git").arg("apply").arg("--check").arg(&patch).current_dir(root()).output().unwrap();
        assert!(output.status.success(), "{shown} does not fit: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn every_attack_on_signing_in_has_a_patch() {
    let texts = patches().into_iter().map(|patch| fs::read_to_string(patch).unwrap());
    let named: BTreeSet<String> = texts
        .filter_map(|text| header(&text, "attack"))
        .flat_map(|attacks| attacks.split(", ").map(str::to_owned).collect::<Vec<_>>())
        .collect();
    assert_eq!(named, ATTACKS.map(str::to_owned).into());
}

#[test]
fn every_patch_has_a_number_of_its_own() {
    let numbers: Vec<String> = patches()
        .iter()
        .map(|path| path.file_name().unwrap().to_string_lossy().split('-').next().unwrap().to_owned())
        .collect();
    let all: BTreeSet<&String> = numbers.iter().collect();
    assert_eq!(all.len(), numbers.len(), "{numbers:?}");
}
