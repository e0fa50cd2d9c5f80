//! One substream whose protocol negotiation is translated between wire and inside. Once both directions are settled,
//! reads and writes go straight through.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use futures::{AsyncRead, AsyncWrite};

use super::identify;
use super::message::{self, Collector, Kind};
use super::names;

/// Longest message of a peer during negotiation.
const MAX_TALK: usize = 1024;
/// Data of this side that go out in one piece with an assumed proposal.
const TOGETHER: usize = 16 << 10;

/// Data followed a proposal that was taken for granted, and the peer did not agree to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAgreed {
    /// It said no.
    #[error("the node has no such inbox")]
    NoSuchInbox,
    /// It said nothing, or nothing that makes sense.
    #[error("the stream ended before the node agreed to take the message")]
    Ended,
}

impl NotAgreed {
    /// Whether this is why something failed.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl From<NotAgreed> for io::Error {
    fn from(why: NotAgreed) -> Self {
        Self::new(io::ErrorKind::ConnectionRefused, why)
    }
}

/// A substream as the muxer gives it, with translated names.
#[derive(Debug)]
pub struct Substream<S> {
    io: S,
    negotiation: Option<Box<Negotiation>>,
}

impl<S> Substream<S> {
    /// A substream that this side opened.
    pub(super) fn dialer(io: S) -> Self {
        Self { io, negotiation: Some(Box::new(Negotiation::new(Role::Dialer))) }
    }

    /// A substream that the peer opened.
    pub(super) fn listener(io: S) -> Self {
        Self { io, negotiation: Some(Box::new(Negotiation::new(Role::Listener))) }
    }

    #[cfg(test)]
    pub(super) const fn is_settled(&self) -> bool {
        self.negotiation.is_none()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Dialer,
    Listener,
}

/// How far one direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Messages of the negotiation.
    Talk,
    /// The other direction has to go on first.
    Turn,
    /// The answer to a proposal that was taken for granted. Read side only.
    Echo,
    /// One identify message, whose names are translated too. Write side only.
    Identify,
    /// Data of the protocol that was agreed on.
    Raw,
}

#[derive(Debug)]
struct Negotiation {
    role: Role,
    rx: Phase,
    rx_message: Collector,
    /// Translated, to be handed out.
    rx_ready: Vec<u8>,
    rx_at: usize,
    rx_waker: Option<Waker>,
    tx: Phase,
    tx_message: Collector,
    /// Translated, to be written.
    tx_out: Vec<u8>,
    tx_at: usize,
    /// What follows once the peer accepted the last proposal.
    tx_next: Phase,
    /// What is to be written waits for the first data, so that both go out in one piece.
    tx_held: bool,
    /// The proposal that was taken for granted, as it was written.
    assumed: Vec<u8>,
}

impl Negotiation {
    const fn new(role: Role) -> Self {
        Self {
            role,
            rx: Phase::Talk,
            rx_message: Collector::new(MAX_TALK),
            rx_ready: Vec::new(),
            rx_at: 0,
            rx_waker: None,
            tx: Phase::Talk,
            tx_message: Collector::new(message::MAX_LENGTH),
            tx_out: Vec::new(),
            tx_at: 0,
            tx_next: Phase::Raw,
            tx_held: false,
            assumed: Vec::new(),
        }
    }

    fn is_settled(&self) -> bool {
        self.rx == Phase::Raw && self.tx == Phase::Raw && self.rx_ready.is_empty() && self.tx_out.is_empty()
    }

