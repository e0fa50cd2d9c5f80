//! DMS messages: reading, writing, signing and checking envelopes.

use std::borrow::Cow;
use std::fmt;

use super::gojson::Object;
use super::strict::{self, Members, Tree, malformed};
use super::token::{did_of, signature_of, write_did};
use super::{ActorId, Did, Key, KnownDids, Nanos, Reason, Refusal, key};

/// Largest envelope that is read: the largest message of the newest DMS.
pub const MAX_ENVELOPE: usize = 1 << 20;
/// Largest token list in an envelope, and largest single token, as in DMS.
pub const MAX_CAPABILITIES: usize = 16_384;

const DOMAIN: &str = "dms:msg:";

/// Names an actor and says where it is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle {
    /// The key that signs its envelopes; empty in the recipient of a broadcast.
    pub id: ActorId,
    /// The identity that it says to act for. No signature binds it to `id`: never decide by it.
    pub did: Option<Did>,
    /// Peer ID of the node it lives on.
    pub host: Option<String>,
    /// Its inbox there.
    pub inbox: Option<String>,
}

impl Handle {
    /// The handle of an actor whose key is its DID.
    pub fn of(did: &Did, host: Option<String>, inbox: Option<String>) -> Self {
        Self { id: ActorId::of(did), did: Some(did.clone()), host, inbox }
    }

    /// The handle of the root actor of the node with this DID.
    pub fn root_of(did: &Did) -> Self {
        Self::of(did, Some(did.peer_id()), Some("root".to_owned()))
    }

    /// Whether it names nobody, as the recipient of a broadcast does.
    pub fn is_empty(&self) -> bool {
        let Self { id, did, host, inbox } = self;
        id.is_empty() && did.is_none() && host.is_none() && inbox.is_none()
    }

    pub(super) fn from_tree(tree: Tree<'_>, known: &mut KnownDids) -> Result<Self, Refusal> {
        let mut members = Members::of(tree, "handle", &["id", "did", "addr"])?;
        let id = Members::of(members.required("id")?, "actor ID", &["pub"])?.text("pub")?;
        let id =
            ActorId::parse(&id).ok_or_else(|| malformed(format!("the actor ID {id:?} is not canonical base32")))?;
        let did = did_of(members.required("did")?, known)?;
        let mut address = Members::of(members.required("addr")?, "address", &["host", "inbox"])?;
        let mut part = |name| address.optional_text(name).map(|text| text.map(Cow::into_owned));
        Ok(Self { id, did, host: part("host")?, inbox: part("inbox")? })
    }

    pub(super) fn write(&self, out: &mut String) {
        let Self { id, did, host, inbox } = self;
        Object::open(out)
            .member("id", |out| Object::open(out).text("pub", id.as_str()).close())
            .member("did", |out| write_did(out, did.as_ref()))
            .member("addr", |out| {
                Object::open(out).text_if("host", host.as_deref()).text_if("inbox", inbox.as_deref()).close();
            })
            .close();
    }
}

/// One DMS message. Its debug form shows neither payload nor tokens.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// To whom; empty in a broadcast.
    pub to: Handle,
    /// What is asked: a behaviour path.
    pub behaviour: String,
    /// From whom; the key in `from.id` signs.
    pub from: Handle,
    /// Tells messages of one sender apart.
    pub nonce: u64,
    /// Until when it may be acted on, that moment included.
    pub expires: Nanos,
    /// The behaviour on which a reply is awaited.
    pub continuation: Option<String>,
    /// The topic of a broadcast.
    pub topic: Option<String>,
    /// The payload, JSON as a rule.
    pub message: Vec<u8>,
    /// JSON of a token list ([`super::token_list`]), or empty.
    pub capabilities: Vec<u8>,
    /// Made by [`Envelope::sign`].
    pub signature: Option<[u8; 64]>,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, behaviour, from, nonce, expires, continuation, topic, message, capabilities, signature } = self;
        formatter
            .debug_struct("Envelope")
            .field("to", &to.id.as_str())
            .field("behaviour", behaviour)
            .field("from", &from.id.as_str())
            .field("nonce", nonce)
            .field("expires", expires)
            .field("continuation", continuation)
            .field("topic", topic)
            .field("message", &format_args!("{} bytes", message.len()))
            .field("capabilities", &format_args!("{} bytes", capabilities.len()))
            .field("signed", &signature.is_some())
            .finish()
    }
}

