//! What every driver shares.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Client, ResourceExt as _,
    api::DynamicObject,
    runtime::{
        events::Recorder,
        reflector::{ObjectRef, Store},
    },
};

mod devices;
mod memory;
mod wake;

use serde::Deserialize as _;

pub use self::{
    devices::{DeviceHealth, SILENCES, Watched, contradiction},
    memory::Memory,
    wake::Wake,
};

use super::{
    Guarded,
    clock::Clock,
    device::adopt,
    door::Door,
    identity::Identity,
    lanes::Lanes,
    notices::{Notices, Subscriptions},
    revocation::RevocationBook,
    verdicts::Verdicts,
};
use crate::{
    api::{CapabilityRevocation, HostingDeploymentStatus, HostingDevice, HostingProvider, HostingProviderSpec, Reason},
    capability::{Did, Nanos, RevocationKey, Token},
    device::{DeviceClient, DeviceTarget, actor::Broadcaster},
    gateway::site_table::SiteTable,
    metrics::Metrics,
    plan::{place::Candidate, validate::Terms},
    store::{archive::ArchiveFetcher, publish::Publisher},
};

/// How the operator was told to work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Namespace of the operator and of the HostingProvider it serves.
    pub namespace: String,
    /// Name of that HostingProvider.
    pub provider: String,
    /// Where the provider's actor is reached.
    pub addresses: Vec<String>,
    /// Where site servers reach this operator.
    pub site_url: String,
    /// Image of the site server, with digest.
    pub site_image: String,
    /// How long the request for a new deployment lives.
    pub window: Duration,
    /// How often everything is looked at again.
    pub resync: Duration,
    /// How many objects of a kind are worked on at once.
    pub concurrency: u16,
}

/// The served HostingProvider. Its terms stand also while its store cannot be used: verdicts rest on them.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its spec.
    pub spec: HostingProviderSpec,
    /// Its terms, defaults applied.
    pub terms: Terms,
    /// Its store, or what keeps it from being used.
    pub store: Result<Storage, (Reason, String)>,
}

/// A store in use.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Reads and writes releases there.
    pub publisher: Publisher,
    /// Tells whether it is another place.
    pub place: [u8; 32],
    /// Tells whether its credentials changed.
    pub credentials: [u8; 32],
}

/// The provider, or why nothing is known of its terms yet.
pub type Serving = Result<Arc<Served>, (Reason, String)>;

/// What every driver shares.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// How the operator was told to work.
    pub settings: Settings,
    /// Who the operator is.
    pub identity: Identity,
    /// The time.
    pub clock: Clock,
    /// One for all, so that repeats become a series.
    pub recorder: Recorder,
    /// The way to devices.
    pub device_client: Arc<dyn DeviceClient>,
    /// Tells all devices at once.
    pub broadcaster: Broadcaster,
    /// Where grants are given, and what was given.
    pub door: Arc<Door>,
    /// The way to archives.
    pub archives: ArchiveFetcher,
    /// What sites are to serve.
    pub sites: SiteTable,
    /// Revocations in force.
    pub revocations: RevocationBook,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// HostingDeployments, as the watch shows them.
    pub deployments: Store<DynamicObject>,
    /// HostingDevices of the operator's namespace, as the watch shows them.
    pub devices: Store<Guarded<HostingDevice>>,
    /// HostingProviders of the operator's namespace, as the watch shows them.
    pub providers: Store<Guarded<HostingProvider>>,
    /// CapabilityRevocations, as the watch shows them.
    pub revocation_objects: Store<Guarded<CapabilityRevocation>>,
    /// Namespaces, as the watch shows them.
    pub namespaces: Store<Namespace>,
    /// Wakes passes over HostingDeployments.
    pub wake: UnboundedSender<Wake>,
    /// The way to webhooks.
    pub http: reqwest::Client,
    /// Who can be told over libp2p.
    pub subscriptions: Subscriptions,
    /// Notices to be sent.
    pub notices: Notices,
    serving: RwLock<Serving>,
    health: Mutex<HashMap<String, DeviceHealth>>,
    watched: Mutex<HashMap<String, Watched>>,
    memory: Mutex<HashMap<String, Memory>>,
    /// Verdicts reached before.
    pub verdicts: Verdicts,
    /// Turns of passes over HostingDeployments.
    pub lanes: Lanes,
}

