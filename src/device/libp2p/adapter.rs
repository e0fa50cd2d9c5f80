//! The stream muxer with bare names on the wire. Every transport must be built with it; one that is not simply cannot
//! talk to actors.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::MapOk;
use futures::{AsyncRead, AsyncWrite, TryFutureExt};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::yamux;

use super::substream::Substream;

/// A muxer whose substreams translate protocol names.
#[derive(Debug)]
pub struct BareNames<M>(M);

impl<M> BareNames<M> {
    const fn new(muxer: M) -> Self {
        Self(muxer)
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
        Pin::new(&mut self.0).poll_inbound(cx).map_ok(Substream::listener)
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        Pin::new(&mut self.0).poll_outbound(cx).map_ok(Substream::dialer)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Pin::new(&mut self.0).poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        Pin::new(&mut self.0).poll(cx)
    }
}

/// Yamux with [`BareNames`], for every place that takes a multiplexer.
#[derive(Clone, Debug, Default)]
pub struct BareYamux(yamux::Config);

type Muxer<C> = BareNames<yamux::Muxer<C>>;
type Wrapping<F, C> = MapOk<F, fn(yamux::Muxer<C>) -> Muxer<C>>;

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
    type Future = Wrapping<<yamux::Config as InboundConnectionUpgrade<C>>::Future, C>;

    fn upgrade_inbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(socket, info).map_ok(BareNames::new)
    }
}

impl<C> OutboundConnectionUpgrade<C> for BareYamux
where
    C: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Wrapping<<yamux::Config as OutboundConnectionUpgrade<C>>::Future, C>;

    fn upgrade_outbound(self, socket: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(socket, info).map_ok(BareNames::new)
    }
}
