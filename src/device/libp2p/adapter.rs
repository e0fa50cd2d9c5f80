//! The stream muxer with bare names on the wire. Every transport must be built with it; one that is not simply cannot
//! talk to actors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, TryFutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::yamux;

use super::spoil::Spoiling;
use super::substream::Substream;

/// A muxer whose substreams translate protocol names.
#[derive(Debug)]
pub struct BareNames<M>(M, Spoiling);

impl<M> BareNames<M> {
    const fn new(muxer: M, spoiling: Spoiling) -> Self {
        Self(muxer, spoiling)
    }
}

impl<M> StreamMuxer for BareNames<M>
where
    M: StreamMuxer + Unpin,
    M::Substream: Unpin,
{
    type Substream = Substream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        if self.1.is_mute(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_inbound(cx).map_ok(Substream::listener)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        if self.1.is_mute(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_outbound(cx).map_ok(Substream::dialer)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // A frozen process closes nothing either.
        if self.1.is_mute(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        if self.1.is_mute(cx) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Yamux with [`BareNames`], for every place that takes a multiplexer.
#[derive(Clone, Debug, Default)]
pub struct BareYamux(yamux::Config, Spoiling);

impl BareYamux {
    /// One whose connections can be made to go wrong.
    pub fn new(spoiling: Spoiling) -> Self {
        Self(yamux::Config::default(), spoiling)
    }
}

type Muxer<C> = BareNames<yamux::Muxer<C>>;

impl UpgradeInfo for BareYamux {
    type Info = <yamux::Config as UpgradeInfo>::Info;
    type InfoIter = <yamux::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

impl<C> InboundConnectionUpgrade<C> for BareYamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        let Self(config, spoiling) = self;
        Box::pin(config.upgrade_inbound(socket, info).map_ok(|muxer| BareNames::new(muxer, spoiling)))
    }
}

impl<C> OutboundConnectionUpgrade<C> for BareYamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        let Self(config, spoiling) = self;
        Box::pin(config.upgrade_outbound(socket, info).map_ok(|muxer| BareNames::new(muxer, spoiling)))
    }
}
