//! Reads a value of DMS and writes it again, for tests of the bytes alone: the pieces that the public types are made of.

use super::gojson::{self, Object};
use super::strict::{self, Members, Tree, malformed};
use super::token::{did_of, list_of, write_did};
use super::{ActorId, Context, Envelope, Handle, KnownDids, MAX_ENVELOPE, Refusal, Token, token_list};

/// A type of DMS, or of Go, that one value is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A Go string.
    Text,
    /// A Go uint64.
    Integer,
    /// A Go []byte.
    Bytes,
    /// A DID object.
    Did,
    /// An actor ID object.
    ActorId,
    /// The handle of an actor.
    Handle,
    /// One token.
    Token,
    /// A list of tokens.
    TokenList,
    /// A message.
    Envelope,
    /// A context file.
    Context,
}

/// The JSON that DMS would write for the value in `json`.
///
/// # Errors
/// [`Refusal`], when it is not read here.
pub fn rewrite(kind: Kind, json: &[u8]) -> Result<Vec<u8>, Refusal> {
    let read = || strict::read(json, MAX_ENVELOPE, "value");
    let member = |tree| Members::of(Tree::Object(vec![("value".into(), tree)]), "test", &["value"]);
    let mut known = KnownDids::default();
    let mut out = String::new();
    match kind {
        Kind::Text => gojson::string(&mut out, &member(read()?)?.text("value")?),
        Kind::Integer => out = member(read()?)?.number("value")?.to_string(),
        Kind::Bytes => gojson::bytes(&mut out, &member(read()?)?.bytes("value")?),
        Kind::Did => write_did(&mut out, did_of(read()?, &mut known)?.as_ref()),
        Kind::ActorId => {
            let id = Members::of(read()?, "actor ID", &["pub"])?.text("pub")?;
            let id = ActorId::parse(&id).ok_or_else(|| malformed(format!("{id:?} is not canonical base32")))?;
            Object::open(&mut out).text("pub", id.as_str()).close();
        }
        Kind::Handle => Handle::from_tree(read()?, &mut known)?.write(&mut out),
        Kind::Token => return Token::parse(json).map(|token| token.to_json()),
        Kind::TokenList => {
            let tokens: Vec<_> = list_of(read()?, &mut known)?.into_iter().collect::<Result<_, _>>()?;
            return Ok(token_list(&tokens));
        }
        Kind::Envelope => return Envelope::parse(json).map(|envelope| envelope.to_json()),
        Kind::Context => return Context::parse(json).map(|context| context.to_json()),
    }
    Ok(out.into_bytes())
}
