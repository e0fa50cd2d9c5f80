//! DMS capability tokens: reading, writing, and the bytes that their signatures cover.

use std::fmt;

use super::chain::Chain;
use super::gojson::{self, Object};
use super::strict::{self, Members, Tree, malformed};
use super::{Capability, Did, DidError, KnownDids, MAX_CAPABILITIES, Nanos, Reason, Refusal};

/// Most links that a chain may have; longer ones are refused before any signature is checked.
pub const MAX_LINKS: usize = 8;
/// Most capabilities, and most topics, that one link may have: each is compared with each of the link above.
pub const MAX_PATHS: usize = 32;

/// Why a single token of a list is left out instead of refusing the list.
const LEFT_OUT: [Reason; 3] = [Reason::UnsupportedKey, Reason::NotSigned, Reason::BadSignature];
const DOMAIN: &str = "dms:token:";
const MEMBERS: [&str; 11] = ["act", "iss", "sub", "aud", "topic", "cap", "nonce", "exp", "depth", "chain", "sig"];

/// What a token lets its subject do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Ask the audience for what the capabilities name.
    Invoke,
    /// Pass the capabilities on.
    Delegate,
    /// Tell everybody on the topics.
    Broadcast,
    /// Take another token of the same issuer back.
    Revoke,
}

impl Action {
    /// The text in `act`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Delegate => "delegate",
            Self::Broadcast => "broadcast",
            Self::Revoke => "revoke",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Invoke, Self::Delegate, Self::Broadcast, Self::Revoke].into_iter().find(|act| act.as_str() == text)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What a revocation names: a tuple, never joined text, in which one part could pass for another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevocationKey {
    /// Who issued the link.
    pub issuer: Did,
    /// To whom.
    pub subject: Did,
    /// Its nonce, raw.
    pub nonce: Vec<u8>,
}

/// One signed DMS token with the chain above it. Its form is checked; its signatures are not, until it is judged.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(super) action: Action,
    pub(super) issuer: Did,
    pub(super) subject: Did,
    pub(super) audience: Option<Did>,
    pub(super) topics: Vec<Capability>,
    pub(super) capabilities: Vec<Capability>,
    pub(super) nonce: [u8; 12],
    pub(super) expires: Nanos,
    pub(super) depth: u64,
    pub(super) chain: Option<Box<Token>>,
    pub(super) signature: [u8; 64],
}

