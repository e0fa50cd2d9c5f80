//! The states of a deployment.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// State of a deployment on a device (`dms-protocol.md` §6.3). Read from its name or its number; written as the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeploymentState {
    /// Taken; bids not yet asked for.
    Preparing,
    /// Choosing among bids.
    Generating,
    /// Reserving resources.
    Committing,
    /// Starting allocations.
    Provisioning,
    /// Everything runs.
    Running,
    /// Did not reach Running before its deadline, or broke.
    Failed,
    /// Being stopped.
    ShuttingDown,
    /// Stopped, or all its tasks ended.
    Completed,
}

impl DeploymentState {
    /// All states; the index is the number on the wire.
    pub const ALL: [Self; 8] = [
        Self::Preparing,
        Self::Generating,
        Self::Committing,
        Self::Provisioning,
        Self::Running,
        Self::Failed,
        Self::ShuttingDown,
        Self::Completed,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preparing => "Preparing",
            Self::Generating => "Generating",
            Self::Committing => "Committing",
            Self::Provisioning => "Provisioning",
            Self::Running => "Running",
            Self::Failed => "Failed",
            Self::ShuttingDown => "ShuttingDown",
            Self::Completed => "Completed",
        }
    }

    /// The number on the wire, as the `status` filter of a list takes it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Preparing => 0,
            Self::Generating => 1,
            Self::Committing => 2,
            Self::Provisioning => 3,
            Self::Running => 4,
            Self::Failed => 5,
            Self::ShuttingDown => 6,
            Self::Completed => 7,
        }
    }

    /// The state with this name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name().eq_ignore_ascii_case(name))
    }

    /// The state with this number.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether it is on its way to [`Self::Running`]: a `shutdown` would not be answered with OK.
    #[must_use]
    pub const fn is_starting(self) -> bool {
        matches!(self, Self::Preparing | Self::Generating | Self::Committing | Self::Provisioning)
    }

    /// Whether nothing of it runs any more.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Failed | Self::Completed)
    }
}

impl fmt::Display for DeploymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for DeploymentState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NameOrNumber {
    Number(u64),
    Name(String),
}

impl<'de> Deserialize<'de> for DeploymentState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match NameOrNumber::deserialize(deserializer)? {
            NameOrNumber::Number(number) => Self::from_number(number)
                .ok_or_else(|| D::Error::custom(format!("{number} is not the number of a deployment state"))),
            NameOrNumber::Name(name) => Self::from_name(&name)
                .ok_or_else(|| D::Error::custom(format!("{name:?} is not the name of a deployment state"))),
        }
    }
}

/// Reads a state that may be missing: Go writes the zero value of a text as `""`.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DeploymentState>, D::Error> {
    match Option::<NameOrNumber>::deserialize(deserializer)? {
        None => Ok(None),
        Some(NameOrNumber::Name(name)) if name.is_empty() => Ok(None),
        Some(NameOrNumber::Name(name)) => DeploymentState::from_name(&name)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("{name:?} is not the name of a deployment state"))),
        Some(NameOrNumber::Number(number)) => DeploymentState::from_number(number)
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("{number} is not the number of a deployment state"))),
    }
}

/// Writes a state that may be missing as Go does.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
pub(super) fn state_or_empty<S: Serializer>(state: &Option<DeploymentState>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.map_or("", DeploymentState::name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_protocol() {
        let table = [
            (0, "Preparing"),
            (1, "Generating"),
            (2, "Committing"),
            (3, "Provisioning"),
            (4, "Running"),
            (5, "Failed"),
            (6, "ShuttingDown"),
            (7, "Completed"),
        ];
        for (number, name) in table {
            let state: DeploymentState = serde_json::from_value(json!(number)).unwrap();
            assert_eq!(state, serde_json::from_value(json!(name)).unwrap());
            assert_eq!(state, serde_json::from_value(json!(name.to_uppercase())).unwrap());
            assert_eq!((state.number(), state.to_string(), json!(state)), (number, name.to_owned(), json!(name)));
        }
        for wrong in [json!(8), json!(-1), json!("Run"), json!(""), json!(null), json!(4.0)] {
            assert!(serde_json::from_value::<DeploymentState>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
