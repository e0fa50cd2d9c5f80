//! A whole installation on this machine: object store, devices and operator beside a control plane.
//!
//! The operator and the devices are processes of the same executable, so they can be killed, paused and restarted.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    Credentials, KitError, Process, S3Server,
    credentials::write_private,
    free_port,
    wallet::{Wallet, in_future, random},
};
use crate::{
    api::{HostingDevice, HostingProvider},
    capability::{Did, Key, Token},
};

/// How long a part may take to become ready.
const READY: Duration = Duration::from_secs(60);
/// Name of the Secret with the storage credentials, as the chart permits it.
const STORAGE_SECRET: &str = "dms-operator-s3";
/// Name of the Secret with the provider's key, as the chart permits it.
const IDENTITY_SECRET: &str = "dms-operator-identity";

/// How an installation is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `dms-operator` executable.
    pub executable: PathBuf,
    /// A folder of its own.
    pub folder: PathBuf,
    /// Namespace of the operator; it exists, with the chart in it.
    pub namespace: String,
    /// As whom the operator speaks to the API server.
    pub credentials: Credentials,
    /// Number of devices.
    pub devices: usize,
    /// Further arguments of the operator.
    pub arguments: Vec<String>,
    /// Further variables of the operator.
    pub variables: Vec<(String, String)>,
    /// Added to the provider's spec.
    pub provider: Value,
}

/// A device of the installation.
#[derive(Debug)]
pub struct Device {
    /// Name of its HostingDevice.
    pub name: String,
    /// Its process.
    pub process: Process,
    /// Its DID.
    pub did: Did,
    /// Where it keeps its state.
    pub folder: PathBuf,
    /// Address at which it listens.
    pub address: String,
    /// Its owner, whose grant the provider holds.
    pub owner: Wallet,
}

/// An operator beside the first.
#[derive(Debug)]
pub struct Replica {
    /// Its process.
    pub process: Process,
    /// Where it answers /readyz and /metrics.
    pub http: String,
    /// Address at which it answers sites.
    pub sites: String,
}

/// Object store, devices and operator.
pub struct Installation {
    /// How it was made.
    pub plan: Plan,
    /// An administrator's client.
    pub client: Client,
    /// The object store.
    pub s3: S3Server,
    /// The devices.
    pub devices: Vec<Device>,
    /// The operator.
    pub operator: Process,
    /// Where the operator answers /readyz and /metrics.
    pub http: String,
    /// Address at which the operator answers sites.
    pub sites: String,
    /// The provider's key.
    pub provider: Wallet,
}

impl Installation {
    /// Starts everything and waits until the provider and each device are Ready.
    ///
    /// # Errors
    /// [`KitError`], with the end of the log of the part that failed.
    pub async fn start(client: Client, plan: Plan) -> Result<Self, KitError> {
        std::fs::create_dir_all(&plan.folder).map_err(KitError::file("created", &plan.folder))?;
        let s3 = S3Server::start(&plan.folder.join("s3")).await?;
        create_storage_secret(&client, &plan.namespace, &s3).await?;
        create_provider(&client, &plan, &s3).await?;
        let operator = start_operator(&plan, &plan.arguments, &plan.variables, "operator")?;
        let Replica { process: operator, http, sites } = operator;
        let provider = await_provider(&client, &plan.namespace, &operator).await?;
        let mut devices = Vec::new();
        for number in 0..plan.devices {
            devices.push(start_device(&client, &plan, number, provider.did()).await?);
        }
        let this = Self { plan, client, s3, devices, operator, http, sites, provider };
        for device in &this.devices {
            this.device_ready(&device.name).await?;
        }
        Ok(this)
    }

    /// Starts another operator of this installation, as a second replica would be.
    ///
    /// # Errors
    /// [`KitError::Start`].
    pub fn second_operator(&self, name: &str, variables: &[(String, String)]) -> Result<Replica, KitError> {
        start_operator(&self.plan, &self.plan.arguments, variables, name)
    }

    /// Starts the operator anew, with other variables.
    ///
    /// # Errors
    /// [`KitError::Start`].
    pub fn replace_operator(&mut self, name: &str, variables: &[(String, String)]) -> Result<(), KitError> {
        let Replica { process, http, sites } = self.second_operator(name, variables)?;
        (self.operator, self.http, self.sites) = (process, http, sites);
        Ok(())
    }

