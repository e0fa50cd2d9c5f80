//! What the README promises exists: targets, commands, options, files, and manifests that the API server takes.

use std::{collections::BTreeSet, fs, process::Command};

use serde_json::{Value, json};

use crate::{
    cluster::{dry_run, namespace, shared},
    definitions::root,
    timed::Timed,
};

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The lines of all code blocks in a language, with continued lines joined.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut found = Vec::new();
    for part in text.split("\n```").skip(1).step_by(2) {
        if let Some(block) = part.strip_prefix(language).and_then(|rest| rest.strip_prefix('\n')) {
            found.push(block.replace("\\\n", " "));
        }
    }
    assert!(!found.is_empty(), "no block in {language}");
    found
}

/// Everything between backticks, and every line of shell.
fn code() -> Vec<String> {
    let text = readme();
    let prose: String = text.split("\n```").step_by(2).collect();
    let spans: Vec<String> = prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect();
    let shell = blocks("sh").concat();
    let lines: Vec<String> = shell.split(['\n', '|']).map(|line| line.trim().to_owned()).collect();
    spans.into_iter().chain(lines).filter(|code| !code.is_empty()).collect()
}

#[test]
fn every_make_target_exists() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let named: BTreeSet<String> = code()
        .iter()
        .filter_map(|code| code.strip_prefix("make ")?.split_whitespace().next().map(str::to_owned))
        .collect();
    assert!(named.is_superset(&["demo", "test", "soak"].map(str::to_owned).into()), "{named:?}");
    for target in named {
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{target}:"))), "make {target}");
    }
}

#[test]
fn every_command_and_option_exists() {
    let _timed = Timed::start();
    let mut seen = 0;
    for code in code() {
        let Some(rest) = code.strip_prefix("kubectl hosting ").or_else(|| code.strip_prefix("dms-operator ")) else {
            continue;
        };
        let words: Vec<&str> = rest.split(['#', '>', '…']).next().unwrap().split_whitespace().collect();
        let path: Vec<&str> = words
            .iter()
            .copied()
            .take_while(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '-') && !word.starts_with('-'))
            .collect();
        assert!(!path.is_empty(), "{code}");
        let output = Command::new(env!("CARGO_BIN_EXE_dms-operator")).args(&path).arg("--help").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{code}: {}", String::from_utf8_lossy(&output.stderr));
        for option in words.iter().filter(|word| word.starts_with('-')) {
            assert!(help.contains(*option), "{code}: {option} is not in\n{help}");
        }
        seen += 1;
    }
    assert!(seen >= 8, "only {seen} commands were found");
}

#[test]
fn every_link_leads_somewhere() {
    let text = readme();
    let headings: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    let links: Vec<&str> = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
    assert!(links.len() >= 8);
    for link in links {
        let exists = match link.strip_prefix('#') {
            Some(anchor) => headings.iter().any(|heading| heading == anchor),
            None => link.starts_with("https://") || root().join(link).exists(),
        };
        assert!(exists, "{link}");
    }
}

/// The manifests, with the places that a reader fills in filled in.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_manifest() {
    let _timed = Timed::start();
    let client = shared().await.client().await.unwrap();
    let namespace = namespace(&client).await;
    let did = "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK";
    let mut kinds = BTreeSet::new();
    for block in blocks("yaml") {
        let mut object: Value = serde_saphyr::from_str(&block).unwrap();
        let kind = object["kind"].as_str().unwrap().to_owned();
        match kind.as_str() {
            // What `kubectl hosting sign` adds.
            "HostingDeployment" => {
                object["spec"]["owner"] = json!(did);
                object["spec"]["content"]["release"] = json!(format!("sha256:{}", "0".repeat(64)));
                object["spec"]["authorization"] = json!({"invocation": "AAAA"});
            }
            "HostingDevice" => object["spec"]["did"] = json!(did),
            _ => {}
        }
        object["metadata"]["namespace"] = json!(namespace);
        dry_run(&client, &namespace, &object).await.unwrap_or_else(|error| panic!("{error}\n{block}"));
        kinds.insert(kind);
    }
    let wanted = ["HostingDeployment", "HostingDevice", "HostingProvider"].map(str::to_owned);
    assert_eq!(kinds, wanted.into());
}

/// The manifest that is explained line by line is the example.
#[test]
fn the_first_manifest_is_the_example() {
    let explained: Value = serde_saphyr::from_str(&blocks("yaml")[0]).unwrap();
    let example = root().join("examples/hello-site/hostingdeployment.yaml");
    let example: Value = serde_saphyr::from_str(&fs::read_to_string(example).unwrap()).unwrap();
    assert_eq!(explained, example);
}
