//! A store in memory, with a count of what was asked and a switch that makes it silent. For tests and dry runs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt as _, stream};

use super::{ObjectStore, Pieces, StoreError};

/// Size of the pieces that an object comes in.
const PIECE: usize = 4096;

/// Objects in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    requests: Requests,
    silent: bool,
}

/// How often each operation was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Reads.
    pub get: u64,
    /// Questions whether an object exists.
    pub head: u64,
    /// Writes.
    pub put: u64,
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is a single step, so a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(
        &self,
        action: &str,
        key: &str,
        count: impl FnOnce(&mut Requests),
    ) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.state();
        count(&mut state.requests);
        if state.silent {
            return Err(StoreError::Unavailable { action: format!("{action} {key}"), cause: "switched off".into() });
        }
        Ok(state)
    }

    /// Requests since the last call, which starts the count anew.
    pub fn take_requests(&self) -> Requests {
        std::mem::take(&mut self.state().requests)
    }

    /// Whether every request is answered with [`StoreError::Unavailable`] from now on.
    pub fn set_silent(&self, silent: bool) {
        self.state().silent = silent;
    }

    /// All keys, sorted.
    pub fn keys(&self) -> Vec<String> {
        self.state().objects.keys().cloned().collect()
    }

    /// Takes an object away, as a faulty disk would.
    pub fn lose(&self, key: &str) {
        self.state().objects.remove(key);
    }

    /// Puts other bytes under a key, as a faulty disk would.
    pub fn corrupt(&self, key: &str, bytes: Bytes) {
        self.state().objects.insert(key.to_owned(), bytes);
    }
}

#[async_trait]
impl ObjectStore for MemoryStore {
    async fn open(&self, key: &str, limit: u64) -> Result<Option<Pieces>, StoreError> {
        let Some(mut rest) = self.get(key, limit).await? else { return Ok(None) };
        let pieces = std::iter::from_fn(move || {
            let piece = rest.split_to(rest.len().min(PIECE));
            (!piece.is_empty()).then_some(Ok(piece))
        });
        Ok(Some(stream::iter(pieces).boxed()))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, StoreError> {
        let state = self.answer("reading", key, |requests| requests.get += 1)?;
        match state.objects.get(key) {
            Some(bytes) if bytes.len() as u64 > limit => Err(StoreError::TooLarge { key: key.to_owned(), limit }),
            found => Ok(found.cloned()),
        }
    }

    async fn head(&self, key: &str) -> Result<Option<u64>, StoreError> {
        let state = self.answer("looking for", key, |requests| requests.head += 1)?;
        Ok(state.objects.get(key).map(|bytes| bytes.len() as u64))
    }

    async fn put(&self, key: &str, body: Bytes, _media_type: &str) -> Result<(), StoreError> {
        let mut state = self.answer("writing", key, |requests| requests.put += 1)?;
        state.objects.insert(key.to_owned(), body);
        Ok(())
    }
}
