//! Every kind of fault, while deployments are made, changed and deleted at random: nothing is lost, made twice or taken
//! away, and all is as applied soon after the fault is over.
//!
//! In `make test` the kinds hold side by side, each on a device of its own. `make soak` lets one after the other hold on
//! half of the devices, for as long as it is told, and writes down what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    time::Duration,
};

use dms_operator::device::node::Kind;
use kube::ResourceExt as _;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{Instant, interval};

use super::count::{Count, living, resident};
use crate::{
    cluster::within,
    faults::adopt_accused,
    measurements,
    timed::Timed,
    world::{Tenant, installation, misbehave, name, page},
};

/// What holds, in a strength that lets some through: work goes on under it.
pub const FAULTS: [&str; 22] = [
    "delay=0..3000",
    "drop-requests=0.3",
    "drop-replies=0.3",
    "drop-new-reply=0.5",
    "duplicate-reply",
    "reorder=0.5",
    "cut=0.3",
    "half-open=0.3",
    "mute=0.05",
    "slow-read=0.5",
    "wrong-key=0.3",
    "clock=+90s",
    "clock=-90s",
    "full-disk=0.5",
    "no-start=0.5",
    "die-at-once=0.5",
    "list-empty=0.7",
    "list-filtered-empty=0.7",
    "foreign-id=0.5",
    "foreign-peer=0.5",
    "impossible-usage=0.5",
    "unknown-state=0.5",
];

/// A request for a new deployment that was lost is known to be dead this long after it was made: its window, and what clocks
/// may differ.
const DEAD_AFTER: Duration = Duration::from_secs(100);
/// A heartbeat of 15 s, and as much for a slow machine.
const CONVERGED: Duration = Duration::from_secs(30);
/// Between two changes.
const PACE: Duration = Duration::from_millis(250);
/// How much more memory the operator may hold at the end than after the first fault, in MiB.
const GROWTH: u64 = 32;

/// How much there is of everything.
struct Scale {
    devices: usize,
    deployments: usize,
    under: Duration,
    seed: u64,
    one_by_one: bool,
}

impl Scale {
    fn asked() -> Self {
        let number = |name: &str| env::var(format!("DMS_OPERATOR_SOAK_{name}")).ok().map(|text| text.parse().unwrap());
        let seconds = number("SECONDS");
        let or = |name, long, short| {
            usize::try_from(number(name).unwrap_or(if seconds.is_some() { long } else { short })).unwrap()
        };
        Self {
            devices: or("DEVICES", 20, 22),
            deployments: or("DEPLOYMENTS", 100, 22),
            under: Duration::from_secs(seconds.unwrap_or(6)),
            seed: number("SEED").unwrap_or_else(rand::random),
            one_by_one: seconds.is_some(),
        }
    }
}

/// What is applied: name → body of its page.
struct Storm<'a> {
    tenant: &'a Tenant<'a>,
    scale: Scale,
    random: StdRng,
    applied: BTreeMap<String, String>,
    /// Deleted, and not yet gone.
    leaving: BTreeSet<String>,
}

