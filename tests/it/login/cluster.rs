//! The same where there is a cluster: the provider is found by its object, and a revocation is applied there.

use dms_operator::api::{CapabilityRevocation, HostingProvider};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};

use super::*;
use crate::cluster::{namespace, shared};

#[tokio::test]
async fn a_provider_is_found_by_its_object_and_loses_what_is_taken_back() {
    let _timed = Timed::start();
    let mut person = Person::new();
    person.with_key("owner").await;
    person.kubeconfig = person.folder.join("kubeconfig");
    let control_plane = shared().await;
    control_plane.admin().write(&person.kubeconfig).unwrap();
    let client = control_plane.client().await.unwrap();
    let namespace = namespace(&client).await;
    let provider = Provider::start(Misdeed::Nothing).await;

    let api: Api<HostingProvider> = Api::namespaced(client.clone(), &namespace);
    let object: HostingProvider = serde_json::from_value(json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingProvider", "metadata": {"name": "hp"},
        "spec": {
            "identity": {"keySecretRef": {"name": "key"}},
            "storage": {"s3": {"endpoint": "http://s3.example.org", "bucket": "bucket", "auth": {"secretRef": {"name": "s3"}}}},
        },
    }))
    .unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    let which = format!("{namespace}/hp");
    let line = ["login", &which, "-n", "shop", "-y", "-o", "json"];
    person.run(&line).await.refused_at_last(1, "has no DID in its status yet");
    person
        .run(&["login", "hp", "-n", "shop", "-y"])
        .await
        .refused_at_last(1, "HostingProvider hp in namespace default could not");
    let status = json!({"status": {"did": provider.did().as_str(), "addresses": [provider.multiaddress]}});
    api.patch_status("hp", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
    let told = person.run(&line).await.json();
    assert_eq!((&told["provider"], &told["namespace"]), (&json!(provider.did().as_str()), &json!("shop")));

    let to = Wallet::random().unwrap().did().to_string();
    person.run(&["delegate", "--to", &to, "--can", "read", "--out", "token"]).await.done();
    let revoke = ["revoke", "token", "--apply", "-n", &namespace];
    let said = person.run(&revoke).await.done();
    assert!(said.contains("created in") && said.contains(&to), "{said}");
    let api: Api<CapabilityRevocation> = Api::namespaced(client, &namespace);
    let there = api.list(&kube::api::ListParams::default()).await.unwrap().items;
    let token = Token::parse(fs::read(person.folder.join("token")).unwrap().trim_ascii()).unwrap();
    let revocation = Token::parse(there[0].spec.token.as_bytes()).unwrap();
    assert_eq!((there.len(), revocation.revocation_key()), (1, token.revocation_key()));
    assert!(person.run(&revoke).await.done().contains("unchanged in"));
    assert_eq!(api.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 1);
}
