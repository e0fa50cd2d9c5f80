//! What owners and the provider's webhook are told, by Events and CloudEvents.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderValue, header::LOCATION},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use dms_operator::{controller::clock::wall, dev::wallet::Wallet};
use kube::ResourceExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    cluster::eventually,
    door::listening::Listener,
    timed::Timed,
    world::{Tenant, installation_with, name, page},
};

/// Takes CloudEvents, or shows who sends them to a page for people, as a proxy does that wants a login.
#[derive(Clone, Default)]
struct Sink {
    refuses: Arc<AtomicBool>,
    refused: Arc<Mutex<Vec<Value>>>,
    taken: Arc<Mutex<Vec<Value>>>,
}

impl Sink {
    async fn start() -> (Self, String) {
        let sink = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let path = format!("/{}", name());
        let url = format!("http://{}{path}", listener.local_addr().unwrap());
        let routes =
            Router::new().route(&path, post(take)).route("/login", get(async || "sign in")).with_state(sink.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        (sink, url)
    }

    /// Type and id of what was told about an object.
    fn told(&self, uid: &str) -> Vec<(String, String)> {
        let text = |event: &Value, member: &str| event[member].as_str().unwrap().to_owned();
        let taken = self.taken.lock().unwrap();
        let about = taken.iter().filter(|event| event["data"]["uid"] == uid);
        about.map(|event| (text(event, "type"), text(event, "id"))).collect()
    }
}

async fn take(State(sink): State<Sink>, headers: HeaderMap, body: Bytes) -> Response {
    assert_eq!(headers["content-type"], "application/cloudevents+json");
    let event = serde_json::from_slice(&body).unwrap();
    if sink.refuses.load(Ordering::SeqCst) {
        sink.refused.lock().unwrap().push(event);
        (StatusCode::FOUND, [(LOCATION, HeaderValue::from_static("/login"))]).into_response()
    } else {
        sink.taken.lock().unwrap().push(event);
        StatusCode::NO_CONTENT.into_response()
    }
}

const ACCEPTED: &str = "io.nunet.hosting.deployment.accepted";
const SERVED: &str = "io.nunet.hosting.deployment.served";
const REFUSED: &str = "io.nunet.hosting.deployment.refused";

async fn told(sink: &Sink, uid: &str, kinds: &[&str]) {
    eventually("the webhook is told", async || {
        let told: Vec<String> = sink.told(uid).into_iter().map(|(kind, _)| kind).collect();
        if told == kinds { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_accepted_change_is_confirmed_and_each_refusal_told() {
    let _timed = Timed::start();
    let (sink, url) = Sink::start().await;
    let mut installation =
        installation_with("notices", 1, &[], &[], json!({"notices": {"webhook": {"url": url}}})).await;
    let web = name();
    let (uid, later) = {
        let tenant = Tenant::new(&installation).await;
        tenant.deploy(&web, &page().0).await;
        tenant.ready(&web).await;
        let object = tenant.get(&web).await.unwrap();
        let uid = object.uid().unwrap();
        told(&sink, &uid, &[ACCEPTED, SERVED]).await;
        let event = sink.taken.lock().unwrap()[0].clone();
        assert_eq!(event["specversion"], "1.0");
        assert_eq!(event["source"], installation.provider.did().as_str());
        assert_eq!(event["subject"], format!("{}/{web}", tenant.namespace));

        // A second release: accepted and served once more, with Events of its own for the acceptance.
        tenant.deploy(&web, &page().0).await;
        told(&sink, &uid, &[ACCEPTED, SERVED, ACCEPTED, SERVED]).await;
        let events = tenant.events(&web).await;
        let accepted: Vec<_> = events.iter().filter(|event| event.reason.as_deref() == Some("Verified")).collect();
        assert!(accepted.iter().all(|event| event.series.is_none()), "{accepted:#?}");
        let digests: BTreeSet<_> = accepted.iter().map(|event| event.note.as_deref().unwrap_or_default()).collect();
        assert_eq!((accepted.len(), digests.len()), (2, 2), "each has an Event of its own: {accepted:#?}");

        // Changed without being signed for: refused, and told once.
        let mut forged = tenant.sign(tenant.object(&web, &tenant.files(&web, &page().0).await));
        forged["spec"]["onExpiry"] = json!("Stop");
        tenant.apply(&forged).await.unwrap();
        tenant.condition(&web, "TokenVerified", "False", "DigestMismatch").await;
        told(&sink, &uid, &[ACCEPTED, SERVED, ACCEPTED, SERVED, REFUSED]).await;

        // While the webhook does not take it, it is told again, also by the next operator.
        sink.refuses.store(true, Ordering::SeqCst);
        tenant.deploy(&web, &page().0).await;
        tenant.ready(&web).await;
        eventually("the webhook is tried", async || match sink.refused.lock().unwrap().len() {
            0 => Err("not yet".to_owned()),
            _ => Ok(()),
        })
        .await;
        (uid, tenant.namespace.clone())
    };
    installation.operator.restart().unwrap();
    sink.refuses.store(false, Ordering::SeqCst);
    told(&sink, &uid, &[ACCEPTED, SERVED, ACCEPTED, SERVED, REFUSED, ACCEPTED, SERVED]).await;
    let ids = sink.told(&uid);
    let refused = sink.refused.lock().unwrap()[0].clone();
    assert!(ids.iter().any(|(_, id)| refused["id"] == *id), "it has the id that it was told by before");
    let mut distinct: Vec<_> = ids.iter().map(|(_, id)| id).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), ids.len(), "in {later} no id was given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_is_near_is_told_ahead_and_a_renewal_ends_that() {
    let _timed = Timed::start();
    let installation = installation_with("soon", 1, &[], &[], json!({})).await;
    let tenant = Tenant::new(&installation).await;
    let web = name();
    let object = tenant.object(&web, &tenant.files(&web, &page().0).await);
    // Signed so that four fifths of its life are nearly over when it comes.
    let (signed, until) = (wall().minus(Duration::from_mins(40)), wall().plus(Duration::from_secs(610)));
    let provider = &installation.provider;
    let grant = |until| provider.grant(tenant.owner.did(), &tenant.namespace, until).unwrap();
    let mut first = object.clone();
    tenant.owner.sign(&mut first, &grant(until), provider.did(), signed).unwrap();
    tenant.apply(&first).await.unwrap();
    let before = tenant.ready(&web).await;
    let status = tenant.condition(&web, "TokenVerified", "True", "TokenExpiringSoon").await;
    let message = &status.conditions.iter().find(|condition| condition.type_ == "TokenVerified").unwrap().message;
    assert!(message.contains("kubectl hosting sign --renew"), "{message}");
    let warned = async |count: usize| {
        eventually("there is a warning", async || {
            let events = tenant.events(&web).await;
            let warnings = events.iter().filter(|event| event.reason.as_deref() == Some("TokenExpiringSoon"));
            let kinds: Vec<_> = warnings.map(|event| event.type_.clone().unwrap_or_default()).collect();
            if kinds == vec!["Warning"; count] { Ok(()) } else { Err(format!("{kinds:?}")) }
        })
        .await;
    };
    warned(1).await;
    let metrics = reqwest::get(format!("{}/metrics", installation.http)).await.unwrap().text().await.unwrap();
    let series = format!(
        "dms_operator_token_expires_timestamp_seconds{{namespace=\"{}\",name=\"{web}\"}} {}",
        tenant.namespace,
        until.to_timestamp().as_second()
    );
    assert!(metrics.contains(&series), "{series}");

    let mut renewed = object;
    let later = wall().plus(Duration::from_hours(30 * 24));
    tenant.owner.sign(&mut renewed, &grant(later), provider.did(), wall()).unwrap();
    tenant.apply(&renewed).await.unwrap();
    let after = tenant.condition(&web, "TokenVerified", "True", "Verified").await;
    assert_eq!((after.deployment, after.url), (before.deployment, before.url), "nothing was started anew");
    warned(1).await;
}

/// As was agreed at login: while the owner is connected, under the owner's own delegation.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_is_connected_is_told_over_libp2p() {
    let _timed = Timed::start();
    let grants = json!({"grants": [{"subjects": {"any": {}}, "actions": ["apply"]}]});
    let installation = installation_with("told", 1, &[], &[], grants).await;
    let plain = Tenant::new(&installation).await;
    let mut owner = Listener::start(&installation, Wallet::random().unwrap()).await;
    let grant = owner.login(&plain.namespace, true).await;

    let web = name();
    let mut object = plain.object(&web, &plain.files(&web, &page().0).await);
    let wallet = &owner.asker.wallet;
    object["spec"]["owner"] = json!(wallet.did().as_str());
    wallet.sign(&mut object, &grant, installation.provider.did(), wall()).unwrap();
    // Another's deployment is not told to this owner.
    plain.deploy(&name(), &page().0).await;
    plain.apply(&object).await.unwrap();
    plain.ready(&web).await;
    for reason in ["Verified", "Succeeded"] {
        let notice = owner.told().await;
        assert_eq!((&notice.name, &notice.namespace), (&web, &plain.namespace));
        assert_eq!(notice.reason, reason);
    }
    owner.link.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_takes_nothing_silences_no_owner() {
    let _timed = Timed::start();
    let (sink, url) = Sink::start().await;
    sink.refuses.store(true, Ordering::SeqCst);
    let terms = json!({
        "notices": {"webhook": {"url": url}},
        "grants": [{"subjects": {"any": {}}, "actions": ["apply"]}],
    });
    let installation = installation_with("silenced", 0, &[], &[], terms).await;
    let plain = Tenant::new(&installation).await;
    let mut owner = Listener::start(&installation, Wallet::random().unwrap()).await;
    let grant = owner.login(&plain.namespace, true).await;
    let release = plain.files("files", &page().0).await;
    // More than are sent side by side.
    for _ in 0..20 {
        plain.apply(&plain.sign(plain.object(&name(), &release))).await.unwrap();
    }
    eventually("the webhook is told of all", async || {
        let refused = sink.refused.lock().unwrap();
        let ids: BTreeSet<_> = refused.iter().map(|event| event["id"].to_string()).collect();
        if ids.len() >= 20 { Ok(()) } else { Err(format!("{} of them", ids.len())) }
    })
    .await;
    let (web, wallet) = (name(), &owner.asker.wallet);
    let mut object = plain.object(&web, &release);
    object["spec"]["owner"] = json!(wallet.did().as_str());
    wallet.sign(&mut object, &grant, installation.provider.did(), wall()).unwrap();
    plain.apply(&object).await.unwrap();
    let notice = owner.told().await;
    assert_eq!((&notice.name, &*notice.reason), (&web, "Verified"));
    assert!(sink.taken.lock().unwrap().is_empty());
    owner.link.stop().await;
}
