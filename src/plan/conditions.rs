//! Conditions as kstatus reads them: `Ready` sums up; `Reconciling` and `Stalled` exist only while they are true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{ConditionType, Reason},
    capability::Nanos,
};

/// Longest message that goes into a condition, in bytes; the schema of a condition permits 32768.
const MESSAGE_LIMIT: usize = 4096;

/// The value of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// It cannot be told.
    Unknown,
}

impl Value {
    const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One statement about a part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub kind: ConditionType,
    /// The value.
    pub value: Value,
    /// Why.
    pub reason: Reason,
    /// A sentence for a person.
    pub message: String,
}

/// What the pass came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object does what its spec says.
    Ready(String),
    /// It goes on by itself.
    Reconciling(Reason, String),
    /// It needs an edit or a person.
    Stalled(Reason, String),
}

/// The conditions to store: the parts, and what they sum up to.
///
/// `lastTransitionTime` of a condition whose value did not change is kept from `before`.
#[must_use]
pub fn conditions(
    parts: &[Statement],
    outcome: &Outcome,
    before: &[Condition],
    generation: Option<i64>,
    now: Nanos,
) -> Vec<Condition> {
    let statement = |kind, value, reason, message: &str| Statement { kind, value, reason, message: message.to_owned() };
    let summary = match outcome {
        Outcome::Ready(message) => {
            vec![statement(ConditionType::Ready, Value::True, Reason::Succeeded, message)]
        }
        Outcome::Reconciling(reason, message) => vec![
            statement(ConditionType::Ready, Value::False, *reason, message),
            statement(ConditionType::Reconciling, Value::True, *reason, message),
        ],
        Outcome::Stalled(reason, message) => vec![
            statement(ConditionType::Ready, Value::False, *reason, message),
            statement(ConditionType::Stalled, Value::True, *reason, message),
        ],
    };
    summary.iter().chain(parts).map(|statement| condition(statement, before, generation, now)).collect()
}

fn condition(statement: &Statement, before: &[Condition], generation: Option<i64>, now: Nanos) -> Condition {
    let Statement { kind, value, reason, message } = statement;
    // What it is stalled by is what a person settles: another reason is another stall.
    let same_reason = |old: &Condition| *kind != ConditionType::Stalled || old.reason == reason.as_str();
    let since = before
        .iter()
        .find(|old| old.type_ == kind.as_str() && old.status == value.as_str() && same_reason(old))
        .map_or_else(|| Time(whole_seconds(now)), |old| old.last_transition_time.clone());
    Condition {
        type_: kind.as_str().to_owned(),
        status: value.as_str().to_owned(),
        reason: reason.as_str().to_owned(),
        message: shortened(message),
        last_transition_time: since,
        observed_generation: generation,
    }
}

/// Stored times have no fraction, so neither have ours: otherwise what is stored never equals what is computed.
#[must_use]
pub fn whole_seconds(now: Nanos) -> jiff::Timestamp {
    Nanos(now.0 / 1_000_000_000 * 1_000_000_000).to_timestamp()
}

fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_LIMIT {
        return message.to_owned();
    }
    let mut end = MESSAGE_LIMIT;
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &message[..end])
}

/// The statements that changed in value or reason and are worth an Event, by condition type.
#[must_use]
pub fn changed<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<&'a Condition> {
    after
        .iter()
        .filter(|new| {
            !before.iter().any(|old| old.type_ == new.type_ && old.status == new.status && old.reason == new.reason)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: Nanos = Nanos(1_800_000_000_123_456_789);

    #[test]
    fn reconciling_and_stalled_exist_only_while_true() {
        let types = |outcome: &Outcome| {
            conditions(&[], outcome, &[], Some(3), THEN)
                .into_iter()
                .map(|condition| (condition.type_, condition.status, condition.reason))
                .collect::<Vec<_>>()
        };
        let row = |kind: &str, status: &str, reason: &str| (kind.to_owned(), status.to_owned(), reason.to_owned());
        assert_eq!(types(&Outcome::Ready(String::new())), [row("Ready", "True", "Succeeded")]);
        assert_eq!(
            types(&Outcome::Reconciling(Reason::Creating, String::new())),
            [row("Ready", "False", "Creating"), row("Reconciling", "True", "Creating")]
        );
        assert_eq!(
            types(&Outcome::Stalled(Reason::NoDevice, String::new())),
            [row("Ready", "False", "NoDevice"), row("Stalled", "True", "NoDevice")]
        );
    }

    #[test]
    fn the_time_moves_only_with_the_value_and_has_no_fraction() {
        let first = conditions(&[], &Outcome::Reconciling(Reason::Creating, "a".into()), &[], Some(1), THEN);
        assert_eq!(first[0].last_transition_time.0.subsec_nanosecond(), 0);
        let later = Nanos(THEN.0 + 5_000_000_000);
        let second = conditions(&[], &Outcome::Stalled(Reason::NoDevice, "b".into()), &first, Some(2), later);
        assert_eq!(second[0].last_transition_time, first[0].last_transition_time, "Ready stayed False");
        assert_ne!(second[1].last_transition_time, first[0].last_transition_time, "Stalled is new");
        let third = conditions(&[], &Outcome::Ready("c".into()), &second, Some(2), later);
        assert_ne!(third[0].last_transition_time, first[0].last_transition_time);
    }

    #[test]
    fn only_new_values_and_reasons_count_as_changes() {
        let before = conditions(&[], &Outcome::Reconciling(Reason::Creating, "a".into()), &[], Some(1), THEN);
        let same =
            conditions(&[], &Outcome::Reconciling(Reason::Creating, "other words".into()), &before, Some(1), THEN);
        assert!(changed(&before, &same).is_empty());
        let other = conditions(&[], &Outcome::Reconciling(Reason::NoDevice, "a".into()), &before, Some(1), THEN);
        assert_eq!(changed(&before, &other).len(), 2);
    }
}
