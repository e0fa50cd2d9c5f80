//! The custom resource definitions: as generated, structural, described, bounded, and with rules that bite.

use std::{collections::BTreeSet, fs, process::Command};

use dms_operator::api::{CapabilityRevocation, HostingDeployment, HostingDevice, HostingProvider};
use serde_json::{Value, json};

use crate::definitions::{
    Definition, broken_rules, definitions, fixture, fixtures, leaves, nodes, object_objections, objections, root,
    set_leaves,
};

const LARGEST_EXACT_INTEGER: i64 = 9_007_199_254_740_991;

fn definition(kind: &str) -> Definition {
    definitions().into_iter().find(|definition| definition.kind == kind).unwrap()
}

#[test]
fn the_committed_definitions_are_the_generated_ones() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_dms-operator"))
        .args(["crd", "--out-dir"])
        .arg(folder.path().join("new/folder"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let files = |folder: &std::path::Path| -> Vec<(String, String)> {
        let mut files: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    };
    let generated = files(&folder.path().join("new/folder"));
    assert!(
        generated == files(&root().join("crds")),
        "crds/ is behind src/api: run `cargo run --features dev -- crd --out-dir crds`"
    );
    assert_eq!(
        generated.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["capabilityrevocations.yaml", "hostingdeployments.yaml", "hostingdevices.yaml", "hostingproviders.yaml"]
    );
}

#[test]
fn without_a_folder_one_yaml_stream_is_printed() {
    let made = Command::new(env!("CARGO_BIN_EXE_dms-operator")).arg("crd").output().unwrap();
    assert!(made.status.success());
    let printed: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(made.stdout).unwrap()).unwrap();
    let mut printed: Vec<_> = printed.iter().collect();
    printed.sort_by_key(|crd| crd["metadata"]["name"].as_str().unwrap().to_owned());
    let committed = definitions();
    assert!(printed == committed.iter().map(|definition| &definition.crd).collect::<Vec<_>>(), "not as in crds/");
}

#[test]
fn names_and_columns_are_as_documented() {
    for Definition { file, kind, crd, schema } in definitions() {
        let plural = file.strip_suffix(".yaml").unwrap();
        assert_eq!(crd["metadata"], json!({"name": format!("{plural}.hosting.nunet.io")}));
        assert_eq!(crd["spec"]["group"], "hosting.nunet.io");
        assert_eq!(crd["spec"]["scope"], "Namespaced");
        assert_eq!(crd["spec"]["names"]["plural"], plural);
        assert_eq!(crd["spec"]["names"]["categories"], json!(["hosting"]));
        assert_eq!(crd.get("status"), None, "{kind}");
        let versions = crd["spec"]["versions"].as_array().unwrap();
        assert_eq!(versions.len(), 1, "{kind}");
        assert_eq!(versions[0]["name"], "v1alpha1");
        assert_eq!((&versions[0]["served"], &versions[0]["storage"]), (&json!(true), &json!(true)));
        assert_eq!(versions[0]["subresources"], json!({"status": {}}));

        let columns = versions[0]["additionalPrinterColumns"].as_array().unwrap();
        let shown: Vec<_> = columns.iter().filter(|column| column.get("priority").is_none()).collect();
        assert_eq!(shown[0]["name"], "Ready", "{kind}");
        assert_eq!(shown[1]["name"], "Reason", "{kind}");
        assert_eq!(shown.last().unwrap()["name"], "Age", "{kind}");
        let fields: BTreeSet<String> = nodes("", &schema).into_iter().map(|node| node.path).collect();
        for column in columns {
            let path = column["jsonPath"].as_str().unwrap().strip_prefix('.').unwrap();
            let path = path
                .split_once("[?")
                .map_or_else(|| path.to_owned(), |(list, rest)| format!("{list}[]{}", rest.split_once(']').unwrap().1));
            assert!(path == "metadata.creationTimestamp" || fields.contains(&path), "{kind}: no field {path}");
        }
    }
    let short: Vec<_> =
        definitions().into_iter().map(|definition| definition.crd["spec"]["names"]["shortNames"].clone()).collect();
    assert_eq!(short, [json!(["caprev"]), json!(["hd"]), json!(["hdev"]), json!(["hp"])]);
}

