//! Capabilities are paths; a path gives what lies below it.

use std::fmt::{self, Write as _};

/// A capability or topic in its normal form: `/`, or segments that each begin with `/` and are neither empty nor `.`
/// nor `..`, without the characters below the space. Letter case counts and nothing is a wildcard.
///
/// DMS takes other control characters, so they are read; its `Display` is for people and shows them escaped.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(String);

/// Why a text is not a capability.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a capability: write an absolute path such as `/hosting/shop/apply`, without empty, `.` or `..` \
     segments, trailing slash or characters below the space"
)]
pub struct PathError(String);

impl Capability {
    /// Reads a path that is in normal form already; nothing is repaired.
    ///
    /// # Errors
    /// [`PathError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let error = || PathError(text.to_owned());
        let below_root = text.strip_prefix('/').ok_or_else(error)?;
        let normal = below_root.is_empty()
            || below_root.split('/').all(|segment| {
                !matches!(segment, "" | "." | "..") && !segment.chars().any(|character| character < ' ')
            });
        if normal { Ok(Self(text.to_owned())) } else { Err(error()) }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether who holds this capability holds `other` too: both are the same, or `other` lies below.
    pub fn implies(&self, other: &Self) -> bool {
        self.0 == "/" || other.0.strip_prefix(&self.0).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            control if control.is_control() => write!(formatter, "{}", control.escape_unicode()),
            other => formatter.write_char(other),
        })
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Capability({self})")
    }
}

impl std::str::FromStr for Capability {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_normal_form_is_read() {
        for text in ["", "a", "//", "/a/", "/a//b", "/.", "/a/..", "/a/./b", "/a\n", "/a\0"] {
            assert_eq!(Capability::parse(text), Err(PathError(text.to_owned())), "{text:?}");
        }
        for text in ["/", "/a", "/a/b.c", "/...", "/a b", "/é"] {
            assert_eq!(Capability::parse(text).map(|path| path.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("/a".parse::<Capability>(), Capability::parse("/a"));
        assert_eq!(format!("{:?}", Capability::parse("/a").unwrap()), "Capability(/a)");
        let awkward = Capability::parse("/a\u{7f}\u{9b}2Jé").unwrap();
        assert_eq!((awkward.as_str(), awkward.to_string().as_str()), ("/a\u{7f}\u{9b}2Jé", "/a\\u{7f}\\u{9b}2Jé"));
    }

    #[test]
    fn a_path_gives_itself_and_what_lies_below() {
        let implies = |granted: &str, wanted: &str| {
            Capability::parse(granted).unwrap().implies(&Capability::parse(wanted).unwrap())
        };
        for (granted, wanted) in [("/", "/"), ("/", "/a"), ("/a", "/a"), ("/a", "/a/b"), ("/a/b", "/a/b/c/d")] {
            assert!(implies(granted, wanted), "{granted} {wanted}");
        }
        for (granted, wanted) in
            [("/a", "/"), ("/a", "/ab"), ("/a/b", "/a"), ("/a", "/b"), ("/a", "/A"), ("/a/*", "/a/b")]
        {
            assert!(!implies(granted, wanted), "{granted} {wanted}");
        }
    }
}
