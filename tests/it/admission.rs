//! The definitions on a real API server: what it takes, what it refuses, and that it stores what it was sent.

use dms_operator::api::GROUP;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    api::{out_of_bounds, rule_cases},
    cluster::{namespace, shared},
    definitions::{broken_rules, definitions, fixture, fixtures},
    timed::Timed,
};

/// One namespace of the shared control plane.
struct Room {
    client: Client,
    namespace: String,
}

impl Room {
    async fn new() -> Self {
        let client = shared().await.client().await.unwrap();
        let namespace = namespace(&client).await;
        Self { client, namespace }
    }

    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk(GROUP, "v1alpha1", object["kind"].as_str().unwrap());
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::from_gvk(&kind))
    }

    fn placed(&self, object: &Value) -> Value {
        let mut object = object.clone();
        object["metadata"]["namespace"] = self.namespace.clone().into();
        object
    }

    async fn create(&self, object: &Value) -> Result<Value, kube::Error> {
        let dynamic = serde_json::from_value(self.placed(object)).unwrap();
        let created = self.api(object).create(&PostParams::default(), &dynamic).await?;
        Ok(serde_json::to_value(created).unwrap())
    }

    async fn delete(&self, object: &Value) {
        let name = object["metadata"]["name"].as_str().unwrap();
        self.api(object).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Creates `old` if there is one, then writes `now`, and removes what was left.
    async fn write(&self, now: &Value, old: Option<&Value>) -> Result<(), String> {
        let Some(old) = old else {
            self.create(now).await.map_err(invalid)?;
            self.delete(now).await;
            return Ok(());
        };
        self.create(old).await.unwrap();
        let mut next: DynamicObject = serde_json::from_value(self.placed(now)).unwrap();
        let name = old["metadata"]["name"].as_str().unwrap();
        let replaced = loop {
            next.metadata.resource_version = self.api(old).get(name).await.unwrap().metadata.resource_version;
            match self.api(old).replace(name, &PostParams::default(), &next).await {
                // Operators of other tests see a revocation here as well, and write its status.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                replaced => break replaced,
            }
        };
        self.delete(old).await;
        replaced.map(drop).map_err(invalid)
    }
}

/// The message of a refusal for what the object says, and for nothing else.
fn invalid(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 422 => status.message,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn the_definitions_are_accepted_without_remarks() {
    let _timed = Timed::start();
    let api: Api<CustomResourceDefinition> = Api::all(Room::new().await.client);
    for definition in definitions() {
        let crd = api.get(definition.crd["metadata"]["name"].as_str().unwrap()).await.unwrap();
        let mut conditions: Vec<(String, String)> = crd
            .status
            .unwrap()
            .conditions
            .unwrap()
            .into_iter()
            .map(|condition| (condition.type_, condition.status))
            .collect();
        conditions.sort();
        let expected = [("Established", "True"), ("NamesAccepted", "True")];
        assert_eq!(conditions, expected.map(|(kind, status)| (kind.to_owned(), status.to_owned())));
    }
}

#[tokio::test]
async fn what_is_stored_is_what_was_sent() {
    let _timed = Timed::start();
    let room = Room::new().await;
    for (name, object) in fixtures() {
        let stored = room.create(&object).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(stored["spec"], object["spec"], "{name}");
        let read = room.api(&object).get(object["metadata"]["name"].as_str().unwrap()).await.unwrap();
        let read = serde_json::to_value(read).unwrap();
        assert_eq!(read["spec"], object["spec"], "{name}");
        assert_eq!(read["status"], json!({"observedGeneration": -1}), "{name}: unseen, so not ready");
        room.delete(&object).await;
    }
}

#[tokio::test]
async fn each_rule_holds_on_the_server() {
    let _timed = Timed::start();
    let room = Room::new().await;
    for case in rule_cases() {
        let definition = definitions().into_iter().find(|definition| definition.kind == case.kind).unwrap();
        // A rule for objects that cannot come to be any more is only tried offline.
        let possible =
            |old: &Option<Value>| old.as_ref().is_none_or(|old| broken_rules(old, None, &definition).is_empty());
        for (object, old) in case.accepted.iter().filter(|(_, old)| possible(old)) {
            let written = room.write(object, old.as_ref()).await;
            assert_eq!(written, Ok(()), "{}: {object:#}", case.message_start);
        }
        for (object, old) in case.refused.iter().filter(|(_, old)| possible(old)) {
            let message = room.write(object, old.as_ref()).await.unwrap_err();
            // Kubernetes has an opinion of its own on names.
            let name_is_invalid = message.contains("RFC 1123");
            assert!(message.contains(case.message_start) || name_is_invalid, "{}: {message}", case.message_start);
        }
    }
}

#[tokio::test]
async fn values_out_of_bounds_are_refused_by_the_server() {
    let _timed = Timed::start();
    let room = Room::new().await;
    for (name, pointer, value) in out_of_bounds() {
        let mut object = fixture(name);
        *object.pointer_mut(pointer).unwrap() = value;
        let field = pointer.rsplit('/').next().unwrap();
        let message = room.write(&object, None).await.unwrap_err();
        assert!(message.contains(field), "{name} {pointer}: {message}");
    }
}

/// With `nullable` in the schema, the server would store the null and take `authorization: null` for a signature.
#[tokio::test]
async fn null_is_absent() {
    let _timed = Timed::start();
    let room = Room::new().await;
    let mut object = fixture("hostingdeployment-archive");
    object["spec"]["authorization"] = Value::Null;
    let message = room.write(&object, None).await.unwrap_err();
    assert!(message.contains("the spec is not signed"), "{message}");

    let expected = fixture("hostingdeployment-archive");
    let mut object = expected.clone();
    object["spec"]["placement"] = Value::Null;
    object["spec"]["onExpiry"] = Value::Null;
    object["spec"]["content"]["access"] = Value::Null;
    object["spec"]["content"]["from"]["configMap"] = Value::Null;
    assert_eq!(room.create(&object).await.unwrap()["spec"], expected["spec"]);
}

/// Two appliers cannot make a spec that nobody signed: the later one's is stored, whole.
#[tokio::test]
async fn a_spec_applied_by_a_second_applier_replaces_the_first_one_whole() {
    let _timed = Timed::start();
    let room = Room::new().await;
    let first = room.placed(&fixture("hostingdeployment-configmap"));
    let mut second = room.placed(&fixture("hostingdeployment-minimal"));
    second["metadata"]["name"] = first["metadata"]["name"].clone();
    second["spec"]["authorization"]["invocation"] = "b3RoZXI=".into();
    let api = room.api(&first);
    let name = first["metadata"]["name"].as_str().unwrap();
    for (manager, object) in [("a", &first), ("b", &second)] {
        api.patch(name, &PatchParams::apply(manager).force(), &Patch::Apply(object)).await.unwrap();
    }
    assert_eq!(serde_json::to_value(api.get(name).await.unwrap()).unwrap()["spec"], second["spec"]);

    let unsigned = Patch::Merge(json!({"spec": {"onExpiry": "Stop"}}));
    let refusal = api.patch(name, &PatchParams::default(), &unsigned).await.map_err(invalid).unwrap_err();
    assert!(refusal.contains("kubectl hosting sign -f FILE | kubectl apply -f -"), "{refusal}");
}
