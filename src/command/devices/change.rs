//! What a person changes about a device: `retry`, `adopt`, `cordon`, `drain`, `uncordon`. Nothing is deleted by any.

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::CommandError;
use super::super::wallet::print;
use super::place::{Cluster, Place, on};
use super::view::View;
use super::{patience, warn};
use crate::api::{
    ConditionType, Reason,
    names::{ANNOTATION_ADOPT, ANNOTATION_REQUESTED_AT},
};

/// Pause between two looks at what is left on a device.
const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row that must find nothing left.
const EMPTY_LOOKS: u32 = 2;
/// How often a device is looked at anew that the operator changes at the same time.
const TRIES: u32 = 5;
const ABOUT_ADOPTION: &str = "Use it when a device lost its state for good (SentinelLost), or said what cannot be and was seen to \
    (DeviceContradicts). First see to it that nothing runs there any more that the device does not know of: what it ran before and \
    does not list counts as gone, and the operator starts it anew.";
const ABOUT_RETRYING: &str = "A device that left eight calls in a row without a reply is left alone for up to 8 s at a time. A look \
    that falls into such a pause asks nothing; one after the pause does.";
const ABOUT_DRAINING: &str = "Nothing is stopped or deleted. A deployment leaves a device when its HostingDeployment is deleted; \
    applied again, it is placed on another one.";

/// Which device.
#[derive(Debug, clap::Args)]
struct Named {
    /// Name of the HostingDevice.
    device: String,
    #[command(flatten)]
    place: Place,
}

/// Arguments of `retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_RETRYING)]
pub struct Retry {
    #[command(flatten)]
    named: Named,
}

