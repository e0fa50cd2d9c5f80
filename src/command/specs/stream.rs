//! A text with objects: a stream of YAML documents, or of JSON.

use serde_json::Value;

use super::edit::{EditError, edited, edits};
use super::layout::{Node, roots};

/// A text, and what it says.
#[derive(Debug)]
pub(super) struct Stream {
    text: String,
    form: Form,
    documents: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Yaml,
    Json,
}

/// The values of a text that is nothing but JSON objects.
fn json(text: &str) -> Option<Vec<Value>> {
    let values = text.trim_start().starts_with('{').then(|| serde_json::Deserializer::from_str(text).into_iter())?;
    values.collect::<Result<_, _>>().ok()
}

impl Stream {
    pub(super) fn parse(text: String) -> Result<Self, serde_saphyr::Error> {
        let (form, documents) = match json(&text) {
            Some(documents) => (Form::Json, documents),
            None => (Form::Yaml, serde_saphyr::from_multiple(&text)?),
        };
        Ok(Self { text, form, documents })
    }

    pub(super) fn documents(&self) -> &[Value] {
        &self.documents
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) const fn is_json(&self) -> bool {
        matches!(self.form, Form::Json)
    }

    /// The text that says `wanted`, where only what signing writes was changed. It is read again before it is given out.
    pub(super) fn rewritten(&self, wanted: &[Value]) -> Result<String, EditError> {
        let roots = self.roots()?;
        let holding = |document: &&Value| document.is_object() || document.is_array();
        let (before, after): (Vec<_>, Vec<_>) =
            (self.documents.iter().filter(holding).collect(), wanted.iter().filter(holding).collect());
        if roots.len() != before.len() || before.len() != after.len() {
            return Err(EditError::Differs);
        }
        let mut all = Vec::new();
        for (root, (before, after)) in roots.iter().zip(before.into_iter().zip(after)) {
            for (node, before, after) in objects(root, before, after)? {
                all.extend(edits(&self.text, node, before, after)?);
            }
        }
        let text = edited(&self.text, all).ok_or(EditError::Differs)?;
        let read = match self.form {
            Form::Yaml => serde_saphyr::from_multiple(&text).ok(),
            Form::Json => json(&text),
        };
        if read.is_some_and(|documents: Vec<Value>| documents == wanted) { Ok(text) } else { Err(EditError::Differs) }
    }

    fn roots(&self) -> Result<Vec<Node>, EditError> {
        if self.form == Form::Yaml {
            return Ok(roots(&self.text, 0)?);
        }
        let mut found = Vec::new();
        let mut values = serde_json::Deserializer::from_str(&self.text).into_iter::<Value>();
        let mut start = 0;
        while values.next().is_some() {
            let end = values.byte_offset();
            found.extend(roots(self.text.get(start..end).unwrap_or_default(), start)?);
            start = end;
        }
        Ok(found)
    }
}

/// The objects of a document, each with its node: what it holds, when it is a list. What is the same has no part in this.
fn objects<'a>(
    root: &'a Node,
    before: &'a Value,
    after: &'a Value,
) -> Result<Vec<(&'a Node, &'a Value, &'a Value)>, EditError> {
    if before == after {
        return Ok(Vec::new());
    }
    let (Some(before_items), Some(after_items)) = (items(before), items(after)) else {
        return Ok(vec![(root, before, after)]);
    };
    let nodes = root.entry("items").map(|entry| entry.value.items()).unwrap_or_default();
    if nodes.len() != before_items.len() || nodes.len() != after_items.len() {
        return Err(EditError::NotWrittenOut("items".to_owned()));
    }
    let mut found = Vec::new();
    for (node, (before, after)) in nodes.iter().zip(before_items.iter().zip(after_items)) {
        found.extend(objects(node, before, after)?);
    }
    Ok(found)
}

/// The items of a list. To kubectl every document that has some is one, whatever its kind.
pub(super) fn items(document: &Value) -> Option<&Vec<Value>> {
    document.get("items")?.as_array()
}
