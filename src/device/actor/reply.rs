//! Replies: made as DMS makes them (`dms-protocol.md` §2.3, §2.4).

use std::fmt;

use serde_json::Value;

use crate::{
    capability::{Action, Capability, Did, Envelope, Handle, Key, Minting, Token, token_list},
    device::{libp2p::Spoil, random},
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

/// What a continuation begins with, as DMS makes it. Nothing else is invoked for who asks: it would be the asker's choice
/// what the reply's signature stands under.
const REPLY_TO: &str = "/dms/actor/replyto/";
/// Longest continuation that is answered.
const LONGEST: usize = 256;

/// The signed reply to `request`, or `None` when the sender named no way to reply.
pub(in crate::device) fn reply(
    key: &Key,
    request: &Envelope,
    sender: &Did,
    nonce: u64,
    payload: &Value,
) -> Option<OutboundFrame> {
    let (peer, inbox) = (request.from.host.clone()?, request.from.inbox.clone()?);
    let body = reply_body(key, request, sender, nonce, payload)?;
    Some(OutboundFrame { peer, inbox, body, spoil: Spoil::None })
}

/// The same without a way back, for who waits for it where the request came.
pub(in crate::device) fn reply_body(
    key: &Key,
    request: &Envelope,
    sender: &Did,
    nonce: u64,
    payload: &Value,
) -> Option<Vec<u8>> {
    let continuation = request.continuation.clone().filter(|path| is_reply_to(path))?;
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
    Some(envelope.sign(key).to_json())
}

fn is_reply_to(continuation: &str) -> bool {
    continuation.len() <= LONGEST && continuation.strip_prefix(REPLY_TO).is_some_and(|name| !name.is_empty())
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
            let minting = Minting {
                subject: key.did().clone(),
                audience: Some(sender.clone()),
                capabilities: vec![capability.clone()],
                topics: Vec::new(),
                expires: request.expires,
                depth: 0,
                nonce: random().ok()?,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Context, Nanos, parse_token_list};

    const NOW: Nanos = Nanos(1_800_000_000_000_000_000);
    const CONTINUATION: &str = "/dms/actor/replyto/8a";

    fn request(user: &Key, provider: &Key, continuation: &str) -> Envelope {
        let minting = Minting {
            subject: provider.did().clone(),
            audience: None,
            capabilities: vec![Capability::parse("/").unwrap()],
            topics: Vec::new(),
            expires: Nanos::MAX,
            depth: 0,
            nonce: [7; 12],
        };
        Envelope {
            to: Handle::root_of(provider.did()),
            behaviour: "/public/hello".to_owned(),
            from: Handle::root_of(user.did()),
            nonce: 1,
            expires: NOW,
            continuation: Some(continuation.to_owned()),
            topic: None,
            message: Vec::new(),
            capabilities: token_list(&[Token::delegate(user, minting, None).unwrap()]),
            signature: None,
        }
        .sign(user)
    }

    /// Who sends a delegation of everything along gets back an invocation of the one continuation, which neither the asker
    /// nor anybody else can use: not at the provider, and not at a node that has either of them as a root.
    #[test]
    fn a_delegation_of_everything_opens_nothing() {
        let [user, provider, node, stranger] = [1, 2, 3, 4].map(|seed| Key::from_seed([seed; 32]));
        let request = request(&user, &provider, CONTINUATION);
        let body = reply_body(&provider, &request, user.did(), 5, &Value::Null).unwrap();
        let reply = Envelope::parse(&body).unwrap();
        let tokens = parse_token_list(&reply.capabilities).unwrap();
        let continuation = Capability::parse(CONTINUATION).unwrap();
        assert_eq!(tokens.len(), 2);
        for token in &tokens {
            assert_eq!(token.action(), Action::Invoke);
            assert_eq!((token.issuer(), token.subject()), (provider.did(), provider.did()));
            assert_eq!((token.audience(), token.expires()), (Some(user.did()), NOW));
            assert_eq!(token.capabilities(), std::slice::from_ref(&continuation));
        }
        let trusting = |did: &Key, roots: &[&Key]| Context {
            did: did.did().clone(),
            roots: roots.iter().map(|root| root.did().clone()).collect(),
            require: Vec::new(),
            provide: Vec::new(),
            revoke: Vec::new(),
        };
        let places = [
            trusting(&provider, &[]),
            trusting(&user, &[&provider]),
            trusting(&node, &[&user, &provider]),
            trusting(&node, &[&user]),
            trusting(&node, &[&provider]),
        ];
        let wanted = ["/", "/dms/node/deployment/new", "/hosting/shop/apply/web", "/dms/actor/replyto", CONTINUATION];
        for place in &places {
            for capability in wanted.map(|path| Capability::parse(path).unwrap()) {
                let used_by = |sender: &Key| Envelope {
                    to: Handle::root_of(&place.did),
                    behaviour: capability.to_string(),
                    from: Handle::root_of(sender.did()),
                    capabilities: reply.capabilities.clone(),
                    ..request.clone()
                };
                for sender in [&user, &stranger, &node] {
                    // At its own node everybody may do everything.
                    if *sender.did() != place.did {
                        let used = place.authorise(&used_by(sender).sign(sender), &capability, NOW);
                        assert!(used.is_err(), "{capability} at {} by {}", place.did, sender.did());
                    }
                }
                let redirected = Envelope { to: Handle::root_of(&place.did), ..reply.clone() };
                assert!(place.authorise(&redirected, &capability, NOW).is_err() || place.did == *user.did());
                if capability != continuation {
                    assert!(place.authorise(&reply, &capability, NOW).is_err(), "{capability} by the reply itself");
                }
            }
        }
        let at_home = trusting(&user, &[]);
        assert_eq!(at_home.authorise(&reply, &continuation, NOW), Ok(()), "it is the reply that was asked for");
        // With that, a chain ends.
        let below = Minting {
            subject: stranger.did().clone(),
            audience: Some(user.did().clone()),
            capabilities: vec![continuation],
            topics: Vec::new(),
            expires: NOW,
            depth: 1,
            nonce: [8; 12],
        };
        for token in &tokens {
            assert!(Token::delegate(&provider, below.clone(), Some(token)).is_err());
        }
    }

    #[test]
    fn nothing_but_a_way_to_reply_is_invoked() {
        let [user, provider] = [1, 2].map(|seed| Key::from_seed([seed; 32]));
        let long = format!("/dms/actor/replyto/{}", "a".repeat(250));
        for other in
            ["/", "", "/dms/node/deployment/new", "/dms/actor/replyto", "/dms/actor/replyto/", "/dms/actor", &long]
        {
            let request = request(&user, &provider, other);
            assert_eq!(reply_body(&provider, &request, user.did(), 5, &Value::Null), None, "{other}");
            assert_eq!(reply(&provider, &request, user.did(), 5, &Value::Null), None, "{other}");
        }
        let none = Envelope { continuation: None, ..request(&user, &provider, CONTINUATION) };
        assert_eq!(reply_body(&provider, &none, user.did(), 5, &Value::Null), None);
    }
}
