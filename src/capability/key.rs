//! Ed25519 signing and checking.

use std::fmt;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

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

/// Whether `signature` over `bytes` was made with the key of `did`. Strict: no malleable, small-order or
/// non-canonical form passes.
pub(super) fn is_signed_by(did: &Did, bytes: &[u8], signature: &[u8; 64]) -> bool {
    #[cfg(test)]
    counted::CHECKS.with(|checks| checks.set(checks.get() + 1));
    VerifyingKey::from_bytes(did.public_key())
        .is_ok_and(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok())
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
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let key = Key::from_seed([7; 32]);
        assert_eq!(format!("{key:?}"), format!("Key({})", key.did()));
    }

    #[test]
    fn signatures_are_checked() {
        let key = Key::from_seed([7; 32]);
        let signature = key.sign(b"x");
        assert!(is_signed_by(key.did(), b"x", &signature));
        assert!(!is_signed_by(key.did(), b"y", &signature));
        assert!(!is_signed_by(Key::from_seed([8; 32]).did(), b"x", &signature));
    }
}