/// The parts of a [`Context`] that are given.
pub struct Parts {
    /// See [`Context::client`].
    pub client: Client,
    /// See [`Context::settings`].
    pub settings: Settings,
    /// See [`Context::identity`].
    pub identity: Identity,
    /// See [`Context::clock`].
    pub clock: Clock,
    /// See [`Context::recorder`].
    pub recorder: Recorder,
    /// See [`Context::device_client`].
    pub device_client: Arc<dyn DeviceClient>,
    /// See [`Context::broadcaster`].
    pub broadcaster: Broadcaster,
    /// See [`Context::door`].
    pub door: Arc<Door>,
    /// See [`Context::archives`].
    pub archives: ArchiveFetcher,
    /// See [`Context::sites`].
    pub sites: SiteTable,
    /// See [`Context::revocations`].
    pub revocations: RevocationBook,
    /// See [`Context::metrics`].
    pub metrics: Arc<Metrics>,
    /// See [`Context::deployments`].
    pub deployments: Store<DynamicObject>,
    /// See [`Context::devices`].
    pub devices: Store<Guarded<HostingDevice>>,
    /// See [`Context::providers`].
    pub providers: Store<Guarded<HostingProvider>>,
    /// See [`Context::revocation_objects`].
    pub revocation_objects: Store<Guarded<CapabilityRevocation>>,
    /// See [`Context::namespaces`].
    pub namespaces: Store<Namespace>,
    /// See [`Context::wake`].
    pub wake: UnboundedSender<Wake>,
    /// See [`Context::http`].
    pub http: reqwest::Client,
    /// See [`Context::subscriptions`].
    pub subscriptions: Subscriptions,
}

impl Context {
    /// A context with nothing found out yet.
    #[must_use]
    pub fn new(parts: Parts, notices: Notices) -> Self {
        let Parts {
            client,
            settings,
            identity,
            clock,
            recorder,
            device_client,
            broadcaster,
            door,
            archives,
            sites,
            revocations,
            metrics,
            deployments,
            devices,
            providers,
            revocation_objects,
            namespaces,
            wake,
            http,
            subscriptions,
        } = parts;
        let lanes = Lanes::new(settings.concurrency);
        let waiting = format!("HostingProvider {}/{} was not looked at yet", settings.namespace, settings.provider);
        Self {
            client,
            settings,
            identity,
            clock,
            recorder,
            device_client,
            broadcaster,
            door,
            archives,
            sites,
            revocations,
            metrics,
            deployments,
            devices,
            providers,
            revocation_objects,
            namespaces,
            wake,
            http,
            subscriptions,
            notices,
            serving: RwLock::new(Err((Reason::ProviderNotReady, waiting))),
            health: Mutex::default(),
            watched: Mutex::default(),
            memory: Mutex::default(),
            verdicts: Verdicts::default(),
            lanes,
        }
    }

    /// DID of the provider.
    #[must_use]
    pub fn provider(&self) -> &Did {
        self.identity.key.did()
    }

    /// The provider, once its terms are known.
    pub fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what became of the provider, and wakes whom it concerns.
    pub fn set_serving(&self, serving: Serving) {
        let before = std::mem::replace(&mut *self.serving.write().unwrap_or_else(PoisonError::into_inner), serving);
        let differs = match (&before, &self.serving()) {
            (Ok(before), Ok(now)) => before.spec != now.spec || before.store.as_ref().err() != now.store.as_ref().err(),
            (Err(before), Err(now)) => before != now,
            _ => true,
        };
        if differs {
            self.wake(Wake::All);
        }
    }

    /// Wakes passes over HostingDeployments. Nobody listens any more only when the process ends.
    pub fn wake(&self, wake: Wake) {
        let _ = self.wake.unbounded_send(wake);
    }

