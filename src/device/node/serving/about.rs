//! What the node tells of itself.

use std::collections::BTreeMap;

use super::super::{Served, onboarding::Amounts};
use crate::device::dms::{
    Cpu, DidText, Hello, NodeNetwork, NodeStatus, NodeStatuses, PeersSelf, PublicStatus, ResourceSummary, Resources,
    ResourcesReply, Size,
};

impl Served {
    pub(super) fn about(&self) -> PeersSelf {
        PeersSelf { id: self.lifecycle.site.peer.clone(), listen_addr: self.addresses.join(",") }
    }

    pub(super) fn hello(&self) -> Hello {
        Hello { did: DidText::from(self.key.did()) }
    }

    pub(super) fn public_status(&self) -> PublicStatus {
        PublicStatus { status: "OK".to_owned(), resources: self.offered().to_resources() }
    }

    /// What is offered less what is given to deployments.
    pub(super) async fn free(&self) -> ResourcesReply {
        told(self.offered().less(self.lifecycle.used(None).await).to_resources())
    }

    pub(super) async fn allocated(&self) -> ResourcesReply {
        told(self.lifecycle.used(None).await.to_resources())
    }

    pub(super) fn onboarded(&self) -> ResourcesReply {
        told(self.offered().to_resources())
    }

    pub(super) fn machine(&self) -> ResourcesReply {
        told(self.lifecycle.onboarding.machine().to_resources())
    }

    /// What its children use: it knows no more of the machine than that.
    pub(super) fn used_by_children(&self) -> ResourcesReply {
        let (percent, memory) = self.lifecycle.usage();
        let cpu = Cpu { clock_speed: Amounts::HERTZ, cores: percent / 100.0 };
        // Bytes up to 2^53 are exact, and no machine has more.
        #[allow(clippy::cast_precision_loss)]
        let ram = Size { size: memory as f64 };
        told(Resources { cpu, ram, disk: Size::default() })
    }

    /// It tells neither its network interfaces nor the name of its machine: who may deploy here need not know them.
    pub(super) async fn node_status(&self) -> NodeStatuses {
        let allocated = self.lifecycle.used(None).await;
        let offered = self.offered();
        let status = NodeStatus {
            hostname: self.public_host.clone(),
            did: self.key.did().to_string(),
            network: NodeNetwork { interfaces: Vec::new(), p2p: self.about() },
            onboarded: self.lifecycle.onboarding.offered().is_some(),
            resources: ResourceSummary {
                total: self.lifecycle.onboarding.machine().to_resources(),
                onboarded: offered.to_resources(),
                allocated: allocated.to_resources(),
                free: offered.less(allocated).to_resources(),
            },
        };
        BTreeMap::from([(self.lifecycle.site.peer.clone(), status)])
    }

    /// Nothing, when the node is not onboarded.
    fn offered(&self) -> Amounts {
        self.lifecycle.onboarding.offered().unwrap_or_default()
    }
}

const fn told(resources: Resources) -> ResourcesReply {
    ResourcesReply { ok: true, resources, error: String::new() }
}
