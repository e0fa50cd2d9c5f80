//! The one closed set of reasons, used in conditions, Events, metrics and the command line.

use std::fmt;

use crate::capability;

/// The condition types of the kinds here. `Ready`, `Reconciling` and `Stalled` follow kstatus: the last two exist
/// only while they are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object does what its spec says.
    Ready,
    /// The operator is working on it, or waits for something that will come.
    Reconciling,
    /// It cannot go on without an edit or a person.
    Stalled,
    /// The authorisation of the spec was accepted.
    TokenVerified,
    /// The release is whole in the store.
    ContentPublished,
    /// A deployment runs on a device.
    Deployed,
    /// The device answers.
    DeviceReachable,
    /// The grant of the device's owner allows what the operator needs, and for how long.
    GrantValid,
    /// What the device answers fits together.
    Credible,
}

impl ConditionType {
    /// The text in `conditions[].type`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::TokenVerified => "TokenVerified",
            Self::ContentPublished => "ContentPublished",
            Self::Deployed => "Deployed",
            Self::DeviceReachable => "DeviceReachable",
            Self::GrantValid => "GrantValid",
            Self::Credible => "Credible",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident),+ $(,)?) => {
        /// Why a condition is as it is. Stable: dashboards and scripts match on these texts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
            /// The authorisation was refused; the reason is the capability room's own.
            Token(capability::Reason),
        }

        impl Reason {
            /// Every reason that is not about a token, with what it means.
            pub const OWN: &'static [(Self, &'static str)] =
                &[$((Self::$name, concat!($($doc, "\n"),+))),+];

            /// The text in `conditions[].reason`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                    Self::Token(reason) => reason.code(),
                }
            }
        }
    };
}

reasons! {
    /// The object does what its spec says.
    Succeeded,
    /// Work goes on; the next pass comes by itself.
    Progressing,
    /// The object is being deleted; what it started is being stopped first.
    Deleting,
    /// The object cannot be read as its kind says.
    InvalidObject,
    /// The wall clock, the API server's clock and the monotonic clock disagree: nothing is admitted or stopped.
    ClockSuspect,
    /// The authorisation of the spec was accepted.
    Verified,
    /// The authorisation of the spec holds and ends soon: sign again with `kubectl hosting sign --renew`.
    TokenExpiringSoon,
    /// The HostingProvider is not ready.
    ProviderNotReady,
    /// This operator serves another HostingProvider.
    NotServed,
    /// The provider does not take deployments from this namespace.
    NamespaceNotAllowed,
    /// The Secret with the storage credentials is missing, or a member of it is absent.
    CredentialsMissing,
    /// The release is whole in the store.
    Published,
    /// The object store did not answer, or refused; retried with growing pauses.
    StorageUnavailable,
    /// The prefix in the bucket belongs to another installation.
    ForeignPrefix,
    /// The ConfigMap that holds the files does not exist.
    ConfigMapNotFound,
    /// The files do not hash to `content.release`.
    ContentDigestMismatch,
    /// The release is not in the store, and the spec names no place to fetch it from.
    ReleaseNotFound,
    /// The archive could not be fetched; retried with growing pauses.
    ArchiveUnavailable,
    /// The archive does not have the SHA-256 that the spec names.
    ArchiveDigestMismatch,
    /// The archive holds something that is refused: a link, a path outside, too much data, or it lies at a private
    /// address.
    ArchiveRefused,
    /// The release is larger than the provider permits.
    QuotaExceeded,
    /// The provider does not permit public content.
    PublicAccessRefused,
    /// Content that is not public cannot be read yet: this version has no gateway. The site answers 403.
    PrivateAccessNotAvailable,
    /// The site on the device has not yet reported that it serves the release.
    SiteNotReporting,
    /// It runs on the device.
    Running,
    /// The request to run it is recorded, and its outcome is awaited.
    Creating,
    /// No schedulable, ready device matches the placement.
    NoDevice,
    /// The device named in the status is not a HostingDevice any more.
    DeviceNotFound,
    /// The device refused the deployment.
    DeviceRefused,
    /// The deployment on the device failed.
    DeploymentFailed,
    /// The deployment was stopped, because its authorisation ended.
    Stopped,
    /// The id in the status names a deployment that is not ours; it is left alone.
    ForeignDeployment,
    /// What runs there cannot be told now: the device's list is not known to be complete.
    OutcomeUnknown,
    /// The device answers.
    Reachable,
    /// What the device answers fits together.
    Consistent,
    /// The device answered something that cannot be read, tells of a state that is not known here, or its list changed while it
    /// was read; it is asked again.
    DeviceUnreadable,
    /// The device answered something that cannot be: about another deployment, for another node, or more than a network
    /// carries. It is marked and nothing new goes there; of what it says no end and no use is believed.
    DeviceContradicts,
    /// The device answers and offers no resources.
    NotOnboarded,
    /// The grant of the device's owner allows all that the operator needs.
    GrantSufficient,
    /// The grant of the device's owner ends within a week.
    GrantExpiring,
    /// The device did not answer. What runs there is unknown, so nothing is deleted or created.
    DeviceSilent,
    /// An address of the device, or its grant, cannot be read.
    DeviceInvalid,
    /// The grant of the device's owner lacks a capability or has expired; the device would only be silent.
    GrantInsufficient,
    /// The record that proves the device's list complete is gone: the device lost its state.
    SentinelLost,
    /// The deletion went on without the device; what was left there is recorded.
    Abandoned,
    /// What the deployment started is stopped, and what is kept is recorded.
    CleanedUp,
    /// The namespace has as many revocations as count; the oldest count.
    RevocationQuotaExceeded,
    /// The revocation cannot be read, or is not signed by the issuer it names.
    RevocationRefused,
    /// The request cannot be read: a member is missing, unknown or not in its form, or it lives longer than five minutes.
    RequestMalformed,
    /// Too many requests came from this DID or address; ask again later.
    TooManyRequests,
    /// The DID is another spelling of a key, or of a key type that is not read here.
    DidRefused,
    /// The DID in the request is not that of the key which signed it.
    SenderMismatch,
    /// The provider gives this DID not all that it asks for in this namespace.
    NotInPolicy,
    /// The DID has as many unexpired grants as are kept for one, or the provider as many as are kept at all.
    TooManyGrants,
    /// This provider made no such challenge since it was started.
    ChallengeUnknown,
    /// The challenge was answered too late.
    ChallengeExpired,
    /// The challenge was answered before.
    ChallengeUsed,
    /// The challenge is not signed by the DID that it was made for, or its text was changed.
    WrongSignature,
    /// The object in the request is not the one that the request names, or not one of this provider.
    ObjectMismatch,
    /// There is no such object, or it is another one by now.
    ObjectNotFound,
    /// The API server refused the object.
    ObjectRefused,
    /// The API server did not do what was asked of it; ask again later.
    ClusterUnavailable,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<capability::Reason> for Reason {
    fn from(reason: capability::Reason) -> Self {
        Self::Token(reason)
    }
}
