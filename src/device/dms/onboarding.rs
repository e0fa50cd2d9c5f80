//! A node offers its resources, or stops to (`dms-protocol.md` §5.1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Resources;

/// Request of `onboarding/onboard`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnboardRequest {
    /// Whether to leave GPUs out.
    #[serde(rename = "NoGPU")]
    pub no_gpu: bool,
    /// Which GPUs to offer; what stands there is DMS's own affair.
    #[serde(rename = "GPUs", skip_serializing_if = "Value::is_null")]
    pub gpus: Value,
    /// What to offer.
    #[serde(rename = "Config")]
    pub config: OnboardingConfig,
}

/// What a node offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnboardingConfig {
    /// Resources.
    #[serde(rename = "onboarded_resources")]
    pub resources: Resources,
}

/// Reply of `onboarding/onboard` and, without `config`, of `onboarding/offboard`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OnboardReply {
    /// Whether it was done.
    pub success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What is offered now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<OnboardingConfig>,
}
