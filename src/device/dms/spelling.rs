//! Which names a device uses in its replies; versions of DMS differ in them.

use serde_json::Value;

use crate::api::ReplySpelling;

/// How a reply of `deployment/status` is spelt: with the Go names of earlier versions (`Status`) or those of the newest
/// (`status`). `None` when it shows neither way.
#[must_use]
pub fn spelling_of_status(reply: &Value) -> Option<ReplySpelling> {
    match (reply.get("status").is_some(), reply.get("Status").is_some()) {
        (true, false) => Some(ReplySpelling::New),
        (false, true) => Some(ReplySpelling::Old),
        (true, true) | (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_spelling_of_a_status_is_told_by_its_first_member() {
        for (reply, spelling) in [
            (json!({"status": "Running", "error": ""}), Some(ReplySpelling::New)),
            (json!({"Status": "Running", "Error": ""}), Some(ReplySpelling::Old)),
            (json!({"status": "", "Status": ""}), None),
            (json!({"error": "not found"}), None),
            (json!(["status"]), None),
            (json!(null), None),
        ] {
            assert_eq!(spelling_of_status(&reply), spelling, "{reply}");
        }
    }
}
