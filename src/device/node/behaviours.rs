//! The behaviours this node serves, with the answers and the oddities of DMS (`dms-protocol.md` §5.3).

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{
    Offer, Served,
    ensemble::{self, Ensemble},
    faults::{Fate, Kind},
    judge::Judged,
    lifecycle::allocation_id,
    state::Record,
};
use crate::device::dms::{
    Cpu, DeploymentState, ListEntry, ListPage, ListQuery, Manifest, ManifestAllocation, ManifestNode, ManifestReply,
    NewReply, NewStatus, OnboardingReply, PeersSelf, Resources, ResourcesReply, Size, StatusReply, path, tolerant,
};

/// A `new` must not expire earlier than this: one minute minus one second, as in DMS.
const SHORTEST: Duration = Duration::from_secs(59);
/// The deployment must run so much before its message expires.
const MARGIN: Duration = Duration::from_secs(15);
/// Most deployments in one page of a list.
const LARGEST_PAGE: u64 = 100;

/// What this node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    PeersSelf,
    New,
    Status,
    Manifest,
    List,
    Shutdown,
    Delete,
    ResourcesFree,
    Onboarding,
}

impl Behaviour {
    const ALL: [(&'static str, Self); 9] = [
        (path::PEERS_SELF, Self::PeersSelf),
        (path::DEPLOYMENT_NEW, Self::New),
        (path::DEPLOYMENT_STATUS, Self::Status),
        (path::DEPLOYMENT_MANIFEST, Self::Manifest),
        (path::DEPLOYMENT_LIST, Self::List),
        (path::DEPLOYMENT_SHUTDOWN, Self::Shutdown),
        (path::DEPLOYMENT_DELETE, Self::Delete),
        (path::RESOURCES_FREE, Self::ResourcesFree),
        (path::ONBOARDING_STATUS, Self::Onboarding),
    ];

    pub(super) fn from_path(path: &str) -> Option<Self> {
        Self::ALL.iter().find(|(own, _)| *own == path).map(|(_, behaviour)| *behaviour)
    }
}

/// What comes of a message.
pub(super) enum Answer {
    /// This payload goes back.
    Reply(Value),
    /// This payload goes back, then the work on this deployment begins.
    Took(Value, String),
    /// Nothing: the message was taken before.
    Duplicate,
}

impl Served {
    /// Acts on a message and says what to answer.
    pub(super) async fn answer(&self, judged: &Judged, fate: &Fate) -> Answer {
        let message = judged.envelope.message.as_slice();
        Answer::Reply(match judged.behaviour {
            Behaviour::New => return self.new_deployment(judged).await,
            Behaviour::PeersSelf => {
                json!(PeersSelf { id: self.lifecycle.site.peer.clone(), listen_addr: self.addresses.join(",") })
            }
            Behaviour::Status => json!(self.status(message).await),
            Behaviour::Manifest => json!(self.manifest(message).await),
            Behaviour::List if fate.is(Kind::ListEmpty) => json!(ListPage { total: Some(0), ..ListPage::default() }),
            Behaviour::List => json!(self.list(message, fate.is(Kind::ListFilteredEmpty)).await),
            Behaviour::Shutdown => {
                let error = self.shutdown(message).await.err().unwrap_or_default();
                json!({"OK": error.is_empty(), "Error": error})
            }
            Behaviour::Delete => {
                let error = self.delete(message).await.err().unwrap_or_default();
                json!({"ok": error.is_empty(), "error": error})
            }
            Behaviour::ResourcesFree => json!(self.free().await),
            Behaviour::Onboarding => json!(OnboardingReply { onboarded: true, error: String::new() }),
        })
    }

