//! Strict reading of JSON: no duplicate or unknown member, no trailing data, no float, only canonical encodings.
//!
//! Go's decoder folds letter case, merges duplicate objects and drops what it does not know, so two readers may see
//! two different tokens behind one signature. What is read here has exactly one meaning.

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;

use super::{Reason, Refusal};

/// Most lists and objects inside each other. A chain of [`super::MAX_LINKS`] in a context file has 21.
const MAX_NESTING: usize = 32;

/// A JSON value that still holds every member as it was written. Texts without escapes are borrowed from the input.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tree<'a> {
    Null,
    Bool(bool),
    Unsigned(u64),
    /// Negative, fractional or too large: no member of DMS takes it.
    OtherNumber,
    Text(Cow<'a, str>),
    List(Vec<Tree<'a>>),
    Object(Vec<(Cow<'a, str>, Tree<'a>)>),
}

impl<'de> Deserialize<'de> for Tree<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Nested(MAX_NESTING).deserialize(deserializer)
    }
}

/// Reads a value inside which so many more may be nested.
struct Nested(usize);

impl Nested {
    fn inner<E: serde::de::Error>(&self) -> Result<Self, E> {
        let left = self.0.checked_sub(1);
        left.map(Self).ok_or_else(|| E::custom(format_args!("more than {MAX_NESTING} lists and objects are nested")))
    }
}

impl<'de> DeserializeSeed<'de> for Nested {
    type Value = Tree<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested {
    type Value = Tree<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Tree<'de>, E> {
        Ok(Tree::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree<'de>, E> {
        Ok(Tree::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree<'de>, E> {
        Ok(Tree::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree<'de>, E> {
        Ok(u64::try_from(value).map_or(Tree::OtherNumber, Tree::Unsigned))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree<'de>, E> {
        Ok(Tree::OtherNumber)
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Borrowed(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Tree<'de>, E> {
        Ok(Tree::Text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree<'de>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.inner::<A::Error>()?)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Tree<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            members.push((name, entries.next_value_seed(self.inner::<A::Error>()?)?));
        }
        Ok(Tree::Object(members))
    }
}

/// The name of a member, borrowed where it can be.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Nested(0).deserialize(deserializer)? {
            Tree::Text(text) => Ok(Self(text)),
            _ => Err(serde::de::Error::custom("the name of a member is not text")),
        }
    }
}

/// Reads one JSON value of at most `limit` bytes; `what` names it in a refusal.
pub(super) fn read<'a>(bytes: &'a [u8], limit: usize, what: &'static str) -> Result<Tree<'a>, Refusal> {
    if bytes.len() > limit {
        let length = bytes.len();
        let message = format!("the {what} has {length} bytes, more than the {limit} that are read");
        return Err(Refusal::explained(Reason::TooLarge, message));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => malformed(format!("the {what} is not read: {error}")),
        Category::Io | Category::Syntax | Category::Eof => malformed(format!("the {what} is not JSON: {error}")),
    })
}

/// A name as Go compares it: in Unicode's simple case folding, two more characters stand for letters of ASCII.
fn folded(name: &str) -> String {
    let letter = |character| match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    };
    name.chars().map(letter).collect()
}

/// A refusal for something that does not have the form of DMS.
pub(super) fn malformed(message: impl fmt::Display) -> Refusal {
    Refusal::explained(Reason::Malformed, message)
}

/// The members of one object, each of them known, none of them twice.
pub(super) struct Members<'a> {
    what: &'static str,
    members: Vec<(Cow<'a, str>, Tree<'a>)>,
}

impl<'a> Members<'a> {
    /// Takes an object apart; `known` are the only names that it may hold.
    pub(super) fn of(tree: Tree<'a>, what: &'static str, known: &[&str]) -> Result<Self, Refusal> {
        let Tree::Object(members) = tree else { return Err(malformed(format!("the {what} is not a JSON object"))) };
        for (index, (name, _)) in members.iter().enumerate() {
            let is_known = known.contains(&name.as_ref());
            let is_twice = |(earlier, _): &(Cow<'_, str>, Tree<'_>)| {
                earlier == name || (!is_known && folded(earlier) == folded(name))
            };
            if members.iter().take(index).any(is_twice) {
                let message = format!("the {what} has the member {name:?} twice");
                return Err(Refusal::explained(Reason::DuplicateMember, message));
            }
            if !is_known {
                let message = format!("the {what} has the member {name:?}, which no signature covers");
                return Err(Refusal::explained(Reason::UnknownMember, message));
            }
        }
        Ok(Self { what, members })
    }

