//! The node begins to offer its resources, and stops to.

use super::{
    super::{Served, onboarding::Amounts},
    request,
};
use crate::device::dms::{OnboardReply, OnboardRequest, OnboardingConfig, OnboardingReply};

impl Served {
    pub(super) fn onboarding_status(&self) -> OnboardingReply {
        OnboardingReply { onboarded: self.lifecycle.onboarding.offered().is_some(), error: String::new() }
    }

    /// It has no GPUs to offer, so what is said of them does not matter.
    pub(super) async fn onboard(&self, message: &[u8]) -> OnboardReply {
        let failed = |error: String| OnboardReply { success: false, error, config: None };
        let OnboardRequest { no_gpu: _, gpus: _, config } = match request(message) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let wanted = Amounts::of_resources(&config.resources);
        match self.lifecycle.onboard(wanted).await {
            Ok(()) => {
                let config = Some(OnboardingConfig { resources: wanted.to_resources() });
                OnboardReply { success: true, error: String::new(), config }
            }
            Err(error) => failed(error.to_string()),
        }
    }

    pub(super) async fn offboard(&self) -> OnboardReply {
        let error = self.lifecycle.offboard().await.err().map(|error| error.to_string()).unwrap_or_default();
        OnboardReply { success: error.is_empty(), error, config: None }
    }
}
