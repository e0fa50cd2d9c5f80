//! Counters and gauges, all under the prefix `dms_operator`; `docs/metrics.md` describes them for people.
//!
//! Labels come from closed sets, or name an object and go when it goes, so the number of series is bounded by the
//! number of objects.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Metric, Registry},
};

mod link;
mod usage;

pub use self::link::LinkFigures;
use self::{link::LinkCollector, usage::Usage};
use crate::usage::Increment;

/// Media type of [`Metrics::encode`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    kind: &'static str,
    category: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    behaviour: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    device: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FreeLabels {
    device: String,
    resource: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabels {
    r#type: &'static str,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ObjectLabels {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

type Totals<L> = Family<L, Counter<u64, AtomicU64>>;

/// What became of one request to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// A verified reply came.
    Answered,
    /// Nothing left this process.
    NotSent,
    /// No reply came in time.
    Silent,
    /// What came is no reply to it.
    BadReply,
    /// The grant lacks the capability, so nothing was sent.
    NotGranted,
}

impl CallOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotSent => "not_sent",
            Self::Silent => "silent",
            Self::BadReply => "bad_reply",
            Self::NotGranted => "not_granted",
        }
    }
}

/// A stage of the pass over a HostingDeployment that takes time (docs/architecture.md, "One pass").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The signatures are verified, and the accepted revision is kept.
    Authorise,
    /// Files are brought into the store.
    Publish,
    /// The device is asked what is there.
    Observe,
    /// The device is asked to start or stop something; writing the status meanwhile is not in it.
    Apply,
    /// The status is written.
    Status,
}

impl Stage {
    /// The label of the stage.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Authorise => "authorise",
            Self::Publish => "publish",
            Self::Observe => "observe",
            Self::Apply => "apply",
            Self::Status => "status",
        }
    }
}

