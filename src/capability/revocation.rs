//! Taking tokens back.

use super::chain::Chain;
use super::{Action, Reason, Refusal, RevocationKey, Token};

/// Checks that `token` is a revocation signed by the issuer that it names, and returns what it takes back. Its expiry
/// does not matter: what was taken back stays so.
///
/// # Errors
/// [`Refusal`] with [`Reason::Malformed`] for another kind of token, [`Reason::BadSignature`] for another signer.
pub fn verify_revocation(token: &Token) -> Result<RevocationKey, Refusal> {
    if token.action() != Action::Revoke {
        let message = format!(
            "this is a token to {}, not to revoke. Make a revocation with the key of the issuer {}",
            token.action(),
            token.issuer()
        );
        return Err(Refusal::new(Reason::Malformed, None, message));
    }
    Chain::of(token).check_last_signature()?;
    Ok(token.revocation_key())
}

#[cfg(test)]
mod tests {
    use super::super::{Capability, Key, MintError, Minting, Nanos};
    use super::*;

    fn grant(key: &Key) -> Token {
        let minting = Minting {
            subject: Key::from_seed([2; 32]).did().clone(),
            audience: None,
            capabilities: vec![Capability::parse("/a").unwrap()],
            topics: Vec::new(),
            expires: Nanos(7),
            depth: 0,
            nonce: [9; 12],
        };
        Token::delegate(key, minting, None).unwrap()
    }

    #[test]
    fn only_the_issuer_takes_a_token_back() {
        let (issuer, other) = (Key::from_seed([1; 32]), Key::from_seed([3; 32]));
        let token = grant(&issuer);
        let revocation = Token::revoke(&issuer, &token).unwrap();
        assert_eq!(verify_revocation(&revocation), Ok(token.revocation_key()));

        let foreign = Token::revoke(&other, &token);
        assert_eq!(foreign, Err(MintError::NotIssuer { issuer: issuer.did().clone() }));
        let forged = Token { signature: other.sign(&revocation.signed_bytes()), ..revocation };
        assert_eq!(verify_revocation(&forged).map_err(|refusal| refusal.reason), Err(Reason::BadSignature));
        assert_eq!(verify_revocation(&token).map_err(|refusal| refusal.reason), Err(Reason::Malformed));
    }
}
