//! What is asked at the door, by the name of the behaviour.

use crate::api::{
    door::{CHALLENGE, GRANT},
    names::is_label,
};

/// Longest name of a HostingDeployment.
const LONGEST_NAME: usize = 50;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A challenge to prove a DID.
    Challenge,
    /// The grant for an answered challenge.
    Grant,
    /// That an object be applied.
    Apply(Target),
    /// That one be deleted.
    Delete(Target),
}

/// The object that a request is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Request {
    /// The request of this name; `None` when there is none.
    pub(super) fn parse(behaviour: &str) -> Option<Self> {
        match behaviour {
            CHALLENGE => return Some(Self::Challenge),
            GRANT => return Some(Self::Grant),
            _ => {}
        }
        let mut parts = behaviour.strip_prefix("/hosting/")?.split('/');
        let (namespace, action, name) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !is_label(namespace) || !is_label(name) || name.len() > LONGEST_NAME {
            return None;
        }
        let target = Target { namespace: namespace.to_owned(), name: name.to_owned() };
        match action {
            "apply" => Some(Self::Apply(target)),
            "delete" => Some(Self::Delete(target)),
            _ => None,
        }
    }

    /// In one word, for the log.
    pub(super) const fn what(&self) -> &'static str {
        match self {
            Self::Challenge => "challenge",
            Self::Grant => "grant",
            Self::Apply(_) => "apply",
            Self::Delete(_) => "delete",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_requests() {
        let target = |namespace: &str, name: &str| Target { namespace: namespace.into(), name: name.into() };
        assert_eq!(Request::parse("/public/hosting/challenge"), Some(Request::Challenge));
        assert_eq!(Request::parse("/public/hosting/grant"), Some(Request::Grant));
        assert_eq!(Request::parse("/hosting/shop/apply/web"), Some(Request::Apply(target("shop", "web"))));
        assert_eq!(Request::parse("/hosting/shop/delete/web"), Some(Request::Delete(target("shop", "web"))));
        let long = format!("/hosting/shop/apply/{}", "a".repeat(51));
        for other in [
            "",
            "/",
            "/hosting",
            "/hosting/shop",
            "/hosting/shop/apply",
            "/hosting/shop/apply/",
            "/hosting/shop/apply/web/",
            "/hosting/shop/apply/web/index.html",
            "/hosting/shop/publish/web",
            "/hosting/shop/Apply/web",
            "/hosting/../apply/web",
            "/hosting/shop/apply/..",
            "/hosting/Shop/apply/web",
            "/hosting/shop//web",
            "/hosting/notice",
            "/public/hosting/challenge/",
            "/public/hosting",
            &long,
        ] {
            assert_eq!(Request::parse(other), None, "{other}");
        }
    }
}
