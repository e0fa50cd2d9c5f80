//! Connections of readers: counted to the byte, limited in number, and closed when nothing moves.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, MissedTickBehavior, Sleep},
};

use super::Print;

/// Connections open at one time; more wait to be accepted.
const CONNECTIONS: usize = 512;
/// A connection on which no byte moved for so long is closed.
const IDLE: Duration = Duration::from_mins(1);
/// The counters are said at most this often.
const EVERY: Duration = Duration::from_secs(1);

/// Bytes that went over readers' connections since the start, HTTP heads included.
#[derive(Debug, Default)]
pub(super) struct Meter {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    /// The line that a device reads: `usage rx=<bytes received> tx=<bytes sent>`, both since the start.
    pub(super) fn line(&self) -> String {
        format!("usage rx={} tx={}", self.received.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

/// Says the counters whenever they changed.
pub(super) async fn report(meter: Arc<Meter>, print: Print) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = String::new();
    loop {
        ticks.tick().await;
        let line = meter.line();
        if line != last {
            print(&line);
            last = line;
        }
    }
}

/// The listener of the server.
pub(super) struct Connections {
    listener: TcpListener,
    meter: Arc<Meter>,
    slots: Arc<Semaphore>,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, meter: Arc<Meter>) -> Self {
        Self { listener, meter, slots: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

impl Listener for Connections {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        // `Err` only for a closed semaphore, and this one never is; a connection without a slot would still be served.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let idle = Box::pin(tokio::time::sleep(IDLE));
        (Connection { stream, meter: self.meter.clone(), idle, _slot: slot }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One reader's connection.
pub(super) struct Connection {
    stream: TcpStream,
    meter: Arc<Meter>,
    idle: Pin<Box<Sleep>>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn moved(&mut self, counter: impl FnOnce(&Meter) -> &AtomicU64, bytes: usize) {
        counter(&self.meter).fetch_add(bytes as u64, Ordering::Relaxed);
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing moved on the connection"))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(result) => {
                self.moved(|meter| &meter.received, buffer.filled().len() - before);
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(result) => {
                self.moved(|meter| &meter.sent, result.as_ref().copied().unwrap_or(0));
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, buffers) {
            Poll::Ready(result) => {
                self.moved(|meter| &meter.sent, result.as_ref().copied().unwrap_or(0));
                Poll::Ready(result)
            }
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
