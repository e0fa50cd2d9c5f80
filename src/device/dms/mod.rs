//! DMS: behaviours, their requests and replies, and the ensemble codec (`dms-protocol.md` §5, §6).
//!
//! Whatever is believed about the shape of DMS's messages stands here, so that it can be corrected in one place.

mod anchors;
mod call;
mod deployment;
pub mod ensemble;
mod logs;
mod onboarding;
pub mod path;
mod peers;
mod reply;
mod spelling;
mod state;
pub mod tolerant;

#[cfg(test)]
mod tests;

pub use anchors::{AnchorRequest, Anchors, AnchorsRequest, RevokeBroadcastReply, TokenList};
pub use call::{
    CHANGE_WINDOW, READ_WINDOW,
    deployment::{
        MAX_PAGES, PAGE, UPDATE_WINDOW, deployment_delete, deployment_info, deployment_list, deployment_list_all,
        deployment_manifest, deployment_new_reply, deployment_new_request, deployment_prune, deployment_shutdown,
        deployment_status, deployment_status_reply, deployment_status_request, deployment_update,
    },
    logs::{
        LogBounds, LogRead, LogSource, allocation_log, deployment_logs, deployment_logs_start, deployment_logs_status,
        deployment_logs_stop,
    },
    node::{
        onboarding_status, peers_connect, peers_dht, peers_list, peers_ping, peers_score, peers_self,
        resources_allocated, resources_free, resources_onboarded,
    },
};
pub use deployment::{
    AllocationDetail, AllocationLogs, DeleteRequest, DeploymentId, Ensembles, InfoReply, InfoRequest, ListQuery,
    NewRequest, PruneRequest, StatusRequest, UpdateRequest,
};
pub use logs::{
    Base64, ChunkReply, ChunkRequest, LARGEST_CHUNK, LogsJobReply, LogsJobRequest, LogsJobState, LogsReply,
    LogsRequest, Stream,
};
pub use onboarding::{OnboardReply, OnboardRequest, OnboardingConfig};
pub use peers::{
    ConnectReply, ConnectRequest, DidText, Hello, Interface, NodeNetwork, NodeStatus, NodeStatuses, Nothing, PeersDht,
    PeersList, PeersScore, PingReply, PingRequest, PublicStatus, ResourceSummary,
};
pub use reply::{
    AllocationInfo, Cpu, ListEntry, ListPage, Manifest, ManifestAllocation, ManifestNode, ManifestReply, NewReply,
    NewStatus, OnboardingReply, Outcome, PeersSelf, ResourceUsage, Resources, ResourcesReply, Size, StatusReply,
};
pub use spelling::spelling_of_status;
pub use state::{DeploymentState, ToldState};
