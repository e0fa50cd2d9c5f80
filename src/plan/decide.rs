//! What to do about the one deployment of a HostingDeployment, given what is recorded and what is seen.
//!
//! Silence is no sight at all: nothing is created or stopped on it. A record without an id is an attempt whose
//! outcome is open; a further attempt begins only when its envelope is dead and a list that is known to be complete
//! does not show it.

use std::time::Duration;

use crate::{api::Reason, capability::Nanos};

/// What the status of the object says about its deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing was started, or what was started is known never to have been sent.
    None {
        /// Attempts made so far.
        attempts: i64,
    },
    /// An attempt was recorded; whether the device took it is open.
    Open {
        /// Number of the attempt.
        attempt: i64,
        /// When its envelope dies.
        expires: Nanos,
    },
    /// The device gave an id.
    Bound {
        /// Number of the attempt.
        attempt: i64,
        /// The id.
        id: String,
    },
}

/// How far a deployment on a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Before Running: it can be neither stopped nor used.
    Starting,
    /// Running.
    Running,
    /// Shutting down.
    Stopping,
    /// Ended by itself or by a failure.
    Failed,
    /// Ended as asked.
    Completed,
    /// There, in a state by this name that is not known here: it may run, and it may have ended.
    Unknown(String),
}

impl Progress {
    /// Whether it is not known to have ended.
    const fn live(&self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping | Self::Unknown(_))
    }

    /// Whether it may be of no use: it is no reason to stop one that runs.
    const fn doubtful(&self) -> bool {
        matches!(self, Self::Stopping | Self::Unknown(_))
    }
}

/// A deployment on the device whose tag is ours and whose marks name this object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its id.
    pub id: String,
    /// Number of the attempt, from its marks.
    pub attempt: i64,
    /// Digest of what runs, from its marks.
    pub digest: String,
    /// How far it is.
    pub progress: Progress,
    /// When the device says it was made, as the device writes it; only used to order equals.
    pub created: String,
}

/// What was seen on the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The device did not answer, or not in a way that can be used.
    Unknown {
        /// The reason for the conditions.
        reason: Reason,
        /// A sentence.
        message: String,
    },
    /// The device answered.
    Seen {
        /// Deployments of this object.
        own: Vec<Own>,
        /// The recorded id names a deployment that is not ours.
        foreign: bool,
        /// The device's list is known to be whole: what it does not show is not there.
        complete: bool,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Record a new attempt, then send its request once.
    Begin {
        /// Number of the attempt.
        attempt: i64,
    },
    /// Record the id of a deployment found on the device.
    Adopt {
        /// The id.
        id: String,
        /// Number of the attempt that made it.
        attempt: i64,
    },
    /// Ask the device to stop a running deployment.
    Stop {
        /// The id.
        id: String,
    },
    /// Ask the device to forget a deployment that has ended.
    Forget {
        /// The id.
        id: String,
    },
}

/// Ended deployments of one object whose records stay on the device, for who looks into why they ended. Without a
/// limit, one that fails over and over would fill the device's list.
const ENDED_KEPT: usize = 5;

/// What the decision means for the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It runs.
    Running,
    /// Nothing runs, as wanted.
    Idle,
    /// Something is under way; look again after a while or at the given time.
    Pending {
        /// The reason for the conditions.
        reason: Reason,
        /// A sentence.
        message: String,
        /// When looking again is worth it.
        until: Option<Nanos>,
    },
    /// It cannot be told what runs.
    Unknown {
        /// The reason for the conditions.
        reason: Reason,
        /// A sentence.
        message: String,
    },
    /// A person is needed.
    Stalled {
        /// The reason for the conditions.
        reason: Reason,
        /// A sentence.
        message: String,
    },
}

/// Steps, and what to say meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// In this order.
    pub steps: Vec<Step>,
    /// The state to report once they are done.
    pub phase: Phase,
}

/// Decides.
///
/// `wanted`: whether something should run. `skew`: how far the device's clock may be off.
#[must_use]
pub fn decide(wanted: bool, record: &Record, sight: &Sight, now: Nanos, skew: Duration) -> Decision {
    if let (Record::None { .. }, false) = (record, wanted) {
        return only(Phase::Idle);
    }
    let (own, foreign, complete) = match sight {
        Sight::Unknown { reason, message } => {
            return only(Phase::Unknown { reason: *reason, message: message.clone() });
        }
        Sight::Seen { own, foreign, complete } => (own, *foreign, *complete),
    };
    let oldest = oldest_live(own);
    match record {
        Record::None { attempts } => match oldest {
            Some(found) => adopt(found),
            None => begin(attempts + 1),
        },
        Record::Open { attempt, expires } => {
            let dead = expires.plus(skew);
            match own.iter().find(|found| found.attempt == *attempt).or(oldest) {
                Some(found) => adopt(found),
                None if now <= dead => only(Phase::Pending {
                    reason: Reason::Creating,
                    message: format!(
                        "attempt {attempt} was recorded and may have reached the device; its request dies at {dead}"
                    ),
                    until: Some(dead),
                }),
                None if complete => {
                    if wanted {
                        begin(attempt + 1)
                    } else {
                        only(Phase::Idle)
                    }
                }
                None => only(outcome_unknown(&format!("attempt {attempt}"))),
            }
        }
        Record::Bound { id, .. } if foreign => only(Phase::Stalled {
            reason: Reason::ForeignDeployment,
            message: format!(
                "deployment {id} named by status.deployment.id does not carry this object's tag, so it is left alone. If \
                 the status was edited by hand, remove status.deployment.id: the operator then finds its own by tag"
            ),
        }),
        Record::Bound { attempt, id } => bound(wanted, *attempt, id, own, oldest, complete),
    }
}

