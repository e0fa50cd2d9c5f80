use clap::{CommandFactory as _, Parser as _};
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::call::Asked;
use super::view::{Colours, View, description, table};
use super::*;
use crate::api::Reason;
use crate::capability::{Capability, Did, Minting, Nanos, Token};
use crate::command::Arguments;
use crate::device::libp2p::Found;

fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from([&["dms-operator", "device"], line].concat())
}

fn did(byte: u8) -> Did {
    Key::from_seed([byte; 32]).did().clone()
}

fn grant(audience: Option<Did>, expires: Nanos) -> Token {
    let minting = Minting {
        subject: did(2),
        audience,
        capabilities: ["/dms/node/deployment", "/dms/node/peers"].map(|path| Capability::parse(path).unwrap()).to_vec(),
        topics: vec![],
        expires,
        depth: 1,
        nonce: [1; 12],
    };
    Token::delegate(&Key::from_seed([3; 32]), minting, None).unwrap()
}

#[test]
fn one_command_is_a_node_and_a_group() {
    Arguments::command().debug_assert();
    let root = did(1).to_string();
    let node = ["--dir", "d", "--seed-file", "s", "--root", &root];
    assert!(parsed(&node).is_ok());
    assert!(parsed(&["list"]).is_ok());
    assert!(parsed(&["list", "-n", "ns", "-o", "json"]).is_ok());
    // The options of the one are not those of the other.
    assert!(parsed(&[&node[..], &["list"]].concat()).is_err());
    assert!(parsed(&["list", "--dir", "d"]).is_err());
    assert!(parsed(&["--dir", "d"]).is_err(), "a node needs a key and somebody to trust");
    assert!(parsed(&[]).is_err());
    for line in [&["add"][..], &["describe"], &["call"], &["adopt"], &["retry"], &["drain"], &["uncordon"]] {
        assert!(parsed(line).is_err(), "{line:?} names no device");
    }
    assert!(parsed(&["drain", "rack-1", "--timeout", "1h"]).is_err(), "without --wait it waits for nothing");
    assert!(parsed(&["drain", "rack-1", "--wait", "--timeout", "1h"]).is_ok());
    let address = "/ip4/127.0.0.1/tcp/1";
    assert!(parsed(&["call", "peers/self", "--addr", address]).is_err(), "an address needs a key");
    assert!(parsed(&["call", "peers/self", "--addr", address, "--key", "k"]).is_ok());
    assert!(parsed(&["call", "peers/self", "--addr", address, "--key", "k", "--seed-file", "s"]).is_err());
    assert!(parsed(&["call", "rack-1", "peers/self", "--grant", "g"]).is_err());
}

#[test]
fn a_behaviour_may_be_given_in_short() {
    let asked = |words: &[&str], by_address| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        Asked::of(&words, by_address).map(|asked| (asked.device, asked.behaviour, asked.request))
    };
    let text = |text: &str| Some(text.to_owned());
    let own = "/dms/node/peers/self".to_owned();
    assert_eq!(asked(&["rack-1", "peers/self"], false).unwrap(), (text("rack-1"), own.clone(), None));
    assert_eq!(asked(&["peers/self"], true).unwrap(), (None, own.clone(), None));
    assert_eq!(asked(&["peers/self", "{}"], true).unwrap(), (None, own, text("{}")));
    let public = "/public/hello".to_owned();
    assert_eq!(asked(&["rack-1", "/public/hello", "-"], false).unwrap(), (text("rack-1"), public, text("-")));
    assert!(asked(&["peers/self"], false).unwrap_err().to_string().contains("name the device"));
    assert!(asked(&["rack-1", "peers/self", "{}"], true).unwrap_err().to_string().contains("--addr"));
}

