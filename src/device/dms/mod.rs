//! DMS: behaviours, their requests and replies, and the ensemble codec (`dms-protocol.md` §5, §6).
//!
//! Whatever is believed about the shape of DMS's messages stands here, so that it can be corrected in one place.

mod call;
pub mod ensemble;
pub mod path;
mod reply;
mod spelling;
mod state;
pub mod tolerant;

#[cfg(test)]
mod tests;

pub use call::{
    CHANGE_WINDOW, ListQuery, MAX_PAGES, PAGE, READ_WINDOW, deployment_delete, deployment_list, deployment_list_all,
    deployment_manifest, deployment_new_reply, deployment_new_request, deployment_shutdown, deployment_status,
    deployment_status_reply, deployment_status_request, onboarding_status, peers_self, resources_free,
};
pub use reply::{
    AllocationInfo, Cpu, ListEntry, ListPage, Manifest, ManifestAllocation, ManifestNode, ManifestReply, NewReply,
    NewStatus, OnboardingReply, Outcome, PeersSelf, ResourceUsage, Resources, ResourcesReply, Size, StatusReply,
};
pub use spelling::Spelling;
pub use state::DeploymentState;
