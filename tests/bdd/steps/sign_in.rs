//! The owner proves a DID to the provider's actor and is given a grant.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, time::Duration};

use cucumber::{given, then, when};
use dms_operator::{
    api::{
        HostingProvider,
        door::{CHALLENGE, Challenge, GRANT, Granted},
        names::LABEL_COMPONENT,
    },
    capability::{Capability, Envelope, Nanos, Token},
    controller::clock::wall,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use super::apply::the_owner_deploys;
use crate::{
    asking::{Answer, Asker, Way},
    cluster::eventually,
    desk::Desk,
    stage::Stage,
};

/// What is known of the owner's dealings with the provider's actor.
#[derive(Default)]
pub struct SignIn {
    asker: Option<Asker>,
    challenge: Option<Challenge>,
    answers: Vec<Answer<Value>>,
    /// The answer of the provider as it came.
    reply: Option<Envelope>,
}

fn actions(list: &str) -> Vec<&str> {
    list.split([',', ' ']).filter(|word| !word.is_empty() && *word != "and").collect()
}

/// Adds an offer for the owner's namespace, and waits until the operator has read it.
async fn offer(stage: &Stage, subjects: Value, list: &str, lifetime: &str) {
    let offer = json!({
        "subjects": subjects, "namespaces": [stage.namespace], "actions": actions(list), "lifetime": lifetime,
    });
    let installation = stage.installation();
    let providers: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    // Other scenarios add theirs at the same time.
    let patch = serde_json::from_value(json!([{"op": "add", "path": "/spec/grants/-", "value": offer}])).unwrap();
    let offered = providers.patch("default", &PatchParams::default(), &Patch::Json::<()>(patch)).await.unwrap();
    eventually("the offer is taken over", async || {
        let status = providers.get("default").await.unwrap().status.unwrap_or_default();
        if status.observed_generation >= offered.metadata.generation { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
}

#[given(regex = r"^the provider grants every DID to (.+) in the owner's namespace for (\d+[smh])$")]
pub async fn offer_to_everybody(stage: &mut Stage, list: String, lifetime: String) {
    offer(stage, json!({"any": {}}), &list, &lifetime).await;
}

#[given(regex = r"^the provider grants only another DID to (.+) in the owner's namespace$")]
async fn offer_to_another(stage: &mut Stage, list: String) {
    let another = dms_operator::dev::wallet::Wallet::random().unwrap();
    offer(stage, json!({"dids": [another.did()]}), &list, "1h").await;
}

/// Where the provider says that it is reached over a transport, as the wallet takes it.
async fn address(stage: &Stage, transport: &str) -> String {
    let installation = stage.installation();
    let providers: Api<HostingProvider> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let addresses = providers.get("default").await.unwrap().status.unwrap().addresses;
    let begin = if transport == "HTTP" { "http" } else { "/" };
    let found = addresses.into_iter().find(|address| address.starts_with(begin)).expect("the provider is reached so");
    match transport {
        "HTTP" => format!("{found} --did {}", installation.provider.did()),
        _ => found,
    }
}

#[when(regex = r"^the owner signs in over (libp2p|HTTP)$")]
async fn sign_in(stage: &mut Stage, transport: String) {
    let address = address(stage, &transport).await;
    let line = format!("kubectl hosting login {address} -n {} --name owner --yes -o json", stage.namespace);
    stage.ended = Some(stage.owner().run(&line).await);
}

fn told(stage: &Stage) -> Value {
    serde_json::from_str(&stage.ended.clone().expect("the owner signed in").done()).unwrap()
}

/// Whether a time is so long from now, but for what the scenario took.
fn assert_in(expires: Nanos, span: &str) {
    let hours: u64 = span.trim_end_matches('h').parse().unwrap();
    let left = expires.since(wall());
    let whole = Duration::from_hours(hours);
    assert!(left <= whole && left + Duration::from_mins(5) > whole, "{left:?} of {whole:?}");
}

#[then(regex = r"^the wallet says that (.+) are granted in the owner's namespace for (\d+h)$")]
fn the_wallet_says(stage: &mut Stage, list: String, lifetime: String) {
    let told = told(stage);
    let provider = stage.installation().provider.did().as_str();
    assert_eq!((&told["did"], &told["provider"]), (&json!(stage.owner().wallet.did()), &json!(provider)));
    assert_eq!((&told["namespace"], &told["actions"]), (&json!(stage.namespace), &json!(actions(&list))));
    assert_in(Nanos::from_timestamp(told["expires"].as_str().unwrap().parse().unwrap()), &lifetime);
    let asked = &stage.ended.as_ref().unwrap().err;
    assert!(asked.contains("wants you to sign in with your DID") && asked.contains(provider), "{asked}");
}

/// What the provider has recorded for the owner.
async fn records(stage: &Stage) -> Vec<BTreeMap<String, String>> {
    let installation = stage.installation();
    let maps: Api<ConfigMap> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    let found = maps.list(&ListParams::default().labels(&format!("{LABEL_COMPONENT}=grant"))).await.unwrap();
    let records = found.items.into_iter().filter_map(|map| map.data);
    records.filter(|record| record["did"] == stage.owner().wallet.did().as_str()).collect()
}

#[then(regex = r"^the provider has recorded (no|one) grant to the owner$")]
async fn recorded(stage: &mut Stage, count: String) {
    let records = records(stage).await;
    assert_eq!(records.len(), usize::from(count == "one"), "{records:?}");
}

/// The grant as the provider recorded it.
async fn recorded_grant(stage: &Stage) -> Token {
    let records = records(stage).await;
    let [record] = &*records else { panic!("{records:?}") };
    Token::parse(record["token"].as_bytes()).unwrap()
}

#[then("the grant is issued by the provider, to the owner, for use at the provider")]
async fn the_grant_names(stage: &mut Stage) {
    let grant = recorded_grant(stage).await;
    let provider = stage.installation().provider.did();
    assert_eq!((grant.issuer(), grant.subject()), (provider, stage.owner().wallet.did()));
    assert_eq!((grant.audience(), grant.chain()), (Some(provider), None));
    grant.verify(wall(), &|_| false).unwrap();
}

#[then(regex = r"^the grant gives (.+) in the owner's namespace and ends within (\d+h)$")]
async fn the_grant_gives(stage: &mut Stage, list: String, lifetime: String) {
    let grant = recorded_grant(stage).await;
    let paths: Vec<_> = grant.capabilities().iter().map(Capability::as_str).collect();
    let expected: Vec<_> =
        actions(&list).iter().map(|action| format!("/hosting/{}/{action}", stage.namespace)).collect();
    assert_eq!(paths, expected);
    assert_in(grant.expires(), &lifetime);
}

#[then("the command fails and says why and what to do next")]
fn refused_with_reason(stage: &mut Stage) {
    let ended = stage.ended.as_ref().unwrap();
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("NotInPolicy") && ended.err.contains("refused"), "{ended:?}");
    assert!(ended.err.contains("sk the provider"), "it says what to do: {ended:?}");
}

async fn asker(stage: &Stage) -> Asker {
    Asker::with(stage.installation(), stage.owner().wallet.clone()).await
}

#[when("the owner asks for a challenge to apply in their namespace")]
async fn ask_for_a_challenge(stage: &mut Stage) {
    let asker = asker(stage).await;
    let challenge = asker.challenge(Way::Http, &stage.namespace, &["apply"]).await.unwrap();
    (stage.sign_in.asker, stage.sign_in.challenge) = (Some(asker), Some(challenge));
}

#[then("the challenge names the owner's DID, the provider's DID, the namespace and what is asked for")]
fn the_challenge_names(stage: &mut Stage) {
    let Challenge { text, .. } = stage.sign_in.challenge.as_ref().unwrap();
    let capability = format!("/hosting/{}/apply", stage.namespace);
    for part in [stage.owner().wallet.did().as_str(), stage.installation().provider.did().as_str(), &capability] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{text:?}");
}

#[then("the challenge ends within 5 minutes")]
fn the_challenge_ends(stage: &mut Stage) {
    let left = stage.sign_in.challenge.as_ref().unwrap().expires.since(wall());
    assert!(!left.is_zero() && left <= Duration::from_mins(5), "{left:?}");
}

#[when("the owner asks this provider for a challenge in an envelope addressed to another provider")]
async fn addressed_to_another(stage: &mut Stage) {
    let asker = asker(stage).await;
    let another = dms_operator::dev::wallet::Wallet::random().unwrap();
    let request = json!({"did": asker.wallet.did(), "namespace": stage.namespace, "actions": ["apply"]});
    let mut envelope = asker.envelope(CHALLENGE, &request, None);
    envelope.to = dms_operator::capability::Handle::root_of(another.did());
    let (status, body) = asker.post(envelope.sign(&asker.wallet.key).to_json()).await;
    stage.sign_in.answers = vec![Ok(json!({"status": status, "body": String::from_utf8(body).unwrap()}))];
}

#[then("no challenge is given")]
fn no_challenge(stage: &mut Stage) {
    let [Ok(answer)] = &*stage.sign_in.answers else { panic!("one answer is expected") };
    assert_eq!(answer["status"], 400, "{answer}");
    assert!(!answer["body"].as_str().unwrap().contains("wants you to sign in"), "{answer}");
}

#[when(regex = r"^the owner asks for a challenge under their DID (.+)$")]
async fn ask_by_alias(stage: &mut Stage, spelling: String) {
    let asker = asker(stage).await;
    let did = asker.wallet.did().to_string();
    let key = did.trim_start_matches("did:key:z");
    let alias = match spelling.trim() {
        "with a fragment" => format!("{did}#z{key}"),
        "with percent signs" => format!("did:key:%7A{key}"),
        "in upper case" => did.to_uppercase(),
        "in another multibase" => {
            format!("did:key:f{}", hex::encode(bs58::decode(key).into_vec().unwrap()))
        }
        other => panic!("nobody knows the spelling {other}"),
    };
    assert_ne!(alias, did);
    let request = json!({"did": alias, "namespace": stage.namespace, "actions": ["apply"]});
    stage.sign_in.answers = vec![asker.ask(Way::Http, CHALLENGE, request, None).await];
}

#[then("the provider refuses")]
fn refused(stage: &mut Stage) {
    let [Err(refused)] = &*stage.sign_in.answers else { panic!("{:?}", stage.sign_in.answers) };
    assert!(refused.message.contains(' ') && refused.message.len() > refused.reason.len(), "{refused:?}");
}

#[when(regex = r"^the challenge is answered with (.+)$")]
async fn answer_with(stage: &mut Stage, answer: String) {
    let challenge = stage.sign_in.challenge.clone().unwrap();
    let owner = stage.sign_in.asker.as_ref().unwrap();
    let request = match answer.trim() {
        "the signature of another key" => {
            let mut request = owner.signed(&challenge);
            request["signature"] = Asker::new(stage.installation()).await.signed(&challenge)["signature"].clone();
            request
        }
        "a challenge that was given to another DID" => {
            let another = Asker::new(stage.installation()).await;
            owner.signed(&another.challenge(Way::Http, &stage.namespace, &["apply"]).await.unwrap())
        }
        "a challenge of another provider" => {
            // As another provider would make it: the same form under another key.
            let mut foreign = challenge.clone();
            let another = dms_operator::dev::wallet::Wallet::random().unwrap();
            foreign.text = foreign.text.replace(stage.installation().provider.did().as_str(), another.did().as_str());
            owner.signed(&foreign)
        }
        "a challenge for another namespace" => {
            let mut foreign = challenge.clone();
            foreign.text = foreign.text.replace(&stage.namespace, "elsewhere");
            owner.signed(&foreign)
        }
        "a challenge with one byte changed" => {
            let mut changed = challenge.clone();
            changed.text.push(' ');
            owner.signed(&changed)
        }
        "a signature over the text without its prefix" => {
            use base64::{Engine as _, engine::general_purpose::STANDARD};
            let signature = owner.wallet.key.sign(challenge.text.as_bytes());
            json!({"state": challenge.state, "signature": STANDARD.encode(signature)})
        }
        other => panic!("nobody knows the answer {other}"),
    };
    let given = owner.ask(Way::Http, GRANT, request, None).await;
    stage.sign_in.answers = vec![given];
}

#[when(regex = r"^the right answer is sent (\d+) times at once$")]
async fn answer_often(stage: &mut Stage, times: usize) {
    let asker = stage.sign_in.asker.as_ref().unwrap();
    let challenge = stage.sign_in.challenge.as_ref().unwrap();
    let posts = (0..times).map(|number| {
        let way = if number % 2 == 0 { Way::Http } else { Way::Libp2p };
        asker.ask::<Value>(way, GRANT, asker.signed(challenge), None)
    });
    stage.sign_in.answers = futures::future::join_all(posts).await;
}

#[then("exactly one of them is granted")]
fn granted_once(stage: &mut Stage) {
    let granted: Vec<_> = stage.sign_in.answers.iter().flatten().collect();
    assert_eq!(granted.len(), 1);
    let _: Granted = serde_json::from_value(granted[0].clone()).unwrap();
}

#[given("an owner who signed in")]
async fn signed_in(stage: &mut Stage) {
    offer_to_everybody(stage, "apply, publish, read, usage, delete".to_owned(), "720h".to_owned()).await;
    sign_in(stage, "libp2p".to_owned()).await;
    told(stage);
    keep_grant(stage).await;
}

/// The stored grant in a file, for the steps that name one.
async fn keep_grant(stage: &mut Stage) {
    let grant = String::from_utf8(recorded_grant(stage).await.to_json()).unwrap();
    stage.grant = Some(stage.owner().write("grant.json", &grant));
}

#[then("the wallet keeps the grant where only the owner can read it")]
async fn kept(stage: &mut Stage) {
    let told = told(stage);
    let file = told["context"].as_str().unwrap();
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let grant = String::from_utf8(recorded_grant(stage).await.to_json()).unwrap();
    let context: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let grant: Value = serde_json::from_str(&grant).unwrap();
    assert!(context["provide"].to_string().contains(&grant["dms"]["sig"].to_string()), "{context}");
}

#[then("whoami shows the owner's DID")]
async fn whoami(stage: &mut Stage) {
    let shown = stage.owner().run("kubectl hosting whoami --name owner").await.done();
    assert!(shown.contains(stage.owner().wallet.did().as_str()), "{shown}");
}

#[then("grants lists the grant with what it gives and until when")]
async fn grants(stage: &mut Stage) {
    let shown = stage.owner().run("kubectl hosting grants -o json").await.done();
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let [row] = &**shown.as_array().unwrap() else { panic!("{shown}") };
    assert_eq!(row["namespace"], json!(stage.namespace));
    let mut given: Vec<_> = row["actions"].as_array().unwrap().iter().map(|action| action.as_str().unwrap()).collect();
    given.sort_unstable();
    assert_eq!(given, ["apply", "delete", "publish", "read", "usage"]);
    assert_eq!(row["expires"], json!(recorded_grant(stage).await.not_after().to_string()));
}

#[when("the owner signs and applies a deployment of the page by the stored grant")]
async fn deploy_by_the_stored_grant(stage: &mut Stage) {
    // `sign` finds the grant in the wallet by itself.
    stage.grant = None;
    the_owner_deploys(stage).await;
}

#[when(regex = r"^the owner delegates apply for one name to a pipeline for (\w+)$")]
async fn delegate(stage: &mut Stage, lifetime: String) {
    told(stage);
    keep_grant(stage).await;
    let pipeline: Desk = stage.newcomer("pipeline").await;
    let name = crate::world::name();
    let to = pipeline.wallet.did();
    let line = format!("kubectl hosting delegate --to {to} --can apply --only {name} --for {lifetime}");
    let delegation = stage.owner().run(&line).await.done();
    stage.delegation = Some(pipeline.write("ci.token", &delegation));
    stage.pipeline_name = name;
    stage.pipeline = Some(pipeline);
}

#[when("the owner revokes the delegation with the wallet")]
async fn revoke(stage: &mut Stage) {
    let namespace = &stage.namespace;
    let line = format!("kubectl hosting revoke ci.token --name owner -n {namespace} | kubectl apply -f -");
    stage.owner().run(&line).await.done();
}

/// Keeps the whole answer to a request whose reply is awaited under a token of everything.
#[when("the owner asks for a challenge and lets the provider answer by a token for everything")]
async fn ask_with_everything(stage: &mut Stage) {
    let asker = asker(stage).await;
    let until = wall().plus(Duration::from_mins(2));
    let all = asker.wallet.delegate(&asker.provider, None, &["/".to_owned()], until, 0, None).unwrap();
    let request = json!({"did": asker.wallet.did(), "namespace": stage.namespace, "actions": ["apply"]});
    let mut envelope = asker.envelope(CHALLENGE, &request, None);
    envelope.capabilities = dms_operator::capability::token_list(std::slice::from_ref(&all));
    let (status, body) = asker.post(envelope.sign(&asker.wallet.key).to_json()).await;
    assert_eq!(status, 200);
    (stage.sign_in.asker, stage.sign_in.reply) = (Some(asker), Some(Envelope::parse(&body).unwrap()));
}

#[then("what comes back opens neither the provider nor the device")]
async fn opens_nothing(stage: &mut Stage) {
    let asker = stage.sign_in.asker.as_ref().unwrap();
    let reply = stage.sign_in.reply.as_ref().unwrap();
    // At the provider, in the name of the owner whose deployment is there.
    let victim = stage.neighbour.as_ref().unwrap();
    let deployed = stage.neighbour_name.clone();
    let behaviour = format!("/hosting/{}/delete/{deployed}", stage.namespace);
    let mut envelope = asker.envelope(&behaviour, &json!({}), None);
    envelope.capabilities.clone_from(&reply.capabilities);
    let (_, body) = asker.post(envelope.sign(&asker.wallet.key).to_json()).await;
    let told: Value = serde_json::from_slice(&Envelope::parse(&body).unwrap().message).unwrap();
    assert!(told["refused"]["reason"].is_string(), "{told}");
    let tenant = stage.tenant();
    assert!(tenant.get(&deployed).await.is_some_and(|object| object.metadata.deletion_timestamp.is_none()));
    assert_eq!(tenant.get(&deployed).await.unwrap().data["spec"]["owner"], json!(victim.wallet.did()));

    // At the device: it drops what it takes for no right, without a word.
    let device = &stage.installation().devices[0];
    let tokens = dms_operator::capability::parse_token_list(&reply.capabilities).unwrap();
    for token in tokens {
        let path = Capability::parse("/dms/node/deployment/list").unwrap();
        let minting = dms_operator::capability::Minting {
            subject: asker.wallet.did().clone(),
            audience: Some(device.did.clone()),
            capabilities: vec![path],
            topics: vec![],
            expires: token.not_after(),
            depth: 0,
            nonce: rand::random(),
        };
        let below = Token::invoke(&asker.wallet.key, minting, Some(&token));
        assert!(below.is_err(), "nothing hangs below an invocation");
    }
}

#[then("the answer was signed by the provider, by the right that the owner's own token gave it")]
async fn counter_signed(stage: &mut Stage) {
    // The wallet believed it, and believes nothing else; here is the same answer, seen whole.
    let asker = asker(stage).await;
    let request = json!({"did": asker.wallet.did(), "namespace": stage.namespace, "actions": ["apply"]});
    let envelope = asker.envelope(CHALLENGE, &request, None).sign(&asker.wallet.key);
    let (status, body) = asker.post(envelope.to_json()).await;
    assert_eq!(status, 200);
    let reply = Envelope::parse(&body).unwrap();
    assert_eq!(reply.verify(wall()).unwrap(), asker.provider);
    let tokens = dms_operator::capability::parse_token_list(&reply.capabilities).unwrap();
    // The other is self-signed, for who has the provider as a root.
    let token = tokens.iter().find(|token| token.chain().is_some()).expect("the own token is counter-signed");
    assert_eq!((token.issuer(), token.subject()), (&asker.provider, &asker.provider));
    assert_eq!((token.audience(), token.root().issuer()), (Some(asker.wallet.did()), asker.wallet.did()));
    let path: Vec<_> = token.capabilities().iter().map(Capability::as_str).collect();
    assert_eq!(path, [envelope.continuation.as_deref().unwrap()]);
    token.verify(wall(), &|_| false).unwrap();
}
