//! What a HostingProvider says is what the operator does: whose key it speaks with, where it keeps files.

use std::{path::PathBuf, time::Duration};

use dms_operator::{
    api::HostingProvider,
    dev::{
        S3Server,
        installation::{Installation, Plan},
        wallet::Wallet,
    },
};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{self, eventually, scratch, shared},
    timed::Timed,
    world::{Tenant, asked, fetch, name, page},
};

const PREFIX: &str = "tenants/one";
const REGION: &str = "eu-test-1";

async fn secret(client: &Client, namespace: &str, name: &str, members: Value) {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let members = serde_json::from_value(members).unwrap();
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let secret = Secret { metadata, string_data: Some(members), ..Secret::default() };
    api.create(&PostParams::default(), &secret).await.unwrap();
}

/// An installation whose key was brought, with its files at a place of its own.
async fn brought(key: &Wallet) -> Installation {
    let control_plane = shared().await;
    let client = control_plane.client().await.unwrap();
    let values =
        ["--set", "identity.existingSecret=brought", "--set", "storage.secretNames={dms-operator-s3,other-s3}"];
    let namespace = cluster::install(&client, &values).await;
    secret(&client, &namespace, "brought", json!({"identity-seed": hex::encode(key.key.expose_seed())})).await;
    let plan = Plan {
        executable: PathBuf::from(env!("CARGO_BIN_EXE_dms-operator")),
        folder: scratch("provider"),
        credentials: control_plane.service_account(&namespace, "dms-operator").await.unwrap(),
        namespace,
        devices: 1,
        arguments: ["--resync", "1s"].map(str::to_owned).into(),
        variables: vec![],
        provider: json!({
            "identity": {"keySecretRef": {"name": "brought"}},
            "storage": {"s3": {"prefix": PREFIX, "region": REGION}},
        }),
    };
    Installation::start(client, plan).await.unwrap_or_else(|error| panic!("{error}"))
}

fn providers(installation: &Installation) -> Api<HostingProvider> {
    Api::namespaced(installation.client.clone(), &installation.plan.namespace)
}

async fn storage(installation: &Installation, s3: Value) {
    let patch = Patch::Merge(json!({"spec": {"storage": {"s3": s3}}}));
    providers(installation).patch("default", &PatchParams::default(), &patch).await.unwrap();
}