fn bound(wanted: bool, attempt: i64, id: &str, own: &[Own], oldest: Option<&Own>, complete: bool) -> Decision {
    let Some(recorded) = own.iter().find(|found| found.id == id) else {
        return match oldest {
            Some(found) => adopt(found),
            None if !complete => only(outcome_unknown(&format!("deployment {id}"))),
            None if wanted => begin(attempt + 1),
            None => only(Phase::Idle),
        };
    };
    let mut decision = match &recorded.progress {
        Progress::Failed | Progress::Completed => match oldest {
            Some(found) => adopt(found),
            None if wanted => begin(attempt + 1),
            None => only(Phase::Idle),
        },
        Progress::Running | Progress::Starting | Progress::Stopping | Progress::Unknown(_) => {
            let steps = surplus(recorded, own);
            match &recorded.progress {
                Progress::Running if wanted => Decision { steps, phase: Phase::Running },
                Progress::Running => Decision {
                    steps: own
                        .iter()
                        .filter(|found| found.progress == Progress::Running)
                        .map(|found| Step::Stop { id: found.id.clone() })
                        .collect(),
                    phase: pending(format!("deployment {id} is being stopped")),
                },
                Progress::Unknown(state) => Decision { steps, phase: state_unknown(id, state) },
                Progress::Stopping => Decision { steps, phase: pending(format!("deployment {id} is shutting down")) },
                Progress::Starting | Progress::Failed | Progress::Completed => Decision {
                    steps,
                    phase: Phase::Pending {
                        reason: Reason::Creating,
                        message: format!("deployment {id} is being started by the device"),
                        until: None,
                    },
                },
            }
        }
    };
    decision.steps.extend(superfluous_records(id, own));
    decision
}

/// Records of ended deployments beyond those that are kept, the oldest first.
fn superfluous_records(recorded: &str, own: &[Own]) -> impl Iterator<Item = Step> {
    let over = |found: &&Own| matches!(found.progress, Progress::Failed | Progress::Completed);
    let mut ended: Vec<&Own> = own.iter().filter(over).filter(|found| found.id != recorded).collect();
    ended.sort_by(|a, b| age(a).cmp(&age(b)));
    ended.truncate(ended.len().saturating_sub(ENDED_KEPT));
    ended.into_iter().map(|found| Step::Forget { id: found.id.clone() }).collect::<Vec<_>>().into_iter()
}

/// Of several that run the same, the oldest stays. One with another digest is left to the update that replaces it.
fn surplus(recorded: &Own, own: &[Own]) -> Vec<Step> {
    let keep = own
        .iter()
        .filter(|found| found.progress.live() && found.digest == recorded.digest)
        .min_by(|a, b| (a.progress.doubtful(), age(a)).cmp(&(b.progress.doubtful(), age(b))));
    let Some(keep) = keep else { return Vec::new() };
    let mut steps = Vec::new();
    if keep.id != recorded.id {
        steps.push(Step::Adopt { id: keep.id.clone(), attempt: keep.attempt });
    }
    steps.extend(
        own.iter()
            .filter(|found| found.progress == Progress::Running && found.digest == keep.digest && found.id != keep.id)
            .map(|found| Step::Stop { id: found.id.clone() }),
    );
    steps
}

fn age(own: &Own) -> (i64, &str, &str) {
    (own.attempt, &own.created, &own.id)
}

fn oldest_live(own: &[Own]) -> Option<&Own> {
    // Of what is in a state that is not known, less can be told than of any other.
    let in_doubt = |found: &Own| matches!(found.progress, Progress::Unknown(_));
    own.iter().filter(|found| found.progress.live()).min_by(|a, b| (in_doubt(a), age(a)).cmp(&(in_doubt(b), age(b))))
}

fn adopt(found: &Own) -> Decision {
    Decision {
        steps: vec![Step::Adopt { id: found.id.clone(), attempt: found.attempt }],
        phase: Phase::Pending {
            reason: Reason::Creating,
            message: format!("deployment {} was found on the device by its tag", found.id),
            until: None,
        },
    }
}

fn begin(attempt: i64) -> Decision {
    Decision {
        steps: vec![Step::Begin { attempt }],
        phase: Phase::Pending {
            reason: Reason::Creating,
            message: format!("attempt {attempt} is under way"),
            until: None,
        },
    }
}

fn pending(message: String) -> Phase {
    Phase::Pending { reason: Reason::Progressing, message, until: None }
}

fn state_unknown(id: &str, state: &str) -> Phase {
    Phase::Unknown {
        reason: Reason::DeviceUnreadable,
        message: format!(
            "the device says that deployment {id} is in the state {state:?}, which this version does not know, so it is left \
             as it is, and no other is begun. Look whether a newer version of the operator knows it"
        ),
    }
}

fn outcome_unknown(what: &str) -> Phase {
    Phase::Unknown {
        reason: Reason::OutcomeUnknown,
        message: format!(
            "the device does not show {what}, but its list is not known to be complete, so nothing is created or given \
             up. If the device lost its state, delete this object with the annotation hosting.nunet.io/cleanup=Abandon \
             and apply it again"
        ),
    }
}

fn only(phase: Phase) -> Decision {
    Decision { steps: Vec::new(), phase }
}

#[cfg(test)]
mod tests;
