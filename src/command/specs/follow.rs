//! What becomes of an object that was applied, as it happens.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watch_object};

use super::super::CommandError;
use super::super::wallet::print;
use crate::api::{ConditionType, HostingDeploymentStatus};
use crate::capability::on_one_line;

/// An object whose end is waited for.
pub(super) struct Awaited {
    pub(super) api: Api<DynamicObject>,
    pub(super) name: String,
    /// What the status must speak of.
    pub(super) generation: i64,
}

/// Prints each change of a condition until the object is Ready. `named` when lines of several objects stand side by side.
pub(super) async fn follow(awaited: &Awaited, named: bool, patience: Duration) -> Result<(), CommandError> {
    let Awaited { api, name, generation } = awaited;
    let mut shown =
        Shown { since: Instant::now(), called: named.then_some(name), last: BTreeMap::new(), colours: colours() };
    let mut latest: Option<HostingDeploymentStatus> = None;
    let ending = async {
        let mut moments = watch_object(api.clone(), name).default_backoff().boxed();
        while let Some(moment) = moments.next().await {
            let object = match moment {
                Ok(Some(object)) => object,
                Ok(None) => return Err(CommandError::new(format!("HostingDeployment {name} was deleted meanwhile"))),
                Err(error) => {
                    if let Some(refused) = not_allowed(name, &error) {
                        return Err(refused);
                    }
                    // The watch is begun anew by itself.
                    continue;
                }
            };
            let status = object.data.get("status").cloned().unwrap_or_default();
            let status: HostingDeploymentStatus = serde_json::from_value(status).unwrap_or_default();
            if status.observed_generation.is_none_or(|observed| observed < *generation) {
                continue;
            }
            shown.changes(&status)?;
            let over = ending(name, &status);
            latest = Some(status);
            if let Some(over) = over {
                return over;
            }
        }
        Err(CommandError::new(format!("the watch on HostingDeployment {name} ended")))
    };
    let ended = tokio::time::timeout(patience, ending).await;
    ended.unwrap_or_else(|_| Err(too_late(name, latest.as_ref(), patience)))
}

/// Whether it is over, and how: Ready, or stalled.
fn ending(name: &str, status: &HostingDeploymentStatus) -> Option<Result<(), CommandError>> {
    if let Some(stalled) = holding(status, ConditionType::Stalled) {
        let Condition { reason, message, .. } = stalled;
        let said = format!("HostingDeployment {name} is not Ready: {reason}: {message}");
        return Some(Err(CommandError::new(on_one_line(&said))));
    }
    holding(status, ConditionType::Ready).map(|_| Ok(()))
}

fn holding(status: &HostingDeploymentStatus, kind: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == kind.as_str() && condition.status == "True")
}

fn too_late(name: &str, latest: Option<&HostingDeploymentStatus>, patience: Duration) -> CommandError {
    let seconds = patience.as_secs();
    let Some(status) = latest else {
        return CommandError::new(format!(
            "no operator looked at HostingDeployment {name} within {seconds} s: does one run, and does it serve \
             spec.providerRef? It stays applied"
        ));
    };
    let ready = status.conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str());
    let why =
        ready.map_or_else(|| "nothing is known".to_owned(), |ready| format!("{}: {}", ready.reason, ready.message));
    let said = format!("HostingDeployment {name} is not Ready within {seconds} s: {why}. It stays applied");
    CommandError::new(on_one_line(&said))
}

/// What trying again does not change: the API server lets this user not look.
fn not_allowed(name: &str, error: &watcher::Error) -> Option<CommandError> {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return None;
    };
    matches!(status.code, 401 | 403).then(|| {
        CommandError::new(format!(
            "HostingDeployment {name} stays applied, and what comes of it cannot be seen: {}. Ask for the right to list and \
             watch HostingDeployments, or run the command with --no-wait",
            on_one_line(status.message.trim_end_matches('.'))
        ))
    })
}

/// What was printed so far.
struct Shown<'a> {
    since: Instant,
    called: Option<&'a String>,
    last: BTreeMap<String, (String, String)>,
    colours: bool,
}

