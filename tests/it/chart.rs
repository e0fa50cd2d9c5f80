//! The chart, with real Helm against a real API server.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use dms_operator::{
    api::{self, HostingProvider},
    dev::{ControlPlane, Tools},
};
use k8s_openapi::{
    api::{
        authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
        core::v1::{Namespace, Pod, Secret},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::{
    cluster::{CHART, eventually, helm, install, namespace, scratch, shared},
    timed::Timed,
    world::installation,
};

const STORAGE: &str = r#"provider.spec.storage={"s3":{"endpoint":"http://127.0.0.1:1","bucket":"kit","auth":{"secretRef":{"name":"s3"}}}}"#;

fn succeed(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What the chart renders to, offline.
fn render(arguments: &[&str]) -> Vec<Value> {
    let output = Command::new(Tools::helm().unwrap())
        .args(["template", "dms-operator", CHART, "--namespace", "hosting"])
        .args(arguments)
        .output()
        .unwrap();
    serde_saphyr::from_multiple(&succeed(&output)).unwrap()
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

#[test]
fn helm_finds_nothing_to_mend() {
    let _timed = Timed::start();
    let output = Command::new(Tools::helm().unwrap()).args(["lint", "--strict", CHART]).output().unwrap();
    assert!(succeed(&output).contains("1 chart(s) linted, 0 chart(s) failed"));
}

#[test]
fn the_schema_refuses_what_would_not_work() {
    let _timed = Timed::start();
    let lint = |arguments: &[&str]| {
        let mut command = Command::new(Tools::helm().unwrap());
        command.args(["template", "dms-operator", CHART]).args(arguments).output().unwrap()
    };
    for wrong in [
        ["--set", "deviceWindow=59s"],
        ["--set", "deviceWindow=5"],
        ["--set", "image.digest=latest"],
        ["--set", "image.pullPolicy=Sometimes"],
        ["--set", "sites.image=nginx:latest"],
        ["--set", "sites.url=ftp://sites.example.org"],
        ["--set", "sites.service.type=ExternalName"],
        ["--set", "actor.service.type=ExternalName"],
        ["--set", "actor.addresses={hosting.example.org}"],
        ["--set", "identity.existingSecret=Not A Name"],
        ["--set", "provider.create=true"],
        ["--set", "replicaCount=2"],
        ["--set", "image.digset=sha256"],
        ["--set-json", r#"provider.spec={"identity":{}}"#],
        ["--set-json", r#"extraArgs="--verbose""#],
    ] {
        let refusal = lint(&wrong);
        let stderr = String::from_utf8_lossy(&refusal.stderr);
        assert!(
            !refusal.status.success() && stderr.contains("values don't meet the specifications"),
            "{wrong:?}: {stderr}"
        );
    }
    for right in [
        ["--set", "deviceWindow=60s"],
        ["--set", "deviceWindow=1m"],
        ["--set", "global.imageRegistry=example.org"],
        ["--set", "sites.url=https://sites.example.org"],
        ["--set-json", r#"extraArgs=["--verbose"]"#],
    ] {
        succeed(&lint(&right));
    }
}

#[test]
fn the_chart_holds_the_definitions_of_the_types() {
    let _timed = Timed::start();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = |folder: &str| {
        let mut files: Vec<(PathBuf, String)> = fs::read_dir(root.join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.file_name().unwrap().into(), fs::read_to_string(&path).unwrap()))
            .collect();
        files.sort();
        files
    };
    assert!(files("crds") == files("charts/dms-operator/files/crds"), "the chart's copies are old: run `make crds`");

    let rendered = render(&[]);
    let mut rendered: Vec<CustomResourceDefinition> = of_kind(&rendered, "CustomResourceDefinition")
        .into_iter()
        .map(|definition| serde_json::from_value(definition.clone()).unwrap())
        .collect();
    for definition in &mut rendered {
        let annotations = definition.metadata.annotations.take().unwrap();
        assert_eq!(annotations.into_iter().collect::<Vec<_>>(), [("helm.sh/resource-policy".into(), "keep".into())]);
        let labels = definition.metadata.labels.take().unwrap();
        assert_eq!(labels["app.kubernetes.io/managed-by"], "Helm");
    }
    let mut expected = api::crds();
    rendered.sort_by_key(|definition| definition.metadata.name.clone());
    expected.sort_by_key(|definition| definition.metadata.name.clone());
    assert_eq!(rendered, expected);

    assert_eq!(of_kind(&render(&["--set", "crds.enabled=false"]), "CustomResourceDefinition").len(), 0);
    let unkept = render(&["--set", "crds.keep=false"]);
    assert_eq!(of_kind(&unkept, "CustomResourceDefinition")[0]["metadata"]["annotations"], Value::Null);
}

#[test]
fn the_operator_is_started_with_what_the_values_say() {
    let _timed = Timed::start();
    let digest = format!("sha256:{}", "a".repeat(64));
    let image = format!("image.digest={digest}");
    let rendered = render(&[
        "--set",
        &image,
        "--set",
        "provider.name=main,deviceWindow=90s,sites.url=https://sites.example.org,logLevel=debug",
        "--set",
        "actor.addresses={https://hosting.example.org}",
        "--set-json",
        r#"extraArgs=["--one","--two=2"]"#,
    ]);
    let deployment = &of_kind(&rendered, "Deployment")[0]["spec"];
    assert_eq!((&deployment["replicas"], &deployment["strategy"]), (&json!(1), &json!({"type": "Recreate"})));
    let container = &deployment["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], json!(format!("dms-operator@{digest}")));
    assert_eq!(
        container["args"],
        json!([
            "run",
            "--provider=hosting/main",
            "--http-bind=0.0.0.0:8080",
            "--site-bind=0.0.0.0:8081",
            "--site-url=https://sites.example.org",
            "--actor-bind=0.0.0.0:8082",
            "--p2p-listen=/ip4/0.0.0.0/tcp/9000",
            "--advertise=https://hosting.example.org",
            format!("--site-image=dms-operator@{digest}"),
            "--device-window=90s",
            "--log-format=json",
            "--one",
            "--two=2",
        ])
    );
    assert_eq!(container["env"], json!([{"name": "RUST_LOG", "value": "debug"}]));

    let rendered = render(&[]);
    let arguments = &of_kind(&rendered, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["args"];
    let arguments: Vec<&str> =
        arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap()).collect();
    assert!(arguments.contains(&"--site-url=http://dms-operator-sites.hosting.svc:8081"), "{arguments:?}");
    let told: Vec<_> = arguments.iter().filter_map(|argument| argument.strip_prefix("--advertise=")).collect();
    assert_eq!(told, ["/dns4/dms-operator-actor.hosting.svc/tcp/9000", "http://dms-operator-actor.hosting.svc:8082"]);
    assert!(
        !arguments.iter().any(|argument| argument.starts_with("--site-image")),
        "a tag is no digest: {arguments:?}"
    );
}

#[test]
fn names_stay_labels_however_long_the_release_is_named() {
    let _timed = Timed::start();
    let release = "r".repeat(53);
    let output = Command::new(Tools::helm().unwrap()).args(["template", &release, CHART]).output().unwrap();
    let rendered: Vec<Value> = serde_saphyr::from_multiple(&succeed(&output)).unwrap();
    for object in rendered.iter().filter(|object| object["kind"] == "Service") {
        assert!(object["metadata"]["name"].as_str().unwrap().len() <= 63, "{object}");
    }
}

#[test]
fn every_right_has_its_reason_and_none_is_wide() {
    let _timed = Timed::start();
    for template in ["rbac.yaml", "rbac-people.yaml"] {
        let text = fs::read_to_string(Path::new(CHART).join("templates").join(template)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.windows(2).filter(|pair| pair[1].starts_with("  - apiGroups:")) {
            assert!(pair[0].starts_with("  # "), "{template}: no reason above {:?}", pair[1]);
        }
    }

    let rendered = render(&[]);
    let roles = of_kind(&rendered, "ClusterRole").into_iter().chain(of_kind(&rendered, "Role"));
    let rights = roles.flat_map(|role| role["rules"].as_array().unwrap().iter().map(move |rule| (&role["kind"], rule)));
    for (kind, rule) in rights {
        let words = |key: &str| rule[key].as_array().cloned().unwrap_or_default();
        for key in ["apiGroups", "resources", "verbs", "resourceNames"] {
            assert!(!words(key).iter().any(|word| word.as_str().unwrap().contains('*')), "{rule}");
        }
        for verb in ["escalate", "bind", "impersonate"] {
            assert!(!words("verbs").contains(&json!(verb)), "{rule}");
        }
        if words("resources").contains(&json!("secrets")) {
            assert_eq!(kind, "Role", "{rule}");
            assert!(words("verbs") == [json!("create")] || !words("resourceNames").is_empty(), "{rule}");
            assert!(!words("verbs").iter().any(|verb| verb == "list" || verb == "watch"), "{rule}");
        }
    }
    let brought = render(&["--set", "identity.existingSecret=mine"]);
    assert!(!brought.iter().any(|object| object.to_string().contains(r#""secrets"],"verbs":["create"]"#)));
}

#[tokio::test]
async fn the_api_server_lets_the_operator_do_its_work_and_no_more() {
    let _timed = Timed::start();
    let client = shared().await.client().await.unwrap();
    let (own, tenant) = (install(&client, &[]).await, namespace(&client).await);
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str, name: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            group: Some(group.into()),
            resource: Some(resource.into()),
            subresource: Some(subresource.into()),
            namespace: Some(namespace.into()),
            name: Some(name.into()),
            ..Default::default()
        };
        let user = format!("system:serviceaccount:{own}:dms-operator");
        let spec =
            SubjectAccessReviewSpec { resource_attributes: Some(attributes), user: Some(user), ..Default::default() };
        let review = SubjectAccessReview { spec, ..Default::default() };
        let api: Api<SubjectAccessReview> = Api::all(client.clone());
        api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    let ours = "hosting.nunet.io";
    for (verb, group, resource, namespace, name) in [
        ("watch", ours, "hostingdeployments", "", ""),
        ("patch", ours, "hostingdeployments", &*tenant, "x"),
        ("create", ours, "hostingdeployments", &tenant, ""),
        ("delete", ours, "hostingdeployments", &tenant, "x"),
        ("update", ours, "hostingdeployments/status", &tenant, "x"),
        ("watch", ours, "capabilityrevocations", "", ""),
        ("patch", ours, "capabilityrevocations/status", &tenant, "x"),
        ("watch", ours, "hostingproviders", &own, ""),
        ("patch", ours, "hostingproviders/status", &own, "x"),
        ("patch", ours, "hostingdevices/status", &own, "x"),
        ("create", "apps", "controllerrevisions", &tenant, ""),
        ("get", "", "configmaps", &tenant, "x"),
        ("watch", "", "namespaces", "", ""),
        ("create", "events.k8s.io", "events", &tenant, ""),
        ("get", "", "secrets", &own, "dms-operator-identity"),
        ("update", "", "secrets", &own, "dms-operator-identity"),
        ("create", "", "secrets", &own, ""),
        ("get", "", "secrets", &own, "dms-operator-s3"),
        ("create", "", "configmaps", &own, ""),
        ("list", "", "configmaps", &own, ""),
        ("patch", "", "configmaps", &own, "x"),
        ("delete", "", "configmaps", &own, "x"),
        ("update", "coordination.k8s.io", "leases", &own, "x"),
    ] {
        assert!(may(verb, group, resource, namespace, name).await, "{verb} {resource} in {namespace:?}");
    }
    for (verb, group, resource, namespace, name) in [
        ("update", ours, "hostingdeployments", &*tenant, "x"),
        ("deletecollection", ours, "hostingdeployments", &tenant, ""),
        ("create", ours, "capabilityrevocations", &tenant, ""),
        ("get", ours, "hostingproviders", &tenant, "x"),
        ("update", ours, "hostingproviders", &own, "x"),
        ("get", "", "secrets", &tenant, "dms-operator-identity"),
        ("get", "", "secrets", &own, "other"),
        ("update", "", "secrets", &own, "dms-operator-s3"),
        ("list", "", "secrets", &own, ""),
        ("watch", "", "secrets", "", ""),
        ("list", "", "configmaps", &tenant, ""),
        ("update", "", "configmaps", &tenant, "x"),
        ("create", "", "pods", &own, ""),
        ("create", "", "serviceaccounts/token", &own, "dms-operator"),
        ("update", "rbac.authorization.k8s.io", "roles", &own, "dms-operator"),
    ] {
        assert!(!may(verb, group, resource, namespace, name).await, "{verb} {resource} in {namespace:?}");
    }
}

#[tokio::test]
async fn the_pod_passes_where_only_restricted_ones_may_run() {
    let _timed = Timed::start();
    let client = shared().await.client().await.unwrap();
    let namespace = namespace(&client).await;
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.patch(&namespace, &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    install_account(&client, &namespace).await;

    let rendered = render(&["--set", "resources.limits.cpu=1"]);
    let template = &of_kind(&rendered, "Deployment")[0]["spec"]["template"];
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "operator"}, "spec": template["spec"]})).unwrap();
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let dry_run = PostParams { dry_run: true, ..Default::default() };
    pods.create(&dry_run, &pod).await.unwrap();

    let container = &template["spec"]["containers"][0];
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mut loose = pod.clone();
    loose.spec.as_mut().unwrap().containers[0].security_context = None;
    let refusal = pods.create(&dry_run, &loose).await.unwrap_err().to_string();
    assert!(refusal.contains("violates PodSecurity"), "the namespace refuses others: {refusal}");
}

async fn install_account(client: &Client, namespace: &str) {
    let account: k8s_openapi::api::core::v1::ServiceAccount =
        serde_json::from_value(json!({"metadata": {"name": "dms-operator"}})).unwrap();
    Api::namespaced(client.clone(), namespace).create(&PostParams::default(), &account).await.unwrap();
}

#[tokio::test]
async fn a_release_is_installed_upgraded_and_uninstalled() {
    let _timed = Timed::start();
    // A control plane of its own: who holds the definitions holds them for the whole cluster.
    let control_plane = ControlPlane::start(&Tools::locate().unwrap(), &scratch("chart")).await.unwrap();
    let kubeconfig = control_plane.admin_kubeconfig();
    let helm = |arguments: &[&str]| succeed(&helm(&kubeconfig, "hosting", arguments));
    let client = control_plane.client().await.unwrap();

    helm(&["install", "dms-operator", CHART, "--create-namespace", "--dry-run=server"]);
    let notes = helm(&["install", "dms-operator", CHART, "--create-namespace"]);
    assert!(notes.contains("kubectl -n hosting get hostingprovider default"), "{notes}");
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for definition in api::crds() {
        // The API server writes into their status until then.
        await_condition(definitions.clone(), &definition.name_any(), is_crd_established()).await.unwrap();
    }
    let installed = objects(&client).await;
    assert_eq!(installed.len(), 15, "{installed:#?}");

    helm(&["upgrade", "dms-operator", CHART]);
    assert_eq!(objects(&client).await, installed, "an upgrade to the same changes nothing");

    helm(&["upgrade", "dms-operator", CHART, "--set", "provider.create=true", "--set-json", STORAGE]);
    let providers: Api<HostingProvider> = Api::namespaced(client.clone(), "hosting");
    let spec = serde_json::to_value(providers.get("default").await.unwrap().spec).unwrap();
    assert_eq!(
        spec,
        json!({
            "identity": {"keySecretRef": {"name": "dms-operator-identity"}},
            "storage": {"s3": {"endpoint": "http://127.0.0.1:1", "bucket": "kit", "auth": {"secretRef": {"name": "s3"}}}},
        })
    );

    helm(&["uninstall", "dms-operator"]);
    let left: Vec<_> = objects(&client).await.into_iter().map(|(name, _)| name).collect();
    let definitions = installed.iter().map(|(name, _)| name.clone()).filter(|name| name.starts_with("CustomResource"));
    assert_eq!(left, definitions.collect::<Vec<_>>());
    helm(&["install", "dms-operator", CHART]);
    assert_eq!(objects(&client).await.len(), installed.len(), "what was kept is taken up again");
}

/// Kind and name of every object of the release, with its resourceVersion.
async fn objects(client: &Client) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (group, version, kind, plural) in [
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions"),
        ("", "v1", "ServiceAccount", "serviceaccounts"),
        ("", "v1", "Service", "services"),
        ("apps", "v1", "Deployment", "deployments"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles"),
        ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings"),
        ("rbac.authorization.k8s.io", "v1", "Role", "roles"),
        ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
    ] {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version,
            kind: kind.into(),
            plural: plural.into(),
        };
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        let ours = ListParams::default().labels("app.kubernetes.io/instance=dms-operator");
        for DynamicObject { metadata: ObjectMeta { name, resource_version, .. }, .. } in api.list(&ours).await.unwrap()
        {
            found.push((format!("{kind} {}", name.unwrap()), resource_version.unwrap()));
        }
    }
    found
}

/// The provider *is* its key: a new one would make every grant worthless.
#[tokio::test(flavor = "multi_thread")]
async fn the_identity_is_made_once_and_outlives_the_release() {
    let _timed = Timed::start();
    let control_plane = shared().await;
    let kubeconfig = control_plane.admin_kubeconfig();
    let mut installation = installation("identity", 0, &[], &[]).await;
    let (client, namespace) = (installation.client.clone(), installation.plan.namespace.clone());
    let helm = |arguments: &[&str]| succeed(&helm(&kubeconfig, &namespace, arguments));
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let providers: Api<HostingProvider> = Api::namespaced(client, &namespace);
    let told = async || providers.get("default").await.unwrap().status.and_then(|status| status.did);
    let made = secrets.get("dms-operator-identity").await.unwrap();
    let did = installation.provider.did().to_string();
    assert_eq!(told().await.as_ref(), Some(&did));
    assert_eq!(made.owner_references(), [], "nothing takes it along");

    let pid = i32::try_from(installation.operator.pid()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(installation.operator.exit_code(Duration::from_secs(30)).await, Some(0));
    helm(&["uninstall", "dms-operator", "--wait"]);
    assert_eq!(secrets.get("dms-operator-identity").await.unwrap(), made);
    // The provider that the kit made; the release brings its own.
    providers.delete("default", &DeleteParams::default()).await.unwrap();

    let (endpoint, bucket) = (installation.s3.endpoint(), installation.s3.bucket());
    let storage = json!({"endpoint": endpoint, "bucket": bucket, "auth": {"secretRef": {"name": "dms-operator-s3"}}});
    let spec = format!("provider.spec={}", json!({"storage": {"s3": storage}}));
    helm(&["install", "dms-operator", CHART, "--set", "crds.enabled=false,provider.create=true", "--set-json", &spec]);
    installation.plan.credentials = control_plane.service_account(&namespace, "dms-operator").await.unwrap();
    installation.replace_operator("operator-again", &[]).unwrap();
    let again = eventually("the provider's DID is told anew", async || {
        told().await.ok_or_else(|| installation.operator.log_end())
    })
    .await;
    assert_eq!(again, did);
    assert_eq!(secrets.get("dms-operator-identity").await.unwrap(), made);
}
