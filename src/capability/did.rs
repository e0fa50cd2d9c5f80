//! One Ed25519 key under its three names: `did:key`, DMS actor ID and libp2p peer ID.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use data_encoding::BASE32;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::key::is_of_small_order;

const PREFIX: &str = "did:key:z";
/// Multicodec `ed25519-pub` as varint.
const ED25519_CODEC: [u8; 2] = [0xed, 0x01];
/// Multicodecs of other key types as varints, with their names; the first three are read by DMS.
const OTHER_CODECS: [(&[u8], &str); 12] = [
    (&[0xe7, 0x01], "secp256k1"),
    (&[0x81, 0xde, 0x03], "Ethereum"),
    (&[0x82, 0xde, 0x03], "Cardano"),
    (&[0xec, 0x01], "X25519"),
    (&[0x83, 0x24], "Ed448"),
    (&[0x80, 0x24], "P-256"),
    (&[0x81, 0x24], "P-384"),
    (&[0x82, 0x24], "P-521"),
    (&[0x85, 0x24], "RSA"),
    (&[0xea, 0x01], "BLS12-381 G1"),
    (&[0xeb, 0x01], "BLS12-381 G2"),
    (&[0xee, 0x01], "BLS12-381 G1 and G2"),
];
/// libp2p protobuf of an Ed25519 public key, up to the key itself.
const PROTOBUF: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
/// Identity multihash of such a protobuf, up to the protobuf itself.
const MULTIHASH: [u8; 2] = [0x00, 0x24];
/// Longest text that is looked at; base58 costs quadratic time.
const LONGEST: usize = 128;

/// An Ed25519 `did:key` in its one canonical spelling. Its point is on the curve, canonical and not of small order,
/// so two equal keys always have equal DIDs. Cheap to clone: the text and the decompressed key are shared.
#[derive(Clone)]
pub struct Did(Arc<Parts>);

struct Parts {
    text: String,
    key: VerifyingKey,
}

/// Why a text or a key is not a usable DID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DidError {
    /// It is no `did:key`.
    #[error("{0:?} is not a did:key: write `did:key:z6Mk…` as `kubectl hosting wallet show` prints it")]
    NotDidKey(String),
    /// It is a DID, of a method or key type that is not read here.
    #[error("{text:?} {what}: only the did:key of Ed25519 keys is read, make one with `kubectl hosting wallet new`")]
    UnsupportedKey {
        /// The DID.
        text: String,
        /// Which method or type it is of.
        what: Cow<'static, str>,
    },
    /// It is another spelling of a key.
    #[error("{0:?} is not the canonical spelling of its key")]
    NotCanonical(String),
    /// Its key is not a point that signatures can be checked with.
    #[error("{0:?} does not hold a valid Ed25519 public key")]
    InvalidKey(String),
    /// It is no Ed25519 peer ID.
    #[error("{0:?} is not the peer ID of an Ed25519 key: write `12D3KooW…` as the node prints it")]
    NotPeerId(String),
}

