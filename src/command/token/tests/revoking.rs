use super::*;
use crate::api::CapabilityRevocation;
use crate::capability::verify_revocation;

fn revoked(number: u8, token: &Token, extra: &[&str]) -> Result<String, String> {
    use std::error::Error as _;
    let line = [&["revoke", "--key", "k", "--token", "t"], extra].concat();
    let Tokens::Revoke(revoke) = parsed(&line)? else { panic!("{line:?} is a revocation") };
    revoke
        .text(&key(number), token)
        .map_err(|error| format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default()))
}

#[test]
fn the_issuer_of_a_link_takes_it_back() {
    let token = chain();
    let links: Vec<_> = token.links().map(Token::revocation_key).collect();
    for (number, extra, link) in
        [(3, &[][..], 0), (3, &["--link", "3"], 0), (2, &["--link", "2"], 1), (1, &["--link", "1"], 2)]
    {
        let text = revoked(number, &token, extra).unwrap();
        let revocation = Token::parse(text.trim_end().as_bytes()).unwrap();
        assert_eq!(verify_revocation(&revocation).as_ref(), Ok(&links[link]), "{extra:?}");
        let value = token.verify(NOW, &|key| *key == verify_revocation(&revocation).unwrap());
        assert!(value.unwrap_err().link.unwrap().starts_with(&format!("link {} of 3", 3 - link)));
    }
}

#[test]
fn nobody_else_does_and_is_told_who_can() {
    let refused = |number, extra: &[&str]| revoked(number, &chain(), extra).unwrap_err();
    let error = refused(1, &[]);
    assert!(error.starts_with("link 3 of 3 was not revoked (this key can revoke link 1: --link 1)"), "{error}");
    assert!(error.contains(&format!("issued by {}", key(3).did())), "{error}");
    let error = refused(9, &["--link", "2"]);
    assert!(error.starts_with("link 2 of 3 was not revoked: ") && error.contains(key(2).did().as_str()), "{error}");
    assert!(refused(1, &["--link", "4"]).contains("no link 4: its chain has 3"));
    assert!(refused(1, &["--link", "0"]).contains("invalid value"));
    assert!(refused(1, &["--namespace", "shop"]).contains("--manifest"));
}

#[test]
fn what_was_changed_after_signing_is_not_revoked_in_vain() {
    let token = Token::delegate(&key(1), minting(&key(2), "/a"), None).unwrap();
    let nonce = [key(2).did().public_key()[0]; 12];
    let text = String::from_utf8(token.to_json()).unwrap();
    let encode = |bytes: &[u8]| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(bytes)
    };
    let changed = text.replace(&encode(&nonce), &encode(&[0; 12]));
    assert_ne!(changed, text);
    let error = revoked(1, &Token::parse(changed.as_bytes()).unwrap(), &[]).unwrap_err();
    assert!(error.contains("not what its issuers signed"), "{error}");
    // One that has expired can be revoked: a device's clock may be behind.
    let old = Token::delegate(&key(1), Minting { expires: Nanos(1), ..minting(&key(2), "/a") }, None).unwrap();
    assert!(revoked(1, &old, &[]).is_ok());
}

#[test]
fn the_manifest_is_what_the_operator_takes() {
    let text = revoked(1, &chain(), &["--link", "1", "--manifest", "stolen-laptop", "-n", "dms-operator"]).unwrap();
    assert!(text.starts_with("apiVersion: hosting.nunet.io/v1alpha1\nkind: CapabilityRevocation\n"), "{text}");
    let object: CapabilityRevocation = serde_saphyr::from_str(&text).unwrap();
    assert_eq!(object.metadata.name.as_deref(), Some("stolen-laptop"));
    assert_eq!(object.metadata.namespace.as_deref(), Some("dms-operator"));
    let revocation = Token::parse(object.spec.token.as_bytes()).unwrap();
    assert_eq!(verify_revocation(&revocation), Ok(chain().root().revocation_key()));
    let error = revoked(1, &chain(), &["--link", "1", "--manifest", "A b"]).unwrap_err();
    assert!(error.starts_with("\"A b\" cannot be a name"), "{error}");
}
