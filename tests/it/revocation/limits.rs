//! What anybody may make must fill neither memory nor storage, and what is kept goes in its time.

use dms_operator::plan::retention::REVOCATIONS_PER_NAMESPACE;
use futures::{StreamExt as _, stream};
use k8s_openapi::api::rbac::v1::Role;
use kube::api::PostParams;

use super::*;

/// Revocations of tokens that nobody here ever saw.
async fn strangers(tenant: &Tenant<'_>, count: usize) -> Vec<String> {
    let stranger = Wallet::random().unwrap();
    let paths = [format!("/hosting/{}/apply", tenant.namespace)];
    let tokens = (0..count).map(|_| stranger.delegate(stranger.did(), None, &paths, wall(), 1, None).unwrap());
    let revocations: Vec<Token> = tokens.map(|token| Token::revoke(&stranger.key, &token).unwrap()).collect();
    let created = stream::iter(&revocations).map(async |revocation| create(tenant, &text(revocation)).await);
    created.buffer_unordered(8).collect().await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_chain_from_here_was_refused_for_is_kept() {
    let _timed = Timed::start();
    let installation = installation("durable", 1, &SLOW, &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (owner, pipeline) = (Wallet::random().unwrap(), Pipeline::of(&tenant));
    let release = tenant.files("site", &page().0).await;
    let object = |owner: &Wallet| installation.deployment(&tenant.namespace, &name(), owner.did(), &release, "site");

    // A chain that only says that the provider issued its root, and a revocation of a link in it.
    let paths = [format!("/hosting/{}/apply", tenant.namespace)];
    let until = tenant.grant.not_after();
    let root = owner.delegate(owner.did(), Some(installation.provider.did()), &paths, until, 3, None).unwrap();
    let issuer = |did: &Did| format!("\"iss\":{{\"uri\":\"{did}\"}}");
    let claimed = Link::of(&root).saying(&issuer(owner.did()), &issuer(installation.provider.did()));
    let audience = Some(installation.provider.did());
    let passed_on = owner.delegate(pipeline.wallet.did(), audience, &paths, until, 1, Some(&root)).unwrap();
    let mut forged = object(&owner);
    pipeline.wallet.sign(&mut forged, &passed_on, installation.provider.did(), wall()).unwrap();
    let link = Link::of(&passed_on).under(&claimed).signed_by(&owner.key);
    let forged = below(forged, &pipeline.wallet.key, &link);
    let of_forged = revoke(&tenant, &owner, &passed_on).await;
    says(&tenant, &of_forged, "True", "Succeeded", WHILE).await;
    tenant.apply(&forged).await.unwrap();
    tenant.condition(forged["metadata"]["name"].as_str().unwrap(), "TokenVerified", "False", "Revoked").await;
    assert_eq!(copies(&installation).await, [], "whoever it was, no anchor is above it");
    says(&tenant, &of_forged, "True", "Succeeded", WHILE).await;

    // Accepted before its token is seen; once a chain from here is refused for it, it is kept.
    let early = revoke(&tenant, &tenant.owner, &pipeline.token).await;
    says(&tenant, &early, "True", "Succeeded", WHILE).await;
    assert_eq!(copies(&installation).await, []);
    let before = Before::now(&installation);
    let late = pipeline.sign(&tenant, object(&tenant.owner));
    tenant.apply(&late).await.unwrap();
    tenant.condition(late["metadata"]["name"].as_str().unwrap(), "TokenVerified", "False", "Revoked").await;
    says(&tenant, &early, "True", "Succeeded", STAYS).await;
    assert_eq!(copies(&installation).await.len(), 1);
    before.assert_only_heartbeats_since(&installation);

    // What an anchor signed is kept at once, in nobody's number.
    let grant = revoke(&tenant, &installation.provider, &tenant.grant).await;
    says(&tenant, &grant, "True", "Succeeded", STAYS).await;
    let copies = copies(&installation).await;
    let charged = |copy: &&ConfigMap| copy.data.as_ref().unwrap().contains_key("namespace");
    assert_eq!((copies.len(), copies.iter().filter(charged).count()), (2, 1));
}

/// The operator may not write ConfigMaps for a while.
async fn permit(installation: &Installation, verbs: &[&str]) {
    let roles: Api<Role> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let mut role = roles.get("dms-operator").await.unwrap();
    for rule in role.rules.iter_mut().flatten() {
        if rule.resources.as_ref().is_some_and(|resources| resources.contains(&"configmaps".to_owned())) {
            rule.verbs = verbs.iter().map(|&verb| verb.to_owned()).collect();
        }
    }
    roles.replace("dms-operator", &PostParams::default(), &role).await.unwrap();
    let operator = installation.plan.credentials.client().await.unwrap();
    let api: Api<ConfigMap> = Api::namespaced(operator, &installation.plan.namespace);
    let (try_only, map) = (PostParams { dry_run: true, ..PostParams::default() }, json!({"metadata": {"name": "try"}}));
    let map: ConfigMap = serde_json::from_value(map).unwrap();
    eventually("the API server goes by it", async || {
        let created = api.create(&try_only, &map).await;
        if created.is_ok() == verbs.contains(&"create") { Ok(()) } else { Err(format!("{created:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_copy_it_is_in_force_and_nothing_more_is_promised() {
    let _timed = Timed::start();
    let installation = installation("no-copy", 1, &["--resync", "2s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let (name, pipeline) = (name(), Pipeline::of(&tenant));
    pipeline.deploy(&tenant, &name, &page().0).await;
    let url = tenant.ready(&name).await.url.unwrap();
    permit(&installation, &["get", "list"]).await;
    let revocation = revoke(&tenant, &tenant.owner, &pipeline.token).await;
    ended(&url).await;
    tenant.condition(&name, "Deployed", "False", "Stopped").await;
    says(&tenant, &revocation, "True", "Succeeded", WHILE).await;
    let log = || installation.operator.log().unwrap();
    eventually("it is tried again", async || {
        let tries = log().matches("a revocation that was used could not be kept").count();
        if tries >= 3 { Ok(()) } else { Err(tries.to_string()) }
    })
    .await;
    says(&tenant, &revocation, "True", "Succeeded", WHILE).await;
    permit(&installation, &["get", "list", "create", "update", "patch", "delete"]).await;
    says(&tenant, &revocation, "True", "Succeeded", STAYS).await;
    assert_eq!(copies(&installation).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_of_a_namespace_count_and_no_more() {
    let _timed = Timed::start();
    let installation = installation("quota", 1, &["--resync", "2s"], &[]).await;
    let tenant = Tenant::new(&installation).await;
    let pipeline = Pipeline::of(&tenant);
    let strange = strangers(&tenant, REVOCATIONS_PER_NAMESPACE).await;
    for name in &strange {
        says(&tenant, name, "True", "Succeeded", WHILE).await;
    }
    let beyond = revoke(&tenant, &tenant.owner, &pipeline.token).await;
    says(&tenant, &beyond, "False", "RevocationQuotaExceeded", "has 64 revocations in force").await;
    let (name, (files, body)) = (name(), page());
    pipeline.deploy(&tenant, &name, &files).await;
    let url = tenant.ready(&name).await.url.unwrap();

    // Another namespace has room of its own, and what an anchor signs needs none.
    let other = Tenant::new(&installation).await;
    let elsewhere = strangers(&other, 1).await;
    says(&other, &elsewhere[0], "True", "Succeeded", WHILE).await;
    let anchored = revoke(&tenant, &installation.provider, &other.grant).await;
    says(&tenant, &anchored, "True", "Succeeded", STAYS).await;
    assert_eq!(fetch(&url).await, (200, body));

    // Room is made by deleting one that was of no use.
    revocations(&tenant).delete(&strange[0], &DeleteParams::default()).await.unwrap();
    ended(&url).await;
    says(&tenant, &beyond, "True", "Succeeded", STAYS).await;
    // It is used, so its place is taken for as long as it is kept.
    revocations(&tenant).delete(&beyond, &DeleteParams::default()).await.unwrap();
    let next = strangers(&tenant, 1).await;
    says(&tenant, &next[0], "False", "RevocationQuotaExceeded", "Delete those that are not needed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_revocation_goes_when_its_token_has_ended_and_nothing_rests_on_it() {
    let _timed = Timed::start();
    let terms = json!({"policy": {"keepExpiredFor": "1s", "publicAccess": "Allow"}});
    let installation = installation_with("purge", 1, &["--resync", "1s"], &[], terms).await;
    let mut tenant = Tenant::new(&installation).await;
    let until = wall().plus(Duration::from_secs(15));
    tenant.grant = installation.provider.grant(tenant.owner.did(), &tenant.namespace, until).unwrap();
    let (name, pipeline) = (name(), Pipeline::of(&tenant));
    pipeline.deploy(&tenant, &name, &page().0).await;
    tenant.condition(&name, "TokenVerified", "True", "Verified").await;
    let revocation = revoke(&tenant, &tenant.owner, &pipeline.token).await;
    says(&tenant, &revocation, "True", "Succeeded", STAYS).await;
    revocations(&tenant).delete(&revocation, &DeleteParams::default()).await.unwrap();
    let over = until.plus(Duration::from_secs(4));
    eventually("the token has ended, and what it leaves", async || {
        assert_eq!(copies(&installation).await.len(), 1, "something rests on it");
        if wall() > over { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let status = tenant.status(&name).await;
    assert_eq!(condition(&status, "TokenVerified").1, "Revoked");

    tenant.api().delete(&name, &DeleteParams::default()).await.unwrap();
    tenant.gone(&name).await;
    eventually("the copy goes", async || match copies(&installation).await.len() {
        0 => Ok(()),
        count => Err(format!("{count}\noperator:\n{}", installation.operator.log_end())),
    })
    .await;
}