    fn poll_read<S>(&mut self, io: &mut S, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>>
    where
        S: AsyncRead + Unpin,
    {
        loop {
            if !self.rx_ready.is_empty() {
                return Poll::Ready(Ok(self.hand_out(out)));
            }
            match self.rx {
                Phase::Raw | Phase::Identify => return Pin::new(io).poll_read(cx, out),
                Phase::Echo => ready!(self.poll_echo(io, cx))?,
                // After the proposal of a lazy peer its data follow at once: nothing more may be read as a message
                // before this side has answered.
                Phase::Turn => {
                    self.rx_waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Phase::Talk => {
                    let mut piece = [0; 256];
                    let wanted = self.rx_message.missing().min(piece.len());
                    match ready!(Pin::new(&mut *io).poll_read(cx, &mut piece[..wanted]))? {
                        0 if self.rx_message.is_empty() => return Poll::Ready(Ok(0)),
                        0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                        read => {
                            if let Some(message) = self.rx_message.take(&piece[..read])? {
                                self.received(&message)?;
                            }
                        }
                    }
                }
            }
        }
    }

    /// Reads what the peer says to the proposal that was taken for granted.
    fn poll_echo<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncRead + Unpin,
    {
        let mut piece = [0; 256];
        let wanted = self.rx_message.missing().min(piece.len());
        let read = ready!(Pin::new(io).poll_read(cx, &mut piece[..wanted])).unwrap_or(0);
        if read == 0 {
            return Poll::Ready(Err(NotAgreed::Ended.into()));
        }
        match self.rx_message.take(&piece[..read]) {
            Ok(None) => {}
            Ok(Some(message)) if message == message::HEADER => {}
            Ok(Some(message)) if message == self.assumed => self.rx = Phase::Raw,
            Ok(Some(message)) if message::is_not_available(&message) => {
                return Poll::Ready(Err(NotAgreed::NoSuchInbox.into()));
            }
            Ok(Some(_)) | Err(_) => return Poll::Ready(Err(NotAgreed::Ended.into())),
        }
        Poll::Ready(Ok(()))
    }

    fn hand_out(&mut self, out: &mut [u8]) -> usize {
        let left = &self.rx_ready[self.rx_at..];
        let count = left.len().min(out.len());
        out[..count].copy_from_slice(&left[..count]);
        self.rx_at += count;
        if self.rx_at == self.rx_ready.len() {
            self.rx_ready = Vec::new();
            self.rx_at = 0;
        }
        count
    }

    fn received(&mut self, message: &[u8]) -> io::Result<()> {
        self.rx_ready = message::to_local(message)?;
        if message == message::HEADER {
            return Ok(());
        }
        match self.role {
            Role::Listener => self.rx = Phase::Turn,
            Role::Dialer if message::is_not_available(message) => {
                if self.tx == Phase::Turn {
                    self.tx = Phase::Talk;
                }
            }
            Role::Dialer => {
                self.rx = Phase::Raw;
                if matches!(self.tx, Phase::Talk | Phase::Turn) {
                    self.tx = self.tx_next;
                }
            }
        }
        Ok(())
    }

    fn poll_write<S>(&mut self, io: &mut S, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>
    where
        S: AsyncWrite + Unpin,
    {
        loop {
            match self.tx {
                Phase::Talk | Phase::Identify => return Poll::Ready(self.collect(bytes)),
                // The peer has not answered yet and this side goes on: it took the proposal for accepted.
                Phase::Turn => self.tx = self.tx_next,
                Phase::Raw | Phase::Echo if self.tx_held => {
                    self.tx_held = false;
                    let together = bytes.len().min(TOGETHER);
                    self.tx_out.extend_from_slice(&bytes[..together]);
                    // What is left of it goes with the next write or flush.
                    return match self.poll_drain(io, cx) {
                        Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                        Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(together)),
                    };
                }
                Phase::Raw | Phase::Echo => {
                    ready!(self.poll_drain(io, cx))?;
                    return Pin::new(io).poll_write(cx, bytes);
                }
            }
        }
    }

    /// Takes bytes of this side up to the end of a message.
    fn collect(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            let piece = self.tx_message.missing().min(bytes.len() - taken);
            let complete = self.tx_message.take(&bytes[taken..taken + piece])?;
            taken += piece;
            if let Some(message) = complete {
                self.written(&message)?;
                break;
            }
        }
        Ok(taken)
    }

    fn written(&mut self, message: &[u8]) -> io::Result<()> {
        if self.tx == Phase::Identify {
            let translated = identify::unmarked(message);
            self.tx_out.extend(message::with_length(translated.as_deref().unwrap_or(message)));
            self.tx = Phase::Raw;
            return Ok(());
        }
        self.tx_out.extend(message::to_wire(message)?);
        match (self.role, message::kind(message)) {
            (_, Kind::Header) => {}
            (Role::Dialer, Kind::Name) if names::is_assumed(message) => self.assume(message),
            (Role::Dialer, _) => {
                self.tx_next = if message == b"/ipfs/id/push/1.0.0\n" { Phase::Identify } else { Phase::Raw };
                self.tx = Phase::Turn;
            }
            (Role::Listener, Kind::Name) => {
                self.tx = if message == b"/ipfs/id/1.0.0\n" { Phase::Identify } else { Phase::Raw };
                self.go_on_reading(Phase::Raw);
            }
            (Role::Listener, Kind::NotAvailable | Kind::List) => self.go_on_reading(Phase::Talk),
        }
        Ok(())
    }

    /// Answers the proposal in the place of the peer, whose own answer is read later.
    fn assume(&mut self, proposal: &[u8]) {
        self.rx_ready = [message::with_length(message::HEADER), message::with_length(proposal)].concat();
        self.assumed = names::unmarked(proposal).to_vec();
        (self.rx, self.tx, self.tx_held) = (Phase::Echo, Phase::Raw, true);
    }

    fn go_on_reading(&mut self, rx: Phase) {
        self.rx = rx;
        if let Some(waker) = self.rx_waker.take() {
            waker.wake();
        }
    }

    fn poll_drain<S>(&mut self, io: &mut S, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        S: AsyncWrite + Unpin,
    {
        while self.tx_at < self.tx_out.len() {
            match ready!(Pin::new(&mut *io).poll_write(cx, &self.tx_out[self.tx_at..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.tx_at += written,
            }
        }
        self.tx_out = Vec::new();
        self.tx_at = 0;
        Poll::Ready(Ok(()))
    }

    /// An identify message that is cut short goes out as it is: it is not for this layer to refuse it.
    fn finish(&mut self) {
        self.tx_held = false;
        if self.tx == Phase::Identify {
            let cut = self.tx_message.give_up();
            self.tx_out.extend(cut);
            self.tx = Phase::Raw;
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Substream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { io, negotiation } = self.get_mut();
        let Some(talk) = negotiation else { return Pin::new(io).poll_read(cx, out) };
        let read = talk.poll_read(io, cx, out);
        if talk.is_settled() {
            *negotiation = None;
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Substream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, negotiation } = self.get_mut();
        let Some(talk) = negotiation else { return Pin::new(io).poll_write(cx, bytes) };
        let written = talk.poll_write(io, cx, bytes);
        if talk.is_settled() {
            *negotiation = None;
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, negotiation } = self.get_mut();
        if let Some(talk) = negotiation {
            if talk.tx_held {
                return Poll::Ready(Ok(()));
            }
            ready!(talk.poll_drain(io, cx))?;
            if talk.is_settled() {
                *negotiation = None;
            }
        }
        Pin::new(io).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { io, negotiation } = self.get_mut();
        if let Some(talk) = negotiation {
            talk.finish();
            ready!(talk.poll_drain(io, cx))?;
        }
        Pin::new(io).poll_close(cx)
    }
}
