//! Protocol names: bare on the wire, marked inside the process.
//!
//! A name that does not begin with a slash is `/~/` + name inside. With the mark `/~~/` instead, this side does not wait
//! for the peer to agree to the name. A wire name that itself begins with a mark gets one more, so no name of a peer can
//! pose as one of ours.

use std::borrow::Cow;

const MARK: &[u8] = b"/~/";
const ASSUMED: &[u8] = b"/~~/";

/// The name inside this process of the protocol by which an inbox receives messages.
pub(super) fn of_inbox(inbox: &str) -> String {
    format!("/~/actor/{inbox}/messages/0.0.1")
}

/// The same, taken for granted: the message follows at once.
pub(super) fn of_assumed_inbox(inbox: &str) -> String {
    format!("/~~/actor/{inbox}/messages/0.0.1")
}

/// Whether this side takes the name for granted.
pub(super) fn is_assumed(inside: &[u8]) -> bool {
    inside.starts_with(ASSUMED)
}

/// The inbox whose name inside this process this is.
pub(super) fn inbox_of(name: &str) -> Option<&str> {
    name.strip_prefix("/~/actor/")?.strip_suffix("/messages/0.0.1")
}

/// Wire → inside.
pub(super) fn marked(wire: &[u8]) -> Cow<'_, [u8]> {
    if wire.starts_with(b"/") && !wire.starts_with(MARK) && !wire.starts_with(ASSUMED) {
        Cow::Borrowed(wire)
    } else {
        Cow::Owned([MARK, wire].concat())
    }
}

/// Inside → wire.
pub(super) fn unmarked(inside: &[u8]) -> &[u8] {
    inside.strip_prefix(MARK).or_else(|| inside.strip_prefix(ASSUMED)).unwrap_or(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_both_ways() {
        for wire in
            ["actor/root/messages/0.0.1", "/ipfs/id/1.0.0", "/~/x", "/~//~/x", "/~~/x", "/~~//~/x", "", "~", "/", "/~"]
        {
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
        let assumed = of_assumed_inbox("user-1");
        assert_eq!(unmarked(assumed.as_bytes()), unmarked(ours.as_bytes()));
        assert!(is_assumed(assumed.as_bytes()) && !is_assumed(ours.as_bytes()));
        assert!(!is_assumed(&marked(assumed.as_bytes())));
        for wire in [ours.as_bytes(), assumed.as_bytes(), b"/actor/user-1/messages/0.0.1"] {
            assert_ne!(*marked(wire), *ours.as_bytes());
        }
    }
}