    async fn new_deployment(&self, judged: &Judged) -> Answer {
        let Judged { envelope, sender, behaviour: _ } = judged;
        if self.lifecycle.store.has_seen(sender, envelope.nonce).await {
            return Answer::Duplicate;
        }
        let refuse = |error: String| {
            Answer::Reply(json!(NewReply { status: NewStatus::Error, ensemble_id: String::new(), error }))
        };
        let now = self.lifecycle.now();
        if envelope.expires.since(now) < SHORTEST {
            return refuse("requested deployment time too short".to_owned());
        }
        let (raw, Ensemble { metadata, .. }) = match ensemble::read_request(&envelope.message) {
            Ok(read) => read,
            Err(error) => return refuse(error),
        };
        let id = self.fresh_id();
        let record = Record {
            id: id.clone(),
            state: DeploymentState::Preparing,
            created_at: now,
            updated_at: now,
            deadline: envelope.expires.minus(MARGIN),
            owner: sender.clone(),
            metadata,
            ensemble: raw,
            allocations: BTreeMap::new(),
        };
        match self.lifecycle.store.take(record, envelope.nonce, envelope.expires).await {
            Ok(true) => {
                tracing::info!(deployment = id, owner = %sender, "a deployment was taken");
                let reply = NewReply { status: NewStatus::Ok, ensemble_id: id.clone(), error: String::new() };
                Answer::Took(json!(reply), id)
            }
            Ok(false) => Answer::Duplicate,
            Err(error) => {
                tracing::error!(%error, "a deployment could not be kept");
                refuse(error.to_string())
            }
        }
    }

    fn fresh_id(&self) -> String {
        let text = format!("{}{}", self.lifecycle.site.peer, uuid::Uuid::new_v4());
        hex::encode(Sha256::digest(text))
    }

    async fn status(&self, message: &[u8]) -> StatusReply {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Request {
            id: String,
            include_usage: bool,
        }
        let failed = |error: String| StatusReply { error, ..StatusReply::default() };
        let Request { id, include_usage } = match request(message) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let Some(record) = self.lifecycle.store.get(&id).await else { return failed(unknown(&id)) };
        let allocations = match record.state {
            DeploymentState::Running => self.lifecycle.allocations_of(&record, include_usage),
            _ => BTreeMap::new(),
        };
        StatusReply { state: Some(record.state), error: String::new(), allocations }
    }

    async fn manifest(&self, message: &[u8]) -> ManifestReply {
        let found = async {
            let id = request::<ById>(message)?.id;
            let record = self.lifecycle.store.get(&id).await.ok_or_else(|| unknown(&id))?;
            let ensemble = ensemble::read(&record.ensemble)?;
            Ok(self.manifest_of(&record, ensemble))
        };
        match found.await {
            Ok(manifest) => ManifestReply { manifest: Some(manifest), error: String::new() },
            Err(error) => ManifestReply { manifest: None, error },
        }
    }

    fn manifest_of(&self, record: &Record, ensemble: Ensemble) -> Manifest {
        let infos = self.lifecycle.allocations_of(record, false);
        let Ensemble { allocations: wanted, nodes, metadata, .. } = ensemble;
        let mut allocations = BTreeMap::new();
        for (key, given) in &record.allocations {
            let id = allocation_id(&record.id, key);
            let (node_id, name) = key.split_once('.').unwrap_or(("", key));
            let asked = wanted.get(name);
            let allocation = ManifestAllocation {
                node_id: node_id.to_owned(),
                kind: asked.map(|asked| asked.kind.clone()).unwrap_or_default(),
                dns_name: asked.map(|asked| asked.dns_name.clone()).unwrap_or_default(),
                ports: given.ports.clone(),
                status: infos.get(&id).map(|info| info.status.clone()).unwrap_or_default(),
                id,
            };
            allocations.insert(key.clone(), allocation);
        }
        let nodes = nodes
            .into_iter()
            .map(|(name, node)| {
                let node = ManifestNode {
                    id: name.clone(),
                    peer: self.lifecycle.site.peer.clone(),
                    pub_address: vec![self.public_host.clone()],
                    allocations: node.allocations,
                };
                (name, node)
            })
            .collect();
        Manifest { id: record.id.clone(), metadata, allocations, nodes }
    }

