//! From the fields of a spec to typed values.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    api::{Access, ContentSource, HostingDeploymentSpec, HostingProviderSpec, LabelSelector, OnExpiry, Permission},
    capability::Did,
    plan::{
        grants::{Offer, offers},
        span::parse_span,
    },
};

/// A part of a spec that the schema lets through but that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} cannot be used: {cause}")]
pub struct InvalidField {
    /// Path of the field.
    pub field: &'static str,
    /// What is wrong.
    pub cause: String,
}

/// What a HostingDeployment asks for, defaults applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `sha256:` and 64 hex digits.
    pub release: String,
    /// Where missing files come from.
    pub source: Option<ContentSource>,
    /// File served for a path that ends in `/`.
    pub index_file: String,
    /// Who may read.
    pub access: Access,
    /// Labels a device must carry.
    pub selector: Option<LabelSelector>,
    /// What happens at expiry.
    pub on_expiry: OnExpiry,
}

/// File served for a path that ends in `/` when the spec names none.
pub const INDEX_FILE: &str = "index.html";

/// The spec with its defaults applied.
#[must_use]
pub fn wanted(spec: &HostingDeploymentSpec) -> Wanted {
    let HostingDeploymentSpec { owner: _, provider_ref: _, authorization: _, content, placement, on_expiry } = spec;
    Wanted {
        release: content.release.clone(),
        source: content.from.clone(),
        index_file: content.index_file.clone().unwrap_or_else(|| INDEX_FILE.to_owned()),
        access: content.access.unwrap_or_default(),
        selector: placement.as_ref().and_then(|placement| placement.device_selector.clone()),
        on_expiry: on_expiry.unwrap_or_default(),
    }
}

/// What a provider permits, defaults applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What is given to who asks for a grant.
    pub offers: Vec<Offer>,
    /// Who may stand in no chain.
    pub denied: BTreeSet<Did>,
    /// Whether an older signed spec may come back.
    pub rollback: Permission,
    /// How long expired work goes on.
    pub keep_expired_for: Duration,
    /// Whether public content is permitted.
    pub public_access: Permission,
    /// How long releases of deleted objects are kept at least.
    pub retain_after_delete: Duration,
    /// Largest release, in bytes.
    pub max_release_bytes: u64,
    /// Largest release, in files.
    pub max_release_files: u64,
}

/// The provider's terms.
///
/// # Errors
/// [`InvalidField`] for a span of time that cannot be read.
pub fn terms(spec: &HostingProviderSpec) -> Result<Terms, InvalidField> {
    let policy = spec.policy.clone().unwrap_or_default();
    let content = spec.content.clone().unwrap_or_default();
    let quotas = content.quotas.unwrap_or_default();
    let span = |text: Option<&str>, default: &str, field: &'static str| {
        parse_span(text.unwrap_or(default)).map_err(|error| InvalidField { field, cause: error.to_string() })
    };
    let denied = spec.denied_dids.iter().map(|did| {
        Did::parse(did).map_err(|error| InvalidField {
            field: "spec.deniedDIDs",
            cause: format!("{did} is not a DID that can be used here: {error}"),
        })
    });
    Ok(Terms {
        offers: offers(&spec.grants)?,
        denied: denied.collect::<Result<_, _>>()?,
        rollback: policy.rollback.unwrap_or_default(),
        keep_expired_for: span(policy.keep_expired_for.as_deref(), "72h", "spec.policy.keepExpiredFor")?,
        public_access: policy.public_access.unwrap_or_default(),
        retain_after_delete: span(content.retain_after_delete.as_deref(), "168h", "spec.content.retainAfterDelete")?,
        max_release_bytes: quotas.max_release_bytes.map_or(1 << 30, i64::unsigned_abs),
        max_release_files: quotas.max_release_files.map_or(20_000, i64::unsigned_abs),
    })
}

/// Whether a provider takes deployments from a namespace with these labels.
#[must_use]
pub fn namespace_allowed(
    spec: &HostingProviderSpec,
    provider_namespace: &str,
    namespace: &str,
    labels: &std::collections::BTreeMap<String, String>,
) -> bool {
    use crate::api::NamespacesFrom;
    match &spec.allowed_namespaces {
        None => namespace == provider_namespace,
        Some(allowed) => match allowed.from {
            NamespacesFrom::Same => namespace == provider_namespace,
            NamespacesFrom::All => true,
            // An absent selector is refused by the schema; here it selects nothing.
            NamespacesFrom::Selector => allowed.selector.as_ref().is_some_and(|selector| selector.matches(labels)),
        },
    }
}