impl Token {
    /// Reads one token, `{"dms":{…}}`, of at most 16 KiB and [`MAX_LINKS`] links.
    ///
    /// # Errors
    /// [`Refusal`], when it does not have exactly the form that DMS writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::parse_with(bytes, &mut KnownDids::default())
    }

    /// Reads a token with the DIDs that were read before, see [`Token::parse`].
    pub(super) fn parse_with(bytes: &[u8], known: &mut KnownDids) -> Result<Self, Refusal> {
        Self::from_tree(strict::read(bytes, MAX_CAPABILITIES, "token")?, MAX_LINKS, known)
    }

    fn from_tree(tree: Tree<'_>, links_left: usize, known: &mut KnownDids) -> Result<Self, Refusal> {
        let Some(links_left) = links_left.checked_sub(1) else {
            let message = format!("the chain has more than {MAX_LINKS} links");
            return Err(Refusal::explained(Reason::TooDeep, message));
        };
        let mut members = Members::of(Members::of(tree, "token", &["dms"])?.required("dms")?, "token", &MEMBERS)?;
        let act = members.text("act")?;
        Ok(Self {
            action: Action::parse(&act)
                .ok_or_else(|| malformed(format!("the token has the unknown action {act:?}")))?,
            issuer: required_did(members.required("iss")?, "issuer", known)?,
            subject: required_did(members.required("sub")?, "subject", known)?,
            audience: did_of(members.required("aud")?, known)?,
            topics: paths(members.optional_list("topic")?, "topics")?,
            capabilities: paths(members.list("cap")?, "capabilities")?,
            nonce: sized(members.bytes("nonce")?, "nonce")?,
            expires: Nanos(members.number("exp")?),
            depth: members.optional_number("depth")?,
            chain: members
                .optional("chain")
                .map(|chain| Self::from_tree(chain, links_left, known).map(Box::new))
                .transpose()?,
            signature: match members.optional_bytes("sig")? {
                signature if signature.is_empty() => {
                    return Err(Refusal::explained(Reason::NotSigned, "the token has no signature"));
                }
                signature => signature_of(signature)?,
            },
        })
    }

    /// The token as DMS writes it: `{"dms":{…}}`.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::new();
        self.write(&mut out);
        out.into_bytes()
    }

    fn write(&self, out: &mut String) {
        Object::open(out).member("dms", |out| self.write_body(out, Self::write, Some(&self.signature))).close();
    }

    fn write_body(&self, out: &mut String, write_above: impl Fn(&Self, &mut String), signature: Option<&[u8; 64]>) {
        let Self {
            action,
            issuer,
            subject,
            audience,
            topics,
            capabilities,
            nonce,
            expires,
            depth,
            chain,
            signature: _,
        } = self;
        let write_paths = |out: &mut String, paths: &[Capability]| {
            gojson::list(out, paths, |out, path| gojson::string(out, path.as_str()));
        };
        let mut object = Object::open(out);
        object
            .text("act", action.as_str())
            .member("iss", |out| write_did(out, Some(issuer)))
            .member("sub", |out| write_did(out, Some(subject)))
            .member("aud", |out| write_did(out, audience.as_ref()));
        if !topics.is_empty() {
            object.member("topic", |out| write_paths(out, topics));
        }
        object.member("cap", |out| write_paths(out, capabilities)).bytes("nonce", nonce).number("exp", expires.0);
        if *depth > 0 {
            object.number("depth", *depth);
        }
        if let Some(chain) = chain {
            object.member("chain", |out| write_above(chain, out));
        }
        if let Some(signature) = signature {
            object.bytes("sig", signature);
        }
        object.close();
    }

    /// The bytes that the issuer signs.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let mut out = String::from(DOMAIN);
        self.write_body(&mut out, Self::write, None);
        out.into_bytes()
    }

    /// The bytes that the issuer signs, and the JSON of the signed token, when `above` is the JSON of the link above. So
    /// a chain is written once and not once for each of its links.
    pub(super) fn signed_bytes_below(&self, above: &str) -> (String, String) {
        let mut signed = String::with_capacity(above.len() + 512);
        signed.push_str(DOMAIN);
        self.write_body(&mut signed, |_, out| out.push_str(above), None);
        let body = signed.strip_prefix(DOMAIN).and_then(|body| body.strip_suffix('}')).unwrap_or_default();
        let mut whole = String::with_capacity(signed.len() + 128);
        whole.push_str("{\"dms\":");
        whole.push_str(body);
        whole.push_str(",\"sig\":");
        gojson::bytes(&mut whole, &self.signature);
        whole.push_str("}}");
        (signed, whole)
    }

    /// What the token lets its subject do.
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Who signed it.
    pub const fn issuer(&self) -> &Did {
        &self.issuer
    }

    /// Who may use it.
    pub const fn subject(&self) -> &Did {
        &self.subject
    }

    /// Where it may be used; `None`: anywhere.
    pub const fn audience(&self) -> Option<&Did> {
        self.audience.as_ref()
    }

    /// What it gives.
    pub fn capabilities(&self) -> &[Capability] {
        &self.capabilities
    }

    /// The topics on which it may be used.
    pub fn topics(&self) -> &[Capability] {
        &self.topics
    }

    /// The random bytes that tell it from others of the same issuer and subject.
    pub const fn nonce(&self) -> &[u8; 12] {
        &self.nonce
    }

    /// The signature of the issuer over [`Token::signed_bytes`].
    pub const fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// Until when it is valid, that moment included.
    pub const fn expires(&self) -> Nanos {
        self.expires
    }

    /// How many links may hang below it; 0: as many as are read.
    pub const fn depth(&self) -> u64 {
        self.depth
    }

    /// The token that its issuer holds its right from.
    pub fn chain(&self) -> Option<&Self> {
        self.chain.as_deref()
    }

    /// The token and what is above it, the leaf first.
    pub fn links(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.chain())
    }

    /// The link at the top of the chain; the token itself, when there is no chain.
    pub fn root(&self) -> &Self {
        let mut link = self;
        while let Some(above) = link.chain() {
            link = above;
        }
        link
    }

    /// The earliest expiry in the chain.
    pub fn not_after(&self) -> Nanos {
        self.links().map(Self::expires).fold(Nanos::MAX, Nanos::min)
    }

    /// Checks the token by itself, as DMS does: nothing has expired or was revoked, each link fits the one above it, and
    /// every signature is right. It says nothing about whether the root is to be trusted. Of a revocation only expiry and
    /// signature count.
    ///
    /// # Errors
    /// [`Refusal`] that names the link.
    pub fn verify(&self, now: Nanos, revoked: &dyn Fn(&RevocationKey) -> bool) -> Result<(), Refusal> {
        let chain = Chain::of(self);
        chain.check_expiry(now)?;
        if self.action == Action::Revoke {
            return chain.check_last_signature();
        }
        chain.check_structure(0)?;
        chain.check_revocations(revoked)?;
        chain.check_signatures()
    }

    /// Whether this, as a revocation, names the link.
    pub(super) fn takes_back(&self, key: &RevocationKey) -> bool {
        self.issuer == key.issuer && self.subject == key.subject && self.nonce[..] == key.nonce[..]
    }

    /// What takes this link back.
    pub fn revocation_key(&self) -> RevocationKey {
        RevocationKey { issuer: self.issuer.clone(), subject: self.subject.clone(), nonce: self.nonce.to_vec() }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, issuer, subject, capabilities, expires, .. } = self;
        write!(formatter, "Token({action} {issuer} → {subject} {capabilities:?} until {expires})")
    }
}

