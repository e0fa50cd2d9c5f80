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

/// A state as a device tells it: a version to come may have others than those known here. Of one that is not known
/// nothing is known, neither that the deployment runs nor that it does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToldState {
    /// One of those known here.
    Known(DeploymentState),
    /// Another one, by the name or number that the device gives it, cut when it is long; empty when it gives none.
    Unknown(String),
}

/// Most characters of the name of a state that is not known.
const LONGEST_NAME: usize = 64;

impl ToldState {
    /// The state, if it is known here.
    #[must_use]
    pub const fn known(&self) -> Option<DeploymentState> {
        match self {
            Self::Known(state) => Some(*state),
            Self::Unknown(_) => None,
        }
    }

    /// The name on the wire.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Known(state) => state.name(),
            Self::Unknown(name) => name,
        }
    }
}

impl Default for ToldState {
    fn default() -> Self {
        Self::Unknown(String::new())
    }
}

impl From<DeploymentState> for ToldState {
    fn from(state: DeploymentState) -> Self {
        Self::Known(state)
    }
}

impl From<NameOrNumber> for ToldState {
    fn from(told: NameOrNumber) -> Self {
        let (known, name) = match told {
            NameOrNumber::Number(number) => (DeploymentState::from_number(number), number.to_string()),
            NameOrNumber::Name(name) => (DeploymentState::from_name(&name), name),
        };
        known.map_or_else(|| Self::Unknown(name.chars().take(LONGEST_NAME).collect()), Self::Known)
    }
}

impl Serialize for ToldState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ToldState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NameOrNumber::deserialize(deserializer).map(Self::from)
    }
}

/// Reads a state that may be missing: Go writes the zero value of a text as `""`.
pub(super) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ToldState>, D::Error> {
    let told = Option::<ToldState>::deserialize(deserializer)?;
    Ok(told.filter(|told| !told.name().is_empty()))
}

/// Writes a state that may be missing as Go does.
#[allow(clippy::ref_option)]
pub(super) fn state_or_empty<S: Serializer>(state: &Option<ToldState>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.as_ref().map_or("", ToldState::name))
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

    #[test]
    fn a_state_that_is_not_known_is_kept_by_its_name() {
        let long = "x".repeat(99);
        for (told, read, written) in [
            (json!("running"), ToldState::Known(DeploymentState::Running), "Running"),
            (json!(7), ToldState::Known(DeploymentState::Completed), "Completed"),
            (json!("Hibernating"), ToldState::Unknown("Hibernating".into()), "Hibernating"),
            (json!(8), ToldState::Unknown("8".into()), "8"),
            (json!(""), ToldState::default(), ""),
            (json!(long), ToldState::Unknown(long[..64].into()), &long[..64]),
        ] {
            let state: ToldState = serde_json::from_value(told).unwrap();
            assert_eq!((&state, state.known().is_some()), (&read, matches!(read, ToldState::Known(_))));
            assert_eq!((json!(state), state.name()), (json!(written), written));
        }
        for wrong in [json!(null), json!(true), json!(["Running"])] {
            assert!(serde_json::from_value::<ToldState>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