impl Retry {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Named { device, place } = self.named;
        let cluster = place.open().await?;
        cluster.change(&device, &annotated(ANNOTATION_REQUESTED_AT, Timestamp::now())).await?;
        print(&format!(
            "The operator looks at {device} at once: `kubectl hosting device describe {device}` shows what it found.\n"
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `adopt`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_ADOPTION)]
pub struct Adopt {
    #[command(flatten)]
    named: Named,
}

impl Adopt {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Named { device: name, place } = self.named;
        let cluster = place.open().await?;
        let (device, faults) = settle(&cluster, &name).await?;
        print(&format!("{name} is taken as it is now, and the operator goes on with it.\n"))?;
        if faults.iter().any(|fault| fault.reason == Reason::SentinelLost)
            && let Some(names) = recorded(&cluster, &device).await.filter(|names| !names.is_empty())
        {
            print(&format!("Of these, what it does not list any more is started anew: {}\n", names.join(", ")))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Notes that what is told of a device was seen to. The operator may write its status in between: then it is looked at
/// again, and what was not told before is not settled.
async fn settle(cluster: &Cluster, name: &str) -> Result<(DynamicObject, Vec<Fault>), CommandError> {
    let mut before: Option<Vec<Fault>> = None;
    for _ in 0..TRIES {
        let device = cluster.device(name).await?;
        let faults = faults(&device)?;
        if before.as_ref().is_some_and(|before| *before != faults) {
            break;
        }
        // What is settled is what was seen just now, and nothing later, whatever the clock here says.
        let latest = faults.iter().map(|fault| fault.since).max().unwrap_or(Timestamp::UNIX_EPOCH);
        let mut patch = annotated(ANNOTATION_ADOPT, latest);
        patch["metadata"]["resourceVersion"] = json!(device.resource_version());
        if cluster.change_version(name, &patch).await? {
            return Ok((device, faults));
        }
        before = Some(faults);
    }
    Err(CommandError::new(format!(
        "HostingDevice {name} was changed meanwhile, and was left as it is: look at it and run the command again"
    )))
}

/// What an adoption settles.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) reason: Reason,
    pub(super) since: Timestamp,
}

/// What the status tells of the device that a person can settle; an error without anything.
pub(super) fn faults(device: &DynamicObject) -> Result<Vec<Fault>, CommandError> {
    let name = device.name_any();
    let conditions = device.data.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    let mut faults = Vec::new();
    for (kind, value, reason) in [
        (ConditionType::Stalled, "True", Reason::SentinelLost),
        (ConditionType::Credible, "False", Reason::DeviceContradicts),
    ] {
        let told = conditions.iter().find(|condition| {
            condition["type"] == kind.as_str() && condition["status"] == value && condition["reason"] == reason.as_str()
        });
        let Some(told) = told else { continue };
        let since = told["lastTransitionTime"].as_str().and_then(|since| since.parse().ok());
        let since = since.ok_or_else(|| {
            CommandError::new(format!(
                "the status of HostingDevice {name} does not say since when it is {kind}={value}"
            ))
        })?;
        faults.push(Fault { reason, since });
    }
    if faults.is_empty() {
        let reason = View::of(device, None).reason.unwrap_or_else(|| "nothing".to_owned());
        return Err(CommandError::new(format!(
            "HostingDevice {name} neither lost its state nor contradicts itself, as far as is known (it says {reason}), so \
             there is nothing to adopt. `kubectl hosting device describe {name}` shows how it stands"
        )));
    }
    Ok(faults)
}

/// Arguments of `cordon`.
#[derive(Debug, clap::Args)]
pub struct Cordon {
    #[command(flatten)]
    named: Named,
}

impl Cordon {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Named { device, place } = self.named;
        place.open().await?.change(&device, &unschedulable(true)).await?;
        print(&format!("Nothing new is placed on {device}; what runs there goes on.\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `uncordon`.
#[derive(Debug, clap::Args)]
pub struct Uncordon {
    #[command(flatten)]
    named: Named,
}

impl Uncordon {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Named { device, place } = self.named;
        place.open().await?.change(&device, &unschedulable(false)).await?;
        print(&format!("Deployments may be placed on {device} again.\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Arguments of `drain`.
#[derive(Debug, clap::Args)]
#[command(after_help = ABOUT_DRAINING)]
pub struct Drain {
    #[command(flatten)]
    named: Named,
    /// Wait until nothing is left there.
    #[arg(long)]
    wait: bool,
    /// How long to wait, for example 1h.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = patience, requires = "wait")]
    timeout: Duration,
}

impl Drain {
    pub(super) async fn run(self) -> Result<ExitCode, CommandError> {
        let Self { named: Named { device: name, place }, wait, timeout } = self;
        let cluster = place.open().await?;
        let device = cluster.change(&name, &unschedulable(true)).await?;
        let mut left = names(&cluster, &device).await?;
        print(&draining(&name, &left))?;
        let deadline = Instant::now() + timeout;
        // One empty look is not enough: a pass that began before the change may still write that it placed something here.
        let mut empty = 0;
        while wait && empty < EMPTY_LOOKS {
            if Instant::now() >= deadline && !left.is_empty() {
                return Err(CommandError::new(format!(
                    "after {}s there is still on {name}: {}. {ABOUT_DRAINING}",
                    timeout.as_secs(),
                    left.join(", ")
                )));
            }
            sleep(LOOK.min(deadline.saturating_duration_since(Instant::now()))).await;
            match names(&cluster, &device).await {
                Ok(found) => {
                    left = found;
                    empty = if left.is_empty() { empty + 1 } else { 0 };
                }
                // The API server may be away for a moment of an hour.
                Err(error) => warn(&error),
            }
            if empty == EMPTY_LOOKS {
                print(&draining(&name, &left))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

pub(super) fn draining(device: &str, left: &[String]) -> String {
    if left.is_empty() {
        return format!("Nothing new is placed on {device}, and nothing is left there.\n");
    }
    let left = left.join("\n  ");
    format!("Nothing new is placed on {device}. These are still there, and go on:\n  {left}\n{ABOUT_DRAINING}\n")
}

/// The deployments recorded on a device, `namespace/name`.
async fn names(cluster: &Cluster, device: &DynamicObject) -> Result<Vec<String>, CommandError> {
    let all = cluster.deployments().await?;
    let view = View::of(device, Some(on(&all, device)));
    Ok(view.deployments.into_iter().flatten().map(|deployed| deployed.full_name()).collect())
}

/// The same, where it is only told: who may not list them still adopts.
async fn recorded(cluster: &Cluster, device: &DynamicObject) -> Option<Vec<String>> {
    names(cluster, device).await.map_err(|error| warn(&error)).ok()
}

fn annotated(annotation: &str, at: Timestamp) -> Value {
    json!({"metadata": {"annotations": {annotation: at.to_string()}}})
}

fn unschedulable(value: bool) -> Value {
    json!({"spec": {"unschedulable": value.then_some(true)}})
}