/// Everything that is counted. One for the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    passes: Totals<KindLabels>,
    failures: Totals<FailureLabels>,
    durations: Family<KindLabels, Histogram, fn() -> Histogram>,
    stages: Family<StageLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<KindLabels, Gauge>,
    verdicts: Totals<ReasonLabels>,
    device_calls: Totals<CallLabels>,
    device_failures: Totals<DeviceLabels>,
    device_ready: Family<DeviceLabels, Gauge>,
    device_heartbeat: Family<DeviceLabels, Gauge<f64, AtomicU64>>,
    device_free: Family<FreeLabels, Gauge<f64, AtomicU64>>,
    link: LinkCollector,
    events: Totals<EventLabels>,
    leader: Gauge,
    usage: Usage,
    token_expires: Family<ObjectLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("dms_operator"),
            passes: Family::default(),
            failures: Family::default(),
            // From 5 ms, where a quiet pass lies, to 82 s, where it is given up.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 15))),
            stages: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 17))),
            in_flight: Family::default(),
            verdicts: Family::default(),
            device_calls: Family::default(),
            device_failures: Family::default(),
            device_ready: Family::default(),
            device_heartbeat: Family::default(),
            device_free: Family::default(),
            link: LinkCollector::default(),
            events: Family::default(),
            leader: Gauge::default(),
            usage: Usage::default(),
            token_expires: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let Self {
            registry,
            passes,
            failures,
            durations,
            stages,
            in_flight,
            verdicts,
            device_calls,
            device_failures,
            device_ready,
            device_heartbeat,
            device_free,
            link,
            events,
            leader,
            usage,
            token_expires,
        } = self;
        add(registry, "reconciles", "Passes over objects", passes);
        add(registry, "reconcile_failures", "Passes that ended early, by what was in the way", failures);
        add(registry, "reconcile_duration_seconds", "Length of passes", durations);
        let help = "Length of the stages of passes over HostingDeployments";
        add(registry, "reconcile_stage_duration_seconds", help, stages);
        add(registry, "reconciles_in_flight", "Passes that are running", in_flight);
        add(registry, "token_verdicts", "Judgements of signed specs, by reason", verdicts);
        let help = "When the authorisation of what is hosted ends, in unix seconds";
        add(registry, "token_expires_timestamp_seconds", help, token_expires);
        add(registry, "device_calls", "Requests to devices, by behaviour and outcome", device_calls);
        add(registry, "device_call_failures", "Requests that a device did not answer usably", device_failures);
        add(registry, "device_ready", "Whether the device can be used", device_ready);
        let help = "How long the device took to answer its last heartbeat";
        add(registry, "device_heartbeat_seconds", help, device_heartbeat);
        let help = "What the device says it has left: cores, and bytes of memory and disk";
        add(registry, "device_free", help, device_free);
        registry.register_collector(Box::new(link.clone()));
        add(registry, "events", "Kubernetes Events published", events);
        add(registry, "leader", "Whether this process holds the lease", leader);
        let build = Info::new(BuildLabels { version: env!("CARGO_PKG_VERSION") });
        registry.register("build", "What runs here", build);
        usage.register(registry);
    }

    /// The text that Prometheus reads, of type [`MEDIA_TYPE`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // proven: writing to a String does not fail.
        if text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics have no text form");
        }
        text
    }

    /// A pass over an object of a kind begins; it is in flight until the value is dropped.
    #[must_use = "the pass counts as in flight until this is dropped"]
    pub fn pass_started(&self, kind: &'static str) -> InFlight {
        let gauge = self.in_flight.get_or_create(&KindLabels { kind }).clone();
        gauge.inc();
        InFlight { gauge }
    }

    /// A pass has ended, with the category of its error if it failed; categories are a closed set.
    pub fn pass_ended(&self, kind: &'static str, took: Duration, failure: Option<&'static str>) {
        self.passes.get_or_create(&KindLabels { kind }).inc();
        self.durations.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
        if let Some(category) = failure {
            self.failures.get_or_create(&FailureLabels { kind, category }).inc();
        }
    }

    /// A stage of a pass over a HostingDeployment has ended.
    pub fn stage_ended(&self, stage: Stage, took: Duration) {
        self.stages.get_or_create(&StageLabels { stage: stage.as_str() }).observe(took.as_secs_f64());
    }

    /// A signed spec was judged; `reason` is a code of [`crate::capability::Reason`], or `Accepted`.
    pub fn token_verdict(&self, reason: &str) {
        self.verdicts.get_or_create(&ReasonLabels { reason: reason.to_owned() }).inc();
    }

    /// A behaviour was asked of a device; behaviours are a closed set.
    pub fn device_call(&self, behaviour: &str, outcome: CallOutcome) {
        let labels = CallLabels { behaviour: behaviour.to_owned(), outcome: outcome.as_str() };
        self.device_calls.get_or_create(&labels).inc();
    }

    /// A device did not answer usably; `device` is the name of the HostingDevice.
    pub fn device_call_failed(&self, device: &str) {
        self.device_failures.get_or_create(&DeviceLabels { device: device.to_owned() }).inc();
    }

    /// Whether a device answers; `device` is the name of the HostingDevice.
    pub fn device_ready(&self, device: &str, ready: bool) {
        self.device_ready.get_or_create(&DeviceLabels { device: device.to_owned() }).set(i64::from(ready));
    }

    /// How long a device took to answer a heartbeat, there and back with all signatures; `device` is the name of the
    /// HostingDevice.
    pub fn device_heartbeat(&self, device: &str, took: Duration) {
        self.device_heartbeat.get_or_create(&DeviceLabels { device: device.to_owned() }).set(took.as_secs_f64());
    }

    /// What a device says it has left, in cores and bytes; `device` is the name of the HostingDevice.
    pub fn device_free(&self, device: &str, cores: f64, memory: f64, disk: f64) {
        for (resource, amount) in [("cpu", cores), ("memory", memory), ("disk", disk)] {
            self.device_free.get_or_create(&FreeLabels { device: device.to_owned(), resource }).set(amount);
        }
    }

    /// From where the figures of the link to the devices are read. Only the first call counts.
    pub fn read_link(&self, read: impl Fn() -> LinkFigures + Send + Sync + 'static) {
        self.link.read(read);
    }

    /// Removes the series of a HostingDevice that is gone.
    pub fn forget_device(&self, device: &str) {
        let labels = DeviceLabels { device: device.to_owned() };
        self.device_heartbeat.remove(&labels);
        for resource in ["cpu", "memory", "disk"] {
            self.device_free.remove(&FreeLabels { device: device.to_owned(), resource });
        }
        self.device_failures.remove(&labels);
        self.device_ready.remove(&labels);
    }

    /// An Event was published; `reason` is a text of [`crate::api::Reason`].
    pub fn event(&self, warning: bool, reason: &str) {
        let r#type = if warning { "Warning" } else { "Normal" };
        self.events.get_or_create(&EventLabels { r#type, reason: reason.to_owned() }).inc();
    }

    /// Whether this process holds the lease.
    pub fn leader(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// When the authorisation of a HostingDeployment ends, in unix seconds.
    pub fn token_expires(&self, namespace: &str, name: &str, at: i64) {
        self.token_expires.get_or_create(&object(namespace, name)).set(at);
    }

    /// Adds what a HostingDeployment has used.
    pub fn usage(&self, namespace: &str, name: &str, increment: &Increment) {
        self.usage.add(&object(namespace, name), increment);
    }

    /// Removes the series of a HostingDeployment that is gone.
    pub fn forget_deployment(&self, namespace: &str, name: &str) {
        self.usage.forget(&object(namespace, name));
        self.token_expires.remove(&object(namespace, name));
    }
}

fn object(namespace: &str, name: &str) -> ObjectLabels {
    ObjectLabels { namespace: namespace.to_owned(), name: name.to_owned() }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: &M) {
    registry.register(name, help, metric.clone());
}

/// A pass that is running.
#[derive(Debug)]
pub struct InFlight {
    gauge: Gauge,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::Gap;

    /// The sample lines, without comments.
    fn samples(metrics: &Metrics) -> Vec<String> {
        metrics.encode().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn value(metrics: &Metrics, series: &str) -> Option<String> {
        samples(metrics).iter().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned))
    }

    #[test]
    fn a_pass_is_counted_timed_and_in_flight_while_it_runs() {
        let metrics = Metrics::new();
        let pass = metrics.pass_started("HostingDeployment");
        let in_flight = "dms_operator_reconciles_in_flight{kind=\"HostingDeployment\"}";
        assert_eq!(value(&metrics, in_flight).as_deref(), Some("1"));
        drop(pass);
        assert_eq!(value(&metrics, in_flight).as_deref(), Some("0"));
        metrics.pass_ended("HostingDeployment", Duration::from_millis(20), None);
        metrics.pass_ended("HostingDeployment", Duration::from_secs(3), Some("api"));
        for (series, expected) in [
            ("dms_operator_reconciles_total{kind=\"HostingDeployment\"}", "2"),
            ("dms_operator_reconcile_failures_total{kind=\"HostingDeployment\",category=\"api\"}", "1"),
            ("dms_operator_reconcile_duration_seconds_count{kind=\"HostingDeployment\"}", "2"),
            ("dms_operator_reconcile_duration_seconds_bucket{le=\"0.02\",kind=\"HostingDeployment\"}", "1"),
        ] {
            assert_eq!(value(&metrics, series).as_deref(), Some(expected), "{series}\n{}", metrics.encode());
        }
    }

    #[test]
    fn verdicts_calls_events_and_the_build_are_shown() {
        let metrics = Metrics::new();
        metrics.token_verdict("Accepted");
        metrics.device_call("/dms/node/deployment/new", CallOutcome::Silent);
        metrics.device_call("/dms/node/deployment/new", CallOutcome::Answered);
        metrics.event(true, "DeviceSilent");
        metrics.leader(true);
        let version = env!("CARGO_PKG_VERSION");
        for series in [
            "dms_operator_token_verdicts_total{reason=\"Accepted\"}",
            "dms_operator_device_calls_total{behaviour=\"/dms/node/deployment/new\",outcome=\"silent\"}",
            "dms_operator_device_calls_total{behaviour=\"/dms/node/deployment/new\",outcome=\"answered\"}",
            "dms_operator_events_total{type=\"Warning\",reason=\"DeviceSilent\"}",
            "dms_operator_leader",
            &format!("dms_operator_build_info{{version=\"{version}\"}}"),
        ] {
            assert_eq!(value(&metrics, series).as_deref(), Some("1"), "{series}\n{}", metrics.encode());
        }
        metrics.leader(false);
        assert_eq!(value(&metrics, "dms_operator_leader").as_deref(), Some("0"));
    }

    #[test]
    fn usage_adds_up_by_object_and_goes_with_it() {
        let metrics = Metrics::new();
        let increment = Increment {
            seconds: 60,
            cpu_milli_seconds: 30_000,
            memory_byte_seconds: 60 << 30,
            disk_byte_seconds: 420,
            received_bytes: 7,
            sent_bytes: 9,
            stored_bytes: Some(1234),
            gap: None,
        };
        metrics.usage("shop", "web", &increment);
        metrics.usage("shop", "web", &increment);
        metrics.usage("shop", "other", &Increment { gap: Some(Gap::DeviceSilent), ..Increment::default() });
        let before = samples(&metrics);
        for (name, expected) in [
            ("usage_allocation_seconds_total", 120),
            ("usage_reserved_cpu_millicore_seconds_total", 60_000),
            ("usage_reserved_memory_byte_seconds_total", 120_u64 << 30),
            ("usage_reserved_disk_byte_seconds_total", 840),
            ("usage_network_received_bytes_total", 14),
            ("usage_network_sent_bytes_total", 18),
            ("usage_stored_bytes", 1234),
        ] {
            let line = format!("dms_operator_{name}{{namespace=\"shop\",name=\"web\"}} {expected}");
            assert!(before.contains(&line), "{line}\n{before:#?}");
        }
        let zero = "dms_operator_usage_allocation_seconds_total{namespace=\"shop\",name=\"other\"} 0";
        assert!(before.iter().any(|line| line == zero), "{before:#?}");
        assert_eq!(value(&metrics, "dms_operator_usage_gaps_total{reason=\"DeviceSilent\"}").as_deref(), Some("1"));

        metrics.forget_deployment("shop", "web");
        let after = samples(&metrics);
        assert_eq!(after.iter().filter(|line| line.contains("\"web\"")).count(), 0, "{after:#?}");
        assert_eq!(after.iter().filter(|line| line.contains("\"other\"")).count(), 6, "{after:#?}");
    }

    #[test]
    fn a_device_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.device_ready("rack-1", true);
        metrics.device_call_failed("rack-1");
        metrics.device_ready("rack-2", false);
        metrics.forget_device("rack-1");
        let left: Vec<_> = samples(&metrics).into_iter().filter(|line| line.contains("rack")).collect();
        assert_eq!(left, ["dms_operator_device_ready{device=\"rack-2\"} 0"]);
    }

    #[test]
    fn the_text_ends_as_openmetrics_demands() {
        assert!(Metrics::new().encode().ends_with("# EOF\n"));
    }
}
