//! No change of a signed invocation is accepted, unless it means the very same.
//!
//! The input is a list of changes: place, kind and byte. They are made on the envelope, or on the tokens inside before the
//! pipeline signs the envelope anew.
#![no_main]

use std::sync::LazyLock;

use fuzz::capability::{Envelope, Verdict, token_list};
use fuzz::{accepted, envelope, invocation, judge};
use libfuzzer_sys::fuzz_target;

static GOOD: LazyLock<(Vec<u8>, Vec<u8>, Verdict)> = LazyLock::new(|| {
    let bytes = accepted();
    let verdict = judge(&bytes).expect("accepted");
    (bytes, token_list(&[invocation()]), verdict)
});

fn change(bytes: &mut Vec<u8>, [high, low, kind, byte]: [u8; 4]) {
    let place = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
    match kind % 5 {
        0 if place < bytes.len() => bytes[place] ^= byte.max(1),
        1 => bytes.insert(place, byte),
        2 if place < bytes.len() => drop(bytes.remove(place)),
        3 if place < bytes.len() => {
            let end = (place + usize::from(byte)).min(bytes.len());
            let part = bytes[place..end].to_vec();
            bytes.splice(place..place, part);
        }
        4 if place < bytes.len() => {
            let end = (place + usize::from(byte)).min(bytes.len());
            bytes.drain(place..end);
        }
        _ => {}
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((inside, changes)) = input.split_first() else { return };
    let (good, tokens, verdict) = &*GOOD;
    let inside = inside % 2 == 1;
    let mut changed = if inside { tokens.clone() } else { good.clone() };
    for step in changes.chunks_exact(4).take(8) {
        change(&mut changed, [step[0], step[1], step[2], step[3]]);
    }
    let bytes = if inside { envelope(changed).to_json() } else { changed };
    if let Some(found) = judge(&bytes) {
        assert_eq!(found, *verdict, "another meaning was accepted");
        // Only white space and escapes differ: read again, all of it is the same.
        let (found, mut expected) = (Envelope::parse(&bytes).expect("read"), Envelope::parse(good).expect("read"));
        let tokens = |envelope: &Envelope| fuzz::capability::parse_token_list(&envelope.capabilities).expect("read");
        assert_eq!(tokens(&found), tokens(&expected));
        if inside {
            // The pipeline has signed other bytes of the same tokens.
            (expected.capabilities, expected.signature) = (found.capabilities.clone(), found.signature);
        }
        assert_eq!(found, expected);
    }
});
