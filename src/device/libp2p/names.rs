//! Protocol names: bare on the wire, marked inside the process.
//!
//! A name that does not begin with a slash is `/~/` + name inside. A wire name that itself begins with the mark gets
//! it once more, so no name of a peer can pose as one of ours.

use std::borrow::Cow;

const MARK: &[u8] = b"/~/";

/// The name inside this process of the protocol by which an inbox receives messages.
pub(super) fn of_inbox(inbox: &str) -> String {
    format!("/~/actor/{inbox}/messages/0.0.1")
}

/// The inbox whose name inside this process this is.
pub(super) fn inbox_of(name: &str) -> Option<&str> {
    name.strip_prefix("/~/actor/")?.strip_suffix("/messages/0.0.1")
}

/// Wire → inside.
pub(super) fn marked(wire: &[u8]) -> Cow<'_, [u8]> {
    if wire.starts_with(b"/") && !wire.starts_with(MARK) {
        Cow::Borrowed(wire)
    } else {
        Cow::Owned([MARK, wire].concat())
    }
}

/// Inside → wire.
pub(super) fn unmarked(inside: &[u8]) -> &[u8] {
    inside.strip_prefix(MARK).unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_both_ways() {
        for wire in ["actor/root/messages/0.0.1", "/ipfs/id/1.0.0", "/~/x", "/~//~/x", "", "~", "/", "/~"] {
            let inside = marked(wire.as_bytes());
            assert!(inside.starts_with(b"/"), "{wire:?} has no leading slash inside");
            assert_eq!(unmarked(&inside), wire.as_bytes(), "{wire:?}");
        }
    }

    #[test]
    fn no_name_of_a_peer_poses_as_an_inbox() {
        let ours = of_inbox("user-1");
        assert_eq!(unmarked(ours.as_bytes()), b"actor/user-1/messages/0.0.1");
        assert_eq!(inbox_of(&ours), Some("user-1"));
        for wire in [ours.as_bytes(), b"/actor/user-1/messages/0.0.1"] {
            assert_ne!(*marked(wire), *ours.as_bytes());
        }
    }
}
