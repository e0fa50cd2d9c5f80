use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::capability::{Key, Minting};

const SOON: Nanos = Nanos(1_800_000_000_000_000_000);

fn key(byte: u8) -> Key {
    Key::from_seed([byte; 32])
}

fn grant(issuer: u8, namespace: &str, expires: Nanos, depth: u64) -> Token {
    let minting = Minting {
        subject: key(1).did().clone(),
        audience: Some(key(issuer).did().clone()),
        capabilities: vec![Capability::parse(&format!("/hosting/{namespace}/apply")).unwrap()],
        topics: vec![],
        expires,
        depth,
        nonce: rand::random(),
    };
    Token::delegate(&key(issuer), minting, None).unwrap()
}

struct Desk {
    root: tempfile::TempDir,
    folder: Folder,
    name: Name,
}

impl Desk {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().to_owned());
        Self { root, folder, name: "owner".parse().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("cap/owner.cap")
    }

    fn keep(&self, grant: &Token) -> Result<PathBuf, CommandError> {
        Anchors::keep(&self.folder, &self.name, grant)
    }

    fn provide(&self) -> Vec<Token> {
        Context::parse(&fs::read(self.file()).unwrap()).unwrap().provide
    }
}

#[test]
fn a_grant_is_kept_as_a_provide_anchor_that_dms_reads() {
    let desk = Desk::new();
    assert!(Anchors::read(&desk.folder, &desk.name).unwrap().is_none());
    let first = grant(2, "shop", SOON, 3);
    assert_eq!(desk.keep(&first).unwrap(), desk.file());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&desk.file()), mode(desk.file().parent().unwrap())), (0o600, 0o700));
    let context = Context::parse(&fs::read(desk.file()).unwrap()).unwrap();
    assert_eq!((&context.did, context.provide.as_slice()), (key(1).did(), std::slice::from_ref(&first)));
    let load = Context::load(&fs::read(desk.file()).unwrap(), Nanos(SOON.0 - 1)).unwrap();
    assert_eq!(load.provide, std::slice::from_ref(&first));

    // Another provider and another namespace stand beside it; a later one of the same takes its place, a shallower does not.
    let [other, elsewhere] = [grant(3, "shop", SOON, 3), grant(2, "blog", SOON, 3)];
    let [later, shallow] = [grant(2, "shop", SOON.plus(Duration::from_secs(9)), 3), grant(2, "shop", Nanos::MAX, 2)];
    for grant in [&other, &elsewhere, &later, &shallow] {
        desk.keep(grant).unwrap();
    }
    assert_eq!(desk.provide(), [other, elsewhere, later, shallow]);
    assert_eq!(mode(&desk.file()), 0o600);
}

#[test]
fn what_is_not_understood_in_a_file_of_dms_stays() {
    let desk = Desk::new();
    desk.folder.place_for_context(&desk.name).unwrap();
    let root = "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme";
    let foreign = json!({"dms": {
        "act": "delegate", "iss": {"uri": root}, "sub": {"uri": key(1).did().as_str()}, "aud": {}, "cap": ["/x"],
        "nonce": "AAECAwQFBgcICQoL", "exp": 18_446_744_073_709_551_615_u64, "sig": "AA==",
    }});
    let own = grant(2, "shop", SOON, 3);
    let own: Value = serde_json::from_slice(&own.to_json()).unwrap();
    let mut json = json!({
        "DID": {"uri": key(1).did().as_str()}, "Roots": [{"uri": root}], "Require": {}, "Provide": {"tok": [foreign, own]},
        "Revoke": {},
    });
    fs::write(desk.file(), format!("{json}\n")).unwrap();
    let new = grant(2, "blog", SOON, 3);
    desk.keep(&new).unwrap();
    json["Provide"]["tok"].as_array_mut().unwrap().push(serde_json::from_slice(&new.to_json()).unwrap());
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(desk.file()).unwrap()).unwrap(), json);
    assert_eq!(desk.provide().len(), 2, "the foreign one gives nothing here");

    // An empty context as DMS writes it has lists without members.
    fs::write(desk.file(), json!({"did": {"uri": key(1).did().as_str()}, "provide": {}}).to_string()).unwrap();
    desk.keep(&new).unwrap();
    assert_eq!(desk.provide(), [new]);
}

#[test]
fn a_file_that_cannot_be_kept_whole_is_left_as_it_is() {
    let desk = Desk::new();
    desk.folder.place_for_context(&desk.name).unwrap();
    let did = json!({"uri": key(1).did().as_str()});
    let other = json!({"uri": key(3).did().as_str()});
    for (content, says) in [
        (String::new(), "is no context file as DMS writes it"),
        ("{}".to_owned(), "is no context file as DMS writes it"),
        (json!({"did": did, "more": 1}).to_string(), "is no context file as DMS writes it"),
        (json!({"did": did, "provide": []}).to_string(), "is no context file as DMS writes it"),
        (format!(r#"{{"did":{did},"provide":{{}},"provide":{{}}}}"#), "is no context file as DMS writes it"),
        (format!(r#"{{"did":{did}}}{{}}"#), "is no context file as DMS writes it"),
        (json!({"did": other, "provide": {}}).to_string(), "is the context of did:key:"),
    ] {
        fs::write(desk.file(), &content).unwrap();
        let said = desk.keep(&grant(2, "shop", SOON, 3)).unwrap_err().to_string();
        assert!(said.contains(says) && said.contains("--name"), "{content}: {said}");
        assert_eq!(fs::read_to_string(desk.file()).unwrap(), content);
    }
}

#[test]
fn grants_that_come_at_the_same_time_are_all_kept() {
    let desk = Desk::new();
    let grants: Vec<Token> = (0..16).map(|index| grant(2, &format!("n{index}"), SOON, 3)).collect();
    std::thread::scope(|scope| {
        for grant in &grants {
            scope.spawn(|| desk.keep(grant).unwrap());
        }
    });
    let kept = desk.provide();
    assert!(kept.len() == grants.len() && grants.iter().all(|grant| kept.contains(grant)), "{kept:?}");
}