impl Did {
    /// Reads a DID.
    ///
    /// # Errors
    /// [`DidError`], when it is anything but the canonical `did:key` of a usable Ed25519 key.
    pub fn parse(text: &str) -> Result<Self, DidError> {
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            return Err(not_did_key(text));
        };
        if text.len() > LONGEST {
            // Long keys are RSA keys, as a rule; what they are is not worth reading them.
            let what = "holds a key that is longer than an Ed25519 key".into();
            return Err(DidError::UnsupportedKey { text: text.to_owned(), what });
        }
        let error = |variant: fn(String) -> DidError| variant(text.to_owned());
        let bytes = bs58::decode(encoded).into_vec().map_err(|_| error(DidError::NotDidKey))?;
        let Some(key) = bytes.strip_prefix(&ED25519_CODEC) else {
            let name = OTHER_CODECS.iter().find(|(codec, _)| bytes.starts_with(codec)).map(|(_, name)| name);
            return Err(name.map_or_else(
                || error(DidError::NotDidKey),
                |name| DidError::UnsupportedKey {
                    text: text.to_owned(),
                    what: format!("holds a key of the type {name}").into(),
                },
            ));
        };
        let key = key.try_into().map_err(|_| error(DidError::InvalidKey))?;
        let did = Self::from_public_key(key)?;
        if did.as_str() == text { Ok(did) } else { Err(error(DidError::NotCanonical)) }
    }

    /// The DID of an Ed25519 public key.
    ///
    /// # Errors
    /// [`DidError::InvalidKey`], when the bytes are not the canonical form of a point of large order.
    pub fn from_public_key(key: [u8; 32]) -> Result<Self, DidError> {
        match VerifyingKey::from_bytes(&key) {
            Ok(point) if is_reduced(&key) && !is_of_small_order(&key) => Ok(Self::of_valid(&point)),
            _ => Err(DidError::InvalidKey(spelled(&key))),
        }
    }

    /// The DID of a key that is known to be valid.
    pub(super) fn of_valid(key: &VerifyingKey) -> Self {
        Self(Arc::new(Parts { text: spelled(key.as_bytes()), key: *key }))
    }

    /// The DID of a libp2p peer ID.
    ///
    /// # Errors
    /// [`DidError`], when it is not the identity multihash of a usable Ed25519 key.
    pub fn from_peer_id(text: &str) -> Result<Self, DidError> {
        let error = || DidError::NotPeerId(text.to_owned());
        if text.len() > LONGEST {
            return Err(error());
        }
        let bytes = bs58::decode(text).into_vec().map_err(|_| error())?;
        let key = bytes.strip_prefix(&MULTIHASH).and_then(|bytes| bytes.strip_prefix(&PROTOBUF)).ok_or_else(error)?;
        let did = Self::from_public_key(key.try_into().map_err(|_| error())?)?;
        if did.peer_id() == text { Ok(did) } else { Err(error()) }
    }

    /// The text `did:key:z6Mk…`.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The 32 bytes of the public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.0.key.as_bytes()
    }

    /// The key, ready to check signatures with.
    pub(super) fn verifying_key(&self) -> &VerifyingKey {
        &self.0.key
    }

    /// The libp2p peer ID of the key: `12D3KooW…`.
    pub fn peer_id(&self) -> String {
        bs58::encode(joined(&[&MULTIHASH, &PROTOBUF, self.public_key()])).into_string()
    }

    /// The DMS actor ID of the key: `BAAREI…======`.
    pub fn actor_id(&self) -> String {
        BASE32.encode(&joined(&[&PROTOBUF, self.public_key()]))
    }
}

/// Whether the y coordinate is below 2^255 - 19, as its canonical form is. The sign bit of a key that is not of small
/// order has only one right value.
fn is_reduced(key: &[u8; 32]) -> bool {
    let [lowest, middle @ .., highest] = key;
    *lowest < 0xed || middle.iter().any(|byte| *byte != 0xff) || highest & 0x7f != 0x7f
}

fn spelled(key: &[u8; 32]) -> String {
    format!("{PREFIX}{}", bs58::encode(joined(&[&ED25519_CODEC, key])).into_string())
}

fn not_did_key(text: &str) -> DidError {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("did"), Some(method), Some(id)) if !["", "key"].contains(&method) && !id.is_empty() => {
            DidError::UnsupportedKey { text: text.to_owned(), what: format!("is of the method {method:?}").into() }
        }
        _ => DidError::NotDidKey(text.to_owned()),
    }
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

impl PartialEq for Did {
    fn eq(&self, other: &Self) -> bool {
        self.public_key() == other.public_key()
    }
}

impl Eq for Did {}

impl PartialOrd for Did {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Did {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Did {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.public_key().hash(state);
    }
}

impl fmt::Display for Did {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Did({self})")
    }
}

impl std::str::FromStr for Did {
    type Err = DidError;

    fn from_str(text: &str) -> Result<Self, DidError> {
        Self::parse(text)
    }
}

impl Serialize for Did {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Did {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A DMS actor ID as it stands in a handle: canonical base32 of a libp2p public key, or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(String);

impl ActorId {
    /// The actor ID of a DID.
    pub fn of(did: &Did) -> Self {
        Self(did.actor_id())
    }

