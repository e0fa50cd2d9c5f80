//! `dms-operator run`: the operator.

use std::{
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures::StreamExt as _;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, Client,
    api::ListParams,
    runtime::events::{Recorder, Reporter},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use super::{CommandError, connections::Connections, reached};
use crate::{
    api::{CapabilityRevocation, HostingDeployment, HostingDevice, HostingProvider, names::REPORTER},
    capability::{Context, Did},
    config::{OperatorConfig, ProviderName},
    controller::{
        self,
        actor::{self, OperatorActor},
        asking::AskingAgain,
        clock::{self, Clock},
        context::{Parts, Settings},
        counted::CountedClient,
        door::Door,
        identity::{self, Identity},
        lease::{Campaign, LeaseConfig},
        notices::Subscriptions,
        revocation::{self, RevocationBook},
    },
    device::{
        actor::{Actor, ActorConfig, Broadcaster, Denied},
        dms::path::ROOT_INBOX,
        libp2p::{DmsClient, Dropped, Link, LinkConfig, LinkCounters},
    },
    gateway::{
        exchange,
        site::{self, SiteService},
        site_table::SiteTable,
    },
    metrics::{LinkFigures, Metrics},
    server::{Readiness, Server},
    store::archive::{ArchiveFetcher, ArchivePolicy},
    telemetry,
};

const CRD_PAUSE: Duration = Duration::from_secs(2);
/// Connections of sites at one time. Each site holds one or a few.
const SITE_CONNECTIONS: usize = 1024;

/// Connections of wallets at one time.
const ACTOR_CONNECTIONS: usize = 256;

/// Arguments of the operator.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    config: OperatorConfig,
}

/// Runs until told to stop, or until the lease is lost.
///
/// # Errors
/// [`CommandError`] when it cannot start, and when the lease is lost: then the process must end at once.
pub async fn run(args: Args) -> Result<ExitCode, CommandError> {
    let args = args.config;
    telemetry::install(args.log_format);
    let stop = stop_on_signal()?;
    let metrics = Arc::new(Metrics::new());
    let readiness = Readiness::new(["crds", "leader or standby"]);
    let server = Server::start(args.http_bind, Arc::clone(&metrics), readiness.clone())
        .map_err(|error| CommandError::because(format!("{} could not be bound for /metrics", args.http_bind), error))?;
    tracing::info!(address = %server.address(), "serving /livez, /readyz and /metrics");

    let client = Client::try_default().await.map_err(|error| {
        CommandError::because("no Kubernetes API server is configured. Set KUBECONFIG, or run in a cluster", error)
    })?;
    let result = lead(&args, &client, metrics, &readiness, &stop).await;
    server.stop();
    result
}

fn stop_on_signal() -> Result<CancellationToken, CommandError> {
    let stop = CancellationToken::new();
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| CommandError::because("signals cannot be received", error))?;
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        token.cancel();
    });
    Ok(stop)
}

