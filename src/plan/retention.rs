//! How long a revocation is kept, and how many of a namespace count.

use std::time::Duration;

use crate::capability::Nanos;

/// How long a token is taken to live at most when it was never seen here.
pub const LONGEST_GRANT: Duration = Duration::from_hours(366 * 24);

/// So many revocations of one namespace count: a revocation is anyone's to make, and each is held in memory.
pub const REVOCATIONS_PER_NAMESPACE: usize = 64;

/// Until when a revocation is kept at least.
///
/// `link` is the expiry of the token that it takes back, once that was seen. Without it the revocation's own expiry counts,
/// which copies the token's but is only the issuer's word, and never less than the longest grant from its acceptance on.
/// `grace` is how long work may go on after its expiry: that must not begin anew.
#[must_use]
pub fn kept_until(expires: Nanos, accepted: Nanos, link: Option<Nanos>, grace: Duration) -> Nanos {
    link.unwrap_or_else(|| expires.max(accepted.plus(LONGEST_GRANT))).plus(grace)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCEPTED: Nanos = Nanos(1_800_000_000_000_000_000);
    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_token_that_was_seen_says_itself_how_long() {
        let link = ACCEPTED.plus(HOUR);
        for expires in [Nanos(0), link, Nanos::MAX] {
            assert_eq!(kept_until(expires, ACCEPTED, Some(link), Duration::ZERO), link);
        }
        assert_eq!(kept_until(link, ACCEPTED, Some(link), HOUR), link.plus(HOUR));
    }

    #[test]
    fn an_unseen_token_is_taken_to_live_as_long_as_any() {
        let longest = ACCEPTED.plus(LONGEST_GRANT);
        // What the revocation says of itself cannot shorten it: it may be a lie.
        for expires in [Nanos(0), ACCEPTED, longest.minus(HOUR)] {
            assert_eq!(kept_until(expires, ACCEPTED, None, Duration::ZERO), longest);
        }
        let later = longest.plus(HOUR);
        assert_eq!(kept_until(later, ACCEPTED, None, HOUR), later.plus(HOUR));
        assert_eq!(kept_until(Nanos::MAX, ACCEPTED, None, HOUR), Nanos::MAX);
    }
}