/// What Kubernetes asks of a structural schema, and more: nothing outside these words appears.
#[test]
fn every_schema_is_structural() {
    let words = BTreeSet::from([
        "type",
        "format",
        "description",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "maxProperties",
        "minimum",
        "maximum",
        "default",
        "x-kubernetes-map-type",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-validations",
    ]);
    for Definition { kind, schema, .. } in definitions() {
        for node in nodes("", &schema) {
            let used: BTreeSet<&str> = node.schema.as_object().unwrap().keys().map(String::as_str).collect();
            let foreign: Vec<_> = used.difference(&words).collect();
            assert!(foreign.is_empty(), "{kind} {}: {foreign:?}", node.path);
            assert!(used.contains("type"), "{kind} {} has no type", node.path);
            assert!(!(used.contains("properties") && used.contains("additionalProperties")), "{kind} {}", node.path);
        }
    }
}

#[test]
fn every_field_is_described() {
    for Definition { kind, schema, .. } in definitions() {
        let described = |schema: &Value| schema["description"].as_str().is_some_and(|text| text.len() >= 10);
        assert!(described(&schema), "{kind}");
        assert!(!schema["description"].as_str().unwrap().contains("CustomResource"), "{kind}: the derive's own words");
        for node in nodes("", &schema).iter().filter(|node| node.is_field()) {
            assert!(described(node.schema), "{kind} {} lacks a description", node.path);
        }
    }
}

/// Unbounded values would make the API server's cost estimate of the rules explode, and let one tenant fill etcd.
#[test]
fn every_value_is_bounded() {
    for Definition { kind, schema, .. } in definitions() {
        for node in nodes("", &schema) {
            let at = format!("{kind} {}", node.path);
            let has = |name: &str| node.schema.get(name).is_some();
            match node.schema["type"].as_str().unwrap() {
                "string" => assert!(has("maxLength") || has("enum") || has("format"), "{at}: unbounded string"),
                "integer" => {
                    assert!(node.schema["minimum"].as_i64().is_some(), "{at}: no least value");
                    assert!(node.schema["maximum"].as_i64().is_some_and(|max| max <= LARGEST_EXACT_INTEGER), "{at}");
                }
                "array" => assert!(has("maxItems"), "{at}: unbounded list"),
                "object" => assert!(has("properties") || has("maxProperties"), "{at}: unbounded map"),
                "boolean" => {}
                other => panic!("{at}: {other} has no exact form in JSON"),
            }
        }
    }
}

/// What is stored is exactly what was signed: the server adds nothing to a spec.
#[test]
fn only_the_generation_of_an_unseen_status_is_defaulted() {
    for Definition { kind, schema, .. } in definitions() {
        let defaults: Vec<_> = nodes("", &schema)
            .into_iter()
            .filter_map(|node| Some((node.path, node.schema.get("default")?.clone())))
            .collect();
        assert_eq!(defaults, [("status".to_owned(), json!({"observedGeneration": -1}))], "{kind}");
        assert_eq!(schema.get("default"), None);
    }
}

#[test]
fn the_signed_spec_is_applied_as_a_whole() {
    assert_eq!(definition("HostingDeployment").schema["properties"]["spec"]["x-kubernetes-map-type"], "atomic");
}

#[test]
fn lists_of_objects_are_maps_and_conditions_are_keyed_by_type() {
    for Definition { kind, schema, .. } in definitions() {
        for node in nodes("", &schema) {
            if node.schema["items"]["type"] == "object" {
                // Of offers the first that fits counts, so one applier puts them in order.
                let expected = if node.path == "spec.grants" { "atomic" } else { "map" };
                assert_eq!(node.schema["x-kubernetes-list-type"], expected, "{kind} {}", node.path);
            }
        }
        let conditions = &schema["properties"]["status"]["properties"]["conditions"];
        assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{kind}");
        assert_eq!(
            conditions["items"]["required"],
            json!(["lastTransitionTime", "message", "reason", "status", "type"]),
            "{kind}"
        );
        assert_eq!(conditions["items"]["properties"]["status"]["enum"], json!(["True", "False", "Unknown"]), "{kind}");
    }
}

