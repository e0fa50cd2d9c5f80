//! The committed custom resource definitions, and a walk over their schemas.

use std::{collections::BTreeSet, fs, path::PathBuf};

use kube::core::cel::Validator;
use serde_json::{Value, json};

/// Folder of the repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// One committed definition.
pub struct Definition {
    pub file: String,
    pub kind: String,
    pub crd: Value,
    /// `openAPIV3Schema` of its one version.
    pub schema: Value,
}

/// Every definition in `crds/`, by file name.
pub fn definitions() -> Vec<Definition> {
    let mut files: Vec<_> = fs::read_dir(root().join("crds")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let crd: Value = serde_saphyr::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            Definition {
                file: path.file_name().unwrap().to_string_lossy().into_owned(),
                kind: crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(),
                schema: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone(),
                crd,
            }
        })
        .collect()
}

/// One node of a schema: `spec.content.release`, `status.conditions[].type`, `spec.x.matchLabels{}`.
pub struct Node<'a> {
    pub path: String,
    pub schema: &'a Value,
}

impl Node<'_> {
    /// Whether it is a named field, and not the inside of a list or map.
    pub fn is_field(&self) -> bool {
        !self.path.ends_with("[]") && !self.path.ends_with("{}")
    }
}

/// Every node below `schema`, parents first.
pub fn nodes<'a>(path: &str, schema: &'a Value) -> Vec<Node<'a>> {
    let mut found = Vec::new();
    let mut step = |path: String, schema: &'a Value| {
        found.push(Node { path: path.clone(), schema });
        found.extend(nodes(&path, schema));
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        step(if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, property);
    }
    if let Some(items) = schema.get("items") {
        step(format!("{path}[]"), items);
    }
    if let Some(values) = schema.get("additionalProperties") {
        step(format!("{path}{{}}"), values);
    }
    found
}

/// Paths of the fields of `schema` that hold no further fields.
pub fn leaves(path: &str, schema: &Value) -> BTreeSet<String> {
    let nodes = nodes(path, schema);
    nodes
        .iter()
        .filter(|node| !nodes.iter().any(|other| is_inside(&other.path, &node.path)))
        .map(|node| node.path.clone())
        .collect()
}

fn is_inside(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with(['.', '[', '{']))
}

/// Paths of the leaves that an object sets.
pub fn set_leaves(path: &str, value: &Value, schema: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(members) if schema.get("properties").is_some() => members
            .iter()
            .flat_map(|(name, value)| set_leaves(&format!("{path}.{name}"), value, &schema["properties"][name]))
            .collect(),
        Value::Object(members) if members.is_empty() && schema.get("additionalProperties").is_none() => {
            BTreeSet::from([path.to_owned()])
        }
        Value::Object(members) => {
            let path = format!("{path}{{}}");
            members.values().flat_map(|value| set_leaves(&path, value, &schema["additionalProperties"])).collect()
        }
        Value::Array(items) => {
            let path = format!("{path}[]");
            items.iter().flat_map(|value| set_leaves(&path, value, &schema["items"])).collect()
        }
        _ => BTreeSet::from([path.to_owned()]),
    }
}

/// What the API server would object to in a value: types, unknown and missing fields, bounds, patterns.
/// The rules in CEL are apart, see [`broken_rules`].
pub fn objections(path: &str, value: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut object_to = |holds: bool, what: &str| {
        if !holds {
            found.push(format!("{path}: {what}"));
        }
    };
    let within = |size: usize, smallest: &str, largest: &str| {
        let bound = |name: &str| schema[name].as_u64().map(|bound| usize::try_from(bound).unwrap());
        bound(smallest).is_none_or(|bound| size >= bound) && bound(largest).is_none_or(|bound| size <= bound)
    };
    if let Some(allowed) = schema["enum"].as_array() {
        object_to(allowed.contains(value), "is not one of the values of the enumeration");
    }
    match (schema["type"].as_str(), value) {
        (Some("string"), Value::String(text)) => {
            object_to(within(text.chars().count(), "minLength", "maxLength"), "has the wrong length");
            if let Some(pattern) = schema["pattern"].as_str() {
                let rule = json!({"type": "string", "x-kubernetes-validations":
                    [{"rule": format!("self.matches({})", Value::from(pattern)), "message": "pattern"}]});
                object_to(Validator::new().validate(&rule, value, None).is_ok(), "does not match the pattern");
            }
        }
        (Some("integer"), Value::Number(number)) if number.is_i64() => {
            let number = number.as_i64().unwrap();
            object_to(schema["minimum"].as_i64().is_none_or(|least| number >= least), "is too small");
            object_to(schema["maximum"].as_i64().is_none_or(|most| number <= most), "is too large");
        }
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("array"), Value::Array(items)) => {
            object_to(within(items.len(), "minItems", "maxItems"), "has the wrong number of items");
            for item in items {
                found.extend(objections(&format!("{path}[]"), item, &schema["items"]));
            }
        }
        (Some("object"), Value::Object(members)) => {
            object_to(within(members.len(), "minProperties", "maxProperties"), "has the wrong number of members");
            for name in schema["required"].as_array().into_iter().flatten() {
                object_to(members.contains_key(name.as_str().unwrap()), &format!("lacks {name}"));
            }
            for (name, member) in members {
                let inner = schema["properties"].get(name).or(schema.get("additionalProperties"));
                match inner {
                    Some(inner) => found.extend(objections(&format!("{path}.{name}"), member, inner)),
                    None => found.push(format!("{path}: {name} is no field")),
                }
            }
        }
        (kind, _) => object_to(false, &format!("is not of type {}", kind.unwrap_or("?"))),
    }
    found
}

/// What is wrong with a whole object, without `apiVersion`, `kind` and `metadata`, which the API server itself knows.
pub fn object_objections(object: &Value, definition: &Definition) -> Vec<String> {
    let mut body = object.as_object().unwrap().clone();
    for known in ["apiVersion", "kind", "metadata"] {
        body.remove(known);
    }
    objections("", &Value::Object(body), &definition.schema)
}

/// Messages of the CEL rules that an object breaks, or that cannot be evaluated on it.
pub fn broken_rules(object: &Value, old: Option<&Value>, definition: &Definition) -> Vec<String> {
    match Validator::new().validate(&definition.schema, object, old) {
        Ok(()) => Vec::new(),
        Err(errors) => errors.into_vec().into_iter().map(|error| error.message).collect(),
    }
}

/// An object of `tests/fixtures/api/`.
pub fn fixture(name: &str) -> Value {
    let path = root().join("tests/fixtures/api").join(name).with_extension("yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Every object of `tests/fixtures/api/`, with its name.
pub fn fixtures() -> Vec<(String, Value)> {
    let folder = fs::read_dir(root().join("tests/fixtures/api")).unwrap();
    folder
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .map(|name| (name.clone(), fixture(&name)))
        .collect()
}