    /// Waits until a device is Ready.
    ///
    /// # Errors
    /// [`KitError::NotReady`].
    pub async fn device_ready(&self, name: &str) -> Result<(), KitError> {
        let api: Api<HostingDevice> = Api::namespaced(self.client.clone(), &self.plan.namespace);
        self.operator
            .ready(READY, async || {
                let device = api.get(name).await.map_err(|error| error.to_string())?;
                let conditions = device.status.unwrap_or_default().conditions;
                let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
                match ready {
                    Some(ready) if ready.status == "True" => Ok(()),
                    Some(ready) => Err(format!("HostingDevice {name}: {} {}", ready.reason, ready.message)),
                    None => Err(format!("HostingDevice {name} has no conditions yet")),
                }
            })
            .await
    }

    /// A grant of everything in a namespace, valid for an hour.
    ///
    /// # Errors
    /// [`KitError::Token`].
    pub fn grant(&self, to: &Did, namespace: &str) -> Result<Token, KitError> {
        self.provider.grant(to, namespace, in_future(Duration::from_hours(1)))
    }

    /// A HostingDeployment of this provider with content from a ConfigMap, not signed yet.
    #[must_use]
    pub fn deployment(&self, namespace: &str, name: &str, owner: &Did, release: &str, config_map: &str) -> Value {
        json!({
            "apiVersion": "hosting.nunet.io/v1alpha1",
            "kind": "HostingDeployment",
            "metadata": {"namespace": namespace, "name": name},
            "spec": {
                "owner": owner.as_str(),
                "providerRef": {"namespace": self.plan.namespace, "name": "default"},
                "content": {"release": release, "from": {"configMap": {"name": config_map}}, "access": "Public"},
            },
        })
    }
}

async fn create_storage_secret(client: &Client, namespace: &str, s3: &S3Server) -> Result<(), KitError> {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(STORAGE_SECRET.to_owned()), ..ObjectMeta::default() },
        string_data: Some(
            [
                ("access-key-id".to_owned(), s3.access_key().to_owned()),
                ("secret-access-key".to_owned(), s3.secret_key().to_owned()),
            ]
            .into(),
        ),
        ..Secret::default()
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &secret).await.map_err(KitError::kubernetes("create the storage Secret"))?;
    Ok(())
}

async fn create_provider(client: &Client, plan: &Plan, s3: &S3Server) -> Result<(), KitError> {
    let mut provider = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "HostingProvider",
        "metadata": {"name": "default"},
        "spec": {
            "identity": {"keySecretRef": {"name": IDENTITY_SECRET}},
            "allowedNamespaces": {"from": "All"},
            "policy": {"publicAccess": "Allow"},
            "storage": {"s3": {
                "endpoint": s3.endpoint(),
                "bucket": s3.bucket(),
                "auth": {"secretRef": {"name": STORAGE_SECRET}},
            }},
        },
    });
    merge(&mut provider["spec"], &plan.provider);
    let api: Api<HostingProvider> = Api::namespaced(client.clone(), &plan.namespace);
    api.patch("default", &PatchParams::apply("dms-operator-kit"), &Patch::Apply(&provider))
        .await
        .map_err(KitError::kubernetes("create the HostingProvider"))?;
    Ok(())
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (into, from) => *into = from.clone(),
    }
}

fn start_operator(
    plan: &Plan,
    arguments: &[String],
    variables: &[(String, String)],
    name: &str,
) -> Result<Replica, KitError> {
    let kubeconfig = plan.folder.join("operator.kubeconfig");
    plan.credentials.write(&kubeconfig)?;
    let http = format!("127.0.0.1:{}", free_port()?);
    let sites = format!("127.0.0.1:{}", free_port()?);
    let actor = format!("127.0.0.1:{}", free_port()?);
    let listen = format!("/ip4/127.0.0.1/tcp/{}", free_port()?);
    let mut command = Command::new(&plan.executable);
    command
        .arg("run")
        .args(["--provider", &format!("{}/default", plan.namespace), "--http-bind", &http, "--site-bind", &sites])
        .args(["--actor-bind", &actor, "--p2p-listen", &listen])
        .args(arguments)
        .env("KUBECONFIG", &kubeconfig)
        .envs(variables.iter().map(|(key, value)| (key, value)));
    let process = Process::start(name, &command, plan.folder.join(format!("{name}.log")))?;
    Ok(Replica { process, http: format!("http://{http}"), sites })
}

