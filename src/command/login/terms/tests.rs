use std::time::Duration;

use proptest::{prelude::*, sample::subsequence};
use serde_json::json;

use super::*;
use crate::{
    capability::{Key, Minting},
    plan::challenge::{Challenger, Claim, LIFETIME},
};

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);
const SOON: Nanos = Nanos(1_800_000_300_000_000_000);
const APPLY: &str = "/hosting/shop/apply";
const READ: &str = "/hosting/shop/read";

fn key(byte: u8) -> Key {
    Key::from_seed([byte; 32])
}

fn terms(actions: &[GrantAction]) -> Terms {
    Terms {
        own: key(1).did().clone(),
        provider: key(2).did().clone(),
        namespace: "shop".to_owned(),
        actions: actions.iter().copied().collect(),
    }
}

/// As the provider's actor writes it.
fn text() -> String {
    let (own, provider) = (key(1).did().clone(), key(2).did().clone());
    format!(
        "hosting.example.org:8443 wants you to sign in with your DID:\n{own}\n\nGrant apply, read in namespace shop of the \
         hosting provider.\n\nURI: {provider}\nVersion: 1\nNonce: abababababababababababababababab\nIssued At: {NOW}\n\
         Expiration Time: {SOON}\nRequest ID: 0011223344556677\nResources:\n- {APPLY}\n- {READ}\n"
    )
}

fn judged(text: impl Into<String>) -> Result<BTreeSet<GrantAction>, String> {
    let challenge = Challenge { text: text.into(), state: "s".to_owned(), expires: SOON };
    terms(&[]).check_challenge(&challenge, NOW)
}

fn both() -> BTreeSet<GrantAction> {
    BTreeSet::from([GrantAction::Apply, GrantAction::Read])
}

#[test]
fn a_text_in_the_one_layout_is_signed() {
    assert_eq!(judged(text()), Ok(both()));
    let challenge = Challenge { text: text(), state: "s".to_owned(), expires: SOON };
    assert_eq!(terms(&[GrantAction::Read, GrantAction::Apply]).check_challenge(&challenge, NOW), Ok(both()));
    let refused = terms(&[GrantAction::Read]).check_challenge(&challenge, NOW).unwrap_err();
    assert!(refused.contains("not what was asked for"), "{refused}");
    let late = terms(&[]).check_challenge(&challenge, Nanos(SOON.0 + 1)).unwrap_err();
    assert!(late.contains("it expired at") && late.contains("clock"), "{late}");
}

proptest! {
    /// Writer and reader of the text are in two rooms.
    #[test]
    fn what_a_provider_composes_is_understood(
        host in "[a-z0-9.:-]{1,30}",
        nonce: [u8; 16],
        picked in subsequence(GrantAction::ALL.to_vec(), 1..=GrantAction::ALL.len()),
        random: [u8; 32],
        time in 1_700_000_000_000_000_000_u64..2_000_000_000_000_000_000,
    ) {
        let now = Nanos(time);
        let random: Vec<u8> = random.iter().chain(&random).copied().collect();
        let challenger = Challenger::new(key(2).did().clone(), &host, &random.try_into().unwrap());
        let (did, namespace) = (key(1).did().clone(), "shop".to_owned());
        let mut actions = picked.clone();
        actions.sort_unstable();
        let challenge = challenger.challenge(Claim { did, namespace, actions }, nonce, now);
        let offered: BTreeSet<_> = picked.iter().copied().collect();
        prop_assert_eq!(terms(&picked).check_challenge(&challenge, now), Ok(offered));
        let late = now.plus(LIFETIME).plus(Duration::from_nanos(1));
        prop_assert!(terms(&picked).check_challenge(&challenge, late).is_err());
    }
}

