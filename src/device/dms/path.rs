//! The paths of the behaviours this project knows. On DMS a behaviour's path is also the capability it needs.

use crate::capability::Capability;

macro_rules! paths {
    ($($(#[doc = $doc:literal])+ $name:ident = $path:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $path;)+

        /// Every path that is fixed; that of [`allocation_logs`] is not.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

paths! {
    /// The node tells its peer ID and addresses.
    PEERS_SELF = "/dms/node/peers/self";
    /// The peers that the node is connected to.
    PEERS_LIST = "/dms/node/peers/list";
    /// The node pings another one.
    PEERS_PING = "/dms/node/peers/ping";
    /// The node connects to an address.
    PEERS_CONNECT = "/dms/node/peers/connect";
    /// The peers in the node's routing table.
    PEERS_DHT = "/dms/node/peers/dht";
    /// How the node's gossip rates its peers.
    PEERS_SCORE = "/dms/node/peers/score";
    /// Takes an ensemble and starts to deploy it.
    DEPLOYMENT_NEW = "/dms/node/deployment/new";
    /// Replaces the ensemble of a running deployment.
    DEPLOYMENT_UPDATE = "/dms/node/deployment/update";
    /// State of one deployment.
    DEPLOYMENT_STATUS = "/dms/node/deployment/status";
    /// Manifest of one deployment: allocations, ports, metadata.
    DEPLOYMENT_MANIFEST = "/dms/node/deployment/manifest";
    /// State, manifest and, if asked for, usage and logs of one deployment.
    DEPLOYMENT_INFO = "/dms/node/deployment/info";
    /// The deployments a node knows, by pages.
    DEPLOYMENT_LIST = "/dms/node/deployment/list";
    /// Writes the logs of an allocation to the disk of the node.
    DEPLOYMENT_LOGS = "/dms/node/deployment/logs";
    /// Begins to write them there.
    DEPLOYMENT_LOGS_ASYNC = "/dms/node/deployment/logs/async";
    /// How far that has come.
    DEPLOYMENT_LOGS_ASYNC_STATUS = "/dms/node/deployment/logs/async/status";
    /// Ends it.
    DEPLOYMENT_LOGS_ASYNC_STOP = "/dms/node/deployment/logs/async/stop";
    /// Stops one running deployment.
    DEPLOYMENT_SHUTDOWN = "/dms/node/deployment/shutdown";
    /// Removes the records of deployments that are over.
    DEPLOYMENT_PRUNE = "/dms/node/deployment/prune";
    /// Removes the record of one deployment; it stops nothing.
    DEPLOYMENT_DELETE = "/dms/node/deployment/delete";
    /// What is left to give away.
    RESOURCES_FREE = "/dms/node/resources/free";
    /// What has been given to deployments.
    RESOURCES_ALLOCATED = "/dms/node/resources/allocated";
    /// What the node offers.
    RESOURCES_ONBOARDED = "/dms/node/resources/onboarded";
    /// What the machine has.
    HARDWARE_SPEC = "/dms/node/hardware/spec";
    /// What of it is in use.
    HARDWARE_USAGE = "/dms/node/hardware/usage";
    /// Whether the node offers its resources at all.
    ONBOARDING_STATUS = "/dms/node/onboarding/status";
    /// The node begins to offer resources.
    ONBOARDING_ONBOARD = "/dms/node/onboarding/onboard";
    /// The node offers nothing any more.
    ONBOARDING_OFFBOARD = "/dms/node/onboarding/offboard";
    /// What the node tells of itself to those who look for one.
    NODE_STATUS = "/dms/node/status";
    /// The same, asked of everybody.
    BROADCAST_STATUS = "/broadcast/dms/status";
    /// The node tells its DID.
    PUBLIC_HELLO = "/public/hello";
    /// The same, asked of everybody.
    BROADCAST_HELLO = "/broadcast/hello";
    /// Whether the node is well, and what it has.
    PUBLIC_STATUS = "/public/status";
    /// Whom the node trusts.
    CAP_LIST = "/dms/cap/list";
    /// Adds delegations that let others call the node.
    CAP_REQUIRE = "/dms/cap/require/anchor";
    /// Adds delegations that the node may present to others.
    CAP_PROVIDE = "/dms/cap/provide/anchor";
    /// Adds revocations.
    CAP_REVOKE = "/dms/cap/revoke/anchor";
    /// Tells everybody of revocations.
    CAP_REVOKE_BROADCAST = "/dms/cap/revoke/broadcast";
    /// Whether an actor is alive.
    HEALTHCHECK = "/dms/actor/healthcheck";
}

/// Capabilities that the owner of a device grants to the operator. Whatever the operator asks by itself lies below one
/// of them; a device is silent about anything else.
pub const GRANTED: [&str; 5] =
    ["/dms/node/deployment", "/dms/node/peers", "/dms/node/resources", ONBOARDING_STATUS, "/dms/ensemble"];

/// Without these, the operator can do nothing with a device.
const NEEDED: [&str; 7] = [
    PEERS_SELF,
    DEPLOYMENT_NEW,
    DEPLOYMENT_LIST,
    DEPLOYMENT_STATUS,
    DEPLOYMENT_MANIFEST,
    DEPLOYMENT_SHUTDOWN,
    DEPLOYMENT_DELETE,
];

/// Whether a behaviour may be asked by these capabilities.
#[must_use]
pub fn allows(given: &[Capability], behaviour: &str) -> bool {
    let wanted = Capability::parse(behaviour);
    wanted.is_ok_and(|wanted| given.iter().any(|given| given.implies(&wanted)))
}

/// What these capabilities lack of what the operator cannot do without.
#[must_use]
pub fn lacking(given: &[Capability]) -> Vec<&'static str> {
    NEEDED.into_iter().filter(|behaviour| !allows(given, behaviour)).collect()
}

/// The inbox of a node's root actor.
pub const ROOT_INBOX: &str = "root";

/// Topic of [`BROADCAST_HELLO`].
pub const TOPIC_HELLO: &str = "/nunet/hello";
/// Topic of [`BROADCAST_STATUS`].
pub const TOPIC_STATUS: &str = "/nunet/status";
/// Topic of [`CAP_REVOKE_BROADCAST`].
pub const TOPIC_REVOCATION: &str = "/nunet/revocation";

const ENSEMBLE: &str = "/dms/ensemble/";
const ALLOCATION_LOGS: &str = "/allocation/logs";

/// What the allocations of one deployment print; the node that runs them answers.
#[must_use]
pub fn allocation_logs(deployment: &str) -> String {
    format!("{ENSEMBLE}{deployment}{ALLOCATION_LOGS}")
}

/// The deployment that a path of [`allocation_logs`] names.
#[must_use]
pub fn deployment_of_logs(path: &str) -> Option<&str> {
    let id = path.strip_prefix(ENSEMBLE)?.strip_suffix(ALLOCATION_LOGS)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}
