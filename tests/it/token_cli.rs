//! The command line over tokens, envelopes and keys, as scripts see it: output, exit code, and what it never prints.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    capability::{Capability, Context, Envelope, Handle, Minting, Nanos, Token, token_list},
    dev::wallet::{Wallet, in_future},
};
use serde_json::{Value, json};

use crate::{cluster::scratch, ended::Ended, refusals::forging::Link, timed::Timed, world::name};

mod chains;
mod envelopes;
mod keys;

/// A folder of files, and every secret that no output may show.
struct Desk {
    folder: PathBuf,
    secrets: Vec<String>,
}

impl Desk {
    fn new() -> Self {
        Self { folder: scratch(&format!("token-cli-{}", name())), secrets: vec![] }
    }

    /// A new key, and the file with its seed.
    fn key(&mut self, called: &str) -> Wallet {
        let wallet = Wallet::random().unwrap();
        let seed = hex::encode(wallet.key.expose_seed());
        self.file(&format!("{called}.seed"), seed.as_bytes());
        self.secrets.extend([STANDARD.encode(wallet.key.expose_seed()), seed]);
        wallet
    }

    fn file(&self, called: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.join(called);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(arguments, &[], &[])
    }

    /// Runs the binary in the folder, with its wallet there too.
    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Ended {
        let mut child = Command::new(env!("CARGO_BIN_EXE_dms-operator"))
            .args(arguments)
            .current_dir(&self.folder)
            .env_remove("DMS_PASSPHRASE")
            .env("DMS_GENERAL_USER_DIR", self.folder.join("user"))
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input);
        Ended::from(child.wait_with_output().unwrap()).without(&self.secrets, arguments)
    }
}

/// The chain of three links: the provider's grant, the owner's delegation, and the pipeline's own invocation.
struct Chain {
    desk: Desk,
    provider: Wallet,
    owner: Wallet,
    pipeline: Wallet,
    links: [Token; 3],
}

const ASKED: &str = "/hosting/shop/apply/web";

impl Chain {
    /// The first two links are made by the command line, the third by the library.
    fn new() -> Self {
        let mut desk = Desk::new();
        let [provider, owner, pipeline] = ["provider", "owner", "pipeline"].map(|called| desk.key(called));
        let to = |wallet: &Wallet| wallet.did().to_string();
        let grant = ["token", "grant", "--seed-file", "provider.seed", "--to", &to(&owner), "--namespace", "shop"];
        desk.run(&[&grant[..], &["--for", "48h", "--out", "1.json"]].concat()).done();
        let delegate = ["token", "delegate", "--seed-file", "owner.seed", "--grant", "1.json", "--to", &to(&pipeline)];
        let narrower = ["--capability", "/hosting/shop/apply", "--for", "24h", "--out", "2.json"];
        desk.run(&[&delegate[..], &narrower].concat()).done();
        let read = |called: &str| Token::parse(fs::read(desk.folder.join(called)).unwrap().trim_ascii()).unwrap();
        let [first, second] = [read("1.json"), read("2.json")];
        let minting = Minting {
            subject: pipeline.did().clone(),
            audience: Some(provider.did().clone()),
            capabilities: vec![Capability::parse(ASKED).unwrap()],
            topics: Vec::new(),
            expires: in_future(Duration::from_secs(3600)),
            depth: 0,
            nonce: rand::random(),
        };
        let third = Token::invoke(&pipeline.key, minting, Some(&second)).unwrap();
        let chain = Self { desk, provider, owner, pipeline, links: [first, second, third] };
        chain.put("token.json", &chain.links[2].to_json());
        chain.put("context.cap", &chain.context(&[]).to_json());
        chain
    }

    fn put(&self, called: &str, bytes: &[u8]) {
        self.desk.file(called, bytes);
    }

    /// The provider's own context, with these revocations in force.
    fn context(&self, revoke: &[Token]) -> Context {
        Context {
            did: self.provider.did().clone(),
            roots: vec![],
            require: vec![],
            provide: vec![],
            revoke: revoke.to_vec(),
        }
    }

    fn signers(&self) -> [&Wallet; 3] {
        [&self.provider, &self.owner, &self.pipeline]
    }

    /// The chain with one link changed by `change`, which may sign it or not; what hangs below is signed anew.
    fn with(&self, number: usize, change: impl Fn(Link) -> Link) -> Vec<u8> {
        let mut above: Option<Link> = None;
        for ((token, signer), position) in self.links.iter().zip(self.signers()).zip(1..) {
            let mut link = Link::of(token);
            if let Some(above) = &above {
                link = link.under(above).signed_by(&signer.key);
            }
            above = Some(if position == number { change(link) } else { link });
        }
        above.unwrap().text().into_bytes()
    }

    fn verify(&self, extra: &[&str]) -> Ended {
        let line = ["token", "verify", "--token", "token.json", "--context", "context.cap", "--capability", ASKED];
        self.desk.run(&[&line[..], &["-o", "json"], extra].concat())
    }

    /// `link 2 of 3: did → did`, as a refusal begins.
    fn link(&self, number: usize) -> String {
        let link = &self.links[number - 1];
        format!("link {number} of 3: {} → {} ", link.issuer(), link.subject())
    }

    /// Asserts that both commands reject `token` for this reason, at this link.
    fn refused(&self, token: &[u8], reason: &str, number: usize) {
        self.put("token.json", token);
        let ended = self.verify(&[]);
        let value = ended.read();
        assert_eq!((ended.code, &value["verdict"], &value["reason"]), (2, &json!("reject"), &json!(reason)), "{value}");
        let message = value["message"].as_str().unwrap();
        assert!(message.starts_with(&self.link(number)), "{message}");
        assert_eq!((&value["not_after"], value["chain"].as_array().unwrap().len()), (&json!(null), 3));
        assert_eq!(ended.err, "");

        let line = ["token", "explain", "--token", "token.json", "--context", "context.cap", "--capability", ASKED];
        let ended = self.desk.run(&line);
        assert_eq!(ended.code, 2);
        let lines: Vec<&str> = ended.out.lines().collect();
        let at = lines.iter().position(|line| line.trim_start().starts_with("✗")).unwrap();
        assert_eq!(lines[at].trim_start(), format!("✗  {reason}: {message}"), "{}", ended.out);
        assert!(lines[at - 1].trim_start().starts_with(&format!("└─ {number} ")), "{}", ended.out);
    }
}
