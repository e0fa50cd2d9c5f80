use std::time::Duration;

use proptest::prelude::*;

use super::super::{Key, Minting, token_list};
use super::*;

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);
const LIFE: Duration = Duration::from_secs(60);
const CONTINUATION: &str = "/dms/actor/replyto/00112233445566778899aabbccddeeff";

fn key(byte: u8) -> Key {
    Key::from_seed([byte; 32])
}

fn minting(subject: &Key, audience: Option<&Key>, path: &str, depth: u64) -> Minting {
    Minting {
        subject: subject.did().clone(),
        audience: audience.map(|key| key.did().clone()),
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: vec![],
        expires: NOW.plus(LIFE),
        depth,
        nonce: [7; 12],
    }
}

/// What the asker sends with its request.
fn own(path: &str) -> Token {
    Token::delegate(&key(1), minting(&key(2), Some(&key(1)), path, 1), None).unwrap()
}

fn countersigned(chain: &Token) -> Token {
    Token::invoke(&key(2), minting(&key(2), Some(&key(1)), CONTINUATION, 0), Some(chain)).unwrap()
}

fn judged(tokens: &[Token], now: Nanos) -> Result<(), Reason> {
    let (asker, asked) = (key(1), key(2));
    let awaited = Awaited { asker: asker.did(), asked: asked.did(), continuation: CONTINUATION };
    check_countersigned(&token_list(tokens), &awaited, now).map_err(|refusal| refusal.reason)
}

#[test]
fn the_own_delegation_comes_back_counter_signed() {
    let token = countersigned(&own(CONTINUATION));
    let plain = Token::invoke(&key(2), minting(&key(2), Some(&key(1)), CONTINUATION, 0), None).unwrap();
    assert_eq!(judged(std::slice::from_ref(&token), NOW), Ok(()));
    assert_eq!(judged(&[plain.clone(), token], NOW), Ok(()), "others may stand beside it");
    assert_eq!(judged(&[plain], NOW), Err(Reason::NotAnchored));
    assert_eq!(judged(&[], NOW), Err(Reason::CapabilityMissing));
    let (asker, asked) = (key(1), key(2));
    let awaited = Awaited { asker: asker.did(), asked: asked.did(), continuation: CONTINUATION };
    let nothing = check_countersigned(b"", &awaited, NOW).unwrap_err();
    assert_eq!(nothing.message, format!("the answer of {} carries no token that it counter-signed", key(2).did()));
    assert_eq!(check_countersigned(b"[]", &awaited, NOW).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn what_only_looks_like_it_is_refused() {
    let whole = own(CONTINUATION);
    // A delegation that somebody else issued, one of the own to somebody else, and one that is wider than the continuation.
    let by_other = Token::delegate(&key(3), minting(&key(2), Some(&key(1)), CONTINUATION, 1), None).unwrap();
    assert_eq!(judged(&[countersigned(&by_other)], NOW), Err(Reason::NotAnchored));
    let by_other = Token::invoke(
        &key(3),
        minting(&key(3), Some(&key(1)), CONTINUATION, 0),
        Some(&Token::delegate(&key(1), minting(&key(3), Some(&key(1)), CONTINUATION, 1), None).unwrap()),
    );
    assert_eq!(judged(&[by_other.unwrap()], NOW), Err(Reason::NotAnchored));
    assert_eq!(judged(&[countersigned(&own("/dms/actor"))], NOW), Err(Reason::NotAnchored));
    assert_eq!(judged(&[countersigned(&own("/"))], NOW), Err(Reason::NotAnchored));
    // One for somebody else to use.
    let lent = Token::invoke(&key(2), minting(&key(3), Some(&key(1)), CONTINUATION, 0), Some(&whole)).unwrap();
    assert_eq!(judged(&[lent], NOW), Err(Reason::Widened));
    let passed_on = minting(&key(2), Some(&key(1)), CONTINUATION, 1);
    let deep = Token::delegate(&key(1), minting(&key(2), Some(&key(1)), CONTINUATION, 3), None).unwrap();
    let passed_on = Token::delegate(&key(2), passed_on, Some(&deep)).unwrap();
    assert_eq!(judged(&[passed_on], NOW), Err(Reason::Widened));
    assert_eq!(judged(&[countersigned(&whole)], NOW.plus(LIFE * 2)), Err(Reason::Expired));
}

proptest! {
    #[test]
    fn one_changed_byte_is_noticed(at in 0_usize..4096, bit in 0_u8..7) {
        let mut list = token_list(&[countersigned(&own(CONTINUATION))]);
        let at = at % list.len();
        list[at] ^= 1 << bit;
        let (asker, asked) = (key(1), key(2));
        let awaited = Awaited { asker: asker.did(), asked: asked.did(), continuation: CONTINUATION };
        prop_assert!(check_countersigned(&list, &awaited, NOW).is_err(), "byte {at} bit {bit}");
    }
}
