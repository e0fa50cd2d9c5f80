//! Whatever is read as an envelope or a bid is written again as it was read, and is judged without a panic.
#![no_main]

use fuzz::capability::{Bid, Envelope};
use fuzz::{BEHAVIOUR, NOW, judge, node, path};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = Envelope::parse(bytes) {
        assert_eq!(Envelope::parse(&envelope.to_json()).as_ref(), Ok(&envelope));
        let (node, capability) = (node(), path(BEHAVIOUR));
        let _ = node.authorise(&envelope, &capability, NOW);
        let _ = node.authorise_broadcast(&envelope, &path("/nunet/hello"), &capability, NOW);
    }
    let _ = judge(bytes);
    if let Ok(bid) = Bid::parse(bytes) {
        assert_eq!(Bid::parse(&bid.to_json()).as_ref(), Ok(&bid));
        let _ = bid.verify();
    }
});
