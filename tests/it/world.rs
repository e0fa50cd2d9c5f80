//! What tests of whole deployments share: an installation, tenants, and questions to ask of the cluster.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use dms_operator::{
    api::{HostingDeployment, HostingDeploymentStatus, HostingDevice, HostingDeviceStatus, names::metadata},
    capability::{Nanos, Token},
    controller::clock::wall,
    dev::{
        ControlPlane,
        installation::{Installation, Plan},
        wallet::Wallet,
    },
    device::dms::{DeploymentState, path},
    store::Release,
};
use k8s_openapi::api::{core::v1::ConfigMap, events::v1::Event};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::cluster::{self, eventually, scratch, shared};

/// Starts an installation of its own, its operator speaking with the chart's ServiceAccount.
pub async fn installation(name: &str, devices: usize, arguments: &[&str], variables: &[(&str, &str)]) -> Installation {
    installation_with(name, devices, arguments, variables, json!({})).await
}

/// The same, with more in the provider's spec.
pub async fn installation_with(
    name: &str,
    devices: usize,
    arguments: &[&str],
    variables: &[(&str, &str)],
    provider: Value,
) -> Installation {
    let control_plane = shared().await;
    let namespace = cluster::install(&control_plane.client().await.unwrap(), &[]).await;
    installation_on(control_plane, namespace, name, devices, arguments, variables, provider).await
}

/// The same in a namespace, with the chart in it, of any control plane.
pub async fn installation_on(
    control_plane: &ControlPlane,
    namespace: String,
    name: &str,
    devices: usize,
    arguments: &[&str],
    variables: &[(&str, &str)],
    provider: Value,
) -> Installation {
    let plan = Plan {
        executable: PathBuf::from(env!("CARGO_BIN_EXE_dms-operator")),
        folder: scratch(name),
        credentials: control_plane.service_account(&namespace, "dms-operator").await.unwrap(),
        namespace,
        devices,
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        variables: variables.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        provider,
    };
    let client = control_plane.client().await.unwrap();
    Installation::start(client, plan).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A namespace, an owner with a grant for it, and what the owner applies there.
pub struct Tenant<'a> {
    pub installation: &'a Installation,
    pub client: Client,
    pub namespace: String,
    pub owner: Wallet,
    pub grant: Token,
}

impl<'a> Tenant<'a> {
    pub async fn new(installation: &'a Installation) -> Self {
        let client = installation.client.clone();
        let namespace = cluster::namespace(&client).await;
        let owner = Wallet::random().unwrap();
        let grant = installation.grant(owner.did(), &namespace).unwrap();
        Self { installation, client, namespace, owner, grant }
    }