    /// The HostingDeployments that something concerns.
    #[must_use]
    pub fn concerned(&self, wake: &Wake) -> Vec<Arc<DynamicObject>> {
        let concerns = |object: &DynamicObject| match wake {
            Wake::All => true,
            Wake::Revoked(key) => {
                let rests = |memory: &Memory| Some(memory.links.as_ref()?.contains(key));
                self.remember_if_known(&object.uid().unwrap_or_default(), rests).unwrap_or_default()
            }
            Wake::Device(device) => recorded_device(object).is_none_or(|recorded| recorded == *device),
            Wake::Namespace(namespace) => object.namespace().as_ref() == Some(namespace),
            Wake::Object { namespace, name } => {
                object.namespace().as_ref() == Some(namespace) && object.name_any() == *name
            }
        };
        self.deployments.state().into_iter().filter(|object| concerns(object)).collect()
    }

    /// Reads or changes what is remembered of an object.
    pub fn remember<T>(&self, uid: &str, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(locked(&self.memory).entry(uid.to_owned()).or_default())
    }

    /// Notes that a pass went well.
    pub fn calm(&self, uid: &str) {
        if let Some(memory) = locked(&self.memory).get_mut(uid) {
            (memory.failures, memory.conflicts) = (0, 0);
        }
    }

    /// Forgets what the watches do not show any more.
    pub fn forget_gone(&self) {
        let uids = |uid: Option<String>| uid.unwrap_or_default();
        let mut there: BTreeSet<String> = self.deployments.state().iter().map(|object| uids(object.uid())).collect();
        there.extend(self.devices.state().iter().map(|object| uids(object.uid())));
        there.extend(self.providers.state().iter().map(|object| uids(object.uid())));
        there.extend(self.revocation_objects.state().iter().map(|object| uids(object.uid())));
        locked(&self.memory).retain(|uid, _| there.contains(uid));
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        locked(&self.memory).remove(uid);
    }

    /// The links on which the known specs rest; nothing while one of them was not read yet.
    #[must_use]
    pub fn links_in_use(&self) -> Option<BTreeSet<RevocationKey>> {
        let mut all = BTreeSet::new();
        for object in self.served_deployments() {
            let links = |memory: &Memory| memory.links.clone();
            all.extend(self.remember_if_known(&object.uid().unwrap_or_default(), links)?);
        }
        Some(all)
    }

