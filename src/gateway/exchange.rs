//! The provider's actor over HTTP: `POST /v1/actor` takes the bytes of an envelope and answers those of the signed reply;
//! `GET /v1/actor` says whose actor it is, `{"did"}`, which nothing proves but what it signs.
//!
//! | answer | when |
//! |---|---|
//! | 200, `application/json` | the reply, a signed envelope; a refusal is one too |
//! | 204 | the message was acted on, and nothing is to be said: it asks for no reply |
//! | 400, 404, 413, 429 | nothing was done: `{"reason", "message"}`, not signed |
//!
//! Who asks is known by the address of the connection; headers that name another one count for nothing.

use std::{net::IpAddr, sync::Arc};

use async_trait::async_trait;
use axum::{
    Json, Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State, rejection::BytesRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};

use crate::capability::Did;

/// Longest envelope that is taken over HTTP, in bytes: the largest object with its signature, in base64, and its tokens.
pub const MAX_BODY: usize = 256 << 10;
/// Seconds after which one who asked too often may ask again.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Remote(pub IpAddr);

/// Why a message got no signed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// In one word that never changes.
    pub reason: &'static str,
    /// For people.
    pub message: String,
    /// The same may be answered later.
    pub later: bool,
}

/// Who answers messages.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    /// Who it is.
    fn did(&self) -> &Did;

    /// The signed reply to an envelope; `None` where nothing is to be said.
    async fn exchange(&self, envelope: &[u8], from: IpAddr) -> Result<Option<Vec<u8>>, Unanswered>;
}

/// The router of the path above. Its connections must tell their [`Remote`].
pub fn router(actor: Arc<dyn Exchange>) -> Router {
    Router::new()
        .route("/v1/actor", get(introduce).post(answer))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(actor)
}

async fn introduce(State(actor): State<Arc<dyn Exchange>>) -> Json<Value> {
    Json(json!({"did": actor.did()}))
}

async fn answer(
    State(actor): State<Arc<dyn Exchange>>,
    ConnectInfo(Remote(from)): ConnectInfo<Remote>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let unread = |rejection: BytesRejection| {
        let message = format!("the envelope could not be read, or has more than {MAX_BODY} bytes. Send a smaller one");
        (rejection.status(), Unanswered { reason: "TooLarge", message, later: false })
    };
    let exchanged = match body.map_err(unread) {
        Ok(body) => actor.exchange(&body, from).await.map_err(|unanswered| (status(&unanswered), unanswered)),
        Err(refused) => Err(refused),
    };
    match exchanged {
        Ok(Some(reply)) => {
            ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")], reply).into_response()
        }
        Ok(None) => StatusCode::NO_CONTENT.into_response(),
        Err((status, Unanswered { reason, message, later })) => {
            let told = Json(json!({"reason": reason, "message": message}));
            let mut response = (status, [(header::CACHE_CONTROL, "no-store")], told).into_response();
            if later {
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            response
        }
    }
}

fn status(Unanswered { reason, message: _, later }: &Unanswered) -> StatusCode {
    match *reason {
        _ if *later => StatusCode::TOO_MANY_REQUESTS,
        "UnknownBehaviour" => StatusCode::NOT_FOUND,
        "TooLarge" => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use axum::{extract::connect_info::Connected, serve::IncomingStream};
    use tokio::net::TcpListener;

    use super::*;
    use crate::capability::Key;

    impl Connected<IncomingStream<'_, TcpListener>> for Remote {
        fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
            Self(stream.remote_addr().ip())
        }
    }

    struct Echo(Did);

    #[async_trait]
    impl Exchange for Echo {
        fn did(&self) -> &Did {
            &self.0
        }

        async fn exchange(&self, envelope: &[u8], from: IpAddr) -> Result<Option<Vec<u8>>, Unanswered> {
            let unanswered = |reason, later| Err(Unanswered { reason, message: format!("to {from}"), later });
            match envelope {
                b"unknown" => unanswered("UnknownBehaviour", false),
                b"often" => unanswered("TooManyRequests", true),
                b"bad" => unanswered("Malformed", false),
                b"quiet" => Ok(None),
                other => Ok(Some(other.to_vec())),
            }
        }
    }

    async fn serving() -> String {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let did = Key::from_seed([1; 32]).did().clone();
        let service = router(Arc::new(Echo(did))).into_make_service_with_connect_info::<Remote>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        format!("http://{address}/v1/actor")
    }

    async fn post_to(url: &str, body: impl Into<reqwest::Body>) -> (u16, Option<String>, Vec<u8>) {
        let client = reqwest::Client::new();
        // Neither is believed.
        let sent =
            client.post(url).header("X-Forwarded-For", "203.0.113.9").header("Host", "evil.example.org").body(body);
        let response = sent.send().await.unwrap();
        let later = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), later, response.bytes().await.unwrap().to_vec())
    }

    #[tokio::test]
    async fn replies_go_as_they_are_and_refusals_say_why() {
        let url = serving().await;
        let reply: [u8; 40] = rand::random();
        assert_eq!(post_to(&url, reply.to_vec()).await, (200, None, reply.to_vec()));
        assert_eq!(post_to(&url, "quiet").await, (204, None, vec![]));
        for (body, status, later) in [("unknown", 404, None), ("often", 429, Some("2".to_owned())), ("bad", 400, None)]
        {
            let (got, retry, told) = post_to(&url, body).await;
            assert_eq!((got, retry), (status, later), "{body}");
            let told: Value = serde_json::from_slice(&told).unwrap();
            assert_eq!(told["message"], "to 127.0.0.1", "{body}");
        }
        let largest = vec![b'x'; MAX_BODY];
        assert_eq!(post_to(&url, largest.clone()).await, (200, None, largest));
        let (status, _, told) = post_to(&url, vec![b'x'; MAX_BODY + 1]).await;
        assert_eq!(
            (status, serde_json::from_slice::<Value>(&told).unwrap()["reason"].as_str()),
            (413, Some("TooLarge"))
        );
        let said: Value = reqwest::get(&url).await.unwrap().json().await.unwrap();
        assert_eq!(said, json!({"did": Key::from_seed([1; 32]).did()}));
        assert_eq!(reqwest::Client::new().put(&url).send().await.unwrap().status(), 405);
        assert_eq!(post_to(&url.replace("/v1/actor", "/v1/sites"), "x").await.0, 404);
    }
}
