//! Objects that the API server took and this version cannot read: told of, and no harm to the others.

use std::time::Duration;

use dms_operator::{
    api::GROUP,
    capability::Token,
    dev::{ControlPlane, installation::Installation},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{self, eventually},
    definitions::fixture,
    timed::Timed,
    world::{Tenant, events, fetch, installation_on, name, page},
};

const NAMESPACE: &str = "dms-operator";
/// Fixture, field of its spec, and a value that a later version might put there.
const UNREADABLE: [(&str, &str, &str); 3] = [
    ("hostingdevice", "unschedulable", "\"when it is night\""),
    ("hostingprovider", "policy", "[\"strict\"]"),
    ("capabilityrevocation", "token", "{\"dms\":{}}"),
];

fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", object["kind"].as_str().unwrap());
    Api::namespaced_with(client.clone(), NAMESPACE, &ApiResource::from_gvk(&kind))
}

/// The definition no longer says what the field holds, as that of a later version might say something else.
async fn loosen(client: &Client, object: &Value, field: &str) {
    let plural = format!("{}s.{GROUP}", object["kind"].as_str().unwrap().to_lowercase());
    let path = format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
    let patch = json!([{"op": "replace", "path": path, "value": {"x-kubernetes-preserve-unknown-fields": true}}]);
    let patch: Patch<CustomResourceDefinition> = Patch::Json(serde_json::from_value(patch).unwrap());
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions.patch(&plural, &PatchParams::default(), &patch).await.unwrap();
}

/// One unreadable object of each kind that the operator reads by its type.
async fn unreadable_objects(client: &Client) -> Vec<Value> {
    let mut objects = Vec::new();
    for (kind, field, value) in UNREADABLE {
        let mut object = fixture(kind);
        object["metadata"]["name"] = json!(name());
        object["metadata"]["namespace"] = json!(NAMESPACE);
        object["spec"][field] = serde_json::from_str(value).unwrap();
        loosen(client, &object, field).await;
        let dynamic = serde_json::from_value(object.clone()).unwrap();
        eventually(&format!("{kind} with any {field} is taken"), async || {
            let created = api(client, &object).create(&PostParams::default(), &dynamic).await;
            created.map_err(|error| error.to_string())
        })
        .await;
        objects.push(object);
    }
    objects
}

/// Lets the watch show an object again and waits for the pass over it.
async fn touch(installation: &Installation, object: &Value) {
    let kind = object["kind"].as_str().unwrap();
    let sample = format!("dms_operator_reconciles_total{{kind=\"{kind}\"}} ");
    let passes = async || {
        let (_, text) = fetch(&format!("{}/metrics", installation.http)).await;
        let count = text.lines().find_map(|line| line.strip_prefix(&sample)?.parse::<u64>().ok());
        count.unwrap_or_default()
    };
    let before = passes().await;
    let patch = json!({"metadata": {"annotations": {"touched": name()}}});
    let name = object["metadata"]["name"].as_str().unwrap();
    api(&installation.client, object).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    eventually(&format!("a pass over a {kind}"), async || {
        let now = passes().await;
        if now > before { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_told_of_once_and_the_others_go_on() {
    let _timed = Timed::start();
    // The definitions of the shared one are not to be changed.
    let control_plane: ControlPlane = cluster::own("unreadable").await;
    let client = control_plane.client().await.unwrap();
    // They are there before the operator: its first lists hold them.
    let unreadable = unreadable_objects(&client).await;
    let installation =
        installation_on(&control_plane, NAMESPACE.to_owned(), "unreadable", 1, &[], &[], json!({})).await;
    let told = async |object: &Value| {
        let events = events(&client, NAMESPACE, object["metadata"]["name"].as_str().unwrap()).await.into_iter();
        events.map(|event| (event.reason, event.series.map(|series| series.count))).collect::<Vec<_>>()
    };
    let once = [(Some("InvalidObject".to_owned()), None)];
    for object in &unreadable {
        eventually(&format!("an Event about the {}", object["kind"]), async || {
            if told(object).await.is_empty() { Err(installation.operator.log_end()) } else { Ok(()) }
        })
        .await;
        for _ in 0..3 {
            touch(&installation, object).await;
        }
        assert_eq!(told(object).await, once, "{}", object["kind"]);
    }

    // A device, a provider and a revocation beside them do what they are for.
    let tenant = Tenant::new(&installation).await;
    let name = name();
    let (files, body) = page();
    tenant.deploy(&name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();
    assert_eq!(fetch(&url).await, (200, body));
    let mut revocation = fixture("capabilityrevocation");
    let token = Token::revoke(&installation.provider.key, &tenant.grant).unwrap();
    revocation["metadata"] = json!({"name": name, "namespace": NAMESPACE});
    revocation["spec"]["token"] = json!(String::from_utf8(token.to_json()).unwrap());
    let dynamic = serde_json::from_value(revocation.clone()).unwrap();
    api(&client, &revocation).create(&PostParams::default(), &dynamic).await.unwrap();
    tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
    tenant.condition_within(&name, "Deployed", "False", "Stopped", Duration::from_secs(60)).await;
    for object in &unreadable {
        assert_eq!(told(object).await, once, "{}", object["kind"]);
    }
}
