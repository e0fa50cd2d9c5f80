//! Making the token that takes another one back.

use std::path::PathBuf;

use super::{CommandError, Signer, read_token};
use crate::api::names::is_label;
use crate::api::{CapabilityRevocation, CapabilityRevocationSpec};
use crate::capability::{Key, Nanos, Reason, Token, verify_revocation};

#[derive(Debug, clap::Args)]
pub(super) struct Revoke {
    #[command(flatten)]
    pub(super) signer: Signer,
    /// File with the token; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) token: PathBuf,
    /// Number of the link to take back, 1 for the root, as `token inspect` counts. Absent: the last one, the token
    /// itself.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
    link: Option<u8>,
    /// Print a CapabilityRevocation of this name, for `kubectl apply -f -`, instead of the bare token.
    #[arg(long, value_name = "NAME")]
    manifest: Option<String>,
    /// Namespace of the CapabilityRevocation.
    #[arg(short, long, requires = "manifest")]
    namespace: Option<String>,
    /// Where to write it; an existing file is never overwritten. Absent: standard output.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

impl Revoke {
    pub(super) fn target(&self) -> Result<Token, CommandError> {
        read_token(&self.token)
    }

    /// What is to be written: the revocation of `token` or of a link above it.
    pub(super) fn text(&self, key: &Key, token: &Token) -> Result<String, CommandError> {
        let revocation = revocation(key, token, self.link.map(usize::from))?;
        let json = String::from_utf8_lossy(&revocation.to_json()).into_owned();
        match &self.manifest {
            None => Ok(json + "\n"),
            Some(name) => manifest(name, self.namespace.as_deref(), json),
        }
    }
}

pub(in crate::command) fn revocation(key: &Key, token: &Token, number: Option<usize>) -> Result<Token, CommandError> {
    let mut links: Vec<_> = token.links().collect();
    links.reverse();
    let count = links.len();
    let number = number.unwrap_or(count);
    let Some(target) = number.checked_sub(1).and_then(|above| links.get(above)) else {
        return Err(CommandError::new(format!("the token has no link {number}: its chain has {count}")));
    };
    // A nonce that was changed after signing would be revoked in vain. Expiry does not matter here.
    if let Err(refusal) = target.verify(Nanos(0), &|_| false)
        && refusal.reason == Reason::BadSignature
    {
        return Err(CommandError::because("nothing was revoked: the token is not what its issuers signed", refusal));
    }
    let revocation = Token::revoke(key, target).map_err(|error| {
        let own = links.iter().zip(1..).find(|(link, _)| link.issuer() == key.did());
        let hint = own.map_or(String::new(), |(_, own)| format!(" (this key can revoke link {own}: --link {own})"));
        CommandError::because(format!("link {number} of {count} was not revoked{hint}"), error)
    })?;
    verify_revocation(&revocation)
        .map_err(|refusal| CommandError::because("the revocation that was made does not hold", refusal))?;
    Ok(revocation)
}

fn manifest(name: &str, namespace: Option<&str>, token: String) -> Result<String, CommandError> {
    yaml_of(&object(name, namespace, token)?)
}

/// A CapabilityRevocation that holds the token.
pub(in crate::command) fn object(
    name: &str,
    namespace: Option<&str>,
    token: String,
) -> Result<CapabilityRevocation, CommandError> {
    for name in [Some(name), namespace].into_iter().flatten() {
        if !is_label(name) {
            let message = format!(
                "{name:?} cannot be a name here: write at most 63 lower-case letters, digits and hyphens, no hyphen at \
                 either end"
            );
            return Err(CommandError::new(message));
        }
    }
    let mut object = CapabilityRevocation::new(name, CapabilityRevocationSpec { token });
    object.metadata.namespace = namespace.map(str::to_owned);
    Ok(object)
}

/// The document, as `kubectl apply` takes it.
pub(in crate::command) fn yaml_of(object: &CapabilityRevocation) -> Result<String, CommandError> {
    // Folded blocks, which wrap long lines, are read differently by different readers.
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(object, options)
        .map_err(|error| CommandError::because("the CapabilityRevocation could not be written", error))
}