/// The JSON of a token list, `{"tok":[…]}`; `{}` for none. It is what [`super::Envelope::capabilities`] holds.
pub fn token_list(tokens: &[Token]) -> Vec<u8> {
    let mut out = String::new();
    write_list(&mut out, tokens);
    out.into_bytes()
}

/// Appends a token list.
pub(super) fn write_list(out: &mut String, tokens: &[Token]) {
    let mut object = Object::open(out);
    if !tokens.is_empty() {
        object.member("tok", |out| gojson::list(out, tokens, |out, token| token.write(out)));
    }
    object.close();
}

/// Reads a token list of at most 16 KiB.
///
/// # Errors
/// [`Refusal`], when the list or one of its tokens does not have exactly the form that DMS writes.
pub fn parse_token_list(bytes: &[u8]) -> Result<Vec<Token>, Refusal> {
    parse_token_list_with(bytes, &mut KnownDids::default())
}

/// Reads a token list with the DIDs that were read before, see [`parse_token_list`].
pub(super) fn parse_token_list_with(bytes: &[u8], known: &mut KnownDids) -> Result<Vec<Token>, Refusal> {
    list_of(strict::read(bytes, MAX_CAPABILITIES, "list of tokens")?, known)?.into_iter().collect()
}

/// Reads a token list but leaves out tokens of key types that are not read here, which DMS clients may attach beside
/// usable ones, and tokens whose signature cannot be one. Any other fault refuses the whole list, as it does in DMS.
///
/// # Errors
/// [`Refusal`], when the list or one of its other tokens does not have exactly the form that DMS writes.
pub fn parse_known_tokens(bytes: &[u8], known: &mut KnownDids) -> Result<Vec<Token>, Refusal> {
    list_of(strict::read(bytes, MAX_CAPABILITIES, "list of tokens")?, known)?
        .into_iter()
        .filter(|token| !matches!(token, Err(refusal) if LEFT_OUT.contains(&refusal.reason)))
        .collect()
}

/// The tokens of a list, each read on its own.
pub(super) fn list_of(tree: Tree<'_>, known: &mut KnownDids) -> Result<Vec<Result<Token, Refusal>>, Refusal> {
    let tokens = match Members::of(tree, "list of tokens", &["tok"])?.optional("tok") {
        None => Vec::new(),
        Some(Tree::List(tokens)) => tokens,
        Some(_) => return Err(malformed("in the list of tokens, the member \"tok\" is not a list")),
    };
    Ok(tokens.into_iter().map(|token| Token::from_tree(token, MAX_LINKS, known)).collect())
}

/// Appends `{"uri":"did:…"}`, or `{}` for none.
pub(super) fn write_did(out: &mut String, did: Option<&Did>) {
    Object::open(out).text_if("uri", did.map(Did::as_str)).close();
}

/// Reads `{"uri":"did:…"}` or `{}`.
pub(super) fn did_of(tree: Tree<'_>, known: &mut KnownDids) -> Result<Option<Did>, Refusal> {
    let Some(text) = Members::of(tree, "DID", &["uri"])?.optional_text("uri")? else { return Ok(None) };
    known.parse(&text).map(Some).map_err(|error| {
        let reason = match error {
            DidError::UnsupportedKey { .. } => Reason::UnsupportedKey,
            _ => Reason::Malformed,
        };
        Refusal::explained(reason, error)
    })
}

fn required_did(tree: Tree<'_>, what: &str, known: &mut KnownDids) -> Result<Did, Refusal> {
    did_of(tree, known)?.ok_or_else(|| malformed(format!("the token has no {what}")))
}

fn paths(items: Vec<Tree<'_>>, what: &str) -> Result<Vec<Capability>, Refusal> {
    if items.len() > MAX_PATHS {
        let message = format!("a link has {} {what}, more than the {MAX_PATHS} that are read", items.len());
        return Err(Refusal::explained(Reason::TooLarge, message));
    }
    items
        .into_iter()
        .map(|item| match item {
            Tree::Text(text) => Capability::parse(&text).map_err(malformed),
            _ => Err(malformed(format!("among the {what} of a link is one that is not text"))),
        })
        .collect()
}

/// The bytes as a signature.
pub(super) fn signature_of(bytes: Vec<u8>) -> Result<[u8; 64], Refusal> {
    let length = bytes.len();
    bytes.try_into().map_err(|_| {
        Refusal::explained(Reason::BadSignature, format!("the signature has {length} bytes instead of 64"))
    })
}

/// The bytes as an array of the size that they must have.
pub(super) fn sized<const SIZE: usize>(bytes: Vec<u8>, what: &str) -> Result<[u8; SIZE], Refusal> {
    let length = bytes.len();
    bytes.try_into().map_err(|_| malformed(format!("the {what} has {length} bytes instead of {SIZE}")))
}

#[cfg(test)]
mod tests;