    /// Writes a ConfigMap with files, and gives the id of the release that they make.
    pub async fn files(&self, name: &str, files: &BTreeMap<String, String>) -> String {
        let map = ConfigMap {
            metadata: ObjectMeta { name: Some(name.into()), ..Default::default() },
            data: Some(files.clone()),
            ..Default::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        api.patch(
            name,
            &PatchParams::apply("tenant").force(),
            &Patch::Apply(json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": map.data,
            })),
        )
        .await
        .unwrap();
        release_of(files)
    }

    /// An unsigned object.
    pub fn object(&self, name: &str, release: &str) -> Value {
        self.installation.deployment(&self.namespace, name, self.owner.did(), release, name)
    }

    /// Signs with the owner's key, now.
    pub fn sign(&self, mut object: Value) -> Value {
        self.owner.sign(&mut object, &self.grant, self.installation.provider.did(), wall()).unwrap();
        object
    }

    /// Applies as `kubectl apply --server-side` does.
    pub async fn apply(&self, object: &Value) -> Result<DynamicObject, kube::Error> {
        let name = object["metadata"]["name"].as_str().unwrap();
        self.api().patch(name, &PatchParams::apply("tenant").force(), &Patch::Apply(object)).await
    }

    /// Files, object, signature, apply.
    pub async fn deploy(&self, name: &str, files: &BTreeMap<String, String>) -> String {
        let release = self.files(name, files).await;
        self.apply(&self.sign(self.object(name, &release))).await.unwrap();
        release
    }

    pub fn api(&self) -> Api<DynamicObject> {
        let resource = ApiResource::erase::<HostingDeployment>(&());
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub async fn get(&self, name: &str) -> Option<DynamicObject> {
        self.api().get_opt(name).await.unwrap()
    }

    pub async fn status(&self, name: &str) -> HostingDeploymentStatus {
        let object = self.get(name).await.unwrap_or_else(|| panic!("{name} is gone"));
        object.data.get("status").map(|status| serde_json::from_value(status.clone()).unwrap()).unwrap_or_default()
    }

    /// Waits until a condition has a value and a reason. Gives the whole status.
    pub async fn condition(&self, name: &str, kind: &str, value: &str, reason: &str) -> HostingDeploymentStatus {
        self.condition_within(name, kind, value, reason, Duration::from_secs(90)).await
    }

    pub async fn condition_within(
        &self,
        name: &str,
        kind: &str,
        value: &str,
        reason: &str,
        limit: Duration,
    ) -> HostingDeploymentStatus {
        let until = tokio::time::Instant::now() + limit;
        loop {
            let status = self.status(name).await;
            let found = status.conditions.iter().find(|condition| condition.type_ == kind);
            if found.is_some_and(|found| found.status == value && found.reason == reason) {
                return status;
            }
            assert!(
                tokio::time::Instant::now() < until,
                "{name}: {kind} is not {value}/{reason} within {limit:?}: {status:#?}\noperator:\n{}",
                self.installation.operator.log_end()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn ready(&self, name: &str) -> HostingDeploymentStatus {
        self.condition(name, "Ready", "True", "Succeeded").await
    }

    /// The Events about an object.
    pub async fn events(&self, name: &str) -> Vec<Event> {
        events(&self.client, &self.namespace, name).await
    }

    /// Takes the owner's grant back. Gives the object, and where it was applied.
    pub async fn revoke(&self) -> (Api<DynamicObject>, String) {
        let revocation = Token::revoke(&self.installation.provider.key, &self.grant).unwrap();
        let name = name();
        let object = json!({
            "apiVersion": "hosting.nunet.io/v1alpha1",
            "kind": "CapabilityRevocation",
            "metadata": {"name": name},
            "spec": {"token": String::from_utf8(revocation.to_json()).unwrap()},
        });
        let resource = ApiResource::erase::<dms_operator::api::CapabilityRevocation>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &resource);
        api.patch(&name, &PatchParams::apply("tenant").force(), &Patch::Apply(&object)).await.unwrap();
        (api, name)
    }

    /// Waits until the object is gone.
    pub async fn gone(&self, name: &str) {
        let operator = &self.installation.operator;
        cluster::eventually(&format!("{name} goes"), async || match self.get(name).await {
            None => Ok(()),
            Some(object) => Err(format!("{:#}\noperator:\n{}", object.data["status"], operator.log_end())),
        })
        .await;
    }
}

/// The Events about an object of a namespace.
pub async fn events(client: &Client, namespace: &str, name: &str) -> Vec<Event> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let mut events = api.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| event.regarding.as_ref().is_some_and(|about| about.name.as_deref() == Some(name)));
    events
}

/// Value, reason and message of a condition; empty without it.
pub fn condition<'a>(status: &'a HostingDeploymentStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
    let found = status.conditions.iter().find(|condition| condition.type_ == kind);
    found.map_or(("", "", ""), |found| (&*found.status, &*found.reason, &*found.message))
}

/// Waits until a condition of a HostingDevice has a value and a reason. Gives its message and the whole status.
pub async fn device_says(
    installation: &Installation,
    name: &str,
    (kind, value, reason): (&str, &str, &str),
) -> (String, HostingDeviceStatus) {
    let api: Api<HostingDevice> = Api::namespaced(installation.client.clone(), &installation.plan.namespace);
    eventually(&format!("{name}: {kind} is {value}/{reason}"), async || {
        let status = api.get(name).await.unwrap().status.unwrap_or_default();
        let found = status.conditions.iter().find(|condition| condition.type_ == kind);
        match found {
            Some(found) if found.status == value && found.reason == reason => Ok((found.message.clone(), status)),
            _ => Err(format!("{status:#?}\noperator:\n{}", installation.operator.log_end())),
        }
    })
    .await
}