/// The fixtures are accepted, set every field of every spec, and go through the Rust types without loss.
#[test]
fn a_full_object_of_each_kind_is_accepted() {
    let mut set = BTreeSet::new();
    for (name, object) in fixtures() {
        let definition = definition(object["kind"].as_str().unwrap());
        assert_eq!(object_objections(&object, &definition), [""; 0], "{name}");
        assert_eq!(broken_rules(&object, None, &definition), [""; 0], "{name}");
        let back = match definition.kind.as_str() {
            "HostingDeployment" => through::<HostingDeployment>(&object),
            "HostingProvider" => through::<HostingProvider>(&object),
            "HostingDevice" => through::<HostingDevice>(&object),
            "CapabilityRevocation" => through::<CapabilityRevocation>(&object),
            other => panic!("{name}: {other}"),
        };
        assert_eq!(back, object, "{name}");
        set.extend(
            set_leaves("spec", &object["spec"], &definition.schema["properties"]["spec"])
                .into_iter()
                .map(|leaf| format!("{}.{leaf}", definition.kind)),
        );
    }
    let all: BTreeSet<String> = definitions()
        .iter()
        .flat_map(|definition| {
            leaves("spec", &definition.schema["properties"]["spec"])
                .into_iter()
                .map(|leaf| format!("{}.{leaf}", definition.kind))
        })
        .collect();
    assert_eq!(set, all);
}

fn through<K: serde::de::DeserializeOwned + serde::Serialize>(object: &Value) -> Value {
    serde_json::to_value(serde_json::from_value::<K>(object.clone()).unwrap()).unwrap()
}

/// Objects with one value that a schema must refuse: fixture, where, value.
pub fn out_of_bounds() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("hostingdeployment-minimal", "/spec/owner", json!("did:key:z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW")),
        ("hostingdeployment-minimal", "/spec/content/release", json!("sha256:00")),
        ("hostingdeployment-minimal", "/spec/authorization/invocation", json!("not base64!")),
        ("hostingdeployment-minimal", "/spec/authorization/invocation", json!("A".repeat(43693))),
        ("hostingdeployment-configmap", "/spec/content/indexFile", json!("a/b")),
        ("hostingdeployment-configmap", "/spec/content/access", json!("public")),
        ("hostingdeployment-archive", "/spec/content/from/archive/url", json!("file:///etc/passwd")),
        ("hostingdeployment-archive", "/spec/content/from/archive/sha256", json!("A".repeat(64))),
        ("hostingdeployment-configmap", "/spec/placement/deviceSelector/matchLabels/region", json!("x".repeat(64))),
        ("hostingprovider", "/spec/policy/keepExpiredFor", json!("72")),
        ("hostingprovider", "/spec/content/quotas/maxReleaseBytes", json!(0)),
        ("hostingprovider", "/spec/content/quotas/maxReleaseBytes", json!(LARGEST_EXACT_INTEGER + 1)),
        ("hostingprovider", "/spec/grants/0/actions", json!([])),
        ("hostingprovider", "/spec/grants/0/actions/0", json!("admin")),
        ("hostingprovider", "/spec/grants/0/namespaces/0", json!("a/b")),
        ("hostingprovider", "/spec/grants/0/lifetime", json!("0h")),
        ("hostingprovider", "/spec/grants/0/maxDelegations", json!(7)),
        ("hostingprovider", "/spec/grants/1/subjects/dids", json!([])),
        ("hostingprovider", "/spec/grants/1/subjects/dids/0", json!("did:web:example.org")),
        ("hostingprovider", "/spec/storage/s3/prefix", json!("/leading")),
        ("hostingprovider", "/spec/storage/s3/pathStyle", json!("yes")),
        ("hostingdevice", "/spec/addresses", json!([])),
        ("hostingdevice", "/spec/did", json!("did:web:example.org")),
        ("hostingdevice", "/spec/grant", json!("x".repeat(16385))),
        ("capabilityrevocation", "/spec/token", json!("")),
    ]
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (name, pointer, value) in out_of_bounds() {
        let mut object = fixture(name);
        *object.pointer_mut(pointer).unwrap() = value;
        let definition = definition(object["kind"].as_str().unwrap());
        assert_ne!(object_objections(&object, &definition), [""; 0], "{name} {pointer}");
    }
}

/// A rule of a schema with what it must accept and what it must refuse: (now, before).
pub struct RuleCase {
    pub kind: &'static str,
    pub path: &'static str,
    pub message_start: &'static str,
    pub accepted: Vec<(Value, Option<Value>)>,
    pub refused: Vec<(Value, Option<Value>)>,
}

