//! Faults on purpose, for tests and demonstrations of what an operator does when a device misbehaves.

use std::{fmt, path::Path, str::FromStr, time::Duration};

/// What goes wrong. All off by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Faults {
    /// `list-empty`: every list is answered empty, as DMS does on any error of its own.
    pub list_empty: bool,
    /// `list-filtered-empty`: only lists filtered by metadata are answered empty.
    pub list_filtered_empty: bool,
    /// `drop-requests`: every message is lost before it is read.
    pub drop_requests: bool,
    /// `drop-replies`: every message is acted on and none is answered.
    pub drop_replies: bool,
    /// `drop-new-reply`: `deployment/new` is taken and never answered.
    pub drop_new_reply: bool,
    /// `duplicate-reply`: every reply is sent twice.
    pub duplicate_reply: bool,
    /// `delay=<ms>`: every message is acted on at once and answered so much later.
    pub delay: Duration,
}

/// A fault that this node does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no fault: give a list of list-empty, list-filtered-empty, drop-requests, drop-replies, drop-new-reply, \
     duplicate-reply, delay=<ms>"
)]
pub struct UnknownFault(String);

impl FromStr for Faults {
    type Err = UnknownFault;

    fn from_str(text: &str) -> Result<Self, UnknownFault> {
        let mut faults = Self::default();
        for fault in text.split([',', '\n']).map(str::trim).filter(|fault| !fault.is_empty()) {
            match fault {
                "list-empty" => faults.list_empty = true,
                "list-filtered-empty" => faults.list_filtered_empty = true,
                "drop-requests" => faults.drop_requests = true,
                "drop-replies" => faults.drop_replies = true,
                "drop-new-reply" => faults.drop_new_reply = true,
                "duplicate-reply" => faults.duplicate_reply = true,
                other => {
                    let milliseconds = other.strip_prefix("delay=").and_then(|number| number.parse().ok());
                    faults.delay =
                        milliseconds.map(Duration::from_millis).ok_or_else(|| UnknownFault(other.to_owned()))?;
                }
            }
        }
        Ok(faults)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            list_empty,
            list_filtered_empty,
            drop_requests,
            drop_replies,
            drop_new_reply,
            duplicate_reply,
            delay,
        } = self;
        let switches = [
            (*list_empty, "list-empty"),
            (*list_filtered_empty, "list-filtered-empty"),
            (*drop_requests, "drop-requests"),
            (*drop_replies, "drop-replies"),
            (*drop_new_reply, "drop-new-reply"),
            (*duplicate_reply, "duplicate-reply"),
        ];
        let mut on: Vec<String> = switches.iter().filter(|(on, _)| *on).map(|(_, name)| (*name).to_owned()).collect();
        if !delay.is_zero() {
            on.push(format!("delay={}", delay.as_millis()));
        }
        f.write_str(&on.join(","))
    }
}

impl Faults {
    /// The faults that hold now: those in `file`, if there is one, otherwise `self`.
    pub(super) fn current(self, file: &Path) -> Self {
        let Ok(text) = std::fs::read_to_string(file) else { return self };
        text.parse().unwrap_or_else(|error: UnknownFault| {
            tracing::warn!(%error, file = %file.display(), "the file of faults is ignored");
            self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_faults_is_read() {
        let all = "list-empty,list-filtered-empty,drop-requests,drop-replies,drop-new-reply,duplicate-reply,delay=1500";
        let faults: Faults = all.parse().unwrap();
        let expected = Faults {
            list_empty: true,
            list_filtered_empty: true,
            drop_requests: true,
            drop_replies: true,
            drop_new_reply: true,
            duplicate_reply: true,
            delay: Duration::from_millis(1500),
        };
        assert_eq!(faults, expected);
        assert_eq!(faults.to_string(), all);
        assert_eq!("".parse(), Ok(Faults::default()));
        assert_eq!(" list-empty \n".parse(), Ok(Faults { list_empty: true, ..Faults::default() }));
        for wrong in ["list", "delay=", "delay=x", "delay"] {
            assert_eq!(wrong.parse::<Faults>(), Err(UnknownFault(wrong.into())));
        }
    }

    #[test]
    fn the_file_goes_before_the_switch() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("faults");
        let switch = Faults { drop_replies: true, ..Faults::default() };
        assert_eq!(switch.current(&file), switch);
        std::fs::write(&file, "list-empty\n").unwrap();
        assert_eq!(switch.current(&file), Faults { list_empty: true, ..Faults::default() });
        std::fs::write(&file, "").unwrap();
        assert_eq!(switch.current(&file), Faults::default());
        std::fs::write(&file, "nonsense").unwrap();
        assert_eq!(switch.current(&file), switch);
    }
}