/// What makes a tenant, while the installation is being changed.
pub struct Seat {
    namespace: String,
    owner: Wallet,
    grant: Token,
}

impl Seat {
    pub fn at(self, installation: &Installation) -> Tenant<'_> {
        let Self { namespace, owner, grant } = self;
        Tenant { installation, client: installation.client.clone(), namespace, owner, grant }
    }
}

impl Tenant<'_> {
    pub fn seat(&self) -> Seat {
        Seat { namespace: self.namespace.clone(), owner: self.owner.clone(), grant: self.grant.clone() }
    }
}

/// The release id that `kubectl hosting sign` computes for these files.
pub fn release_of(files: &BTreeMap<String, String>) -> String {
    let files: dms_operator::store::Files =
        files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes().into())).collect();
    Release::from_files(&files).unwrap().id().to_string()
}

/// A page of random bytes.
pub fn page() -> (BTreeMap<String, String>, String) {
    let body = format!("<h1>{}</h1>", uuid::Uuid::new_v4());
    (BTreeMap::from([("index.html".to_owned(), body.clone())]), body)
}

/// A name that no other test uses.
pub fn name() -> String {
    format!("t{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
}

/// What a browser sees.
pub async fn fetch(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.unwrap();
    let code = response.status().as_u16();
    (code, response.text().await.unwrap())
}

/// Waits until a second went by without a pass over a HostingDeployment: what happens then is caused by what comes then.
pub async fn quiet(installation: &Installation) {
    let passes = async || {
        let text = reqwest::get(format!("{}/metrics", installation.http)).await.unwrap().text().await.unwrap();
        let ours =
            |line: &&str| line.starts_with("dms_operator_reconciles") && line.contains("{kind=\"HostingDeployment\"}");
        text.lines().filter(ours).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut last = (passes().await, Instant::now());
    eventually("passes end", async || {
        let now = passes().await;
        if now != last.0 {
            last = (now, Instant::now());
        }
        if last.1.elapsed() >= Duration::from_secs(1) { Ok(()) } else { Err(last.0.join(", ")) }
    })
    .await;
}

/// Waits until a site serves no more, and says when that was seen.
pub async fn ended(url: &str) -> Nanos {
    cluster::within(Duration::from_mins(2), "the site ends", async || match reqwest::get(url).await {
        Ok(response) if response.status() == 200 => Err("it still serves".to_owned()),
        _ => Ok(wall()),
    })
    .await
}

/// The behaviours that a device was asked, from its own wire log. What everybody is told is left out: each operator tells of
/// all revocations that it sees, those of other tests too.
pub fn asked(installation: &Installation, device: usize) -> Vec<String> {
    let log = installation.devices[device].folder.join("state/wire.log");
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["be"].as_str().unwrap().to_owned());
    all.filter(|behaviour| behaviour != path::CAP_REVOKE_BROADCAST).collect()
}

/// How many times all devices were asked for a new deployment, sentinels not counted.
pub fn creations(installation: &Installation) -> usize {
    (0..installation.devices.len())
        .map(|device| {
            asked(installation, device).iter().filter(|path| path.as_str() == "/dms/node/deployment/new").count()
        })
        .sum::<usize>()
        .saturating_sub(installation.devices.len())
}

/// Waits until a device was asked for a behaviour a few more times.
pub async fn looks(installation: &Installation, device: usize, behaviour: &str, more: usize) {
    let count = || asked(installation, device).iter().filter(|path| path.ends_with(behaviour)).count();
    let before = count();
    eventually("more looks at the device", async || {
        let now = count();
        if now >= before + more { Ok(()) } else { Err(format!("{now} of {}", before + more)) }
    })
    .await;
}

/// The deployments that a device ever took for an object and still knows, over or not, from its own state on disk.
pub fn deployments_of(
    installation: &Installation,
    device: usize,
    namespace: &str,
    name: &str,
) -> BTreeMap<String, DeploymentState> {
    let file = installation.devices[device].folder.join("state/state.json");
    let state: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let deployments = state["deployments"].as_object().unwrap().iter();
    deployments
        .filter(|(_, record)| {
            record["metadata"][metadata::NAMESPACE] == namespace && record["metadata"][metadata::NAME] == name
        })
        .map(|(id, record)| (id.clone(), serde_json::from_value(record["state"].clone()).unwrap()))
        .collect()
}

/// Where the site of an object listens, as its device, the first, has written down.
pub fn port_of(installation: &Installation, status: &HostingDeploymentStatus) -> u16 {
    let id = status.deployment.clone().unwrap().id.unwrap();
    let file = installation.devices[0].folder.join("state/state.json");
    let state: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let allocations = state["deployments"][&id]["allocations"].as_object().unwrap();
    let ports = allocations.values().next().unwrap()["ports"].as_object().unwrap();
    ports.keys().next().unwrap().parse().unwrap()
}

/// What store and devices had been asked at a moment.
pub struct Before {
    store: usize,
    devices: Vec<usize>,
}

impl Before {
    pub fn now(installation: &Installation) -> Self {
        let devices = (0..installation.devices.len()).map(|device| asked(installation, device).len()).collect();
        Self { store: installation.s3.requests().len(), devices }
    }

    /// Since then the operator only looked after itself, as it does without any deployment: whose the prefix of the
    /// bucket is, and at each heartbeat whether the device lives and still knows the operator's own record.
    pub fn assert_only_heartbeats_since(&self, installation: &Installation) {
        self.assert_store_left_alone(installation);
        self.assert_asked(installation, |earlier, behaviour| {
            // Nobody but a heartbeat asks for a sign of life, right after it for one status, and then at times whether the
            // device offers resources, and which.
            match behaviour {
                path::PEERS_SELF => true,
                path::DEPLOYMENT_STATUS => earlier == Some(path::PEERS_SELF),
                path::ONBOARDING_STATUS => earlier == Some(path::DEPLOYMENT_STATUS),
                path::RESOURCES_FREE => earlier == Some(path::ONBOARDING_STATUS),
                _ => false,
            }
        });
    }

    /// The same beside a deployment that runs: it was looked at, and nothing was to change.
    pub fn assert_only_looks_since(&self, installation: &Installation) {
        self.assert_store_left_alone(installation);
        let looks = [
            path::PEERS_SELF,
            path::ONBOARDING_STATUS,
            path::RESOURCES_FREE,
            path::DEPLOYMENT_LIST,
            path::DEPLOYMENT_MANIFEST,
            path::DEPLOYMENT_STATUS,
        ];
        self.assert_asked(installation, |_, behaviour| looks.contains(&behaviour));
    }

    fn assert_store_left_alone(&self, installation: &Installation) {
        let requests = installation.s3.requests().split_off(self.store);
        let strange: Vec<_> = requests
            .iter()
            .filter(|request| request.method != "GET" || !request.path.ends_with("/installation"))
            .collect();
        assert!(strange.is_empty(), "the store was asked: {strange:#?}");
    }

    /// Every behaviour asked since is as expected, given the one before it.
    fn assert_asked(&self, installation: &Installation, expected: impl Fn(Option<&str>, &str) -> bool) {
        for (device, &before) in self.devices.iter().enumerate() {
            let asked = asked(installation, device);
            for (number, behaviour) in asked.iter().enumerate().skip(before) {
                let earlier = number.checked_sub(1).map(|earlier| asked[earlier].as_str());
                assert!(
                    expected(earlier, behaviour),
                    "device {device} was asked {behaviour} in {:#?}",
                    &asked[before..]
                );
            }
        }
    }
}

/// How many site servers run on a device: its child processes.
pub fn sites_running(installation: &Installation, device: usize) -> usize {
    let parent = installation.devices[device].process.pid().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.unwrap().path().join("stat")).ok()?;
        // `pid (name) state ppid …`, where the name may hold anything.
        let rest = stat.rsplit_once(") ")?.1.to_owned();
        let mut words = rest.split(' ');
        Some((words.next()?.to_owned(), words.next()?.to_owned()))
    });
    stats.filter(|(state, ppid)| state != "Z" && *ppid == parent).count()
}

/// Lets a device misbehave; an empty list ends it.
pub fn misbehave(installation: &Installation, device: usize, faults: &str) {
    // In one piece: the device may read it at any moment.
    let file = installation.devices[device].folder.join("state/faults");
    let next = file.with_extension("next");
    std::fs::write(&next, faults).unwrap();
    std::fs::rename(next, file).unwrap();
}
