//! Replies: made as DMS makes them (`dms-protocol.md` §2.3, §2.4).

use std::fmt;

use serde_json::Value;

use crate::{
    capability::{Action, Capability, Did, Envelope, Handle, Key, Minting, Token, token_list},
    device::libp2p::Spoil,
};

/// A frame on its way out.
#[derive(Clone, PartialEq, Eq)]
pub struct OutboundFrame {
    /// Peer ID of the receiver.
    pub peer: String,
    /// Its inbox there.
    pub inbox: String,
    /// The envelope.
    pub body: Vec<u8>,
    /// What goes wrong with it on purpose.
    pub spoil: Spoil,
}

impl fmt::Debug for OutboundFrame {
    /// Without the envelope: a frame is not for logs in either direction.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OutboundFrame({} of {}, {} bytes)", self.inbox, self.peer, self.body.len())
    }
}

/// The signed reply to `request`, or `None` when the sender named no way to reply.
pub(in crate::device) fn reply(
    key: &Key,
    request: &Envelope,
    sender: &Did,
    nonce: u64,
    payload: &Value,
) -> Option<OutboundFrame> {
    let continuation = request.continuation.clone()?;
    let (peer, inbox) = (request.from.host.clone()?, request.from.inbox.clone()?);
    let capabilities = token_list(&tokens(key, request, sender, &continuation));
    let envelope = Envelope {
        to: request.from.clone(),
        behaviour: continuation,
        from: Handle::root_of(key.did()),
        nonce,
        expires: request.expires,
        continuation: None,
        topic: None,
        message: payload.to_string().into_bytes(),
        capabilities,
        signature: None,
    };
    Some(OutboundFrame { peer, inbox, body: envelope.sign(key).to_json(), spoil: Spoil::None })
}

/// The right to reply: an invocation hung on the delegation of the continuation that came with the request, then a
/// self-signed one for a sender that has this node as a root.
fn tokens(key: &Key, request: &Envelope, sender: &Did, continuation: &str) -> Vec<Token> {
    let Ok(capability) = Capability::parse(continuation) else { return Vec::new() };
    let received = readable_tokens(&request.capabilities);
    let delegations = received.iter().filter(|token| {
        token.action() == Action::Delegate
            && token.subject() == key.did()
            && token.capabilities().iter().any(|given| given.implies(&capability))
    });
    delegations
        .take(1)
        .map(Some)
        .chain([None])
        .filter_map(|chain| {
            let mut nonce = [0; 12];
            getrandom::fill(&mut nonce).ok()?;
            let minting = Minting {
                subject: key.did().clone(),
                audience: Some(sender.clone()),
                capabilities: vec![capability.clone()],
                topics: Vec::new(),
                expires: request.expires,
                depth: 0,
                nonce,
            };
            Token::invoke(key, minting, chain).ok()
        })
        .collect()
}

/// The tokens of a list that can be read: beside the one needed there may be some of key types that are not known here.
fn readable_tokens(list: &[u8]) -> Vec<Token> {
    let list: Value = serde_json::from_slice(list).unwrap_or_default();
    let tokens = list.get("tok").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    tokens.iter().filter_map(|token| Token::parse(token.to_string().as_bytes()).ok()).collect()
}
