//! What the link counts; `metrics` reads it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something that arrived was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dropped {
    /// A stream ended or broke before its message was whole.
    BrokenStream,
    /// A stream announced more than 1 MiB.
    TooLong,
    /// Bytes came after the message.
    TrailingBytes,
    /// A message did not arrive within 30 s.
    TooSlow,
    /// Messages arrived faster than they were taken.
    QueueFull,
    /// Too many bytes of other messages were being read.
    Crowded,
    /// Broadcasts of one peer came faster than they are passed on.
    TooMany,
    /// A message for an inbox that awaits no replies.
    ForeignInbox,
    /// Not an envelope.
    Undecodable,
    /// An envelope for somebody else.
    NotForUs,
    /// A reply that nobody awaits: never asked for, too late, or the second one.
    UnknownContinuation,
    /// A reply that came over another peer's connection than that of the device asked.
    ForeignPeer,
    /// A reply that says it comes from another host than the one that sent it.
    ForeignHost,
    /// A reply by another key than that of the device asked.
    ForeignSigner,
    /// A reply or a broadcast without a signature, or with a wrong one.
    Unverified,
    /// A reply or a broadcast that has expired.
    Expired,
    /// What came to a topic is no broadcast to it.
    ForeignTopic,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::BrokenStream,
        Self::TooLong,
        Self::TrailingBytes,
        Self::TooSlow,
        Self::QueueFull,
        Self::Crowded,
        Self::TooMany,
        Self::ForeignInbox,
        Self::Undecodable,
        Self::NotForUs,
        Self::UnknownContinuation,
        Self::ForeignPeer,
        Self::ForeignHost,
        Self::ForeignSigner,
        Self::Unverified,
        Self::Expired,
        Self::ForeignTopic,
    ];

    /// Whether it is the peer's fault. A message that comes late, twice, or when there is no room for it is not.
    pub(super) const fn is_fault(self) -> bool {
        match self {
            Self::BrokenStream
            | Self::TooLong
            | Self::TrailingBytes
            | Self::TooSlow
            | Self::Undecodable
            | Self::NotForUs
            | Self::ForeignInbox
            | Self::ForeignHost
            | Self::ForeignSigner
            | Self::Unverified
            | Self::ForeignTopic => true,
            Self::QueueFull
            | Self::Crowded
            | Self::TooMany
            | Self::UnknownContinuation
            | Self::ForeignPeer
            | Self::Expired => false,
        }
    }

    /// The name of this reason; it does not change.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::BrokenStream => "BrokenStream",
            Self::TooLong => "TooLong",
            Self::TrailingBytes => "TrailingBytes",
            Self::TooSlow => "TooSlow",
            Self::QueueFull => "QueueFull",
            Self::Crowded => "Crowded",
            Self::TooMany => "TooMany",
            Self::ForeignInbox => "ForeignInbox",
            Self::Undecodable => "Undecodable",
            Self::NotForUs => "NotForUs",
            Self::UnknownContinuation => "UnknownContinuation",
            Self::ForeignPeer => "ForeignPeer",
            Self::ForeignHost => "ForeignHost",
            Self::ForeignSigner => "ForeignSigner",
            Self::Unverified => "Unverified",
            Self::Expired => "Expired",
            Self::ForeignTopic => "ForeignTopic",
        }
    }
}

/// Counts of one link since it started.
#[derive(Debug, Default)]
pub struct LinkCounters {
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    connections: AtomicU64,
    failed_dials: AtomicU64,
    cut_off: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
}

impl LinkCounters {
    /// Messages received whole.
    pub fn frames_in(&self) -> u64 {
        self.frames_in.load(Ordering::Relaxed)
    }

    /// Messages written whole.
    pub fn frames_out(&self) -> u64 {
        self.frames_out.load(Ordering::Relaxed)
    }

    /// Connections established.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Attempts to connect that failed.
    pub fn failed_dials(&self) -> u64 {
        self.failed_dials.load(Ordering::Relaxed)
    }

    /// Peers that were cut off because they sent too much that is no message.
    pub fn cut_off(&self) -> u64 {
        self.cut_off.load(Ordering::Relaxed)
    }

    /// What was dropped for this reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }

    pub(super) fn count_frame_in(&self) {
        self.frames_in.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_frame_out(&self) {
        self.frames_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_connection(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed_dial(&self) {
        self.failed_dials.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, reason: Dropped) {
        self.dropped[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_count() {
        let counters = LinkCounters::default();
        for (times, reason) in Dropped::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| counters.count_dropped(reason));
        }
        let counts = Dropped::ALL.map(|reason| (reason.code(), counters.dropped(reason)));
        let want = Dropped::ALL.iter().zip(0..).map(|(reason, times)| (reason.code(), times)).collect::<Vec<_>>();
        assert_eq!(counts.to_vec(), want);
    }
}
