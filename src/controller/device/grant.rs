//! What the grant of a device's owner allows, and until when. A device says nothing when a right is missing, so the token
//! itself is read.

use std::time::Duration;

use crate::{
    api::{ConditionType, Reason},
    capability::{Nanos, RevocationKey, Token},
    device::dms::path,
    plan::conditions::{Statement, Value},
};

/// So long before its end a grant is said to be ending.
const SOON: Duration = Duration::from_hours(7 * 24);

/// A link of a grant that its issuer took back.
pub(super) struct TakenBack {
    pub key: RevocationKey,
    /// When the link would have ended.
    pub ends: Nanos,
    /// For people.
    pub message: String,
}

/// What keeps a grant from being used at all.
pub(super) fn taken_back(grant: &Token, revoked: &dyn Fn(&RevocationKey) -> bool) -> Option<TakenBack> {
    let link = grant.links().find(|link| revoked(&link.revocation_key()))?;
    let message = format!("{} took the grant back: ask the owner of the device for a new one", link.issuer());
    Some(TakenBack { key: link.revocation_key(), ends: link.expires(), message })
}

/// What can be said of a grant, for the condition [`ConditionType::GrantValid`].
pub(super) fn statement(grant: &Token, revoked: &dyn Fn(&RevocationKey) -> bool, now: Nanos) -> Statement {
    let (value, reason, message) = match taken_back(grant, revoked) {
        Some(TakenBack { message, .. }) => (Value::False, Reason::GrantInsufficient, message),
        None => judge(grant, now),
    };
    Statement { kind: ConditionType::GrantValid, value, reason, message }
}

fn judge(grant: &Token, now: Nanos) -> (Value, Reason, String) {
    let ends = grant.not_after();
    if ends < now {
        let message = format!("the grant expired at {ends}: ask the owner of the device for a new one");
        return (Value::False, Reason::GrantInsufficient, message);
    }
    let lacking = path::lacking(grant.capabilities());
    if !lacking.is_empty() {
        let message =
            format!("the grant does not allow {}: ask the owner of the device for a new one", lacking.join(", "));
        return (Value::False, Reason::GrantInsufficient, message);
    }
    if ends.since(now) < SOON {
        let message = format!("the grant ends at {ends}: ask the owner of the device for a new one before that");
        return (Value::True, Reason::GrantExpiring, message);
    }
    (Value::True, Reason::GrantSufficient, "the grant allows all that is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Capability, Key, Minting};

    const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

    fn grant(paths: &[&str], lives: Duration) -> Token {
        let minting = Minting {
            subject: Key::from_seed(rand::random()).did().clone(),
            audience: None,
            capabilities: paths.iter().map(|path| Capability::parse(path).unwrap()).collect(),
            topics: Vec::new(),
            expires: NOW.plus(lives),
            depth: 2,
            nonce: rand::random(),
        };
        Token::delegate(&Key::from_seed(rand::random()), minting, None).unwrap()
    }

    #[test]
    fn a_grant_that_was_taken_back_says_by_whom() {
        let grant = grant(&["/"], SOON * 2);
        assert_eq!(statement(&grant, &|_| false, NOW).value, Value::True);
        let key = grant.revocation_key();
        let Statement { kind, value, reason, message } = statement(&grant, &|asked| *asked == key, NOW);
        assert_eq!((kind, value, reason), (ConditionType::GrantValid, Value::False, Reason::GrantInsufficient));
        assert!(message.contains(&grant.issuer().to_string()), "{message}");
    }

    #[test]
    fn a_grant_is_judged_by_its_paths_and_its_end() {
        let year = Duration::from_hours(365 * 24);
        let all = ["/dms/node/deployment", "/dms/node/peers"];
        let judged = |paths: &[&str], lives| {
            let (value, reason, message) = judge(&grant(paths, lives), NOW);
            (value, reason, message)
        };
        assert_eq!(judged(&all, year).1, Reason::GrantSufficient);
        assert_eq!(judged(&["/"], year).1, Reason::GrantSufficient);
        let (value, reason, message) = judged(&all, SOON.saturating_sub(Duration::from_nanos(1)));
        assert_eq!((value, reason), (Value::True, Reason::GrantExpiring));
        assert!(message.contains("2027-01-22"), "{message}");
        assert_eq!(judged(&all, SOON).1, Reason::GrantSufficient);
        let (value, reason, message) = judged(&["/dms/node/deployment/list", "/dms/node/peers"], year);
        assert_eq!((value, reason), (Value::False, Reason::GrantInsufficient));
        assert!(message.contains("/dms/node/deployment/new") && !message.contains("peers"), "{message}");
        assert_eq!(judged(&all, Duration::ZERO).1, Reason::GrantExpiring, "its last nanosecond counts");
        let ended = judge(&grant(&all, Duration::ZERO), NOW.plus(Duration::from_nanos(1)));
        assert_eq!((ended.0, ended.1), (Value::False, Reason::GrantInsufficient));
    }
}
