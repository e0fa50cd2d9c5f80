//! Why a token or an envelope is refused.

use std::fmt;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident: $cause:literal, $next:literal;)+) => {
        /// Why a token or an envelope is refused. Closed and stable: conditions, metrics and scripts match on
        /// [`Reason::code`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The stable text in `conditions[].reason`.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What is the matter, as a clause without a full stop.
            #[must_use]
            pub const fn cause(self) -> &'static str {
                match self { $(Self::$name => $cause,)+ }
            }

            /// What to do next, as one sentence.
            #[must_use]
            pub const fn next_step(self) -> &'static str {
                match self { $(Self::$name => $next,)+ }
            }
        }
    };
}

reasons! {
    /// There is no signature.
    NotSigned: "there is no signature",
        "Run `kubectl hosting sign -f FILE | kubectl apply -f -`.";
    /// It does not have the form of DMS.
    Malformed: "it does not have the form of DMS",
        "Run `kubectl hosting sign` again; `kubectl hosting token inspect` shows what a token holds.";
    /// It is larger than what is read.
    TooLarge: "it is larger than what is read",
        "Use a shorter chain of grants and run `kubectl hosting sign` again.";
    /// A member occurs twice.
    DuplicateMember: "a member occurs twice",
        "Take the token as its issuer printed it and run `kubectl hosting sign` again.";
    /// A member is there that no signature covers.
    UnknownMember: "a member is there that no signature covers",
        "Take the token as its issuer printed it and run `kubectl hosting sign` again.";
    /// A DID is of a method or key type that is not read.
    UnsupportedKey: "a DID is not an Ed25519 did:key",
        "Make an Ed25519 key with `kubectl hosting wallet new` and ask for a grant to its DID.";
    /// Something in the chain has expired.
    Expired: "it has expired",
        "Ask the issuer for a new grant and run `kubectl hosting sign` again.";
    /// It is addressed to another actor.
    WrongRecipient: "it is addressed to another provider",
        "Name this provider with `kubectl hosting sign --provider DID`.";
    /// The token is meant for another audience.
    WrongAudience: "the token is meant for another audience",
        "Ask this provider for a grant and run `kubectl hosting sign` again.";
    /// The chain does not begin at a trusted issuer.
    NotAnchored: "the chain does not begin at a trusted issuer",
        "Ask the provider for a grant and run `kubectl hosting sign --grant GRANT` again.";
    /// A trusted issuer stands below the root of the chain.
    AnchorInMiddle: "a trusted issuer stands below the root of the chain",
        "Use the grant as the provider issued it and run `kubectl hosting sign` again.";
    /// The grant was given to another owner.
    OwnerMismatch: "the grant was given to another owner",
        "Set spec.owner to the DID that the grant names, or ask for a grant to this owner, and run `kubectl hosting sign` again.";
    /// The signer is not the one who may use the token.
    SignerMismatch: "the signer is not the one who may use the token",
        "Sign with the key that the last link of the chain names: `kubectl hosting sign --key FILE`.";
    /// A link does not give the capability that is needed.
    CapabilityMissing: "a link does not give the capability that is needed",
        "Ask the issuer for a grant with this capability and run `kubectl hosting sign` again.";
    /// A link gives more than the one above it.
    Widened: "a link gives more than the one above it",
        "Make the delegation narrower with `kubectl hosting token delegate` and run `kubectl hosting sign` again.";
    /// A link stands below one that is not a delegation.
    NotDelegable: "a link stands below one that is not a delegation",
        "Ask the issuer for a delegation and run `kubectl hosting sign` again.";
    /// The issuer of a link is not the subject of the one above it.
    ChainBroken: "the issuer of a link is not the subject of the one above it",
        "Delegate with the key that the grant names: `kubectl hosting token delegate --key FILE`.";
    /// More links hang below a grant than it permits.
    DepthExceeded: "more links hang below a grant than it permits",
        "Ask the issuer for a grant with more delegations, or sign with a key nearer to the root.";
    /// The chain has more links than are read.
    TooDeep: "the chain has more links than are read",
        "Ask for a grant nearer to the root and run `kubectl hosting sign` again.";
    /// A link lives longer than the one above it.
    Outlives: "a link lives longer than the one above it",
        "Delegate again with an earlier expiry: `kubectl hosting token delegate --for`.";
    /// A signature does not fit what it stands under.
    BadSignature: "a signature does not fit what it stands under",
        "Nothing may be changed after signing: run `kubectl hosting sign` again.";
    /// A link was taken back by its issuer.
    Revoked: "a link was taken back by its issuer",
        "Ask the issuer for a new grant and run `kubectl hosting sign` again.";
    /// It asks for something else than what it is used for.
    WrongBehaviour: "it asks for something else than what it is used for",
        "Sign the object under the name and namespace that it is applied with: `kubectl hosting sign -n NAMESPACE`.";
    /// The provider denies this DID.
    Denied: "the provider denies this DID",
        "Ask the provider why.";
    /// The signed digest is not that of the spec.
    DigestMismatch: "the signed digest is not that of the spec",
        "Run `kubectl hosting sign -f FILE` on the rendered manifest and apply what it prints.";
    /// It says that it was signed in the future.
    TimeInFuture: "it says that it was signed in the future",
        "Set the clock of the signing machine and run `kubectl hosting sign` again.";
    /// It is older than what was accepted before.
    RolledBack: "it is older than what was accepted before",
        "Run `kubectl hosting sign` again to say that the older spec is meant.";
    /// The same time was signed for another spec.
    SameTimeOtherDigest: "the same time was signed for another spec",
        "Run `kubectl hosting sign` again.";
    /// It was used before.
    Replayed: "it was used before",
        "Run `kubectl hosting sign` again.";
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.code())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_code_and_says_what_to_do() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            assert!(reason.next_step().ends_with('.'), "{reason}");
            assert!(!reason.cause().ends_with('.'), "{reason}");
            assert_eq!(reason.to_string(), reason.code());
        }
    }
}
