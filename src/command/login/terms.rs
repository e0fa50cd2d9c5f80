//! What a provider may be believed: the text that it asks to have signed, and the grant that it gives.

use std::collections::BTreeSet;

use crate::api::door::{Challenge, GrantAction, Granted, SIGNED_PREFIX};
use crate::capability::{Action, Capability, Did, Nanos, Token};

/// Longest text that a person can be expected to read.
const LONGEST_TEXT: usize = 4096;
/// Longest state that is sent back.
const LONGEST_STATE: usize = 16_384;
/// What the bytes of tokens, messages and challenges begin with, where they are signed.
const SIGNING_PREFIXES: [&str; 3] = ["dms:", "nunet-hosting:", SIGNED_PREFIX];

/// What is asked of a provider.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// Who asks.
    pub(super) own: Did,
    /// Who is asked.
    pub(super) provider: Did,
    /// Where something shall be allowed.
    pub(super) namespace: String,
    /// What; empty: whatever the provider gives.
    pub(super) actions: BTreeSet<GrantAction>,
}

impl Terms {
    /// What a challenge offers, if it may be shown and signed. Else, what is wrong with it.
    pub(super) fn check_challenge(&self, challenge: &Challenge, now: Nanos) -> Result<BTreeSet<GrantAction>, String> {
        let Challenge { text, state, expires } = challenge;
        if text.is_empty() || text.len() > LONGEST_TEXT || state.len() > LONGEST_STATE {
            let (text, state) = (text.len(), state.len());
            return Err(format!(
                "it has {text} bytes of text and {state} of state, and {LONGEST_TEXT} and {LONGEST_STATE} are taken"
            ));
        }
        check_characters(text)?;
        if let Some(prefix) = SIGNING_PREFIXES.iter().find(|prefix| text.starts_with(**prefix)) {
            return Err(format!("its text begins with {prefix:?}, as what is signed for other purposes does"));
        }
        if *expires < now {
            return Err(format!("it expired at {expires}: compare the clock here with that of the provider"));
        }
        self.read(text, *expires)
    }

    /// What a text offers. It is taken in one layout only, that of CAIP-122 with these words, so that nothing in it can be
    /// read in two ways.
    fn read(&self, text: &str, expires: Nanos) -> Result<BTreeSet<GrantAction>, String> {
        let Self { own, provider, namespace, actions: wanted } = self;
        let lines: Vec<&str> = text.split('\n').collect();
        let [
            asks,
            did,
            "",
            grants,
            "",
            uri,
            "Version: 1",
            nonce,
            issued,
            expiration,
            request,
            "Resources:",
            resources @ ..,
            "",
        ] = lines.as_slice()
        else {
            return Err(
                "its text does not have the layout of a challenge; this may be the wrong version of the plugin"
                    .to_owned(),
            );
        };
        let must_be = |what: &str, line: &str, value: &str| {
            if line == value { Ok(()) } else { Err(format!("its text says {line:?} where {what} belongs, {value:?}")) }
        };
        let host = asks.strip_suffix(" wants you to sign in with your DID:");
        if host.is_none_or(|host| host.is_empty() || host.contains(' ')) {
            return Err(format!("its text says {asks:?} where the name of the service belongs"));
        }
        must_be("the own DID", did, own.as_str())?;
        must_be("the provider", uri, &format!("URI: {provider}"))?;
        must_be("its expiry", expiration, &format!("Expiration Time: {expires}"))?;
        for (line, label) in [(nonce, "Nonce: "), (issued, "Issued At: "), (request, "Request ID: ")] {
            if line.strip_prefix(label).is_none_or(str::is_empty) {
                return Err(format!("its text says {line:?} where {label:?} belongs"));
            }
        }
        let mut offered = BTreeSet::new();
        for resource in resources {
            let action = GrantAction::ALL.into_iter().find(|action| *resource == format!("- {}", self.path(*action)));
            if !action.is_some_and(|action| offered.insert(action)) {
                return Err(format!(
                    "its text offers {resource:?}, and what was asked for is in the namespace {namespace}"
                ));
            }
        }
        let names = offered.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(", ");
        must_be(
            "what is granted",
            grants,
            &format!("Grant {names} in namespace {namespace} of the hosting provider."),
        )?;
        if offered.is_empty() || !wanted.is_empty() && offered != *wanted {
            return Err(format!("its text offers {names:?}, which is not what was asked for"));
        }
        Ok(offered)
    }

    fn path(&self, action: GrantAction) -> String {
        format!("/hosting/{}/{}", self.namespace, action.as_str())
    }

    /// The grant, if it is what the challenge offered, no less and no more. Else, what is wrong with it.
    pub(super) fn check_grant(
        &self,
        offered: &BTreeSet<GrantAction>,
        granted: &Granted,
        now: Nanos,
    ) -> Result<Token, String> {
        let Self { own, provider, namespace: _, actions: _ } = self;
        let Granted { grant, expires } = granted;
        let token = Token::parse(grant.to_string().as_bytes()).map_err(|refusal| refusal.message)?;
        if token.action() != Action::Delegate {
            return Err(format!("it is a token to {}, not to delegate", token.action()));
        }
        if token.issuer() != provider || token.chain().is_some() {
            return Err(format!("it was issued by {}, not by the provider alone", token.root().issuer()));
        }
        if token.subject() != own {
            return Err(format!("it is for {}, not for {own}", token.subject()));
        }
        if token.audience() != Some(provider) {
            let audience = token.audience().map_or("anybody", Did::as_str);
            return Err(format!("it is for use at {audience}, not at the provider"));
        }
        if token.depth() == 0 {
            return Err("it may be passed on without limit, which no grant of a provider may".to_owned());
        }
        if !token.topics().is_empty() {
            return Err("it gives topics of broadcasts, which nobody asked for".to_owned());
        }
        if token.expires() < now {
            return Err(format!("it expired at {}", token.expires()));
        }
        if token.expires() != *expires {
            return Err(format!("it expires at {}, and the provider says {expires}", token.expires()));
        }
        self.check_capabilities(offered, token.capabilities())?;
        token.verify(now, &|_| false).map_err(|refusal| refusal.message)?;
        Ok(token)
    }

    fn check_capabilities(&self, offered: &BTreeSet<GrantAction>, given: &[Capability]) -> Result<(), String> {
        let mut missing = offered.clone();
        for capability in given {
            let known = GrantAction::ALL.into_iter().find(|action| self.path(*action) == capability.as_str());
            if !known.is_some_and(|action| missing.remove(&action)) {
                return Err(format!("it gives {capability}, which is not what was signed for"));
            }
        }
        match missing.first() {
            Some(missing) => Err(format!("it does not give {}, which was signed for", self.path(*missing))),
            None => Ok(()),
        }
    }
}

/// A terminal must show what is signed, byte by byte.
fn check_characters(text: &str) -> Result<(), String> {
    let odd = |(number, line): (usize, &str)| {
        let odd = line.chars().find(|character| !matches!(character, ' '..='~'))?;
        Some(format!("line {number} of its text holds U+{:04X}, and only printable ASCII is signed", u32::from(odd)))
    };
    (1..).zip(text.split('\n')).find_map(odd).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
