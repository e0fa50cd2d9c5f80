//! An ensemble as it came, and whether this node can run it.
//!
//! This node runs one thing: one command of the project's own image, as a child process. Whatever it could not do exactly as asked, it
//! does not do at all: no bidder answers, and the deployment fails at its deadline.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::Value;

use super::{Entry, lifecycle::Site};
use crate::device::dms::{Cpu, Size, tolerant};

/// An ensemble, `dms-protocol.md` §6.1. What this node cannot do is kept as it came, to see whether it is asked for. It
/// holds secrets, hence no `Debug`.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Ensemble {
    pub allocations: BTreeMap<String, Allocation>,
    pub nodes: BTreeMap<String, Node>,
    pub metadata: BTreeMap<String, String>,
    edges: Value,
    supervisor: Value,
    keys: Value,
    scripts: Value,
    subnet: Subnet,
    contracts: Value,
    exclude_peers: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subnet {
    join: bool,
}

/// One allocation.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Allocation {
    executor: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub resources: Demand,
    execution: Execution,
    pub dns_name: String,
    pub failure_recovery: String,
    keys: Value,
    provision: Value,
    healthcheck: Value,
    volume: Value,
    depends_on: Value,
}

/// What an allocation asks for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Demand {
    pub cpu: Cpu,
    pub ram: Size,
    pub disk: Size,
    gpus: Value,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Execution {
    #[serde(rename = "type")]
    kind: String,
    params: BTreeMap<String, Value>,
}

/// One node of an ensemble.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Node {
    pub allocations: Vec<String>,
    pub ports: Vec<Port>,
    peer: String,
    location: Value,
    redundancy: Value,
}

/// A port made public.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Port {
    pub public: u16,
    pub private: u16,
    pub allocation: String,
}

/// An allocation that this node can run.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Runnable {
    /// Manifest key, `<node>.<allocation>`.
    pub key: String,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Public (0: any) and private port, if it has one.
    pub port: Option<(u16, u16)>,
    /// Whether it is started again when it ends.
    pub restart: bool,
}

impl fmt::Debug for Runnable {
    /// Without the environment, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Runnable({} {:?})", self.key, self.args)
    }
}

/// Why an ensemble cannot run here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Unrunnable(String);

/// Reads the payload of `deployment/new`: the ensemble as it came, and understood.
pub(super) fn read_request(message: &[u8]) -> Result<(Value, Ensemble), String> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Request {
        ensemble: Versions,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Versions {
        v1: Value,
    }
    let payload: Value = serde_json::from_slice(message).map_err(|error| error.to_string())?;
    let request: Request = tolerant::decode(payload).map_err(|error| error.to_string())?;
    let raw = request.ensemble.v1;
    if !raw.is_object() {
        return Err("the request has no ensemble of version v1".to_owned());
    }
    let ensemble = read(&raw)?;
    Ok((raw, ensemble))
}

/// Reads an ensemble.
pub(super) fn read(raw: &Value) -> Result<Ensemble, String> {
    tolerant::decode(raw.clone()).map_err(|error| format!("the ensemble cannot be read: {error}"))
}

/// What is to be run of an ensemble by this node.
pub(super) fn runnable(ensemble: &Ensemble, site: &Site) -> Result<Vec<Runnable>, Unrunnable> {
    let Ensemble {
        allocations,
        nodes,
        metadata: _,
        edges,
        supervisor,
        keys,
        scripts,
        subnet,
        contracts,
        exclude_peers,
    } = ensemble;
    let unable = [
        (edges, "edge constraints"),
        (supervisor, "a supervisor"),
        (keys, "keys"),
        (scripts, "scripts"),
        (contracts, "contracts"),
    ];
    refuse_any(&unable)?;
    if subnet.join {
        return Err(Unrunnable("this node joins no subnet".into()));
    }
    if exclude_peers.contains(&site.peer) {
        return Err(Unrunnable("the ensemble excludes this node".into()));
    }
    if allocations.is_empty() {
        return Err(Unrunnable("the ensemble has no allocation".into()));
    }
    allocations.iter().map(|(name, allocation)| place(name, allocation, nodes, site)).collect()
}

fn place(
    name: &str,
    allocation: &Allocation,
    nodes: &BTreeMap<String, Node>,
    site: &Site,
) -> Result<Runnable, Unrunnable> {
    let mut homes = nodes.iter().filter(|(_, node)| node.allocations.iter().any(|listed| listed == name));
    let (Some((node_name, node)), None) = (homes.next(), homes.next()) else {
        return Err(Unrunnable(format!("allocation {name} does not stand on exactly one node")));
    };
    if !node.peer.is_empty() && node.peer != site.peer {
        return Err(Unrunnable(format!("node {node_name} is pinned to the peer {}", node.peer)));
    }
    // Manifest keys are split at the dot.
    if name.contains(['.', '/']) || node_name.contains(['.', '/']) {
        return Err(Unrunnable(format!("{node_name} and {name} may hold neither a dot nor a slash")));
    }
    refuse_any(&[(&node.location, "a location"), (&node.redundancy, "redundancy")])?;
    let mut ports = node.ports.iter().filter(|port| port.allocation == name);
    let port = ports.next().map(|port| (port.public, port.private));
    if ports.next().is_some() {
        return Err(Unrunnable(format!("allocation {name} has several ports, and a child process listens on one")));
    }
    let (args, env) = command(name, allocation, site)?;
    let restart = allocation.failure_recovery != "stay_down";
    Ok(Runnable { key: format!("{node_name}.{name}"), args, env, port, restart })
}

