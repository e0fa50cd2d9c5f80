use serde_json::json;

use super::*;
use crate::capability::{Capability, Key, Minting};

const NOON: Nanos = Nanos(1_795_780_800_000_000_000);

fn key(byte: u8) -> Key {
    Key::from_seed([byte; 32])
}

fn token(paths: &[&str], depth: u64) -> Token {
    let minting = Minting {
        subject: key(1).did().clone(),
        audience: Some(key(2).did().clone()),
        capabilities: paths.iter().map(|path| Capability::parse(path).unwrap()).collect(),
        topics: vec![],
        expires: NOON,
        depth,
        nonce: [0xab; 12],
    };
    Token::delegate(&key(2), minting, None).unwrap()
}

#[test]
fn a_row_says_where_what_and_until_when() {
    let name: Name = "owner".parse().unwrap();
    let paths = ["/hosting/shop/read/web", "/hosting/shop/apply/web/a", "/hosting/blog/apply", "/dms/node"];
    let token = token(&paths, 3);
    let rows = Row::of(&name, &token, NOON);
    let (provider, subject) = (key(2).did().to_string(), key(1).did().to_string());
    let row = |namespace: Option<&str>, actions: &[&str], names: &[&str]| {
        json!({
            "id": "abababababab", "key": "owner", "provider": provider, "subject": subject, "namespace": namespace,
            "actions": actions, "names": names, "capabilities": paths, "expires": "2026-11-27T12:00:00Z", "expired": false,
            "revocationWritten": false, "delegations": 2,
        })
    };
    let expected = json!([
        row(None, &["/dms/node"], &[]),
        row(Some("blog"), &["apply"], &[]),
        row(Some("shop"), &["apply", "read"], &["web", "web/a"]),
    ]);
    assert_eq!(serde_json::to_value(&rows).unwrap(), expected);
    assert!(Row::of(&name, &token, Nanos(NOON.0 + 1)).iter().all(|row| row.expired));
    assert_eq!(
        rows[2].sentence(),
        format!("abababababab: apply, read for web, web/a in shop by {provider} until 2026-11-27T12:00:00Z")
    );
    let table = table(&rows, false);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0].split_whitespace().collect::<Vec<_>>().join(" "),
        "ID KEY PROVIDER NAMESPACE ACTIONS NAMES UNTIL PASSED ON"
    );
    let last = format!("abababababab owner {provider} shop apply,read web,web/a 2026-11-27T12:00:00Z 2 times");
    assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>().join(" "), last);
    assert!(super::table(&[], false).contains("kubectl hosting login") && super::table(&[], true).contains("delegate"));
}

#[test]
fn delegations_leave_room_for_the_invocation() {
    assert_eq!([1, 2, 3, 0].map(|depth| delegations(&token(&["/hosting/shop"], depth))), [0, 1, 2, 6]);
    let deep = token(&["/hosting/shop"], 3);
    let minting = Minting {
        subject: key(3).did().clone(),
        audience: Some(key(2).did().clone()),
        capabilities: deep.capabilities().to_vec(),
        topics: vec![],
        expires: NOON,
        depth: 9,
        nonce: [1; 12],
    };
    assert_eq!(delegations(&Token::delegate(&key(1), minting, Some(&deep)).unwrap()), 1);
}
