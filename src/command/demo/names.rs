//! What the objects of the demo are called.

/// Namespace of the operator, as the example names it.
pub(super) const OPERATOR_NAMESPACE: &str = "dms-operator";

/// What the objects of `examples/hello-site` are called.
pub(super) struct Names {
    pub namespace: &'static str,
    pub deployment: &'static str,
    pub files: &'static str,
}

/// As they stand in the example.
pub(super) const NAMES: Names = Names { namespace: "default", deployment: "hello", files: "hello-site" };
