//! Who may serve what: written by the controller, read at each request of a site.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{Stream, stream};
use tokio::sync::{Notify, Semaphore};

use super::site_protocol::{SiteName, Target};
use crate::{
    capability::{Did, Key, Nanos, RevocationKey},
    store::{Release, ReleaseId, publish::Publisher},
};

/// Blobs on their way to one site at one time.
pub const READS_A_SITE: usize = 4;

/// Least time between two notes of damage: it is mended by writing a whole release.
const DAMAGE_PAUSE: Duration = Duration::from_mins(5);

/// What the current attempt of a deployment is to serve, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteTarget {
    /// The key made for the current attempt; the key of an older one is refused.
    pub site: Did,
    /// Whose release it is.
    pub owner: Did,
    /// The release.
    pub release: ReleaseId,
    /// File served for a path that ends in `/`.
    pub index_file: String,
    /// Whether everybody may read.
    pub public: bool,
    /// Until when the deployment's verdict holds, that moment included.
    pub not_after: Nanos,
    /// What would take a link of the deployment's chain back.
    pub links: Vec<RevocationKey>,
}

impl SiteTarget {
    /// What the site is told.
    pub(super) fn target(&self) -> Target {
        Target { release: self.release, index_file: self.index_file.clone(), public: self.public }
    }
}

/// The provider's key, which signs what sites are told, and the store that they read through.
#[derive(Debug)]
pub struct Backing {
    /// The provider's key.
    pub provider: Key,
    /// The provider's releases.
    pub publisher: Publisher,
}

/// What a site said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SiteReport {
    /// The release that it serves whole; `None` before the first.
    pub serving: Option<ReleaseId>,
    /// When it asked last, by its own clock.
    pub time: Nanos,
}

/// Bytes of the release that the store did not hold when they were read.
#[derive(Clone, Copy)]
struct Damage {
    found: Instant,
    taken: bool,
}

struct Entry {
    target: SiteTarget,
    report: Option<SiteReport>,
    manifest: Option<Arc<Release>>,
    changed: Arc<Notify>,
    reads: Arc<Semaphore>,
    damage: Option<Damage>,
}

#[derive(Default)]
struct State {
    backing: Option<Arc<Backing>>,
    sites: BTreeMap<SiteName, Entry>,
    /// Sites of which there is something to tell that was not taken yet: as many as there are sites at most.
    reports: BTreeSet<SiteName>,
}

/// The table. Cloning shares it.
#[derive(Clone, Default)]
pub struct SiteTable {
    state: Arc<Mutex<State>>,
    reported: Arc<Notify>,
}

impl fmt::Debug for SiteTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        formatter.debug_struct("SiteTable").field("sites", &state.sites.len()).finish_non_exhaustive()
    }
}

impl SiteTable {
    /// An empty table; sites are told to come back until [`Self::set_backing`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before anything in it can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the provider's key and store; may be called again when either changes.
    pub fn set_backing(&self, backing: Backing) {
        self.state().backing = Some(Arc::new(backing));
    }

    /// Sets what a site is to serve. A waiting site is answered at once; the key of another attempt starts without a
    /// report.
    pub fn set(&self, site: &SiteName, target: SiteTarget) {
        let mut state = self.state();
        let Some(entry) = state.sites.get_mut(site) else {
            let (changed, reads) = (Arc::default(), Arc::new(Semaphore::new(READS_A_SITE)));
            state
                .sites
                .insert(site.clone(), Entry { target, report: None, manifest: None, changed, reads, damage: None });
            return;
        };
        if entry.target == target {
            return;
        }
        if entry.target.site != target.site {
            entry.report = None;
            // What is still on its way to the one before is not to stand in its way.
            entry.reads = Arc::new(Semaphore::new(READS_A_SITE));
        }
        if (&entry.target.owner, entry.target.release) != (&target.owner, target.release) {
            entry.manifest = None;
            entry.damage = None;
        }
        entry.target = target;
        entry.changed.notify_waiters();
    }

    /// Takes a site out; it is refused from now on.
    pub fn remove(&self, site: &SiteName) {
        let mut state = self.state();
        state.reports.remove(site);
        if let Some(entry) = state.sites.remove(site) {
            entry.changed.notify_waiters();
        }
    }

    /// The release that the current attempt's site says it serves whole.
    #[cfg(test)]
    pub(crate) fn reported(&self, site: &SiteName) -> Option<ReleaseId> {
        self.report_of(site).and_then(|report| report.serving)
    }

    /// What the current attempt's site said last; `None` when it never asked.
    #[must_use]
    pub fn report_of(&self, site: &SiteName) -> Option<SiteReport> {
        self.state().sites.get(site).and_then(|entry| entry.report)
    }

