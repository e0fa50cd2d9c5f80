//! Deployments: taken, looked at, stopped, forgotten.

use std::{collections::BTreeMap, time::Duration};

use jiff::{civil, tz::TimeZone};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    super::{
        Served,
        ensemble::{self, Ensemble},
        lifecycle::allocation_id,
        state::{Record, Taken},
    },
    Answer, Judged, request,
};
use crate::{
    capability::Nanos,
    device::dms::{
        AllocationDetail, DeleteRequest, DeploymentId, DeploymentState, InfoReply, InfoRequest, Manifest,
        ManifestAllocation, ManifestNode, ManifestReply, NewReply, NewStatus, PruneRequest, StatusReply, StatusRequest,
        UpdateRequest,
    },
};

/// A `new` must not expire earlier than this: one minute minus one second, as in DMS.
const SHORTEST: Duration = Duration::from_secs(59);
/// The deployment must run so much before its message expires.
const MARGIN: Duration = Duration::from_secs(15);

impl Served {
    pub(super) async fn new_deployment(&self, judged: &Judged) -> Answer {
        let (envelope, sender) = (&judged.envelope, &judged.sender);
        if self.lifecycle.store.has_seen(sender, envelope.nonce).await {
            return Answer::Dropped("Replayed");
        }
        let reply = |status, ensemble_id: String, error: String| json!(NewReply { status, ensemble_id, error });
        let refuse = |error: String| Answer::Reply(reply(NewStatus::Error, String::new(), error));
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
            Ok(Taken::New) => {
                tracing::info!(deployment = id, owner = %sender, "a deployment was taken");
                Answer::Took(reply(NewStatus::Ok, id.clone(), String::new()), id)
            }
            // Stricter than DMS: whoever asks twice for one attempt, having missed the first reply, gets one deployment.
            Ok(Taken::Known(known)) => {
                tracing::info!(deployment = known, owner = %sender, "a deployment was asked for again");
                Answer::Reply(reply(NewStatus::Ok, known, String::new()))
            }
            Ok(Taken::Replayed) => Answer::Dropped("Replayed"),
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

    /// A child process is not replaced without a gap, and an update that fails must leave the old one serving.
    pub(super) async fn update(&self, judged: &Judged) -> Result<(), String> {
        let UpdateRequest { id, ensemble: _ } = request(&judged.envelope.message)?;
        Err(match self.lifecycle.store.get(&id).await.map(|record| record.state) {
            None => "failed to get orchestrator",
            Some(DeploymentState::Running) => {
                "this node does not update: deploy anew, and shut this deployment down when that one runs"
            }
            Some(_) => "deployment is not running",
        }
        .to_owned())
    }

    pub(super) async fn status(&self, message: &[u8]) -> StatusReply {
        let failed = |error: String| StatusReply { error, ..StatusReply::default() };
        let StatusRequest { id, include_usage } = match request(message) {
            Ok(request) => request,
            Err(error) => return failed(error),
        };
        let Some(record) = self.lifecycle.store.get(&id).await else { return failed(unknown(&id)) };
        let allocations = match record.state {
            DeploymentState::Running => self.lifecycle.allocations_of(&record, include_usage),
            _ => BTreeMap::new(),
        };
        StatusReply { state: Some(record.state.into()), error: String::new(), allocations }
    }

    pub(super) async fn manifest(&self, message: &[u8]) -> ManifestReply {
        let found = async {
            let id = request::<DeploymentId>(message)?.id;
            let record = self.lifecycle.store.get(&id).await.ok_or_else(|| unknown(&id))?;
            self.manifest_of(&record)
        };
        match found.await {
            Ok(manifest) => ManifestReply { manifest: Some(manifest), error: String::new() },
            Err(error) => ManifestReply { manifest: None, error },
        }
    }

    fn manifest_of(&self, record: &Record) -> Result<Manifest, String> {
        let infos = self.lifecycle.allocations_of(record, false);
        let Ensemble { allocations: wanted, nodes, metadata, .. } = ensemble::read(&record.ensemble)?;
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
        Ok(Manifest { id: record.id.clone(), metadata, allocations, nodes })
    }

    pub(super) async fn info(&self, judged: &Judged) -> InfoReply {
        let found = async {
            let InfoRequest { id, include_usage, include_logs, allocation_names } = request(&judged.envelope.message)?;
            let record = self.lifecycle.store.get(&id).await.ok_or_else(|| unknown(&id))?;
            let manifest = Some(self.manifest_of(&record)?);
            let mut infos = self.lifecycle.allocations_of(&record, include_usage);
            let mut allocations = BTreeMap::new();
            for key in record.allocations.keys() {
                let (name, full) = (key.split_once('.').map_or("", |(_, name)| name), allocation_id(&id, key));
                let wanted = allocation_names.is_empty()
                    || allocation_names.iter().any(|wanted| wanted == key || wanted == name);
                let Some(info) = infos.remove(&full).filter(|_| wanted) else { continue };
                let logs = if include_logs { Some(self.logs_of(&record, key, &judged.sender).await) } else { None };
                let detail = AllocationDetail {
                    allocation_id: info.allocation_id,
                    status: info.status,
                    resource_usage: info.resource_usage,
                    dns_name: info.dns_name,
                    logs,
                };
                allocations.insert(key.clone(), detail);
            }
            Ok(InfoReply { state: Some(record.state.into()), error: String::new(), id, manifest, allocations })
        };
        found.await.unwrap_or_else(|error| InfoReply { error, ..InfoReply::default() })
    }

    pub(super) async fn shutdown(&self, message: &[u8]) -> Result<(), String> {
        let id = request::<DeploymentId>(message)?.id;
        self.lifecycle.shutdown(&id).await.map_err(|error| error.to_string())
    }

    /// Stricter than DMS, which removes the record of what still runs.
    pub(super) async fn delete(&self, message: &[u8]) -> Result<(), String> {
        let id = request::<DeleteRequest>(message)?.id;
        match self.lifecycle.store.remove(&id, |record| record.state.is_over()).await {
            Ok(Some(true)) => {}
            Ok(Some(false)) => return Err("deployment is still active: shut it down first".to_owned()),
            Ok(None) => return Err(unknown(&id)),
            Err(error) => return Err(error.to_string()),
        }
        self.forget(&id).await;
        Ok(())
    }

    pub(super) async fn prune(&self, message: &[u8]) -> Result<(), String> {
        let PruneRequest { before, all } = request(message)?;
        let before = match (all, before.as_str()) {
            (true, _) => Nanos::MAX,
            (false, "") => return Err("either before or all must be given".to_owned()),
            (false, text) => time_before(text, self.lifecycle.now())
                .ok_or_else(|| format!("{text:?} is neither a time nor a duration before now"))?,
        };
        let gone = self.lifecycle.store.prune(|record| record.created_at < before).await;
        for id in gone.map_err(|error| error.to_string())? {
            self.forget(&id).await;
        }
        Ok(())
    }

    /// Removes what a deployment without a record has left.
    async fn forget(&self, id: &str) {
        self.copies.forget(id);
        let directory = self.lifecycle.directory_of(id);
        if let Err(error) = tokio::fs::remove_dir_all(&directory).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, directory = %directory.display(), "output of a deployment was left behind");
        }
    }
}

