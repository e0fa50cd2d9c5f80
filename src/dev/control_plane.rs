use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions::is_crd_established},
};
use rcgen::KeyPair;

use super::{
    AuditLog, Credentials, KitError, Process, Tools, audit,
    certificates::{Authority, Pair},
    free_port,
};

/// How long each part may take to get ready. Alone on two cores the whole takes about five seconds.
const DEADLINE: Duration = Duration::from_secs(90);

/// How long a definition may take to be served.
const CRD_DEADLINE: Duration = Duration::from_secs(30);

/// Lifetime of the ServiceAccount tokens handed out: longer than any test.
const TOKEN_SECONDS: i64 = 24 * 60 * 60;

/// The controllers that tests and demo rely on. No pods run here, so nothing that makes pods is started.
const CONTROLLERS: &str = "namespace-controller,garbage-collector-controller,serviceaccount-controller,\
                           root-ca-certificate-publisher-controller,clusterrole-aggregation-controller";

/// A Kubernetes control plane: etcd, API server with RBAC and audit log, and the controllers for namespaces, garbage
/// collection and ServiceAccounts. No nodes. It stops when dropped.
pub struct ControlPlane {
    // Dropped, and so stopped, in this order.
    controllers: Process,
    apiserver: Process,
    etcd: Process,
    port: u16,
    authority: Authority,
    admin: Credentials,
    audit: AuditLog,
    folder: PathBuf,
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ControlPlane").field("server", &self.server()).finish_non_exhaustive()
    }
}

impl ControlPlane {
    /// Starts one that keeps its data, keys and logs in `folder`, and waits until it is ready.
    ///
    /// # Errors
    /// [`KitError`]: a port was taken three times in a row, or a part ended or was not ready in time, with the end of
    /// its log.
    pub async fn start(tools: &Tools, folder: &Path) -> Result<Self, KitError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match Self::start_once(tools, &folder.join(format!("control-plane-{tries}"))).await {
                // Between choosing a port and listening on it, somebody else may have taken it.
                Err(KitError::Ended { log, .. }) if log.contains("address already in use") && tries < 3 => {}
                result => return result,
            }
        }
    }

    async fn start_once(tools: &Tools, folder: &Path) -> Result<Self, KitError> {
        let files = Files::write(folder)?;
        let etcd_port = free_port()?;
        let etcd = start_etcd(tools, folder, etcd_port)?;
        let port = free_port()?;
        let apiserver = files.start_apiserver(tools, etcd_port, port)?;

        let server = format!("https://127.0.0.1:{port}");
        let certificate = files.authority.certificate();
        let admin = files.authority.client("kit-admin", &["system:masters"])?;
        let admin = Credentials::certificate(&server, &certificate, &admin);
        admin.write(&folder.join("admin.kubeconfig"))?;
        let client = admin.client().await?;
        let ready = apiserver.ready(DEADLINE, async || {
            if !etcd.is_running() {
                return Err("etcd ended".to_owned());
            }
            get(&client, "/readyz").await
        });
        if let Err(error) = ready.await {
            // The API server waits in vain for an etcd that could not listen.
            let log = if etcd.is_running() { return Err(error) } else { etcd.log_end() };
            return Err(KitError::Ended { name: etcd.name().to_owned(), log });
        }

        let user = files.authority.client("system:kube-controller-manager", &[])?;
        let kubeconfig = folder.join("controllers.kubeconfig");
        Credentials::certificate(&server, &certificate, &user).write(&kubeconfig)?;
        let controllers = files.start_controllers(tools, &kubeconfig)?;
        // Until this account is there, ServiceAccounts made by a test would be without the rest of their controllers.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        controllers.ready(DEADLINE, async || accounts.get("default").await).await?;

        let Files { authority, folder } = files;
        let audit = AuditLog::new(&folder.join(AUDIT_LOG));
        Ok(Self { controllers, apiserver, etcd, port, authority, admin, audit, folder })
    }

    /// The address of the API server.
    #[must_use]
    pub fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// May do everything.
    #[must_use]
    pub fn admin(&self) -> &Credentials {
        &self.admin
    }

    /// A kubeconfig file of [`admin`](Self::admin).
    #[must_use]
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    /// A client that may do everything. It belongs to the async runtime that it was made on.
    ///
    /// # Errors
    /// [`KitError::Kubernetes`].
    pub async fn client(&self) -> Result<Client, KitError> {
        self.admin.client().await
    }

    /// Credentials of a person with this name and these groups; what they may do is up to RBAC.
    ///
    /// # Errors
    /// [`KitError::Certificate`].
    pub fn user(&self, name: &str, groups: &[&str]) -> Result<Credentials, KitError> {
        let pair = self.authority.client(name, groups)?;
        Ok(Credentials::certificate(&self.server(), &self.authority.certificate(), &pair))
    }

    /// Credentials of a ServiceAccount, as a pod would have them, from a token valid for a day.
    ///
    /// # Errors
    /// [`KitError::Kubernetes`] when there is no such account.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<Credentials, KitError> {
        let asked = format!("a token of ServiceAccount {namespace}/{name}");
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let answer = accounts.create_token_request(name, &PostParams::default(), &request).await;
        let token = answer.map_err(KitError::kubernetes(asked))?.status.map(|status| status.token).unwrap_or_default();
        Ok(Credentials::token(&self.server(), &self.authority.certificate(), &token, namespace))
    }

    /// Installs definitions and waits until they are served.
    ///
    /// # Errors
    /// [`KitError::Kubernetes`] when one is refused, [`KitError::NotReady`] when one is not served in time.
    pub async fn install(&self, definitions: &[CustomResourceDefinition]) -> Result<(), KitError> {
        let api: Api<CustomResourceDefinition> = Api::all(self.client().await?);
        for definition in definitions {
            let params = PatchParams::apply("dms-operator-kit").force();
            let answer = api.patch(&definition.name_any(), &params, &Patch::Apply(definition)).await;
            answer.map_err(KitError::kubernetes(format!("install {}", definition.name_any())))?;
        }
        for definition in definitions {
            let name = definition.name_any();
            let established = await_condition(api.clone(), &name, is_crd_established());
            let last = match tokio::time::timeout(CRD_DEADLINE, established).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_elapsed) => "not Established".to_owned(),
            };
            let (seconds, log) = (CRD_DEADLINE.as_secs(), self.apiserver.log_end());
            return Err(KitError::NotReady { name, seconds, last, log });
        }
        Ok(())
    }

    /// What the API server was asked so far.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The API server, to freeze it or to read its log.
    #[must_use]
    pub fn apiserver(&self) -> &Process {
        &self.apiserver
    }

    /// Process ids of all parts.
    #[must_use]
    pub fn pids(&self) -> [u32; 3] {
        [self.controllers.pid(), self.apiserver.pid(), self.etcd.pid()]
    }
}