    /// The sites whose report changed, or for whose release the store was found damaged, as it happens. A site of which
    /// there is more to tell before it is taken comes once. For one reader.
    pub fn reports(&self) -> impl Stream<Item = SiteName> + Send + 'static {
        stream::unfold(self.clone(), |table| async move {
            loop {
                let taken = table.state().reports.pop_first();
                if let Some(site) = taken {
                    return Some((site, table));
                }
                // A report that came since the look above left a permit, so this returns at once.
                table.reported.notified().await;
            }
        })
    }

    /// Notes what a site says. An older request, held back or played again, changes nothing.
    pub(super) fn note(&self, site: &SiteName, key: &Did, report: SiteReport) {
        let mut state = self.state();
        let Some(entry) = state.sites.get_mut(site).filter(|entry| entry.target.site == *key) else { return };
        let last = entry.report;
        if last.is_some_and(|last| last.time >= report.time) {
            return;
        }
        entry.report = Some(report);
        if last.map(|last| last.serving) != Some(report.serving) {
            state.reports.insert(site.clone());
            self.reported.notify_one();
        }
    }

    /// Notes that the store does not hold bytes of what a site is to serve.
    pub(super) fn note_damage(&self, site: &SiteName, release: ReleaseId) {
        let mut state = self.state();
        let Some(entry) = state.sites.get_mut(site).filter(|entry| entry.target.release == release) else { return };
        if entry.damage.is_some_and(|damage| damage.found.elapsed() < DAMAGE_PAUSE) {
            return;
        }
        entry.damage = Some(Damage { found: Instant::now(), taken: false });
        state.reports.insert(site.clone());
        self.reported.notify_one();
    }

    /// Whether the store was found damaged for this release of a site; told once.
    #[must_use]
    pub fn take_damage(&self, site: &SiteName, release: ReleaseId) -> bool {
        let mut state = self.state();
        let entry = state.sites.get_mut(site).filter(|entry| entry.target.release == release);
        let damage = entry.and_then(|entry| entry.damage.as_mut());
        damage.is_some_and(|damage| !std::mem::replace(&mut damage.taken, true))
    }

    pub(super) fn backing(&self) -> Option<Arc<Backing>> {
        self.state().backing.clone()
    }

    pub(super) fn target(&self, site: &SiteName) -> Option<SiteTarget> {
        self.state().sites.get(site).map(|entry| entry.target.clone())
    }

    /// Wakes those who wait when the target changes or goes.
    pub(super) fn changes(&self, site: &SiteName) -> Option<Arc<Notify>> {
        self.state().sites.get(site).map(|entry| entry.changed.clone())
    }

    /// The blobs that may be on their way to a site.
    pub(super) fn reads(&self, site: &SiteName) -> Option<Arc<Semaphore>> {
        self.state().sites.get(site).map(|entry| entry.reads.clone())
    }

    pub(super) fn manifest(&self, site: &SiteName) -> Option<Arc<Release>> {
        self.state().sites.get(site).and_then(|entry| entry.manifest.clone())
    }

    /// Keeps a manifest while its release is the target.
    pub(super) fn keep_manifest(&self, site: &SiteName, manifest: &Arc<Release>) {
        if let Some(entry) = self.state().sites.get_mut(site).filter(|entry| entry.target.release == manifest.id()) {
            entry.manifest = Some(manifest.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn id(digit: &str) -> ReleaseId {
        ReleaseId::parse(&format!("sha256:{}", digit.repeat(64))).unwrap()
    }

    fn target(seed: u8) -> SiteTarget {
        SiteTarget {
            site: Key::from_seed([seed; 32]).did().clone(),
            owner: Key::from_seed([9; 32]).did().clone(),
            release: id("a"),
            index_file: "index.html".into(),
            public: true,
            not_after: Nanos::MAX,
            links: Vec::new(),
        }
    }

    #[tokio::test]
    async fn a_changed_report_comes_once_and_an_older_one_never() {
        let (table, site) = (SiteTable::new(), SiteName::new("shop", "web").unwrap());
        let mut reports = Box::pin(table.reports());
        table.set(&site, target(1));
        let note = |seed, serving, time| {
            table.note(&site, &target(seed).site, SiteReport { serving, time: Nanos(time) });
        };
        assert_eq!(table.reported(&site), None);
        note(1, Some(id("a")), 10);
        note(1, Some(id("b")), 11);
        assert_eq!(reports.next().await, Some(site.clone()));
        assert_eq!(table.reported(&site), Some(id("b")));
        note(1, Some(id("b")), 12);
        note(1, Some(id("a")), 11);
        note(2, Some(id("a")), 13);
        assert!(reports.next().now_or_never().is_none(), "nothing new was said");
        assert_eq!(table.report_of(&site), Some(SiteReport { serving: Some(id("b")), time: Nanos(12) }));

        table.set(&site, SiteTarget { release: id("c"), ..target(1) });
        assert_eq!(table.reported(&site), Some(id("b")), "a new release does not make the site forget");
        table.set(&site, target(2));
        assert_eq!(table.reported(&site), None, "a new attempt has said nothing yet");
        note(2, None, 1);
        assert_eq!(reports.next().await, Some(site.clone()));
        note(2, Some(id("a")), 2);
        table.remove(&site);
        assert!(reports.next().now_or_never().is_none());
    }
}
