//! Counts what is asked of devices, and what became of it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    device::{CallError, DeviceClient, DeviceTarget, PreparedCall},
    metrics::{CallOutcome, Metrics},
};

/// A client of devices whose calls are counted.
pub struct CountedClient<C> {
    inner: C,
    metrics: Arc<Metrics>,
}

impl<C> CountedClient<C> {
    /// Counts the calls of `inner`.
    pub const fn new(inner: C, metrics: Arc<Metrics>) -> Self {
        Self { inner, metrics }
    }

    fn count<T>(&self, behaviour: &str, result: Result<T, CallError>) -> Result<T, CallError> {
        let outcome = match &result {
            Ok(_) => CallOutcome::Answered,
            Err(CallError::NotSent { .. }) => CallOutcome::NotSent,
            Err(CallError::Silent { .. }) => CallOutcome::Silent,
            Err(CallError::BadReply { .. } | CallError::Contradiction { .. }) => CallOutcome::BadReply,
            Err(CallError::NotGranted { .. }) => CallOutcome::NotGranted,
        };
        self.metrics.device_call(behaviour, outcome);
        result
    }
}

#[async_trait]
impl<C: DeviceClient> DeviceClient for CountedClient<C> {
    async fn call(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        expires_in: Duration,
    ) -> Result<Value, CallError> {
        self.count(behaviour, self.inner.call(target, behaviour, request, expires_in).await)
    }

    fn prepare(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        request: Value,
        expires_in: Duration,
    ) -> Result<PreparedCall, CallError> {
        self.inner.prepare(target, behaviour, request, expires_in)
    }

    async fn send(
        &self,
        target: &DeviceTarget,
        behaviour: &str,
        call: PreparedCall,
        wait: Duration,
    ) -> Result<Value, CallError> {
        self.count(behaviour, self.inner.send(target, behaviour, call, wait).await)
    }
}
