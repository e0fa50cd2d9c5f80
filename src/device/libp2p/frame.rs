//! One message is one substream: eight bytes of length, little endian, and the envelope. Nothing comes back on it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::Stream;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use tokio::time::timeout;

use super::budget::{Kept, Share};
use super::counters::Dropped;
use super::names;
use super::spoil::{self, Spoil, Spoiling};
use super::substream::NotAgreed;

/// Longest message that is read.
pub(super) const MAX_BODY: usize = 1 << 20;
/// Longest message that is sent: a DMS counts the eight bytes of the length, too.
pub const MAX_BODY_SENT: usize = MAX_BODY - HEAD;
/// How long one message may take to arrive.
pub(super) const READ_WITHIN: Duration = Duration::from_secs(30);

const HEAD: usize = 8;
/// Room is made for so much of a message at a time.
const PIECE: usize = 16 << 10;
/// How long the end of a stream is waited for, once its message is here.
const END_WITHIN: Duration = Duration::from_millis(500);
/// How long the peer is given to take a message, once it is written.
const TAKEN_WITHIN: Duration = Duration::from_secs(1);

/// A protocol name inside this process.
pub(super) type Name = Arc<str>;

/// The bytes of a message. They may hold what a deployment is told in secret, and are not printed.
#[derive(Clone)]
pub(super) struct Body(pub(super) Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Why a stream brought no message.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a message of {0} bytes was announced; at most {MAX_BODY} are read")]
    TooLong(u64),
    #[error("the stream ended before its message was whole")]
    Truncated,
    #[error("bytes came after the message")]
    Trailing,
    #[error("the message did not arrive within {}s", READ_WITHIN.as_secs())]
    TooSlow,
    #[error("too many bytes of other messages are under way")]
    Crowded,
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
}

impl FrameError {
    pub(super) const fn reason(&self) -> Dropped {
        match self {
            Self::TooLong(_) => Dropped::TooLong,
            Self::Truncated | Self::Io(_) => Dropped::BrokenStream,
            Self::Trailing => Dropped::TrailingBytes,
            Self::TooSlow => Dropped::TooSlow,
            Self::Crowded => Dropped::Crowded,
        }
    }
}

/// Puts the length in front of a message.
pub(super) fn frame(body: &[u8]) -> Vec<u8> {
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    [&length.to_le_bytes(), body].concat()
}

/// Receives messages for some inboxes.
#[derive(Clone, Debug)]
pub(super) struct FrameIn {
    pub(super) inboxes: Arc<[Name]>,
    pub(super) share: Arc<Share>,
    pub(super) spoiling: Spoiling,
}

impl UpgradeInfo for FrameIn {
    type Info = Name;
    type InfoIter = Vec<Name>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.inboxes.to_vec()
    }
}

impl InboundUpgrade<Stream> for FrameIn {
    type Output = (Name, Body);
    type Error = FrameError;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, name: Self::Info) -> Self::Future {
        Box::pin(async move { Ok((name, Body(read(self.spoiling.reading(stream), self.share.begin()).await?))) })
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mut kept: Kept) -> Result<Vec<u8>, FrameError> {
    let body = timeout(READ_WITHIN, read_body(&mut stream, &mut kept)).await.map_err(|_| FrameError::TooSlow)??;
    // A stream dropped before its end looks to the sender like a refusal. A sender that never ends it, or breaks it
    // now, has delivered its message all the same.
    let end = timeout(END_WITHIN, async {
        stream.close().await?;
        stream.read(&mut [0]).await
    });
    match end.await {
        Ok(Ok(1..)) => Err(FrameError::Trailing),
        Ok(Ok(0) | Err(_)) | Err(_) => Ok(body),
    }
}