/// Waits for the kinds and for the lease, then works until the end of either.
async fn lead(
    args: &OperatorConfig,
    client: &Client,
    metrics: Arc<Metrics>,
    readiness: &Readiness,
    stop: &CancellationToken,
) -> Result<ExitCode, CommandError> {
    tokio::select! {
        () = wait_for_kinds(client) => {}
        () = stop.cancelled() => return Ok(ExitCode::SUCCESS),
    }
    readiness.open("crds");
    let namespace = &args.provider.namespace;
    let identity = std::env::var("HOSTNAME").unwrap_or_else(|_| "dms-operator".to_owned());
    let mut lease = LeaseConfig::new(namespace, "dms-operator", identity);
    lease.duration = args.lease_duration;
    lease.renew = args.lease_duration / 3;
    let api: Api<Lease> = Api::namespaced(client.clone(), namespace);
    let campaign = Campaign::start(Arc::new(api), lease)
        .map_err(|error| CommandError::because("--lease-duration cannot be used", error))?;
    readiness.open("leader or standby");
    let mut claim = campaign.claim();
    let acquired = tokio::select! {
        acquired = claim.acquired() => acquired,
        () = stop.cancelled() => {
            campaign.end().await;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !acquired {
        return Err(CommandError::new("the campaign for the lease ended"));
    }
    metrics.leader(true);
    tracing::info!(namespace, "the lease is held: working");
    let work = work(args, client, metrics, stop.clone());
    let outcome = tokio::select! {
        result = work => result.map(|()| ExitCode::SUCCESS),
        () = claim.lost() => {
            Err(CommandError::new("the lease was lost, so this process ends at once; another replica goes on"))
        }
    };
    if outcome.is_ok() {
        campaign.end().await;
    }
    outcome
}

/// The custom resource definitions may come after the operator: it waits, and says so.
async fn wait_for_kinds(client: &Client) {
    let one = ListParams::default().limit(1);
    let mut told = false;
    loop {
        let missing = [
            Api::<HostingDeployment>::all(client.clone()).list_metadata(&one).await.err(),
            Api::<HostingProvider>::all(client.clone()).list_metadata(&one).await.err().filter(not_found),
            Api::<HostingDevice>::all(client.clone()).list_metadata(&one).await.err().filter(not_found),
            Api::<CapabilityRevocation>::all(client.clone()).list_metadata(&one).await.err(),
        ];
        let Some(error) = missing.into_iter().flatten().next() else { return };
        if !told {
            tracing::warn!(%error, "waiting for the custom resource definitions and the right to read them");
            told = true;
        }
        tokio::time::sleep(CRD_PAUSE).await;
    }
}

fn not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

async fn work(
    args: &OperatorConfig,
    client: &Client,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), CommandError> {
    let ProviderName { namespace, name } = &args.provider;
    let identity = tokio::select! {
        identity = identity(client, namespace, name) => identity?,
        () = stop.cancelled() => return Ok(()),
    };
    let did = identity.key.did().clone();
    tracing::info!(%did, installation = identity.installation.id(), "speaking for the provider");

    let link = LinkConfig {
        key: identity.key.clone(),
        listen: args.p2p_listen.clone(),
        inboxes: vec![inbox(), ROOT_INBOX.to_owned()],
        topics: Some(actor::TOPICS.map(str::to_owned).to_vec()),
    };
    let (link, arrived) = Link::start(link)
        .await
        .map_err(|error| CommandError::because("the libp2p host could not be started", error))?;
    let listener = bind(args.actor_bind, "the provider's actor").await?;
    let reached = reached::addresses(args, &link, &listener).await;
    tracing::info!(addresses = reached.join(" "), peer = link.peer_id(), "the provider's actor is reached");
    let door = Door::new(did.clone(), &reached::host(&reached, &did))
        .map(Arc::new)
        .map_err(|error| CommandError::because("the system gives no random bytes", error))?;
    let addresses = link.listen_addresses().await;

    let revocations = RevocationBook::default();
    revocation::load(&revocations, client, namespace, &did, clock::wall()).await.map_err(|error| {
        let what = format!(
            "the revocations could not be read, and nothing is judged without them. See that the operator may list \
             ConfigMaps in namespace {namespace} and CapabilityRevocations in all"
        );
        CommandError::because(what, error)
    })?;
    let clock = Clock::default();
    let (drivers, wake) = controller::watch(client, namespace, &stop);
    let serves = Arc::new(OperatorActor {
        did: did.clone(),
        addresses,
        revocations: revocations.clone(),
        door: Arc::clone(&door),
        wake: wake.clone(),
        clock: clock.clone(),
    });
    // By right serves it only whom the provider itself gave that.
    let context = Context::empty(did);
    let actor = Actor::new(ActorConfig { key: identity.key.clone(), context, serves, clock: clock::wall }, &link);
    let actor_endpoint = serve_actor(listener, &actor, identity.key.did().clone());
    metrics.read_link({
        let (counters, actor) = (Arc::clone(link.counters()), actor.clone());
        move || figures(&counters, &actor)
    });
    let device_client = DmsClient::beside(actor, link.clone(), arrived, identity.key.clone());
    let device_client = Arc::new(AskingAgain(CountedClient::new(device_client, Arc::clone(&metrics))));
    let broadcaster = Broadcaster::new(&link, identity.key.clone(), clock::wall());
    let sites = SiteTable::new();
    let listener = bind(args.site_bind, "sites").await?;
    let settings = settings(args, reached, &listener).await?;
    let endpoint = serve_sites(listener, &sites, &revocations);
    let reports = sites.reports().map(|site| (site.namespace().to_owned(), site.name().to_owned()));
    let recorder = Recorder::new(
        client.clone(),
        Reporter { controller: REPORTER.to_owned(), instance: std::env::var("HOSTNAME").ok() },
    );
    let http = reqwest::Client::builder()
        .user_agent(concat!("dms-operator/", env!("CARGO_PKG_VERSION")))
        // A webhook that moved has not taken what was told; and where it points to was chosen by nobody here.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| CommandError::because("the client for webhooks could not be made", error))?;
    let policy = ArchivePolicy { allow_private_addresses: args.allow_private_archives, ..ArchivePolicy::default() };
    let parts = Parts {
        client: client.clone(),
        settings,
        identity,
        clock,
        recorder,
        device_client,
        broadcaster,
        door,
        archives: ArchiveFetcher::new(policy),
        sites,
        revocations,
        metrics,
        deployments: drivers.deployments(),
        devices: drivers.devices(),
        providers: drivers.providers(),
        revocation_objects: drivers.revocation_objects(),
        namespaces: drivers.namespaces(),
        wake,
        http,
        subscriptions: Subscriptions::default(),
    };
    drivers.run(parts, reports, stop).await;
    endpoint.abort();
    actor_endpoint.abort();
    link.stop().await;
    Ok(())
}

fn figures(counters: &LinkCounters, actor: &Actor) -> LinkFigures {
    LinkFigures {
        received: counters.frames_in(),
        sent: counters.frames_out(),
        connections: counters.connections(),
        failed_dials: counters.failed_dials(),
        dropped: Dropped::ALL.map(|reason| (reason.code(), counters.dropped(reason))).to_vec(),
        asked: actor.counts().into_iter().collect(),
    }
}

/// A fixed inbox for this process: every change of it would be told to all peers.
fn inbox() -> String {
    format!("user-{}", clock::wall().0)
}

/// The provider's identity. The HostingProvider names its Secret, so that object is awaited first.
async fn identity(client: &Client, namespace: &str, provider: &str) -> Result<Identity, CommandError> {
    let api: Api<HostingProvider> = Api::namespaced(client.clone(), namespace);
    let mut told = false;
    let object = loop {
        match api.get_opt(provider).await {
            Ok(Some(object)) => break object,
            Ok(None) if told => {}
            Ok(None) => {
                tracing::warn!(namespace, provider, "waiting for the HostingProvider to be created");
                told = true;
            }
            Err(error) => tracing::warn!(namespace, provider, %error, "the HostingProvider could not be read"),
        }
        tokio::time::sleep(CRD_PAUSE).await;
    };
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    identity::load_or_create(&secrets, &object.spec.identity.key_secret_ref.name)
        .await
        .map_err(|error| CommandError::because("the provider has no identity", error))
}

/// How the controller works. Sites reach the operator at `sites`, unless something else was said.
async fn settings(
    args: &OperatorConfig,
    addresses: Vec<String>,
    sites: &TcpListener,
) -> Result<Settings, CommandError> {
    let bound =
        sites.local_addr().map_err(|error| CommandError::because("the address for sites could not be read", error))?;
    let ProviderName { namespace, name: provider } = args.provider.clone();
    Ok(Settings {
        addresses,
        site_url: args.site_url.clone().unwrap_or_else(|| format!("http://{bound}")),
        site_image: match &args.site_image {
            Some(image) => image.clone(),
            None => super::device::own_image().await?,
        },
        window: args.device_window,
        resync: args.resync,
        concurrency: args.concurrency,
        namespace,
        provider,
    })
}

async fn bind(address: SocketAddr, what: &str) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address)
        .await
        .map_err(|error| CommandError::because(format!("{address} could not be bound for {what}"), error))
}