impl Shown<'_> {
    fn changes(&mut self, status: &HostingDeploymentStatus) -> Result<(), CommandError> {
        let passed = self.since.elapsed().as_secs_f64();
        for condition in &status.conditions {
            let now = (condition.status.clone(), condition.reason.clone());
            if self.last.get(&condition.type_) != Some(&now) {
                let called = self.called.map_or_else(String::new, |name| format!("{name}  "));
                print(&format!("{passed:>8.3} s  {called}{}\n", line(condition, self.colours)))?;
                self.last.insert(condition.type_.clone(), now);
            }
        }
        self.last.retain(|kind, _| status.conditions.iter().any(|condition| &condition.type_ == kind));
        Ok(())
    }
}

fn line(condition: &Condition, colours: bool) -> String {
    let Condition { type_, status, reason, message, last_transition_time: _, observed_generation: _ } = condition;
    // A message may quote what a device said, and this goes to a terminal.
    let message = on_one_line(message);
    let wanted = !matches!(type_.as_str(), "Stalled" | "Reconciling");
    let code = match status.as_str() {
        "True" if wanted => "32",
        "False" if wanted => "31",
        _ => "33",
    };
    let shade = if type_ == "Stalled" { "31" } else { code };
    let value = format!("{status:<8}");
    let value = if colours { format!("\u{1b}[{shade}m{value}\u{1b}[0m") } else { value };
    format!("{type_:<17}{value}{reason}: {message}")
}

/// On a terminal, unless its user wants none.
fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && std::io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> HostingDeploymentStatus {
        let condition = |(kind, status, message): &(&str, &str, &str)| {
            json!({
                "type": kind, "status": status, "reason": "R", "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions: Vec<_> = conditions.iter().map(condition).collect();
        serde_json::from_value(json!({"observedGeneration": 1, "conditions": conditions})).unwrap()
    }

    #[test]
    fn ready_ends_well_and_stalled_with_its_sentence() {
        let going = status(&[("Ready", "False", "a"), ("Reconciling", "True", "a")]);
        assert!(ending("web", &going).is_none());
        assert!(ending("web", &status(&[("Ready", "True", "a")])).unwrap().is_ok());
        let stalled = status(&[("Ready", "False", "a"), ("Stalled", "True", "sign again")]);
        let error = ending("web", &stalled).unwrap().unwrap_err().to_string();
        assert_eq!(error, "HostingDeployment web is not Ready: R: sign again");
        let late = too_late("web", Some(&going), Duration::from_secs(3)).to_string();
        assert_eq!(late, "HostingDeployment web is not Ready within 3 s: R: a. It stays applied");
    }

    #[test]
    fn who_may_not_look_is_told_at_once() {
        let status = |code: u16| {
            let status = json!({"status": "Failure", "message": "not\nyours", "reason": "Forbidden", "code": code});
            serde_json::from_value::<kube::core::Status>(status).unwrap()
        };
        for error in [
            watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status(403)))),
            watcher::Error::WatchError(Box::new(status(401))),
        ] {
            let said = not_allowed("web", &error).unwrap().to_string();
            assert!(
                said.contains("web stays applied") && said.contains("not yours") && said.contains("--no-wait"),
                "{said}"
            );
        }
        assert!(not_allowed("web", &watcher::Error::WatchError(Box::new(status(410)))).is_none());
        assert!(not_allowed("web", &watcher::Error::NoResourceVersion).is_none());
    }

    #[test]
    fn a_line_has_colours_only_where_they_are_seen() {
        let shown = |kind, value, colours| line(&status(&[(kind, value, "m\u{1b}[2J")]).conditions[0], colours);
        assert_eq!(shown("Ready", "True", false), "Ready            True    R: m [2J");
        assert_eq!(shown("Ready", "True", true), "Ready            \u{1b}[32mTrue    \u{1b}[0mR: m [2J");
        assert!(shown("Ready", "False", true).contains("[31m"));
        assert!(shown("Stalled", "True", true).contains("[31m"));
        assert!(shown("Reconciling", "True", true).contains("[33m"));
    }
}
