//! The create bracket: whatever happens to the operator between its steps, one deployment comes of it.
//!
//! What a request for a new deployment brought is open until the request dies, 70 s after it was made, and clocks may
//! differ by 30 s: cases that must wait for it run side by side.

use std::{path::PathBuf, time::Duration};

use dms_operator::{
    controller::checkpoint::Step,
    dev::installation::{Installation, Replica},
    device::dms::DeploymentState,
};
use futures::future::{LocalBoxFuture, join_all};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};

use crate::{
    cluster::{eventually, scratch},
    timed::Timed,
    world::{
        Seat, Tenant, creations, deployments_of, fetch, installation, looks, misbehave, name, page, sites_running,
    },
};

/// The window, the skew, the lease, and room for a slow machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// As DMS does on any error of its own: wherever the operator dies, the device lists nothing at first.
const LISTS_NOTHING: &str = "list-empty";
/// A device refuses what has less than 59 s to live: with the shortest window, 60 s, nothing may take a second.
const ARGUMENTS: [&str; 6] = ["--device-window", "70s", "--lease-duration", "10s", "--resync", "2s"];

/// An operator that stops at a step, and what it was to deploy.
struct Held {
    installation: Installation,
    hold: PathBuf,
}

impl Held {
    async fn at(step: Step) -> Self {
        let step = format!("{step:?}").to_lowercase();
        let label = format!("bracket-{step}-{}", name());
        let hold = scratch(&label).join("hold");
        std::fs::write(&hold, "").unwrap();
        let variable = format!("{step}:{}", hold.display());
        let installation = installation(&label, 1, &ARGUMENTS, &[("DMS_OPERATOR_HOLD", &variable)]).await;
        Self { installation, hold }
    }

    async fn reached(&self) {
        let reached = self.hold.with_extension("reached");
        eventually("the operator reaches the step", async || {
            if reached.exists() { Ok(()) } else { Err(self.installation.operator.log_end()) }
        })
        .await;
    }

    /// What is not listed is not taken for absent, however often it is looked for. Then the device lists again.
    async fn sees_nothing(&self, requests: usize) {
        looks(&self.installation, 0, "/deployment/list", 2).await;
        assert!(creations(&self.installation) <= requests, "{}", creations(&self.installation));
        misbehave(&self.installation, 0, "");
    }

    fn release(&self) {
        std::fs::remove_file(&self.hold).unwrap();
    }

    /// One deployment, which serves: by the requests that reached the device and by what runs on it.
    async fn assert_one(&self, tenant: &Tenant<'_>, name: &str, body: &str, attempt: i64, requests: usize) {
        let status = tenant.condition_within(name, "Ready", "True", "Succeeded", PATIENCE).await;
        let record = status.deployment.unwrap();
        assert_eq!(record.attempt, attempt);
        assert_eq!(fetch(&status.url.unwrap()).await, (200, body.to_owned()));
        self.assert_only(tenant, name, record.id.unwrap()).await;
        assert_eq!(creations(&self.installation), requests);
    }

    /// The device never took another deployment for the object, and takes none while it is looked at again. A process
    /// count alone would miss one that is only being prepared, or was stopped again.
    async fn assert_only(&self, tenant: &Tenant<'_>, name: &str, id: String) {
        let only = [(id, DeploymentState::Running)].into();
        assert_eq!(deployments_of(&self.installation, 0, &tenant.namespace, name), only);
        looks(&self.installation, 0, "/deployment/list", 3).await;
        assert_eq!(deployments_of(&self.installation, 0, &tenant.namespace, name), only);
        assert_eq!(sites_running(&self.installation, 0), 1);
    }
}

/// Killed at `step` and started again.
async fn killed(step: Step, attempt: i64, requests: usize) {
    let mut held = Held::at(step).await;
    let (files, body) = page();
    let name = name();
    let tenant = Tenant::new(&held.installation).await;
    tenant.deploy(&name, &files).await;
    held.reached().await;
    let seat = tenant.seat();
    held.installation.operator.kill9().unwrap();
    misbehave(&held.installation, 0, LISTS_NOTHING);
    held.release();
    held.installation.operator.restart().unwrap();
    held.sees_nothing(requests).await;
    let tenant = seat.at(&held.installation);
    held.assert_one(&tenant, &name, &body, attempt, requests).await;
}