async fn ready(installation: &Installation, name: &str, value: &str, reason: &str) -> String {
    eventually(&format!("HostingProvider {name} is {value}/{reason}"), async || {
        let provider = providers(installation).get(name).await.unwrap();
        let conditions = provider.status.unwrap_or_default().conditions;
        match conditions.iter().find(|condition| condition.type_ == "Ready") {
            Some(ready)
                if ready.status == value
                    && ready.reason == reason
                    && ready.observed_generation == provider.metadata.generation =>
            {
                Ok(ready.message.clone())
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_speaks_with_its_key_and_stores_where_it_is_told() {
    let _timed = Timed::start();
    let key = Wallet::random().unwrap();
    let installation = brought(&key).await;
    let did = providers(&installation).get("default").await.unwrap().status.unwrap().did;
    assert_eq!(did.as_deref(), Some(key.did().as_str()));
    let tenant = Tenant::new(&installation).await;
    let (files, body) = page();
    let first = name();
    tenant.deploy(&first, &files).await;
    assert_eq!(fetch(&tenant.ready(&first).await.url.unwrap()).await, (200, body));

    let s3 = &installation.s3;
    let place = format!("/{}/{PREFIX}/", s3.bucket());
    let requests = s3.requests();
    assert!(requests.iter().any(|request| request.method == "PUT"));
    for request in &requests {
        assert_eq!(request.region, REGION, "{request:?}");
        let listed = request.query.contains("prefix=tenants%2Fone");
        assert!(request.path.starts_with(&place) || listed, "{request:?}");
    }

    // Somewhere else, where nothing answers; and back.
    let (endpoint, bucket) = (s3.endpoint(), s3.bucket().to_owned());
    storage(&installation, json!({"endpoint": "http://127.0.0.1:1"})).await;
    ready(&installation, "default", "False", "StorageUnavailable").await;
    storage(&installation, json!({"endpoint": endpoint})).await;
    ready(&installation, "default", "True", "Succeeded").await;
    // Another bucket: this service makes buckets as it goes, so what is asked of it tells.
    storage(&installation, json!({"bucket": "another"})).await;
    eventually("the other bucket is used", async || {
        let found = s3.requests().iter().any(|request| request.path.starts_with("/another/"));
        if found { Ok(()) } else { Err(format!("{:?}", s3.requests().last())) }
    })
    .await;
    storage(&installation, json!({"bucket": bucket})).await;
    ready(&installation, "default", "True", "Succeeded").await;
    // Another Secret is not there yet; then it holds other credentials; then the right ones.
    storage(&installation, json!({"auth": {"secretRef": {"name": "other-s3"}}})).await;
    let message = ready(&installation, "default", "False", "CredentialsMissing").await;
    assert!(message.contains("other-s3"), "{message}");
    let namespace = &installation.plan.namespace;
    let wrong = json!({"access-key-id": s3.access_key(), "secret-access-key": "guessed"});
    secret(&installation.client, namespace, "other-s3", wrong).await;
    ready(&installation, "default", "False", "StorageUnavailable").await;
    let right = json!({"stringData": {"secret-access-key": s3.secret_key()}});
    let secrets: Api<Secret> = Api::namespaced(installation.client.clone(), namespace);
    secrets.patch("other-s3", &PatchParams::default(), &Patch::Merge(right)).await.unwrap();
    ready(&installation, "default", "True", "Succeeded").await;

    // By name the bucket is a part of the host, and nobody here is called so.
    let port = endpoint.rsplit(':').next().unwrap();
    storage(&installation, json!({"endpoint": format!("http://localhost:{port}")})).await;
    ready(&installation, "default", "True", "Succeeded").await;
    let before = s3.requests().len();
    assert!(s3.requests().iter().any(|request| request.host == format!("localhost:{port}")));
    storage(&installation, json!({"pathStyle": false})).await;
    ready(&installation, "default", "False", "StorageUnavailable").await;
    let since: Vec<_> = s3.requests().split_off(before);
    let by_path = since.iter().filter(|request| request.host.starts_with("localhost") && request.method == "PUT");
    assert_eq!(by_path.count(), 0, "{since:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_provider_is_not_served_and_says_so() {
    let _timed = Timed::start();
    let installation = crate::world::installation("neighbour", 1, &["--resync", "1s"], &[]).await;
    let other = S3Server::start(&scratch("neighbour-s3")).await.unwrap();
    let second = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "HostingProvider",
        "metadata": {"name": "second"},
        "spec": {
            "identity": {"keySecretRef": {"name": "dms-operator-identity"}},
            "storage": {"s3": {
                "endpoint": other.endpoint(), "bucket": other.bucket(),
                "auth": {"secretRef": {"name": "dms-operator-s3"}},
            }},
        },
    });
    providers(&installation).patch("second", &PatchParams::apply("kit").force(), &Patch::Apply(&second)).await.unwrap();
    let message = ready(&installation, "second", "False", "NotServed").await;
    assert!(message.contains("install a second operator"), "{message}");

    let tenant = Tenant::new(&installation).await;
    let before = asked(&installation, 0).len();
    let (files, _) = page();
    let mut objects = Vec::new();
    for reference in [
        json!({"namespace": installation.plan.namespace, "name": "second"}),
        json!({"namespace": "somewhere-else", "name": "default"}),
    ] {
        let name = name();
        let release = tenant.files(&name, &files).await;
        let mut object = tenant.object(&name, &release);
        object["spec"]["providerRef"] = reference;
        tenant.apply(&tenant.sign(object)).await.unwrap();
        objects.push(name);
    }
    // One of the same namespace is told; one of another namespace is another operator's.
    let status = tenant.condition(&objects[0], "Ready", "False", "NotServed").await;
    assert_eq!(status.deployment, None);
    let served = name();
    tenant.deploy(&served, &files).await;
    tenant.condition_within(&served, "Ready", "True", "Succeeded", Duration::from_secs(60)).await;
    let foreign = tenant.get(&objects[1]).await.unwrap();
    assert_eq!(tenant.status(&objects[1]).await.conditions, []);
    assert_eq!(foreign.metadata.finalizers, None);
    assert!(asked(&installation, 0).len() > before);
    assert_eq!(crate::world::creations(&installation), 1);
    assert_eq!(other.requests(), []);
}
