//! What stands in `examples/` is what a cluster takes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

use crate::{
    cluster::{dry_run, namespace, shared},
    timed::Timed,
};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

fn parse(path: &str) -> Value {
    serde_saphyr::from_str(&fs::read_to_string(example(path)).unwrap()).unwrap()
}

#[test]
fn the_config_map_of_hello_site_holds_its_files() {
    let _timed = Timed::start();
    let config_map: ConfigMap = serde_json::from_value(parse("hello-site/configmap.yaml")).unwrap();
    let files: BTreeMap<String, String> = fs::read_dir(example("hello-site/site"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap()))
        .collect();
    assert_eq!(config_map.data, Some(files));
}

#[tokio::test]
async fn hello_site_is_taken_once_it_is_signed_and_not_before() {
    let _timed = Timed::start();
    let client = shared().await.client().await.unwrap();
    let namespace = namespace(&client).await;
    dry_run(&client, &namespace, &parse("hello-site/configmap.yaml")).await.unwrap();

    let mut deployment = parse("hello-site/hostingdeployment.yaml");
    deployment["spec"]["owner"] = json!("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp");
    deployment["spec"]["content"]["release"] = json!(format!("sha256:{}", "0".repeat(64)));
    let refusal = dry_run(&client, &namespace, &deployment).await.unwrap_err().to_string();
    assert!(refusal.contains("the spec is not signed: run `kubectl hosting sign"), "{refusal}");
    deployment["spec"]["authorization"] = json!({"invocation": "e30="});
    dry_run(&client, &namespace, &deployment).await.unwrap();
}
