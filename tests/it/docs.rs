//! The generated parts of `docs/`: what stands between `<!-- begin NAME -->` and `<!-- end -->` is written from the code.
//!
//! `DMS_OPERATOR_BLESS=1 cargo test --features dev --test it docs` writes them anew.

use std::{collections::BTreeSet, env, fmt::Write as _, fs, time::Duration};

use dms_operator::{
    api::Reason,
    capability,
    metrics::{CallOutcome, LinkFigures, Metrics, Stage},
    usage::{Gap, Increment},
};
use serde_json::Value;

use crate::{
    definitions::{definitions, nodes, root},
    fields::rust_files,
};

#[test]
fn the_generated_parts_are_up_to_date() {
    let mut stale = Vec::new();
    for entry in fs::read_dir(root().join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let fresh = rendered(&text);
        if fresh != text && env::var_os("DMS_OPERATOR_BLESS").is_some() {
            fs::write(&path, fresh).unwrap();
        } else if fresh != text {
            stale.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    assert!(
        stale.is_empty(),
        "docs/ is behind the code in {stale:?}: run `DMS_OPERATOR_BLESS=1 cargo test --features dev --test it docs`"
    );
}

#[test]
fn every_part_that_can_be_generated_stands_in_a_page() {
    let text: String = ["api.md", "messages.md", "metrics.md", "reasons.md", "strictness.md"]
        .map(|page| fs::read_to_string(root().join("docs").join(page)).unwrap())
        .concat();
    let mut wanted = vec![
        "reasons".to_owned(),
        "token reasons".to_owned(),
        "metrics".to_owned(),
        "strictness".to_owned(),
        "leniency".to_owned(),
    ];
    wanted.extend(definitions().into_iter().map(|definition| format!("fields {}", definition.kind)));
    for name in wanted {
        assert!(text.contains(&format!("<!-- begin {name} -->")), "{name}");
    }
    for example in ["hostingdeployment-configmap", "hostingprovider", "hostingdevice", "capabilityrevocation"] {
        assert!(text.contains(&format!("<!-- begin example {example} -->")), "{example}");
    }
}

/// A reason that nothing gives would be documented in vain.
#[test]
fn every_reason_is_given_somewhere() {
    /// Each entry is a debt, and one that is paid must go.
    const NOT_YET_GIVEN: &[&str] = &[];
    let given: String = rust_files(&root().join("src"))
        .into_iter()
        .filter(|path| !path.ends_with("reason.rs"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let all = Reason::OWN.iter().map(|(reason, _)| reason.as_str());
    let all = all.chain(capability::Reason::ALL.iter().map(|reason| reason.code()));
    let missing: BTreeSet<&str> = all
        .filter(|code| {
            !given
                .match_indices(&format!("Reason::{code}"))
                .any(|(at, found)| !given[at + found.len()..].starts_with(|next: char| next.is_alphanumeric()))
        })
        .collect();
    assert_eq!(missing, NOT_YET_GIVEN.iter().copied().collect());
}

/// The page with its generated parts made anew.
fn rendered(text: &str) -> String {
    let mut fresh = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<!-- begin ") {
        let (name, after) = after.split_once(" -->\n").expect("a begin mark stands on a line of its own");
        let (_, after) = after.split_once("<!-- end -->").expect("a begin mark has its end mark");
        write!(fresh, "{before}<!-- begin {name} -->\n{}<!-- end -->", part(name)).unwrap();
        rest = after;
    }
    fresh + rest
}

fn part(name: &str) -> String {
    match name.split_once(' ').unwrap_or((name, "")) {
        ("reasons", "") => reasons(),
        ("token", "reasons") => token_reasons(),
        ("metrics", "") => metrics(),
        ("strictness", "") => crate::corpus::strictness(),
        ("leniency", "") => crate::corpus::leniency(),
        ("fields", kind) => fields(kind),
        ("example", fixture) => {
            let path = root().join("tests/fixtures/api").join(fixture).with_extension("yaml");
            format!("```yaml\n{}```\n", fs::read_to_string(path).unwrap())
        }
        _ => panic!("nobody writes the part {name:?}"),
    }
}

fn reasons() -> String {
    let mut rows: Vec<_> = Reason::OWN
        .iter()
        .map(|(reason, meaning)| {
            format!("| `{reason}` | {} |\n", meaning.split_whitespace().collect::<Vec<_>>().join(" "))
        })
        .collect();
    rows.sort();
    format!("| reason | what it means |\n|---|---|\n{}", rows.concat())
}

fn token_reasons() -> String {
    let mut rows: Vec<_> = capability::Reason::ALL
        .iter()
        .map(|reason| {
            let next_step = reason.next_step().replace('|', "\\|");
            format!("| `{}` | {} | {next_step} |\n", reason.code(), reason.cause())
        })
        .collect();
    rows.sort();
    format!("| reason | what is the matter | what to do next |\n|---|---|---|\n{}", rows.concat())
}

fn fields(kind: &str) -> String {
    let definition = definitions().into_iter().find(|definition| definition.kind == kind).unwrap();
    let mut table = "| field | type | what it is |\n|---|---|---|\n".to_owned();
    for node in nodes("", &definition.schema).iter().filter(|node| node.is_field() && node.path.contains('.')) {
        if node.path.starts_with("status.conditions[]") {
            continue;
        }
        let description = node.schema["description"].as_str().unwrap().replace('\n', " ").replace('|', "\\|");
        writeln!(table, "| `{}` | {} | {description} |", node.path, type_of(node.schema)).unwrap();
    }
    table
}

fn type_of(schema: &Value) -> String {
    match (schema["enum"].as_array(), schema["type"].as_str().unwrap()) {
        (Some(values), _) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{}`", value.as_str().unwrap())).collect();
            values.join(" or ")
        }
        (None, "array") => format!("list of {}", type_of(&schema["items"])),
        (None, "object") if schema.get("additionalProperties").is_some() => "map of strings".to_owned(),
        (None, "string") if schema["format"] == "date-time" => "time".to_owned(),
        (None, kind) => kind.to_owned(),
    }
}

/// One row for each metric, from what Prometheus would read.
fn metrics() -> String {
    let text = everything_counted().encode();
    let mut table = "| metric | type | labels | what it counts |\n|---|---|---|---|\n".to_owned();
    for help in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
        let (name, help) = help.split_once(' ').unwrap();
        let kind = text.lines().find_map(|line| line.strip_prefix(&format!("# TYPE {name} "))).unwrap();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let sample = text.lines().find(|line| line.starts_with(name)).unwrap();
        let labels: Vec<_> = sample
            .split_once('{')
            .map_or("", |(_, labels)| labels)
            .split(',')
            .filter_map(|label| Some(format!("`{}`", label.split_once('=')?.0)))
            .filter(|label| label != "`le`")
            .collect();
        writeln!(table, "| `{name}{suffix}` | {kind} | {} | {} |", labels.join(", "), help.trim_end_matches('.'))
            .unwrap();
    }
    table
}

fn everything_counted() -> Metrics {
    let metrics = Metrics::new();
    drop(metrics.pass_started("HostingDeployment"));
    metrics.pass_ended("HostingDeployment", Duration::ZERO, Some("api"));
    metrics.stage_ended(Stage::Authorise, Duration::ZERO);
    metrics.token_verdict("Accepted");
    metrics.device_call("/dms/node/deployment/new", CallOutcome::Answered);
    metrics.device_call_failed("rack-1");
    metrics.device_ready("rack-1", true);
    metrics.device_heartbeat("rack-1", Duration::ZERO);
    metrics.device_free("rack-1", 1.0, 1.0, 1.0);
    metrics.read_link(|| LinkFigures {
        dropped: vec![("Undecodable", 1)],
        asked: vec![("Answered", 1)],
        ..LinkFigures::default()
    });
    metrics.event(false, "Running");
    metrics.leader(true);
    metrics.token_expires("shop", "web", 0);
    let increment = Increment { stored_bytes: Some(1), gap: Some(Gap::FirstReading), ..Increment::default() };
    metrics.usage("shop", "web", &increment);
    metrics
}
