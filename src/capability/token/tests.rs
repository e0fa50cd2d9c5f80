use std::time::Duration;

use super::super::key::counted;
use super::super::{Key, MintError, Minting};
use super::*;

const NOW: Nanos = Nanos(1_767_225_600_000_000_000);

fn key(number: u8) -> Key {
    Key::from_seed([number; 32])
}

fn minting(capabilities: usize, topics: usize) -> Minting {
    let paths = |count: usize| (0..count).map(|index| Capability::parse(&format!("/p/{index}")).unwrap()).collect();
    Minting {
        subject: key(2).did().clone(),
        audience: None,
        capabilities: paths(capabilities),
        topics: paths(topics),
        expires: NOW.plus(Duration::from_secs(1)),
        depth: 0,
        nonce: [7; 12],
    }
}

fn token() -> Token {
    Token::delegate(&key(1), minting(1, 0), None).unwrap()
}

fn reason(json: &str) -> Option<Reason> {
    Token::parse(json.as_bytes()).err().map(|refusal| refusal.reason)
}

#[test]
fn each_member_has_one_form() {
    let json = String::from_utf8(token().to_json()).unwrap();
    assert_eq!(reason(&json), None);
    let changed = |from: &str, to: &str| {
        assert!(json.contains(from), "{from}");
        reason(&json.replacen(from, to, 1))
    };
    let issuer = format!("{{\"uri\":\"{}\"}}", key(1).did());
    assert_eq!(changed(&issuer, "{}"), Some(Reason::Malformed), "no issuer");
    assert_eq!(changed(&issuer, "7"), Some(Reason::Malformed));
    assert_eq!(changed(&issuer, "{\"uri\":\"did:web:example.org\"}"), Some(Reason::UnsupportedKey));
    assert_eq!(changed("\"act\":\"delegate\"", "\"act\":\"grant\""), Some(Reason::Malformed));
    assert_eq!(changed("\"act\":\"delegate\"", "\"act\":7"), Some(Reason::Malformed));
    assert_eq!(changed("[\"/p/0\"]", "[7]"), Some(Reason::Malformed));
    assert_eq!(changed("[\"/p/0\"]", "[\"/p/\"]"), Some(Reason::Malformed));
    assert_eq!(changed("[\"/p/0\"]", "\"/p/0\""), Some(Reason::Malformed));
    assert_eq!(changed("\"cap\"", "\"topic\":[],\"cap\""), Some(Reason::Malformed));
    assert_eq!(changed("\"exp\":1", "\"exp\":-1"), Some(Reason::Malformed));
    assert_eq!(changed("\"exp\"", "\"depth\":0,\"exp\""), Some(Reason::Malformed));
    assert_eq!(changed("\"nonce\":\"BwcH", "\"nonce\":\"Bwc"), Some(Reason::Malformed));
    assert_eq!(changed("\"nonce\":\"BwcH", "\"nonce\":\""), Some(Reason::Malformed), "nine bytes");
    assert_eq!(changed("\"sig\":\"", "\"sig\":\"AAAA"), Some(Reason::BadSignature), "67 bytes");
    let (unsigned, _) = json.split_once(",\"sig\"").unwrap();
    assert_eq!(reason(&format!("{unsigned}}}}}")), Some(Reason::NotSigned));
    assert_eq!(reason(&format!("{unsigned},\"sig\":\"\"}}}}")), Some(Reason::Malformed));
}

#[test]
fn a_link_has_a_bounded_number_of_paths() {
    let parsed = |capabilities, topics| {
        let Minting { capabilities, topics, .. } = minting(capabilities, topics);
        let token = Token { topics, capabilities, ..token() };
        Token::parse(&token.to_json()).err().map(|refusal| refusal.reason)
    };
    assert_eq!(parsed(MAX_PATHS, MAX_PATHS), None);
    assert_eq!(parsed(MAX_PATHS + 1, 0), Some(Reason::TooLarge));
    assert_eq!(parsed(1, MAX_PATHS + 1), Some(Reason::TooLarge));
    // And none is made that nobody would read.
    let made = |minting| match Token::delegate(&key(1), minting, None) {
        Err(MintError::NotPermitted { reason, .. }) => Some(reason),
        other => other.err().map(|error| panic!("{error}")),
    };
    assert_eq!(made(minting(MAX_PATHS, MAX_PATHS)), None);
    assert_eq!(made(minting(MAX_PATHS + 1, 0)), Some(Reason::TooLarge));
    assert_eq!(made(minting(1, MAX_PATHS + 1)), Some(Reason::TooLarge));
    let long = Capability::parse(&format!("/{}", "x".repeat(MAX_CAPABILITIES))).unwrap();
    assert_eq!(made(Minting { capabilities: vec![long], ..minting(1, 0) }), Some(Reason::TooLarge));
}