pub(super) async fn read_body<S: AsyncRead + Unpin>(stream: &mut S, kept: &mut Kept) -> Result<Vec<u8>, FrameError> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).await.map_err(cut_short)?;
    let announced = u64::from_le_bytes(head);
    let length = usize::try_from(announced).ok().filter(|length| *length <= MAX_BODY);
    let length = length.ok_or(FrameError::TooLong(announced))?;
    // Memory follows what arrives, not what is announced.
    let mut body = Vec::new();
    while body.len() < length {
        let (begin, piece) = (body.len(), PIECE.min(length - body.len()));
        if !kept.grow(piece) {
            return Err(FrameError::Crowded);
        }
        body.resize(begin + piece, 0);
        stream.read_exact(&mut body[begin..]).await.map_err(cut_short)?;
    }
    Ok(body)
}

fn cut_short(error: io::Error) -> FrameError {
    if error.kind() == io::ErrorKind::UnexpectedEof { FrameError::Truncated } else { FrameError::Io(error) }
}

/// How far the sending of one message is, for whoever has to judge after a failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress(Arc<AtomicU8>);

impl Progress {
    const BEGUN: u8 = 1;
    const WRITTEN: u8 = 2;

    /// No byte of the message has left, and none will.
    pub(super) fn is_untouched(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    /// All of it was written.
    pub(super) fn is_written(&self) -> bool {
        self.0.load(Ordering::SeqCst) == Self::WRITTEN
    }
}

/// Sends one message to an inbox.
#[derive(Clone, Debug)]
pub(super) struct FrameOut {
    pub(super) name: Name,
    pub(super) frame: Body,
    pub(super) progress: Progress,
    pub(super) spoil: Spoil,
    /// Whether it leaves without waiting for the peer to agree to the name.
    pub(super) assumed: bool,
}

impl UpgradeInfo for FrameOut {
    type Info = Name;
    type InfoIter = [Name; 1];

    fn protocol_info(&self) -> Self::InfoIter {
        if self.assumed
            && let Some(inbox) = names::inbox_of(&self.name)
        {
            return [names::of_assumed_inbox(inbox).into()];
        }
        [self.name.clone()]
    }
}

impl OutboundUpgrade<Stream> for FrameOut {
    type Output = ();
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<()>>;

