//! Writes what the fuzzer begins with into `<folder>/<target>/`: the inputs of the corpus, and what is made here.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use fuzz::{accepted, invocation, node};
use serde_json::Value;

const CORPUS: &str = include_str!("../../fixtures/capability/corpus.json");

/// Which targets a case of this kind is for.
fn targets(case: &Value) -> &'static [&'static str] {
    match (case["kind"].as_str(), case["context"]["op"].as_str()) {
        (Some("require"), Some("add-roots" | "load-context")) => &["context", "gojson"],
        (Some("token-verify" | "require"), _) => &["token", "gojson"],
        (Some("envelope"), _) => &["envelope", "gojson"],
        (Some("json-bytes"), _) => &["gojson"],
        _ => &[],
    }
}

fn write(folder: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}

fn main() -> io::Result<()> {
    let folder = PathBuf::from(env::args_os().nth(1).expect("the folder to write to"));
    let cases: Vec<Value> = serde_json::from_str(CORPUS)?;
    for case in &cases {
        let (Some(name), Some(input)) = (case["name"].as_str(), case["input"].as_str()) else { continue };
        for target in targets(case) {
            write(&folder, target, name, input.as_bytes())?;
        }
    }
    write(&folder, "token", "chain", &invocation().to_json())?;
    write(&folder, "envelope", "invocation", &accepted())?;
    write(&folder, "context", "node", &node().to_json())?;
    
    // One change of each kind, outside and inside the tokens.
    for kind in 0..5 {
        write(&folder, "mutated", &format!("outside-{kind}"), &[0, 0, 99, kind, 1])?;
        write(&folder, "mutated", &format!("inside-{kind}"), &[1, 0, 99, kind, 1])?;
    }
    Ok(())
}
