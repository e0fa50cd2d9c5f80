//! Where the nodes of a YAML text stand in it, by the parser that also reads their values.

use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StructureStyle};

/// A node and the bytes that it takes up; those of an empty one are none, where it would stand.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) range: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Mapping(Mapping),
    Sequence(StructureStyle, Vec<Node>),
    Scalar(ScalarStyle),
    Alias,
}

#[derive(Debug)]
pub(super) struct Mapping {
    pub(super) style: StructureStyle,
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    /// `None`: the key is no scalar.
    key: Option<String>,
    pub(super) key_range: Range<usize>,
    pub(super) value: Node,
}

/// Why the nodes of a text were not found.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayoutError {
    #[error("it cannot be read: {0}")]
    Scan(#[from] ScanError),
    #[error("it ends in the middle of a document")]
    Cut,
}

/// The root of each document of a text that is a mapping or a list. `base` is where the text itself begins.
pub(super) fn roots(text: &str, base: usize) -> Result<Vec<Node>, LayoutError> {
    let options = granit_parser::options! { emit_comments: false };
    let mut events = Parser::new_from_str_with_options(text, options)
        .map(|event| event.map(|(event, span)| (event, span.byte_range().unwrap_or_default())));
    let layout = Layout { text, base };
    let mut roots = Vec::new();
    while let Some(event) = events.next() {
        let (event, range) = event?;
        roots.extend(layout.node(&event, range, &mut events)?.filter(Node::is_collection));
    }
    Ok(roots)
}

/// A text that is taken apart.
#[derive(Clone, Copy)]
struct Layout<'a> {
    text: &'a str,
    base: usize,
}

impl Layout<'_> {
    /// The node that begins with this event; `None`, when the event is none of a node.
    fn node<'e>(
        self,
        event: &Event<'e>,
        range: Range<usize>,
        events: &mut dyn Iterator<Item = Result<(Event<'e>, Range<usize>), ScanError>>,
    ) -> Result<Option<Node>, LayoutError> {
        let start = range.start;
        let (range, kind) = match event {
            Event::Scalar(_, style, _, _) => (self.visible(range, *style), Kind::Scalar(*style)),
            Event::Alias(_) => (range, Kind::Alias),
            Event::SequenceStart(style, _, _) => {
                let mut items = Vec::new();
                loop {
                    match events.next().ok_or(LayoutError::Cut)?? {
                        (Event::SequenceEnd, end) => break (start..end.end, Kind::Sequence(*style, items)),
                        (event, range) => items.extend(self.node(&event, range, events)?),
                    }
                }
            }
            Event::MappingStart(style, _, _) => {
                let mut entries = Vec::new();
                loop {
                    match events.next().ok_or(LayoutError::Cut)?? {
                        (Event::MappingEnd, end) => {
                            break (start..end.end, Kind::Mapping(Mapping { style: *style, entries }));
                        }
                        (event, range) => entries.extend(self.entry(&event, range, events)?),
                    }
                }
            }
            _ => return Ok(None),
        };
        Ok(Some(Node { range: self.shifted(range), kind }))
    }

    /// The entry whose key begins with this event.
    fn entry<'e>(
        self,
        event: &Event<'e>,
        range: Range<usize>,
        events: &mut dyn Iterator<Item = Result<(Event<'e>, Range<usize>), ScanError>>,
    ) -> Result<Option<Entry>, LayoutError> {
        let name = event.scalar().map(|(text, _)| text.to_owned());
        let Some(key) = self.node(event, range, events)? else { return Ok(None) };
        loop {
            let (event, range) = events.next().ok_or(LayoutError::Cut)??;
            if let Some(value) = self.node(&event, range, events)? {
                return Ok(Some(Entry { key: name, key_range: key.range, value }));
            }
        }
    }

    /// A block scalar without the line breaks below it.
    fn visible(self, range: Range<usize>, style: ScalarStyle) -> Range<usize> {
        if !is_block(style) {
            return range;
        }
        let content = self.text.get(range.clone()).unwrap_or_default().trim_end();
        range.start..range.start + content.len()
    }

    const fn shifted(self, range: Range<usize>) -> Range<usize> {
        range.start + self.base..range.end + self.base
    }
}

impl Node {
    /// The member of a mapping; none of another node.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        match &self.kind {
            Kind::Mapping(mapping) => mapping.entry(name),
            Kind::Sequence(..) | Kind::Scalar(_) | Kind::Alias => None,
        }
    }

    /// The items of a list; none of another node.
    pub(super) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::Sequence(_, items) => items,
            Kind::Mapping(_) | Kind::Scalar(_) | Kind::Alias => &[],
        }
    }

    const fn is_collection(&self) -> bool {
        matches!(self.kind, Kind::Mapping(_) | Kind::Sequence(..))
    }

    /// Where the last character of the node stands, and whether that is in a block scalar.
    pub(super) fn end(&self) -> (usize, bool) {
        let empty = (self.range.end, false);
        match &self.kind {
            Kind::Mapping(Mapping { style: StructureStyle::Block, entries }) => {
                entries.last().map_or(empty, Entry::end)
            }
            Kind::Sequence(StructureStyle::Block, items) => items.last().map_or(empty, Self::end),
            Kind::Scalar(style) => (self.range.end, is_block(*style)),
            Kind::Mapping(_) | Kind::Sequence(..) | Kind::Alias => empty,
        }
    }
}

impl Entry {
    pub(super) fn end(&self) -> (usize, bool) {
        let (end, block) = self.value.end();
        (end.max(self.key_range.end), block)
    }
}

impl Mapping {
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.as_deref() == Some(name))
    }
}

/// Whether a scalar is written in lines of its own below `|` or `>`.
pub(super) const fn is_block(style: ScalarStyle) -> bool {
    matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
}