#[test]
fn what_the_signatures_of_a_chain_cover_is_bounded() {
    let full = || {
        let path = |index| Capability::parse(&format!("/{index:060}")).unwrap();
        Minting { capabilities: (0..MAX_PATHS).map(path).collect(), subject: key(1).did().clone(), ..minting(1, 0) }
    };
    let (mut chain, mut links) = (Token::delegate(&key(1), full(), None).unwrap(), 1);
    let refused = loop {
        match Token::delegate(&key(1), full(), Some(&chain)) {
            Ok(longer) => (chain, links) = (longer, links + 1),
            Err(MintError::NotPermitted { reason, .. }) => break reason,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((refused, links), (Reason::TooLarge, 5));
    // Nobody is kept from signing such a chain; no signature of it is checked.
    let mut longer = Token { chain: Some(Box::new(chain.clone())), ..chain.clone() };
    longer.signature = key(1).sign(&longer.signed_bytes());
    let (result, checks) = counted::during(|| longer.verify(NOW, &|_| false));
    assert_eq!((result.map_err(|refusal| refusal.reason), checks), (Err(Reason::TooLarge), 0));
    assert_eq!(chain.verify(NOW, &|_| false), Ok(()));
}

#[test]
fn no_chain_is_made_that_is_too_long_to_read() {
    let mut chain = token();
    for _ in 2..MAX_LINKS {
        chain = Token::delegate(&key(2), minting(1, 0), Some(&chain)).unwrap();
    }
    let refused = |result: Result<Token, MintError>| match result {
        Err(MintError::NotPermitted { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(Token::delegate(&key(2), minting(1, 0), Some(&chain))), Reason::TooDeep);
    let last = Token::invoke(&key(2), minting(1, 0), Some(&chain)).unwrap();
    assert_eq!((last.links().count(), last.verify(NOW, &|_| false)), (MAX_LINKS, Ok(())));
}

#[test]
fn a_token_shows_what_it_says() {
    let token = token();
    assert_eq!(
        format!("{token:?}"),
        format!("Token(delegate {} → {} [Capability(/p/0)] until 2026-01-01T00:00:01Z)", key(1).did(), key(2).did())
    );
    assert_eq!((token.audience(), token.topics(), token.depth(), token.nonce()), (None, &[][..], 0, &[7; 12]));
    assert_eq!((token.chain(), token.root(), token.links().count()), (None, &token, 1));
}

#[test]
fn a_list_is_read_whole_or_not_at_all() {
    let list = token_list(&[token(), token()]);
    assert_eq!(parse_token_list(&list), Ok(vec![token(), token()]));
    assert_eq!(parse_token_list(b"{}"), Ok(Vec::new()));
    assert_eq!(parse_token_list(b"{\"tok\":[]}"), Ok(Vec::new()));
    for (json, reason) in [
        ("{\"tok\":{}}", Reason::Malformed),
        ("{\"tok\":[null]}", Reason::Malformed),
        ("[]", Reason::Malformed),
        ("{\"tok\":[],\"tok\":[]}", Reason::DuplicateMember),
        ("{\"TOK\":[]}", Reason::UnknownMember),
    ] {
        assert_eq!(parse_token_list(json.as_bytes()).map_err(|refusal| refusal.reason), Err(reason), "{json}");
    }
    let mut long = list;
    long.resize(MAX_CAPABILITIES + 1, b' ');
    assert_eq!(parse_token_list(&long).map_err(|refusal| refusal.reason), Err(Reason::TooLarge));
    long.pop();
    assert_eq!(parse_token_list(&long).map(|tokens| tokens.len()), Ok(2));
}

/// A chain is written once for all its signatures; it must be the same as each link written by itself.
#[test]
fn signed_bytes_are_the_same_from_above_and_from_below() {
    let mut chain = token();
    for number in 2..7 {
        let next = Minting { subject: key(number + 1).did().clone(), ..minting(1, 0) };
        chain = Token::delegate(&key(number), next, Some(&chain)).unwrap();
    }
    let mut above = String::new();
    for link in chain.links().collect::<Vec<_>>().into_iter().rev() {
        let (signed, whole) = link.signed_bytes_below(&above);
        assert_eq!((signed.into_bytes(), whole.clone().into_bytes()), (link.signed_bytes(), link.to_json()));
        above = whole;
    }
    assert_eq!(chain.verify(NOW, &|_| false), Ok(()));
}
