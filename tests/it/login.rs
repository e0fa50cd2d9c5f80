//! `kubectl hosting login` and what follows from it, as a person runs it against a scripted provider.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use dms_operator::{
    capability::{Context, Token},
    dev::wallet::Wallet,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};

use crate::{cluster::scratch, ended::Ended, timed::Timed, world::name};

use self::provider::{Misdeed, Provider};

mod cluster;
mod provider;
mod wallet;

/// Somebody with a wallet folder, and the one passphrase of all keys in it.
struct Person {
    folder: PathBuf,
    passphrase: String,
    kubeconfig: PathBuf,
}

impl Person {
    fn new() -> Self {
        let folder = scratch(&format!("login-{}", name()));
        let kubeconfig = folder.join("no-kubeconfig");
        Self { folder, passphrase: format!("correct-{}", name()), kubeconfig }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(&self.folder)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .env_remove("DMS_GENERAL_USER_DIR")
            .env_remove("DMS_PASSPHRASE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.command(env!("CARGO_BIN_EXE_dms-operator"));
        let output = command.args(arguments).env("DMS_PASSPHRASE", &self.passphrase).output().await.unwrap();
        Ended::from(output).without([&self.passphrase], arguments)
    }

    /// Runs the binary on a terminal of its own and says there what is asked for, each time after the prompt.
    async fn run_on_terminal(&self, arguments: &[&str], dialogue: &[(&str, &str)]) -> (i32, String) {
        let words = [&[env!("CARGO_BIN_EXE_dms-operator")], arguments].concat().join(" ");
        // A person is slower than the prompt; here nothing that is typed is echoed, whoever is first.
        let mut child = self.command("script").args(["-E", "never", "-qec", &words, "/dev/null"]).spawn().unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (mut screen, mut seen) = (String::new(), 0);
        let talking = async {
            for (prompt, answer) in dialogue {
                let mut piece = [0; 4096];
                while !screen[seen..].contains(prompt) {
                    let length = output.read(&mut piece).await.unwrap();
                    assert!(length > 0, "no {prompt:?} in {screen:?}");
                    screen.push_str(&String::from_utf8_lossy(&piece[..length]));
                }
                seen = screen.len();
                input.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
            output.read_to_string(&mut screen).await.unwrap();
            child.wait().await.unwrap().code().unwrap()
        };
        let code = timeout(Duration::from_mins(2), talking).await.expect("it goes on");
        assert!(!screen.contains(&self.passphrase), "the passphrase is on the screen");
        (code, screen)
    }

    fn key(&self, name: &str) -> PathBuf {
        self.folder.join(".nunet/key").join(format!("{name}.json"))
    }

    fn context(&self, name: &str) -> PathBuf {
        self.folder.join(".nunet/cap").join(format!("{name}.cap"))
    }

    fn provide(&self, name: &str) -> Vec<Token> {
        Context::parse(&fs::read(self.context(name)).unwrap()).unwrap().provide
    }

    /// Puts a key into the wallet.
    async fn with_key(&self, name: &str) -> Wallet {
        let wallet = Wallet::random().unwrap();
        let seed = self.folder.join("seed");
        fs::write(&seed, hex::encode(wallet.key.expose_seed())).unwrap();
        self.run(&["wallet", "import", "--name", name, "--seed-file", "seed"]).await.done();
        fs::remove_file(seed).unwrap();
        wallet
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn a_new_key_is_made_and_proves_itself_over_libp2p() {
    let _timed = Timed::start();
    let (person, provider) = (Person::new(), Provider::start(Misdeed::Nothing).await);
    let line = ["login", &provider.multiaddress, "--namespace", "shop", "--yes"];
    person.run(&line).await.refused_at_last(1, "there is no key default in the wallet: run it with --new");
    assert!(!person.key("default").exists() && provider.seen(|seen| seen.challenges) == 0);

    let ended = person.run(&[&line[..], &["--new", "-o", "json"]].concat()).await;
    assert!(ended.err.contains("hosting.example.org wants you to sign in with your DID:"), "{ended:?}");
    let told = ended.json();
    assert_eq!((mode(&person.key("default")), mode(&person.context("default"))), (0o600, 0o600));
    let granted = provider.seen(|seen| seen.granted.clone());
    assert_eq!(person.provide("default"), granted);
    assert_eq!(
        told,
        json!({
            "did": granted[0].subject().as_str(), "provider": provider.did().as_str(), "namespace": "shop",
            "actions": ["apply", "publish", "read"], "expires": granted[0].expires().to_string(), "delegations": 2,
            "key": "default", "context": person.context("default"),
        })
    );
    assert_eq!(provider.seen(|seen| seen.proved.len()), 1);

    // The next one uses the key that is there, for what is named, and stands beside the first.
    let table = person.run(&[&line[..4], &["--yes", "--can", "read,apply"]].concat()).await.done();
    assert!(table.contains("apply, read in namespace shop") && table.contains("at most 2 times"), "{table}");
    assert_eq!(person.provide("default"), provider.seen(|seen| seen.granted.clone()));
    let yaml = person.run(&["login", &provider.multiaddress, "-n", "blog", "-y", "-o", "yaml"]).await.done();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap()["namespace"], "blog");
    person.run(&[&line[..], &["--new"]].concat()).await.refused_at_last(1, "there is a key default already");
}

#[tokio::test]
async fn the_same_goes_over_http_when_the_did_is_known() {
    let _timed = Timed::start();
    let (person, provider) = (Person::new(), Provider::start(Misdeed::Nothing).await);
    let owner = person.with_key("owner").await;
    let did = provider.did().to_string();
    let line = ["login", &provider.service, "-n", "shop", "-y"];
    person.run(&line).await.refused_at_last(1, "name it with --did");
    let other = Wallet::random().unwrap().did().to_string();
    let told = person.run(&[&line[..], &["--did", &did, "-o", "json"]].concat()).await.json();
    assert_eq!((&told["did"], &told["key"]), (&json!(owner.did().as_str()), &json!("owner")));
    assert_eq!(person.provide("owner"), provider.seen(|seen| seen.granted.clone()));
    // Who listens there has not the key of another DID.
    let cheated = person.run(&[&line[..], &["--did", &other]].concat()).await;
    cheated.refused_at_last(2, "it is from did:key:");
    assert_eq!(person.provide("owner").len(), 1);
    let before = provider.seen(|seen| seen.challenges);
    let elsewhere = ["login", &provider.multiaddress, "-n", "shop", "-y", "--did", &other];
    person.run(&elsewhere).await.refused_at_last(1, "nothing was asked of it");
    assert_eq!(provider.seen(|seen| seen.challenges), before);
}

#[tokio::test]
async fn what_a_dishonest_provider_says_is_refused_and_nothing_is_kept() {
    let _timed = Timed::start();
    let person = Person::new();
    person.with_key("owner").await;
    let cases = [
        (Misdeed::OtherDid, false, "where the own DID belongs"),
        (Misdeed::OtherProvider, false, "where the provider belongs"),
        (Misdeed::OtherNamespace, false, "in the namespace shop"),
        (Misdeed::MoreInTheText, false, "\"- /dms/node\""),
        (Misdeed::ControlCharacter, false, "line 1 of its text holds U+001B"),
        (Misdeed::DmsPrefix, false, "as what is signed for other purposes does"),
        (Misdeed::ChallengeOver, false, "compare the clock here"),
        (Misdeed::NoCounterSignature, false, "carries no token that it counter-signed"),
        (Misdeed::OwnCounterSignature, false, "does not hang on that of the asker"),
        (Misdeed::OtherSubject, true, "it is for did:key:"),
        (Misdeed::OtherIssuer, true, "it was issued by did:key:"),
        (Misdeed::Wider, true, "it gives /hosting/shop/delete, which is not what was signed for"),
        (Misdeed::Narrower, true, "it does not give /hosting/shop/read, which was signed for"),
        (Misdeed::Over, true, "it expired at"),
        (Misdeed::Unlimited, true, "passed on without limit"),
    ];
    for (misdeed, signed, says) in cases {
        let provider = Provider::start(misdeed).await;
        let did = provider.did().to_string();
        let ended = match misdeed {
            // Both ways are judged by the same code; half of the cases go each way.
            Misdeed::OtherDid | Misdeed::NoCounterSignature | Misdeed::Wider | Misdeed::Unlimited => {
                person.run(&["login", &provider.service, "--did", &did, "-n", "shop", "-y"]).await
            }
            _ => person.run(&["login", &provider.multiaddress, "-n", "shop", "-y"]).await,
        };
        ended.refused_at_last(2, says);
        assert!(ended.err.contains(&did) && ended.err.contains("Nothing was stored"), "{ended:?}");
        assert!(!person.context("owner").exists(), "{misdeed:?} left something");
        assert_eq!(provider.seen(|seen| seen.proved.len()), usize::from(signed), "{misdeed:?}");
    }
}

#[tokio::test]
async fn silence_a_foreign_signature_and_a_refusal_are_told_apart() {
    let _timed = Timed::start();
    let person = Person::new();
    person.with_key("owner").await;
    let login = async |provider: &Provider, extra: &[&str]| {
        person.run(&[&["login", &provider.multiaddress, "-n", "shop", "-y"], extra].concat()).await
    };
    let provider = Provider::start(Misdeed::Silent).await;
    login(&provider, &["--timeout", "4s"]).await.refused_at_last(3, "gave no answer within ");
    let did = provider.did().to_string();
    let line = ["login", &provider.service, "--did", &did, "-n", "shop", "-y", "--timeout", "4s"];
    person.run(&line).await.refused_at_last(3, "gave no answer within ");

    // Over libp2p a foreign signature is not taken for an answer; over HTTP it is one, and a wrong one.
    let provider = Provider::start(Misdeed::OtherSigner).await;
    login(&provider, &["--timeout", "4s"]).await.refused_at_last(3, "gave no answer within ");
    let did = provider.did().to_string();
    let line = ["login", &provider.service, "--did", &did, "-n", "shop", "-y"];
    person.run(&line).await.refused_at_last(2, "was not signed by did:key:");

    let provider = Provider::start(Misdeed::Refuses).await;
    login(&provider, &[]).await.refused_at_last(2, "refused: nothing for you [2J here (NotInPolicy)");

    let gone =
        format!("/ip4/127.0.0.1/tcp/{}/p2p/{}", dms_operator::dev::free_port().unwrap(), provider.did().peer_id());
    person.run(&["login", &gone, "-n", "shop", "-y"]).await.refused_at_last(1, "could not be reached");
    assert!(!person.context("owner").exists());
}

#[tokio::test]
async fn nothing_is_signed_unless_somebody_says_so() {
    let _timed = Timed::start();
    let (person, provider) = (Person::new(), Provider::start(Misdeed::Nothing).await);
    person.with_key("owner").await;
    let line = ["login", &provider.multiaddress, "-n", "shop"];
    person.run(&line).await.refused_at_last(1, "nothing was signed, since nobody can be asked here");
    let passphrase = person.passphrase.clone();
    let (code, screen) =
        person.run_on_terminal(&line, &[("Passphrase of", &passphrase), ("Sign this? [y/N]", "")]).await;
    assert!(code == 1 && screen.contains("nothing was signed"), "{screen}");
    assert_eq!(provider.seen(|seen| (seen.challenges, seen.proved.len())), (2, 0));
    let (code, screen) = person.run_on_terminal(&line, &[("Passphrase of", "guessed")]).await;
    assert!(code == 1 && screen.contains("the passphrase does not open this key file"), "{screen}");

    let (code, screen) =
        person.run_on_terminal(&line, &[("Passphrase of", &passphrase), ("Sign this? [y/N]", "y")]).await;
    assert!(code == 0 && screen.contains("- /hosting/shop/apply") && screen.contains("kept in"), "{screen}");
    assert_eq!(person.provide("owner"), provider.seen(|seen| seen.granted.clone()));
}

#[tokio::test]
async fn a_person_at_a_terminal_makes_a_key_and_confirms_a_did() {
    let _timed = Timed::start();
    let (person, provider) = (Person::new(), Provider::start(Misdeed::Nothing).await);
    let line = ["login", &provider.service, "-n", "shop"];
    let does_not = [("Does its operator say the same? [y/N]", "n")];
    let (code, screen) = person.run_on_terminal(&line, &does_not).await;
    assert!(code == 1 && screen.contains(provider.did().as_str()) && screen.contains("not confirmed"), "{screen}");
    assert!(!person.key("default").exists() && provider.seen(|seen| seen.challenges) == 0);

    let passphrase = person.passphrase.clone();
    let dialogue = [
        ("Does its operator say the same? [y/N]", "y"),
        ("There is no key default in the wallet. Make one? [y/N]", "yes"),
        ("New passphrase: ", &passphrase),
        ("Again: ", &passphrase),
        ("Sign this? [y/N]", "y"),
    ];
    let (code, screen) = person.run_on_terminal(&line, &dialogue).await;
    assert!(code == 0 && screen.contains("The new key default is did:key:"), "{screen}");
    assert_eq!((mode(&person.key("default")), mode(&person.context("default"))), (0o600, 0o600));
    assert_eq!(person.provide("default"), provider.seen(|seen| seen.granted.clone()));
}

#[tokio::test]
async fn a_mistake_is_told_before_anybody_is_asked() {
    let _timed = Timed::start();
    let (person, provider) = (Person::new(), Provider::start(Misdeed::Nothing).await);
    let owner = person.with_key("owner").await;
    let address = provider.multiaddress.as_str();
    person.run(&["login", address, "-y"]).await.refused_at_last(1, "no namespace to host in is known");
    person
        .run(&["login", address, "-n", "Shop", "-y"])
        .await
        .refused_at_last(1, "is not the name of a Kubernetes namespace");
    person
        .run(&["login", "default", "-n", "shop", "-y"])
        .await
        .refused_at_last(1, "no Kubernetes API server is configured");
    let other = person.run(&["login", address, "-n", "shop", "-y", "--name", "other"]).await;
    other.refused_at_last(1, "there is no key other in the wallet");
    // What is in the place of the grant is neither lost nor overwritten.
    fs::create_dir_all(person.folder.join(".nunet/cap")).unwrap();
    fs::write(person.context("owner"), "{\"did\":1}").unwrap();
    person.run(&["login", address, "-n", "shop", "-y"]).await.refused_at_last(1, "is no context file as DMS writes it");
    assert_eq!(fs::read_to_string(person.context("owner")).unwrap(), "{\"did\":1}");
    let foreign = Wallet::random().unwrap();
    let context = json!({"did": {"uri": foreign.did().as_str()}, "roots": [{"uri": owner.did().as_str()}]}).to_string();
    fs::write(person.context("owner"), &context).unwrap();
    person.run(&["login", address, "-n", "shop", "-y"]).await.refused_at_last(1, "is the context of did:key:");
    assert_eq!(fs::read_to_string(person.context("owner")).unwrap(), context);
    assert_eq!(provider.seen(|seen| seen.challenges), 0);

    // The namespace of a kubeconfig is as good as one that is named.
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "blog"}}],
    });
    fs::write(&person.kubeconfig, config.to_string()).unwrap();
    fs::remove_file(person.context("owner")).unwrap();
    let told = person.run(&["login", address, "-y", "-o", "json"]).await.json();
    assert_eq!(told["namespace"], "blog");
}
