//! The verdict over an object, as the provider reaches it.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::carried::Carried;
use super::schema::unknown_fields;
use super::{name_of, namespace_of, text};
use crate::api::Permission;
use crate::capability::{Did, Nanos, Reason, Refusal, RevocationKey};
use crate::plan::authorise::{Accepted, Highest, Rules, Standing, anew, authorise};

/// By what is judged.
#[derive(Debug, Default)]
pub(super) struct Bench {
    /// DID of the provider; `None`: whom the object itself is addressed to.
    pub(super) provider: Option<Did>,
    /// Who named it.
    pub(super) named_by: Source,
    pub(super) revoked: BTreeSet<RevocationKey>,
    pub(super) denied: BTreeSet<Did>,
    pub(super) highest: Option<Highest>,
    pub(super) rollback: Permission,
}

/// A verdict and what it is about.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Judgement {
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) verdict: Verdict,
    /// Code of the refusal; `None` when accepted.
    pub(super) reason: Option<&'static str>,
    /// The link of the chain that the refusal is about.
    pub(super) link: Option<String>,
    pub(super) message: String,
    /// For whom it was judged; `None`, when nobody is named anywhere.
    pub(super) provider: Option<Did>,
    /// Where that DID comes from.
    pub(super) provider_from: Source,
    pub(super) signer: Option<Did>,
    pub(super) not_after: Option<Nanos>,
    /// Fields that the kind does not have.
    pub(super) unknown_fields: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Accept,
    Reject,
}

/// Who said who the provider is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Source {
    /// The command line.
    #[default]
    Argument,
    /// The status of the HostingProvider.
    Cluster,
    /// The recipient of the object's own envelope.
    Envelope,
    /// The issuer of the grant that the object carries.
    Grant,
    /// Nobody.
    Nowhere,
}

impl Judgement {
    /// Whether it is accepted, and all of it is known.
    pub(super) fn is_clean(&self) -> bool {
        self.verdict == Verdict::Accept && self.unknown_fields.is_empty()
    }

    fn accepted(mut self, accepted: &Accepted) -> Self {
        let Accepted { digest: _, signer, signed, not_after, links: _ } = accepted;
        self.verdict = Verdict::Accept;
        self.message = format!("signed by {signer} at {signed}, valid until {not_after}");
        self.signer = Some(signer.clone());
        self.not_after = Some(*not_after);
        self
    }

    fn refused(mut self, refusal: Refusal) -> Self {
        let Refusal { reason, link, message } = refusal;
        self.reason = Some(reason.code());
        self.link = link;
        self.message = message;
        self
    }
}

impl Bench {
    pub(super) fn judge(&self, object: &Value, now: Nanos) -> Judgement {
        let carried = Carried::of(object);
        let (provider, provider_from) = self.provider_of(carried.as_ref());
        let judgement = Judgement {
            namespace: namespace_of(object).map(str::to_owned),
            name: name_of(object).map(str::to_owned),
            verdict: Verdict::Reject,
            reason: None,
            link: None,
            message: String::new(),
            provider: provider.clone(),
            provider_from,
            signer: None,
            not_after: carried.map(|carried| carried.not_after),
            unknown_fields: unknown_fields(object),
        };
        if text(object, "/spec/authorization/invocation").is_none() {
            return judgement.refused(Refusal::explained(Reason::NotSigned, "the spec is not signed"));
        }
        let Some(provider) = provider else {
            return judgement.refused(Refusal::explained(Reason::Malformed, "the signature cannot be read"));
        };
        match self.standing(object, &provider, now) {
            Standing::Valid(accepted) => judgement.accepted(&accepted),
            Standing::Expired { accepted: _, refusal } | Standing::Refused(refusal) => judgement.refused(refusal),
        }
    }

    /// Where an object stands with a provider.
    pub(super) fn standing(&self, object: &Value, provider: &Did, now: Nanos) -> Standing {
        let rules = Rules {
            judge: &anew,
            provider,
            anchors: std::slice::from_ref(provider),
            revoked: &|key| self.revoked.contains(key),
            denied: &self.denied,
            highest: self.highest.as_ref(),
            rollback: self.rollback,
            now,
        };
        authorise(object, &rules)
    }

    fn provider_of(&self, carried: Option<&Carried>) -> (Option<Did>, Source) {
        if let Some(provider) = &self.provider {
            return (Some(provider.clone()), self.named_by);
        }
        match carried {
            Some(Carried { provider: Some(provider), .. }) => (Some(provider.clone()), Source::Envelope),
            Some(Carried { provider: None, root: Some(root), .. }) => (Some(root.clone()), Source::Grant),
            _ => (None, Source::Nowhere),
        }
    }
}
