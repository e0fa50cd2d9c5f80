//! Ed25519 signing and checking.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _};

use super::Did;

/// An Ed25519 private key. Erased from memory when dropped, and never printed.
#[derive(Clone)]
pub struct Key {
    signing: SigningKey,
    did: Did,
}

impl Key {
    /// The key of a seed.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = zeroize::Zeroizing::new(seed);
        let signing = SigningKey::from_bytes(&seed);
        let did = Did::of_valid(&signing.verifying_key());
        Self { signing, did }
    }

    /// The DID that this key proves.
    pub const fn did(&self) -> &Did {
        &self.did
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.signing.sign(bytes).to_bytes()
    }

    /// The secret seed, for storing it encrypted or handing it to a child process.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.signing.as_bytes()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.did)
    }
}

/// The y coordinates of the eight points of small order, canonical, without the sign of x.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [
        0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f,
    ],
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Whether this encodes a point of small order, with a y coordinate in canonical form. One as a key would let anybody
/// sign.
pub(super) fn is_of_small_order(point: &[u8; 32]) -> bool {
    let mut coordinate = *point;
    coordinate[31] &= 0x7f;
    SMALL_ORDER.contains(&coordinate)
}

/// Whether `signature` over `bytes` was made with the key of `did`. Strict: no malleable, small-order or
/// non-canonical form passes.
///
/// The answer is that of `verify_strict` without its cost of decompressing the signature's point: the plain check
/// compares that point's bytes with the canonical ones that it computes, so it is a point, and canonical, once they are
/// equal; and a [`Did`] holds no key of small order.
pub(super) fn is_signed_by(did: &Did, bytes: &[u8], signature: &[u8; 64]) -> bool {
    #[cfg(test)]
    counted::CHECKS.with(|checks| checks.set(checks.get() + 1));
    !signature.first_chunk().is_some_and(is_of_small_order)
        && did.verifying_key().verify(bytes, &Signature::from_bytes(signature)).is_ok()
}

impl Did {
    /// Whether `signature` over `bytes` was made with the key of this DID. Strict: of one signature there is one form.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        is_signed_by(self, bytes, signature)
    }
}

/// How many signatures were checked, so that a test can tell that a cheap refusal checked none.
#[cfg(test)]
pub(super) mod counted {
    use std::cell::Cell;

    thread_local! { pub(in super::super) static CHECKS: Cell<usize> = const { Cell::new(0) }; }

    /// Runs `work` and returns its result with the number of signatures that it checked.
    pub(in super::super) fn during<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = CHECKS.with(Cell::get);
        let result = work();
        (result, CHECKS.with(Cell::get) - before)
    }
}

#[cfg(test)]
mod tests;