/// `fixture` with changes: each pointer's parent exists; `null` removes the member.
fn with(name: &str, changes: &[(&str, Value)]) -> Value {
    let mut object = fixture(name);
    for (pointer, value) in changes {
        let (parent, member) = pointer.rsplit_once('/').unwrap();
        let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        if value.is_null() {
            parent.remove(member);
        } else {
            parent.insert(member.to_owned(), value.clone());
        }
    }
    object
}

#[allow(clippy::too_many_lines)]
pub fn rule_cases() -> Vec<RuleCase> {
    let site = |changes: &[(&str, Value)]| with("hostingdeployment-configmap", changes);
    let name = |name: &str| site(&[("/metadata/name", json!(name))]);
    let invocation = ("/spec/authorization/invocation", json!("bmV3"));
    let signed_again = site(std::slice::from_ref(&invocation));
    let other_did = json!("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH");
    let provider = |changes: &[(&str, Value)]| with("hostingprovider", changes);
    vec![
        RuleCase {
            kind: "HostingDeployment",
            path: "",
            message_start: "metadata.name must be a DNS label of at most 50 characters",
            accepted: vec![(name("a"), None), (name("0-a"), None), (name(&"a".repeat(50)), None)],
            refused: vec![
                (name(&"a".repeat(51)), None),
                (name("a.b"), None),
                (name("-a"), None),
                (name("a-"), None),
                (name("A"), None),
            ],
        },
        RuleCase {
            kind: "HostingDeployment",
            path: "spec",
            message_start: "the spec is not signed",
            accepted: vec![(site(&[]), None)],
            refused: vec![
                (site(&[("/spec/authorization", Value::Null)]), None),
                (site(&[("/spec/authorization", Value::Null)]), Some(site(&[]))),
            ],
        },
        RuleCase {
            kind: "HostingDeployment",
            path: "spec",
            message_start: "the spec was changed but not signed again",
            accepted: vec![
                (site(&[]), Some(site(&[]))),
                (site(&[("/metadata/labels", json!({"a": "b"}))]), Some(site(&[]))),
                (signed_again.clone(), Some(site(&[]))),
                (site(&[invocation.clone(), ("/spec/onExpiry", json!("Keep"))]), Some(site(&[]))),
                (site(&[]), Some(site(&[("/spec/authorization", Value::Null)]))),
            ],
            refused: vec![
                (site(&[("/spec/onExpiry", json!("Keep"))]), Some(site(&[]))),
                (site(&[("/spec/placement", Value::Null)]), Some(site(&[]))),
                (site(&[("/spec/content/indexFile", Value::Null)]), Some(site(&[]))),
                (site(&[("/spec/content/from/configMap/name", json!("other"))]), Some(site(&[]))),
            ],
        },
        RuleCase {
            kind: "HostingDeployment",
            path: "spec.owner",
            message_start: "owner is immutable",
            accepted: vec![(signed_again.clone(), Some(site(&[])))],
            refused: vec![(site(&[invocation.clone(), ("/spec/owner", other_did.clone())]), Some(site(&[])))],
        },
        RuleCase {
            kind: "HostingDeployment",
            path: "spec.providerRef",
            message_start: "providerRef is immutable",
            accepted: vec![(signed_again.clone(), Some(site(&[])))],
            refused: vec![
                (site(&[invocation.clone(), ("/spec/providerRef/name", json!("other"))]), Some(site(&[]))),
                (site(&[invocation, ("/spec/providerRef/namespace", json!("other"))]), Some(site(&[]))),
            ],
        },
        RuleCase {
            kind: "HostingDeployment",
            path: "spec.content.from",
            message_start: "set exactly one of configMap, archive",
            accepted: vec![
                (site(&[]), None),
                (fixture("hostingdeployment-archive"), None),
                (fixture("hostingdeployment-minimal"), None),
            ],
            refused: vec![
                (site(&[("/spec/content/from", json!({}))]), None),
                (
                    site(&[(
                        "/spec/content/from/archive",
                        fixture("hostingdeployment-archive")["spec"]["content"]["from"]["archive"].clone(),
                    )]),
                    None,
                ),
            ],
        },
        RuleCase {
            kind: "HostingProvider",
            path: "spec.allowedNamespaces",
            message_start: "set selector when from is Selector, and only then",
            accepted: vec![
                (provider(&[]), None),
                (provider(&[("/spec/allowedNamespaces", json!({"from": "All"}))]), None),
                (provider(&[("/spec/allowedNamespaces", json!({"from": "Same"}))]), None),
                (provider(&[("/spec/allowedNamespaces", Value::Null)]), None),
            ],
            refused: vec![
                (provider(&[("/spec/allowedNamespaces/selector", Value::Null)]), None),
                (provider(&[("/spec/allowedNamespaces/from", json!("All"))]), None),
                (provider(&[("/spec/allowedNamespaces/from", json!("Same"))]), None),
            ],
        },
        RuleCase {
            kind: "HostingProvider",
            path: "spec.grants[].subjects",
            message_start: "set exactly one of any, dids",
            accepted: vec![(provider(&[]), None), (provider(&[("/spec/grants", json!([]))]), None)],
            refused: vec![
                (provider(&[("/spec/grants/0/subjects", json!({}))]), None),
                (provider(&[("/spec/grants/0/subjects/dids", json!([other_did]))]), None),
                (provider(&[("/spec/grants/1/subjects/any", json!({}))]), None),
            ],
        },
        RuleCase {
            kind: "HostingDevice",
            path: "spec.did",
            message_start: "did is immutable",
            accepted: vec![(
                with("hostingdevice", &[("/spec/unschedulable", json!(false))]),
                Some(fixture("hostingdevice")),
            )],
            refused: vec![(with("hostingdevice", &[("/spec/did", other_did)]), Some(fixture("hostingdevice")))],
        },
        RuleCase {
            kind: "CapabilityRevocation",
            path: "spec",
            message_start: "a revocation is immutable",
            accepted: vec![(
                with("capabilityrevocation", &[("/metadata/labels", json!({"a": "b"}))]),
                Some(fixture("capabilityrevocation")),
            )],
            refused: vec![(
                with("capabilityrevocation", &[("/spec/token", json!("other"))]),
                Some(fixture("capabilityrevocation")),
            )],
        },
    ]
}

