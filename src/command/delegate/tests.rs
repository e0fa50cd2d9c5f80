use super::*;
use crate::capability::{Key, Minting};

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

fn hours(count: u64) -> Nanos {
    NOW.plus(Duration::from_hours(count))
}

fn grant(issuer: u8, paths: &[&str], expires: Nanos, depth: u64) -> Token {
    let provider = Key::from_seed([issuer; 32]);
    let minting = Minting {
        subject: Key::from_seed([1; 32]).did().clone(),
        audience: Some(provider.did().clone()),
        capabilities: paths.iter().map(|path| Capability::parse(path).unwrap()).collect(),
        topics: vec![],
        expires,
        depth,
        nonce: [issuer; 12],
    };
    Token::delegate(&provider, minting, None).unwrap()
}

fn wanted(actions: &[GrantAction]) -> Wanted {
    Wanted { actions: actions.to_vec(), namespace: None, only: None, provider: None, links: 2 }
}

const BOTH: [&str; 2] = ["/hosting/shop/apply", "/hosting/shop/read"];

#[test]
fn the_grant_that_fits_and_holds_longest_is_used() {
    let apply = wanted(&[GrantAction::Apply, GrantAction::Apply]);
    let grants = [
        grant(2, &["/dms/node"], hours(9), 3),
        grant(2, &BOTH, hours(1), 3),
        grant(2, &BOTH, hours(3), 3),
        grant(2, &BOTH, hours(2), 3),
        grant(2, &["/hosting/shop/read"], hours(8), 3),
        grant(2, &BOTH, hours(7), 1),
    ];
    let (found, capabilities) = apply.of(&grants, NOW).unwrap();
    assert_eq!((found, capabilities), (&grants[2], vec![Capability::parse("/hosting/shop/apply").unwrap()]));
    let only = Wanted { only: Some("web".to_owned()), actions: GrantAction::ALL[..1].to_vec(), ..apply };
    let (_, capabilities) = only.of(&grants, NOW).unwrap();
    assert_eq!(capabilities, [Capability::parse("/hosting/shop/apply/web").unwrap()]);
}

#[test]
fn what_no_grant_gives_is_not_passed_on() {
    let grants = [grant(2, &BOTH, hours(2), 3)];
    let apply = wanted(&[GrantAction::Apply]);
    let refused = |wanted: Wanted, grants: &[Token], says: &str| {
        let said = wanted.of(grants, NOW).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    };
    refused(wanted(&[GrantAction::Delete]), &grants, "the first does not give /hosting/shop/delete");
    refused(Wanted { namespace: Some("blog".into()), ..apply.clone() }, &grants, "does not give /hosting/blog/apply");
    refused(Wanted { links: 4, ..apply.clone() }, &grants, "may be passed on 2 times in a row");
    refused(
        Wanted { provider: Some(Key::from_seed([3; 32]).did().clone()), ..apply.clone() },
        &grants,
        "the first is of did",
    );
    refused(Wanted { namespace: Some("a/b".into()), ..apply.clone() }, &grants, "is not a name");
    refused(Wanted { only: Some("web/x".into()), ..apply.clone() }, &grants, "is not a name");
    refused(apply.clone(), &[], "holds no grant to host anywhere");
    refused(apply.clone(), &[grant(2, &BOTH, Nanos(NOW.0 - 1), 3)], "holds no grant to host anywhere");
    let over = Wanted { namespace: Some("shop".into()), ..apply.clone() };
    refused(over, &[grant(2, &BOTH, Nanos(NOW.0 - 1), 3)], "the first expired at");
    let two = [grant(2, &BOTH, hours(2), 3), grant(3, &BOTH, hours(1), 3)];
    refused(apply.clone(), &two, "say with --provider");
    let named = Wanted { provider: Some(Key::from_seed([3; 32]).did().clone()), ..apply.clone() };
    assert_eq!(named.of(&two, NOW).unwrap().0, &two[1]);
    let places = [grant(2, &BOTH, hours(2), 3), grant(2, &["/hosting/blog/apply"], hours(1), 3)];
    refused(apply, &places, "say with --in which is meant, blog, shop");
}
