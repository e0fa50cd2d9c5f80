//! Changing a member of an object in its text, and nothing around it.

use std::borrow::Cow;
use std::ops::Range;

use granit_parser::{ScalarStyle, StructureStyle};
use serde_json::Value;

use super::layout::{Entry, Kind, LayoutError, Mapping, Node, is_block};

/// What signing writes: the path of each member.
const WRITTEN: [&[&str]; 4] = [
    &["metadata", "namespace"],
    &["spec", "owner"],
    &["spec", "content", "release"],
    &["spec", "authorization", "invocation"],
];

/// Texts that readers of YAML 1.1 take for something else.
const TAKEN_FOR_OTHERS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// Why a text was not changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum EditError {
    #[error("its text could not be taken apart")]
    Layout(#[from] LayoutError),
    #[error(
        "{0} does not stand in its text as a mapping of its own: write it out where an alias or a merge key brings it in"
    )]
    NotWrittenOut(String),
    #[error("{0} is a list or a mapping, and signing writes a text there: remove it")]
    NotAText(String),
    #[error(
        "changed in its text, it would say something else than what was signed, so it was left as it is: write its \
         metadata and spec out without anchors, aliases and merge keys, or let it be written anew with -o json"
    )]
    Differs,
}

/// A piece of a text, and what stands there instead.
#[derive(Debug)]
pub(super) struct Edit {
    at: Range<usize>,
    text: String,
}

impl Edit {
    const fn insertion(at: usize, text: String) -> Self {
        Self { at: at..at, text }
    }
}

/// The text with all edits made; `None`, when they are in each other's way.
pub(super) fn edited(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut out = String::with_capacity(text.len() + edits.iter().map(|edit| edit.text.len()).sum::<usize>());
    let mut done = 0;
    for Edit { at, text: instead } in edits {
        out.push_str(text.get(done..at.start)?);
        out.push_str(&instead);
        done = at.end;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}

/// What changes one object's text from saying `before` to saying `after`, as far as signing does.
pub(super) fn edits(text: &str, node: &Node, before: &Value, after: &Value) -> Result<Vec<Edit>, EditError> {
    let mut edits = Vec::new();
    for path in WRITTEN {
        let pointer = format!("/{}", path.join("/"));
        let text_of = |object: &Value| object.pointer(&pointer).and_then(Value::as_str).map(str::to_owned);
        match text_of(after) {
            Some(wanted) if text_of(before).as_ref() != Some(&wanted) => {
                edits.push(Place { text, path }.put(node, &wanted)?);
            }
            _ => {}
        }
    }
    Ok(edits)
}

/// A member in a text.
#[derive(Clone, Copy)]
struct Place<'a> {
    text: &'a str,
    path: &'static [&'static str],
}

