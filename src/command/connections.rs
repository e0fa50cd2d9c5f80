//! The connections of an HTTP listener: limited in number, in the length of a request, and in the time without an
//! answer; counted to the byte.

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

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

use crate::gateway::exchange::Remote;

/// A connection is closed when nothing was sent for so long since the last answer, or since a request began.
const IDLE: Duration = Duration::from_mins(1);
/// Longest request without a body, in bytes: the largest head carries an invocation.
const LONGEST_REQUEST: usize = 64 << 10;

/// Bytes that went over the connections since the start, HTTP heads included.
#[derive(Debug, Default)]
pub(super) struct Meter {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Meter {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// A listener with so many connections at one time; more wait to be accepted.
pub(super) struct Connections {
    listener: TcpListener,
    meter: Arc<Meter>,
    slots: Arc<Semaphore>,
    longest: usize,
}

impl Connections {
    pub(super) fn new(listener: TcpListener, most: usize, meter: Arc<Meter>) -> Self {
        Self { listener, meter, slots: Arc::new(Semaphore::new(most)), longest: LONGEST_REQUEST }
    }

    /// The same for requests with a body of so many bytes at most.
    pub(super) fn with_bodies(self, longest: usize) -> Self {
        Self { longest: LONGEST_REQUEST + longest, ..self }
    }
}

impl Listener for Connections {
    type Io = Connection<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // `Err` only for a closed semaphore, and this one never is; a connection without a slot would still be served.
        let slot = self.slots.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Connection::new(stream, self.meter.clone(), slot, self.longest), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Connected<IncomingStream<'_, Connections>> for Remote {
    fn connect_info(stream: IncomingStream<'_, Connections>) -> Self {
        Self(stream.remote_addr().ip())
    }
}

/// One connection.
pub(super) struct Connection<S> {
    stream: S,
    meter: Arc<Meter>,
    idle: Pin<Box<Sleep>>,
    /// Bytes received since the last were sent: those of the request, for who waits for the answer.
    asked: usize,
    longest: usize,
    _slot: Option<OwnedSemaphorePermit>,
}

impl<S> Connection<S> {
    fn new(stream: S, meter: Arc<Meter>, slot: Option<OwnedSemaphorePermit>, longest: usize) -> Self {
        Self { stream, meter, idle: Box::pin(tokio::time::sleep(IDLE)), asked: 0, longest, _slot: slot }
    }

    fn received(&mut self, bytes: usize) -> io::Result<()> {
        self.meter.received.fetch_add(bytes as u64, Ordering::Relaxed);
        // Its first byte only: who sends a request byte by byte gains no time.
        if self.asked == 0 && bytes > 0 {
            self.idle.as_mut().reset(Instant::now() + IDLE);
        }
        self.asked += bytes;
        if self.asked <= self.longest {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "the request is longer than any that is answered"))
    }

    fn sent(&mut self, bytes: usize) {
        self.meter.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        if bytes > 0 {
            self.asked = 0;
            self.idle.as_mut().reset(Instant::now() + IDLE);
        }
    }

    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "nothing was sent on the connection"))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.received(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_idle(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(result) => {
                self.sent(result.as_ref().copied().unwrap_or(0));
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
                self.sent(result.as_ref().copied().unwrap_or(0));
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn one_more_than_the_limit_waits_until_another_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut connections = Connections::new(listener, 2, Arc::default());
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let (first, _second) = (connections.accept().await, connections.accept().await);
        assert!(tokio::time::timeout(Duration::from_millis(200), connections.accept()).await.is_err());
        drop(first);
        tokio::time::timeout(Duration::from_secs(20), connections.accept()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_does_not_end_holds_its_connection_no_longer_than_silence() {
        let (mut peer, stream) = tokio::io::duplex(1024);
        let mut connection = Connection::new(stream, Arc::default(), None, LONGEST_REQUEST);
        let begun = Instant::now();
        let drip = async {
            for _ in 0..100 {
                peer.write_all(b"x").await.unwrap();
                tokio::time::sleep(IDLE / 10).await;
            }
        };
        let mut request = Vec::new();
        let error = tokio::select! {
            result = connection.read_to_end(&mut request) => result.unwrap_err(),
            () = drip => panic!("the connection is still open"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < IDLE * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_late_still_gets_a_late_answer() {
        let (mut peer, stream) = tokio::io::duplex(1024);
        let mut connection = Connection::new(stream, Arc::default(), None, LONGEST_REQUEST);
        let almost = IDLE - Duration::from_secs(1);
        for _ in 0..3 {
            assert!(tokio::time::timeout(almost, connection.read_u8()).await.is_err(), "it is open, and waits");
            peer.write_all(b"?").await.unwrap();
            assert_eq!(connection.read_u8().await.unwrap(), b'?');
            assert!(tokio::time::timeout(almost, connection.read_u8()).await.is_err(), "the answer is being made");
            connection.write_all(b"!").await.unwrap();
            assert_eq!(peer.read_u8().await.unwrap(), b'!');
        }
        let error = connection.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