impl Storm<'_> {
    async fn deploy(&mut self, name: String) {
        let (files, body) = page();
        self.tenant.deploy(&name, &files).await;
        self.applied.insert(name, body);
    }

    /// Makes, changes or deletes one.
    async fn change(&mut self, may_create: bool) {
        let names: Vec<String> = self.applied.keys().cloned().collect();
        let missing = self.applied.len() < self.scale.deployments;
        match (self.random.random_range(0..3), names.choose(&mut self.random)) {
            (0, _) | (_, None) if missing && may_create => self.deploy(name()).await,
            (1, Some(name)) if names.len() > 1 => {
                self.tenant.api().delete(name, &kube::api::DeleteParams::default()).await.unwrap();
                self.applied.remove(name);
                self.leaving.insert(name.clone());
            }
            (_, Some(name)) => self.deploy(name.clone()).await,
            (_, None) => {}
        }
    }

    async fn changes(&mut self, until: Instant, may_create: bool) {
        // Load, and not a wait for anything: time itself is what passes here.
        let mut pace = interval(PACE);
        while Instant::now() < until {
            pace.tick().await;
            self.change(may_create).await;
        }
    }

    async fn fill(&mut self) {
        while self.applied.len() < self.scale.deployments {
            self.deploy(name()).await;
        }
    }

    /// Waits until all is as applied. How long that took; for those whose request was lost, from its death on.
    async fn converged(&mut self, fault: &str) -> Duration {
        let begun = Instant::now();
        let mut waits_for_request = false;
        loop {
            adopt_accused(self.tenant.installation).await;
            let (open, wrong) = self.wrong().await;
            if wrong.is_empty() && open.is_empty() {
                break;
            }
            waits_for_request |= wrong.is_empty();
            let limit = if open.is_empty() && !waits_for_request { CONVERGED } else { DEAD_AFTER + CONVERGED };
            let log = self.tenant.installation.operator.log_end();
            assert!(begun.elapsed() < limit, "{fault}, seed {}: {wrong:#?} {open:#?}\n{log}", self.scale.seed);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let taken = begun.elapsed();
        if waits_for_request { taken.saturating_sub(DEAD_AFTER) } else { taken }
    }

    /// What is not as applied: by an attempt whose request may still be alive, and otherwise.
    async fn wrong(&mut self) -> (Vec<String>, Vec<String>) {
        let (mut open, mut wrong) = (Vec::new(), Vec::new());
        let objects = self.tenant.api().list(&kube::api::ListParams::default()).await.unwrap().items;
        self.leaving.retain(|name| objects.iter().any(|object| object.name_any() == *name));
        for object in &objects {
            let name = object.name_any();
            let status = &object.data["status"];
            let record = &status["deployment"];
            let says = |kind: &str| {
                let all = status["conditions"].as_array().cloned().unwrap_or_default();
                all.into_iter().find(|condition| condition["type"] == kind).unwrap_or_default()
            };
            let ready = self.applied.contains_key(&name)
                && says("Ready")["status"] == "True"
                && status["observedGeneration"] == object.metadata.generation.unwrap_or_default()
                && status["release"] == object.data["spec"]["content"]["release"];
            if !ready {
                let list = if record.is_object() && record["id"].is_null() { &mut open } else { &mut wrong };
                list.push(format!("{name}: {}", says("Ready")));
            }
        }
        for name in self.applied.keys().filter(|name| !objects.iter().any(|object| object.name_any() == **name)) {
            wrong.push(format!("{name} is gone"));
        }
        (open, wrong)
    }

    /// The deployment that serves each object.
    async fn ids(&self) -> BTreeMap<String, String> {
        let mut ids = BTreeMap::new();
        for object in self.tenant.api().list(&kube::api::ListParams::default()).await.unwrap().items {
            if let Some(id) = object.data["status"]["deployment"]["id"].as_str() {
                ids.insert(object.name_any(), id.to_owned());
            }
        }
        ids
    }

    /// Holds one fault, or each on a device of its own, and counts what came of it.
    async fn weather(&mut self, faults: &[&str]) -> Count {
        let before = self.ids().await;
        let installation = self.tenant.installation;
        let all: Vec<usize> = (0..installation.devices.len()).collect();
        let struck: Vec<usize> = match faults {
            [_] => all.sample(&mut self.random, all.len().div_ceil(2)).copied().collect(),
            _ => all,
        };
        for (device, fault) in struck.iter().zip(faults.iter().cycle()) {
            misbehave(installation, *device, &format!("seed={},{fault}", self.scale.seed));
        }
        // A request lost in the short run would have to be waited for until it is dead.
        self.changes(Instant::now() + self.scale.under, self.scale.one_by_one).await;
        for device in struck {
            misbehave(installation, device, "");
        }
        let converged = self.converged(&faults.join(" | ")).await;
        let mut count = Count {
            deployments: self.applied.len(),
            duplicates: 0,
            lost: 0,
            false_deletions: 0,
            converged,
            resident_mib: resident(&installation.operator),
        };
        let ids = self.ids().await;
        let living = living(self.tenant);
        for (name, body) in &self.applied {
            let there = living.get(name).map(Vec::as_slice).unwrap_or_default();
            count.duplicates += there.len().saturating_sub(1);
            if ids.get(name).is_none_or(|id| !there.contains(id)) || !self.serves(name, body).await {
                count.lost += 1;
            }
            count.false_deletions += usize::from(before.get(name).is_some_and(|id| ids.get(name) != Some(id)));
        }
        count.duplicates += living.keys().filter(|name| !self.applied.contains_key(*name)).count();
        count
    }

    async fn serves(&self, name: &str, body: &str) -> bool {
        let url = self.tenant.status(name).await.url.unwrap_or_default();
        match reqwest::get(url).await {
            Ok(answer) => answer.text().await.is_ok_and(|text| text == body),
            Err(_) => false,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_every_storm_nothing_is_lost_made_twice_or_taken_away() {
    let _timed = Timed::start();
    let scale = Scale::asked();
    println!("seed {}", scale.seed);
    let arguments = ["--resync", if scale.one_by_one { "10s" } else { "5s" }, "--device-window", "70s"];
    let installation = installation("storm", scale.devices, &arguments, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let random = StdRng::seed_from_u64(scale.seed);
    let (applied, leaving) = (BTreeMap::new(), BTreeSet::new());
    let mut storm = Storm { tenant: &tenant, scale, random, applied, leaving };
    storm.fill().await;
    within(Duration::from_mins(5), "all are Ready", async || {
        let (open, wrong) = storm.wrong().await;
        if open.is_empty() && wrong.is_empty() { Ok(()) } else { Err(format!("{open:#?} {wrong:#?}")) }
    })
    .await;

    let mut counts = Vec::new();
    if storm.scale.one_by_one {
        for fault in FAULTS {
            let count = storm.weather(&[fault]).await;
            println!("{}", count.row(fault));
            counts.push((fault, count));
            storm.fill().await;
        }
    } else {
        counts.push(("all side by side", storm.weather(&FAULTS).await));
    }
    if storm.scale.one_by_one {
        let Scale { devices, deployments, under, seed, one_by_one: _ } = &storm.scale;
        let head = format!("{devices} devices, {deployments} deployments, {} s a fault, seed {seed}", under.as_secs());
        measurements::append(
            "Faults (`make soak`)",
            &head,
            &counts.iter().map(|(fault, count)| count.row(fault)).collect::<Vec<_>>(),
        );
    }
    for (fault, count) in &counts {
        assert_eq!((count.lost, count.duplicates, count.false_deletions), (0, 0, 0), "{fault}: {count:?}");
    }
    let (first, last) = (counts[0].1.resident_mib, counts[counts.len() - 1].1.resident_mib);
    assert!(last <= first + GROWTH, "the operator grew from {first} to {last} MiB");
}

#[test]
fn every_kind_of_fault_is_among_the_storms() {
    for (_, name) in Kind::ALL {
        let storms = FAULTS.iter().filter(|fault| fault.split('=').next() == Some(name));
        assert_eq!(storms.count(), 1, "{name}");
    }
}
