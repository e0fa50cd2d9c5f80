//! `plan` and `apply` against a cluster.

use dms_operator::{controller::clock::wall, dev::installation::Installation};
use kube::api::{Patch, PatchParams};

use super::*;
use crate::{
    cluster::{eventually, shared},
    timed::Timed,
    world::{Tenant, asked, condition, fetch, installation, name, release_of},
};

async fn desk(tenant: &Tenant<'_>) -> (Desk, String, String) {
    let mut desk = Desk::at(shared().await.admin_kubeconfig());
    let seed = desk.guard(&tenant.owner);
    (desk, seed, text(&tenant.grant))
}

fn written(desk: &Desk, installation: &Installation, name: &str, page: &str) -> String {
    let text = manifest(&installation.plan.namespace, None, name, page);
    desk.file("web.yaml", &text);
    text
}

/// One object of a plan.
fn planned(ended: &Ended) -> Value {
    ended.read()["objects"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_is_planned_applied_and_changed() {
    let _timed = Timed::start();
    let installation = installation("applied", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (desk, seed, grant) = desk(&tenant).await;
    let (variables, name) = (variables(&seed, &grant), name());
    let place = ["-f", "web.yaml", "-n", tenant.namespace.as_str()];
    let line = |command: &'static str, more: &[&'static str]| [&[command][..], &place, more].concat();

    // Unsigned, it would be refused, by the operator and by the API server.
    let unsigned = written(&desk, &installation, &name, "hello");
    let ended = desk.run(&line("plan", &[]), &[], "");
    ended.refused_saying(
        2,
        &["would be created", "NotSigned: the spec is not signed", "the API server: ", "Run `kubectl hosting sign"],
    );
    assert!(tenant.get(&name).await.is_none());

    // Signed, nothing would be.
    desk.run(&line("sign", &["-i"]), &variables, "").done();
    let signed = desk.text("web.yaml");
    let plan = desk.run(&line("plan", &["-o", "json"]), &[], "");
    assert_eq!(plan.code, 0, "{plan:?}");
    let object = planned(&plan);
    assert_eq!(plan.read()["refused"], false);
    assert_eq!((&object["change"], &object["device"]), (&json!("create"), &json!(installation.devices[0].name)));
    assert_eq!((&object["transfer"]["files"], &object["transfer"]["bytes"]), (&json!(1), &json!(5)));
    assert_eq!(
        (&object["signature"]["verdict"], &object["signature"]["providerFrom"]),
        (&json!("accept"), &json!("cluster"))
    );
    assert_eq!(
        (&object["namespaceAllowed"], &object["refusals"], &object["unknown"]),
        (&json!(true), &json!([]), &json!(["whether a newer spec was accepted before under this name is not known"]))
    );
    assert!(tenant.get(&name).await.is_none(), "a plan changes nothing");

    // The status tells the time of a signature in whole seconds.
    let second = || wall().0 / 1_000_000_000;
    let before = second();
    eventually("the clock moves on", async || if second() > before { Ok(()) } else { Err(String::new()) }).await;

    // Unsigned again: `apply` signs, applies and waits. The key is in the environment.
    desk.file("web.yaml", &unsigned);
    let out = desk.run(&line("apply", &["--timeout", "90s"]), &variables, "").done();
    for part in [
        "signed by did:key:",
        "configmap/",
        "serverside-applied\n",
        "TokenVerified    True    Verified: ",
        "Ready            True    Succeeded: ",
    ] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    assert!(!out.contains('\u{1b}'), "colour is for terminals");
    assert_eq!(desk.text("web.yaml"), unsigned, "the file stays as it is");
    let status = tenant.ready(&name).await;
    assert_eq!(fetch(status.url.as_ref().unwrap()).await, (200, "hello".to_owned()));

    // What was signed earlier is older than what is accepted now, and the plan knows.
    desk.file("web.yaml", &signed);
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &["RolledBack: it was signed at", "a spec signed later"]);

    // A new page: what changes, and what has to be brought.
    written(&desk, &installation, &name, "hello again");
    desk.run(&line("sign", &["-i"]), &variables, "").done();
    let object = planned(&desk.run(&line("plan", &["-o", "json"]), &[], ""));
    assert_eq!((&object["change"], &object["parts"]), (&json!("update"), &json!(["content"])));
    assert_eq!((&object["transfer"]["files"], &object["transfer"]["bytes"]), (&json!(1), &json!(11)));
    assert_eq!(object["transfer"]["note"], "what the release that is served now lacks");
    assert_eq!(
        (&object["device"], &object["deviceNote"]),
        (&json!(installation.devices[0].name), &json!("it is there"))
    );
    let out = desk.run(&line("apply", &["--timeout", "90s"]), &[], "").done();
    assert!(!out.contains("signed by did:key:z6Mk") || out.contains("TokenVerified"), "{out}");
    eventually("the new page", async || {
        let seen = fetch(status.url.as_ref().unwrap()).await;
        if seen == (200, "hello again".to_owned()) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    let object = planned(&desk.run(&line("plan", &["-o", "json"]), &[], ""));
    assert_eq!((&object["change"], &object["transfer"]["bytes"]), (&json!("none"), &json!(0)));

    // Taken back: the plan sees it, and `apply` tells the sentence.
    tenant.revoke().await;
    tenant.condition(&name, "TokenVerified", "False", "Revoked").await;
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &["Revoked: link 1 of 2", "was revoked by"]);
    let ended = desk.run(&line("apply", &["--timeout", "90s"]), &variables, "");
    ended.refused_saying(1, &["is not Ready: Revoked: ", "was revoked by"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_is_said_before_and_told_after() {
    let _timed = Timed::start();
    let installation = installation("planned", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (desk, seed, grant) = desk(&tenant).await;
    let (variables, name) = (variables(&seed, &grant), name());
    let place = ["-f", "web.yaml", "-n", tenant.namespace.as_str()];
    let line = |command: &'static str, more: &[&'static str]| [&[command][..], &place, more].concat();
    written(&desk, &installation, &name, "hello");
    desk.run(&line("sign", &["-i"]), &variables, "").done();
    let signed = desk.text("web.yaml");
    let before = asked(&installation, 0).len();

    // Edited after signing.
    desk.file("web.yaml", &signed.replace("access: Public", "access: Owner"));
    let sentences =
        ["DigestMismatch: what was signed is not what was applied", "differs in: content", "kubectl hosting sign"];
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &sentences);
    let ended = desk.run(&line("apply", &["--timeout", "60s"]), &[], "");
    ended.refused_saying(1, &["is not Ready: DigestMismatch: ", "TokenVerified    False"]);
    let status = tenant.condition(&name, "TokenVerified", "False", "DigestMismatch").await;
    assert_eq!(status.deployment, None);
    assert!(condition(&status, "Ready").2.contains("differs in: content"));

    // Changed without a new signature over an object that is there: the API server refuses, and the plan says so.
    desk.file("web.yaml", &signed.replace("access: Public", "access: Delegated"));
    let refusal = "the spec was changed but not signed again";
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &["the API server: ", refusal]);
    desk.run(&line("apply", &[]), &[], "").refused_saying(1, &["was not applied: ", refusal]);

    // A provider that is not there, a page that is not what was signed, a file that is no stream.
    desk.file("web.yaml", &signed.replace("'default'", "'nobody'"));
    let nobody = format!("HostingProvider {}/nobody does not exist", installation.plan.namespace);
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &[&nobody]);
    desk.file("web.yaml", &signed.replace("index.html: hello", "index.html: other"));
    let other = release_of(&files("other"));
    let sentences =
        ["ContentDigestMismatch: the files of the ConfigMap in the stream make release", &other, "sign --refresh"];
    desk.run(&line("plan", &[]), &[], "").refused_saying(2, &sentences);
    desk.run(&["plan", "-f", "nothing.yaml"], &[], "").refused_saying(1, &["nothing.yaml could not be read"]);

    // Without a cluster the signature is still judged, and what is not known is said.
    desk.file("web.yaml", &signed);
    let offline = desk.run(&line("plan", &["--offline"]), &[("KUBECONFIG", "/nonexistent")], "");
    offline.refused_saying(0, &["✓", "not known what would change", "the cluster was not asked (--offline)"]);
    let ended = desk.run(&line("plan", &[]), &[("KUBECONFIG", "/nonexistent")], "");
    ended.refused_saying(1, &["no Kubernetes API server is configured"]);

    // The provider takes nothing from this namespace any more, and permits nothing public.
    let providers: kube::Api<dms_operator::api::HostingProvider> =
        kube::Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let terms = json!({"spec": {"allowedNamespaces": {"from": "Same"}, "policy": {"publicAccess": "Refuse"}}});
    providers.patch("default", &PatchParams::default(), &Patch::Merge(terms)).await.unwrap();
    let ended = desk.run(&line("plan", &[]), &[], "");
    ended.refused_saying(
        2,
        &["namespace  not allowed", "NamespaceNotAllowed: HostingProvider", "PublicAccessRefused: "],
    );
    assert!(asked(&installation, 0).iter().skip(before).all(|asked| !asked.ends_with("/deployment/new")));
}

/// Who may not look everywhere is told what is not known, and nothing is taken for refused.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_read_is_not_known() {
    let _timed = Timed::start();
    let installation = installation("unseen", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (mut desk, seed, grant) = desk(&tenant).await;
    let variables = variables(&seed, &grant);
    let text = manifest(&installation.plan.namespace, Some(&tenant.namespace), &name(), "hello");
    desk.file("web.yaml", &text);
    desk.run(&["sign", "-i", "-f", "web.yaml"], &variables, "").done();
    let nobody = shared().await.user("nobody", &["tenants"]).unwrap();
    let kubeconfig = desk.folder.join("nobody.kubeconfig");
    nobody.write(&kubeconfig).unwrap();
    desk.kubeconfig = Some(kubeconfig);
    let ended = desk.run(&["plan", "-f", "web.yaml", "-o", "json"], &[], "");
    assert_eq!(ended.code, 0, "{ended:?}");
    let object = planned(&ended);
    assert_eq!(
        (&object["change"], &object["device"], &object["namespaceAllowed"]),
        (&json!("unknown"), &json!(null), &json!(null))
    );
    assert_eq!(
        (&object["signature"]["verdict"], &object["signature"]["providerFrom"]),
        (&json!("accept"), &json!("envelope"))
    );
    let unknown = object["unknown"].to_string();
    for part in [
        "the object that is there cannot be read",
        "cannot be read: ",
        "the API server does not say",
        "revocations cannot be read",
    ] {
        assert!(unknown.contains(part), "{part:?} is not in {unknown}");
    }
    desk.run(&["apply", "-f", "web.yaml"], &[], "").refused_saying(1, &["was not applied: ", "forbidden"]);
}