type Command = (Vec<String>, Vec<(String, String)>);

fn command(name: &str, allocation: &Allocation, site: &Site) -> Result<Command, Unrunnable> {
    let Allocation {
        executor,
        kind,
        resources: Demand { cpu: _, ram: _, disk: _, gpus },
        execution: Execution { kind: execution, params },
        dns_name: _,
        failure_recovery: _,
        keys,
        provision,
        healthcheck,
        volume,
        depends_on,
    } = allocation;
    if executor != "docker" || execution != "docker" {
        return Err(Unrunnable(format!("allocation {name} asks for the executor {executor:?} ({execution:?})")));
    }
    if kind != "service" {
        return Err(Unrunnable(format!("allocation {name} is a {kind:?}, and only services run here")));
    }
    refuse_any(&[
        (gpus, "GPUs"),
        (keys, "keys"),
        (provision, "provision scripts"),
        (healthcheck, "a health check"),
        (volume, "volumes"),
        (depends_on, "dependencies"),
    ])?;
    let (mut image, mut args, mut env) = (String::new(), Vec::new(), Vec::new());
    for (param, value) in params {
        let texts = || {
            tolerant::decode::<Vec<String>>(value.clone())
                .map_err(|_| Unrunnable(format!("{param} of allocation {name} is not a list of texts")))
        };
        match param.to_ascii_lowercase().as_str() {
            "image" => value.as_str().unwrap_or_default().clone_into(&mut image),
            "cmd" => args = texts()?,
            "environment" => env = texts()?,
            // Privileged mode, users, entry points, host paths and networks, capabilities, and what is yet unknown.
            _ => refuse_any(&[(value, param)])?,
        }
    }
    let Site { image_digest, entry: Entry { command, environment }, .. } = site;
    if image.rsplit_once('@').is_none_or(|(_, digest)| digest != image_digest) {
        return Err(Unrunnable(format!(
            "allocation {name} asks for the image {image:?}; only {image_digest} runs here"
        )));
    }
    if args.first().is_none_or(|first| first != command) {
        return Err(Unrunnable(format!("allocation {name} asks for another command of the image than {command:?}")));
    }
    let env: Vec<(String, String)> = env
        .iter()
        .map(|entry| {
            entry.split_once('=').map_or((entry.clone(), String::new()), |(k, v)| (k.to_owned(), v.to_owned()))
        })
        .collect();
    if let Some((variable, _)) = env.iter().find(|(variable, _)| !environment.contains(&variable.as_str())) {
        return Err(Unrunnable(format!(
            "allocation {name} sets the variable {variable:?}, which {command:?} is not given here"
        )));
    }
    Ok((args, env))
}

fn refuse_any(features: &[(&Value, &str)]) -> Result<(), Unrunnable> {
    match features.iter().find(|(value, _)| !says_nothing(value)) {
        None => Ok(()),
        Some((_, name)) => Err(Unrunnable(format!("the ensemble asks for {name}, which this node does not have"))),
    }
}