/// The device took the request, and the operator died before it heard of it; it starts again beside a device with a fault.
async fn killed_after_sending(fault: &str) -> (Held, Seat, String, String) {
    let mut held = Held::at(Step::Sent).await;
    let (files, body) = page();
    let name = name();
    let seat = {
        let tenant = Tenant::new(&held.installation).await;
        tenant.deploy(&name, &files).await;
        held.reached().await;
        tenant.seat()
    };
    held.installation.operator.kill9().unwrap();
    misbehave(&held.installation, 0, fault);
    held.release();
    held.installation.operator.restart().unwrap();
    (held, seat, name, body)
}

/// The device lists nothing, as DMS does on any error of its own.
async fn killed_and_nothing_listed() {
    let (held, seat, name, body) = killed_after_sending(LISTS_NOTHING).await;
    let tenant = seat.at(&held.installation);
    tenant.condition_within(&name, "Deployed", "Unknown", "OutcomeUnknown", PATIENCE).await;
    assert_eq!(creations(&held.installation), 1, "the request is dead, and still nothing says that it had no effect");
    misbehave(&held.installation, 0, "");
    held.assert_one(&tenant, &name, &body, 1, 1).await;
}

/// Only the list filtered by our marks is empty: the whole list, which would prove the deployment absent,
/// shows it.
async fn killed_and_the_filtered_list_fails() {
    let (held, seat, name, body) = killed_after_sending("list-filtered-empty").await;
    let tenant = seat.at(&held.installation);
    held.assert_one(&tenant, &name, &body, 1, 1).await;
}

/// The first of two operators is paused before it sends; the second takes its place; then the first wakes up.
async fn paused_before_sending(wakes_late: bool) {
    let held = Held::at(Step::Recorded).await;
    let (files, body) = page();
    let name = name();
    let tenant = Tenant::new(&held.installation).await;
    tenant.deploy(&name, &files).await;
    held.reached().await;
    let first = &held.installation.operator;
    first.pause().unwrap();
    misbehave(&held.installation, 0, LISTS_NOTHING);
    held.release();
    let Replica { process: second, http, sites } = held.installation.second_operator("second", &[]).unwrap();
    eventually("the second operator leads", async || {
        let metrics = reqwest::get(format!("{http}/metrics")).await.map_err(|error| error.to_string())?;
        let metrics = metrics.text().await.map_err(|error| error.to_string())?;
        if metrics.contains("dms_operator_leader 1") { Ok(()) } else { Err(second.log_end()) }
    })
    .await;
    held.sees_nothing(0).await;
    if wakes_late {
        tenant.condition_within(&name, "Ready", "True", "Succeeded", PATIENCE).await;
    }
    first.resume().unwrap();
    // The lease is not its own any more: it ends, and by itself.
    assert_eq!(first.exit_code(PATIENCE).await, Some(1), "{}", first.log_end());
    // Sites reach whoever works by a Service. One that the first still asked for was told the address of the first.
    let service = tokio::spawn(forward(TcpListener::bind(&held.installation.sites).await.unwrap(), sites));
    let status = tenant.condition_within(&name, "Ready", "True", "Succeeded", PATIENCE).await;
    assert_eq!(fetch(&status.url.unwrap()).await, (200, body));
    held.assert_only(&tenant, &name, status.deployment.unwrap().id.unwrap()).await;
    // Whatever the first still sent, it was its one request.
    assert!(creations(&held.installation) <= 2, "{}", creations(&held.installation));
    service.abort();
}

/// Passes connections on to an address.
async fn forward(listener: TcpListener, to: String) {
    loop {
        let (mut site, _) = listener.accept().await.unwrap();
        let to = to.clone();
        tokio::spawn(async move {
            let mut operator = TcpStream::connect(to).await?;
            copy_bidirectional(&mut site, &mut operator).await
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_deployment_comes_of_it_wherever_the_operator_dies() {
    let _timed = Timed::start();
    let cases: [LocalBoxFuture<'static, ()>; 9] = [
        Box::pin(killed(Step::Read, 1, 1)),
        // Recorded and never sent: only a second attempt brings a deployment, once the first cannot any more.
        Box::pin(killed(Step::Recorded, 2, 1)),
        Box::pin(killed(Step::Sent, 1, 1)),
        Box::pin(killed(Step::Known, 1, 1)),
        Box::pin(killed(Step::Bound, 1, 1)),
        Box::pin(killed_and_nothing_listed()),
        Box::pin(killed_and_the_filtered_list_fails()),
        Box::pin(paused_before_sending(false)),
        Box::pin(paused_before_sending(true)),
    ];
    join_all(cases).await;
}