    /// A member that may be absent.
    pub(super) fn optional(&mut self, name: &str) -> Option<Tree<'a>> {
        let index = self.members.iter().position(|(found, _)| found == name)?;
        Some(self.members.swap_remove(index).1)
    }

    /// A member that must be there.
    pub(super) fn required(&mut self, name: &str) -> Result<Tree<'a>, Refusal> {
        self.optional(name).ok_or_else(|| malformed(format!("the {} has no member {name:?}", self.what)))
    }

    /// A member that holds text.
    pub(super) fn text(&mut self, name: &str) -> Result<Cow<'a, str>, Refusal> {
        let tree = self.required(name)?;
        self.as_text(name, tree)
    }

    /// A member that holds text and is left out when there is none.
    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
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
        self.as_bytes(name, &text)
    }

    /// A member that holds bytes and is left out when there are none.
    pub(super) fn optional_bytes(&mut self, name: &str) -> Result<Vec<u8>, Refusal> {
        let Some(text) = self.optional_text(name)? else { return Ok(Vec::new()) };
        self.as_bytes(name, &text)
    }

    /// The bytes that a member holds as text.
    pub(super) fn as_bytes(&self, name: &str, text: &str) -> Result<Vec<u8>, Refusal> {
        STANDARD.decode(text).map_err(|error| {
            self.wrong(name, &format!("is not canonical base64: {}", error.to_string().trim_end_matches('.')))
        })
    }

    /// A member that holds a list.
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Tree<'a>>, Refusal> {
        match self.required(name)? {
            Tree::List(items) => Ok(items),
            _ => Err(self.wrong(name, "is not a list")),
        }
    }

    /// A member that holds a list and is left out when the list is empty.
    pub(super) fn optional_list(&mut self, name: &str) -> Result<Vec<Tree<'a>>, Refusal> {
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

    fn as_text(&self, name: &str, tree: Tree<'a>) -> Result<Cow<'a, str>, Refusal> {
        match tree {
            Tree::Text(text) => Ok(text),
            _ => Err(self.wrong(name, "is not text")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(json: &str) -> Option<Reason> {
        let tree = match read(json.as_bytes(), 1 << 20, "value") {
            Ok(tree) => tree,
            Err(refusal) => return Some(refusal.reason),
        };
        Members::of(tree, "value", &["sub", "tok"]).err().map(|refusal| refusal.reason)
    }

    #[test]
    fn a_member_that_go_would_merge_is_there_twice() {
        assert_eq!(reason(r#"{"sub":1,"tok":2}"#), None);
        for twice in ["sub", "SUB", "Sub", "\u{17f}ub", "\\u017fub"] {
            assert_eq!(reason(&format!(r#"{{"sub":1,"{twice}":1}}"#)), Some(Reason::DuplicateMember), "{twice}");
        }
        assert_eq!(reason(r#"{"tok":1,"to\u212a":1}"#), Some(Reason::DuplicateMember));
        for unknown in ["subs", "su", "", "Sub", "\u{17f}ub", "s\\u0000ub"] {
            assert_eq!(reason(&format!(r#"{{"{unknown}":1}}"#)), Some(Reason::UnknownMember), "{unknown}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_trailing_data_refused() {
        let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
        assert!(read(nested(MAX_NESTING).as_bytes(), 1 << 20, "value").is_ok());
        for count in [MAX_NESTING + 1, 127, 128, 5000, 500_000] {
            assert_eq!(reason(&nested(count)), Some(Reason::Malformed), "{count}");
        }
        for json in ["", "{} {}", "{}x", "[1,]", "{\"a\":}", "nul", "\"\u{1}\"", "01", "1.", "+1", "\u{feff}{}"] {
            assert_eq!(reason(json), Some(Reason::Malformed), "{json}");
        }
    }

    #[test]
    fn only_plain_digits_are_a_number() {
        fn tree(json: &str) -> Tree<'_> {
            read(json.as_bytes(), 100, "value").unwrap()
        }
        assert_eq!(tree("18446744073709551615"), Tree::Unsigned(u64::MAX));
        for json in ["18446744073709551616", "-1", "-0", "1e3", "1.0", "1E0"] {
            assert_eq!(tree(json), Tree::OtherNumber, "{json}");
        }
    }
}
