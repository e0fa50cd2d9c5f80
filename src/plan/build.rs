//! What is to run on a device, before it takes DMS's wire form (`device::dms::ensemble` encodes it).

use std::{collections::BTreeMap, fmt};

/// One deployment pinned to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleSpec {
    /// Peer ID of the device that it is pinned to.
    pub peer: String,
    /// What runs there; names are unique.
    pub allocations: Vec<AllocationSpec>,
    /// Marks by which it is known as ours.
    pub metadata: BTreeMap<String, String>,
}

/// One container.
#[derive(Clone, PartialEq, Eq)]
pub struct AllocationSpec {
    /// DNS label, unique in the ensemble.
    pub name: String,
    /// Image with digest, `name@sha256:…`.
    pub image: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// CPU, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Disk, in bytes.
    pub disk_bytes: u64,
    /// Ports reachable from outside.
    pub ports: Vec<PortSpec>,
}

impl fmt::Debug for AllocationSpec {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AllocationSpec({} {} {:?})", self.name, self.image, self.args)
    }
}

/// A port of a container made public on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// Public port; 0 lets the device choose.
    pub public: u16,
    /// Port inside the container.
    pub private: u16,
}

/// Environment of the site server that is made anew for each attempt, and so is no part of the ensemble's digest.
pub const ATTEMPT_ENVIRONMENT: [&str; 2] = [SITE_SEED, SITE_GRANT];
/// All that a site server is told by its environment.
pub const SITE_ENVIRONMENT: [&str; 4] = [OPERATOR_URL, PROVIDER_DID, SITE_SEED, SITE_GRANT];
/// The command of the operator's image that serves a site.
pub const SITE_COMMAND: &str = "site";
/// Seed of the site's key, 64 hex digits.
pub const SITE_SEED: &str = "HOSTING_SITE_SEED";
/// The `read` delegation to the site's key, a token as JSON.
pub const SITE_GRANT: &str = "HOSTING_SITE_GRANT";
/// Where the site asks for what to serve.
pub const OPERATOR_URL: &str = "HOSTING_OPERATOR_URL";
/// Whom the site believes.
pub const PROVIDER_DID: &str = "HOSTING_PROVIDER_DID";
/// The port that the site server listens on inside its container.
pub const SITE_PORT: u16 = 8080;
/// What is reserved for a site server: thousandths of a core, bytes of memory, bytes of disk.
pub const SITE_RESOURCES: (u64, u64, u64) = (100, 128 << 20, 1 << 30);

/// What a site server needs to know.
pub struct SiteSpec<'a> {
    /// Namespace of the HostingDeployment.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Image with digest.
    pub image: &'a str,
    /// Where it asks the operator.
    pub operator_url: &'a str,
    /// DID of the provider.
    pub provider: &'a str,
    /// Seed of its key, 64 hex digits.
    pub seed: &'a str,
    /// Its `read` delegation.
    pub grant: &'a str,
    /// Peer ID of the device.
    pub peer: &'a str,
}

/// The ensemble of a site server, without metadata.
#[must_use]
pub fn site(spec: &SiteSpec<'_>) -> EnsembleSpec {
    let SiteSpec { namespace, name, image, operator_url, provider, seed, grant, peer } = spec;
    let (cpu_millis, memory_bytes, disk_bytes) = SITE_RESOURCES;
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    EnsembleSpec {
        peer: (*peer).to_owned(),
        allocations: vec![AllocationSpec {
            name: "site".to_owned(),
            image: (*image).to_owned(),
            args: vec![SITE_COMMAND.to_owned(), "--deployment".to_owned(), format!("{namespace}/{name}")],
            env: vec![
                variable(OPERATOR_URL, operator_url),
                variable(PROVIDER_DID, provider),
                variable(SITE_SEED, seed),
                variable(SITE_GRANT, grant),
            ],
            cpu_millis,
            memory_bytes,
            disk_bytes,
            ports: vec![PortSpec { public: 0, private: SITE_PORT }],
        }],
        metadata: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let (seed, grant) = ("seed of the site", "token of the site");
        let spec = site(&SiteSpec {
            namespace: "shop",
            name: "web",
            image: "own@sha256:aa",
            operator_url: "https://sites.example.org",
            provider: "did:key:z",
            seed,
            grant,
            peer: "12D3KooW",
        });
        let printed = format!("{spec:?}");
        assert!(printed.contains("shop/web") && !printed.contains(seed) && !printed.contains(grant), "{printed}");
    }
}
