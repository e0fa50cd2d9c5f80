//! The Go peer as a partner that answers one line with one line.

use std::{
    cell::RefCell,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{SOON, peers::go_peer};

/// `dms-peer rewrite`, `verify`, `mint` or `judge`, for as many questions as there are.
pub struct GoAnswers {
    child: Child,
    input: RefCell<ChildStdin>,
    lines: Receiver<String>,
}

impl GoAnswers {
    pub fn start(command: &str) -> Self {
        let mut child =
            Command::new(go_peer()).arg(command).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = RefCell::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let (send, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { child, input, lines }
    }

    /// What Go gives, or why it gives nothing.
    pub fn ask(&self, question: &Value) -> Result<Vec<u8>, String> {
        writeln!(self.input.borrow_mut(), "{question}").unwrap();
        let line = self.lines.recv_timeout(SOON).expect("the Go peer does not answer");
        let answer: Value = serde_json::from_str(&line).unwrap();
        match (answer["output"].as_str(), answer["error"].as_str()) {
            (Some(output), None) => Ok(STANDARD.decode(output).unwrap()),
            (None, Some(error)) => Err(error.to_owned()),
            _ => panic!("the Go peer answers {line}"),
        }
    }

    /// The same for a question that is about one value.
    pub fn ask_about(&self, kind: &str, json: &[u8]) -> Result<Vec<u8>, String> {
        self.ask(&json!({ "type": kind, "json": STANDARD.encode(json) }))
    }

    /// Has Go sign a value with these seeds.
    pub fn mint(&self, kind: &str, value: &Value, seeds: &[[u8; 32]]) -> Result<Vec<u8>, String> {
        let seeds: Vec<_> = seeds.iter().map(hex::encode).collect();
        self.ask(&json!({ "type": kind, "json": STANDARD.encode(value.to_string()), "seeds": seeds }))
    }

    /// Has Go check the signatures of a value; it gives the value as it writes it.
    pub fn verify(&self, kind: &str, json: &[u8], now: u64) -> Result<Vec<u8>, String> {
        self.ask(&json!({ "type": kind, "json": STANDARD.encode(json), "now": now }))
    }
}

impl Drop for GoAnswers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a property on so many random values.
pub fn runner(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() })
}

/// Bytes as text, for messages.
pub fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
