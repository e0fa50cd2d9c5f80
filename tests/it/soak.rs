//! Twenty deployments that nobody touches cause no write.
//!
//! `make soak` watches ten minutes and adds a line to `docs/measurements.md`; otherwise it is a short while.

mod count;
mod storm;

use std::{collections::BTreeMap, env, time::Duration};

use dms_operator::dev::AuditRecord;
use tokio::time::{Instant, sleep_until};

use crate::{
    cluster::shared,
    measurements,
    timed::Timed,
    world::{Tenant, installation, name, page},
};

const COUNT: usize = 20;
/// Long enough for a heartbeat of each device and a look at each deployment.
const QUIET: Duration = Duration::from_secs(20);
const WRITES: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn twenty_quiet_deployments_are_not_written() {
    let _timed = Timed::start();
    let asked = env::var("DMS_OPERATOR_SOAK_SECONDS").ok().map(|text| Duration::from_secs(text.parse().unwrap()));
    // Over the short while, each object must still be looked at again and again.
    let arguments: &[&str] = if asked.is_some() { &[] } else { &["--resync", "2s"] };
    let installation = installation("soak", 2, arguments, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let names: Vec<String> = (0..COUNT).map(|_| name()).collect();
    for name in &names {
        tenant.deploy(name, &page().0).await;
    }
    for name in &names {
        tenant.ready(name).await;
    }
    let audit = shared().await.audit();
    let namespaces = [&tenant.namespace, &installation.plan.namespace];
    let ours = |record: &AuditRecord| namespaces.contains(&&record.namespace);
    let settled = audit.writes(ours).unwrap();
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for record in settled.iter().filter(|record| record.user.starts_with("system:serviceaccount:")) {
        *by_name.entry(&record.name).or_default() += 1;
    }
    let written = names.iter().map(|name| by_name.get(name.as_str()).copied().unwrap_or_default());
    let (least, most) = (written.clone().min().unwrap(), written.max().unwrap());
    // None at all would only say that the log shows nothing.
    assert!(1 <= least && most <= WRITES, "{by_name:?}");

    let quiet = asked.unwrap_or(QUIET);
    let until = Instant::now() + quiet;
    // The one place where time itself is what is tested: the end is a moment, not an event.
    sleep_until(until).await;
    let writes = audit.writes(ours).unwrap().split_off(settled.len());
    if asked.is_some() {
        measured(quiet, writes.len(), most);
    }
    assert_eq!(writes, []);
    for name in &names {
        tenant.ready(name).await;
    }
}

/// Adds a line to the measurements.
fn measured(quiet: Duration, writes: usize, most: usize) {
    measurements::append_row("Quiet deployments (`make soak`)", |date, commit| {
        format!("| {date} | `{commit}` | {COUNT} | {} | {writes} | {most} |", quiet.as_secs())
    });
}
