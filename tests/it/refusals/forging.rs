//! Tokens and invocations that no wallet makes: changed in their text, and signed anew or not.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::capability::{Envelope, Key, Token, parse_token_list};
use serde_json::{Value, json};

/// What DMS puts before the bytes of a token that are signed.
const TOKEN_DOMAIN: &str = "dms:token:";
const CHAIN: &str = ",\"chain\":";
const SIGNATURE: &str = ",\"sig\":\"";

/// One token as text: what it says itself, the token above it, and its signature.
#[derive(Clone)]
pub struct Link {
    /// From the first brace on, without the chain.
    says: String,
    above: Option<String>,
    signature: String,
}

impl Link {
    pub fn of(token: &Token) -> Self {
        let text = String::from_utf8(token.to_json()).unwrap();
        // Its own signature is the last one; what it says itself stands before its chain.
        let (body, signature) = text.strip_prefix("{\"dms\":").unwrap().rsplit_once(SIGNATURE).unwrap();
        let (says, above) = body.split_once(CHAIN).map_or((body, None), |(says, above)| (says, Some(above.to_owned())));
        Self { says: says.to_owned(), above, signature: signature.trim_end_matches("\"}}").to_owned() }
    }

    /// The token of an object's invocation.
    pub fn of_invocation(object: &Value) -> Self {
        Self::of(&parse_token_list(&envelope_of(object).capabilities).unwrap()[0])
    }

    /// Changes what it says itself. The signature stays as it is.
    pub fn saying(mut self, from: &str, to: &str) -> Self {
        assert!(self.says.contains(from), "{from} is not in {}", self.says);
        self.says = self.says.replacen(from, to, 1);
        self
    }

    /// Puts another token above it. The signature stays as it is.
    pub fn under(mut self, above: &Self) -> Self {
        self.above = Some(above.text());
        self
    }

    /// Signs it as DMS signs: over its own JSON without `sig`.
    pub fn signed_by(mut self, key: &Key) -> Self {
        self.signature = STANDARD.encode(key.sign(format!("{TOKEN_DOMAIN}{}}}", self.body()).as_bytes()));
        self
    }

    pub fn text(&self) -> String {
        format!("{{\"dms\":{}{SIGNATURE}{}\"}}}}", self.body(), self.signature)
    }

    fn body(&self) -> String {
        let above = self.above.as_ref().map(|above| format!("{CHAIN}{above}")).unwrap_or_default();
        format!("{}{above}", self.says)
    }
}

/// The invocation rests on this token instead; the envelope is signed anew by `key`.
pub fn resting_on(object: Value, key: &Key, token: &Link) -> Value {
    resigned(object, key, |envelope| envelope.capabilities = format!("{{\"tok\":[{}]}}", token.text()).into_bytes())
}

/// The same token below another chain, everything from there on signed anew by `key`.
pub fn below(object: Value, key: &Key, chain: &Link) -> Value {
    let token = Link::of_invocation(&object).under(chain).signed_by(key);
    resting_on(object, key, &token)
}

/// Another envelope, signed by `key`.
pub fn resigned(object: Value, key: &Key, change: impl FnOnce(&mut Envelope)) -> Value {
    let mut envelope = envelope_of(&object);
    change(&mut envelope);
    with_invocation(object, &envelope.sign(key).to_json())
}

/// Another envelope under the signature of the first.
pub fn changed(object: Value, change: impl FnOnce(&mut Envelope)) -> Value {
    let mut envelope = envelope_of(&object);
    change(&mut envelope);
    with_invocation(object, &envelope.to_json())
}

/// The envelope's text is another; no signature is made anew.
pub fn rewritten(object: Value, change: impl FnOnce(String) -> String) -> Value {
    let text = change(String::from_utf8(envelope_of(&object).to_json()).unwrap());
    with_invocation(object, text.as_bytes())
}

fn with_invocation(mut object: Value, envelope: &[u8]) -> Value {
    object["spec"]["authorization"]["invocation"] = json!(STANDARD.encode(envelope));
    object
}

fn envelope_of(object: &Value) -> Envelope {
    let invocation = object["spec"]["authorization"]["invocation"].as_str().unwrap();
    Envelope::parse(&STANDARD.decode(invocation).unwrap()).unwrap()
}
