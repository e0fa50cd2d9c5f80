//! What reached the node: counters of what was dropped and why, and a log for tests that must show that nothing came.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

/// Name of the log in the node's directory.
pub const WIRE_LOG: &str = "wire.log";

/// Longest name of a behaviour that is written: anybody may send one of a mebibyte.
const LONGEST_NAME: usize = 128;

/// One line of the wire log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireLine {
    /// The behaviour asked for, cut when it is long; empty when it could not be read.
    pub be: String,
    /// Peer ID of the sender.
    pub from: String,
    /// Whether it was acted on.
    pub accepted: bool,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug)]
pub(super) struct Wire {
    log: Option<File>,
    dropped: Mutex<BTreeMap<&'static str, u64>>,
}

impl Wire {
    pub(super) fn open(directory: &Path, with_log: bool) -> io::Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(directory.join(WIRE_LOG));
        Ok(Self { log: with_log.then(open).transpose()?, dropped: Mutex::default() })
    }

    pub(super) fn accepted(&self, behaviour: &str, peer: &str) {
        self.write(behaviour, peer, None);
    }

    pub(super) fn dropped(&self, behaviour: &str, peer: &str, reason: &'static str) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
        self.write(behaviour, peer, Some(reason));
    }

    pub(super) fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.dropped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, behaviour: &str, peer: &str, reason: Option<&str>) {
        let Some(mut log) = self.log.as_ref() else { return };
        let line = WireLine {
            be: behaviour[..behaviour.floor_char_boundary(LONGEST_NAME)].to_owned(),
            from: peer.to_owned(),
            accepted: reason.is_none(),
            reason: reason.map(str::to_owned),
        };
        // One write for a line, so that a reader never sees half of it.
        let written = serde_json::to_string(&line).map_err(io::Error::other).and_then(|mut line| {
            line.push('\n');
            log.write_all(line.as_bytes())
        });
        if let Err(error) = written {
            tracing::warn!(%error, "a line of the wire log was lost");
        }
    }
}
