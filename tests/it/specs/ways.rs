//! One digest through every way of applying, and none through a change after signing.

use dms_operator::{api::digest::spec_digest, dev::installation::Installation};

use super::*;
use crate::{
    cluster::shared,
    timed::Timed,
    world::{Tenant, condition, installation, name},
};

/// A tenant at a desk, with the key in the environment.
struct Site<'a> {
    tenant: Tenant<'a>,
    desk: Desk,
    seed: String,
    grant: String,
}

impl<'a> Site<'a> {
    async fn new(installation: &'a Installation) -> Self {
        let tenant = Tenant::new(installation).await;
        let mut desk = Desk::at(shared().await.admin_kubeconfig());
        let seed = desk.guard(&tenant.owner);
        let grant = text(&tenant.grant);
        Self { tenant, desk, seed, grant }
    }

    /// A signed manifest in a file of the object's name.
    fn signed(&self, name: &str) -> (String, Value) {
        let operator = &self.tenant.installation.plan.namespace;
        self.desk.file(&format!("{name}.yaml"), &manifest(operator, Some(&self.tenant.namespace), name, name));
        self.sign(&format!("{name}.yaml"))
    }

    fn sign(&self, file: &str) -> (String, Value) {
        self.desk.run(&["sign", "-i", "-f", file], &variables(&self.seed, &self.grant), "").done();
        let text = self.desk.text(file);
        let object = deployment(&text);
        (text, object)
    }

    fn shell(&self, line: &str) {
        self.desk.shell(&line.replace("NAMESPACE", &self.tenant.namespace), &[]).done();
    }

    /// What was signed is what is accepted.
    async fn accepted(&self, name: &str, signed: &Value) {
        let status = self.tenant.condition(name, "TokenVerified", "True", "Verified").await;
        let digest = spec_digest(signed).unwrap().digest;
        assert_eq!(status.accepted_revision.map(|accepted| accepted.digest), Some(digest), "{name}");
        let stored = self.tenant.get(name).await.unwrap();
        assert_eq!(stored.data["spec"], signed["spec"], "{name}");
    }