#[test]
fn a_manifest_says_what_was_found_and_what_the_owner_does() {
    let found = Found { did: did(1), address: "/dns4/Rack-1.example.org/tcp/9000".into(), agent: Some("dms/1".into()) };
    assert_eq!(add::name_for(&found), "rack-1");
    let plain = Found { address: "/ip4/192.0.2.7/tcp/9000".into(), ..found.clone() };
    let peer = did(1).peer_id().to_lowercase();
    assert_eq!(add::name_for(&plain), format!("device-{}", &peer[peer.len() - 8..]));

    let token = grant(Some(did(1)), Nanos(u64::MAX));
    let object = add::manifest("rack-1", Some("ns"), &found, Some(&token));
    assert_eq!(object["metadata"], json!({"name": "rack-1", "namespace": "ns"}));
    let spec: crate::api::HostingDeviceSpec = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!((spec.did.as_str(), spec.unschedulable), (did(1).as_str(), None));
    assert_eq!(Token::parse(spec.grant.unwrap().as_bytes()).unwrap(), token);
    assert_eq!(add::manifest("x", None, &found, None)["metadata"], json!({"name": "x"}));

    let asked = add::Asked { address: "a", name: "rack-1", provider: "default", namespace: None };
    let told = add::advice(&asked, &found, Ok(&did(2)), None);
    let command = format!(
        "#   kubectl hosting token device-grant --key owner.json --to {} --device {} --out rack-1.grant\n",
        did(2),
        did(1)
    );
    assert!(told.contains(&command), "{told}");
    assert!(told.lines().all(|line| line.starts_with('#')), "{told}");
    assert!(told.contains("device add a --name rack-1 --grant rack-1.grant | kubectl apply -f -"), "{told}");
    // What was said of provider and namespace is said again.
    let elsewhere = add::Asked { provider: "second", namespace: Some("ns"), ..asked };
    let unknown = add::advice(&elsewhere, &found, Err(&"no\ncluster".to_owned()), None);
    assert!(unknown.contains("--to \"$PROVIDER\"") && unknown.contains("(no cluster)"), "{unknown}");
    for said in ["--provider second -n ns | kubectl", "$(kubectl get hostingprovider second -n ns -o jsonpath"] {
        assert!(unknown.contains(said), "{said}: {unknown}");
    }
    assert!(unknown.lines().all(|line| line.starts_with('#')), "{unknown}");
}

#[test]
fn a_grant_that_would_meet_silence_is_refused() {
    let now = Nanos(1_000);
    let check = |token: &Token, provider: Option<&Did>| add::check(token, &did(1), provider, now);
    assert_eq!(check(&grant(Some(did(1)), Nanos(1_000)), Some(&did(2))), Ok(()));
    assert_eq!(check(&grant(None, Nanos(1_000)), None), Ok(()));
    let refused = |token: &Token, provider: Option<&Did>, why: &str| {
        let cause = check(token, provider).unwrap_err();
        assert!(cause.contains(why), "{cause}");
    };
    refused(&grant(Some(did(7)), Nanos(2_000)), None, "for use at");
    refused(&grant(None, Nanos(2_000)), Some(&did(7)), "the provider is");
    refused(&grant(None, Nanos(999)), None, "expired");
    refused(&Token::revoke(&Key::from_seed([3; 32]), &grant(None, Nanos(2_000))).unwrap(), None, "to delegate");
}

fn device(unschedulable: bool, grant: Option<&str>, status: &Value) -> DynamicObject {
    let mut object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDevice",
        "metadata": {"name": "rack-1", "namespace": "ns"},
        "spec": {"did": did(1).as_str(), "addresses": ["/ip4/192.0.2.7/tcp/9000"], "unschedulable": unschedulable},
        "status": status,
    });
    if let Some(grant) = grant {
        object["spec"]["grant"] = json!(grant);
    }
    serde_json::from_value(object).unwrap()
}

fn deployment(name: &str, device: &str) -> DynamicObject {
    serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": "shop"},
        "status": {
            "deployment": {"device": device, "id": "abc"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Succeeded", "message": ""}],
        },
    }))
    .unwrap()
}

fn condition(kind: &str, value: &str, reason: &str) -> Value {
    json!({
        "type": kind, "status": value, "reason": reason, "message": format!("{reason} it is"),
        "lastTransitionTime": "2026-11-27T10:00:00Z",
    })
}

const NOON: Nanos = Nanos(1_795_780_800_000_000_000);