#[test]
fn a_text_that_says_something_else_is_not() {
    let (own, other) = (key(1).did().to_string(), key(3).did().to_string());
    let provider = key(2).did().to_string();
    let with = |from: &str, to: &str| {
        let changed = text().replace(from, to);
        assert_ne!(changed, text(), "{from}");
        judged(changed).unwrap_err()
    };
    for (from, to, says) in [
        (own.as_str(), other.as_str(), "where the own DID belongs"),
        (own.as_str(), &format!("{own}#key-1"), "where the own DID belongs"),
        (provider.as_str(), &other, "where the provider belongs"),
        ("namespace shop", "namespace shop2", "where what is granted belongs"),
        ("namespace shop of", "namespace shop of the other of", "where what is granted belongs"),
        ("Grant apply, read", "Grant apply", "where what is granted belongs"),
        (APPLY, "/hosting/other/apply", "in the namespace shop"),
        (READ, APPLY, "in the namespace shop"),
        (READ, "/hosting/shop", "in the namespace shop"),
        (READ, "/dms/node", "in the namespace shop"),
        ("Version: 1", "Version: 2", "the layout of a challenge"),
        ("Resources:", "Resources", "the layout of a challenge"),
        ("\n\nURI", "\n\nNamespace: other\nURI", "the layout of a challenge"),
        (&format!("- {READ}\n"), &format!("- {READ}"), "the layout of a challenge"),
        (&format!("Time: {SOON}"), &format!("Time: {NOW}"), "where its expiry belongs"),
        ("Nonce: abababababababababababababababab", "Nonce: ", "where \"Nonce: \" belongs"),
        ("hosting.example.org:8443 ", "I say that it ", "the name of the service"),
        ("hosting", "ho\u{7f}sting", "line 1 of its text holds U+007F"),
        ("hosting", "ho\u{202e}sting", "line 1 of its text holds U+202E"),
        ("URI", "\u{1b}[2KURI", "line 6 of its text holds U+001B"),
        ("\nURI", "\r\nURI", "line 5 of its text holds U+000D"),
        ("shop", "sh\u{456}p", "holds U+0456"),
    ] {
        let said = with(from, to);
        assert!(said.contains(says), "{from} → {to}: {said}");
    }
    for prefix in ["dms:token:", "dms:msg:", "nunet-hosting:spec:v1\n", SIGNED_PREFIX] {
        assert!(judged(format!("{prefix}{}", text())).unwrap_err().contains("other purposes"), "{prefix}");
    }
    for odd in [String::new(), "x".repeat(LONGEST_TEXT + 1)] {
        assert!(judged(odd).unwrap_err().contains("bytes of text"));
    }
    // The own DID in the wrong place does not help.
    let hidden = text().replace(&own, &other).replace("Request ID: ", &format!("Request ID: {own} "));
    assert!(judged(hidden).unwrap_err().contains("where the own DID belongs"));
}

fn minting(paths: &[&str]) -> Minting {
    Minting {
        subject: key(1).did().clone(),
        audience: Some(key(2).did().clone()),
        capabilities: paths.iter().map(|path| Capability::parse(path).unwrap()).collect(),
        topics: vec![],
        expires: SOON,
        depth: 3,
        nonce: [7; 12],
    }
}

fn granted(token: &Token) -> Granted {
    Granted { grant: serde_json::from_slice(&token.to_json()).unwrap(), expires: token.expires() }
}

fn fits(granted: &Granted) -> Result<Token, String> {
    terms(&[]).check_grant(&both(), granted, NOW)
}

#[test]
fn a_grant_is_what_was_signed_for() {
    let token = Token::delegate(&key(2), minting(&[READ, APPLY]), None).unwrap();
    assert_eq!(fits(&granted(&token)), Ok(token.clone()));
    let refused = |issuer: &Key, change: &dyn Fn(&mut Minting), says: &str| {
        let mut minting = minting(&[APPLY, READ]);
        change(&mut minting);
        let said = fits(&granted(&Token::delegate(issuer, minting, None).unwrap())).unwrap_err();
        assert!(said.contains(says), "{said}");
    };
    let provider = key(2);
    let path = |text| Capability::parse(text).unwrap();
    refused(&key(3), &|_| {}, "it was issued by");
    refused(&provider, &|it| it.subject = key(3).did().clone(), "it is for did:key");
    refused(&provider, &|it| it.audience = None, "for use at anybody");
    refused(&provider, &|it| it.audience = Some(key(1).did().clone()), "for use at did:key");
    refused(&provider, &|it| it.depth = 0, "without limit");
    refused(&provider, &|it| it.topics = vec![path("/nunet")], "topics");
    refused(&provider, &|it| it.expires = Nanos(NOW.0 - 1), "it expired at");
    refused(
        &provider,
        &|it| it.capabilities.push(path("/hosting/shop/delete")),
        "gives /hosting/shop/delete, which is not",
    );
    refused(&provider, &|it| it.capabilities = vec![path("/hosting/shop")], "gives /hosting/shop, which is not");
    refused(&provider, &|it| it.capabilities = vec![path("/")], "gives /, which is not");
    refused(&provider, &|it| it.capabilities.push(path(APPLY)), "gives /hosting/shop/apply, which is not");
    refused(&provider, &|it| it.capabilities = vec![path("/hosting/other/apply"), path(READ)], "/hosting/other/apply");
    refused(&provider, &|it| drop(it.capabilities.pop()), "does not give /hosting/shop/read");

    let later = Granted { expires: SOON.plus(Duration::from_secs(1)), ..granted(&token) };
    assert!(fits(&later).unwrap_err().contains("and the provider says"));
    let mut forged = granted(&token);
    forged.grant["dms"]["depth"] = json!(4);
    assert!(fits(&forged).unwrap_err().contains("changed after signing"));
    let odd = Granted { grant: json!({"dms": {}}), expires: SOON };
    assert!(fits(&odd).is_err());
    let chained =
        Token::delegate(&key(3), Minting { subject: provider.did().clone(), ..minting(&[APPLY, READ]) }, None);
    let chained = Token::delegate(&provider, Minting { depth: 1, ..minting(&[APPLY, READ]) }, Some(&chained.unwrap()));
    assert!(fits(&granted(&chained.unwrap())).unwrap_err().contains("not by the provider alone"));
    let invocation = Token::invoke(&provider, minting(&[APPLY, READ]), None).unwrap();
    assert!(fits(&granted(&invocation)).unwrap_err().contains("a token to invoke"));
}
