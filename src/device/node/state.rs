//! What the node keeps on disk: `state.json` in its directory.
//!
//! It holds the environment of allocations and thus secrets.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::durable::{self, StateError};
use crate::{
    api::names::metadata as names,
    capability::{Did, Nanos},
    device::dms::DeploymentState,
};

const FILE: &str = "state.json";
const LOCK: &str = "lock";
const SCHEMA: u32 = 1;

/// One deployment.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hex digits.
    pub id: String,
    /// Where it stands.
    pub state: DeploymentState,
    /// When it was taken.
    pub created_at: Nanos,
    /// When it last changed.
    pub updated_at: Nanos,
    /// Until when it must run.
    pub deadline: Nanos,
    /// Who asked for it.
    pub owner: Did,
    /// Marks to find it by.
    pub metadata: BTreeMap<String, String>,
    /// The ensemble as it came (the value of `v1`).
    pub ensemble: Value,
    /// What was given to its allocations, by manifest key; empty before they are provisioned.
    pub allocations: BTreeMap<String, Given>,
}

impl fmt::Debug for Record {
    /// Without the ensemble, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({} {} {:?})", self.id, self.state, self.allocations)
    }
}

/// What one allocation was given and has used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Private port by public port. The same for as long as the deployment lives.
    pub ports: BTreeMap<u16, u16>,
    /// How often its process has been started.
    pub incarnation: u64,
    /// Bytes received by the processes that have ended.
    pub received: u64,
    /// Bytes sent by the processes that have ended.
    pub sent: u64,
}

/// A `new` that was taken: DMS itself would take it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    sender: Did,
    nonce: u64,
    expires: Nanos,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Kept {
    schema: u32,
    deployments: BTreeMap<String, Record>,
    seen: Vec<Seen>,
}

/// Says before each write whether the disk has room for it.
pub(super) type Disk = Arc<dyn Fn() -> io::Result<()> + Send + Sync>;

/// What came of taking a deployment up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It stands in the store now.
    New,
    /// The owner asked for the very same before: this is its id.
    Known(String),
    /// The same message was taken before.
    Replayed,
}

/// Marks by which an operator tells one attempt of its own from every other, if all of them are there.
fn marks(metadata: &BTreeMap<String, String>) -> Option<[&String; 8]> {
    // The tag covers the others, but this node cannot check it.
    let names = [
        names::INSTALLATION,
        names::NAMESPACE,
        names::NAME,
        names::UID,
        names::ATTEMPT,
        names::DEVICE,
        names::DIGEST,
        names::TAG,
    ];
    names.into_iter().filter_map(|name| metadata.get(name)).collect::<Vec<_>>().try_into().ok()
}

/// The state of one node, in memory and on disk. A change that could not be written has not happened.
pub struct Store {
    directory: PathBuf,
    disk: Disk,
    kept: Arc<Mutex<Kept>>,
    _lock: File,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.directory.display())
    }
}

