use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_goes_into_the_wallet_and_out_again_and_is_never_shown() {
    let _timed = Timed::start();
    let mut desk = Desk::new();
    let passphrase = format!("correct-{}", name());
    desk.secrets.push(passphrase.clone());
    let wallet = desk.key("owner");
    let variables = [("DMS_PASSPHRASE", passphrase.as_str())];
    let run = |arguments: &[&str]| desk.run_with(arguments, &variables, b"");
    let did = format!("{}\n", wallet.did());
    let list = |form: &str| desk.run(&["wallet", "list", "-o", form]).done();
    assert_eq!(list("json"), "[]\n");

    assert_eq!(run(&["wallet", "import", "--name", "owner", "--seed-file", "owner.seed"]).done(), did);
    let keys = desk.folder.join("user/key");
    assert_eq!((mode(&keys), mode(&keys.join("owner.json"))), (0o700, 0o600));
    let again = run(&["wallet", "import", "--name", "owner", "--seed-file", "owner.seed"]);
    assert!(again.code == 1 && again.err.contains("exists already"), "{again:?}");
    for wrong in ["../owner", "a/b", ".x", ""] {
        assert_eq!(run(&["wallet", "import", "--name", wrong, "--seed-file", "owner.seed"]).code, 1, "{wrong}");
    }

    // Out as a key file of its own, and in again under another name.
    assert_eq!(run(&["wallet", "export", "owner", "--out", "copy.json", "--seed-out", "copy.seed"]).done(), did);
    assert_eq!((mode(&desk.folder.join("copy.json")), mode(&desk.folder.join("copy.seed"))), (0o600, 0o600));
    let seed = fs::read_to_string(desk.folder.join("copy.seed")).unwrap();
    assert_eq!(seed, format!("{}\n", hex::encode(wallet.key.expose_seed())));
    let (kept, copy) = (fs::read(keys.join("owner.json")).unwrap(), fs::read(desk.folder.join("copy.json")).unwrap());
    assert_ne!(kept, copy, "the same key is encrypted with another salt");
    assert!(!String::from_utf8_lossy(&copy).contains(seed.trim()));
    assert_eq!(run(&["wallet", "import", "--name", "second", "--key", "copy.json"]).done(), did);
    assert!(run(&["wallet", "show", "second"]).done().contains(did.trim()));
    let over = run(&["wallet", "export", "owner", "--out", "copy.json"]);
    assert!(over.code == 1 && over.err.contains("exists already"), "{over:?}");
    assert_eq!(fs::read(desk.folder.join("copy.json")).unwrap(), copy);

    fs::create_dir_all(desk.folder.join("user/cap")).unwrap();
    desk.file("user/cap/second.cap", b"{}");
    let listed: Value = serde_json::from_str(&list("json")).unwrap();
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["owner", "second"]);
    assert_eq!((&listed[0]["context"].is_null(), &listed[1]["context"].is_string()), (&true, &true));
    assert_eq!(serde_saphyr::from_str::<Value>(&list("yaml")).unwrap(), listed);
    assert_eq!(list("table").lines().count(), 2);

    // Who does not know the passphrase gets nothing out and nothing in.
    let guess = [("DMS_PASSPHRASE", "guessed")];
    for line in [
        &["wallet", "export", "owner", "--seed-out", "stolen"][..],
        &["wallet", "export", "owner", "--out", "stolen"],
        &["wallet", "import", "--name", "stolen", "--key", "copy.json"],
    ] {
        let refused = desk.run_with(line, &guess, b"");
        assert!(refused.code == 1 && refused.err.contains("passphrase"), "{refused:?}");
    }
    assert!(!desk.folder.join("stolen").exists() && !keys.join("stolen.json").exists());
}

#[test]
fn a_new_key_goes_where_it_is_told() {
    let _timed = Timed::start();
    let mut desk = Desk::new();
    let passphrase = format!("correct-{}", name());
    desk.secrets.push(passphrase.clone());
    let variables = [("DMS_PASSPHRASE", passphrase.as_str())];
    let run = |arguments: &[&str]| desk.run_with(arguments, &variables, b"");
    let did = run(&["wallet", "new", "--name", "ci"]).done();
    assert!(desk.folder.join("user/key/ci.json").exists());
    assert!(run(&["wallet", "show", "ci"]).done().contains(did.trim()));
    assert_eq!(run(&["wallet", "new", "--name", "ci"]).code, 1);
    assert_eq!(run(&["wallet", "new"]).code, 1);
    assert_eq!(run(&["wallet", "show", "absent"]).code, 1);
    // A key with which tokens are made is opened from its file as before.
    run(&["wallet", "new", "--out", "other.json"]).done();
    let line = ["token", "grant", "--key", "other.json", "--to", did.trim(), "--namespace", "shop"];
    assert!(Token::parse(run(&line).done().trim_end().as_bytes()).is_ok());
}
