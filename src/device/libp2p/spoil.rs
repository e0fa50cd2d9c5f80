//! What a link does wrong on purpose, for tests of what the other side makes of it. Nothing goes wrong unless asked for.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, sleep};

/// How one message is spoilt on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spoil {
    /// Not at all.
    #[default]
    None,
    /// Half of it is written, then its stream is reset.
    Cut,
    /// Its length is written and nothing more; after a while its stream is reset.
    HalfOpen,
}

/// How long a stream stays half open.
pub(super) const HALF_OPEN: Duration = Duration::from_secs(3);
/// What a slow reader takes at a time, and its pause after it: some seconds for a request.
const PIECE: usize = 64;
pub(super) const BETWEEN_PIECES: Duration = Duration::from_millis(20);

/// Writes a frame as far as it goes.
pub(super) async fn write<S: AsyncWrite + Unpin>(mut stream: S, frame: &[u8], spoil: Spoil) -> io::Result<()> {
    let head = size_of::<u64>();
    let (length, hold) = match spoil {
        Spoil::None => (frame.len(), Duration::ZERO),
        Spoil::Cut => (head.midpoint(frame.len()), Duration::ZERO),
        Spoil::HalfOpen => (head, HALF_OPEN),
    };
    stream.write_all(frame.get(..length).unwrap_or(frame)).await?;
    stream.flush().await?;
    sleep(hold).await;
    // Dropped without its end, the stream is reset.
    Ok(())
}

/// What goes wrong with all connections of a link. Clones switch the same link.
#[derive(Clone, Debug, Default)]
pub struct Spoiling(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    slow: AtomicBool,
    mute: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Spoiling {
    /// Whether messages are read a few bytes at a time.
    pub fn read_slowly(&self, slowly: bool) {
        self.0.slow.store(slowly, Ordering::SeqCst);
    }

    /// Whether all connections stay open and neither read nor write a byte, as those of a frozen process.
    pub fn mute(&self, mute: bool) {
        // Under the lock, so that none begins to wait after all were woken.
        let waiting = {
            let mut waiting = self.waiting();
            self.0.mute.store(mute, Ordering::SeqCst);
            if mute { Vec::new() } else { std::mem::take(&mut *waiting) }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether a connection must not do anything now; it is woken when it may.
    pub(super) fn is_mute(&self, cx: &Context<'_>) -> bool {
        if !self.0.mute.load(Ordering::Relaxed) {
            return false;
        }
        let mut waiting = self.waiting();
        let mute = self.0.mute.load(Ordering::SeqCst);
        if mute && !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        mute
    }

    /// The stream, as it is to be read now.
    pub(super) fn reading<S>(&self, stream: S) -> Reading<S> {
        let slow = self.0.slow.load(Ordering::Relaxed).then(|| Box::pin(sleep(BETWEEN_PIECES)));
        Reading { stream, slow }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waker>> {
        // A list of wakers is whole at every moment.
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that is read as it comes, or slowly.
pub(super) struct Reading<S> {
    stream: S,
    slow: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Reading<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { stream, slow } = &mut *self;
        let Some(pause) = slow else { return Pin::new(stream).poll_read(cx, out) };
        std::task::ready!(pause.as_mut().poll(cx));
        let piece = PIECE.min(out.len());
        let read = std::task::ready!(Pin::new(stream).poll_read(cx, out.get_mut(..piece).unwrap_or_default()));
        *pause = Box::pin(sleep(BETWEEN_PIECES));
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Reading<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}
