//! Whatever is read as a token or a list of tokens is written again as it was read, and is judged without a panic.
#![no_main]

use fuzz::capability::{Action, Token, parse_token_list, token_list, verify_revocation};
use fuzz::{NOW, key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = Token::parse(bytes) {
        assert_eq!(Token::parse(&token.to_json()).as_ref(), Ok(&token));
        let verdict = token.verify(NOW, &|_| false);
        if verdict.is_ok() {
            assert!(token.not_after() >= NOW);
            let revoked = token.verify(NOW, &|link| *link == token.root().revocation_key());
            assert_eq!(revoked.is_err(), token.action() != Action::Revoke, "a revocation itself is not taken back");
        }
        let _ = verify_revocation(&token);
        let _ = Token::revoke(&key(1), &token);
    }
    if let Ok(tokens) = parse_token_list(bytes) {
        assert_eq!(parse_token_list(&token_list(&tokens)), Ok(tokens));
    }
});