    fn upgrade_outbound(self, stream: Stream, _: Self::Info) -> Self::Future {
        match self.spoil {
            Spoil::None => Box::pin(write(stream, self.frame.0, self.progress)),
            spoil => Box::pin(async move { spoil::write(stream, &self.frame.0, spoil).await }),
        }
    }
}

/// Header and body go out in one write: the receiver takes the header with a single read.
async fn write<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, frame: Vec<u8>, progress: Progress) -> io::Result<()> {
    progress.0.store(Progress::BEGUN, Ordering::SeqCst);
    stream.write_all(&frame).await?;
    progress.0.store(Progress::WRITTEN, Ordering::SeqCst);
    // A peer has a bounded number of streams for us. Waiting until it lets go of this one keeps what is under way
    // within that bound; whatever happens to the stream from here on, the message is out. Only where the inbox was taken
    // for granted there is something to learn: that it is not there.
    let taken = timeout(TAKEN_WITHIN, async {
        let _ = stream.close().await;
        stream.read(&mut [0]).await
    });
    match taken.await {
        Ok(Err(error)) if NotAgreed::of(&error).is_some() => Err(error),
        Ok(Ok(_) | Err(_)) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::*;

    async fn read_bytes(bytes: Vec<u8>) -> Result<Vec<u8>, FrameError> {
        read(Cursor::new(bytes), kept()).await
    }

    fn kept() -> Kept {
        Arc::new(Share::default()).begin()
    }

    #[tokio::test]
    async fn bodies_up_to_the_limit_come_back() {
        for length in [0, 1, 7, 8, 9, 1347, 65_536, MAX_BODY - 1, MAX_BODY] {
            let body = vec![0x5a; length];
            assert_eq!(read_body(&mut Cursor::new(frame(&body)), &mut kept()).await.unwrap(), body, "{length}");
        }
        assert_eq!(frame(&[b'x'; 1347])[..8], [0x43, 0x05, 0, 0, 0, 0, 0, 0]);
    }

    #[tokio::test]
    async fn one_byte_more_is_refused_before_it_is_read() {
        for announced in [MAX_BODY as u64 + 1, 1 << 31, u64::MAX] {
            let refused = read_bytes(announced.to_le_bytes().to_vec()).await.unwrap_err();
            assert!(matches!(refused, FrameError::TooLong(length) if length == announced), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_message_that_ends_early_is_refused() {
        let whole = frame(b"twelve bytes");
        for cut in 0..whole.len() {
            let refused = read_bytes(whole[..cut].to_vec()).await.unwrap_err();
            assert!(matches!(refused, FrameError::Truncated), "cut at {cut}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_go_on_is_given_up() {
        let (mut here, there) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut here, &frame(b"half of it")[..12]).await.unwrap();
        let started = tokio::time::Instant::now();
        let refused = read(super::super::rig::compat(there), kept()).await.unwrap_err();
        assert!(matches!(refused, FrameError::TooSlow), "{refused}");
        assert_eq!(started.elapsed(), READ_WITHIN);
        drop(here);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_awaited_but_not_needed() {
        let (mut here, there) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut here, &frame(b"all of it")).await.unwrap();
        assert_eq!(read(super::super::rig::compat(there), kept()).await.unwrap(), b"all of it");
        drop(here);
        let (mut here, there) = tokio::io::duplex(64);
        tokio::io::AsyncWriteExt::write_all(&mut here, &[&frame(b"all of it")[..], b"!"].concat()).await.unwrap();
        assert!(matches!(read(super::super::rig::compat(there), kept()).await, Err(FrameError::Trailing)));
    }

    #[tokio::test(start_paused = true)]
    async fn progress_tells_what_left() {
        let progress = Progress::default();
        assert!(progress.is_untouched());
        let (here, there) = tokio::io::duplex(4);
        let writing = write(super::super::rig::compat(here), frame(b"more than fits"), progress.clone());
        assert!(timeout(Duration::from_secs(5), writing).await.is_err());
        assert!(!progress.is_untouched() && !progress.is_written());
        drop(there);
        let (here, there) = tokio::io::duplex(64);
        write(super::super::rig::compat(here), frame(b"fits"), progress.clone()).await.unwrap();
        assert!(progress.is_written());
        drop(there);
    }

    #[tokio::test]
    async fn what_was_written_on_trust_and_refused_is_an_error_and_out_all_the_same() {
        let name = "actor/root/messages/0.0.1";
        for (answer, why) in [("na", Some(NotAgreed::NoSuchInbox)), (name, None)] {
            let (here, mut there) = tokio::io::duplex(4096);
            let stream = super::super::substream::Substream::dialer(super::super::rig::compat(here));
            let progress = Progress::default();
            let writing = async {
                let proposals = [format!("/~~/{name}")];
                let version = multistream_select::Version::V1;
                let (_, stream) = multistream_select::dialer_select_proto(stream, proposals, version).await.unwrap();
                write(stream, frame(b"body"), progress.clone()).await
            };
            let answering = async {
                let line = |text: &str| [&[u8::try_from(text.len() + 1).unwrap()], text.as_bytes(), b"\n"].concat();
                let says = [line("/multistream/1.0.0"), line(answer)].concat();
                tokio::io::AsyncWriteExt::write_all(&mut there, &says).await.unwrap();
                tokio::io::AsyncWriteExt::shutdown(&mut there).await.unwrap();
            };
            let (written, ()) = tokio::join!(writing, answering);
            assert_eq!(written.map_err(|error| NotAgreed::of(&error)), why.map_or(Ok(()), |why| Err(Some(why))));
            assert!(progress.is_written() && !progress.is_untouched());
            drop(there);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error_or_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read = futures::executor::block_on(read_body(&mut Cursor::new(bytes.clone()), &mut kept()));
            let announced = bytes.first_chunk().map(|head| u64::from_le_bytes(*head));
            let whole = announced.is_some_and(|length| length <= (bytes.len() - 8) as u64);
            prop_assert_eq!(read.is_ok(), whole);
        }
    }
}
