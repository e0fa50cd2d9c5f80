//! Turns: how many passes over HostingDeployments do something at a time.
//!
//! What a pass does by itself takes a turn of all; while it waits for the store or a device it only holds a turn of these. So
//! a device that is slow to answer holds up the passes over what runs there, and no others; and a store that is slow holds up
//! no verdict.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The turns of one operator.
#[derive(Debug)]
pub struct Lanes {
    width: usize,
    own: Arc<Semaphore>,
    publishing: Arc<Semaphore>,
    devices: Mutex<HashMap<String, Arc<Semaphore>>>,
    closed: CancellationToken,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn(#[allow(dead_code)] OwnedSemaphorePermit);

impl Lanes {
    /// So many turns at a time, and as many for each device.
    #[must_use]
    pub fn new(width: u16) -> Self {
        let width = usize::from(width);
        Self {
            width,
            own: Arc::new(Semaphore::new(width)),
            publishing: Arc::new(Semaphore::new(width)),
            devices: Mutex::default(),
            closed: CancellationToken::new(),
        }
    }

    /// A turn for work that needs no device; `None` once the operator stops.
    pub async fn own(&self) -> Option<Turn> {
        Arc::clone(&self.own).acquire_owned().await.ok().map(Turn)
    }

    /// A turn for work at the store; `None` once the operator stops.
    pub async fn publishing(&self) -> Option<Turn> {
        Arc::clone(&self.publishing).acquire_owned().await.ok().map(Turn)
    }

    /// A turn at a device; `None` once the operator stops.
    pub async fn at(&self, device: &str) -> Option<Turn> {
        let lane = self.lane(device)?;
        lane.acquire_owned().await.ok().map(Turn)
    }

    /// Waits until the operator stops.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Ends all waiting: nobody gets a turn any more.
    pub fn close(&self) {
        self.closed.cancel();
        self.own.close();
        self.publishing.close();
        for lane in self.devices.lock().unwrap_or_else(PoisonError::into_inner).values() {
            lane.close();
        }
    }

    fn lane(&self, device: &str) -> Option<Arc<Semaphore>> {
        let mut devices = self.devices.lock().unwrap_or_else(PoisonError::into_inner);
        if self.own.is_closed() {
            return None;
        }
        // Lanes nobody is in are made again when they are needed.
        devices.retain(|name, lane| name == device || lane.available_permits() < self.width);
        Some(Arc::clone(devices.entry(device.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.width)))))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_device_whose_turns_are_taken_holds_up_no_other() {
        let lanes = Lanes::new(2);
        let slow = [lanes.at("slow").await.unwrap(), lanes.at("slow").await.unwrap()];
        let mut third = Box::pin(lanes.at("slow"));
        assert!((&mut third).now_or_never().is_none(), "a third at once");
        for _ in 0..5 {
            assert!(lanes.at("quick").now_or_never().is_some_and(|turn| turn.is_some()));
            assert!(lanes.own().now_or_never().is_some_and(|turn| turn.is_some()));
        }
        drop(slow);
        assert!(third.now_or_never().is_some_and(|turn| turn.is_some()), "the turn that became free");
    }

    #[tokio::test]
    async fn who_waits_is_told_that_the_operator_stops() {
        let lanes = Lanes::new(1);
        let (_own, _there) = (lanes.own().await.unwrap(), lanes.at("device").await.unwrap());
        let (mut own, mut there) = (Box::pin(lanes.own()), Box::pin(lanes.at("device")));
        assert!((&mut own).now_or_never().is_none() && (&mut there).now_or_never().is_none());
        lanes.close();
        assert!(own.await.is_none() && there.await.is_none());
        assert!(lanes.at("another").await.is_none() && lanes.own().await.is_none());
        assert!(lanes.publishing().await.is_none());
    }
}
