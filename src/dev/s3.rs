use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::{AbortHandle, JoinSet},
};

use super::KitError;

/// One request that reached an [`S3Server`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Request {
    /// `GET`, `HEAD`, `PUT`, `POST`, `DELETE`.
    pub method: String,
    /// Path as it came: `/<bucket>/<key>`.
    pub path: String,
    /// Query as it came, without `?`.
    pub query: String,
    /// The host that was asked, with its port.
    pub host: String,
    /// The region that the request was signed for; empty without a signature.
    pub region: String,
}

/// An S3 service over a folder of this machine, with one bucket and one key pair, both random. It belongs to the async
/// runtime that it was started on, and stops when dropped.
pub struct S3Server {
    address: SocketAddr,
    folder: PathBuf,
    bucket: String,
    access_key: String,
    secret_key: String,
    service: Service,
    serving: Option<AbortHandle>,
}

/// The S3 implementation and what it was asked.
#[derive(Clone)]
struct Service {
    s3: S3Service,
    seen: Arc<Mutex<Vec<S3Request>>>,
}

impl std::fmt::Debug for S3Server {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("S3Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl S3Server {
    /// Serves `folder` on a free port of the loopback interface.
    ///
    /// # Errors
    /// [`KitError::S3`], [`KitError::File`], [`KitError::Port`].
    pub async fn start(folder: &Path) -> Result<Self, KitError> {
        let (bucket, access_key, secret_key) =
            (format!("kit-{}", random(4)?), format!("AK{}", random(8)?.to_uppercase()), random(20)?);
        let path = folder.join(&bucket);
        fs::create_dir_all(&path).map_err(KitError::file("created", &path))?;
        let files = FileSystem::new(folder).map_err(|error| KitError::S3(format!("{error:?}")))?;
        let mut builder = S3ServiceBuilder::new(files);
        builder.set_auth(SimpleAuth::from_single(access_key.clone(), secret_key.clone()));
        let service = Service { s3: builder.build(), seen: Arc::default() };

        let mut server = Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            folder: path,
            bucket,
            access_key,
            secret_key,
            service,
            serving: None,
        };
        server.resume().await?;
        Ok(server)
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the bucket lies on this machine: a key is a path in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Name of the bucket.
    #[must_use]
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// Id of the key pair.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Secret of the key pair.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// Every request that reached it so far, oldest first, refused ones included.
    #[must_use]
    pub fn requests(&self) -> Vec<S3Request> {
        self.service.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Cuts all connections and takes no new ones: what a client sees when the service is down.
    pub fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
    }

    /// Serves again, on the same port, what it held before.
    ///
    /// # Errors
    /// [`KitError::Port`] when somebody else listens there now.
    pub async fn resume(&mut self) -> Result<(), KitError> {
        self.stop();
        let listener = self.listen().await?;
        self.address = listener.local_addr().map_err(KitError::Port)?;
        let router = Router::new().fallback(answer).with_state(self.service.clone());
        self.serving = Some(tokio::spawn(serve(listener, router)).abort_handle());
        Ok(())
    }

    /// Right after [`stop`](Self::stop) the aborted task may still hold the port.
    async fn listen(&self) -> Result<TcpListener, KitError> {
        let mut tries = 0;
        loop {
            let socket = TcpSocket::new_v4().map_err(KitError::Port)?;
            socket.set_reuseaddr(true).map_err(KitError::Port)?;
            match socket.bind(self.address).and_then(|()| socket.listen(1024)) {
                Ok(listener) => return Ok(listener),
                Err(error) if tries == 100 => return Err(KitError::Port(error)),
                Err(_taken) => tries += 1,
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Owns its connections: when it is aborted, they end.
async fn serve(listener: TcpListener, router: Router) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that was gone before it was taken is no reason to stop.
                let Ok((stream, _peer)) = accepted else { continue };
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_ended) = connections.join_next() => {}
        }
    }
}

async fn answer(State(service): State<Service>, request: Request) -> Response {
    let request_seen = seen(&request);
    service.seen.lock().unwrap_or_else(PoisonError::into_inner).push(request_seen);
    match service.s3.call(request.map(s3s::Body::http_body_unsync)).await {
        Ok(response) => response.map(Body::new),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")).into_response(),
    }
}

fn seen(request: &Request) -> S3Request {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // Authorization: AWS4-HMAC-SHA256 Credential=<key>/<day>/<region>/s3/aws4_request, …
    let scope = header("authorization").split_once("Credential=").map_or("", |(_, scope)| scope);
    S3Request {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        host: header("host").to_owned(),
        region: scope.split('/').nth(2).unwrap_or_default().to_owned(),
    }
}

fn random(bytes: usize) -> Result<String, KitError> {
    let mut random = vec![0; bytes];
    getrandom::fill(&mut random).map_err(|error| KitError::S3(error.to_string()))?;
    Ok(hex::encode(random))
}
