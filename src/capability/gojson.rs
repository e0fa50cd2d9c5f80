//! JSON as Go's `encoding/json` writes it: the bytes that DMS signatures cover.
//!
//! Members stand in declared order without white space; `<`, `>`, `&`, U+2028 and U+2029 are escaped inside strings,
//! other non-ASCII is written raw; bytes are standard base64 with padding.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Appends `text` as a JSON string.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    if text.bytes().all(is_plain) {
        out.push_str(text);
    } else {
        escape(out, text);
    }
    out.push('"');
}

/// Whether a byte is a whole character that stands for itself.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\' | b'<' | b'>' | b'&')
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                // proven: writing to a String does not fail.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
}

/// Appends `value` as a JSON string in base64.
pub(super) fn bytes(out: &mut String, value: &[u8]) {
    out.push('"');
    STANDARD.encode_string(value, out);
    out.push('"');
}

/// Writes the members of one JSON object in the order in which they are given.
pub(super) struct Object<'a> {
    out: &'a mut String,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub(super) fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, empty: true }
    }

    /// Writes a member whose value `write` appends.
    pub(super) fn member(&mut self, name: &str, write: impl FnOnce(&mut String)) -> &mut Self {
        if !self.empty {
            self.out.push(',');
        }
        self.empty = false;
        string(self.out, name);
        self.out.push(':');
        write(self.out);
        self
    }

    /// Writes a member that holds text.
    pub(super) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        self.member(name, |out| string(out, value))
    }

    /// Writes a member that holds text, unless there is none.
    pub(super) fn text_if(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) if !value.is_empty() => self.text(name, value),
            _ => self,
        }
    }

    /// Writes a member that holds bytes, in base64.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        self.member(name, |out| bytes(out, value))
    }

    /// Writes a member that holds bytes, unless they are empty.
    pub(super) fn bytes_if(&mut self, name: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.bytes(name, value) }
    }

    /// Writes a member that holds an integer.
    pub(super) fn number(&mut self, name: &str, value: u64) -> &mut Self {
        self.member(name, |out| {
            // proven: writing to a String does not fail.
            let _ = write!(out, "{value}");
        })
    }

    /// Closes the object.
    pub(super) fn close(&mut self) {
        self.out.push('}');
    }
}

/// Appends a list whose items `write` appends.
pub(super) fn list<T>(out: &mut String, items: &[T], write: impl Fn(&mut String, &T)) {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let mut out = String::new();
        string(&mut out, "<b>&\u{2028}\u{2029}\"\\/'\u{7f}\u{80}é\n\r\t\u{8}\u{c}\0\u{1f}");
        assert_eq!(out, "\"\\u003cb\\u003e\\u0026\\u2028\\u2029\\\"\\\\/'\u{7f}\u{80}é\\n\\r\\t\\b\\f\\u0000\\u001f\"");
    }
}