    /// The devices, as placement sees them.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut load: BTreeMap<String, usize> = BTreeMap::new();
        for object in self.served_deployments() {
            let chosen = self.remember_if_known(&object.uid().unwrap_or_default(), |memory| memory.device.clone());
            if let Some(device) = recorded_device(&object).or(chosen) {
                *load.entry(device).or_default() += 1;
            }
        }
        self.readable_devices()
            .iter()
            .map(|device| {
                let name = device.name_any();
                Candidate {
                    labels: device.labels().clone(),
                    unschedulable: device.spec.unschedulable.unwrap_or_default(),
                    ready: self.health(&name).ready && self.credible(&name),
                    deployments: load.get(&name).copied().unwrap_or_default(),
                    name,
                }
            })
            .collect()
    }

    /// Whether an object names the HostingProvider that is served here.
    #[must_use]
    pub fn serves(&self, object: &DynamicObject) -> bool {
        let text = |pointer| object.data.pointer(pointer).and_then(serde_json::Value::as_str);
        text("/spec/providerRef/namespace") == Some(&self.settings.namespace)
            && text("/spec/providerRef/name") == Some(&self.settings.provider)
    }

    /// Whether an object names some HostingProvider of the operator's namespace.
    #[must_use]
    pub fn is_neighbour(&self, object: &DynamicObject) -> bool {
        let namespace = object.data.pointer("/spec/providerRef/namespace").and_then(serde_json::Value::as_str);
        namespace == Some(&self.settings.namespace)
    }

    /// The watch shows other providers' objects too; their devices may have the same names.
    /// Whether this very HostingDeployment is there.
    #[must_use]
    pub fn is_there(&self, namespace: &str, name: &str, uid: &str) -> bool {
        let reference = ObjectRef::new_with(name, super::deployment::resource()).within(namespace);
        self.deployments.get(&reference).is_some_and(|object| object.uid().as_deref() == Some(uid))
    }

    fn served_deployments(&self) -> Vec<Arc<DynamicObject>> {
        self.deployments.state().into_iter().filter(|object| self.serves(object)).collect()
    }

    fn readable_devices(&self) -> Vec<HostingDevice> {
        self.devices.state().iter().filter_map(|device| device.0.as_ref().ok().cloned()).collect()
    }

    fn remember_if_known<T>(&self, uid: &str, read: impl FnOnce(&Memory) -> Option<T>) -> Option<T> {
        locked(&self.memory).get(uid).and_then(read)
    }

    /// The device of this name, ready to be called.
    ///
    /// # Errors
    /// The reason and the sentence for a condition.
    pub fn target(&self, device: &str) -> Result<DeviceTarget, (Reason, String)> {
        let found = self.readable_devices().into_iter().find(|found| found.name_any() == device);
        let Some(found) = found else {
            return Err((
                Reason::DeviceNotFound,
                format!(
                    "HostingDevice {device}, on which this runs, does not exist. Create it again, or delete this object \
                     with the annotation hosting.nunet.io/cleanup=Abandon"
                ),
            ));
        };
        target(&found)
    }

    /// The labels of a namespace, once the watch has shown it.
    pub fn labels_of(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.namespaces.find(|found| found.name_any() == namespace).map(|found| found.labels().clone())
    }

    /// What the owners of all devices have granted.
    #[must_use]
    pub fn grants(&self) -> Vec<Token> {
        let devices = self.readable_devices();
        devices.iter().filter_map(|device| target(device).ok()?.grant).collect()
    }

    /// Ids recorded for deployments on a device, other than one object's own, since the device was last adopted.
    #[must_use]
    pub fn recorded_ids(&self, device: &str, except_uid: &str) -> BTreeSet<String> {
        let adopted = self
            .devices
            .find(|found| found.name_any() == device)
            .and_then(|found| adopt::time(&*found, self.clock.now().to_timestamp()));
        self.served_deployments()
            .iter()
            .filter(|object| object.uid().as_deref() != Some(except_uid))
            .filter(|object| recorded_device(object).as_deref() == Some(device))
            .filter(|object| !adopted.is_some_and(|time| adopt::gave_up(time, object, self.settings.window)))
            .filter_map(|object| object.data.pointer("/status/deployment/id")?.as_str().map(str::to_owned))
            .collect()
    }
}

/// The device on which an object's deployment was begun.
pub fn recorded_device(object: &DynamicObject) -> Option<String> {
    object.data.pointer("/status/deployment/device")?.as_str().map(str::to_owned)
}

/// How to call a device.
///
/// # Errors
/// The reason and the sentence for a condition.
pub fn target(device: &HostingDevice) -> Result<DeviceTarget, (Reason, String)> {
    let invalid = |message: String| (Reason::DeviceInvalid, message);
    let did = Did::parse(&device.spec.did)
        .map_err(|error| invalid(format!("spec.did is not a DID that can be used here: {error}")))?;
    let grant = match device.spec.grant.as_deref() {
        None => None,
        Some(text) => Some(
            Token::parse(text.trim().as_bytes())
                .map_err(|refusal| invalid(format!("spec.grant cannot be read: {refusal}")))?,
        ),
    };
    Ok(DeviceTarget { did, addresses: device.spec.addresses.clone(), grant })
}

/// A lock that outlives a panic of another holder: what it guards can be found out again.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The status of an object; the default for one that has none yet.
///
/// # Errors
/// A status that cannot be read is not the same as none: what it records may run.
pub fn status_of(object: &DynamicObject) -> Result<HostingDeploymentStatus, serde_json::Error> {
    object
        .data
        .get("status")
        .map_or_else(|| Ok(HostingDeploymentStatus::default()), HostingDeploymentStatus::deserialize)
}

/// A time for a status field, cut to whole seconds as it is stored.
#[must_use]
pub fn stored_time(at: Nanos) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Time {
    k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(crate::plan::conditions::whole_seconds(at))
}
