//! The node's anchors, seen and changed from afar.

use super::{
    super::{
        Served,
        trust::{Addition, NotAdded},
    },
    request,
};
use crate::{
    capability::{Context, Token},
    device::dms::{AnchorRequest, Anchors, DidText, RevokeBroadcastReply, TokenList},
};

impl Served {
    /// The node's own context, whichever was asked for.
    pub(super) fn anchors(&self) -> Anchors {
        let Context { did: _, roots, require, provide, revoke } = &*self.trust.current();
        Anchors {
            ok: true,
            error: String::new(),
            roots: roots.iter().map(DidText::from).collect(),
            require: TokenList::of(require),
            provide: TokenList::of(provide),
            revoke: TokenList::of(revoke),
        }
    }

    /// Stricter than DMS, which keeps the anchors before the first bad one.
    pub(super) async fn add_anchors(&self, message: &[u8], kind: fn(Vec<Token>) -> Addition) -> Result<(), String> {
        let AnchorRequest { token } = request(message)?;
        let tokens = token.tokens().map_err(|refusal| refusal.to_string())?;
        if tokens.is_empty() {
            return Err("the request has no token".to_owned());
        }
        self.trust.add(kind(tokens), self.lifecycle.now()).await.map_err(|error| {
            if matches!(error, NotAdded::State(_)) {
                tracing::error!(%error, "anchors could not be kept");
            }
            error.to_string()
        })
    }

    /// Who tells of revocations need not have issued them, and a bad one among them costs no other: each is worth what
    /// its issuer's signature is.
    pub(super) async fn hear_of_revocations(&self, message: &[u8]) -> RevokeBroadcastReply {
        let tokens =
            request(message).and_then(|AnchorRequest { token }| token.tokens().map_err(|refusal| refusal.to_string()));
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(error) => return RevokeBroadcastReply { error, ..RevokeBroadcastReply::default() },
        };
        let mut reply = RevokeBroadcastReply { ok: true, ..RevokeBroadcastReply::default() };
        for token in tokens {
            match self.trust.add(Addition::Revoke(vec![token]), self.lifecycle.now()).await {
                Ok(()) => reply.tokens_count += 1,
                Err(error) => {
                    tracing::info!(%error, "a revocation that was broadcast is left out");
                    (reply.ok, reply.error) = (false, error.to_string());
                }
            }
        }
        reply
    }
}
