//! The behaviours this node serves, with the answers and the oddities of DMS (`dms-protocol.md` §5).
//!
//! A behaviour that is not here is dropped, as a DMS drops what it does not know: whatever belongs to bidding
//! (`/dms/deployment/*`), to orchestrating other nodes and their allocations, to subnets, volumes and contracts, since a
//! node that runs child processes for itself has none of them; `peers/dht` and `score`, since it keeps no routing table and
//! tells nobody how it rates them. `deployment/update` is answered, and refused: a child process is not replaced without a
//! gap.
//!
//! What DMS leaves open is decided so: `peers/ping` tells of the last ping, which goes out by itself every ten seconds, and
//! never dials; `peers/connect` keeps dialling nobody whom it could not reach. `cap/revoke/broadcast` over the inbox tells of
//! all revocations of the node's context that are still in force, in as many broadcasts as it takes, and of none is done
//! at once. A chunk of a log that ends before the byte asked for is read from its first byte on, with its `offset` to tell;
//! a job that follows such a log goes on with that byte, and says so in its `Error` while its `Status` stays what it is.

mod about;
mod anchors;
mod deployments;
mod listing;
mod logs;
mod onboarding;
mod peers;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Served,
    faults::{Fate, Kind},
    trust::Addition,
};
use crate::device::{
    actor::judge,
    dms::{ListPage, Outcome, path, tolerant},
    libp2p::Via,
};

