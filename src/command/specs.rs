//! Signed specs: signing the HostingDeployments of a YAML stream, judging them, saying what would change, and applying
//! them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::stream::{Stream, items};
use super::CommandError;
use super::wallet::{read, shown};
use crate::api::GROUP;

/// Files with objects.
#[derive(Debug, clap::Args)]
pub(super) struct Files {
    /// File with documents; `-` for standard input. Give it once for each.
    #[arg(short, long = "file", value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Namespace of the documents that name none.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Files {
    fn read(&self) -> Result<Vec<Stream>, CommandError> {
        self.files.iter().map(|file| read_stream(file)).collect()
    }

    fn no_deployment(&self) -> CommandError {
        let shown: Vec<String> = self.files.iter().map(|file| shown(file)).collect();
        CommandError::new(format!("{} holds no HostingDeployment", shown.join(" and ")))
    }
}

/// The HostingDeployments of some files, each with the namespace that it would go to.
fn placed(files: &Files) -> Result<Vec<Value>, CommandError> {
    let streams = files.read()?;
    let deployments = objects(streams.iter().flat_map(Stream::documents)).filter(|object| is_deployment(object));
    Ok(deployments.map(|object| in_namespace(object, files.namespace.as_deref())).collect())
}

/// The object with a namespace, where it names none.
fn in_namespace(object: &Value, namespace: Option<&str>) -> Value {
    let mut object = object.clone();
    if let (None, Some(namespace)) = (namespace_of(&object), namespace)
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    object
}

fn read_stream(file: &Path) -> Result<Stream, CommandError> {
    let stream = Stream::parse(read(file)?)
        .map_err(|error| CommandError::because(format!("{} is not a stream of YAML documents", shown(file)), error))?;
    let odd = stream.documents().iter().find_map(odd_list);
    odd.map_or(Ok(stream), |odd| Err(CommandError::new(format!("{} was not looked at: {odd}", shown(file)))))
}

/// The objects of documents: what each list holds, in lists within it too, and every other document.
fn objects<'a>(documents: impl Iterator<Item = &'a Value>) -> impl Iterator<Item = &'a Value> {
    documents.flat_map(within)
}

fn within(document: &Value) -> Vec<&Value> {
    match items(document) {
        Some(items) => items.iter().flat_map(within).collect(),
        None => vec![document],
    }
}

fn objects_mut(document: &mut Value) -> Vec<&mut Value> {
    if items(document).is_none() {
        return vec![document];
    }
    document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten().flat_map(objects_mut).collect()
}

/// What is wrong with a list of our group. kubectl names the kind of an item that names none by that of its list, and what
/// is opened as a list here must not be an object to others.
fn odd_list(document: &Value) -> Option<String> {
    let items = items(document)?;
    let kind = text(document, "/kind").unwrap_or_default();
    let is_told = |item: &Value, part| text(item, part).is_some_and(|told| !told.is_empty());
    let named = |item: &Value| is_told(item, "/kind") && is_told(item, "/apiVersion");
    let ours = text(document, "/apiVersion").is_some_and(is_ours);
    if ours && !(kind.ends_with("List") && items.iter().all(named)) {
        return Some(format!(
            "it has items under the kind {kind:?}, and not all can be told: use the kind List, and give every item its own \
             kind and apiVersion"
        ));
    }
    items.iter().find_map(odd_list)
}

fn is_kind(object: &Value, kind: &str, version: impl FnOnce(&str) -> bool) -> bool {
    text(object, "/kind") == Some(kind) && text(object, "/apiVersion").is_some_and(version)
}

fn is_deployment(object: &Value) -> bool {
    is_kind(object, "HostingDeployment", is_ours)
}

fn is_ours(version: &str) -> bool {
    version.split_once('/').is_some_and(|(group, _)| group == GROUP)
}

fn text<'a>(object: &'a Value, pointer: &str) -> Option<&'a str> {
    object.pointer(pointer).and_then(Value::as_str)
}

fn namespace_of(object: &Value) -> Option<&str> {
    text(object, "/metadata/namespace")
}

fn name_of(object: &Value) -> Option<&str> {
    text(object, "/metadata/name")
}

/// What an object is called in a sentence.
fn called(object: &Value) -> String {
    format!("HostingDeployment {}", name_of(object).unwrap_or("without a name"))
}

/// An error with its causes.
fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

pub(super) mod apply;
mod carried;
mod cluster;
mod content;
mod edit;
mod follow;
mod forecast;
mod judge;
mod layout;
pub(super) mod plan;
mod renew;
mod schema;
pub(super) mod sign;
mod signer;
mod signing;
mod stream;
#[cfg(test)]
mod tests;
pub(super) mod verify;
