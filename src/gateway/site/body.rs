//! The body of an answer with a blob: passed on as it comes from the store, never held whole.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::store::{Pieces, StoreError};

/// Time for any blob, however small.
const LEAST: Duration = Duration::from_secs(30);
/// A site that takes a blob slower than this, in bytes per second, is cut off.
const SLOWEST_RATE: u64 = 64 << 10;

/// How long a site may take over a blob of so many bytes.
#[must_use]
pub fn patience(bytes: u64) -> Duration {
    LEAST + Duration::from_secs(bytes / SLOWEST_RATE)
}

/// The right to read a blob now: one of those of the site, and one of those of all.
pub(super) type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A body of these pieces. It holds the turn until it is sent, or nobody takes it any more, or its time is over: a
/// connection that does not move asks nothing of its body, so the time is kept by a task. What fails cuts the body
/// short of its announced length.
pub(super) fn body(
    first: Option<Bytes>,
    rest: Pieces,
    turn: Turn,
    time: Duration,
    failed: impl Fn(&StoreError) + Send + Sync + 'static,
) -> Body {
    let (sender, mut receiver) = mpsc::channel(1);
    let mut pieces = stream::iter(first.map(Ok)).chain(rest);
    tokio::spawn(async move {
        let _turn = turn;
        let pass_on = async {
            while let Some(piece) = pieces.next().await {
                piece.as_ref().err().into_iter().for_each(&failed);
                if sender.send(piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = pass_on => {}
            () = sender.closed() => {}
            () = tokio::time::sleep(time) => tracing::debug!("a site takes a file too slowly, and is cut off"),
        }
    });
    Body::from_stream(stream::poll_fn(move |context| receiver.poll_recv(context)))
}

#[cfg(test)]
mod tests;