pub(super) fn unknown(id: &str) -> String {
    format!("failed to get deployment {id:?}: not found")
}

/// A time as `prune` takes it: `<n>d` or a Go duration before now, RFC 3339, `YYYY-MM-DD[ HH:MM:SS]`.
fn time_before(text: &str, now: Nanos) -> Option<Nanos> {
    if let Some(age) = age(text) {
        return Some(now.minus(age));
    }
    let utc = |time: civil::DateTime| time.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = text
        .parse::<jiff::Timestamp>()
        .ok()
        .or_else(|| civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok().and_then(utc))
        .or_else(|| {
            civil::Date::strptime("%Y-%m-%d", text).ok().and_then(|date| utc(date.to_datetime(civil::Time::midnight())))
        })?;
    Some(Nanos::from_timestamp(time))
}

/// Whole numbers with units, one after the other: `7d`, or `1h30m` as Go writes it.
fn age(text: &str) -> Option<Duration> {
    let (mut rest, mut sum) = (text, Duration::ZERO);
    if let Some(days) = text.strip_suffix('d') {
        return Some(Duration::from_secs(number(days)?.checked_mul(86_400)?));
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let (count, after) = rest.split_at(digits);
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let count = number(count)?;
        sum = sum.checked_add(match unit {
            "h" => Duration::from_secs(count.checked_mul(3600)?),
            "m" => Duration::from_secs(count.checked_mul(60)?),
            "s" => Duration::from_secs(count),
            "ms" => Duration::from_millis(count),
            _ => return None,
        })?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

fn number(digits: &str) -> Option<u64> {
    digits.starts_with(|first: char| first.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_prune_before_is_read_in_each_form() {
        let now = Nanos::from_timestamp("2026-03-10T12:00:00Z".parse().unwrap());
        for (text, time) in [
            ("7d", "2026-03-03T12:00:00Z"),
            ("0d", "2026-03-10T12:00:00Z"),
            ("12h", "2026-03-10T00:00:00Z"),
            ("1h30m5s500ms", "2026-03-10T10:29:54.5Z"),
            ("2026-02-01T01:02:03+01:00", "2026-02-01T00:02:03Z"),
            ("2026-02-01 01:02:03", "2026-02-01T01:02:03Z"),
            ("2026-02-01", "2026-02-01T00:00:00Z"),
        ] {
            assert_eq!(time_before(text, now), Some(Nanos::from_timestamp(time.parse().unwrap())), "{text}");
        }
        for wrong in ["", "d", "-1d", "+1d", "1", "h", "1w", "1h2", "yesterday", "2026-13-01", "99999999999999999999h"]
        {
            assert_eq!(time_before(wrong, now), None, "{wrong}");
        }
    }
}
