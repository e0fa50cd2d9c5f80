//! The ensemble on the wire: `{"v1": {…}}` (`dms-protocol.md` §6.1).
//!
//! Only executors and fields written down there are emitted, and of optional ones only those that say something.

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::plan::build::{AllocationSpec, EnsembleSpec};

/// Name of the one node of an ensemble; with it a manifest key is `device.<allocation>`.
pub const NODE_NAME: &str = "device";

/// A clock of 1 GHz: DMS compares cores × clock, so this is the unit in which whole cores are asked for.
const HERTZ_PER_CORE: u64 = 1_000_000_000;

/// The ensemble as `deployment/new` takes it.
#[must_use]
pub fn encode(spec: &EnsembleSpec) -> Value {
    let EnsembleSpec { peer, allocations, metadata } = spec;
    let by_name: Map<String, Value> =
        allocations.iter().map(|allocation| (allocation.name.clone(), encode_allocation(allocation))).collect();
    let names: Vec<&str> = allocations.iter().map(|allocation| allocation.name.as_str()).collect();
    let ports: Vec<Value> = allocations
        .iter()
        .flat_map(|allocation| {
            allocation
                .ports
                .iter()
                .map(|port| json!({"public": port.public, "private": port.private, "allocation": allocation.name}))
        })
        .collect();
    let mut body = json!({
        "escalation_strategy": "teardown",
        "allocations": by_name,
        "nodes": {NODE_NAME: {"allocations": names, "ports": ports, "peer": peer, "failure_recovery": "stay_down"}},
    });
    if !metadata.is_empty() {
        body["metadata"] = json!(metadata);
    }
    json!({"v1": body})
}

fn encode_allocation(allocation: &AllocationSpec) -> Value {
    let AllocationSpec { name, image, args, env, cpu_millis, memory_bytes, disk_bytes, ports: _ } = allocation;
    let environment: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut params = json!({"image": image});
    if !args.is_empty() {
        params["cmd"] = json!(args);
    }
    if !environment.is_empty() {
        params["environment"] = json!(environment);
    }
    json!({
        "executor": "docker",
        "type": "service",
        "resources": {
            "cpu": encode_cpu(*cpu_millis),
            "ram": {"size": memory_bytes},
            "disk": {"size": disk_bytes},
        },
        "execution": {"type": "docker", "params": params},
        "dns_name": name,
        "failure_recovery": "one_for_one",
    })
}

/// Whole cores only, and none is not allowed: a part of a core is asked for by a slower clock, since a device weighs
/// cores × clock.
fn encode_cpu(millis: u64) -> Value {
    let cores = millis.div_ceil(1000).max(1);
    let hertz = u128::from(millis.max(1)) * u128::from(HERTZ_PER_CORE) / 1000 / u128::from(cores);
    json!({"cores": cores, "clock_speed": u64::try_from(hertz).unwrap_or(HERTZ_PER_CORE)})
}