struct OverHttp(Actor, Did);

#[async_trait]
impl exchange::Exchange for OverHttp {
    fn did(&self) -> &Did {
        &self.1
    }

    async fn exchange(&self, envelope: &[u8], from: IpAddr) -> Result<Option<Vec<u8>>, exchange::Unanswered> {
        self.0.exchange(envelope, from).await.map_err(|Denied { reason, message, later }| exchange::Unanswered {
            reason,
            message,
            later,
        })
    }
}

fn serve_actor(listener: TcpListener, actor: &Actor, did: Did) -> tokio::task::JoinHandle<()> {
    let router = exchange::router(Arc::new(OverHttp(actor.clone(), did)));
    let connections = Connections::new(listener, ACTOR_CONNECTIONS, Arc::default()).with_bodies(exchange::MAX_BODY);
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<exchange::Remote>();
        if let Err(error) = axum::serve(connections, service).await {
            tracing::error!(%error, "the endpoint of the provider's actor ended");
        }
    })
}

fn serve_sites(listener: TcpListener, table: &SiteTable, revocations: &RevocationBook) -> tokio::task::JoinHandle<()> {
    let revocations = revocations.clone();
    let service = SiteService {
        table: table.clone(),
        clock: Arc::new(clock::wall),
        revoked: Arc::new(move |key| revocations.revoked(key)),
        patience: site::PATIENCE,
        blob_patience: site::blob_patience,
    };
    let connections = Connections::new(listener, SITE_CONNECTIONS, Arc::default());
    tokio::spawn(async move {
        if let Err(error) = axum::serve(connections, site::router(service)).await {
            tracing::error!(%error, "the endpoint for sites ended");
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    /// The listener below takes 400 KiB of a request by itself, and any number of connections.
    #[tokio::test]
    async fn sites_come_over_limited_connections() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut site = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let endpoint = serve_sites(listener, &SiteTable::new(), &RevocationBook::default());
        let endless = format!("GET / HTTP/1.1\r\nEndless: {}", "x".repeat(100 << 10));
        // Either may find the connection closed.
        let _ = site.write_all(endless.as_bytes()).await;
        let closed = tokio::time::timeout(Duration::from_secs(20), site.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "it is still open");
        endpoint.abort();
    }
}
