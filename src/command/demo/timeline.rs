//! What happens to the object, as it happens.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event, watcher},
};
use tokio::{sync::mpsc, task::AbortHandle};

use super::{names::NAMES, screen::Screen};
use crate::{
    api::{HostingDeployment, HostingDeploymentStatus},
    command::CommandError,
};

/// How long the object may take for one step of the story.
const PATIENCE: Duration = Duration::from_secs(60);

/// The object at a moment; `None`: it is gone.
type Moment = (Instant, Option<HostingDeploymentStatus>);

/// A watch on the one object.
pub(super) struct Timeline<'a> {
    screen: &'a Screen,
    moments: mpsc::UnboundedReceiver<Moment>,
    watching: AbortHandle,
    /// When the object was first seen since the last reset.
    since: Option<Instant>,
    shown: BTreeMap<String, (String, String)>,
}

impl Drop for Timeline<'_> {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl<'a> Timeline<'a> {
    pub fn start(screen: &'a Screen, client: &Client) -> Self {
        let api: Api<HostingDeployment> = Api::namespaced(client.clone(), NAMES.namespace);
        let (send, moments) = mpsc::unbounded_channel();
        let watching = tokio::spawn(async move {
            let config = watcher::Config::default().fields(&format!("metadata.name={}", NAMES.deployment));
            let mut events = watcher(api, config).boxed();
            while let Some(event) = events.next().await {
                let moment = match event {
                    Ok(Event::Apply(object) | Event::InitApply(object)) => Some(object.status.unwrap_or_default()),
                    Ok(Event::Delete(_)) => None,
                    Ok(Event::Init | Event::InitDone) | Err(_) => continue,
                };
                if send.send((Instant::now(), moment)).is_err() {
                    break;
                }
            }
        });
        Self { screen, moments, watching: watching.abort_handle(), since: None, shown: BTreeMap::new() }
    }

    /// Forgets what was shown; time counts anew from the next change.
    pub fn reset(&mut self) {
        while self.moments.try_recv().is_ok() {}
        self.since = None;
    }

    /// Shows each change of a condition until the object is as wanted. Gives the status, and the time from the first
    /// sight of the object to that.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&HostingDeploymentStatus) -> bool,
    ) -> Result<(HostingDeploymentStatus, Duration), CommandError> {
        loop {
            let (at, status) = self.next(what).await?;
            let Some(status) = status else {
                return Err(CommandError::new(format!("the object went away while {what} was awaited")));
            };
            let since = *self.since.get_or_insert(at);
            self.show(at - since, &status);
            if wanted(&status) {
                return Ok((status, at - since));
            }
        }
    }

    /// Shows changes until the object is gone.
    pub async fn until_gone(&mut self) -> Result<(), CommandError> {
        loop {
            let (at, status) = self.next("its end").await?;
            let since = *self.since.get_or_insert(at);
            let Some(status) = status else {
                self.screen.line(&format!("{:>8.3} s  the object is gone", (at - since).as_secs_f64()));
                return Ok(());
            };
            self.show(at - since, &status);
        }
    }

    async fn next(&mut self, what: &str) -> Result<Moment, CommandError> {
        match tokio::time::timeout(PATIENCE, self.moments.recv()).await {
            Ok(Some(moment)) => Ok(moment),
            Ok(None) => Err(CommandError::new("the watch on the object ended")),
            Err(_elapsed) => Err(CommandError::new(format!(
                "{what} did not come within {} s; the conditions above say what is in the way",
                PATIENCE.as_secs()
            ))),
        }
    }

    fn show(&mut self, after: Duration, status: &HostingDeploymentStatus) {
        for condition in &status.conditions {
            let now = (condition.status.clone(), condition.reason.clone());
            if self.shown.get(&condition.type_) != Some(&now) {
                self.screen.line(&format!(
                    "{:>8.3} s  {:<17}{:<8}{}: {}",
                    after.as_secs_f64(),
                    condition.type_,
                    condition.status,
                    condition.reason,
                    shortened(&condition.message)
                ));
                self.shown.insert(condition.type_.clone(), now);
            }
        }
        self.shown.retain(|kind, _| status.conditions.iter().any(|condition| &condition.type_ == kind));
    }
}

/// Whether the object is Ready with a release other than `before`.
pub(super) fn ready(status: &HostingDeploymentStatus, before: Option<&str>) -> bool {
    let ready = status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && status.release.is_some() && status.release.as_deref() != before
}

/// Whether the spec that is applied has no right.
pub(super) fn refused(status: &HostingDeploymentStatus) -> bool {
    let verified = |kind: &str, value: &str| kind == "TokenVerified" && value == "False";
    status.conditions.iter().any(|condition| verified(&condition.type_, &condition.status))
}

/// The message with long names cut, so that a line stays a line.
fn shortened(message: &str) -> String {
    let words = message.split(' ').map(|word| {
        let long = word.starts_with("did:key:") || word.starts_with("sha256:");
        match word.char_indices().nth(20) {
            Some((end, _)) if long => format!("{}…", &word[..end]),
            _ => word.to_owned(),
        }
    });
    words.collect::<Vec<_>>().join(" ")
}