    /// Reads an actor ID of any key type, or the empty one. `None`: it is not canonical base32.
    pub fn parse(text: &str) -> Option<Self> {
        BASE32.decode(text.as_bytes()).ok().map(|_| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it names nobody, as the recipient of a broadcast does.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The DID of the key. `None`, when it is not the one canonical spelling of an Ed25519 key.
    pub fn did(&self) -> Option<Did> {
        let bytes = BASE32.decode(self.0.as_bytes()).ok()?;
        let key = bytes.strip_prefix(&PROTOBUF)?;
        Did::from_public_key(key.try_into().ok()?).ok()
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_keys_and_methods_are_refused_by_name() {
        for (codec, name) in OTHER_CODECS {
            let text = format!("{PREFIX}{}", bs58::encode(joined(&[codec, &[2; 33]])).into_string());
            let told = Did::parse(&text).unwrap_err().to_string();
            assert!(told.starts_with(&format!("{text:?} holds a key of the type {name}: ")), "{told}");
        }
        let told = Did::parse("did:prism:0123").unwrap_err().to_string();
        assert!(told.starts_with("\"did:prism:0123\" is of the method \"prism\": only "), "{told}");
        let long = Did::parse(&format!("{PREFIX}{}", "4MX".repeat(120)));
        assert!(matches!(long, Err(DidError::UnsupportedKey { .. })), "{long:?}");
        for text in ["", "did", "did:", "did:key", "did::x", "did:prism:", "did:key:", "did:key:f00", "DID:key:z1"] {
            assert_eq!(Did::parse(text), Err(DidError::NotDidKey(text.to_owned())));
        }
    }

    #[test]
    fn a_did_is_its_text() {
        let did = super::super::Key::from_seed([0x11; 32]).did().clone();
        let json = serde_json::to_string(&did).unwrap();
        assert_eq!(json, format!("\"{did}\""));
        assert_eq!(serde_json::from_str::<Did>(&json).unwrap(), did);
        assert!(serde_json::from_str::<Did>("\"did:key:z\"").unwrap_err().to_string().contains("is not a did:key"));
        assert_eq!(did.as_str().parse::<Did>(), Ok(did.clone()));
        assert_eq!(format!("{did:?}"), format!("Did({did})"));
        let other = super::super::Key::from_seed([0x12; 32]).did().clone();
        assert_eq!(did.cmp(&other), did.as_str().cmp(other.as_str()));
        assert_eq!(did.partial_cmp(&did), Some(Ordering::Equal));
        assert_eq!([did.clone(), other.clone(), did.clone()].iter().collect::<std::collections::HashSet<_>>().len(), 2);
        assert_eq!(ActorId::of(&did).to_string(), did.actor_id());
    }

    #[test]
    fn only_the_peer_id_of_an_ed25519_key_is_read() {
        let did = super::super::Key::from_seed([0x13; 32]).did().clone();
        let encode = |parts: &[&[u8]]| bs58::encode(joined(parts)).into_string();
        assert_eq!(Did::from_peer_id(&encode(&[&MULTIHASH, &PROTOBUF, did.public_key()])), Ok(did.clone()));
        let wrong = [
            String::new(),
            "0OIl".to_owned(),
            "1".repeat(LONGEST + 1),
            did.to_string(),
            encode(&[&MULTIHASH, &[0x08, 0x02, 0x12, 0x21], &[2; 33]]),
            encode(&[&[0x12, 0x20], &[2; 32]]),
            encode(&[&MULTIHASH, &PROTOBUF, &[1; 31]]),
            encode(&[&MULTIHASH, &PROTOBUF, did.public_key(), &[0]]),
        ];
        for text in wrong {
            assert_eq!(Did::from_peer_id(&text), Err(DidError::NotPeerId(text)));
        }
        let weak = encode(&[&MULTIHASH, &PROTOBUF, &[0; 32]]);
        assert!(matches!(Did::from_peer_id(&weak), Err(DidError::InvalidKey(_))));
        for id in ["", "BAAREI", "ME======", &did.actor_id()[1..]] {
            assert_eq!(ActorId::parse(id).and_then(|id| id.did()), None, "{id}");
        }
        assert!(ActorId::parse("").is_some_and(|id| id.is_empty()));
    }

    fn is_canonical(key: &[u8; 32]) -> bool {
        VerifyingKey::from_bytes(key).is_ok_and(|point| !point.is_weak() && point.to_edwards().compress().0 == *key)
    }

    #[test]
    fn a_key_near_the_prime_is_read_only_in_its_canonical_form() {
        for low in 0..=u8::MAX {
            for (middle, high) in [(0xff, 0x7f), (0xff, 0xff), (0, 0), (0, 0x80), (0xff, 0x7e), (0xfe, 0x7f)] {
                let mut key = [middle; 32];
                (key[0], key[31]) = (low, high);
                assert_eq!(Did::from_public_key(key).is_ok(), is_canonical(&key), "{}", hex::encode(key));
            }
        }
    }

    proptest! {
        #[test]
        fn a_key_is_read_when_it_is_canonical_and_of_large_order(key: [u8; 32]) {
            let did = Did::from_public_key(key);
            prop_assert_eq!(did.is_ok(), is_canonical(&key));
            if let Ok(did) = did {
                prop_assert_eq!(did.public_key(), &key);
                prop_assert_eq!(Did::parse(did.as_str()), Ok(did.clone()));
                prop_assert_eq!(Did::from_peer_id(&did.peer_id()), Ok(did.clone()));
                prop_assert_eq!(ActorId::of(&did).did(), Some(did));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(did:(key|web):z)?\\PC{0,60}") {
            if let Ok(did) = Did::parse(&text) {
                prop_assert_eq!(did.as_str(), text);
            }
        }
    }
}
