use std::time::Duration;

use clap::Parser as _;

use super::make::ON_DEVICE;
use super::*;
use crate::capability::{Action, Did, Minting};

mod revoking;
mod verdicts;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
const NONCE: [u8; 12] = [5; 12];

#[derive(clap::Parser)]
struct Line {
    #[command(subcommand)]
    command: Tokens,
}

fn parsed(arguments: &[&str]) -> Result<Tokens, String> {
    let line = std::iter::once("token").chain(arguments.iter().copied());
    Line::try_parse_from(line).map(|line| line.command).map_err(|error| error.to_string())
}

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn paths(token: &Token) -> Vec<&str> {
    token.capabilities().iter().map(Capability::as_str).collect()
}

fn granted(extra: &[&str]) -> Token {
    let owner = key(2);
    let mut line = vec!["grant", "--key", "k", "--to", owner.did().as_str(), "--namespace", "shop"];
    line.extend(extra);
    let Ok(Tokens::Grant(grant)) = parsed(&line) else { panic!("{line:?} is a grant") };
    grant_token(&key(1), &grant, NOW, NONCE).unwrap()
}

fn delegated(grant: &Token, extra: &[&str]) -> Result<Token, String> {
    let pipeline = key(3);
    let mut line = vec!["delegate", "--key", "k", "--grant", "g", "--to", pipeline.did().as_str()];
    line.extend(extra);
    let Ok(Tokens::Delegate(delegation)) = parsed(&line) else { panic!("{line:?} is a delegation") };
    delegated_token(&key(2), &delegation, grant, NOW, NONCE).map_err(|error| {
        use std::error::Error as _;
        format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
    })
}

/// What `subject` gets at the first key: one path for an hour.
fn minting(subject: &Key, path: &str) -> Minting {
    Minting {
        subject: subject.did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: Vec::new(),
        expires: NOW.plus(Duration::from_hours(1)),
        depth: 0,
        nonce: [subject.did().public_key()[0]; 12],
    }
}

/// Provider → owner → pipeline, and the pipeline's own invocation.
fn chain() -> Token {
    let grant = Token::delegate(&key(1), minting(&key(2), "/hosting/shop"), None).unwrap();
    let delegation = Token::delegate(&key(2), minting(&key(3), "/hosting/shop/apply"), Some(&grant)).unwrap();
    Token::invoke(&key(3), minting(&key(3), "/hosting/shop/apply/web"), Some(&delegation)).unwrap()
}

#[test]
fn a_grant_gives_actions_in_one_namespace() {
    let token = granted(&[]);
    assert_eq!((token.issuer(), token.subject(), token.audience()), (key(1).did(), key(2).did(), Some(key(1).did())));
    let all = ["apply", "publish", "read", "usage", "delete"].map(|action| format!("/hosting/shop/{action}"));
    assert_eq!(paths(&token), all);
    assert_eq!((token.action(), token.depth()), (Action::Delegate, 3));
    assert_eq!(token.expires(), NOW.plus(Duration::from_hours(720)));
    assert_eq!(token.verify(NOW, &|_| false), Ok(()));

    let token = granted(&["--actions", "read,apply", "--for", "90m", "--max-delegations", "0"]);
    assert_eq!(paths(&token), ["/hosting/shop/read", "/hosting/shop/apply"]);
    assert_eq!((token.depth(), token.expires()), (1, NOW.plus(Duration::from_mins(90))));
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let owner = key(2);
    let base = ["grant", "--to", owner.did().as_str(), "--namespace", "shop"];
    let refused = |extra: &[&str]| parsed(&[&base[..], extra].concat()).unwrap_err();
    assert!(refused(&[]).contains("--key <FILE>|--seed-file <FILE>"));
    assert!(refused(&["--key", "k", "--seed-file", "s"]).contains("cannot be used with"));
    assert!(refused(&["--key", "k", "--for=-1h"]).contains("write a positive duration"));
    assert!(refused(&["--key", "k", "--for", "0h"]).contains("write a positive duration"));
    assert!(refused(&["--key", "k", "--max-delegations", "7"]).contains("0..=6"));
    assert!(refused(&["--key", "k", "--actions", "root"]).contains("invalid value"));

    let line = ["grant", "--key", "k", "--to", owner.did().as_str(), "--namespace", "shop/apply"];
    let Ok(Tokens::Grant(grant)) = parsed(&line) else { panic!("{line:?} is a grant") };
    let error = grant_token(&key(1), &grant, NOW, NONCE).unwrap_err();
    assert_eq!(error.to_string(), "\"shop/apply\" is not the name of a Kubernetes namespace");
}

#[test]
fn a_device_grant_gives_what_a_provider_needs_there() {
    let (provider, device) = (key(1), key(9));
    let line = ["device-grant", "--key", "k", "--to", provider.did().as_str(), "--device", device.did().as_str()];
    let Ok(Tokens::DeviceGrant(grant)) = parsed(&line) else { panic!("{line:?} is a device grant") };
    let token = device_token(&key(8), &grant, NOW, NONCE).unwrap();
    assert_eq!(paths(&token), ON_DEVICE);
    assert_eq!((token.subject(), token.audience(), token.depth()), (provider.did(), Some(device.did()), 1));
    assert_eq!(token.expires(), NOW.plus(Duration::from_hours(8760)));
}

#[test]
fn a_delegation_is_never_more_than_its_grant() {
    let grant = granted(&[]);
    let token = delegated(&grant, &[]).unwrap();
    assert_eq!((paths(&token), token.expires(), token.depth()), (paths(&grant), grant.expires(), 1));
    assert_eq!((token.chain(), token.audience()), (Some(&grant), grant.audience()));

    let narrow = ["--capability", "/hosting/shop/apply/web", "--for", "1h", "--max-delegations", "1"];
    let token = delegated(&grant, &narrow).unwrap();
    assert_eq!(paths(&token), ["/hosting/shop/apply/web"]);
    assert_eq!((token.expires(), token.depth()), (NOW.plus(Duration::from_hours(1)), 2));

    let refused = |extra: &[&str]| delegated(&grant, extra).unwrap_err();
    assert!(refused(&["--capability", "/hosting/other"]).contains("which the link above it does not give"));
    assert!(refused(&["--for", "721h"]).contains("after the link above it"));
    assert!(refused(&["--max-delegations", "2"]).contains("1 times at most"));
    assert!(delegated(&granted(&["--max-delegations", "0"]), &[]).unwrap_err().contains("may not be passed on"));

    // A grant that was changed on the way, and a key that it was not given to.
    let changed = String::from_utf8(grant.to_json()).unwrap().replace("\"depth\":3", "\"depth\":5");
    assert!(delegated(&Token::parse(changed.as_bytes()).unwrap(), &[]).unwrap_err().contains("does not hold"));
    let other = Token::delegate(&key(1), minting(&key(4), "/hosting/shop"), None).unwrap();
    assert!(delegated(&other, &[]).unwrap_err().contains("was issued by someone else"));
}
