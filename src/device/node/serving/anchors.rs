//! The node's anchors, seen and changed from afar.

use super::{
    super::{
        Served,
        trust::{Addition, NotAdded},
    },
    request,
};
use crate::{
    capability::{Context, MAX_CAPABILITIES, Token},
    device::dms::{AnchorRequest, Anchors, AnchorsRequest, DidText, RevokeBroadcastReply, TokenList},
};

/// What a list of tokens has beside them, and each of them beside itself.
const BRACKETS: usize = r#"{"tok":[]}"#.len();
const COMMA: usize = 1;

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

    /// Tells everybody who listens what was taken back, whichever context was asked for. It counts what was told, to
    /// whomever: nobody answers a broadcast.
    pub(super) async fn tell_of_revocations(&self, message: &[u8]) -> RevokeBroadcastReply {
        let mut tokens_count = 0;
        let told = async {
            let AnchorsRequest { context: _ } = request(message)?;
            let (trusted, now) = (self.trust.current(), self.lifecycle.now());
            let Context { revoke, provide, .. } = &*trusted;
            for some in lists(revoke.iter().filter(|token| token.not_after() >= now)) {
                let told = self.reach()?.tell_of_revocations(TokenList::of(&some), provide, now).await;
                told.map_err(|error| error.to_string())?;
                tokens_count += u64::try_from(some.len()).unwrap_or(u64::MAX);
            }
            Ok(())
        };
        let error: String = told.await.err().unwrap_or_default();
        RevokeBroadcastReply { ok: error.is_empty(), error, tokens_count }
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

/// The same tokens, in lists none of which is longer than what is read of one.
fn lists<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<Vec<Token>> {
    let mut lists: Vec<Vec<Token>> = Vec::new();
    let mut length = 0;
    for token in tokens {
        let more = token.to_json().len() + COMMA;
        if lists.is_empty() || length + more > MAX_CAPABILITIES {
            lists.push(Vec::new());
            length = BRACKETS;
        }
        if let Some(list) = lists.last_mut() {
            list.push(token.clone());
        }
        length += more;
    }
    lists
}
