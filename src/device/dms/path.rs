//! The paths of the behaviours this project uses. On DMS a behaviour's path is also the capability it needs.

/// The node tells its peer ID and addresses.
pub const PEERS_SELF: &str = "/dms/node/peers/self";
/// Takes an ensemble and starts to deploy it.
pub const DEPLOYMENT_NEW: &str = "/dms/node/deployment/new";
/// State of one deployment.
pub const DEPLOYMENT_STATUS: &str = "/dms/node/deployment/status";
/// Manifest of one deployment: allocations, ports, metadata.
pub const DEPLOYMENT_MANIFEST: &str = "/dms/node/deployment/manifest";
/// The deployments a node knows, by pages.
pub const DEPLOYMENT_LIST: &str = "/dms/node/deployment/list";
/// Stops one running deployment.
pub const DEPLOYMENT_SHUTDOWN: &str = "/dms/node/deployment/shutdown";
/// Removes the record of one deployment; it stops nothing.
pub const DEPLOYMENT_DELETE: &str = "/dms/node/deployment/delete";
/// What is left to give away.
pub const RESOURCES_FREE: &str = "/dms/node/resources/free";
/// Whether the node offers its resources at all.
pub const ONBOARDING_STATUS: &str = "/dms/node/onboarding/status";

/// The inbox of a node's root actor.
pub const ROOT_INBOX: &str = "root";

/// The topic on which nodes greet each other.
pub const TOPIC_HELLO: &str = "/nunet/hello";
/// The topic on which nodes are asked how they are.
pub const TOPIC_STATUS: &str = "/nunet/status";
/// The topic on which revocations are broadcast.
pub const TOPIC_REVOCATION: &str = "/nunet/revocation";
