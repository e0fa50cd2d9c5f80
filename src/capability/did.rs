//! One Ed25519 key under its three names: `did:key`, DMS actor ID and libp2p peer ID.

use std::fmt;

use data_encoding::BASE32;
use ed25519_dalek::VerifyingKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PREFIX: &str = "did:key:z";
/// Multicodec `ed25519-pub` as varint.
const ED25519_CODEC: [u8; 2] = [0xed, 0x01];
/// Multicodecs of the other key types that DMS knows: secp256k1, Ethereum, Cardano.
const OTHER_CODECS: [&[u8]; 3] = [&[0xe7, 0x01], &[0x81, 0xde, 0x03], &[0x82, 0xde, 0x03]];
/// libp2p protobuf of an Ed25519 public key, up to the key itself.
const PROTOBUF: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
/// Identity multihash of such a protobuf, up to the protobuf itself.
const MULTIHASH: [u8; 2] = [0x00, 0x24];
/// Longest text that is looked at; base58 costs quadratic time.
const LONGEST: usize = 128;

/// An Ed25519 `did:key` in its one canonical spelling. Its point is on the curve, canonical and not of small order,
/// so two equal keys always have equal DIDs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Did {
    text: String,
    key: [u8; 32],
}

/// Why a text or a key is not a usable DID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DidError {
    /// It is no `did:key`.
    #[error("{0:?} is not a did:key: write `did:key:z6Mk…` as `kubectl hosting wallet show` prints it")]
    NotDidKey(String),
    /// It is a DID, of a method or key type that is not read here.
    #[error("{0:?} is not an Ed25519 did:key: only Ed25519 keys are read, make one with `kubectl hosting wallet new`")]
    UnsupportedKey(String),
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
        let Some(encoded) = text.strip_prefix(PREFIX).filter(|_| text.len() <= LONGEST) else {
            return Err(not_did_key(text));
        };
        let error = |variant: fn(String) -> DidError| variant(text.to_owned());
        let bytes = bs58::decode(encoded).into_vec().map_err(|_| error(DidError::NotDidKey))?;
        let Some(key) = bytes.strip_prefix(&ED25519_CODEC) else {
            let known = OTHER_CODECS.iter().any(|codec| bytes.starts_with(codec));
            return Err(error(if known { DidError::UnsupportedKey } else { DidError::NotDidKey }));
        };
        let key = key.try_into().map_err(|_| error(DidError::InvalidKey))?;
        let did = Self::from_public_key(key)?;
        if did.text == text { Ok(did) } else { Err(error(DidError::NotCanonical)) }
    }

    /// The DID of an Ed25519 public key.
    ///
    /// # Errors
    /// [`DidError::InvalidKey`], when the bytes are not the canonical form of a point of large order.
    pub fn from_public_key(key: [u8; 32]) -> Result<Self, DidError> {
        let did = Self::spelled(key);
        match VerifyingKey::from_bytes(&key) {
            Ok(point) if !point.is_weak() && point.to_edwards().compress().to_bytes() == key => Ok(did),
            _ => Err(DidError::InvalidKey(did.text)),
        }
    }

    /// The DID of a key that is known to be valid.
    pub(super) fn of_valid(key: &VerifyingKey) -> Self {
        Self::spelled(key.to_bytes())
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

    fn spelled(key: [u8; 32]) -> Self {
        let encoded = bs58::encode(joined(&[&ED25519_CODEC, &key])).into_string();
        Self { text: format!("{PREFIX}{encoded}"), key }
    }

    /// The text `did:key:z6Mk…`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The 32 bytes of the public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The libp2p peer ID of the key: `12D3KooW…`.
    pub fn peer_id(&self) -> String {
        bs58::encode(joined(&[&MULTIHASH, &PROTOBUF, &self.key])).into_string()
    }

    /// The DMS actor ID of the key: `BAAREI…======`.
    pub fn actor_id(&self) -> String {
        BASE32.encode(&joined(&[&PROTOBUF, &self.key]))
    }
}

fn not_did_key(text: &str) -> DidError {
    let mut parts = text.split(':');
    let other_method = parts.next() == Some("did")
        && parts.next().is_some_and(|method| !method.is_empty() && method != "key")
        && parts.next().is_some_and(|id| !id.is_empty());
    if other_method { DidError::UnsupportedKey(text.to_owned()) } else { DidError::NotDidKey(text.to_owned()) }
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

impl fmt::Display for Did {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Did({})", self.text)
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
        serializer.serialize_str(&self.text)
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
