//! The controller: one driver a kind, and what they share.
//!
//! ```text
//! dereference → validate → authorise → observe → plan → apply → publish status
//! ```
//!
//! Only this room talks to the API server. It runs in the process that holds the lease; a standby neither dials nor
//! listens with the provider's key.

pub mod actor;
pub mod asking;
pub mod checkpoint;
pub mod clock;
pub mod context;
pub mod counted;
pub mod deployment;
mod device;
pub mod door;
mod error;
mod events;
pub mod identity;
mod lanes;
pub mod lease;
pub mod notices;
mod provider;
mod revisions;
pub mod revocation;
mod tombstone;
mod verdicts;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    Stream, StreamExt as _,
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::DynamicObject,
    core::DeserializeGuard,
    runtime::{
        Controller, WatchStreamExt as _,
        controller::{Action, Config},
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use tokio_util::sync::CancellationToken;

use self::context::{Context, Parts, Wake};
pub use self::error::Error;
use crate::{
    api::{CapabilityRevocation, HostingDevice, HostingProvider},
    plan::backoff,
};

/// A kind whose objects may turn out unreadable: those are told of, and the others go on.
pub type Guarded<K> = DeserializeGuard<K>;

/// The controllers, before they run: their stores fill once they do.
pub struct Drivers {
    deployments: Controller<DynamicObject>,
    devices: Controller<Guarded<HostingDevice>>,
    providers: Controller<Guarded<HostingProvider>>,
    revocations: Controller<Guarded<CapabilityRevocation>>,
    namespaces: Store<Namespace>,
    woken: UnboundedReceiver<Wake>,
}

/// Watches the kinds. `namespace` is the operator's own.
#[must_use]
pub fn watch(client: &Client, namespace: &str, stop: &CancellationToken) -> (Drivers, UnboundedSender<Wake>) {
    let everywhere = Api::<DynamicObject>::all_with(client.clone(), &deployment::resource());
    let config = watcher::Config::default().any_semantic();
    let (wake, woken) = mpsc::unbounded();
    let drivers = Drivers {
        deployments: Controller::new_with(everywhere, config.clone(), deployment::resource()),
        devices: Controller::new(Api::namespaced(client.clone(), namespace), config.clone()),
        providers: Controller::new(Api::namespaced(client.clone(), namespace), config.clone()),
        revocations: Controller::new(Api::all(client.clone()), config),
        namespaces: watch_namespaces(client, stop, wake.clone()),
        woken,
    };
    (drivers, wake)
}

impl Drivers {
    /// HostingDeployments, as the watch shows them.
    #[must_use]
    pub fn deployments(&self) -> Store<DynamicObject> {
        self.deployments.store()
    }

    /// HostingDevices, as the watch shows them.
    #[must_use]
    pub fn devices(&self) -> Store<Guarded<HostingDevice>> {
        self.devices.store()
    }

    /// HostingProviders, as the watch shows them.
    #[must_use]
    pub fn providers(&self) -> Store<Guarded<HostingProvider>> {
        self.providers.store()
    }

    /// CapabilityRevocations, as the watch shows them.
    #[must_use]
    pub fn revocation_objects(&self) -> Store<Guarded<CapabilityRevocation>> {
        self.revocations.store()
    }

    /// Namespaces, as the watch shows them.
    #[must_use]
    pub fn namespaces(&self) -> Store<Namespace> {
        self.namespaces.clone()
    }

    /// Runs until `stop`, then lets passes under way end.
    pub async fn run(
        self,
        parts: Parts,
        reports: impl Stream<Item = (String, String)> + Send + 'static,
        stop: CancellationToken,
    ) {
        let (notices, notices_taken) = notices::Notices::new();
        let context = Arc::new(Context::new(parts, notices));
        context.door.open(&context);
        let Self { deployments, devices, providers, revocations, namespaces: _, woken } = self;
        let config = Config::default().concurrency(context.settings.concurrency);
        // Each of these bounds itself: a pass over a deployment by its turns, one over a device by being the only one.
        let unbounded = Config::default().concurrency(0);
        let concerned = {
            let context = Arc::clone(&context);
            move |wake| {
                let objects = context.concerned(&wake);
                if let (Wake::Revoked(key), false) = (&wake, objects.is_empty()) {
                    context.revocations.hold(key);
                }
                let objects = objects.into_iter();
                let named = |object: Arc<DynamicObject>| ObjectRef::from_obj_with(&*object, deployment::resource());
                futures::stream::iter(objects.map(named))
            }
        };
        let deployments = deployments
            .reconcile_on(woken.flat_map(concerned))
            .reconcile_on(
                reports.map(|(namespace, name)| ObjectRef::new_with(&name, deployment::resource()).within(&namespace)),
            )
            .with_config(unbounded.clone())
            .graceful_shutdown_on(stopped(&stop))
            .run(
                |object, context| {
                    let pass = Box::pin(deployment::reconcile(Arc::clone(&object), Arc::clone(&context)));
                    measured("HostingDeployment", &object, context, pass)
                },
                again::<DynamicObject>,
                Arc::clone(&context),
            );
        let devices = devices.with_config(unbounded).graceful_shutdown_on(stopped(&stop)).run(
            |object, context| {
                let pass = guarded(&object, &context, |object, context| Box::pin(device::reconcile(object, context)));
                measured("HostingDevice", &object, context, pass)
            },
            again::<Guarded<HostingDevice>>,
            Arc::clone(&context),
        );
        let providers = providers.with_config(config.clone()).graceful_shutdown_on(stopped(&stop)).run(
            |object, context| {
                let pass = guarded(&object, &context, |object, context| Box::pin(provider::reconcile(object, context)));
                measured("HostingProvider", &object, context, pass)
            },
            again::<Guarded<HostingProvider>>,
            Arc::clone(&context),
        );
        let kept = context.revocations.changes();
        let kept = kept.map(|revocation::Source { namespace, name }| ObjectRef::new(&name).within(&namespace));
        let revocations = revocations.reconcile_on(kept).with_config(config).graceful_shutdown_on(stopped(&stop)).run(
            |object, context| {
                let pass =
                    guarded(&object, &context, |object, context| Box::pin(revocation::reconcile(object, context)));
                measured("CapabilityRevocation", &object, context, pass)
            },
            again::<Guarded<CapabilityRevocation>>,
            Arc::clone(&context),
        );
        context.clock.clone().first_comparison(&context.client, &stop).await;
        let sweep = tokio::spawn(tombstone::sweep(Arc::clone(&context)));
        let sweep_revocations = tokio::spawn(revocation::sweep(Arc::clone(&context)));
        let sweep_grants = tokio::spawn(door::sweep(Arc::clone(&context)));
        let closing = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop.clone());
            async move {
                stop.cancelled().await;
                context.lanes.close();
            }
        });
        let telling = tokio::spawn(notices::send_all(Arc::clone(&context), notices_taken));
        let gone = tokio::spawn(device::forget_gone(Arc::clone(&context)));
        let clock = tokio::spawn(context.clock.clone().watch(context.client.clone()));
        tokio::join!(drain(deployments), drain(devices), drain(providers), drain(revocations));
        sweep.abort();
        sweep_revocations.abort();
        sweep_grants.abort();
        gone.abort();
        closing.abort();
        telling.abort();
        clock.abort();
    }
}

