//! The door without kubectl: who has only a DID is given a grant, deploys, and deletes.

pub mod asking;
pub mod listening;

use std::{collections::BTreeMap, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    api::{
        HostingProvider, Reason,
        door::{CHALLENGE, Challenge, GRANT, Granted},
        names::{FIELD_MANAGER_OF_DOOR, LABEL_COMPONENT},
    },
    capability::{self, Capability, Envelope, Token},
    controller::clock::wall,
    dev::installation::Installation,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use self::asking::{Answer, Asker, Way, later, reason};
use crate::{
    cluster::{self, eventually},
    timed::Timed,
    world::{Tenant, fetch, installation_with, name, page},
};

fn everything_to_anybody() -> Value {
    let all = ["apply", "publish", "read", "usage", "delete"];
    json!({"grants": [{"subjects": {"any": {}}, "actions": all, "lifetime": "1h", "maxDelegations": 2}]})
}

/// The records of what was given, by the DID.
async fn records(installation: &Installation) -> Vec<BTreeMap<String, String>> {
    let api: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let found = api.list(&ListParams::default().labels(&format!("{LABEL_COMPONENT}=grant"))).await.unwrap();
    found.items.into_iter().map(|map| map.data.unwrap()).collect()
}

fn records_of<'a>(records: &'a [BTreeMap<String, String>], asker: &Asker) -> Vec<&'a BTreeMap<String, String>> {
    records.iter().filter(|record| record["did"] == asker.wallet.did().as_str()).collect()
}

/// A tenant of the asker's, with the grant that the asker was given.
fn tenant<'a>(installation: &'a Installation, asker: &Asker, grant: &Token, namespace: &str) -> Tenant<'a> {
    Tenant {
        installation,
        client: installation.client.clone(),
        namespace: namespace.to_owned(),
        owner: asker.wallet.clone(),
        grant: grant.clone(),
    }
}