impl Place<'_> {
    fn put(self, node: &Node, wanted: &str) -> Result<Edit, EditError> {
        // Each of the paths has two parts or more.
        let [first, inner @ .., last] = self.path else { return Err(EditError::Differs) };
        let mut holder = node.entry(first).ok_or_else(|| EditError::NotWrittenOut((*first).to_owned()))?;
        for (depth, name) in inner.iter().enumerate() {
            let mapping = self.mapping(holder, depth + 1)?;
            match mapping.entry(name) {
                Some(entry) if is_absent(self.text, entry) => {
                    let member = Member { names: &[last], wanted };
                    return Ok(self.replace(entry, &format!("{{{}}}", member.in_flow(self.is_json(entry)))));
                }
                Some(entry) => holder = entry,
                None => return Ok(self.insert(holder, mapping, &Member { names: &[name, last], wanted })),
            }
        }
        let mapping = self.mapping(holder, self.path.len() - 1)?;
        let Some(entry) = mapping.entry(last) else {
            return Ok(self.insert(holder, mapping, &Member { names: &[last], wanted }));
        };
        let instead: Cow<'_, str> = match entry.value.kind {
            Kind::Mapping(_) | Kind::Sequence(..) => return Err(EditError::NotAText(self.path.join("."))),
            Kind::Scalar(ScalarStyle::DoubleQuoted) => quoted(wanted).into(),
            Kind::Scalar(ScalarStyle::SingleQuoted) if !wanted.contains('\'') => format!("'{wanted}'").into(),
            Kind::Scalar(_) | Kind::Alias => scalar(wanted, mapping.style),
        };
        Ok(self.replace(entry, &instead))
    }

    fn mapping(self, holder: &Entry, depth: usize) -> Result<&Mapping, EditError> {
        match &holder.value.kind {
            Kind::Mapping(mapping) => Ok(mapping),
            _ => Err(EditError::NotWrittenOut(self.path[..depth].join("."))),
        }
    }

    fn replace(self, entry: &Entry, instead: &str) -> Edit {
        let Node { range, kind } = &entry.value;
        let block = matches!(kind, Kind::Scalar(style) if is_block(*style));
        if !block && !range.is_empty() {
            return Edit { at: range.clone(), text: instead.to_owned() };
        }
        // The colon follows the key. What is empty is placed there or before it, a block scalar below its `|` or `>`.
        let after_key = entry.key_range.end;
        let rest = self.text.get(after_key..).unwrap_or_default();
        let colon = rest.trim_start().starts_with(':').then(|| after_key + rest.len() - rest.trim_start().len() + 1);
        let start = match colon {
            Some(colon) if block => colon,
            Some(colon) => colon.max(range.start),
            None => range.start,
        };
        Edit { at: start..range.end.max(start), text: format!(" {instead}") }
    }

    fn insert(self, holder: &Entry, mapping: &Mapping, member: &Member<'_>) -> Edit {
        match (mapping.style, mapping.entries.as_slice()) {
            (StructureStyle::Flow, []) => {
                Edit::insertion(holder.value.range.start + 1, member.in_flow(self.is_json(holder)))
            }
            (StructureStyle::Flow, [first, ..]) => self.insert_in_flow(holder, first, member),
            (StructureStyle::Block, []) => self.replace(holder, &format!("{{{}}}", member.in_flow(false))),
            (StructureStyle::Block, [first, .., last]) if member.names.len() > 1 => {
                self.append(holder, first, last, member)
            }
            (StructureStyle::Block, [only]) if member.names.len() > 1 => self.append(holder, only, only, member),
            (StructureStyle::Block, [first, ..]) => self.prepend(holder, first, member),
        }
    }

    /// Before the first member, and written as it is.
    fn insert_in_flow(self, holder: &Entry, first: &Entry, member: &Member<'_>) -> Edit {
        let at = first.key_range.start;
        let opened = self.text.get(holder.value.range.start + 1..at).unwrap_or_default();
        let on_a_line = opened.contains('\n') && opened.trim().is_empty();
        let member = member.in_flow(self.is_json(first));
        Edit::insertion(at, format!("{member},{}", if on_a_line { opened } else { " " }))
    }

    /// Whether keys are written as in JSON around here.
    fn is_json(self, entry: &Entry) -> bool {
        self.text.get(entry.key_range.start..).is_some_and(|rest| rest.starts_with('"'))
    }

    /// On a line of its own, right below the key of the mapping: so comments stay with what they stand above.
    fn prepend(self, holder: &Entry, first: &Entry, member: &Member<'_>) -> Edit {
        let (indent, line_end) = (self.indent(first), self.line_end());
        let body = member.in_block(&indent, "", line_end);
        let below = self.next_line(holder.key_range.end);
        let below = below.filter(|below| *below <= self.line_start(first.key_range.start));
        below.map_or_else(
            || Edit::insertion(first.key_range.start, format!("{body}{line_end}{indent}")),
            |below| Edit::insertion(below, format!("{indent}{body}{line_end}")),
        )
    }

    /// On lines of its own, below the last member.
    fn append(self, holder: &Entry, first: &Entry, last: &Entry, member: &Member<'_>) -> Edit {
        let (indent, line_end) = (self.indent(first), self.line_end());
        let step = self.column(first).saturating_sub(self.column(holder)).clamp(1, 8);
        let body = format!("{indent}{}", member.in_block(&indent, &" ".repeat(step), line_end));
        let (end, block) = last.end();
        let mut below = self.next_line(end);
        // Blank lines may be part of a block scalar.
        while let Some(next) = below.filter(|_| block).and_then(|start| self.blank_line(start)) {
            below = Some(next);
        }
        below.map_or_else(
            || Edit::insertion(self.text.len(), format!("{line_end}{body}")),
            |below| Edit::insertion(below, format!("{body}{line_end}")),
        )
    }

    /// Where the line below a blank one begins.
    fn blank_line(self, start: usize) -> Option<usize> {
        self.next_line(start).filter(|next| self.text.get(start..*next).is_some_and(|line| line.trim().is_empty()))
    }

    fn line_start(self, at: usize) -> usize {
        self.text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |found| found + 1)
    }

    /// Where the line below begins; `None` on a line that nothing ends.
    fn next_line(self, at: usize) -> Option<usize> {
        self.text.get(at..)?.find('\n').map(|found| at + found + 1)
    }

    fn column(self, entry: &Entry) -> usize {
        let at = entry.key_range.start;
        self.text.get(self.line_start(at)..at).map_or(0, |before| before.chars().count())
    }

    fn indent(self, entry: &Entry) -> String {
        " ".repeat(self.column(entry))
    }

    fn line_end(self) -> &'static str {
        let first = self.text.find('\n').and_then(|at| self.text.get(..at));
        if first.is_some_and(|line| line.ends_with('\r')) { "\r\n" } else { "\n" }
    }
}

/// A member that is not there yet, with those above it that are not either.
struct Member<'a> {
    names: &'a [&'a str],
    wanted: &'a str,
}

impl Member<'_> {
    fn in_flow(&self, json: bool) -> String {
        let key = |name: &&str| if json { format!("\"{name}\"") } else { (*name).to_owned() };
        let opening: Vec<String> = self.names.iter().map(key).collect();
        format!("{}: {}{}", opening.join(": {"), quoted(self.wanted), "}".repeat(self.names.len().saturating_sub(1)))
    }

    fn in_block(&self, indent: &str, step: &str, line_end: &str) -> String {
        let mut out = String::new();
        for (depth, name) in self.names.iter().enumerate() {
            if depth > 0 {
                out.push_str(line_end);
                out.push_str(indent);
                out.push_str(&step.repeat(depth));
            }
            out.push_str(name);
            out.push(':');
        }
        out.push(' ');
        out.push_str(&scalar(self.wanted, StructureStyle::Block));
        out
    }
}

/// Whether a member is there and holds nothing.
fn is_absent(text: &str, entry: &Entry) -> bool {
    let written = text.get(entry.value.range.clone()).unwrap_or_default();
    matches!(entry.value.kind, Kind::Scalar(ScalarStyle::Plain)) && ["", "~", "null", "Null", "NULL"].contains(&written)
}

/// A text as every reader of YAML reads it.
fn scalar(text: &str, style: StructureStyle) -> Cow<'_, str> {
    let plain = text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=._-:".contains(&byte))
        && !text.ends_with(':')
        && !TAKEN_FOR_OTHERS.contains(&text.to_ascii_lowercase().as_str());
    let colon = style == StructureStyle::Flow && text.contains(':');
    if plain && !colon { Cow::Borrowed(text) } else { Cow::Owned(quoted(text)) }
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
