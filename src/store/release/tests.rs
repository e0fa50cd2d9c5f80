use std::fs;

use proptest::prelude::*;

use super::*;

const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

fn files(list: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    list.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

/// Written out by hand, so that the canonicaliser is held too: members are sorted by UTF-16 code units, in which the
/// emoji (a surrogate pair) comes before U+FB33 although its UTF-8 bytes come after.
#[test]
fn the_id_is_the_hash_of_the_hand_written_canonical_manifest() {
    let release = Release::from_files(&files(&[
        ("index.html", "hello"),
        ("\u{fb33}", "hello"),
        ("😀/a b", ""),
        ("a.css", "hello"),
    ]))
    .unwrap();
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = format!(
        concat!(
            r#"{{"a.css":{{"sha256":"{hello}","size":5,"type":"text/css; charset=utf-8"}},"#,
            r#""index.html":{{"sha256":"{hello}","size":5,"type":"text/html; charset=utf-8"}},"#,
            r#""😀/a b":{{"sha256":"{empty}","size":0,"type":"application/octet-stream"}},"#,
            r#""{fb33}":{{"sha256":"{hello}","size":5,"type":"application/octet-stream"}}}}"#
        ),
        hello = HELLO,
        empty = empty,
        fb33 = '\u{fb33}'
    );
    assert_eq!(String::from_utf8_lossy(release.to_json()), expected);
    assert_eq!(release.id().to_string(), format!("sha256:{}", hex::encode(Sha256::digest(expected.as_bytes()))));
    assert_eq!(release.total_bytes(), 15);
    assert_eq!(release.blobs().len(), 2);
    assert_eq!(Release::parse(expected.as_bytes()).unwrap(), release);
}

/// A literal that no code of this test computes.
#[test]
fn the_id_of_a_known_site_never_changes() {
    let release = Release::from_files(&files(&[("index.html", "hello")])).unwrap();
    assert_eq!(release.id().to_string(), "sha256:a9285e7923ada0e56e4edd06a3041d33dbdfad4d997d19f8dd568819eee0ea33");
}

#[test]
fn a_folder_and_its_files_have_one_id() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("a/b")).unwrap();
    fs::create_dir_all(folder.path().join("empty")).unwrap();
    let big = "x".repeat(200_000);
    let content = files(&[("index.html", "hello"), ("a/b/c.js", &big), (".well-known", "w")]);
    for (path, bytes) in &content {
        fs::write(folder.path().join(path), bytes).unwrap();
    }
    assert_eq!(Release::from_dir(folder.path()).unwrap(), Release::from_files(&content).unwrap());

    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a/link")).unwrap();
    let error = Release::from_dir(folder.path()).unwrap_err();
    assert!(matches!(&error, ReleaseError::NotAFile(path) if path.ends_with("a/link")), "{error}");
}

#[test]
fn paths_that_leave_the_release_or_mislead_are_refused() {
    for (path, expected) in [
        ("", PathError::EmptySegment),
        ("/etc/passwd", PathError::Absolute),
        ("a//b", PathError::EmptySegment),
        ("a/", PathError::EmptySegment),
        ("..", PathError::Dots),
        ("a/../b", PathError::Dots),
        ("./a", PathError::Dots),
        ("a\\b", PathError::Backslash),
        ("a\0b", PathError::Control),
        ("a\nb", PathError::Control),
        ("a\u{85}b", PathError::Control),
        (&"a".repeat(MAX_PATH_BYTES + 1), PathError::TooLong),
    ] {
        assert_eq!(check_path(path), Err(expected), "{path:?}");
        let error = Release::from_files(&files(&[(path, "")])).unwrap_err();
        assert!(matches!(error, ReleaseError::Path { reason, .. } if reason == expected), "{path:?}");
        let manifest = format!(
            r#"{{{}:{{"sha256":"{HELLO}","size":5,"type":"text/plain"}}}}"#,
            serde_json::to_string(path).unwrap()
        );
        let error = Release::parse(manifest.as_bytes()).unwrap_err();
        assert!(matches!(error, ReleaseError::Path { reason, .. } if reason == expected), "{path:?}");
    }
    for path in ["a", "...", "a..b", ".hidden/x", "ä/é", "a b%2f?#", &"a".repeat(MAX_PATH_BYTES)] {
        assert_eq!(check_path(path), Ok(()), "{path:?}");
    }
}