async fn await_provider(client: &Client, namespace: &str, operator: &Process) -> Result<Wallet, KitError> {
    let providers: Api<HostingProvider> = Api::namespaced(client.clone(), namespace);
    let name = operator
        .ready(READY, async || {
            let provider = providers.get("default").await.map_err(|error| error.to_string())?;
            let conditions = provider.status.unwrap_or_default().conditions;
            match conditions.iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == "True" => Ok(provider.spec.identity.key_secret_ref.name),
                Some(ready) => Err(format!("HostingProvider: {} {}", ready.reason, ready.message)),
                None => Err("HostingProvider has no conditions yet".to_owned()),
            }
        })
        .await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get(&name).await.map_err(KitError::kubernetes("read the identity Secret"))?;
    let seed = secret.data.as_ref().and_then(|data| data.get("identity-seed")).map(|ByteString(text)| text);
    let mut bytes = [0; 32];
    hex::decode_to_slice(seed.map_or(&[][..], Vec::as_slice), &mut bytes)
        .map_err(|error| KitError::Token(format!("the identity Secret has no readable seed: {error}")))?;
    Ok(Wallet { key: Key::from_seed(bytes) })
}

async fn start_device(client: &Client, plan: &Plan, number: usize, provider: &Did) -> Result<Device, KitError> {
    let name = format!("device-{}", number + 1);
    let folder = plan.folder.join(&name);
    std::fs::create_dir_all(&folder).map_err(KitError::file("created", &folder))?;
    let owner = Wallet::random()?;
    let (process, did, address) = run_device(&plan.executable, &name, &folder, &owner).await?;
    let grant = owner.device_grant(provider, in_future(Duration::from_hours(24)))?;
    let object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "HostingDevice",
        "metadata": {"name": name, "labels": {"device": name}},
        "spec": {"did": did.as_str(), "addresses": [address], "grant": String::from_utf8_lossy(&grant.to_json())},
    });
    let api: Api<HostingDevice> = Api::namespaced(client.clone(), &plan.namespace);
    api.patch(&name, &PatchParams::apply("dms-operator-kit"), &Patch::Apply(&object))
        .await
        .map_err(KitError::kubernetes(format!("create HostingDevice {name}")))?;
    Ok(Device { name, process, did, folder, address, owner })
}

/// Starts a device process on a port that it keeps over restarts.
async fn run_device(
    executable: &Path,
    name: &str,
    folder: &Path,
    owner: &Wallet,
) -> Result<(Process, Did, String), KitError> {
    let seed = new_seed(folder)?;
    let address = format!("/ip4/127.0.0.1/tcp/{}", free_port()?);
    let mut command = Command::new(executable);
    command
        .args([
            "device",
            "--listen",
            &address,
            "--root",
            owner.did().as_str(),
            "--public-host",
            "127.0.0.1",
            "--wire-log",
        ])
        // Sites ask for more than they use, and a small machine shall hold all that a test starts.
        .args(["--cores", "64", "--memory", "65536", "--disk", "1048576"])
        .arg("--seed-file")
        .arg(&seed)
        .arg("--dir")
        .arg(folder.join("state"));
    let process = Process::start(name, &command, folder.join("log"))?;
    let line: Value = process
        .ready(READY, async || {
            let log = process.log().map_err(|error| error.to_string())?;
            let line = log.lines().find(|line| line.starts_with("{\"") && line.contains("\"addresses\""));
            line.and_then(|line| serde_json::from_str(line).ok()).ok_or("it has not said its address yet".to_owned())
        })
        .await?;
    let did = line["did"].as_str().and_then(|did| Did::parse(did).ok());
    let did = did.ok_or_else(|| KitError::Token(format!("{name} did not say its DID: {line}")))?;
    Ok((process, did, address))
}

/// A file with the seed of a new key.
fn new_seed(folder: &Path) -> Result<PathBuf, KitError> {
    let file = folder.join("seed");
    write_private(&file, hex::encode(random::<32>()?).as_bytes())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_its_owner_reads_a_seed() {
        let folder = tempfile::tempdir().unwrap();
        // As an earlier version left it.
        std::fs::write(folder.path().join("seed"), "old").unwrap();
        let file = new_seed(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap().len(), 64);
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