type Failure = kube::runtime::controller::Error<Error, watcher::Error>;

fn stopped(stop: &CancellationToken) -> impl Future<Output = ()> + Send + Sync + 'static {
    let stop = stop.clone();
    async move { stop.cancelled().await }
}

/// The results of single passes were dealt with where they arose; the stream only has to be polled.
async fn drain<T>(results: impl Stream<Item = Result<T, Failure>>) {
    results
        .for_each(|result| async move {
            match result {
                Err(kube::runtime::controller::Error::QueueError(error)) => {
                    tracing::warn!(%error, "objects cannot be watched; tried again");
                }
                Err(error) => tracing::debug!(?error, "a pass ended with an error"),
                Ok(_) => {}
            }
        })
        .await;
}

/// A pass, boxed: the compiler cannot see through its type that it may move between threads.
type Pass = futures::future::BoxFuture<'static, Result<Action, Error>>;

fn measured<K>(kind: &'static str, object: &Arc<K>, context: Arc<Context>, pass: Pass) -> Pass
where
    K: Resource + 'static,
{
    let about = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
    let uid = object.uid().unwrap_or_default();
    Box::pin(async move {
        let started = Instant::now();
        let span = tracing::debug_span!("pass", kind, object = about);
        let in_flight = context.metrics.pass_started(kind);
        let result = tracing::Instrument::instrument(pass, span).await;
        drop(in_flight);
        context.metrics.pass_ended(kind, started.elapsed(), result.as_ref().err().map(Error::category));
        // A pass over a deployment keeps count by itself: one that ends well may still wait for a device.
        if result.is_ok() && kind != "HostingDeployment" {
            context.calm(&uid);
        }
        match &result {
            Err(Error::Conflict(_) | Error::Holding(_)) | Ok(_) => {}
            Err(error) => {
                tracing::warn!(kind, object = about, error = chain(error), "a pass failed and is tried again");
            }
        }
        result
    })
}

/// An error with its causes, for a log line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Passes a readable object on; an unreadable one is told of once a generation.
fn guarded<K>(object: &Guarded<K>, context: &Arc<Context>, pass: fn(Arc<K>, Arc<Context>) -> Pass) -> Pass
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let context = Arc::clone(context);
    let invalid = match &object.0 {
        Ok(readable) => return pass(Arc::new(readable.clone()), context),
        Err(invalid) => invalid.error.clone(),
    };
    let uid = object.uid().unwrap_or_default();
    let generation = object.meta().generation;
    let about = object.object_ref(&());
    Box::pin(async move {
        let told = context.remember(&uid, |memory| std::mem::replace(&mut memory.reported, generation) == generation);
        if !told {
            let note = format!("the object cannot be read, so nothing is changed for it: {invalid}");
            let reason = crate::api::Reason::InvalidObject.as_str();
            events::publish(&context, &about, true, reason, "Read", &note).await;
        }
        Ok(Action::await_change())
    })
}