    /// What is refused, with its sentence.
    async fn refused(&self, name: &str, reason: &str, sentence: &str) {
        let status = self.tenant.condition(name, "TokenVerified", "False", reason).await;
        let said = condition(&status, "TokenVerified").2;
        assert!(said.contains(sentence), "{said}");
        assert_eq!((status.accepted_revision, status.deployment), (None, None));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_digest_holds_through_every_way_of_applying() {
    let _timed = Timed::start();
    let installation = installation("ways", 1, &["--resync", "1s"], &[]).await;
    let site = Site::new(&installation).await;

    let client_side = name();
    let (_, signed) = site.signed(&client_side);
    site.shell(&format!("kubectl apply -f {client_side}.yaml"));
    site.accepted(&client_side, &signed).await;
    site.shell(&format!("kubectl apply -f {client_side}.yaml"));

    // Two field managers: the same, and then a renewal by the second.
    let shared_by_two = name();
    let file = format!("{shared_by_two}.yaml");
    let (_, signed) = site.signed(&shared_by_two);
    site.shell(&format!("kubectl apply --server-side --field-manager one -f {file}"));
    site.accepted(&shared_by_two, &signed).await;
    site.shell(&format!("kubectl apply --server-side --field-manager two -f {file}"));
    let (_, renewed) = site.sign(&file);
    assert_ne!(renewed, signed);
    site.shell(&format!("kubectl apply --server-side --field-manager two --force-conflicts -f {file}"));
    site.accepted(&shared_by_two, &renewed).await;

    let kustomized = name();
    let (_, signed) = site.signed(&kustomized);
    let labels = "labels: [{pairs: {team: a}, includeSelectors: false}]";
    site.desk.file("k/kustomization.yaml", &format!("resources: [{kustomized}.yaml]\n{labels}\n"));
    site.shell(&format!("mv {kustomized}.yaml k/ && kubectl apply -k k"));
    site.accepted(&kustomized, &signed).await;

    // Helm renders, then it is signed and applied; and a chart may carry what was rendered and signed.
    let rendered = name();
    let operator = &installation.plan.namespace;
    site.desk.file("chart/Chart.yaml", "apiVersion: v2\nname: site\nversion: 0.1.0\n");
    let template = manifest(operator, Some("{{ .Release.Namespace }}"), "{{ .Release.Name }}", "{{ .Release.Name }}");
    site.desk.file("chart/templates/site.yaml", &template);
    site.shell(&format!("helm template -n NAMESPACE {rendered} ./chart > {rendered}.yaml"));
    let (_, signed) = site.sign(&format!("{rendered}.yaml"));
    site.shell(&format!("kubectl apply -f {rendered}.yaml"));
    site.accepted(&rendered, &signed).await;

    let carried = name();
    let (_, signed) = site.signed(&carried);
    site.desk.file("carrier/Chart.yaml", "apiVersion: v2\nname: carrier\nversion: 0.1.0\n");
    site.shell(&format!("mkdir -p carrier/templates && mv {carried}.yaml carrier/templates/"));
    site.shell(&format!("helm install -n NAMESPACE {carried} ./carrier"));
    site.accepted(&carried, &signed).await;

    // As Flux's kustomize-controller does it: server-side, by force, with labels of its own.
    let by_flux = name();
    let (_, signed) = site.signed(&by_flux);
    let labels = "kustomize.toolkit.fluxcd.io/name=site kustomize.toolkit.fluxcd.io/namespace=flux-system";
    site.shell(&format!(
        "kubectl label --local -f {by_flux}.yaml {labels} -o json > labelled.json && \
         kubectl apply --server-side --force-conflicts --field-manager kustomize-controller -f labelled.json"
    ));
    site.accepted(&by_flux, &signed).await;

    // As Argo CD does it: client-side, with its tracking label and annotation.
    let by_argo = name();
    let (_, signed) = site.signed(&by_argo);
    let tracking =
        format!("argocd.argoproj.io/tracking-id=site:hosting.nunet.io/HostingDeployment:NAMESPACE/{by_argo}");
    site.shell(&format!(
        "kubectl annotate --local -f {by_argo}.yaml {tracking} -o json | \
         kubectl label --local -f - app.kubernetes.io/instance=site -o json | kubectl apply -f -"
    ));
    site.accepted(&by_argo, &signed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_after_signing_is_refused_with_the_sentence() {
    let _timed = Timed::start();
    let installation = installation("changed-ways", 1, &["--resync", "1s"], &[]).await;
    let site = Site::new(&installation).await;

    let prefixed = name();
    site.signed(&prefixed);
    site.desk.file("p/kustomization.yaml", &format!("namePrefix: my-\nresources: [{prefixed}.yaml]\n"));
    site.shell(&format!("mv {prefixed}.yaml p/ && kubectl apply -k p"));
    let sentence =
        "Sign the object under the name and namespace that it is applied with: `kubectl hosting sign -n NAMESPACE`";
    site.refused(&format!("my-{prefixed}"), "WrongBehaviour", sentence).await;

    let moved = name();
    let (text, _) = site.signed(&moved);
    let other = crate::cluster::namespace(&site.tenant.client).await;
    site.desk.file(
        "moved.yaml",
        &text.replace(&format!("namespace: {}\n", site.tenant.namespace), &format!("namespace: {other}\n")),
    );
    site.shell("kubectl apply -f moved.yaml");
    let elsewhere = Tenant { namespace: other, ..Tenant::new(&installation).await };
    let status = elsewhere.condition(&moved, "TokenVerified", "False", "WrongBehaviour").await;
    assert!(condition(&status, "TokenVerified").2.contains(sentence));

    let substituted = name();
    let (text, _) = site.signed(&substituted);
    site.desk.file("substituted.yaml", &text.replace("access: Public", "access: Owner"));
    site.shell("kubectl apply -f substituted.yaml");
    let sentence = "what was signed is not what was applied; it differs in: content. A prefix, substitution or target namespace \
                    applied after signing does this. Render first, then run `kubectl hosting sign`";
    site.refused(&substituted, "DigestMismatch", sentence).await;
}
