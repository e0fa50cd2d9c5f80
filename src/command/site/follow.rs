//! Following the operator: the old release is served until the whole new one is there.

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream::FuturesUnordered};
use tokio::sync::watch;

use super::{
    operator::{Operator, OperatorError},
    pack::{Pack, WriteError},
    serve::{Held, Serving},
};
use crate::{
    gateway::{READS_A_SITE, site_protocol::Target},
    plan::backoff::Backoff,
    store::{BlobDigest, Release, ReleaseId},
};

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

/// A release that is not here whole yet.
struct Partial {
    release: Arc<Release>,
    pack: Pack,
    missing: BTreeSet<BlobDigest>,
}

/// Keeps what is served equal to what the operator wants served.
pub(super) struct Follower {
    operator: Operator,
    state: watch::Sender<Serving>,
    in_place: Option<Target>,
    /// What came before something failed; the next try fetches the rest.
    partial: Option<Partial>,
    pauses: Backoff,
}

impl Follower {
    pub(super) const fn new(operator: Operator, state: watch::Sender<Serving>, pauses: Backoff) -> Self {
        Self { operator, state, in_place: None, partial: None, pauses }
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
            self.partial = None;
            self.state.send_replace(Serving::Private);
        }
        tracing::info!(release = %target.release, public = target.public, "what to serve changed");
        self.in_place = Some(target);
        Ok(())
    }

    async fn fetch(&mut self, target: &Target) -> Result<Held, FollowError> {
        let old = self.state.borrow().held().cloned();
        let index_file = target.index_file.clone();
        if let Some(old) = old.as_ref().filter(|old| old.release.id() == target.release) {
            return Ok(Held { release: old.release.clone(), index_file, pack: old.pack.clone() });
        }
        let mut partial = match self.partial.take().filter(|partial| partial.release.id() == target.release) {
            Some(partial) => partial,
            None => self.begin(target.release).await?,
        };
        if let Err(error) = self.complete(&mut partial, old.as_deref()).await {
            self.partial = Some(partial);
            return Err(error);
        }
        let Partial { release, pack, missing: _ } = partial;
        Ok(Held { release, index_file, pack: Arc::new(pack) })
    }

    async fn begin(&self, id: ReleaseId) -> Result<Partial, FollowError> {
        let release = Arc::new(self.operator.release(id).await?);
        let blobs = release.blobs();
        if blobs.values().fold(0_u64, |sum, size| sum.saturating_add(*size)) > MAX_RELEASE_BYTES {
            return Err(FollowError::TooLarge(id));
        }
        let pack = Pack::for_release(&release).await.map_err(WriteError::Disk)?;
        Ok(Partial { release, pack, missing: blobs.into_keys().collect() })
    }

    /// Fetches what is missing. When one fails, none is begun any more, and those under way come to their end.
    async fn complete(&self, partial: &mut Partial, old: Option<&Held>) -> Result<(), FollowError> {
        let Partial { release: _, pack, missing } = partial;
        let pack = &*pack;
        let fetch = async |digest| (digest, self.take_blob(digest, pack, old).await);
        let mut waiting = missing.clone().into_iter();
        let mut under_way: FuturesUnordered<_> = waiting.by_ref().take(READS_A_SITE).map(&fetch).collect();
        let mut failure = None;
        while let Some((digest, result)) = under_way.next().await {
            match result {
                Ok(()) => _ = missing.remove(&digest),
                Err(error) => _ = failure.get_or_insert(error),
            }
            if failure.is_none() {
                under_way.extend(waiting.next().map(&fetch));
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Puts one blob into its place, from the release served now where it has it.
    async fn take_blob(&self, digest: BlobDigest, pack: &Pack, old: Option<&Held>) -> Result<(), FollowError> {
        if let Some(old) = old.filter(|old| old.pack.size(&digest).is_some()) {
            match copy(digest, &old.pack, pack).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%digest, %error, "a file is fetched anew, since the disk did not keep it"),
            }
        }
        let mut writer = pack.writer(digest).map_err(WriteError::Disk)?;
        let mut pieces = std::pin::pin!(self.operator.blob(digest).await?);
        while let Some(piece) = pieces.next().await {
            writer.write(piece?).await?;
        }
        Ok(writer.finish()?)
    }
}

async fn copy(digest: BlobDigest, from: &Pack, to: &Pack) -> Result<(), WriteError> {
    let mut writer = to.writer(digest)?;
    let mut pieces = std::pin::pin!(from.stream(&digest));
    while let Some(piece) = pieces.try_next().await? {
        writer.write(piece).await?;
    }
    writer.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use reqwest::Url;

    use super::*;
    use crate::{
        capability::Key,
        gateway::site::tests::{World, key, listen, random_files},
    };

    /// A follower that is stepped by hand, and what it serves.
    async fn follower(world: &World, key: &Key) -> (Follower, watch::Receiver<Serving>) {
        let url = Url::parse(&format!("http://{}/", listen(world.router()).await.0)).unwrap();
        let (state, serving) = watch::channel(Serving::Starting);
        let pauses = Backoff { first: Duration::ZERO, cap: Duration::ZERO };
        (Follower::new(Operator::new(url, world.credentials(key)).unwrap(), state, pauses), serving)
    }

    async fn served(serving: &watch::Receiver<Serving>, path: &str) -> Bytes {
        let held = serving.borrow().held().cloned().unwrap();
        let pieces: Vec<_> = held.pack.stream(&held.release.files()[path].sha256).try_collect().await.unwrap();
        pieces.concat().into()
    }

    #[tokio::test]
    async fn what_came_before_a_failure_is_not_fetched_again() {
        let world = World::new();
        world.fill();
        let key = key();
        let files = random_files(&["a", "b", "c", "d", "e", "f"]);
        world.table.set(&world.site, world.target(&key, world.publish(&files).await));
        let last = files.values().map(|bytes| (BlobDigest::of(bytes), bytes.clone())).max().unwrap();
        world.store.lose(&world.blob_key(last.0));
        let (mut follower, serving) = follower(&world, &key).await;
        for _ in 0..2 {
            assert!(matches!(follower.step().await, Err(FollowError::Operator(_))));
            assert!(serving.borrow().held().is_none());
        }
        world.store.corrupt(&world.blob_key(last.0), last.1);
        world.store.take_requests();
        follower.step().await.unwrap();
        assert_eq!(world.store.take_requests().get, 1, "only the one that was missing");
        for (path, bytes) in &files {
            assert_eq!(served(&serving, path).await, *bytes, "{path}");
        }
    }

    #[tokio::test]
    async fn what_the_disk_lost_is_fetched_from_the_operator() {
        let world = World::new();
        world.fill();
        let key = key();
        let first = random_files(&["index.html"]);
        world.table.set(&world.site, world.target(&key, world.publish(&first).await));
        let (mut follower, serving) = follower(&world, &key).await;
        follower.step().await.unwrap();
        let second: crate::store::Files =
            [("moved.html".to_owned(), first["index.html"].clone()), ("new.html".to_owned(), Bytes::from("new"))]
                .into();
        world.table.set(&world.site, world.target(&key, world.publish(&second).await));
        serving.borrow().held().unwrap().pack.lose();
        follower.step().await.unwrap();
        for (path, bytes) in &second {
            assert_eq!(served(&serving, path).await, *bytes, "{path}");
        }
    }
}