// The signature is the Controller's.
#[allow(clippy::needless_pass_by_value)]
fn again<K: Resource>(object: Arc<K>, error: &Error, context: Arc<Context>) -> Action {
    let jitter: u8 = rand::random();
    let uid = object.uid().unwrap_or_default();
    Action::requeue(match error {
        Error::Conflict(_) => {
            let conflicts = context.remember(&uid, |memory| {
                memory.conflicts = memory.conflicts.saturating_add(1);
                memory.conflicts
            });
            backoff::CONFLICT.pause(conflicts, jitter)
        }
        Error::Holding(_)
        | Error::Api { .. }
        | Error::Timeout { .. }
        | Error::Finalizer { .. }
        | Error::Random(_)
        | Error::Mint(_) => {
            let failures = context.remember(&uid, |memory| {
                memory.failures = memory.failures.saturating_add(1);
                memory.failures
            });
            backoff::OUTSIDE.pause(failures, jitter).min(if matches!(error, Error::Holding(_)) {
                Duration::from_secs(5)
            } else {
                backoff::OUTSIDE.cap
            })
        }
    })
}

/// Keeps the labels of all namespaces at hand, and wakes what is in one whose labels changed.
fn watch_namespaces(client: &Client, stop: &CancellationToken, wake: UnboundedSender<Wake>) -> Store<Namespace> {
    let (reader, writer) = reflector::store();
    let mut stream = watcher(Api::<Namespace>::all(client.clone()), watcher::Config::default().any_semantic())
        .default_backoff()
        .modify(|namespace| namespace.managed_fields_mut().clear())
        .reflect(writer)
        .touched_objects()
        .boxed();
    let stop = stop.clone();
    tokio::spawn(async move {
        let mut labels = HashMap::new();
        loop {
            let touched = tokio::select! {
                () = stop.cancelled() => return,
                Some(touched) = stream.next() => touched,
                else => return,
            };
            match touched {
                Ok(namespace) => {
                    let (name, now) = (namespace.name_any(), namespace.labels().clone());
                    if labels.insert(name.clone(), now.clone()).as_ref() != Some(&now) {
                        // Nobody listens any more only when the process ends.
                        let _ = wake.unbounded_send(Wake::Namespace(name));
                    }
                }
                Err(error) => tracing::warn!(%error, "namespaces cannot be watched; tried again"),
            }
        }
    });
    reader
}
