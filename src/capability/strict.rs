//! Strict reading of JSON: no duplicate or unknown member, no trailing data, no float, only canonical encodings.
//!
//! Go's decoder folds letter case, merges duplicate objects and drops what it does not know, so two readers may see
//! two different tokens behind one signature. What is read here has exactly one meaning.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Reason, Refusal};

/// A JSON value that still holds every member as it was written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool,
    Unsigned(u64),
    /// Negative, fractional or too large: no member of DMS takes it.
    OtherNumber,
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Bool)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(u64::try_from(value).map_or(Tree::OtherNumber, Tree::Unsigned))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = entries.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Object(members))
    }
}

/// Reads one JSON value of at most `limit` bytes; `what` names it in a refusal.
pub(super) fn read(bytes: &[u8], limit: usize, what: &'static str) -> Result<Tree, Refusal> {
    if bytes.len() > limit {
        let length = bytes.len();
        return Err(Refusal::new(
            Reason::TooLarge,
            None,
            format!(
                "the {what} has {length} bytes, more than the {limit} that are read. {}",
                Reason::TooLarge.next_step()
            ),
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| malformed(format!("the {what} is not JSON: {error}")))
}

/// A refusal for something that does not have the form of DMS.
pub(super) fn malformed(message: impl fmt::Display) -> Refusal {
    Refusal::explained(Reason::Malformed, message)
}

/// The members of one object, each of them known, none of them twice.
pub(super) struct Members {
    what: &'static str,
    members: Vec<(String, Tree)>,
}

impl Members {
    /// Takes an object apart; `known` are the only names that it may hold.
    pub(super) fn of(tree: Tree, what: &'static str, known: &[&str]) -> Result<Self, Refusal> {
        let Tree::Object(members) = tree else { return Err(malformed(format!("the {what} is not a JSON object"))) };
        for (index, (name, _)) in members.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                let message = format!("the {what} has the member {name:?}, which no signature covers");
                return Err(Refusal::explained(Reason::UnknownMember, message));
            }
            if members.iter().take(index).any(|(earlier, _)| earlier == name) {
                let message = format!("the {what} has the member {name:?} twice");
                return Err(Refusal::explained(Reason::DuplicateMember, message));
            }
        }
        Ok(Self { what, members })
    }

    /// A member that may be absent.
    pub(super) fn optional(&mut self, name: &str) -> Option<Tree> {
        let index = self.members.iter().position(|(found, _)| found == name)?;
        Some(self.members.swap_remove(index).1)
    }

    /// A member that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Tree, Refusal> {
        self.optional(name).ok_or_else(|| malformed(format!("the {} has no member {name:?}", self.what)))
    }

    /// A member that holds text.
    pub(super) fn text(&mut self, name: &str) -> Result<String, Refusal> {
        let tree = self.required(name)?;
        self.as_text(name, tree)
    }

    /// A member that holds text and is left out when there is none.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let Some(tree) = self.optional(name) else { return Ok(None) };
        let text = self.as_text(name, tree)?;
        if text.is_empty() { Err(self.wrong(name, "is empty instead of absent")) } else { Ok(Some(text)) }
    }

    /// A member that holds an integer in plain digits.
    pub(super) fn number(&mut self, name: &str) -> Result<u64, Refusal> {
        match self.required(name)? {
            Tree::Unsigned(value) => Ok(value),
            _ => Err(self.wrong(name, "is not an integer from 0 to 2^64 - 1 in plain digits")),
        }
    }

    /// A member that holds an integer and is left out when it is 0.
    pub(super) fn optional_number(&mut self, name: &str) -> Result<u64, Refusal> {
        match self.optional(name) {
            None => Ok(0),
            Some(Tree::Unsigned(value)) if value > 0 => Ok(value),
            Some(_) => Err(self.wrong(name, "is not a positive integer in plain digits")),
        }
    }

    /// A member that holds bytes in canonical base64.
    pub(super) fn bytes(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        let text = self.text(name)?;
        STANDARD.decode(text).map_err(|error| {
            self.wrong(name, &format!("is not canonical base64: {}", error.to_string().trim_end_matches('.')))
        })
    }

    /// A member that holds bytes and is left out when there are none.
    pub(super) fn optional_bytes(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        let Some(text) = self.optional_text(name)? else { return Ok(Vec::new()) };
        STANDARD.decode(text).map_err(|error| {
            self.wrong(name, &format!("is not canonical base64: {}", error.to_string().trim_end_matches('.')))
        })
    }

    /// A member that holds a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Tree>, Refusal> {
        match self.required(name)? {
            Tree::List(items) => Ok(items),
            _ => Err(self.wrong(name, "is not a list")),
        }
    }

    /// A member that holds a list and is left out when the list is empty.
    pub(super) fn optional_list(&mut self, name: &str) -> Result<Vec<Tree>, Refusal> {
        match self.optional(name) {
            None => Ok(Vec::new()),
            Some(Tree::List(items)) if !items.is_empty() => Ok(items),
            Some(_) => Err(self.wrong(name, "is not a list with items")),
        }
    }

    /// A refusal about one member.
    pub(super) fn wrong(&self, name: &str, what: &str) -> Refusal {
        malformed(format!("in the {}, the member {name:?} {what}", self.what))
    }

    fn as_text(&self, name: &str, tree: Tree) -> Result<String, Refusal> {
        match tree {
            Tree::Text(text) => Ok(text),
            _ => Err(self.wrong(name, "is not text")),
        }
    }
}
