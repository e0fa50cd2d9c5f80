//! The key files of DMS: a v3 keystore around a libp2p private key.
//!
//! scrypt (n 2^18, r 8, p 1) over the passphrase gives 64 bytes; the first half is the AES-256-CTR key, the second
//! half authenticates the ciphertext with SHA3-256.

use aes::Aes256;
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use serde::{Deserialize, Serialize};
use sha3::{Digest as _, Sha3_256};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::Key;

type Cipher = ctr::Ctr128BE<Aes256>;

const LOG_N: u8 = 18;
#[cfg(feature = "dev")]
const WEAK_LOG_N: u8 = 10;
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 1;
const DERIVED: usize = 64;
/// Costliest file that is opened: four times what DMS writes, 1 GiB of memory.
const MAX_N: u64 = 1 << 20;
const MAX_FILE: usize = 16_384;
/// libp2p protobuf of an Ed25519 private key, up to the seed.
const PROTOBUF: [u8; 4] = [0x08, 0x01, 0x12, 0x40];

/// Why a key file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum KeystoreError {
    /// It is not a keystore of DMS.
    #[error("this is not a DMS key file: {0}. Name a file made by `kubectl hosting wallet new` or `nunet key new`")]
    Malformed(String),
    /// Passphrase and file do not fit.
    #[error("the passphrase does not open this key file, or the file is damaged")]
    WrongPassphrase,
    /// The key inside is of another type.
    #[error("the key file holds a key that is not Ed25519: make one with `kubectl hosting wallet new`")]
    UnsupportedKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    crypto: Crypto,
    version: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Crypto {
    cipher: String,
    ciphertext: String,
    cipherparams: CipherParameters,
    kdf: String,
    kdfparams: KdfParameters,
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CipherParameters {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KdfParameters {
    n: u64,
    r: u32,
    p: u32,
    dklen: usize,
    salt: String,
}

/// The key file for a key, as indented JSON. `salt` and `iv` must be random and used once.
///
/// # Errors
/// [`KeystoreError::Malformed`], when nothing can be encrypted.
pub fn encrypt(key: &Key, name: &str, passphrase: &str, salt: [u8; 64], iv: [u8; 16]) -> Result<String, KeystoreError> {
    encrypt_with(LOG_N, key, name, passphrase, salt, iv)
}

/// The same with hardly any work for who guesses the passphrase: for tests, which open hundreds of key files.
///
/// # Errors
/// See [`encrypt`].
#[cfg(feature = "dev")]
pub fn encrypt_weakly(
    key: &Key,
    name: &str,
    passphrase: &str,
    salt: [u8; 64],
    iv: [u8; 16],
) -> Result<String, KeystoreError> {
    encrypt_with(WEAK_LOG_N, key, name, passphrase, salt, iv)
}

fn encrypt_with(
    log_n: u8,
    key: &Key,
    name: &str,
    passphrase: &str,
    salt: [u8; 64],
    iv: [u8; 16],
) -> Result<String, KeystoreError> {
    let parameters =
        KdfParameters { n: 1 << log_n, r: BLOCK_SIZE, p: PARALLELISM, dklen: DERIVED, salt: hex::encode(salt) };
    let derived = derive(passphrase, &salt, log_n)?;
    // One piece, so that no part of the seed stays behind when it grows.
    let mut text = Zeroizing::new(Vec::with_capacity(PROTOBUF.len() + 64));
    text.extend_from_slice(&PROTOBUF);
    text.extend_from_slice(key.expose_seed());
    text.extend_from_slice(key.did().public_key());
    apply_cipher(&derived, &iv, &mut text)?;
    let file = File {
        id: name.to_owned(),
        crypto: Crypto {
            cipher: "aes-256-ctr".to_owned(),
            mac: hex::encode(mac(&derived, &text)),
            ciphertext: hex::encode(&*text),
            cipherparams: CipherParameters { iv: hex::encode(iv) },
            kdf: "scrypt".to_owned(),
            kdfparams: parameters,
        },
        version: 3,
    };
    serde_json::to_string_pretty(&file).map_err(|error| refused(&error))
}

/// Opens a key file.
///
/// # Errors
/// [`KeystoreError`].
pub fn decrypt(json: &str, passphrase: &str) -> Result<Key, KeystoreError> {
    let malformed = |what: &str| KeystoreError::Malformed(what.to_owned());
    if json.len() > MAX_FILE {
        return Err(malformed("it is too large"));
    }
    let File { id: _, crypto, version } = serde_json::from_str(json).map_err(|error| {
        // The cause could quote what stands there: a seed, when it is the wrong file.
        malformed(&format!("it is not such a JSON file, see line {} column {}", error.line(), error.column()))
    })?;
    let Crypto { cipher, ciphertext, cipherparams, kdf, kdfparams, mac: expected } = crypto;
    if version != 3 || cipher != "aes-256-ctr" || kdf != "scrypt" {
        return Err(malformed("it is not version 3 with aes-256-ctr and scrypt"));
    }
    let KdfParameters { n, r, p, dklen, salt } = kdfparams;
    if !n.is_power_of_two() || !(2..=MAX_N).contains(&n) || r != BLOCK_SIZE || p != PARALLELISM || dklen != DERIVED {
        return Err(malformed("its scrypt parameters are not those of DMS"));
    }
    let bytes = |text: &str| hex::decode(text).map_err(|error| KeystoreError::Malformed(error.to_string()));
    let salt = bytes(&salt)?;
    let mut text = Zeroizing::new(bytes(&ciphertext)?);
    let iv = bytes(&cipherparams.iv)?.try_into().map_err(|_| malformed("its iv is not 16 bytes"))?;
    // proven: n is a power of two up to 2^20.
    let derived = derive(passphrase, &salt, u8::try_from(n.trailing_zeros()).unwrap_or(LOG_N))?;
    if !bool::from(mac(&derived, &text).as_slice().ct_eq(&bytes(&expected)?)) {
        return Err(KeystoreError::WrongPassphrase);
    }
    apply_cipher(&derived, &iv, &mut text)?;
    key_of(&text)
}

fn key_of(protobuf: &[u8]) -> Result<Key, KeystoreError> {
    let (seed, public) = protobuf
        .strip_prefix(&PROTOBUF)
        .and_then(|secret| secret.split_first_chunk::<32>())
        .ok_or(KeystoreError::UnsupportedKey)?;
    let key = Key::from_seed(*seed);
    if public == key.did().public_key() {
        Ok(key)
    } else {
        Err(KeystoreError::Malformed("its public key is not that of its seed".to_owned()))
    }
}

fn derive(passphrase: &str, salt: &[u8], log_n: u8) -> Result<Zeroizing<[u8; DERIVED]>, KeystoreError> {
    let parameters = scrypt::Params::new(log_n, BLOCK_SIZE, PARALLELISM).map_err(|error| refused(&error))?;
    let mut derived = Zeroizing::new([0; DERIVED]);
    scrypt::scrypt(passphrase.as_bytes(), salt, &parameters, derived.as_mut_slice())
        .map_err(|error| refused(&error))?;
    Ok(derived)
}

fn mac(derived: &[u8; DERIVED], ciphertext: &[u8]) -> [u8; 32] {
    let (_, authentication) = derived.split_at(32);
    Sha3_256::new().chain_update(authentication).chain_update(ciphertext).finalize().into()
}

fn apply_cipher(derived: &[u8; DERIVED], iv: &[u8; 16], text: &mut [u8]) -> Result<(), KeystoreError> {
    let (key, _) = derived.split_at(32);
    let mut cipher = Cipher::new_from_slices(key, iv).map_err(|error| refused(&error))?;
    cipher.apply_keystream(text);
    Ok(())
}

fn refused(error: &dyn std::fmt::Display) -> KeystoreError {
    KeystoreError::Malformed(format!("nothing can be computed with its parameters: {error}"))
}
