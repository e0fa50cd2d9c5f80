use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::capability::{Handle, Key, Minting, Token, token_list};

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);
const SECOND: u64 = 1_000_000_000;

fn at(seconds: i64) -> Nanos {
    Nanos(NOW.0.checked_add_signed(seconds * SECOND.cast_signed()).unwrap())
}

fn provider() -> Key {
    Key::from_seed([1; 32])
}

fn owner() -> Key {
    Key::from_seed([2; 32])
}

/// An object of the owner, signed at `time` under a grant that ends at `expires`.
fn object(release: char, time: Nanos, expires: Nanos) -> Value {
    let mut object = json!({
        "apiVersion": "hosting.nunet.io/v1alpha1",
        "kind": "HostingDeployment",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "owner": owner().did().as_str(),
            "providerRef": {"namespace": "dms-operator", "name": "default"},
            "content": {"release": format!("sha256:{}", release.to_string().repeat(64))},
        },
    });
    let path = Capability::parse("/hosting/shop/apply/web").unwrap();
    let minting = |subject: &Key, depth| Minting {
        subject: subject.did().clone(),
        audience: Some(provider().did().clone()),
        capabilities: vec![path.clone()],
        topics: Vec::new(),
        expires,
        depth,
        nonce: [7; 12],
    };
    let grant = Token::delegate(&provider(), minting(&owner(), 2), None).unwrap();
    let token = Token::invoke(&owner(), minting(&owner(), 0), Some(&grant)).unwrap();
    let envelope = Envelope {
        to: Handle::root_of(provider().did()),
        behaviour: path.to_string(),
        from: Handle::of(owner().did(), None, None),
        nonce: 7,
        expires,
        continuation: None,
        topic: None,
        message: serde_json::to_vec(&Statement::new(spec_digest(&object).unwrap(), time)).unwrap(),
        capabilities: token_list(&[token]),
        signature: None,
    };
    let invocation = STANDARD.encode(envelope.sign(&owner()).to_json());
    object["spec"]["authorization"] = json!({"invocation": invocation});
    object
}

fn judged(object: &Value, highest: Option<&Highest>, rollback: Permission) -> Standing {
    let provider = provider().did().clone();
    let anchors = [provider.clone()];
    let (revoked, denied) = (|_: &RevocationKey| false, BTreeSet::new());
    let (provider, anchors, revoked, denied) = (&provider, &anchors, &revoked, &denied);
    authorise(object, &Rules { judge: &anew, provider, anchors, revoked, denied, highest, rollback, now: NOW })
}

fn refused(standing: &Standing) -> Option<Reason> {
    match standing {
        Standing::Refused(refusal) => Some(refusal.reason),
        Standing::Valid(_) | Standing::Expired { .. } => None,
    }
}

fn digest(object: &Value) -> String {
    spec_digest(object).unwrap().digest
}

#[test]
fn what_fits_is_accepted_with_what_it_rests_on() {
    let object = object('a', at(-5), at(60));
    let Standing::Valid(Accepted { digest: accepted, signer, signed, not_after, links }) =
        judged(&object, None, Permission::Refuse)
    else {
        panic!("it was not accepted");
    };
    assert_eq!((accepted, &signer, signed, not_after), (digest(&object), owner().did(), at(-5), at(60)));
    assert_eq!(links.len(), 2);
}

#[test]
fn expired_is_told_from_never_held() {
    let expired = object('a', at(-60), at(-1));
    let Standing::Expired { accepted, refusal } = judged(&expired, None, Permission::Refuse) else {
        panic!("it held until its end");
    };
    assert_eq!((accepted.not_after, accepted.signed, refusal.reason), (at(-1), at(-60), Reason::Expired));

    // Signed after its end, it never held.
    assert_eq!(refused(&judged(&object('a', at(0), at(-60)), None, Permission::Refuse)), Some(Reason::Expired));
    // Something else was wrong all along, and that is what is said.
    let mut changed = expired;
    changed["spec"]["content"]["release"] = json!("sha256:0");
    assert_eq!(refused(&judged(&changed, None, Permission::Refuse)), Some(Reason::DigestMismatch));
}

#[test]
fn a_signer_may_be_ahead_by_the_skew_and_no_more() {
    let skew = i64::try_from(SKEW.as_secs()).unwrap();
    assert_eq!(refused(&judged(&object('a', at(skew), at(600)), None, Permission::Refuse)), None);
    let ahead = Nanos(at(skew).0 + 1);
    let standing = judged(&object('a', ahead, at(600)), None, Permission::Refuse);
    assert_eq!(refused(&standing), Some(Reason::TimeInFuture));
}

#[test]
fn an_older_statement_comes_back_only_where_that_is_permitted() {
    let old = object('a', at(-20), at(600));
    let highest = Highest { time: at(-10), digest: "another".to_owned() };
    assert_eq!(refused(&judged(&old, Some(&highest), Permission::Refuse)), Some(Reason::RolledBack));
    assert_eq!(refused(&judged(&old, Some(&highest), Permission::Allow)), None);

    let same = Highest { time: at(-20), digest: digest(&old) };
    assert_eq!(refused(&judged(&old, Some(&same), Permission::Refuse)), None);
    let other = Highest { time: at(-20), digest: "another".to_owned() };
    for rollback in [Permission::Refuse, Permission::Allow] {
        assert_eq!(refused(&judged(&old, Some(&other), rollback)), Some(Reason::SameTimeOtherDigest));
    }
}

#[test]
fn without_an_envelope_there_is_nothing_to_judge() {
    let mut unsigned = object('a', at(-5), at(60));
    unsigned["spec"].as_object_mut().unwrap().remove("authorization");
    assert_eq!(refused(&judged(&unsigned, None, Permission::Refuse)), Some(Reason::NotSigned));
    unsigned["spec"]["authorization"] = json!({"invocation": "!"});
    assert_eq!(refused(&judged(&unsigned, None, Permission::Refuse)), Some(Reason::Malformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is changed after signing, and wherever the object is taken to: the signature does not cover it.
    #[test]
    fn no_change_after_signing_is_accepted(member in "[a-z]{1,8}", value: i64, place in 0..4_usize) {
        let mut object = object('a', at(-5), at(60));
        match place {
            0 => object["spec"][&member] = json!(value),
            1 => object["spec"]["content"][&member] = json!(value),
            2 => object["metadata"]["name"] = json!(format!("{member}-x")),
            _ => object["metadata"]["namespace"] = json!(format!("{member}-x")),
        }
        let standing = judged(&object, None, Permission::Refuse);
        prop_assert!(refused(&standing).is_some(), "{standing:?}");
    }
}