impl Store {
    /// Opens the state in `directory`, which is made if need be, and keeps other nodes out of it.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        Self::open_on(directory, Arc::new(|| Ok(())))
    }

    pub(super) fn open_on(directory: &Path, disk: Disk) -> Result<Self, StateError> {
        std::fs::create_dir_all(directory).map_err(StateError::disk("make the directory", directory))?;
        let path = directory.join(LOCK);
        let lock = File::create(&path).map_err(StateError::disk("open", &path))?;
        lock.try_lock().map_err(|_| StateError::InUse(directory.to_owned()))?;
        durable::sweep(directory)?;
        let kept = read(&directory.join(FILE))?;
        Ok(Self { directory: directory.to_owned(), disk, kept: Arc::new(Mutex::new(kept)), _lock: lock })
    }

    /// All deployments, the oldest first.
    pub async fn all(&self) -> Vec<Record> {
        let mut records: Vec<Record> = self.kept.lock().await.deployments.values().cloned().collect();
        records.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        records
    }

    /// One deployment.
    pub async fn get(&self, id: &str) -> Option<Record> {
        self.kept.lock().await.deployments.get(id).cloned()
    }

    /// Whether this message was already taken by [`Store::take`].
    pub async fn has_seen(&self, sender: &Did, nonce: u64) -> bool {
        self.kept.lock().await.seen.iter().any(|seen| seen.sender == *sender && seen.nonce == nonce)
    }

    /// Takes a deployment up, unless the same message brought one before, or one of the same owner that is not over has
    /// the same marks. What is remembered of messages is forgotten when they expire, since an expired one is dropped anyway.
    ///
    /// # Errors
    /// [`StateError`], when it could not be written.
    pub async fn take(&self, record: Record, nonce: u64, expires: Nanos) -> Result<Taken, StateError> {
        let kept = self.lock().await;
        if kept.seen.iter().any(|seen| seen.sender == record.owner && seen.nonce == nonce) {
            return Ok(Taken::Replayed);
        }
        let mut next = kept.clone();
        let now = record.created_at;
        next.seen.retain(|seen| seen.expires >= now);
        next.seen.push(Seen { sender: record.owner.clone(), nonce, expires });
        let twin = marks(&record.metadata).and_then(|own| {
            let mut alive = kept.deployments.values().filter(|other| !other.state.is_over());
            alive.find(|other| other.owner == record.owner && marks(&other.metadata).as_ref() == Some(&own))
        });
        let taken = twin.map_or(Taken::New, |twin| Taken::Known(twin.id.clone()));
        if taken == Taken::New {
            next.deployments.insert(record.id.clone(), record);
        }
        self.replace(kept, next).await?;
        Ok(taken)
    }

    /// Changes one deployment. `change` says whether it changed anything; gives `None` when it did not or there is none.
    ///
    /// # Errors
    /// [`StateError`], when it could not be written.
    pub async fn change(
        &self,
        id: &str,
        now: Nanos,
        change: impl FnOnce(&mut Record) -> bool,
    ) -> Result<Option<Record>, StateError> {
        let kept = self.lock().await;
        let mut next = kept.clone();
        let Some(record) = next.deployments.get_mut(id) else { return Ok(None) };
        if !change(record) {
            return Ok(None);
        }
        record.updated_at = now;
        let changed = record.clone();
        self.replace(kept, next).await?;
        Ok(Some(changed))
    }

    /// Removes one deployment, if `allowed`. `None`: there is none; `Some(false)`: not allowed.
    ///
    /// # Errors
    /// [`StateError`], when it could not be written.
    pub async fn remove(&self, id: &str, allowed: impl FnOnce(&Record) -> bool) -> Result<Option<bool>, StateError> {
        let kept = self.lock().await;
        let Some(record) = kept.deployments.get(id) else { return Ok(None) };
        if !allowed(record) {
            return Ok(Some(false));
        }
        let mut next = kept.clone();
        next.deployments.remove(id);
        self.replace(kept, next).await?;
        Ok(Some(true))
    }

    /// Removes all deployments that are over and for which `chosen`; gives their ids.
    ///
    /// # Errors
    /// [`StateError`], when it could not be written.
    pub async fn prune(&self, chosen: impl Fn(&Record) -> bool) -> Result<Vec<String>, StateError> {
        let kept = self.lock().await;
        let over = |record: &&Record| record.state.is_over() && chosen(record);
        let gone: Vec<String> = kept.deployments.values().filter(over).map(|record| record.id.clone()).collect();
        if !gone.is_empty() {
            let mut next = kept.clone();
            next.deployments.retain(|id, _| !gone.contains(id));
            self.replace(kept, next).await?;
        }
        Ok(gone)
    }

    /// Whoever asked may stop waiting: what is written is then in memory all the same.
    async fn replace(&self, mut kept: OwnedMutexGuard<Kept>, next: Kept) -> Result<(), StateError> {
        let directory = self.directory.clone();
        let path = directory.join(FILE);
        let bytes =
            serde_json::to_vec(&next).map_err(|error| StateError::disk("encode", &path)(io::Error::other(error)))?;
        let disk = Arc::clone(&self.disk);
        let write = move || disk().and_then(|()| durable::replace(&directory, FILE, &bytes)).map(|()| *kept = next);
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(io::Error::other).and_then(|result| result).map_err(StateError::disk("write", &path))
    }

    async fn lock(&self) -> OwnedMutexGuard<Kept> {
        Arc::clone(&self.kept).lock_owned().await
    }
}

