//! Challenges: composed here, signed by a wallet, and written anew when they come back.
//!
//! What a challenge says goes to the wallet as a text and, with a MAC, as a state. Only the state comes back, and the text
//! that the signature must fit is made from it again: there is no text of a wallet to be searched or compared.

use std::{fmt::Write as _, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    api::{
        Reason,
        door::{Challenge, Declined, GrantAction, SIGNED_PREFIX},
    },
    capability::{Did, Nanos},
};

/// How long a challenge may be answered.
pub const LIFETIME: Duration = Duration::from_mins(5);
/// Longest state that is read, in base64.
const LONGEST_STATE: usize = 2048;
/// Bytes of the MAC behind the fields.
const MAC: usize = 32;
const DOMAIN: &[u8] = b"nunet-hosting:challenge:v1\n";

/// What may be asked for in a challenge, well formed already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Who asks.
    pub did: Did,
    /// Where.
    pub namespace: String,
    /// What, sorted, each once; at least one.
    pub actions: Vec<GrantAction>,
}

/// A challenge that was answered rightly, in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// What it was for.
    pub claim: Claim,
    /// Tells it from all others: it counts once.
    pub nonce: [u8; 16],
    /// Until when it counts.
    pub expires: Nanos,
}

/// Makes challenges and knows them again. Its key lives as long as the process.
pub struct Challenger {
    provider: Did,
    host: String,
    boot: String,
    key: Zeroizing<[u8; 64]>,
}

impl std::fmt::Debug for Challenger {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Challenger").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// What is remembered of a challenge, by the wallet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    did: Did,
    namespace: String,
    actions: Vec<GrantAction>,
    nonce: [u8; 16],
    issued: Nanos,
    expires: Nanos,
    boot: String,
}

impl Challenger {
    /// One that speaks for `provider` under the name `host`, as it is configured; what else than letters, digits, `.`,
    /// `:`, `[`, `]` and `-` it holds is left out. `random` must be fresh.
    #[must_use]
    pub fn new(provider: Did, host: &str, random: &[u8; 64]) -> Self {
        let plain = |char: &char| char.is_ascii_alphanumeric() || matches!(char, '.' | ':' | '[' | ']' | '-');
        let host = host.chars().filter(plain).collect();
        let key = Zeroizing::new(*random);
        let boot = Hmac::<Sha256>::new((&*key).into()).chain_update(b"nunet-hosting:boot:v1\n").finalize().into_bytes();
        Self { provider, host, boot: hex::encode(&boot[..8]), key }
    }

    /// A challenge for a claim. `nonce` must be fresh random bytes.
    #[must_use]
    pub fn challenge(&self, claim: Claim, nonce: [u8; 16], now: Nanos) -> Challenge {
        let Claim { did, namespace, actions } = claim;
        let expires = now.plus(LIFETIME);
        let fields = Fields { did, namespace, actions, nonce, issued: now, expires, boot: self.boot.clone() };
        // proven: every member is a text, a number or a list of them, which JSON can hold.
        let mut state = serde_json::to_vec(&fields).unwrap_or_default();
        let mac = self.mac(&state).finalize().into_bytes();
        state.extend_from_slice(&mac);
        Challenge { text: self.text(&fields), state: STANDARD.encode(state), expires }
    }

    /// Reads an answer to a challenge of this process: `sender` must be whom it was made for, and have signed its text.
    ///
    /// # Errors
    /// [`Declined`], by which nothing was used up.
    pub fn verify(&self, state: &str, signature: &str, sender: &Did, now: Nanos) -> Result<Proved, Declined> {
        let fields = self.read(state).ok_or_else(|| {
            let message =
                "this provider made no such challenge since it was started. Run `kubectl hosting login` again";
            Declined::new(Reason::ChallengeUnknown, message)
        })?;
        if fields.did != *sender {
            let message = format!(
                "the challenge was made for {}, and its answer came from {sender}. Run `kubectl hosting login` with the \
                 key that shall have the grant",
                fields.did
            );
            return Err(Declined::new(Reason::SenderMismatch, message));
        }
        if fields.expires < now {
            let message = format!("the challenge expired at {}. Run `kubectl hosting login` again", fields.expires);
            return Err(Declined::new(Reason::ChallengeExpired, message));
        }
        let signature = STANDARD.decode(signature).ok().and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
        let signed = format!("{SIGNED_PREFIX}{}", self.text(&fields));
        if !signature.is_some_and(|signature| fields.did.has_signed(signed.as_bytes(), &signature)) {
            let message = format!(
                "the text of the challenge is not signed by {}, byte for byte as it was given. Run `kubectl hosting \
                 login` again",
                fields.did
            );
            return Err(Declined::new(Reason::WrongSignature, message));
        }
        let Fields { did, namespace, actions, nonce, issued: _, expires, boot: _ } = fields;
        Ok(Proved { claim: Claim { did, namespace, actions }, nonce, expires })
    }

    /// The fields of a state that this process made.
    fn read(&self, state: &str) -> Option<Fields> {
        if state.len() > LONGEST_STATE {
            return None;
        }
        let bytes = STANDARD.decode(state).ok()?;
        let (fields, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC)?)?;
        self.mac(fields).verify_slice(mac).ok()?;
        let fields: Fields = serde_json::from_slice(fields).ok()?;
        (fields.boot == self.boot).then_some(fields)
    }

    /// The text, in the layout of CAIP-122: ASCII, lines ended by LF. No field can hold a line break.
    fn text(&self, fields: &Fields) -> String {
        let Fields { did, namespace, actions, nonce, issued, expires, boot } = fields;
        let provider = &self.provider;
        let names = actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        let mut text = format!(
            "{} wants you to sign in with your DID:\n{did}\n\nGrant {names} in namespace {namespace} of the hosting \
             provider.\n\nURI: {provider}\nVersion: 1\nNonce: {}\nIssued At: {issued}\nExpiration Time: {expires}\n\
             Request ID: {boot}\nResources:",
            self.host,
            hex::encode(nonce),
        );
        for action in actions {
            // Writing into a text can't fail.
            let _ = write!(text, "\n- /hosting/{namespace}/{}", action.as_str());
        }
        text.push('\n');
        text
    }

    fn mac(&self, fields: &[u8]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new((&*self.key).into()).chain_update(DOMAIN).chain_update(fields)
    }
}

#[cfg(test)]
mod tests;
