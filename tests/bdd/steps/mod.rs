//! What the sentences of the features do.

mod access;
mod apply;
mod beginning;
mod billing;
mod commands;
mod denial;
pub mod door;
mod ending;
pub mod notices;
pub mod sign_in;
mod store;
mod update;

/// The documents that `sign` prints of objects in JSON.
fn documents(text: &str) -> Vec<serde_json::Value> {
    serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect()
}
