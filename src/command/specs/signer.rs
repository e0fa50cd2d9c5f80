//! Who signs, and by what right: from the command line, the environment of a pipeline, or the wallet.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::super::CommandError;
use super::super::anchors::{Held, NoGrant, Wanted};
use super::super::token::read_token;
use super::super::wallet::{contexts, key_file, key_of_seed, only_key_file, open_key};
use crate::capability::{Capability, Did, Key, Nanos, Token};

/// Seed of the key, as 64 hex digits.
const KEY_SEED: &str = "DMS_OPERATOR_KEY_SEED";
/// The grant, as JSON.
const GRANT: &str = "DMS_OPERATOR_GRANT";

/// Who signs.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Hand {
    /// Key file of the owner, or of a key that the owner delegated to, or the name of one in the wallet folder. Its
    /// passphrase is taken from DMS_PASSPHRASE, or asked for. Absent: the seed in DMS_OPERATOR_KEY_SEED (64 hex digits),
    /// else the only key in the wallet folder.
    #[arg(long, value_name = "FILE|NAME")]
    key: Option<PathBuf>,
    /// The token by which the key may deploy: the provider's grant, or a delegation of it. Absent: the token in
    /// DMS_OPERATOR_GRANT, else the one in the wallet that lasts longest of those that permit it.
    #[arg(long, value_name = "FILE")]
    grant: Option<PathBuf>,
    /// DID of the provider. Absent: who issued the grant.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    pub(super) provider: Option<Did>,
}

impl Hand {
    /// Whether the command line says how to sign, or the environment names a key.
    pub(super) fn is_given(&self) -> bool {
        let Self { key, grant, provider } = self;
        key.is_some() || grant.is_some() || provider.is_some() || variable(KEY_SEED).is_some()
    }

    pub(super) fn open(&self) -> Result<Signer, CommandError> {
        let Self { key, grant, provider } = self;
        let key = match (key, variable(KEY_SEED)) {
            (Some(which), _) => open_key(&key_file(which)?)?,
            (None, Some(seed)) => key_of_seed(&seed, KEY_SEED)?,
            (None, None) => open_key(&only_key()?)?,
        };
        let grants = match (grant, variable(GRANT)) {
            (Some(file), _) => Grants::Given(Box::new(read_token(file)?)),
            (None, Some(json)) => Grants::Given(Box::new(token_in_environment(&json)?)),
            (None, None) => Grants::Held(Held::of(key.did(), contexts()?)),
        };
        Ok(Signer { key, grants, provider: provider.clone() })
    }
}

fn only_key() -> Result<PathBuf, CommandError> {
    only_key_file()?.ok_or_else(|| {
        CommandError::new(format!(
            "no key to sign with is named, and the wallet folder does not hold exactly one: name it with --key FILE|NAME \
             (`kubectl hosting wallet list` shows those that are there), or set {KEY_SEED}"
        ))
    })
}

fn token_in_environment(json: &str) -> Result<Token, CommandError> {
    Token::parse(json.trim().as_bytes())
        .map_err(|refusal| CommandError::because(format!("{GRANT} holds no token that can be read"), refusal))
}

fn variable(name: &str) -> Option<Zeroizing<String>> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty()).map(Zeroizing::new)
}

/// A key, and the grants that it may use.
#[derive(Debug)]
pub(super) struct Signer {
    pub(super) key: Key,
    pub(super) grants: Grants,
    /// Absent: who issued the grant.
    pub(super) provider: Option<Did>,
}

#[derive(Debug)]
pub(super) enum Grants {
    /// This one, for whatever is signed.
    Given(Box<Token>),
    /// The best one for each object.
    Held(Held),
}

impl Signer {
    /// The grant for an object of an owner, and the provider that it is used with: the one that was named, else `provider`,
    /// else who issued the grant.
    pub(super) fn grant(
        &self,
        capability: &Capability,
        owner: Option<&Did>,
        provider: Option<&Did>,
        now: Nanos,
    ) -> Result<(&Token, Did), NoGrant> {
        let provider = self.provider.as_ref().or(provider);
        let grant = match &self.grants {
            Grants::Given(grant) => grant,
            Grants::Held(held) => held.newest(&Wanted { key: self.key.did(), provider, owner, capability, now })?,
        };
        Ok((grant, provider.unwrap_or_else(|| grant.root().issuer()).clone()))
    }
}
