//! `examples/ci-delegated-key`: a pipeline deploys under a key of its own, and nothing else.

use super::*;
use crate::{
    cluster::shared,
    definitions::root,
    timed::Timed,
    world::{Tenant, fetch, installation},
};

/// Copies the example, with the names of this installation in it.
fn copied(desk: &Desk, tenant: &Tenant<'_>) {
    let example = root().join("examples/ci-delegated-key");
    desk.shell(&format!("cp -r {} example", example.display()), &[]).done();
    let file = |called: &str| format!("example/{called}");
    let kustomization = desk.text(&file("kustomization.yaml"));
    assert!(kustomization.contains("namespace: shop\n"));
    desk.file(
        &file("kustomization.yaml"),
        &kustomization.replace("namespace: shop", &format!("namespace: {}", tenant.namespace)),
    );
    let text = desk.text(&file("hostingdeployment.yaml"));
    assert!(text.contains("    namespace: dms-operator\n"));
    let operator = &tenant.installation.plan.namespace;
    desk.file(
        &file("hostingdeployment.yaml"),
        &text.replace("namespace: dms-operator", &format!("namespace: {operator}")),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pipeline_of_the_example_deploys_its_site_and_is_refused_for_another() {
    let _timed = Timed::start();
    let installation = installation("pipeline", 1, &["--resync", "1s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let mut desk = Desk::at(shared().await.admin_kubeconfig());
    copied(&desk, &tenant);

    // What the owner does once, with the commands of the README.
    let readme = desk.text("example/README.md");
    let owner_seed = desk.guard(&tenant.owner);
    desk.file("owner.seed", &owner_seed);
    desk.file("grant.json", &text(&tenant.grant));
    let passphrase = [("DMS_PASSPHRASE", "for this test")];
    let did = desk.shell("kubectl hosting wallet new --name ci", &passphrase).done();
    desk.shell("kubectl hosting wallet export ci --seed-out ci.seed", &passphrase).done();
    desk.secrets.push(desk.text("ci.seed").trim().to_owned());
    let delegate = format!(
        "kubectl hosting token delegate --seed-file owner.seed --grant grant.json --to {} --capability \
         /hosting/{}/apply/web --for 30m --out ci.token",
        did.trim(),
        tenant.namespace
    );
    desk.shell(&delegate, &[]).done();
    for part in [
        "wallet new --name ci",
        "wallet export ci --seed-out ci.seed",
        "--capability /hosting/shop/apply/web",
        "--out ci.token",
    ] {
        assert!(readme.contains(part), "{part}");
    }

    // What the pipeline runs, with nothing but its two secrets.
    let (seed, grant) = (desk.text("ci.seed"), desk.text("ci.token"));
    let variables = variables(seed.trim(), grant.trim());
    let out = desk.shell("example/deploy.sh", &variables).done();
    for part in ["signed by", "✓", "would be created", "serverside-applied", "Ready            True    Succeeded: "] {
        assert!(out.contains(part), "{part:?} is not in {out}");
    }
    let status = tenant.ready("web").await;
    assert_eq!(status.accepted_revision.unwrap().signer, did.trim());
    let page = fs::read_to_string(root().join("examples/ci-delegated-key/site/index.html")).unwrap();
    assert_eq!(fetch(&status.url.unwrap()).await, (200, page));

    // For another name the key is of no use: the run ends before anything is applied.
    let text = desk.text("example/hostingdeployment.yaml");
    desk.file("example/hostingdeployment.yaml", &text.replace("  name: web\nspec", "  name: other\nspec"));
    let ended = desk.shell("example/deploy.sh", &variables);
    let path = format!("/hosting/{}/apply/other", tenant.namespace);
    ended
        .refused_saying(1, &["HostingDeployment other was not signed", &path, "which the link above it does not give"]);
    assert!(tenant.get("other").await.is_none());
    for part in ["HostingDeployment other was not signed", "which the link above it does not give"] {
        assert!(readme.contains(part), "{part}");
    }
}
