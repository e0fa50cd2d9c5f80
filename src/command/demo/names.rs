//! What the objects of the demo are called.

/// Namespace of the operator, as the example names it.
pub(super) const OPERATOR_NAMESPACE: &str = "dms-operator";

/// What the objects of the person are called.
pub(super) struct Names {
    pub namespace: &'static str,
    pub deployment: &'static str,
    pub files: &'static str,
    pub revocation: &'static str,
}

/// As they stand in `examples/hello-site`, and one more.
pub(super) const NAMES: Names =
    Names { namespace: "default", deployment: "hello", files: "hello-site", revocation: "ci-lost" };
