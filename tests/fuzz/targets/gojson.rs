//! What is written in Go's form is JSON of the same value, and is written the same again.
#![no_main]

use fuzz::capability::rewrite::{Kind, rewrite};
use libfuzzer_sys::fuzz_target;

const KINDS: [Kind; 10] = [
    Kind::Text,
    Kind::Integer,
    Kind::Bytes,
    Kind::Did,
    Kind::ActorId,
    Kind::Handle,
    Kind::Token,
    Kind::TokenList,
    Kind::Envelope,
    Kind::Context,
];

fuzz_target!(|bytes: &[u8]| {
    for kind in KINDS {
        let Ok(written) = rewrite(kind, bytes) else { continue };
        assert_eq!(rewrite(kind, &written).as_ref(), Ok(&written), "{kind:?}");
        if matches!(kind, Kind::Text | Kind::Integer | Kind::Bytes | Kind::Did | Kind::ActorId) {
            let value = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).expect("JSON");
            assert_eq!(value(&written), value(bytes), "{kind:?}");
        }
        assert!(!written.iter().any(|byte| b"<>&".contains(byte)), "{kind:?}");
    }
    // Every text has a form, also one that no JSON was read from.
    let text = String::from_utf8_lossy(bytes);
    let json = serde_json::to_vec(&*text).expect("a text has a JSON form");
    let written = rewrite(Kind::Text, &json).expect("a text is read");
    assert_eq!(serde_json::from_slice::<String>(&written).expect("JSON"), *text);
});