fn read(path: &Path) -> Result<Kept, StateError> {
    match durable::read(path, SCHEMA)? {
        None => Ok(Kept { schema: SCHEMA, deployments: BTreeMap::new(), seen: Vec::new() }),
        Some(value) => serde_json::from_value(value).map_err(|error| StateError::damaged(path, &error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::capability::Key;

    fn record(id: &str, created_at: u64) -> Record {
        Record {
            id: id.into(),
            state: DeploymentState::Preparing,
            created_at: Nanos(created_at),
            updated_at: Nanos(created_at),
            deadline: Nanos(9),
            owner: Key::from_seed(rand::random()).did().clone(),
            metadata: BTreeMap::from([("a".into(), "b".into())]),
            ensemble: json!({"allocations": {"web": {"execution": {"params": {"environment": ["SECRET=x"]}}}}}),
            allocations: BTreeMap::from([(
                "device.web".into(),
                Given { ports: BTreeMap::from([(20000, 80)]), incarnation: 2, received: 3, sent: 4 },
            )]),
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (record("old", 1), record("new", 2));
        {
            let store = Store::open(directory.path()).unwrap();
            assert_eq!(store.take(new.clone(), 7, Nanos(50)).await.unwrap(), Taken::New);
            assert_eq!(store.take(old.clone(), 7, Nanos(50)).await.unwrap(), Taken::New);
            assert!(matches!(Store::open(directory.path()), Err(StateError::InUse(_))));
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.all().await, [old.clone(), new.clone()]);
        assert_eq!(store.get("old").await, Some(old.clone()));
        // The message of a removed deployment is not taken again, a later one is.
        assert_eq!(store.remove("old", |_| true).await.unwrap(), Some(true));
        assert_eq!(store.take(old.clone(), 7, Nanos(50)).await.unwrap(), Taken::Replayed);
        assert!(store.has_seen(&old.owner, 7).await);
        let later = Record { created_at: Nanos(51), ..old.clone() };
        assert_eq!(store.take(later, 8, Nanos(60)).await.unwrap(), Taken::New);
        assert!(!store.has_seen(&old.owner, 7).await, "an expired message is forgotten");
    }

    #[tokio::test]
    async fn changes_say_whether_they_happened() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.take(record("a", 1), 1, Nanos(50)).await.unwrap();
        assert!(store.change("b", Nanos(5), |_| true).await.unwrap().is_none());
        assert!(store.change("a", Nanos(5), |_| false).await.unwrap().is_none());
        let running = |record: &mut Record| {
            record.state = DeploymentState::Running;
            true
        };
        let changed = store.change("a", Nanos(5), running).await.unwrap().unwrap();
        assert_eq!((changed.state, changed.updated_at), (DeploymentState::Running, Nanos(5)));
        assert_eq!(store.remove("a", |_| false).await.unwrap(), Some(false));
        assert_eq!(store.remove("b", |_| true).await.unwrap(), None);
        assert_eq!(store.all().await, [changed]);
    }

    #[tokio::test]
    async fn a_change_that_cannot_be_written_has_not_happened() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("node");
        let store = Store::open(&inner).unwrap();
        std::fs::remove_dir_all(&inner).unwrap();
        assert!(matches!(store.take(record("a", 1), 1, Nanos(50)).await, Err(StateError::Disk { .. })));
        assert_eq!(store.all().await, []);
    }

    #[tokio::test]
    async fn a_crash_between_writing_and_renaming_leaves_the_old_state() {
        let directory = tempfile::tempdir().unwrap();
        let first = record("a", 1);
        {
            let store = Store::open(directory.path()).unwrap();
            store.take(first.clone(), 1, Nanos(50)).await.unwrap();
        }
        // The next state, whole and without the record.
        let next = json!({"schema": SCHEMA, "deployments": {}, "seen": []}).to_string();
        let left = durable::crash_before_rename(directory.path(), next.as_bytes());
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.all().await, [first]);
        assert!(!left.exists(), "it may hold secrets");
    }

    #[tokio::test]
    async fn a_twin_of_what_is_not_over_is_not_taken() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let marks = [
            names::INSTALLATION,
            names::NAMESPACE,
            names::NAME,
            names::UID,
            names::ATTEMPT,
            names::DEVICE,
            names::DIGEST,
            names::TAG,
        ];
        let metadata: BTreeMap<String, String> =
            marks.iter().map(|name| ((*name).to_owned(), rand::random::<u32>().to_string())).collect();
        let first = Record { metadata: metadata.clone(), ..record("first", 1) };
        let owned = |id: &str| Record { id: id.into(), ..first.clone() };
        assert_eq!(store.take(first.clone(), 1, Nanos(50)).await.unwrap(), Taken::New);
        assert_eq!(store.take(owned("twin"), 2, Nanos(50)).await.unwrap(), Taken::Known("first".into()));
        assert_eq!(store.take(owned("twin"), 2, Nanos(50)).await.unwrap(), Taken::Replayed);
        assert_eq!(store.all().await, std::slice::from_ref(&first));

        // Whatever differs, owner or mark, makes another deployment of it; so does a mark that is missing.
        let mut others = vec![Record { metadata: metadata.clone(), ..record("stranger", 1) }];
        for (index, name) in marks.iter().enumerate() {
            let mut other = owned(&format!("changed-{index}"));
            other.metadata.insert((*name).to_owned(), "other".into());
            others.push(other);
            let mut bare = owned(&format!("bare-{index}"));
            bare.metadata.remove(*name);
            others.push(bare);
        }
        for (nonce, other) in (10..).zip(others) {
            assert_eq!(store.take(other.clone(), nonce, Nanos(50)).await.unwrap(), Taken::New, "{}", other.id);
        }
        let over = |record: &mut Record| {
            record.state = DeploymentState::Failed;
            true
        };
        store.change("first", Nanos(2), over).await.unwrap();
        assert_eq!(store.take(owned("again"), 3, Nanos(50)).await.unwrap(), Taken::New);
        let left = store.all().await.len();
        assert_eq!(store.prune(|record| record.id != "first").await.unwrap(), Vec::<String>::new());
        assert_eq!(store.prune(|_| true).await.unwrap(), ["first"]);
        assert_eq!(store.all().await.len(), left - 1);
    }

    #[tokio::test]
    async fn who_stops_waiting_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let taken = record("a", 1);
        {
            let mut taking = std::pin::pin!(store.take(taken.clone(), 1, Nanos(50)));
            assert!(futures::poll!(&mut taking).is_pending(), "the disk is not waited for");
        }
        assert_eq!(store.get("a").await.as_ref(), Some(&taken), "on its way to the disk, and not in memory");
        assert_eq!(read(&directory.path().join(FILE)).unwrap().deployments["a"], taken);
    }

    #[test]
    fn a_file_of_another_version_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for text in [r#"{"schema":2,"deployments":{},"seen":[]}"#, "{", "[]", r#"{"schema":1}"#] {
            std::fs::write(directory.path().join(FILE), text).unwrap();
            assert!(matches!(Store::open(directory.path()), Err(StateError::Damaged { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(directory.path().join(FILE)).unwrap(), text);
        }
    }

    #[tokio::test]
    async fn only_the_owner_reads_it_and_no_secret_is_printed() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.take(record("a", 1), 1, Nanos(50)).await.unwrap();
        let mode = std::fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{:?} {store:?}", record("a", 1)).contains("SECRET"));
    }
}
