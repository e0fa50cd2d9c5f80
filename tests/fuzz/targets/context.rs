//! Whatever is read as a context file is written again as it was read; what is loaded from it gives no right to a stranger.
#![no_main]

use fuzz::capability::{Context, Usage, token_list};
use fuzz::{BEHAVIOUR, NOW, invocation, key, path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(context) = Context::parse(bytes) {
        assert_eq!(Context::parse(&context.to_json()).as_ref(), Ok(&context));
        let usage = Usage::Invocation { audience: &context.did };
        let _ = context.require(&token_list(&[invocation()]), key(3).did(), &usage, &[path(BEHAVIOUR)], NOW);
    }
    if let Ok(context) = Context::load(bytes, NOW) {
        assert_eq!(Context::load(&context.to_json(), NOW).as_ref(), Ok(&context));
        assert!(context.require.iter().chain(&context.provide).all(|token| token.not_after() >= NOW));
    }
});