    /// As DMS does it: pages are cut first and filtered by metadata then, and an error is an empty list.
    async fn list(&self, message: &[u8], filtered_empty: bool) -> ListPage {
        let empty = ListPage { total: Some(0), ..ListPage::default() };
        let Ok(query) = request::<ListQuery>(message) else { return empty };
        let ListQuery { metadata, limit, offset, .. } = &query;
        if filtered_empty && !metadata.is_empty() {
            return empty;
        }
        let mut records = self.lifecycle.store.all().await;
        records.retain(|record| is_asked_for(record, &query));
        let count = u64::try_from(records.len()).unwrap_or(u64::MAX);
        let offset = offset.unwrap_or(0).min(count);
        let limit = limit.filter(|limit| (1..=LARGEST_PAGE).contains(limit)).unwrap_or(LARGEST_PAGE);
        let end = offset.saturating_add(limit).min(count);
        let range = usize::try_from(offset).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let deployments: Vec<ListEntry> = records
            .drain(range)
            .filter(|record| metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value)))
            .map(entry)
            .collect();
        let hits = u64::try_from(deployments.len()).unwrap_or(u64::MAX);
        ListPage {
            deployments,
            total: Some(if metadata.is_empty() { count } else { hits }),
            has_more: end < count,
            next_offset: (end < count).then_some(end),
        }
    }

    async fn shutdown(&self, message: &[u8]) -> Result<(), String> {
        let id = request::<ById>(message)?.id;
        self.lifecycle.shutdown(&id).await.map_err(|error| error.to_string())
    }

    /// Stricter than DMS, which removes the record of what still runs.
    async fn delete(&self, message: &[u8]) -> Result<(), String> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Request {
            orchestrator_id: String,
        }
        let id = request::<Request>(message)?.orchestrator_id;
        match self.lifecycle.store.remove(&id, |record| record.state.is_over()).await {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Err("deployment is still active: shut it down first".to_owned()),
            Ok(None) => return Err(unknown(&id)),
            Err(error) => return Err(error.to_string()),
        }
        let directory = self.lifecycle.directory_of(&id);
        if let Err(error) = tokio::fs::remove_dir_all(&directory).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, directory = %directory.display(), "output of a deployment was left behind");
        }
        Ok(())
    }

    /// What is offered less what living deployments ask for. It is told, not enforced: children share the machine.
    async fn free(&self) -> ResourcesReply {
        let Offer { cores, memory_bytes, disk_bytes } = self.offer;
        let mut resources = Resources {
            cpu: Cpu { clock_speed: HERTZ, cores },
            ram: Size { size: memory_bytes },
            disk: Size { size: disk_bytes },
        };
        let records = self.lifecycle.store.all().await;
        for record in records.iter().filter(|record| !record.state.is_over()) {
            let Ok(ensemble) = ensemble::read(&record.ensemble) else { continue };
            for allocation in ensemble.allocations.into_values() {
                let ensemble::Demand { cpu, ram, disk, .. } = allocation.resources;
                resources.cpu.cores = (resources.cpu.cores - cpu.cores * cpu.clock_speed / HERTZ).max(0.0);
                resources.ram.size = (resources.ram.size - ram.size).max(0.0);
                resources.disk.size = (resources.disk.size - disk.size).max(0.0);
            }
        }
        ResourcesReply { ok: true, resources, error: String::new() }
    }
}

/// The clock in which cores are offered.
const HERTZ: f64 = 1e9;

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct ById {
    id: String,
}

/// Reads a payload; none at all is an empty one.
fn request<T: DeserializeOwned>(message: &[u8]) -> Result<T, String> {
    let payload = if message.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(message) };
    payload.and_then(tolerant::decode).map_err(|error| error.to_string())
}

fn entry(record: Record) -> ListEntry {
    let Record { id, state, created_at, updated_at, metadata, .. } = record;
    let (created_at, updated_at) = (Some(created_at.to_timestamp()), Some(updated_at.to_timestamp()));
    ListEntry { id, state, created_at, updated_at, metadata }
}

/// Whether a list asks for this record, apart from its metadata.
fn is_asked_for(record: &Record, query: &ListQuery) -> bool {
    let ListQuery {
        metadata: _,
        limit: _,
        offset: _,
        status,
        id,
        created_after,
        created_before,
        updated_after,
        updated_before,
    } = query;
    let (created, updated) = (record.created_at.to_timestamp(), record.updated_at.to_timestamp());
    (status.is_empty() || status.contains(&record.state))
        && (id.is_empty() || record.id == *id)
        && created_after.is_none_or(|after| created > after)
        && created_before.is_none_or(|before| created < before)
        && updated_after.is_none_or(|after| updated > after)
        && updated_before.is_none_or(|before| updated < before)
}

fn unknown(id: &str) -> String {
    format!("failed to get deployment {id:?}: not found")
}
