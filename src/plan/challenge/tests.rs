use proptest::{prelude::*, sample::subsequence};

use super::*;
use crate::capability::Key;

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

fn challenger(seed: u8) -> Challenger {
    Challenger::new(Key::from_seed([200; 32]).did().clone(), "hosting.example.org:8443", &[seed; 64])
}

fn claim(key: &Key) -> Claim {
    Claim {
        did: key.did().clone(),
        namespace: "shop".to_owned(),
        actions: vec![GrantAction::Apply, GrantAction::Publish],
    }
}

fn sign(key: &Key, text: &str) -> String {
    STANDARD.encode(key.sign(format!("{SIGNED_PREFIX}{text}").as_bytes()))
}

fn reason<T: std::fmt::Debug>(result: Result<T, Declined>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn the_text_names_both_sides_and_all_that_is_asked_for() {
    let (key, nonce) = (Key::from_seed([1; 32]), [0xab; 16]);
    let Challenge { text, state: _, expires } = challenger(1).challenge(claim(&key), nonce, NOW);
    let boot = challenger(1).boot;
    assert_eq!(expires, NOW.plus(Duration::from_mins(5)));
    assert_eq!(
        text,
        format!(
            "hosting.example.org:8443 wants you to sign in with your DID:\n{}\n\nGrant apply, publish in namespace shop \
             of the hosting provider.\n\nURI: {}\nVersion: 1\nNonce: abababababababababababababababab\nIssued At: \
             2027-01-15T08:00:00Z\nExpiration Time: 2027-01-15T08:05:00Z\nRequest ID: {boot}\nResources:\n- \
             /hosting/shop/apply\n- /hosting/shop/publish\n",
            key.did(),
            Key::from_seed([200; 32]).did(),
        )
    );
}

#[test]
fn a_host_brings_no_line_of_its_own_into_the_text() {
    let key = Key::from_seed([1; 32]);
    let did = key.did().clone();
    let text = |host: &str| Challenger::new(did.clone(), host, &[1; 64]).challenge(claim(&key), [0; 16], NOW).text;
    assert_eq!(text("a.b\nURI: c é\r"), text("a.bURI:c"));
}

proptest! {
    #[test]
    fn what_was_asked_for_comes_back_once_signed(
        seed in any::<[u8; 32]>(),
        nonce in any::<[u8; 16]>(),
        namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        actions in subsequence(GrantAction::ALL.to_vec(), 1..=5),
        later in 0_u64..=300,
    ) {
        let (key, made) = (Key::from_seed(seed), challenger(1));
        let claim = Claim { did: key.did().clone(), namespace, actions };
        let Challenge { text, state, expires } = made.challenge(claim.clone(), nonce, NOW);
        prop_assert!(text.is_ascii() && !text.contains('\r') && text.ends_with('\n'));
        prop_assert_eq!(text.lines().filter(|line| line.starts_with("Nonce: ")).count(), 1);
        let then = NOW.plus(Duration::from_secs(later));
        let proved = made.verify(&state, &sign(&key, &text), key.did(), then);
        prop_assert_eq!(proved, Ok(Proved { claim, nonce, expires }));
    }

    #[test]
    fn no_changed_bit_of_a_state_passes(place in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (key, made) = (Key::from_seed([1; 32]), challenger(1));
        let Challenge { text, state, expires: _ } = made.challenge(claim(&key), [7; 16], NOW);
        let mut bytes = STANDARD.decode(&state).unwrap();
        let place = place.index(bytes.len());
        bytes[place] ^= 1 << bit;
        let refused = made.verify(&STANDARD.encode(bytes), &sign(&key, &text), key.did(), NOW);
        prop_assert_eq!(reason(refused), Reason::ChallengeUnknown);
    }
}

#[test]
fn a_state_of_another_process_and_no_state_are_unknown() {
    let (key, made) = (Key::from_seed([1; 32]), challenger(1));
    let Challenge { text, state, expires: _ } = challenger(2).challenge(claim(&key), [7; 16], NOW);
    let long = "A".repeat(4 << 20);
    for state in [state.as_str(), "", "AAAA", "?", &format!("{state} "), &long] {
        let refused = made.verify(state, &sign(&key, &text), key.did(), NOW);
        assert_eq!(reason(refused), Reason::ChallengeUnknown, "{}", state.len());
    }
}

#[test]
fn who_answers_is_whom_it_was_made_for_and_in_time() {
    let (key, other, made) = (Key::from_seed([1; 32]), Key::from_seed([2; 32]), challenger(1));
    let Challenge { text, state, expires } = made.challenge(claim(&key), [7; 16], NOW);
    let verify = |signer: &Key, sender: &Key, now| made.verify(&state, &sign(signer, &text), sender.did(), now);
    assert_eq!(reason(verify(&other, &other, NOW)), Reason::SenderMismatch);
    assert_eq!(reason(verify(&key, &other, NOW)), Reason::SenderMismatch);
    assert_eq!(reason(verify(&other, &key, NOW)), Reason::WrongSignature);
    assert_eq!(reason(verify(&key, &key, Nanos(expires.0 + 1))), Reason::ChallengeExpired);
    assert!(verify(&key, &key, expires).is_ok());
}

/// Each of these was taken somewhere for the signature of a challenge: a text that only contains the nonce, one with more
/// around it, one for another host, the nonce alone, bytes without the domain, and what was signed as a token.
#[test]
fn only_the_very_text_counts() {
    let (key, made) = (Key::from_seed([1; 32]), challenger(1));
    let Challenge { text, state, expires: _ } = made.challenge(claim(&key), [7; 16], NOW);
    let nonce = hex::encode([7; 16]);
    let texts = [
        String::new(),
        nonce.clone(),
        format!("{text}\n"),
        format!(" {text}"),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        text.replace("hosting.example.org", "evil.example.org"),
        text.replace("apply, publish", "apply"),
        text.replace(&nonce, &hex::encode([8; 16])).replace("Grant ", &format!("Grant {nonce} ")),
        text.replace("Version: 1", &format!("Version: 1\nNonce: {nonce}")),
        format!("evil.example.org wants you to sign in with your DID:\n{}\n\nNonce: {nonce}\n", key.did()),
    ];
    let signatures = texts.iter().map(|other| sign(&key, other)).chain([
        STANDARD.encode(key.sign(text.as_bytes())),
        STANDARD.encode(key.sign(format!("dms:token:{text}").as_bytes())),
        STANDARD.encode(key.sign(format!("dms:msg:{text}").as_bytes())),
        String::new(),
        "?".to_owned(),
        STANDARD.encode([0; 64]),
        hex::encode(key.sign(format!("{SIGNED_PREFIX}{text}").as_bytes())),
    ]);
    for (number, signature) in signatures.enumerate() {
        let refused = made.verify(&state, &signature, key.did(), NOW);
        assert_eq!(reason(refused), Reason::WrongSignature, "{number}");
    }
    assert!(made.verify(&state, &sign(&key, &text), key.did(), NOW).is_ok());
}

/// The order of the group added to the second half makes another signature of the same bytes, for a lax verifier.
#[test]
fn a_signature_has_one_form() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let (key, made) = (Key::from_seed([1; 32]), challenger(1));
    let Challenge { text, state, expires: _ } = made.challenge(claim(&key), [7; 16], NOW);
    let mut signature = STANDARD.decode(sign(&key, &text)).unwrap();
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    let refused = made.verify(&state, &STANDARD.encode(signature), key.did(), NOW);
    assert_eq!(reason(refused), Reason::WrongSignature);
}

#[test]
fn the_key_is_not_printed() {
    let text = format!("{:?}", challenger(0x5a));
    assert!(text.starts_with("Challenger { provider: Did(did:key:") && text.ends_with(", .. }"));
}
