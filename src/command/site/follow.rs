//! Following the operator: the old release is served until the whole new one is there.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use super::{
    operator::{Operator, OperatorError},
    pack::{Pack, WriteError},
    serve::{Held, Serving},
};
use crate::{
    gateway::site_protocol::Target,
    plan::backoff::Backoff,
    store::{BlobDigest, ReleaseId},
};

/// Blobs fetched at one time.
const FETCHES: usize = 4;
/// Most bytes that a release may have here. A new one lies beside the old one until it takes its place.
const MAX_RELEASE_BYTES: u64 = 4 << 30;

/// Why the target is not in place.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("the release {0} is larger than {MAX_RELEASE_BYTES} bytes, the most that a site keeps")]
    TooLarge(ReleaseId),
}

/// Keeps what is served equal to what the operator wants served.
pub(super) struct Follower {
    operator: Operator,
    state: watch::Sender<Serving>,
    in_place: Option<Target>,
    pauses: Backoff,
}

impl Follower {
    pub(super) const fn new(operator: Operator, state: watch::Sender<Serving>, pauses: Backoff) -> Self {
        Self { operator, state, in_place: None, pauses }
    }

    /// Follows until dropped. Any failure leaves in place what is there.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.step().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    let pause = self.pauses.pause(failures, rand::random());
                    tracing::warn!(%error, failures, ?pause, "what to serve is not known anew; it goes on as it is");
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<(), FollowError> {
        let serving = self.state.borrow().held().map(|held| held.release.id());
        let Some(target) = self.operator.poll(self.in_place.as_ref(), serving).await? else { return Ok(()) };
        if target.public {
            let held = self.fetch(&target).await?;
            self.state.send_replace(Serving::Release(Arc::new(held)));
        } else {
            self.state.send_replace(Serving::Private);
        }
        tracing::info!(release = %target.release, public = target.public, "what to serve changed");
        self.in_place = Some(target);
        Ok(())
    }

    async fn fetch(&self, target: &Target) -> Result<Held, FollowError> {
        let old = self.state.borrow().held().cloned();
        let index_file = target.index_file.clone();
        if let Some(old) = old.as_ref().filter(|old| old.release.id() == target.release) {
            return Ok(Held { release: old.release.clone(), index_file, pack: old.pack.clone() });
        }
        let release = Arc::new(self.operator.release(target.release).await?);
        let blobs = release.blobs();
        if blobs.values().fold(0_u64, |sum, size| sum.saturating_add(*size)) > MAX_RELEASE_BYTES {
            return Err(FollowError::TooLarge(release.id()));
        }
        let pack = Pack::for_release(&release).await.map_err(WriteError::Disk)?;
        stream::iter(blobs.keys().map(Ok))
            .try_for_each_concurrent(FETCHES, |digest| self.take_blob(*digest, &pack, old.as_deref()))
            .await?;
        Ok(Held { release, index_file, pack: Arc::new(pack) })
    }

    /// Puts one blob into its place, from the release served now where it has it.
    async fn take_blob(&self, digest: BlobDigest, pack: &Pack, old: Option<&Held>) -> Result<(), FollowError> {
        if let Some(old) = old.filter(|old| old.pack.size(&digest).is_some()) {
            let mut writer = pack.writer(digest).map_err(WriteError::Disk)?;
            let mut pieces = std::pin::pin!(old.pack.stream(&digest));
            while let Some(piece) = pieces.try_next().await.map_err(WriteError::Disk)? {
                writer.write(piece).await?;
            }
            if writer.finish().is_ok() {
                return Ok(());
            }
            // The disk lost it; the operator still has it.
        }
        let mut writer = pack.writer(digest).map_err(WriteError::Disk)?;
        let mut pieces = std::pin::pin!(self.operator.blob(digest).await?);
        while let Some(piece) = pieces.next().await {
            writer.write(piece?).await?;
        }
        Ok(writer.finish()?)
    }
}
