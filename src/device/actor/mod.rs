//! Actors that others ask: what the embedded node and the operator do alike with what comes to their root inbox or to a
//! topic. A message is judged before anything acts on it, and answered only at the continuation that it names, to the
//! peer that sent it.

pub(in crate::device) mod admission;
mod broadcast;
pub(in crate::device) mod judge;
pub(in crate::device) mod reply;
mod serve;

#[cfg(test)]
mod tests;

pub use broadcast::{BroadcastError, Broadcaster, Letter, Said};
pub use judge::Right;
pub use reply::OutboundFrame;
pub use serve::{Actor, ActorConfig, Asked, Denied, Origin, Serves};