#[test]
fn what_is_known_of_devices_stands_in_columns() {
    let token = String::from_utf8(grant(None, NOON).to_json()).unwrap();
    let full = device(
        true,
        Some(&token),
        &json!({
            "conditions": [condition("Ready", "True", "Succeeded")],
            "reachability": "Reachable", "onboarded": true, "replySpelling": "New",
        }),
    );
    let (here, elsewhere) = (deployment("web", "rack-1"), deployment("blog", "rack-2"));
    let deployments = [here, elsewhere];
    let bare = device(false, None, &json!({}));
    let views = [View::of(&full, Some(place::on(&deployments, &full))), View::of(&bare, None)];
    let expected = "\
NAME    STATE                REASON     REACHABLE  ONBOARDED  REPLIES  GRANT UNTIL           DEPLOYMENTS
rack-1  Ready,Unschedulable  Succeeded  Reachable  yes        New      2026-11-27T12:00:00Z  1
rack-1  Unknown              -          -          -          -        -                     ?
";
    assert_eq!(table(&views, NOON, Colours(false)), expected);
    assert!(
        table(&views, NOON.plus(std::time::Duration::from_secs(1)), Colours(false)).contains("12:00:00Z (over)  1")
    );
    let coloured = table(&views, NOON, Colours(true));
    assert!(coloured.contains("\u{1b}[33mReady,Unschedulable\u{1b}[0m  Succeeded"), "{coloured}");
    let value = serde_json::to_value(&views[0]).unwrap();
    assert_eq!((&value["grantExpires"], &value["onboarded"]), (&json!("2026-11-27T12:00:00Z"), &json!(true)));
    assert_eq!(value["deployments"][0]["name"], "web");
    assert_eq!(value["peerId"], did(1).peer_id());
    assert_eq!(serde_json::to_value(&views[1]).unwrap()["deployments"], json!(null));
}

#[test]
fn a_description_says_all_and_what_is_not_known() {
    let lost = device(
        false,
        Some("{}"),
        &json!({
            "conditions": [condition("Ready", "False", "SentinelLost"), condition("Stalled", "True", "SentinelLost")],
            "onboarded": false, "sentinel": {"id": "5e\u{1b}[2J\n"},
        }),
    );
    let deployments = [deployment("web", "rack-1")];
    let text = description(&View::of(&lost, Some(place::on(&deployments, &lost))), NOON, Colours(false));
    for line in [
        "State:         NotReady",
        "Reachability:  not known",
        "Onboarded:     no",
        "Sentinel:      5e\u{fffd}[2J \n",
        "  Stalled=True  SentinelLost  since 2026-11-27T10:00:00Z\n    SentinelLost it is",
        "  shop/web  Ready=True  Succeeded  abc",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    assert!(text.contains("Grant:         cannot be read: "), "{text}");
    let unknown = description(&View::of(&device(false, None, &json!({})), None), NOON, Colours(false));
    assert!(unknown.contains("Deployments:   not known") && unknown.contains("Grant:         none"), "{unknown}");
}

#[test]
fn only_a_reported_fault_is_adopted() {
    let with = |kind, value, reason| {
        change::faults(&device(false, None, &json!({"conditions": [condition(kind, value, reason)]})))
    };
    let since = "2026-11-27T10:00:00Z".parse().unwrap();
    let lost = vec![change::Fault { reason: Reason::SentinelLost, since }];
    assert_eq!(with("Stalled", "True", "SentinelLost").unwrap(), lost);
    let lied = vec![change::Fault { reason: Reason::DeviceContradicts, since }];
    assert_eq!(with("Credible", "False", "DeviceContradicts").unwrap(), lied);
    let error = with("Ready", "True", "Succeeded").unwrap_err().to_string();
    assert!(error.contains("(it says Succeeded)"), "{error}");
    assert!(with("Stalled", "True", "GrantInsufficient").is_err());
    assert!(with("Credible", "True", "Consistent").is_err());
}

#[test]
fn draining_names_what_is_left() {
    let told = change::draining("rack-1", &["shop/web".to_owned()]);
    assert!(told.contains("  shop/web\n") && told.contains("Nothing is stopped or deleted"), "{told}");
    assert!(change::draining("rack-1", &[]).contains("nothing is left"));
}
