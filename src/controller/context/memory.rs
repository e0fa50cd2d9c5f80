//! What is remembered of an object between passes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    capability::{Nanos, RevocationKey},
    controller::revisions::Revision,
    usage::Meter,
};

/// What is remembered of a HostingDeployment between passes. Everything here can be found out again.
#[derive(Debug, Default)]
pub struct Memory {
    /// Its accepted revisions, newest first, once they were read.
    pub revisions: Option<Vec<Revision>>,
    /// Links of the chains of these and of its spec, once they were read.
    pub links: Option<BTreeSet<RevocationKey>>,
    /// Releases known to be whole, by the place of their store, and their size in bytes.
    pub published: BTreeMap<([u8; 32], String), u64>,
    /// Failures in a row of things outside.
    pub failures: u32,
    /// Conflicts in a row.
    pub conflicts: u32,
    /// Looks in a row at something that is being started.
    pub looks: u32,
    /// Uid and attempt in the marks of the deployment that runs, when they were seen.
    pub site: Option<(String, i64)>,
    /// Device chosen, before the watch shows the status that says so.
    pub device: Option<String>,
    /// Since when a further attempt is due.
    pub ended_since: Option<Nanos>,
    /// Generation for which an unreadable object was reported.
    pub reported: Option<i64>,
    /// Digest and time of the acceptance that an Event told of, until the status names it.
    pub acceptance_told: Option<(String, Nanos)>,
    /// Generation and reason of the refusal of which the owner was told.
    pub refusal_told: Option<(Option<i64>, &'static str)>,
    /// Versions of the object that this process has itself replaced, the latest last.
    pub replaced: VecDeque<String>,
    /// Its meter.
    pub meter: Meter,
}

/// How many replaced versions are remembered: more than one pass writes.
const REPLACED: usize = 8;

impl Memory {
    /// Notes that this process replaced a version of the object. Versions are opaque, so they are only compared.
    pub fn note_replaced(&mut self, version: String) {
        self.replaced.push_back(version);
        if self.replaced.len() > REPLACED {
            self.replaced.pop_front();
        }
    }
}