/// What this node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// To take a deployment.
    New,
    /// To tell what an allocation printed.
    AllocationLogs,
    /// What is asked about deployments.
    Deployment(OfDeployments),
    /// What is asked of the node itself.
    Node(OfNode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfDeployments {
    Update,
    Status,
    Manifest,
    Info,
    List,
    Logs,
    LogsAsync,
    LogsAsyncStatus,
    LogsAsyncStop,
    Shutdown,
    Prune,
    Delete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfNode {
    PeersSelf,
    PeersList,
    Ping,
    Connect,
    Free,
    Allocated,
    Onboarded,
    HardwareSpec,
    HardwareUsage,
    OnboardingStatus,
    Onboard,
    Offboard,
    Status,
    Hello,
    PublicStatus,
    Anchors,
    Require,
    Provide,
    Revoke,
    TellOfRevocations,
    HearOfRevocations,
    Healthcheck,
}

/// Asked of this node.
const ROOT: [(&str, Behaviour); 34] = [
    (path::DEPLOYMENT_NEW, Behaviour::New),
    (path::DEPLOYMENT_UPDATE, Behaviour::Deployment(OfDeployments::Update)),
    (path::DEPLOYMENT_STATUS, Behaviour::Deployment(OfDeployments::Status)),
    (path::DEPLOYMENT_MANIFEST, Behaviour::Deployment(OfDeployments::Manifest)),
    (path::DEPLOYMENT_INFO, Behaviour::Deployment(OfDeployments::Info)),
    (path::DEPLOYMENT_LIST, Behaviour::Deployment(OfDeployments::List)),
    (path::DEPLOYMENT_LOGS, Behaviour::Deployment(OfDeployments::Logs)),
    (path::DEPLOYMENT_LOGS_ASYNC, Behaviour::Deployment(OfDeployments::LogsAsync)),
    (path::DEPLOYMENT_LOGS_ASYNC_STATUS, Behaviour::Deployment(OfDeployments::LogsAsyncStatus)),
    (path::DEPLOYMENT_LOGS_ASYNC_STOP, Behaviour::Deployment(OfDeployments::LogsAsyncStop)),
    (path::DEPLOYMENT_SHUTDOWN, Behaviour::Deployment(OfDeployments::Shutdown)),
    (path::DEPLOYMENT_PRUNE, Behaviour::Deployment(OfDeployments::Prune)),
    (path::DEPLOYMENT_DELETE, Behaviour::Deployment(OfDeployments::Delete)),
    (path::PEERS_SELF, Behaviour::Node(OfNode::PeersSelf)),
    (path::PEERS_LIST, Behaviour::Node(OfNode::PeersList)),
    (path::PEERS_PING, Behaviour::Node(OfNode::Ping)),
    (path::PEERS_CONNECT, Behaviour::Node(OfNode::Connect)),
    (path::RESOURCES_FREE, Behaviour::Node(OfNode::Free)),
    (path::RESOURCES_ALLOCATED, Behaviour::Node(OfNode::Allocated)),
    (path::RESOURCES_ONBOARDED, Behaviour::Node(OfNode::Onboarded)),
    (path::HARDWARE_SPEC, Behaviour::Node(OfNode::HardwareSpec)),
    (path::HARDWARE_USAGE, Behaviour::Node(OfNode::HardwareUsage)),
    (path::ONBOARDING_STATUS, Behaviour::Node(OfNode::OnboardingStatus)),
    (path::ONBOARDING_ONBOARD, Behaviour::Node(OfNode::Onboard)),
    (path::ONBOARDING_OFFBOARD, Behaviour::Node(OfNode::Offboard)),
    (path::NODE_STATUS, Behaviour::Node(OfNode::Status)),
    (path::PUBLIC_HELLO, Behaviour::Node(OfNode::Hello)),
    (path::PUBLIC_STATUS, Behaviour::Node(OfNode::PublicStatus)),
    (path::CAP_LIST, Behaviour::Node(OfNode::Anchors)),
    (path::CAP_REQUIRE, Behaviour::Node(OfNode::Require)),
    (path::CAP_PROVIDE, Behaviour::Node(OfNode::Provide)),
    (path::CAP_REVOKE, Behaviour::Node(OfNode::Revoke)),
    (path::CAP_REVOKE_BROADCAST, Behaviour::Node(OfNode::TellOfRevocations)),
    (path::HEALTHCHECK, Behaviour::Node(OfNode::Healthcheck)),
];

/// Asked of everybody who listens to a topic.
const TOPICS: [(&str, &str, OfNode); 3] = [
    (path::TOPIC_HELLO, path::BROADCAST_HELLO, OfNode::Hello),
    (path::TOPIC_STATUS, path::BROADCAST_STATUS, OfNode::Status),
    (path::TOPIC_REVOCATION, path::CAP_REVOKE_BROADCAST, OfNode::HearOfRevocations),
];

/// A message to this node that may be acted on.
pub(super) type Judged = judge::Judged<Behaviour>;

impl Behaviour {
    /// What is served under this path for what came this way.
    pub(super) fn of(via: &Via, path: &str) -> Option<Self> {
        match via {
            Via::Inbox(_) => Self::of_root(path),
            Via::Topic(topic) => Self::of_topic(topic, path),
        }
    }

    /// What the root actor serves under this path.
    fn of_root(path: &str) -> Option<Self> {
        if path::deployment_of_logs(path).is_some() {
            return Some(Self::AllocationLogs);
        }
        ROOT.iter().find(|(own, _)| *own == path).map(|(_, behaviour)| *behaviour)
    }

    /// What is served under this path when it is told on this topic, and in no other way.
    fn of_topic(topic: &str, path: &str) -> Option<Self> {
        let found = TOPICS.iter().find(|(own_topic, own, _)| *own_topic == topic && *own == path);
        found.map(|(_, _, behaviour)| Self::Node(*behaviour))
    }
}

/// What comes of a message.
pub(super) enum Answer {
    /// This payload goes back.
    Reply(Value),
    /// This payload goes back, then the work on this deployment begins.
    Took(Value, String),
    /// Nothing, for this reason.
    Dropped(&'static str),
}

impl Served {
    /// Acts on a message and says what to answer.
    pub(super) async fn answer(&self, judged: &Judged, fate: &Fate) -> Answer {
        match judged.behaviour {
            Behaviour::New => self.new_deployment(judged).await,
            Behaviour::AllocationLogs => self.allocation_logs(judged).await,
            Behaviour::Deployment(behaviour) => Answer::Reply(self.of_deployments(behaviour, judged, fate).await),
            Behaviour::Node(behaviour) => Answer::Reply(self.of_node(behaviour, judged).await),
        }
    }

    async fn of_deployments(&self, behaviour: OfDeployments, judged: &Judged, fate: &Fate) -> Value {
        let message = judged.envelope.message.as_slice();
        match behaviour {
            OfDeployments::Update => outcome(self.update(judged).await),
            OfDeployments::Status => json!(self.status(message).await),
            OfDeployments::Manifest => json!(self.manifest(message).await),
            OfDeployments::Info => json!(self.info(judged).await),
            OfDeployments::List if fate.is(Kind::ListEmpty) => {
                json!(ListPage { total: Some(0), ..ListPage::default() })
            }
            OfDeployments::List => json!(self.list(message, fate.is(Kind::ListFilteredEmpty)).await),
            OfDeployments::Logs => json!(self.logs(judged).await),
            OfDeployments::LogsAsync => json!(self.begin_logs(judged).await),
            OfDeployments::LogsAsyncStatus => json!(self.logs_begun(judged).await),
            OfDeployments::LogsAsyncStop => json!(self.end_logs(judged).await),
            OfDeployments::Shutdown => outcome(self.shutdown(message).await),
            OfDeployments::Prune => lower_case(self.prune(message).await),
            OfDeployments::Delete => lower_case(self.delete(message).await),
        }
    }

    async fn of_node(&self, behaviour: OfNode, judged: &Judged) -> Value {
        let message = judged.envelope.message.as_slice();
        match behaviour {
            OfNode::PeersSelf => json!(self.about()),
            OfNode::PeersList => json!(self.peers()),
            OfNode::Ping => json!(self.ping(message).await),
            OfNode::Connect => json!(self.connect(message).await),
            OfNode::Free => json!(self.free().await),
            OfNode::Allocated => json!(self.allocated().await),
            OfNode::Onboarded => json!(self.onboarded()),
            OfNode::HardwareSpec => json!(self.machine()),
            OfNode::HardwareUsage => json!(self.used_by_children()),
            OfNode::OnboardingStatus => json!(self.onboarding_status()),
            OfNode::Onboard => json!(self.onboard(message).await),
            OfNode::Offboard => json!(self.offboard().await),
            OfNode::Status => json!(self.node_status().await),
            OfNode::Hello => json!(self.hello()),
            OfNode::PublicStatus => json!(self.public_status()),
            OfNode::Anchors => json!(self.anchors()),
            OfNode::Require => outcome(self.add_anchors(message, Addition::Require).await),
            OfNode::Provide => outcome(self.add_anchors(message, Addition::Provide).await),
            OfNode::Revoke => outcome(self.add_anchors(message, Addition::Revoke).await),
            OfNode::TellOfRevocations => json!(self.tell_of_revocations(message).await),
            OfNode::HearOfRevocations => json!(self.hear_of_revocations(message).await),
            OfNode::Healthcheck => outcome(Ok(())),
        }
    }
}

fn outcome(done: Result<(), String>) -> Value {
    let error = done.err().unwrap_or_default();
    json!(Outcome { ok: error.is_empty(), error })
}

/// The same as `deployment/delete` and `prune` spell it.
fn lower_case(done: Result<(), String>) -> Value {
    let error = done.err().unwrap_or_default();
    json!({"ok": error.is_empty(), "error": error})
}

/// Reads a payload; none at all is an empty one.
fn request<T: DeserializeOwned>(message: &[u8]) -> Result<T, String> {
    let payload = if message.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(message) };
    payload.and_then(tolerant::decode).map_err(|error| error.to_string())
}
