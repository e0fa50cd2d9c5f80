//! The marks by which a deployment on a device is known as ours.
//!
//! An ensemble's metadata says which installation made it, for which object and attempt, on which device, and what
//! runs; a tag, an HMAC over all of these with the installation's key, makes it checkable from the manifest alone.
//! Nothing is adopted, updated or stopped before its tag checks.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    api::names::metadata,
    capability::{Did, Key},
};

const TAG_DOMAIN: &[u8] = b"nunet-hosting:tag:v1\n";
const SITE_DOMAIN: &[u8] = b"nunet-hosting:site-seed:v1\n";

/// Bytes in a block of SHA-256.
const BLOCK: usize = 64;

/// One installation of the operator: a random id, and the key that tags what it starts. Never rotated.
#[derive(Clone)]
pub struct Installation {
    id: String,
    /// Filled up with zeros to a block, as HMAC does with a shorter key: of this length every key is taken.
    key: Zeroizing<[u8; BLOCK]>,
}

impl std::fmt::Debug for Installation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Installation").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the metadata of one of our deployments says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Namespace of the HostingDeployment.
    pub namespace: String,
    /// Name of the HostingDeployment.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Number of the attempt.
    pub attempt: i64,
    /// The device that it was made for.
    pub device: Did,
    /// Digest of the ensemble without metadata and without the credentials made for the attempt.
    pub digest: String,
}

impl Installation {
    /// An installation from what its Secret holds.
    #[must_use]
    pub fn new(id: String, key: [u8; 32]) -> Self {
        let key = Zeroizing::new(key);
        let mut block = Zeroizing::new([0; BLOCK]);
        for (place, byte) in block.iter_mut().zip(key.iter()) {
            *place = *byte;
        }
        Self { id, key: block }
    }

    /// The random id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The metadata of an ensemble, tag included.
    #[must_use]
    pub fn mark(&self, marks: &Marks) -> BTreeMap<String, String> {
        let Marks { namespace, name, uid, attempt, device, digest } = marks;
        let mut members: BTreeMap<String, String> = [
            (metadata::INSTALLATION, self.id.clone()),
            (metadata::NAMESPACE, namespace.clone()),
            (metadata::NAME, name.clone()),
            (metadata::UID, uid.clone()),
            (metadata::ATTEMPT, attempt.to_string()),
            (metadata::DEVICE, device.to_string()),
            (metadata::DIGEST, digest.clone()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        let tag = hex::encode(self.mac(&members).finalize().into_bytes());
        members.insert(metadata::TAG.to_owned(), tag);
        members
    }

    /// The marks, when every one is there and the tag is ours.
    #[must_use]
    pub fn recognise(&self, found: &BTreeMap<String, String>) -> Option<Marks> {
        let text = |key: &str| found.get(key).cloned();
        let marks = Marks {
            namespace: text(metadata::NAMESPACE)?,
            name: text(metadata::NAME)?,
            uid: text(metadata::UID)?,
            attempt: text(metadata::ATTEMPT)?.parse().ok()?,
            device: Did::parse(&text(metadata::DEVICE)?).ok()?,
            digest: text(metadata::DIGEST)?,
        };
        let tag = hex::decode(found.get(metadata::TAG)?).ok()?;
        let mut members = self.mark(&marks);
        members.remove(metadata::TAG);
        // Verified in constant time over the marks as this installation would write them.
        self.mac(&members).verify_slice(&tag).ok()?;
        (found.get(metadata::INSTALLATION) == Some(&self.id)).then_some(marks)
    }

    /// The key of the site server of one attempt. Derived, so that the operator knows the current attempt's key
    /// without keeping it.
    #[must_use]
    pub fn site_key(&self, uid: &str, attempt: i64) -> Key {
        let mut mac = self.keyed();
        mac.update(SITE_DOMAIN);
        mac.update(uid.as_bytes());
        mac.update(b"\n");
        mac.update(&attempt.to_be_bytes());
        Key::from_seed(mac.finalize().into_bytes().into())
    }

    fn mac(&self, members: &BTreeMap<String, String>) -> Hmac<Sha256> {
        let mut mac = self.keyed();
        mac.update(TAG_DOMAIN);
        for (key, value) in members {
            // Lengths keep ("ab", "c") and ("a", "bc") apart.
            for part in [key, value] {
                mac.update(&(part.len() as u64).to_be_bytes());
                mac.update(part.as_bytes());
            }
        }
        mac
    }

    fn keyed(&self) -> Hmac<Sha256> {
        Hmac::new((&*self.key).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks(name: &str, attempt: i64, seed: [u8; 32]) -> Marks {
        Marks {
            namespace: "shop".into(),
            name: name.into(),
            uid: "0b2f".into(),
            attempt,
            device: Key::from_seed(seed).did().clone(),
            digest: "ab".repeat(32),
        }
    }

    /// What runs on devices was marked by versions before: its tags must stay what they are.
    #[test]
    fn tags_and_site_keys_stay_what_they_were() {
        let key = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let ours = Installation::new("6b1f0a52-0b0e-4e1c-9a67-0d2f1f6f9f11".into(), key);
        let device = Did::parse("did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK").unwrap();
        let written = ours.mark(&Marks { device, ..marks("web", 7, [0; 32]) });
        assert_eq!(written[metadata::TAG], "2c29fcb08aaaeca6e2a3978c4b15e899386e7be442e93e4ae7db5f1fcd180280");
        assert_eq!(
            hex::encode(ours.site_key("0b2f", 7).expose_seed()),
            "6e55989d06a9a133a58587c4cf232cb95e4d9f07e99d640fb4a42b775fd8a5f6"
        );
    }

    proptest! {
        #[test]
        fn only_our_own_unchanged_marks_are_recognised(
            name in "[a-z]{1,20}", attempt in 1_i64..1000, seed: [u8; 32], key: [u8; 32], other: [u8; 32], changed in 0_usize..8
        ) {
            prop_assume!(key != other);
            let ours = Installation::new("one".into(), key);
            let marks = marks(&name, attempt, seed);
            let written = ours.mark(&marks);
            prop_assert_eq!(ours.recognise(&written), Some(marks));
            prop_assert_eq!(Installation::new("one".into(), other).recognise(&written), None);
            prop_assert_eq!(Installation::new("two".into(), key).recognise(&written), None);

            let member = written.keys().nth(changed).cloned().unwrap();
            let mut forged = written.clone();
            forged.get_mut(&member).unwrap().push('0');
            prop_assert_eq!(ours.recognise(&forged), None);
            let mut short = written;
            short.remove(&member);
            prop_assert_eq!(ours.recognise(&short), None);
        }

        #[test]
        fn each_attempt_has_a_site_key_of_its_own(key: [u8; 32], attempt in 1_i64..1000) {
            let ours = Installation::new("one".into(), key);
            let first = ours.site_key("u", attempt);
            let again = ours.site_key("u", attempt);
            let next = ours.site_key("u", attempt + 1);
            let foreign = ours.site_key("v", attempt);
            prop_assert_eq!(first.did(), again.did());
            prop_assert_ne!(first.did(), next.did());
            prop_assert_ne!(first.did(), foreign.did());
        }
    }
}
