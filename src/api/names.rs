//! Well-known names: finalizers, annotations, labels, metadata keys.

/// Keeps a `HostingDeployment` until what it started on a device is stopped and its tombstone is written.
pub const FINALIZER: &str = "hosting.nunet.io/cleanup";
/// Set to `Abandon`, it finishes a deletion without the device and records what was left behind.
pub const ANNOTATION_CLEANUP: &str = "hosting.nunet.io/cleanup";
/// The value of [`ANNOTATION_CLEANUP`] that gives up on the device.
pub const CLEANUP_ABANDON: &str = "Abandon";
/// Set to `true`, the operator leaves the object as it is.
pub const ANNOTATION_SUSPEND: &str = "hosting.nunet.io/suspend";
/// On a `HostingDevice` that lost its state, a time (RFC 3339): as it is since then, the operator takes it again.
pub const ANNOTATION_ADOPT: &str = "hosting.nunet.io/adopt";
/// A time (RFC 3339). Changed, the operator looks at the object at once.
pub const ANNOTATION_REQUESTED_AT: &str = "hosting.nunet.io/requestedAt";
/// On the record of a grant, the DID that it is for, without `did:key:`.
pub const LABEL_SUBJECT: &str = "hosting.nunet.io/subject";
/// The field manager of everything this operator writes with server-side apply.
pub const FIELD_MANAGER: &str = "dms-operator";
/// The field manager of what a person changes with the command line.
pub const FIELD_MANAGER_OF_PEOPLE: &str = "kubectl-hosting";
/// The field manager of what the provider's actor applies on an owner's behalf.
pub const FIELD_MANAGER_OF_DOOR: &str = "dms-operator-door";
/// The controller named in Events.
pub const REPORTER: &str = "dms-operator";
/// Marks the objects the operator keeps for itself: tombstones, copies of revocations, grants.
pub const LABEL_COMPONENT: &str = "hosting.nunet.io/component";

/// Whether a text is a DNS label, as the names of namespaces are.
#[must_use]
pub fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
        && text.bytes().next().is_some_and(plain)
        && text.bytes().next_back().is_some_and(plain)
}

/// Keys of the metadata of an ensemble, by which a deployment on a device is known as ours.
pub mod metadata {
    /// Installation id, a UUID.
    pub const INSTALLATION: &str = "hosting.nunet.io/installation";
    /// Namespace of the `HostingDeployment`.
    pub const NAMESPACE: &str = "hosting.nunet.io/namespace";
    /// Name of the `HostingDeployment`.
    pub const NAME: &str = "hosting.nunet.io/name";
    /// Uid of the `HostingDeployment`.
    pub const UID: &str = "hosting.nunet.io/uid";
    /// Number of the attempt, in decimal.
    pub const ATTEMPT: &str = "hosting.nunet.io/attempt";
    /// DID of the device the ensemble was made for.
    pub const DEVICE: &str = "hosting.nunet.io/device";
    /// Digest of what is to run, without metadata and without the credentials made for the attempt.
    pub const DIGEST: &str = "hosting.nunet.io/digest";
    /// HMAC over all of these with the installation key.
    pub const TAG: &str = "hosting.nunet.io/tag";
    /// Marks the record that proves a device's list complete.
    pub const SENTINEL: &str = "hosting.nunet.io/sentinel";
}
