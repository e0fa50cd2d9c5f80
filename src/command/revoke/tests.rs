use super::*;
use crate::capability::{Capability, Context, Minting, Nanos, verify_revocation};

fn key(byte: u8) -> Key {
    Key::from_seed([byte; 32])
}

fn link(issuer: u8, subject: u8, depth: u64, above: Option<&Token>) -> Token {
    let minting = Minting {
        subject: key(subject).did().clone(),
        audience: Some(key(1).did().clone()),
        capabilities: vec![Capability::parse("/hosting/shop/apply").unwrap()],
        topics: vec![],
        expires: Nanos::MAX,
        depth,
        nonce: rand::random(),
    };
    Token::delegate(&key(issuer), minting, above).unwrap()
}

#[test]
fn the_last_link_of_the_own_key_is_taken_back() {
    let grant = link(1, 2, 4, None);
    let team = link(2, 3, 3, Some(&grant));
    let pipeline = link(3, 4, 2, Some(&team));
    for (signer, link) in [(1, &grant), (2, &team), (3, &pipeline)] {
        let revocation = taken_back(&key(signer), &pipeline).unwrap();
        verify_revocation(&revocation).unwrap();
        assert_eq!(revocation.revocation_key(), link.revocation_key());
    }
    let said = taken_back(&key(4), &pipeline).unwrap_err().to_string();
    assert!(said.contains("nothing was revoked") && said.contains(key(3).did().as_str()), "{said}");
}

#[test]
fn what_was_passed_on_is_found_by_id_and_by_did() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().to_owned());
    let [owner, other]: [Name; 2] = ["owner", "other"].map(|name| name.parse().unwrap());
    let grant = link(1, 2, 4, None);
    let [first, second] = [link(2, 3, 1, Some(&grant)), link(2, 4, 1, Some(&grant))];
    let third = link(2, 4, 1, Some(&grant));
    for (name, token) in [(&owner, &first), (&owner, &second), (&other, &third)] {
        Delegated::keep(&folder, name, token).unwrap();
    }
    let find =
        |which: &str, name: Option<&Name>| delegation(&folder, Some(which), name).map_err(|error| error.to_string());
    let found = |name: &Name, token: &Token| {
        Ok(Delegated { key: name.clone(), token: token.clone(), revocation_written: false })
    };
    assert_eq!(find(&delegated::id(&first), None), found(&owner, &first));
    assert_eq!(find(&hex::encode_upper(third.nonce()), None), found(&other, &third));
    assert_eq!(find(&delegated::id(&third)[..8], None), found(&other, &third));
    assert_eq!(find(key(3).did().as_str(), None), found(&owner, &first));
    assert_eq!(find(key(4).did().as_str(), Some(&other)), found(&other, &third));
    assert!(find(key(4).did().as_str(), None).unwrap_err().contains("is more than one token"));
    for unknown in ["zz", "", &delegated::id(&first)[..7], key(5).did().as_str()] {
        assert!(find(unknown, None).unwrap_err().contains("no token that this wallet passed on"), "{unknown}");
    }
    // What cannot be read hides nothing.
    std::fs::write(root.path().join("hosting/delegated/owner/broken.token"), "{").unwrap();
    assert_eq!(Delegated::all(&folder, None).unwrap().len(), 3);
}

#[test]
fn the_last_link_that_the_wallet_issued_is_meant() {
    let root = tempfile::tempdir().unwrap();
    let folder = Folder::new(root.path().to_owned());
    let names: [Name; 2] = ["a", "b"].map(|name| name.parse().unwrap());
    for (name, did) in names.iter().zip([2, 3]) {
        for file in [folder.key(name), folder.context(name)] {
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, Context::empty(key(did).did().clone()).to_json()).unwrap();
        }
    }
    let team = link(2, 3, 3, Some(&link(1, 2, 4, None)));
    let pipeline = link(3, 4, 2, Some(&team));
    assert_eq!(issuer_of(&folder, &pipeline, None).unwrap(), names[1]);
    assert_eq!(issuer_of(&folder, &team, None).unwrap(), names[0]);
}