/// What is to run, as 64 hex digits: SHA-256 of the RFC 8785 form of the encoded ensemble without its metadata and
/// without the environment entries named in `excluded_env` (the credentials made for one attempt).
#[must_use]
pub fn digest(spec: &EnsembleSpec, excluded_env: &[&str]) -> String {
    let mut bare = spec.clone();
    bare.metadata.clear();
    for allocation in &mut bare.allocations {
        allocation.env.retain(|(name, _)| !excluded_env.contains(&name.as_str()));
    }
    let value = encode(&bare);
    // proven: texts and whole numbers always have a canonical form; the other arm still names these very bytes.
    let canonical = serde_json_canonicalizer::to_vec(&value).unwrap_or_else(|_| value.to_string().into_bytes());
    hex::encode(Sha256::digest(canonical))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::plan::build::PortSpec;

    fn spec() -> EnsembleSpec {
        EnsembleSpec {
            peer: "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq".into(),
            allocations: vec![AllocationSpec {
                name: "web".into(),
                image: "nginx:alpine".into(),
                args: vec![],
                env: vec![],
                cpu_millis: 1000,
                memory_bytes: 536_870_912,
                disk_bytes: 1_073_741_824,
                ports: vec![PortSpec { public: 16500, private: 80 }],
            }],
            metadata: BTreeMap::from([("owner".into(), "interop".into())]),
        }
    }

    /// The minimal example of `dms-protocol.md` §6.1, with our node name and recovery.
    #[test]
    fn the_wire_form_is_that_of_the_protocol() {
        let expected: Value = serde_json::from_str(
            r#"{"v1":{"escalation_strategy":"teardown",
 "allocations":{"web":{"executor":"docker","type":"service",
   "resources":{"cpu":{"clock_speed":1000000000,"cores":1},"ram":{"size":536870912},"disk":{"size":1073741824}},
   "execution":{"type":"docker","params":{"image":"nginx:alpine"}},
   "dns_name":"web","failure_recovery":"one_for_one"}},
 "nodes":{"device":{"allocations":["web"],"ports":[{"public":16500,"private":80,"allocation":"web"}],
   "failure_recovery":"stay_down","peer":"12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"}},
 "metadata":{"owner":"interop"}}}"#,
        )
        .unwrap();
        assert_eq!(encode(&spec()), expected);
    }

    #[test]
    fn arguments_and_environment_keep_their_order() {
        let mut spec = spec();
        spec.allocations[0].args = vec!["site".into(), "--x".into()];
        spec.allocations[0].env = vec![("B".into(), "2=3".into()), ("A".into(), String::new())];
        let params = &encode(&spec)["v1"]["allocations"]["web"]["execution"]["params"];
        assert_eq!(params, &json!({"image": "nginx:alpine", "cmd": ["site", "--x"], "environment": ["B=2=3", "A="]}));
    }

    #[test]
    fn the_product_of_cores_and_clock_is_what_was_asked_for() {
        for (millis, cores, clock) in
            [(500, 1, 500_000_000_u64), (1000, 1, 1_000_000_000), (1500, 2, 750_000_000), (0, 1, 1_000_000)]
        {
            assert_eq!(encode_cpu(millis), json!({"cores": cores, "clock_speed": clock}), "{millis}");
        }
    }

    #[test]
    fn the_digest_covers_all_but_metadata_and_excluded_entries() {
        let base = spec();
        let digest_of = |spec: &EnsembleSpec| digest(spec, &["SECRET"]);
        let expected = digest_of(&base);
        assert_eq!(expected.len(), 64);

        let mut other = base.clone();
        other.metadata.insert("attempt".into(), "2".into());
        other.allocations[0].env.push(("SECRET".into(), "x".into()));
        assert_eq!(digest_of(&other), expected);

        let changes: [fn(&mut EnsembleSpec); 9] = [
            |spec| spec.peer.push('x'),
            |spec| spec.allocations[0].name.push('x'),
            |spec| spec.allocations[0].image.push('x'),
            |spec| spec.allocations[0].args.push("x".into()),
            |spec| spec.allocations[0].env.push(("SECRETS".into(), "x".into())),
            |spec| spec.allocations[0].cpu_millis += 1,
            |spec| spec.allocations[0].memory_bytes += 1,
            |spec| spec.allocations[0].disk_bytes += 1,
            |spec| spec.allocations[0].ports[0].public = 0,
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut other = base.clone();
            change(&mut other);
            assert_ne!(digest_of(&other), expected, "change {index}");
        }
    }

    /// SHA-256 over the canonical text, computed by other tools (`sha256sum`).
    #[test]
    fn the_digest_is_sha256_of_rfc_8785() {
        let canonical = concat!(
            r#"{"v1":{"allocations":{"web":{"dns_name":"web","execution":{"params":{"image":"nginx:alpine"},"type":"docker"},"#,
            r#""executor":"docker","failure_recovery":"one_for_one","resources":{"cpu":{"clock_speed":1000000000,"cores":1},"#,
            r#""disk":{"size":1073741824},"ram":{"size":536870912}},"type":"service"}},"escalation_strategy":"teardown","#,
            r#""nodes":{"device":{"allocations":["web"],"failure_recovery":"stay_down","#,
            r#""peer":"12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq","#,
            r#""ports":[{"allocation":"web","private":80,"public":16500}]}}}}"#
        );
        assert_eq!(digest(&spec(), &[]), hex::encode(Sha256::digest(canonical)));
    }
}
