//! The kinds of `hosting.nunet.io/v1alpha1`, their conditions, reasons and constants. Pure: no clock, no
//! network, no client.
//!
//! A field is here only when a test shows it obeyed (`tests/it/fields.rs` walks every leaf). Nothing inside
//! a `spec` has a schema default: what is stored is exactly what its owner signed.

// `printcolumn` repeats its members by design.
#![allow(clippy::duplicated_attributes)]

mod deployment;
mod device;
pub mod digest;
pub mod door;
pub mod names;
mod provider;
pub mod reason;
mod revocation;
mod shared;

pub use deployment::{
    AcceptedRevision, Access, Archive, Authorization, ConfigMapRef, Content, ContentSource, DeploymentRecord,
    HostingDeployment, HostingDeploymentSpec, HostingDeploymentStatus, OnExpiry, Placement,
};
pub use device::{HostingDevice, HostingDeviceSpec, HostingDeviceStatus, Reachability, ReplySpelling, SentinelRecord};
pub use provider::{
    AllowedNamespaces, AnySubject, ContentPolicy, GrantOffer, GrantSubjects, HostingProvider, HostingProviderSpec,
    HostingProviderStatus, Identity, NamespacesFrom, NoticeSinks, Permission, Policy, Quotas, S3, S3Auth, Storage,
    Webhook,
};
pub use reason::{ConditionType, Reason};
pub use revocation::{CapabilityRevocation, CapabilityRevocationSpec, CapabilityRevocationStatus};
pub use shared::{LabelSelector, ObjectReference, SecretReference};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The API group of every kind here.
pub const GROUP: &str = "hosting.nunet.io";
/// The one served and stored version.
pub const VERSION: &str = "v1alpha1";

/// The custom resource definitions, in the order in which they are installed.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    let mut crds =
        vec![HostingDeployment::crd(), HostingProvider::crd(), HostingDevice::crd(), CapabilityRevocation::crd()];
    crds.iter_mut()
        .flat_map(|crd| &mut crd.spec.versions)
        .filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
        .for_each(drop_nullable);
    crds
}

/// Makes the API server read `null` as an absent field, which it otherwise stores: `authorization: null` would count as
/// present in the rule that asks for a signature.
fn drop_nullable(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(drop_nullable);
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        drop_nullable(values);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => drop_nullable(items),
        Some(JSONSchemaPropsOrArray::Schemas(schemas)) => schemas.iter_mut().for_each(drop_nullable),
        None => {}
    }
}
