//! Whom the node trusts: the context that it was given, and the anchors added since.
//!
//! The given `.cap` file is never written. What is added stands in `anchors.json` in the node's directory, as a context of
//! its own, and goes on top of the given one at each start.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::durable::{self, StateError};
use crate::capability::{Context, Did, Nanos, Refusal, Token};

const FILE: &str = "anchors.json";
const SCHEMA: u32 = 1;
/// The most that the added anchors may take, so that who may add some cannot fill memory or disk.
const LARGEST: usize = 256 * 1024;

/// Anchors to add, all of one kind.
pub(super) enum Addition {
    /// Who may call for what.
    Require(Vec<Token>),
    /// What the node may present to others.
    Provide(Vec<Token>),
    /// What was taken back.
    Revoke(Vec<Token>),
}

impl Addition {
    fn into_context(self, did: Did) -> Context {
        let mut context = Context::empty(did);
        match self {
            Self::Require(tokens) => context.require = tokens,
            Self::Provide(tokens) => context.provide = tokens,
            Self::Revoke(tokens) => context.revoke = tokens,
        }
        context
    }
}

/// Why anchors were not added; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAdded {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the added anchors would take more than {LARGEST} bytes. Remove {FILE} to begin anew, or add fewer")]
    TooMany,
    #[error(transparent)]
    State(#[from] StateError),
}

/// The context of a node as it is now.
pub(super) struct Trust {
    directory: PathBuf,
    current: RwLock<Arc<Context>>,
    /// What stands on disk. Held while something is added.
    added: Mutex<Context>,
}

impl Trust {
    /// Puts what was added before on top of the given context. What has expired since or was revoked is left out.
    pub(super) fn open(directory: &Path, given: Context, now: Nanos) -> Result<Self, StateError> {
        let mut added = Context::empty(given.did.clone());
        let mut current = given;
        for one in one_by_one(read(&directory.join(FILE), &current.did)?) {
            if let Err(refusal) = current.extend(one.clone(), now).and_then(|()| added.extend(one, now)) {
                tracing::info!(%refusal, "an anchor that was added before is left out");
            }
        }
        let current = RwLock::new(Arc::new(current));
        Ok(Self { directory: directory.to_owned(), current, added: Mutex::new(added) })
    }

    /// The context to judge by.
    pub(super) fn current(&self) -> Arc<Context> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds anchors, each of them verified; all or nothing, and on disk before they hold.
    pub(super) async fn add(&self, addition: Addition, now: Nanos) -> Result<(), NotAdded> {
        let mut added = self.added.lock().await;
        let mut current = Context::clone(&self.current());
        let addition = addition.into_context(current.did.clone());
        let mut next = added.clone();
        for context in [&mut current, &mut next] {
            for tokens in [&mut context.require, &mut context.provide, &mut context.revoke] {
                tokens.retain(|token| token.not_after() >= now);
            }
        }
        current.extend(addition.clone(), now)?;
        next.extend(addition, now)?;
        let bytes = encode(&next)?;
        durable::replace_later(&self.directory, FILE, bytes).await?;
        *added = next;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(current);
        Ok(())
    }
}

/// Each anchor by itself, revocations first, so that one that does not hold any more costs no other.
fn one_by_one(context: Context) -> impl Iterator<Item = Context> {
    let Context { did, roots: _, require, provide, revoke } = context;
    let revoke = revoke.into_iter().map(|token| Addition::Revoke(vec![token]));
    let require = require.into_iter().map(|token| Addition::Require(vec![token]));
    let provide = provide.into_iter().map(|token| Addition::Provide(vec![token]));
    revoke.chain(require).chain(provide).map(move |addition| addition.into_context(did.clone()))
}

fn read(path: &Path, own: &Did) -> Result<Context, StateError> {
    let Some(value) = durable::read(path, SCHEMA)? else { return Ok(Context::empty(own.clone())) };
    let context = value.get("context").map(Value::to_string).unwrap_or_default();
    let context = Context::parse(context.as_bytes()).map_err(|refusal| StateError::damaged(path, &refusal))?;
    if context.did != *own {
        return Err(StateError::damaged(path, &format!("it belongs to {}, and this node is {own}", context.did)));
    }
    Ok(context)
}

fn encode(context: &Context) -> Result<Vec<u8>, NotAdded> {
    // proven: a context is written as JSON.
    let context: Value = serde_json::from_slice(&context.to_json()).unwrap_or_default();
    let bytes = json!({"schema": SCHEMA, "context": context}).to_string().into_bytes();
    if bytes.len() > LARGEST { Err(NotAdded::TooMany) } else { Ok(bytes) }
}
