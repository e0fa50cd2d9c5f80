//! A person with a key, a folder, and the command line as it stands in the README.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Stdio,
};

use dms_operator::{
    capability::{Token, keystore},
    dev::{Credentials, Tools, wallet::Wallet},
};
use serde_json::Value;

use crate::{cluster::scratch, world::name};

/// What a command ended with.
#[derive(Clone, Debug)]
pub struct Ended {
    pub line: String,
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ended {
    pub fn done(self) -> String {
        let Self { line, code, out, err } = self;
        assert_eq!(code, 0, "`{line}` did not go well: {out}{err}");
        out
    }
}

/// A person at a desk. Nobody else's keys, settings or clusters are in reach.
pub struct Desk {
    pub wallet: Wallet,
    /// The key file, under the passphrase that the commands get.
    pub key: PathBuf,
    folder: PathBuf,
    path: OsString,
    passphrase: String,
}

impl Desk {
    /// A person with a new key, who speaks to the cluster with these credentials.
    pub fn new(called: &str, credentials: &Credentials) -> Self {
        let desk = Self::of(called, Wallet::random().unwrap(), credentials);
        let folder = desk.key.parent().unwrap();
        DirBuilder::new().recursive(true).mode(0o700).create(folder).unwrap();
        let (key, passphrase) = (&desk.wallet.key, &desk.passphrase);
        // To guess at a key file costs a second, and to open it the same, which is too much for every scenario.
        let file = keystore::encrypt_weakly(key, called, passphrase, rand::random(), rand::random()).unwrap();
        fs::write(&desk.key, file).unwrap();
        fs::set_permissions(&desk.key, fs::Permissions::from_mode(0o600)).unwrap();
        desk
    }

    /// The desk of somebody whose key stays in a seed file, as the provider's.
    pub fn with_seed(called: &str, wallet: Wallet, credentials: &Credentials) -> Self {
        let mut desk = Self::of(called, wallet, credentials);
        desk.key = desk.write("seed", &hex::encode(desk.wallet.key.expose_seed()));
        desk
    }

    fn of(called: &str, wallet: Wallet, credentials: &Credentials) -> Self {
        let folder = scratch(&format!("bdd/{called}-{}", name()));
        let commands = folder.join("bin");
        fs::create_dir(&commands).unwrap();
        symlink(env!("CARGO_BIN_EXE_dms-operator"), commands.join("kubectl-hosting")).unwrap();
        symlink(Tools::kubectl().unwrap(), commands.join("kubectl")).unwrap();
        let mut path = commands.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        credentials.write(&folder.join("kubeconfig")).unwrap();
        let key = folder.join(format!("user/key/{called}.json"));
        Self { wallet, key, folder, path, passphrase: uuid::Uuid::new_v4().to_string() }
    }

    /// Writes a file that only this person reads.
    pub fn write(&self, called: &str, text: &str) -> PathBuf {
        let file = self.folder.join(called);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        file
    }

    pub fn file(&self, called: &str) -> PathBuf {
        self.folder.join(called)
    }

    pub fn token(&self, called: &str) -> Token {
        Token::parse(fs::read(self.file(called)).unwrap().trim_ascii()).unwrap()
    }

    /// Runs a line of the shell in the folder. No output shows the seed or the passphrase.
    pub async fn run(&self, line: &str) -> Ended {
        let output = tokio::process::Command::new("sh")
            .args(["-c", line])
            .current_dir(&self.folder)
            .env("PATH", &self.path)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .env("DMS_GENERAL_USER_DIR", self.folder.join("user"))
            .env("DMS_PASSPHRASE", &self.passphrase)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        let secrets = [hex::encode(self.wallet.key.expose_seed()), self.passphrase.clone()];
        assert!(!secrets.iter().any(|secret| out.contains(secret) || err.contains(secret)), "`{line}` shows a secret");
        Ended { line: line.to_owned(), code: output.status.code().unwrap(), out, err }
    }

    /// Signs the objects, as they lie in files, under a grant in a file or else the one in the wallet. Gives what may be
    /// applied.
    pub async fn sign(&self, objects: &[Value], grant: Option<&Path>) -> String {
        let files: Vec<String> = objects
            .iter()
            .enumerate()
            .map(|(number, object)| {
                format!("-f {}", self.write(&format!("{number}.yaml"), &object.to_string()).display())
            })
            .collect();
        let grant = grant.map(|grant| format!("--grant {}", grant.display())).unwrap_or_default();
        let (files, key) = (files.join(" "), self.key.display());
        self.run(&format!("kubectl hosting sign {files} --key {key} {grant}")).await.done()
    }

    pub async fn apply(&self, text: &str) -> Ended {
        let file = self.write("apply.yaml", text);
        self.run(&format!("kubectl apply -f {}", file.display())).await
    }
}
