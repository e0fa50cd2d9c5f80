//! Pipes for the tests of this room.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite};
use tokio::io::{DuplexStream, ReadBuf};

use super::link::{Link, LinkConfig};
use crate::capability::{Envelope, Handle, Key, Nanos};

/// One end of a pipe that gives and takes at most `piece` bytes at a time, and, if `moody`, is not ready every other time
/// it is asked.
pub(super) struct Choppy {
    pipe: DuplexStream,
    piece: usize,
    moody: bool,
    /// How often it was asked to read, to write, to flush.
    asked: [u32; 3],
}

/// An end of a pipe that behaves.
pub(super) fn compat(pipe: DuplexStream) -> Choppy {
    Choppy { pipe, piece: usize::MAX, moody: false, asked: [0; 3] }
}

pub(super) fn choppy(pipe: DuplexStream, piece: usize) -> Choppy {
    Choppy { pipe, piece, moody: true, asked: [0; 3] }
}

impl Choppy {
    fn is_moody_now(&mut self, what: usize, cx: &Context<'_>) -> bool {
        self.asked[what] = self.asked[what].wrapping_add(1);
        let moody = self.moody && self.asked[what] % 2 == 1;
        if moody {
            cx.waker().wake_by_ref();
        }
        moody
    }
}

impl AsyncRead for Choppy {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.is_moody_now(0, cx) {
            return Poll::Pending;
        }
        let piece = self.piece.min(out.len());
        let mut buffer = ReadBuf::new(&mut out[..piece]);
        let read = tokio::io::AsyncRead::poll_read(Pin::new(&mut self.pipe), cx, &mut buffer);
        read.map_ok(|()| buffer.filled().len())
    }
}

impl AsyncWrite for Choppy {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_moody_now(1, cx) {
            return Poll::Pending;
        }
        let piece = self.piece.min(bytes.len());
        tokio::io::AsyncWrite::poll_write(Pin::new(&mut self.pipe), cx, &bytes[..piece])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_moody_now(2, cx) {
            return Poll::Pending;
        }
        tokio::io::AsyncWrite::poll_flush(Pin::new(&mut self.pipe), cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        tokio::io::AsyncWrite::poll_shutdown(Pin::new(&mut self.pipe), cx)
    }
}

/// A node in a thread of its own, which can be made to do nothing at all while its connections stay open.
pub(super) struct Frozen {
    pub(super) peer: String,
    pub(super) addresses: Vec<String>,
    orders: std::sync::mpsc::Sender<Freeze>,
    thaw: std::sync::Mutex<Vec<std::sync::mpsc::Sender<()>>>,
}

struct Freeze {
    begun: std::sync::mpsc::Sender<()>,
    end: std::sync::mpsc::Receiver<()>,
}

impl Frozen {
    pub(super) async fn start(key: Key) -> Self {
        let (started, start) = tokio::sync::oneshot::channel();
        let (orders, freeze) = std::sync::mpsc::channel::<Freeze>();
        let node = async move {
            let config = LinkConfig {
                key,
                listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
                inboxes: vec!["root".to_owned()],
                topics: None,
            };
            let (link, _arrived) = Link::start(config).await.unwrap();
            started.send((link.peer_id().to_owned(), link.listen_addresses().await)).unwrap();
            loop {
                match freeze.try_recv() {
                    // Here the thread stands still, and with it all that the node does.
                    Ok(Freeze { begun, end }) => {
                        begun.send(()).unwrap();
                        let _ = end.recv();
                    }
                    Err(std::sync::mpsc::TryRecvError::Empty) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
        };
        std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(node);
        });
        let (peer, addresses) = start.await.unwrap();
        Self { peer, addresses, orders, thaw: std::sync::Mutex::default() }
    }

    /// From now on it does nothing, until this is dropped.
    pub(super) fn freeze(&self) {
        let (begun, begin) = std::sync::mpsc::channel();
        let (thaw, end) = std::sync::mpsc::channel();
        self.orders.send(Freeze { begun, end }).unwrap();
        begin.recv().unwrap();
        self.thaw.lock().unwrap().push(thaw);
    }
}

pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub(super) fn random_key() -> Key {
    Key::from_seed(random_bytes())
}

/// A broadcast of this key, not signed yet.
pub(super) fn broadcast(key: &Key, topic: &str, expires: Nanos) -> Envelope {
    Envelope {
        to: Handle::default(),
        behaviour: "/broadcast/hello".to_owned(),
        from: Handle::root_of(key.did()),
        nonce: u64::from_le_bytes(random_bytes()),
        expires,
        continuation: None,
        topic: Some(topic.to_owned()),
        message: random_bytes::<8>().to_vec(),
        capabilities: Vec::new(),
        signature: None,
    }
}

/// Waits until something holds, at most 20 s.
pub(super) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), wait).await.is_ok(), "not after 20 s: {what}");
}
