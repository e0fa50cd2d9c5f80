//! Fields that a kind does not have. The API server drops them, and what is left is not what was signed.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

use super::text;
use crate::api::crds;

/// Beside `spec` and `status`.
const OF_EVERY_OBJECT: [&str; 3] = ["apiVersion", "kind", "metadata"];
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The fields of an object that its kind does not have, each with what was probably meant. None, when the kind is not ours.
pub(super) fn unknown_fields(object: &Value) -> Vec<String> {
    let Some(schema) = text(object, "/kind").and_then(schema_of) else { return Vec::new() };
    let mut found = Vec::new();
    let mut properties: Vec<&str> = schema.properties.iter().flatten().map(|(name, _)| name.as_str()).collect();
    properties.extend(OF_EVERY_OBJECT);
    for (name, value) in object.as_object().into_iter().flatten() {
        match name.as_str() {
            "metadata" => {
                let members = value.as_object().into_iter().flatten().map(|(name, _)| name);
                found.extend(
                    members
                        .filter(|name| !METADATA.contains(&name.as_str()))
                        .map(|name| say("metadata", name, &METADATA)),
                );
            }
            name if OF_EVERY_OBJECT.contains(&name) => {}
            name => match schema.properties.as_ref().and_then(|known| known.get(name)) {
                Some(schema) => walk(value, schema, name, &mut found),
                None => found.push(say("", name, &properties)),
            },
        }
    }
    found
}

fn schema_of(kind: &str) -> Option<JSONSchemaProps> {
    let definition = crds().into_iter().find(|definition| definition.spec.names.kind == kind)?;
    definition.spec.versions.into_iter().next()?.schema?.open_api_v3_schema
}

fn walk(value: &Value, schema: &JSONSchemaProps, path: &str, found: &mut Vec<String>) {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return;
    }
    match value {
        Value::Object(members) => {
            let additional = match &schema.additional_properties {
                Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(Some(schema.as_ref())),
                Some(JSONSchemaPropsOrBool::Bool(true)) => Some(None),
                Some(JSONSchemaPropsOrBool::Bool(false)) | None => None,
            };
            for (name, value) in members {
                let inner = format!("{path}.{name}");
                match (schema.properties.as_ref().and_then(|known| known.get(name)), additional) {
                    (Some(schema), _) | (None, Some(Some(schema))) => walk(value, schema, &inner, found),
                    (None, Some(None)) => {}
                    (None, None) => {
                        let known: Vec<&str> =
                            schema.properties.iter().flatten().map(|(name, _)| name.as_str()).collect();
                        found.push(say(path, name, &known));
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                for (item, number) in items.iter().zip(0..) {
                    walk(item, schema, &format!("{path}[{number}]"), found);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn say(path: &str, name: &str, known: &[&str]) -> String {
    let full = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let near = known.iter().map(|known| (distance(name, known), known)).min().filter(|(distance, _)| *distance <= 2);
    match near {
        Some((_, meant)) => format!("{full} (perhaps {meant} is meant)"),
        None => full,
    }
}

/// How many letters have to be put in, taken out or replaced; letter case counts for nothing.
fn distance(one: &str, other: &str) -> usize {
    let (one, other) = (one.to_lowercase(), other.to_lowercase());
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = line;
        let mut left = line + 1;
        for (place, wanted) in row.iter_mut().skip(1).zip(&other) {
            let best = (diagonal + usize::from(letter != *wanted)).min(left + 1).min(*place + 1);
            diagonal = *place;
            *place = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeployment",
            "metadata": {"name": "web", "namespace": "shop", "labels": {"any": "thing"}, "annotations": {"of/anybody": "x"}},
            "spec": {
                "owner": "did:key:z", "providerRef": {"namespace": "a", "name": "b"},
                "authorization": {"invocation": "AAAA"},
                "content": {"release": "sha256:0", "from": {"archive": {"url": "u", "sha256": "s"}}, "indexFile": "i"},
                "placement": {"deviceSelector": {"matchLabels": {"zone": "a"}}}, "onExpiry": "Stop",
            },
            "status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]},
        })
    }

    #[test]
    fn every_field_of_the_kind_is_known() {
        assert_eq!(unknown_fields(&object()), Vec::<String>::new());
        assert_eq!(unknown_fields(&json!({"kind": "Service", "nothing": 1})), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_known_is_named_with_what_is_near() {
        for (pointer, name, said) in [
            ("", "sepc", "sepc (perhaps spec is meant)"),
            ("/metadata", "lables", "metadata.lables (perhaps labels is meant)"),
            ("/spec", "replicas", "spec.replicas"),
            ("/spec", "providerref", "spec.providerref (perhaps providerRef is meant)"),
            ("/spec/content", "acess", "spec.content.acess (perhaps access is meant)"),
            ("/spec/content/from/archive", "sha265", "spec.content.from.archive.sha265 (perhaps sha256 is meant)"),
            ("/spec/placement/deviceSelector", "matchExpressions", "spec.placement.deviceSelector.matchExpressions"),
            ("/status/conditions/0", "tipe", "status.conditions[0].tipe (perhaps type is meant)"),
        ] {
            let mut object = object();
            object.pointer_mut(pointer).unwrap()[name] = json!({});
            assert_eq!(unknown_fields(&object), [said]);
        }
    }

    #[test]
    fn letters_are_counted() {
        for (one, other, letters) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("Ab", "aB", 0), ("abc", "acb", 2)]
        {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }
}