/// What a token says: its actions, how far it reaches, and for how many minutes about.
fn said(token: &Token) -> (Vec<String>, u64, u64) {
    let paths = token.capabilities().iter().map(|path| path.as_str().to_owned()).collect();
    (paths, token.depth(), token.expires().since(wall()).as_secs().div_ceil(60))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_did_is_given_what_the_provider_offers_it() {
    let _timed = Timed::start();
    let installation = installation_with("grants", 0, &["--resync", "1s"], &[], json!({})).await;
    let (shop, other) =
        (cluster::namespace(&installation.client).await, cluster::namespace(&installation.client).await);
    let (known, stranger) = (Asker::new(&installation).await, Asker::new(&installation).await);
    // Nothing is offered yet.
    assert_eq!(reason(known.login(Way::Libp2p, &shop, &[]).await), "NotInPolicy");

    let grants = json!([
        {
            "subjects": {"dids": [known.wallet.did()]}, "namespaces": [shop], "actions": ["apply", "read"],
            "lifetime": "2h", "maxDelegations": 1,
        },
        {"subjects": {"any": {}}, "actions": ["read", "usage"], "lifetime": "30m", "maxDelegations": 0},
        {"subjects": {"dids": [known.wallet.did()]}, "actions": ["delete"]},
    ]);
    let providers: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let patch = Patch::Merge(json!({"spec": {"grants": grants}}));
    providers.patch("default", &PatchParams::default(), &patch).await.unwrap();
    let path = |namespace: &str, actions: &[&str]| -> Vec<String> {
        actions.iter().map(|action| format!("/hosting/{namespace}/{action}")).collect()
    };
    let looker = Asker::new(&installation).await;
    eventually("the offers are taken over", async || {
        looker.challenge(Way::Libp2p, &shop, &["read"]).await.map_err(|refused| format!("{refused:?}"))
    })
    .await;
    let first = known.login(Way::Libp2p, &shop, &["apply"]).await.unwrap();
    assert_eq!(said(&first), (path(&shop, &["apply"]), 2, 120));
    for way in [Way::Libp2p, Way::Http] {
        // Each action by the first that gives it; the shortest life and the shortest reach of those.
        let all = known.login(way, &shop, &[]).await.unwrap();
        assert_eq!(said(&all), (path(&shop, &["apply", "read", "usage", "delete"]), 1, 30));
        let two = known.login(way, &shop, &["read", "apply"]).await.unwrap();
        assert_eq!(said(&two), (path(&shop, &["apply", "read"]), 2, 120));
        let elsewhere = known.login(way, &other, &["delete"]).await.unwrap();
        assert_eq!(said(&elsewhere), (path(&other, &["delete"]), 3, 720 * 60));
        let anybody = stranger.login(way, &shop, &[]).await.unwrap();
        assert_eq!(said(&anybody), (path(&shop, &["read", "usage"]), 1, 30));
        for token in [&all, &two, &elsewhere, &anybody] {
            assert_eq!((token.issuer(), token.audience()), (&known.provider, Some(&known.provider)));
            assert_eq!((token.chain(), token.topics().len()), (None, 0));
        }
        assert_eq!(reason(known.login(way, &other, &["apply"]).await), "NotInPolicy");
        assert_eq!(reason(stranger.login(way, &shop, &["read", "apply"]).await), "NotInPolicy");
        assert_eq!(reason(stranger.login(way, "no-such-namespace", &[]).await), "NamespaceNotAllowed");
    }
    let kept = records(&installation).await;
    assert_eq!((records_of(&kept, &known).len(), records_of(&kept, &stranger).len()), (7, 2));
    let record = kept.iter().find(|record| record["token"].as_bytes() == first.to_json()).unwrap();
    assert_eq!(
        (&*record["did"], &*record["namespace"], &*record["actions"]),
        (known.wallet.did().as_str(), &*shop, "apply")
    );
    assert_eq!(record["expires"], first.expires().to_string());

    // What was offered before is not given any more.
    let challenge = known.challenge(Way::Http, &shop, &["apply"]).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"deniedDIDs": [known.wallet.did(), looker.wallet.did()]}}));
    providers.patch("default", &PatchParams::default(), &patch).await.unwrap();
    eventually("who is denied is given nothing", async || match looker.challenge(Way::Http, &shop, &["read"]).await {
        Err(refused) if refused.reason == "Denied" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let granted: Answer<Granted> = known.ask(Way::Http, GRANT, known.signed(&challenge), None).await;
    assert_eq!(reason(granted), "Denied");
    assert_eq!(records(&installation).await.len(), 9);
    let log = std::fs::read_to_string(installation.plan.folder.join("operator.log")).unwrap();
    let audited = |decision: &str| log.lines().filter(|line| line.contains("audit") && line.contains(decision)).count();
    assert!(audited("granted") >= 9 && audited("challenged") >= 9, "each challenge and each grant has its line: {log}");
    assert!(!log.contains(&challenge.state), "a line holds no state of a challenge");

    providers.delete("default", &DeleteParams::default()).await.unwrap();
    eventually("nothing is given without terms", async || {
        match stranger.challenge(Way::Http, &shop, &["read"]).await {
            Err(refused) if refused.reason == "ProviderNotReady" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_challenge_counts_once_for_whom_it_was_made() {
    let _timed = Timed::start();
    let installation = installation_with("challenges", 0, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let neighbour = installation_with("other-door", 0, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let namespace = cluster::namespace(&installation.client).await;
    let (asker, thief) = (Asker::new(&installation).await, Asker::new(&installation).await);

    // 64 posts of one signed challenge, half of them over libp2p.
    let challenge = asker.challenge(Way::Http, &namespace, &["apply"]).await.unwrap();
    let posts = (0..64).map(|number| {
        let way = if number % 2 == 0 { Way::Http } else { Way::Libp2p };
        asker.ask::<Granted>(way, GRANT, asker.signed(&challenge), None)
    });
    let answers = futures::future::join_all(posts).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(["ChallengeUsed", "TooManyRequests"].contains(&refused.reason.as_str()), "{refused:?}");
    }
    assert_eq!(records(&installation).await.len(), 1);

    let asker = Asker::new(&installation).await;
    let challenge = asker.challenge(Way::Libp2p, &namespace, &["apply"]).await.unwrap();
    let elsewhere = Asker::with(&neighbour, asker.wallet.clone()).await;
    let foreign = elsewhere.challenge(Way::Http, &namespace, &["apply"]).await.unwrap();
    assert!(foreign.text.contains(neighbour.provider.did().as_str()));
    let mut edited = challenge.clone();
    edited.text = edited.text.replace("apply", "delete");
    let mut inserted = challenge.clone();
    inserted.text.push_str("- /hosting\n");
    let cases = [
        (&asker, asker.signed(&foreign), Reason::ChallengeUnknown),
        (&asker, asker.signed(&edited), Reason::WrongSignature),
        (&asker, asker.signed(&inserted), Reason::WrongSignature),
        (&asker, thief.signed(&challenge), Reason::WrongSignature),
        (&thief, asker.signed(&challenge), Reason::SenderMismatch),
        (&thief, thief.signed(&challenge), Reason::SenderMismatch),
        (&asker, json!({"state": challenge.state}), Reason::RequestMalformed),
        (&asker, json!({"state": "", "signature": ""}), Reason::ChallengeUnknown),
    ];
    for (number, (sender, request, expected)) in cases.into_iter().enumerate() {
        for way in [Way::Libp2p, Way::Http] {
            let granted: Answer<Granted> = sender.ask(way, GRANT, request.clone(), None).await;
            assert_eq!(reason(granted), expected.as_str(), "{number}");
        }
    }
    let did = asker.wallet.did().as_str();
    for (alias, expected) in [
        (format!("{did}#{}", &did[8..]), Reason::DidRefused),
        (did.replace("did:key:z", "did:key:%7A"), Reason::DidRefused),
        ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme".to_owned(), Reason::DidRefused),
        (thief.wallet.did().to_string(), Reason::SenderMismatch),
    ] {
        let request = json!({"did": alias, "namespace": namespace});
        let given: Answer<Challenge> = asker.ask(Way::Http, CHALLENGE, request, None).await;
        assert_eq!(reason(given), expected.as_str(), "{alias}");
    }
    assert_eq!(records(&installation).await.len(), 1, "nothing more was given");
    assert_eq!(records(&neighbour).await.len(), 0);
    // Refusals used nothing up.
    let granted: Answer<Granted> = asker.ask(Way::Http, GRANT, asker.signed(&challenge), None).await;
    assert!(granted.is_ok(), "{granted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_only_a_did_deploys_changes_and_deletes() {
    let _timed = Timed::start();
    let installation = installation_with("door", 1, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let namespace = cluster::namespace(&installation.client).await;
    let asker = Asker::new(&installation).await;
    let grant = asker.login(Way::Libp2p, &namespace, &[]).await.unwrap();
    let tenant = tenant(&installation, &asker, &grant, &namespace);
    let name = name();
    let (files, body) = page();
    let release = tenant.files(&name, &files).await;
    let object = tenant.sign(tenant.object(&name, &release));
    let done = asker.apply(Way::Libp2p, &object, &grant).await.unwrap();
    assert_eq!((&*done.namespace, &*done.name, done.generation), (&*namespace, &*name, 1));
    assert_eq!(fetch(&tenant.ready(&name).await.url.unwrap()).await, (200, body));
    let live = tenant.get(&name).await.unwrap();
    assert_eq!(live.metadata.uid.as_deref(), Some(&*done.uid));
    assert_eq!(live.data["spec"], object["spec"]);
    let managers: Vec<_> =
        live.metadata.managed_fields.iter().flatten().filter_map(|by| by.manager.as_deref()).collect();
    assert!(managers.contains(&FIELD_MANAGER_OF_DOOR), "{managers:?}");

    let (files, body) = page();
    let release = tenant.files(&name, &files).await;
    let changed = tenant.sign(tenant.object(&name, &release));
    let done = asker.apply(Way::Http, &changed, &grant).await.unwrap();
    assert_eq!(done.generation, 2);
    // What was before is not put back, also while no pass was made over the change yet.
    assert_eq!(reason(asker.apply(Way::Libp2p, &object, &grant).await), "RolledBack");
    eventually("the change is served", async || {
        let status = tenant.status(&name).await;
        let page = fetch(&status.url.clone().unwrap_or_default()).await;
        if page == (200, body.clone()) { Ok(()) } else { Err(format!("{page:?} {status:?}")) }
    })
    .await;
    // The same again is nothing new.
    let again = asker.apply(Way::Http, &changed, &grant).await.unwrap();
    assert_eq!((again.generation, again.message.contains("unchanged")), (2, true), "{}", again.message);
    assert_eq!(reason(asker.apply(Way::Libp2p, &object, &grant).await), "RolledBack");
    assert_eq!(tenant.get(&name).await.unwrap().data["spec"], changed["spec"]);

    // One to whom the right was passed on asks in the owner's name.
    let ci = Asker::new(&installation).await;
    let paths = [format!("/hosting/{namespace}/apply/{name}")];
    let provider = installation.provider.did();
    let passed = asker.wallet.delegate(ci.wallet.did(), Some(provider), &paths, grant.expires(), 1, Some(&grant));
    let passed = passed.unwrap();
    let mut renewed = tenant.object(&name, &release);
    ci.wallet.sign(&mut renewed, &passed, provider, wall()).unwrap();
    let done = ci.apply(Way::Http, &renewed, &passed).await.unwrap();
    assert_eq!(done.generation, 3);
    assert_eq!(reason(ci.delete(Way::Http, (&namespace, &name), None, &passed).await), "NotAnchored");

    let uid = tenant.get(&name).await.unwrap().metadata.uid.unwrap();
    let wrong =
        asker.delete(Way::Http, (&namespace, &name), Some("00000000-0000-0000-0000-000000000000"), &grant).await;
    assert_eq!(reason(wrong), "ObjectNotFound");
    assert!(tenant.get(&name).await.is_some());
    let done = asker.delete(Way::Libp2p, (&namespace, &name), Some(&uid), &grant).await.unwrap();
    assert_eq!(done.uid, uid);
    tenant.gone(&name).await;
    assert_eq!(reason(asker.delete(Way::Http, (&namespace, &name), None, &grant).await), "ObjectNotFound");
    // A tombstone is as good a memory as the object was.
    assert_eq!(reason(asker.apply(Way::Http, &object, &grant).await), "RolledBack");
    assert!(tenant.get(&name).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
// Each refusal is tried on what the ones before it left.
#[allow(clippy::too_many_lines)]
async fn what_is_refused_at_the_door_leaves_no_trace() {
    let _timed = Timed::start();
    let installation = installation_with("door-refusals", 0, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let (namespace, other) =
        (cluster::namespace(&installation.client).await, cluster::namespace(&installation.client).await);
    let (asker, thief) = (Asker::new(&installation).await, Asker::new(&installation).await);
    let grant = asker.login(Way::Http, &namespace, &[]).await.unwrap();
    let elsewhere = asker.login(Way::Http, &other, &[]).await.unwrap();
    let stolen = thief.login(Way::Http, &namespace, &[]).await.unwrap();
    let tenant = tenant(&installation, &asker, &grant, &namespace);
    let release = tenant.files("files", &page().0).await;
    let signed = |change: &dyn Fn(&mut Value)| {
        let mut object = tenant.object(&name(), &release);
        change(&mut object);
        tenant.sign(object)
    };
    let plain = || signed(&|_| {});
    let edited = |change: &dyn Fn(&mut Value)| {
        let mut object = plain();
        change(&mut object);
        object
    };
    let cases: Vec<(&str, &Asker, Value, &Token, &str)> = vec![
        ("a grant for another namespace", &asker, plain(), &elsewhere, "NotAnchored"),
        ("somebody else's object", &thief, plain(), &stolen, "OwnerMismatch"),
        ("edited after signing", &asker, edited(&|o| o["spec"]["onExpiry"] = json!("Keep")), &grant, "DigestMismatch"),
        (
            "signed for another name",
            &asker,
            edited(&|o| o["metadata"]["name"] = json!(name())),
            &grant,
            "WrongBehaviour",
        ),
        (
            "not signed",
            &asker,
            edited(&|o| drop(o["spec"].as_object_mut().unwrap().remove("authorization"))),
            &grant,
            "NotSigned",
        ),
        ("another kind", &asker, edited(&|o| o["kind"] = json!("HostingDevice")), &grant, "ObjectMismatch"),
        (
            "another provider",
            &asker,
            signed(&|o| o["spec"]["providerRef"]["name"] = json!("second")),
            &grant,
            "ObjectMismatch",
        ),
        (
            "a finalizer",
            &asker,
            edited(&|o| o["metadata"]["finalizers"] = json!(["x.example.org/y"])),
            &grant,
            "RequestMalformed",
        ),
        ("a status", &asker, edited(&|o| o["status"] = json!({"url": "x"})), &grant, "RequestMalformed"),
        (
            "an annotation of the operator",
            &asker,
            edited(&|o| o["metadata"]["annotations"] = json!({"hosting.nunet.io/suspend": "true"})),
            &grant,
            "RequestMalformed",
        ),
        ("an unknown field", &asker, signed(&|o| o["spec"]["replicas"] = json!(3)), &grant, "ObjectRefused"),
        (
            "a wrong value",
            &asker,
            signed(&|o| o["spec"]["content"]["release"] = json!("latest")),
            &grant,
            "ObjectRefused",
        ),
    ];
    for (what, sender, object, grant, expected) in cases {
        for way in [Way::Http, Way::Libp2p] {
            // The client itself sees that such a grant gives nothing there.
            if way == Way::Libp2p && expected == "NotAnchored" {
                continue;
            }
            assert_eq!(reason(sender.apply(way, &object, grant).await), expected, "{what}");
        }
    }
    let object = plain();
    let behaviour = format!("/hosting/{namespace}/apply/{}", object["metadata"]["name"].as_str().unwrap());
    let message = json!({"object": object});
    let made = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = asker.envelope(&behaviour, &message, Some(&grant));
        change(&mut envelope);
        envelope.sign(&asker.wallet.key)
    };
    let told =
        async |envelope: &Envelope| asker.exchange(envelope).await["refused"]["reason"].as_str().unwrap().to_owned();
    let long = made(&|envelope| envelope.expires = later(Duration::from_mins(10)));
    let (_, body) = asker.post(long.to_json()).await;
    let body: Value = serde_json::from_slice(&Envelope::parse(&body).unwrap().message).unwrap();
    assert_eq!(body["refused"]["reason"], "RequestMalformed", "{body}");
    let more = made(&|envelope| envelope.message = json!({"object": object, "force": true}).to_string().into_bytes());
    assert_eq!(told(&more).await, "RequestMalformed");
    let mismatched = made(&|envelope| {
        envelope.message = json!({"object": plain()}).to_string().into_bytes();
    });
    assert_eq!(told(&mismatched).await, "ObjectMismatch");
    // What is not even read is answered without a signature.
    let (status, body) = asker.post(b"{}".to_vec()).await;
    assert_eq!((status, serde_json::from_slice::<Value>(&body).unwrap()["reason"].as_str()), (400, Some("Malformed")));
    let forged = made(&|_| {}).to_json();
    let forged = String::from_utf8(forged).unwrap().replacen("\"nonce\":", "\"nonce\":1", 1).into_bytes();
    assert_eq!(asker.post(forged).await.0, 400);
    let foreign = made(&|envelope| envelope.to = capability::Handle::root_of(thief.wallet.did()));
    assert_eq!(asker.post(foreign.to_json()).await.0, 400);
    let unknown = made(&|envelope| envelope.behaviour = "/hosting/notice".to_owned());
    assert_eq!(asker.post(unknown.to_json()).await.0, 404);
    assert_eq!(asker.post(vec![b' '; 300 << 10]).await.0, 413);

    let list = tenant.api().list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items.len(), 0, "nothing of all this reached the API server");

    // The same message counts once, whichever way it comes.
    let once = made(&|_| {});
    let done = asker.exchange(&once).await;
    assert_eq!(done["generation"], 1, "{done}");
    assert_eq!(told(&once).await, "Replayed");
    let applied = object["metadata"]["name"].as_str().unwrap();
    assert_eq!(reason(thief.delete(Way::Http, (&namespace, applied), None, &stolen).await), "OwnerMismatch");
    assert!(tenant.get(applied).await.is_some());
    tenant.revoke().await;
    eventually("the grant is taken back", async || {
        let refused = asker.apply(Way::Http, &plain(), &grant).await.unwrap_err().reason;
        if refused == "Revoked" { Ok(()) } else { Err(refused) }
    })
    .await;
    assert_eq!(reason(asker.delete(Way::Http, (&namespace, applied), None, &grant).await), "Revoked");
    assert_eq!(tenant.api().list(&ListParams::default()).await.unwrap().items.len(), 1);
}

/// What an owner signed for an object stands in public. Whoever posts it uses up nothing of the owner's.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_carries_is_no_request_of_its_owner() {
    let _timed = Timed::start();
    let installation = installation_with("posted", 0, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let namespace = cluster::namespace(&installation.client).await;
    let asker = Asker::new(&installation).await;
    let grant = asker.login(Way::Http, &namespace, &[]).await.unwrap();
    let tenant = tenant(&installation, &asker, &grant, &namespace);
    let object = tenant.sign(tenant.object(&name(), &tenant.files("files", &page().0).await));
    let invocation = STANDARD.decode(object["spec"]["authorization"]["invocation"].as_str().unwrap()).unwrap();
    for _ in 0..120 {
        assert_eq!(asker.post(invocation.clone()).await, (204, vec![]));
    }
    asker.challenge(Way::Http, &namespace, &[]).await.unwrap();
}

/// A token of everything, sent along for the reply, is hung below nothing but an invocation of the reply.
#[tokio::test(flavor = "multi_thread")]
async fn a_delegation_of_everything_is_answered_by_no_more_than_a_reply() {
    let _timed = Timed::start();
    let installation = installation_with("everything", 0, &["--resync", "1s"], &[], everything_to_anybody()).await;
    let namespace = cluster::namespace(&installation.client).await;
    let asker = Asker::new(&installation).await;
    let all = asker.wallet.delegate(&asker.provider, None, &["/".to_owned()], later(Duration::from_hours(1)), 0, None);
    let all = all.unwrap();
    let request = json!({"did": asker.wallet.did(), "namespace": namespace});
    let asked = |continuation: &str| {
        let mut envelope = asker.envelope(CHALLENGE, &request, None);
        envelope.continuation = Some(continuation.to_owned());
        envelope.capabilities = capability::token_list(std::slice::from_ref(&all));
        envelope.sign(&asker.wallet.key)
    };
    let continuation = format!("/dms/actor/replyto/{:032x}", rand::random::<u128>());
    let (status, body) = asker.post(asked(&continuation).to_json()).await;
    assert_eq!(status, 200);
    let reply = Envelope::parse(&body).unwrap();
    let tokens = capability::parse_token_list(&reply.capabilities).unwrap();
    assert_eq!(tokens[0].root(), &all);
    for token in &tokens {
        assert_eq!(token.action(), capability::Action::Invoke);
        assert_eq!((token.issuer(), token.subject()), (&asker.provider, &asker.provider));
        assert_eq!(token.audience(), Some(asker.wallet.did()));
        assert_eq!(token.capabilities().iter().map(Capability::as_str).collect::<Vec<_>>(), [&*continuation]);
        // Nothing hangs below an invocation.
        let paths = [continuation.clone()];
        let below = asker.wallet.delegate(asker.wallet.did(), None, &paths, token.expires(), 1, Some(token));
        assert!(below.is_err());
    }
    // At the provider, as the right to change something: neither the asker's own nor the provider's.
    let release = format!("sha256:{}", "0".repeat(64));
    for (owner, expected) in [(asker.wallet.did(), "WrongAudience"), (&asker.provider, "WrongAudience")] {
        let object = installation.deployment(&namespace, "site", owner, &release, "site");
        let behaviour = format!("/hosting/{namespace}/apply/site");
        let mut envelope = asker.envelope(&behaviour, &json!({"object": object}), None);
        envelope.capabilities.clone_from(&reply.capabilities);
        let (status, body) = asker.post(envelope.sign(&asker.wallet.key).to_json()).await;
        let told: Value = serde_json::from_slice(&Envelope::parse(&body).unwrap().message).unwrap();
        assert_eq!((status, told["refused"]["reason"].as_str()), (200, Some(expected)), "{told}");
    }
    let grant = asker.login(Way::Http, &namespace, &[]).await.unwrap();
    assert!(tenant(&installation, &asker, &grant, &namespace).get("site").await.is_none());
    // Whatever else is named as the way to reply is not invoked at all.
    for other in ["/", "/dms/node/deployment/new", "/hosting/x/apply/y", "/dms/actor/replyto/", "/dms/actor/replytoo/1"]
    {
        let (status, body) = asker.post(asked(other).to_json()).await;
        assert_eq!((status, body.len()), (204, 0), "{other}");
    }
}
