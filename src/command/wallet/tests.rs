use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_file_is_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.json");
    write_new(&file, b"first").unwrap();
    let refusal = write_new(&file, b"second").unwrap_err();
    assert!(refusal.to_string().ends_with("exists already and is not overwritten: name another file"));
    assert_eq!(read(&file).unwrap(), "first");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_seed_file_holds_64_hex_digits_and_an_error_does_not_show_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("seed");
    let seed = random::<32>().unwrap();
    write_new(&file, format!("{}\n", hex::encode(seed)).as_bytes()).unwrap();
    assert_eq!(open_seed(&file).unwrap().did(), Key::from_seed(seed).did());

    let broken = folder.path().join("broken");
    write_new(&broken, &hex::encode(seed).as_bytes()[1..]).unwrap();
    let error = open_seed(&broken).unwrap_err();
    assert!(!format!("{error:?}").contains(&hex::encode(&seed[8..16])), "{error:?}");
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn a_name_is_one_part_of_a_path() {
    for wrong in ["", ".", "..", ".hidden", "-n", "a/b", "a b", "a\0", "é", &"x".repeat(65)] {
        assert!(wrong.parse::<Name>().is_err(), "{wrong:?}");
    }
    for right in ["owner", "ci-1", "a.b_c", "me@host", &"x".repeat(64)] {
        assert_eq!(name(right).to_string(), right);
    }
}

#[test]
fn the_folder_is_closed_to_others_and_lists_key_files_only() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().join("user"));
    assert_eq!(folder.entries().unwrap(), []);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let keys = root.path().join("user/key");
    for _ in 0..2 {
        assert_eq!(folder.place_for(&name("owner")).unwrap(), keys.join("owner.json"));
        assert_eq!(mode(&keys), 0o700);
        // A folder that stood open is closed.
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::create_dir_all(root.path().join("user/cap")).unwrap();
    for file in ["key/owner.json", "key/ci.json", "key/notes.txt", "key/a b.json", "cap/ci.cap"] {
        std::fs::write(root.path().join("user").join(file), "").unwrap();
    }
    std::fs::create_dir(keys.join("folder.json")).unwrap();
    let entries = folder.entries().unwrap();
    let json = serde_json::to_value(&entries).unwrap();
    assert_eq!(
        json,
        serde_json::json!([
            {"name": "ci", "file": keys.join("ci.json"), "context": root.path().join("user/cap/ci.cap")},
            {"name": "owner", "file": keys.join("owner.json"), "context": null},
        ])
    );
    let table = folder::table(&entries, &folder);
    assert_eq!(
        table,
        format!(
            "ci     context  {}\nowner  -        {}\n",
            keys.join("ci.json").display(),
            keys.join("owner.json").display()
        )
    );
    assert!(folder::table(&[], &folder).contains("wallet new --name NAME"));
}

#[test]
fn a_file_comes_before_a_name() {
    let root = tempfile::tempdir().unwrap();
    let folder = || Ok(Folder::new(root.path().to_owned()));
    let file = root.path().join("owner.json");
    write_new(&file, b"").unwrap();
    assert_eq!(find(&file, folder).unwrap(), file);
    let kept = Folder::new(root.path().to_owned()).place_for(&name("kept")).unwrap();
    assert!(find(Path::new("kept"), folder).unwrap_err().to_string().contains("no file kept"));
    write_new(&kept, b"").unwrap();
    assert_eq!(find(Path::new("kept"), folder).unwrap(), kept);
}
