//! What a DID is given when it asks: the provider's offers, read once, and the decision over one request.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{span::parse_span, validate::InvalidField};
use crate::{
    api::{
        AnySubject, GrantOffer, GrantSubjects, Reason,
        door::{Declined, GrantAction},
    },
    capability::{self, Did, MAX_LINKS},
};

/// How long a grant holds when its offer does not say so.
const LIFETIME: &str = "720h";
/// How often a grant may be passed on when its offer does not say so.
const DELEGATIONS: i64 = 2;
/// A chain has the grant above its delegations and an invocation below them.
const MOST_DELEGATIONS: u64 = MAX_LINKS as u64 - 2;

/// An offer, defaults applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Who may ask.
    pub subjects: Subjects,
    /// In which namespaces; empty: in all that the provider admits.
    pub namespaces: BTreeSet<String>,
    /// What is given.
    pub actions: BTreeSet<GrantAction>,
    /// For how long.
    pub lifetime: Duration,
    /// How many links may hang below the grant: its delegations and the invocation, so at least 1.
    pub depth: u64,
}

/// Who may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Whoever proves a DID.
    Any,
    /// These.
    Dids(BTreeSet<Did>),
}

impl Subjects {
    fn include(&self, did: &Did) -> bool {
        match self {
            Self::Any => true,
            Self::Dids(dids) => dids.contains(did),
        }
    }
}

/// Reads the offers of a provider.
///
/// # Errors
/// [`InvalidField`] for what the schema lets through and cannot be used.
pub fn offers(specs: &[GrantOffer]) -> Result<Vec<Offer>, InvalidField> {
    specs.iter().map(offer).collect()
}

fn offer(spec: &GrantOffer) -> Result<Offer, InvalidField> {
    let GrantOffer { subjects, namespaces, actions, lifetime, max_delegations } = spec;
    let invalid = |field, cause: String| InvalidField { field, cause };
    let subjects = match subjects {
        GrantSubjects { any: Some(AnySubject {}), dids: None } => Subjects::Any,
        GrantSubjects { any: None, dids: Some(dids) } => {
            let read = |did: &String| {
                let cause = |error| format!("{did} is not a DID that can be used here: {error}");
                Did::parse(did).map_err(|error| invalid("spec.grants[].subjects.dids", cause(error)))
            };
            Subjects::Dids(dids.iter().map(read).collect::<Result<_, _>>()?)
        }
        GrantSubjects { any: _, dids: _ } => {
            return Err(invalid("spec.grants[].subjects", "set exactly one of any, dids".to_owned()));
        }
    };
    let lifetime = parse_span(lifetime.as_deref().unwrap_or(LIFETIME))
        .map_err(|error| invalid("spec.grants[].lifetime", error.to_string()))?;
    if lifetime.is_zero() {
        return Err(invalid("spec.grants[].lifetime", "a grant that holds for no time gives nothing".to_owned()));
    }
    let delegations = u64::try_from(max_delegations.unwrap_or(DELEGATIONS)).ok().filter(|n| *n <= MOST_DELEGATIONS);
    let delegations = delegations.ok_or_else(|| {
        invalid("spec.grants[].maxDelegations", format!("write a number from 0 to {MOST_DELEGATIONS}"))
    })?;
    Ok(Offer {
        subjects,
        namespaces: namespaces.iter().cloned().collect(),
        actions: actions.iter().copied().collect(),
        lifetime,
        depth: delegations + 1,
    })
}

/// What a DID asks for.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Who asks.
    pub did: &'a Did,
    /// Where.
    pub namespace: &'a str,
    /// What; empty asks for all that is given.
    pub actions: &'a [GrantAction],
}

/// What is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// What; at least one.
    pub actions: BTreeSet<GrantAction>,
    /// For how long.
    pub lifetime: Duration,
    /// How many links may hang below the grant, at least 1.
    pub depth: u64,
}

/// Decides over a request: all that was asked for, or nothing. `admitted` says whether the provider takes deployments from
/// the namespace.
///
/// # Errors
/// [`Declined`], which says what would be given.
pub fn decide(offers: &[Offer], denied: &BTreeSet<Did>, admitted: bool, wish: &Wish<'_>) -> Result<Given, Declined> {
    let Wish { did, namespace, actions } = *wish;
    let refused = |reason, message: String| Err(Declined { reason, message });
    if denied.contains(did) {
        let reason = capability::Reason::Denied;
        return refused(reason.into(), format!("the provider denies {did}. {}", reason.next_step()));
    }
    if !admitted {
        let message = format!(
            "the provider takes no deployments from namespace {namespace}. Name another with `--namespace`, or ask the \
             provider to admit it"
        );
        return refused(Reason::NamespaceNotAllowed, message);
    }
    let mut given: BTreeMap<GrantAction, &Offer> = BTreeMap::new();
    for offer in offers {
        let here = offer.namespaces.is_empty() || offer.namespaces.contains(namespace);
        if here && offer.subjects.include(did) {
            for action in &offer.actions {
                given.entry(*action).or_insert(offer);
            }
        }
    }
    let missing = list(actions.iter().filter(|action| !given.contains_key(*action)));
    if given.is_empty() {
        let message = format!(
            "the provider gives {did} nothing in namespace {namespace}. Ask the provider for an entry in its spec.grants"
        );
        return refused(Reason::NotInPolicy, message);
    }
    if !missing.is_empty() {
        let message = format!(
            "the provider does not give {did} {missing} in namespace {namespace}, only {}. Ask for these with \
             `kubectl hosting login --can`, or ask the provider for more in its spec.grants",
            list(given.keys())
        );
        return refused(Reason::NotInPolicy, message);
    }
    if !actions.is_empty() {
        given.retain(|action, _| actions.contains(action));
    }
    let used = || given.values().copied();
    // proven: something is given, so there is a shortest lifetime and a least depth.
    let lifetime = used().map(|offer| offer.lifetime).min().unwrap_or_default();
    let depth = used().map(|offer| offer.depth).min().unwrap_or(1);
    Ok(Given { actions: given.into_keys().collect(), lifetime, depth })
}

fn list<'a>(actions: impl Iterator<Item = &'a GrantAction>) -> String {
    actions.map(|action| action.as_str()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
