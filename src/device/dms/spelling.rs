//! Which names a device uses in its replies; versions of DMS differ in them.

use serde_json::Value;

/// How a reply is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// With the Go names of earlier versions: `Status`, `Deployments`.
    Old,
    /// With the names of the newest version: `status`, `deployments`.
    New,
}

impl Spelling {
    /// How a reply of `deployment/status` is spelt; `None` when it shows neither way.
    #[must_use]
    pub fn of_status(reply: &Value) -> Option<Self> {
        match (reply.get("status").is_some(), reply.get("Status").is_some()) {
            (true, false) => Some(Self::New),
            (false, true) => Some(Self::Old),
            (true, true) | (false, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spelling_of_a_status_is_told_by_its_first_member() {
        for (reply, spelling) in [
            (json!({"status": "Running", "error": ""}), Some(Spelling::New)),
            (json!({"Status": "Running", "Error": ""}), Some(Spelling::Old)),
            (json!({"status": "", "Status": ""}), None),
            (json!({"error": "not found"}), None),
            (json!(["status"]), None),
            (json!(null), None),
        ] {
            assert_eq!(Spelling::of_status(&reply), spelling, "{reply}");
        }
    }
}
