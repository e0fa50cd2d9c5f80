//! The provider's key, and the installation's id and key: one Secret in the operator's namespace.
//!
//! Created at first start when it does not exist; a Secret that was brought is completed, never overwritten.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use zeroize::Zeroizing;

use crate::{capability::Key, plan::tag::Installation};

/// Member with the seed of the provider's key, 64 hex digits.
pub const SEED: &str = "identity-seed";
/// Member with the installation's id.
pub const INSTALLATION_ID: &str = "installation-id";
/// Member with the installation's key, 64 hex digits.
pub const INSTALLATION_KEY: &str = "installation-key";

/// Who the operator is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The provider's key.
    pub key: Key,
    /// This installation.
    pub installation: Installation,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The API server did not do what was asked.
    #[error("Secret {name} with the provider's key could not be {action}")]
    Api {
        /// Name of the Secret.
        name: String,
        /// Read, created or completed.
        action: &'static str,
        /// What the API server said.
        #[source]
        source: Box<kube::Error>,
    },
    /// A member cannot be read. It is not replaced: what it signed could no longer be told apart.
    #[error("Secret {name}: member {member} is {fault}. Restore it from a backup; a new key is a new provider")]
    Member {
        /// Name of the Secret.
        name: String,
        /// The member.
        member: &'static str,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The system gave no random bytes.
    #[error("no random bytes could be had for a new key: {0}")]
    Random(getrandom::Error),
}

/// Reads the identity, and makes what is missing of it.
///
/// # Errors
/// [`IdentityError`]; nothing that exists is ever replaced.
pub async fn load_or_create(api: &Api<Secret>, name: &str) -> Result<Identity, IdentityError> {
    let failed = |action| move |source| IdentityError::Api { name: name.to_owned(), action, source: Box::new(source) };
    // A second replica may create or complete it at the same time: the loser reads again.
    for _ in 0..3 {
        let found = api.get_opt(name).await.map_err(failed("read"))?;
        let (secret, missing) = match found {
            None => (fresh(name)?, true),
            Some(secret) => completed(secret, name)?,
        };
        if !missing {
            return read(&secret, name);
        }
        let written = if secret.metadata.resource_version.is_some() {
            api.replace(name, &PostParams::default(), &secret).await
        } else {
            api.create(&PostParams::default(), &secret).await
        };
        match written {
            Ok(secret) => return read(&secret, name),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(failed("created or completed")(error)),
        }
    }
    let secret = api.get(name).await.map_err(failed("read"))?;
    read(&secret, name)
}

/// The provider's key alone, out of a Secret that is left as it is.
///
/// # Errors
/// [`IdentityError`], when the Secret cannot be read or holds no seed.
pub async fn read_key(api: &Api<Secret>, name: &str) -> Result<Key, IdentityError> {
    let secret = api.get(name).await.map_err(|source| IdentityError::Api {
        name: name.to_owned(),
        action: "read",
        source: Box::new(source),
    })?;
    Ok(Key::from_seed(seed(&secret, name, SEED)?))
}

fn fresh(name: &str) -> Result<Secret, IdentityError> {
    let mut data = BTreeMap::new();
    data.insert(SEED.to_owned(), random_hex()?);
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(data),
        ..Secret::default()
    };
    Ok(completed(secret, name)?.0)
}

fn completed(mut secret: Secret, name: &str) -> Result<(Secret, bool), IdentityError> {
    let data = secret.data.get_or_insert_default();
    if !data.contains_key(SEED) {
        return Err(IdentityError::Member { name: name.to_owned(), member: SEED, fault: "missing" });
    }
    let mut missing = secret.metadata.resource_version.is_none();
    if !data.contains_key(INSTALLATION_ID) {
        data.insert(INSTALLATION_ID.to_owned(), ByteString(uuid::Uuid::new_v4().to_string().into_bytes()));
        missing = true;
    }
    if !data.contains_key(INSTALLATION_KEY) {
        data.insert(INSTALLATION_KEY.to_owned(), random_hex()?);
        missing = true;
    }
    Ok((secret, missing))
}

fn random_hex() -> Result<ByteString, IdentityError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(IdentityError::Random)?;
    Ok(ByteString(hex::encode(bytes.as_slice()).into_bytes()))
}

fn read(secret: &Secret, name: &str) -> Result<Identity, IdentityError> {
    let id = String::from_utf8(member(secret, name, INSTALLATION_ID)?.to_vec())
        .ok()
        .filter(|id| uuid::Uuid::try_parse(id).is_ok())
        .ok_or_else(|| fault(name, INSTALLATION_ID, "not a UUID"))?;
    let (key, installation) = (seed(secret, name, SEED)?, seed(secret, name, INSTALLATION_KEY)?);
    Ok(Identity { key: Key::from_seed(key), installation: Installation::new(id, installation) })
}

fn seed(secret: &Secret, name: &str, of: &'static str) -> Result<[u8; 32], IdentityError> {
    let text = Zeroizing::new(member(secret, name, of)?.trim_ascii().to_vec());
    let mut bytes = [0; 32];
    hex::decode_to_slice(text.as_slice(), &mut bytes).map_err(|_| fault(name, of, "not 64 hex digits"))?;
    Ok(bytes)
}

fn member<'a>(secret: &'a Secret, name: &str, member: &'static str) -> Result<&'a [u8], IdentityError> {
    let found = secret.data.as_ref().and_then(|data| data.get(member));
    found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| fault(name, member, "missing"))
}

fn fault(name: &str, member: &'static str, fault: &'static str) -> IdentityError {
    IdentityError::Member { name: name.to_owned(), member, fault }
}
