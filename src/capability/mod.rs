//! Who may do what: keys, capability tokens, envelopes and the verdict over them.
//!
//! Pure: no clock, network or randomness; every function takes `now` and its inputs. The wire forms are those of
//! NuNet DMS (`Go encoding/json` in declared order), read strictly: duplicate or unknown members, trailing data and
//! non-canonical encodings are refused before any signature is checked.
//!
//! ```text
//! size → strict parse → expiry → audience → anchors → capabilities → signatures
//! ```

mod bid;
mod cache;
mod chain;
mod context;
mod countersign;
mod did;
mod envelope;
mod gojson;
mod key;
pub mod keystore;
mod mint;
mod nanos;
mod path;
mod printable;
mod reason;
mod refusal;
mod revocation;
#[cfg(any(test, feature = "dev"))]
pub mod rewrite;
mod strict;
mod token;
mod verdict;

#[cfg(test)]
mod vectors;

pub use bid::{Bid, BidLayout, Contract, Location};
pub use cache::{Epochs, KnownDids, VerdictCache};
pub use context::{Context, Usage};
pub use countersign::{Awaited, check_countersigned};
pub use did::{ActorId, Did, DidError};
pub use envelope::{Envelope, Handle, MAX_CAPABILITIES, MAX_ENVELOPE};
pub use key::Key;
pub use mint::{MintError, Minting};
pub use nanos::Nanos;
pub use path::{Capability, PathError};
pub use printable::{on_one_line, printable};
pub use reason::Reason;
pub use refusal::Refusal;
pub use revocation::verify_revocation;
pub use token::{Action, MAX_LINKS, MAX_PATHS, RevocationKey, Token, parse_known_tokens, parse_token_list, token_list};
pub use verdict::{Expectation, MAX_INVOCATION, Verdict, judge, judge_message};