#[test]
fn only_the_canonical_manifest_is_read() {
    let manifest = format!(r#"{{"a":{{"sha256":"{HELLO}","size":5,"type":"text/plain"}}}}"#);
    assert!(Release::parse(manifest.as_bytes()).is_ok());
    for (from, to) in [
        ("{\"a\"", "{ \"a\""),
        (r#""size":5,"#, r#""size":5,"size":5,"#),
        (r#""size":5"#, r#""size":5.0"#),
        (r#""size":5"#, r#""size":-1"#),
        (r#""size":5"#, r#""size":9007199254740992"#),
        (r#""size":5"#, r#""mode":7,"size":5"#),
        (r#""size":5,"#, ""),
        ("text/plain", "text/plain\\r\\nX: y"),
        ("text/plain", "plain"),
        ("text/plain", "text/ü"),
        (HELLO, &HELLO.to_uppercase()),
        (HELLO, &HELLO[1..]),
        (r#"{"a""#, r#"{"a":{},"a""#),
    ] {
        let changed = manifest.replace(from, to);
        assert_ne!(changed, manifest, "{from}");
        assert!(Release::parse(changed.as_bytes()).is_err(), "{changed}");
    }
    assert!(matches!(Release::parse(b"{}"), Err(ReleaseError::Empty)));
    assert!(matches!(Release::from_files(&files(&[])), Err(ReleaseError::Empty)));
}

#[test]
fn ids_have_one_spelling() {
    let id = format!("sha256:{HELLO}");
    assert_eq!(ReleaseId::parse(&id).unwrap().to_string(), id);
    assert_eq!(ReleaseId::parse(&id).unwrap().hex(), HELLO);
    assert_eq!(serde_json::to_string(&ReleaseId::parse(&id).unwrap()).unwrap(), format!("\"{id}\""));
    assert_eq!(BlobDigest::of(b"hello").to_string(), HELLO);
    for text in
        [HELLO, &id.to_uppercase(), &format!("sha256:{}", HELLO.to_uppercase()), &id[..70], &format!("{id}0"), ""]
    {
        assert_eq!(ReleaseId::parse(text), Err(IdError::Release), "{text}");
    }
}

#[test]
fn the_media_type_comes_from_the_extension_of_the_last_segment() {
    for (path, expected) in [
        ("index.html", "text/html; charset=utf-8"),
        ("a/B.SVG", "image/svg+xml"),
        ("a.html/readme", "application/octet-stream"),
        ("app.js.map", "application/json"),
        ("LICENSE", "application/octet-stream"),
    ] {
        assert_eq!(media_type(path), expected, "{path}");
        assert!(stands_in_a_header(media_type(path)));
    }
}

proptest! {
    #[test]
    fn parsing_gives_back_what_was_written(content in proptest::collection::btree_map("[a-zé😀./]{1,12}", any::<Vec<u8>>(), 1..6)) {
        if let Ok(release) = Release::from_files(&content) {
            prop_assert_eq!(Release::parse(release.to_json()).unwrap(), release);
        }
    }

    #[test]
    fn every_changed_byte_changes_the_id(content in proptest::collection::vec(any::<u8>(), 1..64), index: prop::sample::Index) {
        let mut changed = content.clone();
        let index = index.index(content.len());
        changed[index] ^= 1;
        let id = |bytes: &[u8]| Release::from_files(&BTreeMap::from([("f".to_owned(), bytes)])).unwrap().id();
        prop_assert_ne!(id(&content), id(&changed));
    }
}