/// Whether a member is Go's zero value, or made of such.
fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(says_nothing),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        device::dms::ensemble::encode,
        plan::build::{self, SiteSpec},
    };

    const DIGEST: &str = "sha256:aa";

    fn raw() -> Value {
        json!({"escalation_strategy": "teardown",
            "allocations": {"web": {"executor": "docker", "type": "service", "dns_name": "web",
                "resources": {"cpu": {"cores": 1, "clock_speed": 1e9}, "ram": {"size": 1}, "disk": {"size": 1}},
                "execution": {"type": "docker", "params": {"image": "own@sha256:aa", "cmd": ["site"],
                    "environment": ["HOSTING_OPERATOR_URL=1=2", "HOSTING_SITE_SEED"], "privileged": false, "entrypoint": null}},
                "failure_recovery": "one_for_one", "healthcheck": {"type": "", "interval": 0}, "volume": []}},
            "nodes": {"device": {"allocations": ["web"], "peer": "me",
                "ports": [{"public": 0, "private": 80, "allocation": "web"}], "location": {"accept": null}}},
            "subnet": {"join": false}})
    }

    /// On a node that runs what the product's does.
    fn judged(raw: &Value) -> Result<Vec<Runnable>, Unrunnable> {
        let site = Site {
            peer: "me".into(),
            image_digest: DIGEST.into(),
            program: "/bin/false".into(),
            entry: Entry::SITE,
            bind: [127, 0, 0, 1].into(),
            directory: "/".into(),
        };
        runnable(&read(raw).map_err(Unrunnable)?, &site)
    }

    #[test]
    fn what_the_operator_asks_for_runs() {
        let spec = build::site(&SiteSpec {
            namespace: "shop",
            name: "web",
            image: "own@sha256:aa",
            operator_url: "https://sites.example.org",
            provider: "did:key:z",
            seed: "00",
            grant: "{}",
            peer: "me",
        });
        let runnables = judged(&encode(&spec)["v1"]).unwrap();
        assert_eq!((&runnables[0].args, &runnables[0].env), (&spec.allocations[0].args, &spec.allocations[0].env));
    }

    #[test]
    fn an_ensemble_is_read_as_it_came() {
        let expected = Runnable {
            key: "device.web".into(),
            args: vec!["site".into()],
            env: vec![("HOSTING_OPERATOR_URL".into(), "1=2".into()), ("HOSTING_SITE_SEED".into(), String::new())],
            port: Some((0, 80)),
            restart: true,
        };
        assert_eq!(judged(&raw()).unwrap(), [expected]);
    }

    #[test]
    fn whatever_it_could_not_do_exactly_it_does_not_do() {
        let changes: [(&str, Value); 31] = [
            ("/allocations/web/executor", json!("null")),
            ("/allocations/web/executor", json!("firecracker")),
            ("/allocations/web/execution/type", json!("containerd")),
            ("/allocations/web/type", json!("task")),
            ("/allocations/web/execution/params/image", json!("own@sha256:ab")),
            ("/allocations/web/execution/params/image", json!("sha256:aa")),
            ("/allocations/web/execution/params/image", json!("own:latest")),
            ("/allocations/web/execution/params/privileged", json!(true)),
            ("/allocations/web/execution/params/entrypoint", json!(["sh"])),
            ("/allocations/web/execution/params/user", json!("0")),
            ("/allocations/web/execution/params/cap_add", json!(["SYS_ADMIN"])),
            ("/allocations/web/execution/params/cmd", json!("site")),
            ("/allocations/web/execution/params/cmd", json!(null)),
            ("/allocations/web/execution/params/cmd", json!(["device", "site"])),
            ("/allocations/web/execution/params/cmd", json!(["site ", "site"])),
            ("/allocations/web/execution/params/environment", json!(["LD_PRELOAD=/tmp/x.so"])),
            ("/allocations/web/execution/params/environment", json!(["HOSTING_OPERATOR_URL=x", "KUBECONFIG"])),
            ("/allocations/web/execution/params/environment", json!(["hosting_operator_url=x"])),
            ("/allocations/web/execution/params/environment", json!(["HOSTING_LISTEN=0.0.0.0:80"])),
            ("/allocations/web/volume", json!([{"type": "local", "src": "/etc"}])),
            ("/allocations/web/resources/gpus", json!([{"index": 0}])),
            ("/allocations/web/healthcheck", json!({"type": "http", "endpoint": "/"})),
            ("/allocations/web/provision", json!(["script"])),
            ("/allocations/web/depends_on", json!(["db"])),
            ("/allocations", json!({})),
            ("/nodes/device/peer", json!("somebody")),
            ("/nodes/device/allocations", json!([])),
            ("/nodes/device/redundancy", json!(2)),
            ("/subnet/join", json!(true)),
            ("/scripts", json!({"a": "b"})),
            ("/exclude_peers", json!(["me"])),
        ];
        for (pointer, value) in changes {
            let mut raw = raw();
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            raw.pointer_mut(parent).unwrap().as_object_mut().unwrap().insert(name.into(), value.clone());
            assert!(judged(&raw).is_err(), "{pointer} = {value}");
        }
    }

    #[test]
    fn one_port_each() {
        let mut raw = raw();
        raw["nodes"]["device"]["ports"] = json!([
            {"public": 1, "private": 80, "allocation": "web"}, {"public": 2, "private": 81, "allocation": "web"}
        ]);
        assert!(judged(&raw).is_err());
        raw["nodes"]["device"]["ports"] = json!(null);
        assert_eq!(judged(&raw).unwrap()[0].port, None);
    }

    #[test]
    fn a_request_without_an_ensemble_is_an_error() {
        for wrong in ["", "null", "{}", r#"{"Ensemble":{"v2":{}}}"#, r#"{"Ensemble":{"v1":{"nodes":3}}}"#] {
            assert!(read_request(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let request = json!({"ensemble": {"V1": raw()}}).to_string();
        assert_eq!(read_request(request.as_bytes()).unwrap().0, raw());
    }
}
