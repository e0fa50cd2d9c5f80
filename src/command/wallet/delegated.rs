//! What the keys of the wallet passed on: kept, so that it can be taken back.

use std::path::{Path, PathBuf};

use super::super::CommandError;
use super::folder::{Folder, Name};
use super::{read, replace, write_new};
use crate::capability::Token;

const END: &str = ".token";
/// Beside a token: what takes it back.
const REVOKED: &str = "revoked";
/// Digits of a nonce that tell tokens of one wallet apart.
const DIGITS: usize = 12;

/// A token that was passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::command) struct Delegated {
    /// The key that issued it.
    pub(in crate::command) key: Name,
    pub(in crate::command) token: Token,
    /// The wallet wrote a revocation of it. Whether that reached the provider is not known here.
    pub(in crate::command) revocation_written: bool,
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

    /// Notes that the wallet wrote a revocation, if it is of a token that is kept.
    pub(in crate::command) fn note_revoked(
        folder: &Folder,
        key: &Name,
        revocation: &Token,
    ) -> Result<(), CommandError> {
        let token = folder.delegated(key).join(format!("{}{END}", hex::encode(revocation.nonce())));
        if !token.is_file() {
            return Ok(());
        }
        let file = token.with_extension(REVOKED);
        replace(&file, &revocation.to_json(), None)
            .map_err(|error| CommandError::because(format!("{} could not be written", file.display()), error))
    }

    /// All that was passed on by a key, or by any. A file that cannot be read is named, and hides no other.
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
                match kept(&file) {
                    Ok(token) => {
                        let revocation_written = file.with_extension(REVOKED).is_file();
                        all.push(Self { key: key.clone(), token, revocation_written });
                    }
                    Err(why) => eprintln!("warning: {why}, and is passed over"),
                }
            }
        }
        Ok(all)
    }
}

fn kept(file: &Path) -> Result<Token, String> {
    let text = read(file).map_err(|error| error.to_string())?;
    Token::parse(text.trim().as_bytes())
        .map_err(|refusal| format!("{} holds no token that can be read ({refusal})", file.display()))
}
