//! What a command of the plugin ended with.

use std::{fmt::Debug, process::Output};

use serde_json::Value;

#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }
}

impl Ended {
    /// Asserts that it was done. Gives its standard output.
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The same, read as JSON.
    pub fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// Standard output read as JSON, whatever the exit code.
    pub fn read(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the exit code, nothing on standard output, and what the sentence says.
    pub fn refused(&self, code: i32, says: &str) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        assert!(self.err.starts_with("error: ") && self.err.contains(says), "not {says:?}: {self:?}");
    }

    /// The same where something was shown before the sentence.
    pub fn refused_at_last(&self, code: i32, says: &str) {
        assert_eq!((self.code, self.out.as_str()), (code, ""), "{self:?}");
        let last = self.err.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: ") && last.contains(says), "not {says:?}: {self:?}");
        assert!(!self.err.contains('\u{1b}'), "{self:?}");
    }

    /// Asserts the exit code, and what is said, on either output.
    pub fn refused_saying(&self, code: i32, sentences: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        let said = format!("{}{}", self.out, self.err);
        for sentence in sentences {
            assert!(said.contains(sentence), "{sentence:?} is not in {self:?}");
        }
    }

    /// Asserts that none of these was shown.
    pub fn without<'a>(self, secrets: impl IntoIterator<Item = &'a String>, command: impl Debug) -> Self {
        for secret in secrets {
            let shown = self.out.contains(secret) || self.err.contains(secret);
            assert!(!shown, "{command:?} printed a secret");
        }
        self
    }
}
