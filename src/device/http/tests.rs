//! The client against a scripted actor, over real HTTP.

use std::sync::Arc;

use axum::{Router, body::Bytes, extract::State, http::StatusCode as Code, response::IntoResponse, routing};
use serde_json::json;

use super::*;
use crate::capability::{Awaited, check_countersigned};
use crate::device::actor::reply::reply;

const SOON: Duration = Duration::from_secs(20);
const ASKED: &str = "/public/asked";

type Script = Arc<dyn Fn(&Key, Envelope) -> Option<(Code, Vec<u8>)> + Send + Sync>;

fn key() -> Key {
    Key::from_seed(rand::random())
}

/// An actor below a path, and its address. Without an answer it is silent.
async fn actor(
    key: &Key,
    script: impl Fn(&Key, Envelope) -> Option<(Code, Vec<u8>)> + Send + Sync + 'static,
) -> String {
    async fn post(State((key, script)): State<(Key, Script)>, body: Bytes) -> impl IntoResponse {
        match script(&key, Envelope::parse(&body).unwrap()) {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let did = json!({"did": key.did().as_str()}).to_string();
    let introduced = routing::post(post).get(|| async { did });
    let state: (Key, Script) = (key.clone(), Arc::new(script));
    let router = Router::new().route("/below/v1/actor", introduced).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}/below/")
}

fn target(key: &Key) -> DeviceTarget {
    DeviceTarget { did: key.did().clone(), addresses: Vec::new(), grant: None }
}

/// What an honest actor answers.
fn honest(key: &Key, request: &Envelope) -> Envelope {
    let sender = request.verify(now()).unwrap();
    let said = json!({"told": request.message.len(), "by": sender.as_str()});
    Envelope::parse(&reply(key, request, &sender, 1, &said).unwrap().body).unwrap()
}

#[tokio::test]
async fn an_actor_is_asked_and_its_answer_is_counter_signed() {
    let (own, provider) = (key(), key());
    let service = actor(&provider, |key, request| Some((Code::OK, honest(key, &request).to_json()))).await;
    let client = HttpClient::new(&service, own.clone()).unwrap();
    let reply = client.ask(&target(&provider), ASKED, &json!({"a": 1}), SOON).await.unwrap();
    let said: Value = serde_json::from_slice(&reply.message).unwrap();
    assert_eq!(said, json!({"told": 7, "by": own.did().as_str()}));
    let awaited = Awaited { asker: own.did(), asked: provider.did(), continuation: &reply.behaviour };
    check_countersigned(&reply.capabilities, &awaited, now()).unwrap();
    assert_eq!(did_of(&service, SOON).await.unwrap(), *provider.did());
}

#[tokio::test]
async fn an_answer_of_somebody_else_or_to_something_else_is_refused() {
    let provider = key();
    let refused = async |says: &str, spoil: fn(Envelope, &Key) -> Vec<u8>| {
        let service = actor(&provider, move |key, request| Some((Code::OK, spoil(honest(key, &request), key)))).await;
        let client = HttpClient::new(&service, key()).unwrap();
        let error = client.ask(&target(&provider), ASKED, &json!({}), SOON).await.unwrap_err();
        assert!(
            matches!(&error, AskError::Call(CallError::BadReply { cause, .. }) if cause.contains(says)),
            "not {says:?}: {error:?}"
        );
    };
    refused("not signed by", |reply, _| reply.sign(&key()).to_json()).await;
    refused("not signed by", |reply, _| Envelope { message: b"{}".to_vec(), ..reply }.to_json()).await;
    refused("no signature", |reply, _| Envelope { signature: None, ..reply }.to_json()).await;
    refused("it is from did:key:", |reply, _| {
        let other = key();
        Envelope { from: Handle::root_of(other.did()), ..reply }.sign(&other).to_json()
    })
    .await;
    refused("to somebody else", |reply, key| Envelope { to: reply.from.clone(), ..reply }.sign(key).to_json()).await;
    refused("another request", |reply, key| {
        Envelope { behaviour: "/dms/actor/replyto/0".to_owned(), ..reply }.sign(key).to_json()
    })
    .await;
    refused("expired", |reply, key| Envelope { expires: Nanos(1), ..reply }.sign(key).to_json()).await;
    refused("not JSON", |_, _| b"hello".to_vec()).await;
    refused("too long", |_, _| vec![b' '; MAX_ENVELOPE + 1]).await;
}

#[tokio::test]
async fn what_is_no_answer_is_told_apart() {
    let provider = key();
    let ask = async |service: &str, wait| {
        HttpClient::new(service, key()).unwrap().ask(&target(&provider), ASKED, &json!({}), wait).await.unwrap_err()
    };
    let silent = actor(&provider, |_, _| None).await;
    let error = ask(&silent, Duration::from_millis(200)).await;
    assert!(matches!(error, AskError::Call(CallError::Silent { .. })), "{error:?}");

    let quiet = actor(&provider, |_, _| Some((Code::NO_CONTENT, Vec::new()))).await;
    let error = ask(&quiet, SOON).await;
    assert!(matches!(error, AskError::Call(CallError::Silent { .. })), "{error:?}");

    let denied = async |code: Code, body: &'static [u8], says: &str| {
        let service = actor(&provider, move |_, _| Some((code, body.to_vec()))).await;
        let error = ask(&service, SOON).await;
        let is = |status: &u16, message: &str| *status == code.as_u16() && message == says;
        assert!(matches!(&error, AskError::Denied { status, message } if is(status, message)), "{error:?}");
    };
    let json = br#"{"reason": "TooManyRequests", "message": "later,\n\u001b[2Jplease"}"#;
    denied(Code::TOO_MANY_REQUESTS, json, "later,  [2Jplease").await;
    denied(Code::BAD_GATEWAY, b"<html>\n</html>\n", "<html> </html>").await;
    // A redirect is not followed: who stands there was not asked.
    denied(Code::TEMPORARY_REDIRECT, b"", "").await;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = ask(&closed, SOON).await;
    assert!(matches!(&error, AskError::Call(error) if error.never_sent()), "{error:?}");
    assert!(matches!(did_of(&closed, SOON).await, Err(HttpError::Unknown { .. })));

    for wrong in ["h.example.org", "ftp://h.example.org", "https://a:b@h", "https://h/?x", "https://h/#x", "data:x"] {
        assert!(matches!(HttpClient::new(wrong, key()), Err(HttpError::Url(_))), "{wrong}");
    }
}