impl Envelope {
    /// Reads an envelope of at most [`MAX_ENVELOPE`] bytes. Nothing is verified yet.
    ///
    /// # Errors
    /// [`Refusal`], when it does not have exactly the form that DMS writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::parse_at_most(bytes, MAX_ENVELOPE, &mut KnownDids::default())
    }

    pub(super) fn parse_at_most(bytes: &[u8], limit: usize, known: &mut KnownDids) -> Result<Self, Refusal> {
        const MEMBERS: [&str; 8] = ["to", "be", "from", "nonce", "opt", "msg", "cap", "sig"];
        let mut members = Members::of(strict::read(bytes, limit, "envelope")?, "envelope", &MEMBERS)?;
        let mut options = Members::of(members.required("opt")?, "envelope's options", &["exp", "cont", "topic"])?;
        let capabilities = members.optional_bytes("cap")?;
        if capabilities.len() > MAX_CAPABILITIES {
            let message = format!("the envelope carries more than {MAX_CAPABILITIES} bytes of tokens");
            return Err(Refusal::explained(Reason::TooLarge, message));
        }
        let signature = members.optional_bytes("sig")?;
        Ok(Self {
            to: Handle::from_tree(members.required("to")?, known)?,
            behaviour: members.text("be")?.into_owned(),
            from: Handle::from_tree(members.required("from")?, known)?,
            nonce: members.number("nonce")?,
            expires: Nanos(options.number("exp")?),
            continuation: options.optional_text("cont")?.map(Cow::into_owned),
            topic: options.optional_text("topic")?.map(Cow::into_owned),
            message: members.bytes("msg")?,
            capabilities,
            signature: if signature.is_empty() { None } else { Some(signature_of(signature)?) },
        })
    }

    /// Signs the envelope. `key` must be the one of `from.id`, otherwise nobody will accept it.
    #[must_use]
    pub fn sign(mut self, key: &Key) -> Self {
        self.signature = Some(key.sign(&self.signed_bytes()));
        self
    }

    /// The envelope as DMS writes it.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::new();
        self.write(&mut out, true);
        out.into_bytes()
    }

    /// Whether it is to everybody on a topic.
    pub fn is_broadcast(&self) -> bool {
        self.to.is_empty() && self.topic.is_some()
    }

    /// The bytes that the sender signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = String::from(DOMAIN);
        self.write(&mut out, false);
        out.into_bytes()
    }

    fn write(&self, out: &mut String, signed: bool) {
        let Self { to, behaviour, from, nonce, expires, continuation, topic, message, capabilities, signature } = self;
        let mut object = Object::open(out);
        object
            .member("to", |out| to.write(out))
            .text("be", behaviour)
            .member("from", |out| from.write(out))
            .number("nonce", *nonce)
            .member("opt", |out| {
                Object::open(out)
                    .number("exp", expires.0)
                    .text_if("cont", continuation.as_deref())
                    .text_if("topic", topic.as_deref())
                    .close();
            })
            .bytes("msg", message)
            .bytes_if("cap", capabilities);
        if let (true, Some(signature)) = (signed, signature) {
            object.bytes("sig", signature);
        }
        object.close();
    }

    /// Checks expiry and signature, and returns who signed: the DID of `from.id`. What `from.did` says is ignored.
    ///
    /// # Errors
    /// [`Refusal`] with [`Reason::Expired`], [`Reason::NotSigned`], [`Reason::UnsupportedKey`] or
    /// [`Reason::BadSignature`].
    pub fn verify(&self, now: Nanos) -> Result<Did, Refusal> {
        self.check_expiry(now)?;
        let signer = self.claimed_signer()?;
        self.check_signature(&signer)?;
        Ok(signer)
    }

    pub(super) fn check_expiry(&self, now: Nanos) -> Result<(), Refusal> {
        if self.expires < now {
            let message = format!("the envelope expired at {}", self.expires);
            return Err(Refusal::explained(Reason::Expired, message));
        }
        Ok(())
    }

    /// The DID whose signature the envelope must carry. Not verified yet.
    pub(super) fn claimed_signer(&self) -> Result<Did, Refusal> {
        self.from.id.did().ok_or_else(|| {
            let message = format!("the sender {:?} is not the actor ID of an Ed25519 key", self.from.id.as_str());
            Refusal::explained(Reason::UnsupportedKey, message)
        })
    }

    /// The signature, not checked yet.
    pub(super) fn signature(&self) -> Result<&[u8; 64], Refusal> {
        self.signature.as_ref().ok_or_else(|| Refusal::explained(Reason::NotSigned, "the envelope has no signature"))
    }

    pub(super) fn check_signature(&self, signer: &Did) -> Result<(), Refusal> {
        if key::is_signed_by(signer, &self.signed_bytes(), self.signature()?) {
            return Ok(());
        }
        let message = format!("the envelope was changed after signing, or was not signed by {signer}");
        Err(Refusal::explained(Reason::BadSignature, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_neither_payload_nor_tokens() {
        let key = Key::from_seed([5; 32]);
        let envelope = Envelope {
            to: Handle::default(),
            behaviour: "/a".to_owned(),
            from: Handle::of(key.did(), None, Some("inbox".to_owned())),
            nonce: 1,
            expires: Nanos(2),
            continuation: None,
            topic: Some("/t".to_owned()),
            message: b"secret".to_vec(),
            capabilities: b"token".to_vec(),
            signature: None,
        };
        let text = format!("{:?}", envelope.clone().sign(&key));
        assert!(text.contains("message: 6 bytes, capabilities: 5 bytes, signed: true"), "{text}");
        assert!(!text.contains("secret") && !text.contains(&format!("{:?}", b"secret")), "{text}");
    }

    #[test]
    fn tokens_are_bounded_apart_from_the_envelope() {
        let key = Key::from_seed([6; 32]);
        let sized = |count| Envelope {
            to: Handle::root_of(key.did()),
            behaviour: "/a".to_owned(),
            from: Handle::root_of(key.did()),
            nonce: 1,
            expires: Nanos(2),
            continuation: None,
            topic: None,
            message: Vec::new(),
            capabilities: vec![b' '; count],
            signature: None,
        };
        let reason = |count| Envelope::parse(&sized(count).to_json()).err().map(|refusal| refusal.reason);
        assert_eq!(reason(MAX_CAPABILITIES), None);
        assert_eq!(reason(MAX_CAPABILITIES + 1), Some(Reason::TooLarge));
        assert_eq!(
            Envelope::parse(&vec![b' '; MAX_ENVELOPE + 1]).map_err(|refusal| refusal.reason),
            Err(Reason::TooLarge)
        );
    }
}
