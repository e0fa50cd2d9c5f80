//! Whom a node trusts, seen and changed from afar (`dms-protocol.md` §5.1).

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::peers::DidText;
use crate::capability::{Refusal, Token, parse_token_list};

/// A list of tokens inside a payload, each as it stands on the wire. They are read, strictly, by [`TokenList::tokens`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenList {
    /// The tokens.
    #[serde(rename = "tok", skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<Value>,
}

impl TokenList {
    /// The list of these tokens.
    #[must_use]
    pub fn of(tokens: &[Token]) -> Self {
        let list = tokens.iter().filter_map(|token| serde_json::from_slice(&token.to_json()).ok()).collect();
        Self { list }
    }

    /// The tokens, none of them verified yet.
    ///
    /// # Errors
    /// [`Refusal`], when one of them does not have exactly the form that DMS writes.
    pub fn tokens(&self) -> Result<Vec<Token>, Refusal> {
        let Self { list } = self;
        parse_token_list(serde_json::json!({ "tok": list }).to_string().as_bytes())
    }
}

/// Request of `/dms/cap/list`. A node always shows its own context.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AnchorsRequest {
    /// Name of a context.
    pub context: String,
}

/// Reply of `/dms/cap/list`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Anchors {
    /// Whether it could be told.
    #[serde(rename = "OK")]
    pub ok: bool,
    /// Why not.
    pub error: String,
    /// Trusted for everything.
    pub roots: Vec<DidText>,
    /// Who may call for what.
    pub require: TokenList,
    /// What the node may present to others.
    pub provide: TokenList,
    /// What was taken back.
    pub revoke: TokenList,
}

/// Request of `/dms/cap/{require,provide,revoke}/anchor`, and what is broadcast on `/nunet/revocation`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AnchorRequest {
    /// The tokens to add.
    pub token: TokenList,
}

/// Reply of `/dms/cap/revoke/broadcast`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RevokeBroadcastReply {
    /// Whether it was done.
    #[serde(rename = "OK")]
    pub ok: bool,
    /// Why not.
    pub error: String,
    /// How many tokens were told, or taken over.
    pub tokens_count: u64,
}