#[test]
fn each_rule_accepts_what_it_should_and_refuses_what_it_must() {
    let mut cases = rule_cases();
    for definition in definitions() {
        let root_rules = (String::new(), &definition.schema);
        let schemas = nodes("", &definition.schema).into_iter().map(|node| (node.path, node.schema));
        for (path, schema) in std::iter::once(root_rules).chain(schemas) {
            for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
                let message = rule["message"].as_str().unwrap();
                let position = cases
                    .iter()
                    .position(|case| {
                        case.kind == definition.kind && case.path == path && message.starts_with(case.message_start)
                    })
                    .unwrap_or_else(|| panic!("{} {path}: no cases for the rule {message:?}", definition.kind));
                let case = cases.remove(position);
                assert!(!case.accepted.is_empty() && !case.refused.is_empty(), "{message}");
                for (object, old) in &case.accepted {
                    assert_eq!(broken_rules(object, old.as_ref(), &definition), [""; 0], "{object:#}");
                }
                for (object, old) in &case.refused {
                    let broken = broken_rules(object, old.as_ref(), &definition);
                    assert!(broken.iter().any(|broken| broken == message), "{message}: {broken:?}");
                }
            }
        }
    }
    let unused: Vec<_> = cases.iter().map(|case| case.message_start).collect();
    assert_eq!(unused, [""; 0], "cases for rules that do not exist");
}

#[test]
fn the_objections_of_these_tests_are_not_blind() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {
        "a": {"type": "string", "pattern": "^x", "maxLength": 2}, "b": {"type": "array", "maxItems": 1, "items": {"type": "integer", "maximum": 5}}}});
    assert_eq!(objections("", &json!({"a": "x", "b": [5]}), &schema), [""; 0]);
    for wrong in [
        json!({}),
        json!({"a": "y"}),
        json!({"a": "xxx"}),
        json!({"a": "x", "b": [6]}),
        json!({"a": "x", "b": [1, 2]}),
        json!({"a": "x", "c": 1}),
        json!({"a": 1}),
    ] {
        assert_eq!(objections("", &wrong, &schema).len(), 1, "{wrong}");
    }
}