const AUDIT_LOG: &str = "audit.log";

async fn get(client: &Client, path: &str) -> Result<String, String> {
    let request = kube::client::Body::empty();
    let request = axum::http::Request::get(path).body(request).map_err(|error| error.to_string())?;
    client.send(request).await.map_err(|error| error.to_string()).and_then(|response| {
        let status = response.status();
        if status.is_success() { Ok(status.to_string()) } else { Err(format!("{path} answers {status}")) }
    })
}

fn start_etcd(tools: &Tools, folder: &Path, port: u16) -> Result<Process, KitError> {
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", free_port()?));
    let mut command = Command::new(&tools.etcd);
    command
        .arg(format!("--data-dir={}", folder.join("etcd").display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        // The data dies with the process; a power cut may take it too.
        .arg("--unsafe-no-fsync")
        .arg("--log-level=warn");
    Process::start("etcd", &command, folder.join("etcd.log"))
}

/// Keys, certificates and settings on disk, where the parts of the control plane read them.
struct Files {
    authority: Authority,
    folder: PathBuf,
}

impl Files {
    fn write(folder: &Path) -> Result<Self, KitError> {
        fs::create_dir_all(folder).map_err(KitError::file("created", folder))?;
        let files = Self { authority: Authority::new()?, folder: folder.to_owned() };
        files.put("ca.crt", &files.authority.certificate())?;
        let Pair { certificate, key } = files.authority.server()?;
        files.put("apiserver.crt", &certificate)?;
        files.put("apiserver.key", &key)?;
        let accounts = KeyPair::generate()?;
        files.put("service-accounts.key", &accounts.serialize_pem())?;
        files.put("service-accounts.pub", &accounts.public_key_pem())?;
        files.put("audit-policy.json", audit::POLICY)?;
        // So that it can be read before the first request.
        files.put(AUDIT_LOG, "")?;
        Ok(files)
    }

    fn put(&self, name: &str, text: &str) -> Result<(), KitError> {
        use io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = self.folder.join(name);
        let open = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        open.and_then(|mut file| file.write_all(text.as_bytes())).map_err(KitError::file("written", path))
    }

    fn option(&self, option: &str, file: &str) -> String {
        format!("--{option}={}", self.folder.join(file).display())
    }

    fn start_apiserver(&self, tools: &Tools, etcd_port: u16, port: u16) -> Result<Process, KitError> {
        let mut command = Command::new(&tools.kube_apiserver);
        command
            .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
            .arg("--bind-address=127.0.0.1")
            .arg("--advertise-address=127.0.0.1")
            .arg(format!("--secure-port={port}"))
            .arg(self.option("cert-dir", "apiserver"))
            .arg(self.option("tls-cert-file", "apiserver.crt"))
            .arg(self.option("tls-private-key-file", "apiserver.key"))
            .arg(self.option("client-ca-file", "ca.crt"))
            .arg("--authorization-mode=RBAC")
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(self.option("service-account-key-file", "service-accounts.pub"))
            .arg(self.option("service-account-signing-key-file", "service-accounts.key"))
            .arg("--service-cluster-ip-range=10.0.0.0/24")
            // No endpoints of the Service `kubernetes`: a loopback address is not allowed there.
            .arg("--endpoint-reconciler-type=none")
            .arg(self.option("audit-policy-file", "audit-policy.json"))
            .arg(self.option("audit-log-path", AUDIT_LOG))
            .arg("--profiling=false");
        Process::start("kube-apiserver", &command, self.folder.join("kube-apiserver.log"))
    }

    fn start_controllers(&self, tools: &Tools, kubeconfig: &Path) -> Result<Process, KitError> {
        let mut command = Command::new(&tools.kube_controller_manager);
        command
            .arg(format!("--kubeconfig={}", kubeconfig.display()))
            .arg(format!("--controllers={CONTROLLERS}"))
            .arg(self.option("service-account-private-key-file", "service-accounts.key"))
            .arg(self.option("root-ca-file", "ca.crt"))
            .arg("--use-service-account-credentials")
            .arg("--leader-elect=false")
            .arg("--secure-port=0")
            .arg("--profiling=false");
        Process::start("kube-controller-manager", &command, self.folder.join("kube-controller-manager.log"))
    }
}
