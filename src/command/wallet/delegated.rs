//! What the keys of the wallet passed on: kept, so that it can be taken back.

use std::path::PathBuf;

use super::super::CommandError;
use super::folder::{Folder, Name};
use super::{read, write_new};
use crate::capability::Token;

const END: &str = ".token";
/// Digits of a nonce that tell tokens of one wallet apart.
const DIGITS: usize = 12;

/// A token that was passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) struct Delegated {
    /// The key that issued it.
    pub(in crate::command) key: Name,
    pub(in crate::command) token: Token,
}

/// What a token is called here: the beginning of its nonce.
pub(in crate::command) fn id(token: &Token) -> String {
    let mut id = hex::encode(token.nonce());
    id.truncate(DIGITS);
    id
}

impl Delegated {
    /// Keeps a token.
    pub(in crate::command) fn keep(folder: &Folder, key: &Name, token: &Token) -> Result<PathBuf, CommandError> {
        let file = folder.place_for_delegated(key)?.join(format!("{}{END}", hex::encode(token.nonce())));
        write_new(&file, &token.to_json())?;
        Ok(file)
    }

    /// All that was passed on by a key, or by any.
    pub(in crate::command) fn all(folder: &Folder, key: Option<&Name>) -> Result<Vec<Self>, CommandError> {
        let keys = match key {
            Some(key) => vec![key.clone()],
            None => folder.delegating()?,
        };
        let mut all = Vec::new();
        for key in keys {
            let place = folder.delegated(&key);
            for name in Folder::names(&place, END)? {
                let file = place.join(format!("{name}{END}"));
                let token = Token::parse(read(&file)?.trim().as_bytes()).map_err(|refusal| {
                    CommandError::because(format!("{} holds no token that can be read", file.display()), refusal)
                })?;
                all.push(Self { key: key.clone(), token });
            }
        }
        Ok(all)
    }
}
