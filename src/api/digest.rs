//! What a signature over a spec covers.
//!
//! The digest is SHA-256 of `nunet-hosting:spec:v1\n` and the RFC 8785 form of `{apiVersion, kind, namespace, name,
//! spec without authorization}`, taken from the raw JSON: members that are `null` are left out, empty objects and
//! lists stay. It is never computed from a re-serialised struct, so a field that this version does not know is
//! covered too.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

const DOMAIN: &[u8] = b"nunet-hosting:spec:v1\n";

/// Digest of a spec, and of its parts, each as 64 hex digits. The parts only serve to say what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecDigest {
    /// Over the whole.
    pub digest: String,
    /// Over `spec.content`.
    pub content: String,
    /// Over `spec.workload`.
    pub workload: String,
    /// Over `spec.placement`.
    pub placement: String,
    /// Over everything else, names included.
    pub rest: String,
}

impl SpecDigest {
    /// The parts in which two specs differ, in words for a message.
    #[must_use]
    pub fn differing_parts(&self, other: &Self) -> Vec<&'static str> {
        let Self { digest: _, content, workload, placement, rest } = self;
        [
            (content == &other.content, "content"),
            (workload == &other.workload, "workload"),
            (placement == &other.placement, "placement"),
            (rest == &other.rest, "name, namespace, owner or another field"),
        ]
        .into_iter()
        .filter_map(|(same, part)| (!same).then_some(part))
        .collect()
    }
}

/// Why an object has no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// A member that the digest covers is missing or has another type.
    #[error("the object has no {0}: a signature covers apiVersion, kind, metadata.namespace, metadata.name and spec")]
    Missing(&'static str),
    /// The object holds a number that has no canonical form.
    #[error("the object has no canonical JSON form: {0}")]
    Canonical(#[source] serde_json::Error),
}

/// The digest of an object given as raw JSON, with the namespace that it will live in.
///
/// # Errors
/// [`DigestError`], when a covered member is missing.
pub fn spec_digest(object: &Value) -> Result<SpecDigest, DigestError> {
    let text = |pointer: &str, name: &'static str| {
        object.pointer(pointer).and_then(Value::as_str).map(Value::from).ok_or(DigestError::Missing(name))
    };
    let spec = object.get("spec").and_then(Value::as_object).ok_or(DigestError::Missing("spec"))?;
    let mut spec = without_nulls(spec);
    spec.remove("authorization");
    let mut head = Map::new();
    head.insert("apiVersion".into(), text("/apiVersion", "apiVersion")?);
    head.insert("kind".into(), text("/kind", "kind")?);
    head.insert("namespace".into(), text("/metadata/namespace", "metadata.namespace")?);
    head.insert("name".into(), text("/metadata/name", "metadata.name")?);

    let mut whole = head.clone();
    whole.insert("spec".into(), Value::Object(spec.clone()));
    let content = spec.remove("content").unwrap_or(Value::Null);
    let workload = spec.remove("workload").unwrap_or(Value::Null);
    let placement = spec.remove("placement").unwrap_or(Value::Null);
    head.insert("spec".into(), Value::Object(spec));
    Ok(SpecDigest {
        digest: hash(&Value::Object(whole))?,
        content: hash(&content)?,
        workload: hash(&workload)?,
        placement: hash(&placement)?,
        rest: hash(&Value::Object(head))?,
    })
}

fn hash(value: &Value) -> Result<String, DigestError> {
    let canonical = serde_json_canonicalizer::to_vec(value).map_err(DigestError::Canonical)?;
    Ok(hex::encode(Sha256::new().chain_update(DOMAIN).chain_update(canonical).finalize()))
}

fn without_nulls(members: &Map<String, Value>) -> Map<String, Value> {
    members.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.clone(), strip(value))).collect()
}

fn strip(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(without_nulls(members)),
        Value::Array(items) => Value::Array(items.iter().map(strip).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeployment",
            "metadata": {"namespace": "shop", "name": "web", "labels": {"a": "b"}},
            "spec": {"owner": "did:key:z", "content": {"release": "sha256:00", "from": {}}, "placement": null,
                     "authorization": {"invocation": "AAAA"}},
            "status": {"url": "x"}
        })
    }

    #[test]
    fn authorization_nulls_labels_and_status_are_not_covered() {
        let signed = spec_digest(&object()).unwrap();
        let mut other = object();
        other["spec"].as_object_mut().unwrap().remove("authorization");
        other["spec"].as_object_mut().unwrap().remove("placement");
        other["metadata"]["labels"] = json!({});
        other.as_object_mut().unwrap().remove("status");
        assert_eq!(spec_digest(&other).unwrap(), signed);
    }

    #[test]
    fn every_other_change_is_seen_and_named() {
        let signed = spec_digest(&object()).unwrap();
        for (pointer, part) in [
            ("/spec/content/release", "content"),
            ("/spec/owner", "name, namespace, owner or another field"),
            ("/metadata/namespace", "name, namespace, owner or another field"),
            ("/metadata/name", "name, namespace, owner or another field"),
            ("/kind", "name, namespace, owner or another field"),
        ] {
            let mut other = object();
            *other.pointer_mut(pointer).unwrap() = "changed".into();
            let other = spec_digest(&other).unwrap();
            assert_ne!(other.digest, signed.digest, "{pointer}");
            assert_eq!(signed.differing_parts(&other), [part], "{pointer}");
        }
        let mut other = object();
        other["spec"]["unknown"] = json!({});
        assert_ne!(spec_digest(&other).unwrap().digest, signed.digest, "a field this version does not know");
        let mut other = object();
        other["spec"]["content"].as_object_mut().unwrap().remove("from");
        assert_ne!(spec_digest(&other).unwrap().digest, signed.digest, "an empty object is not an absent one");
    }

    /// The canonical form is written out by hand here, so that the library that makes it is held too.
    #[test]
    fn the_digest_is_the_documented_one() {
        let canonical = br#"{"apiVersion":"hosting.nunet.io/v1alpha1","kind":"HostingDeployment","name":"web","namespace":"shop","spec":{"content":{"from":{},"release":"sha256:00"},"owner":"did:key:z"}}"#;
        let expected = hex::encode(Sha256::new().chain_update(DOMAIN).chain_update(canonical).finalize());
        assert_eq!(spec_digest(&object()).unwrap().digest, expected);
    }
}
