use proptest::{collection::vec, prelude::*, sample::subsequence};

use super::*;
use crate::capability::Key;

const NAMESPACES: [&str; 3] = ["shop", "blog", "lab"];

fn did(number: u8) -> Did {
    Key::from_seed([number; 32]).did().clone()
}

fn any_actions() -> impl Strategy<Value = BTreeSet<GrantAction>> {
    subsequence(GrantAction::ALL.to_vec(), 1..=5).prop_map(|actions| actions.into_iter().collect())
}

fn any_offer() -> impl Strategy<Value = Offer> {
    let dids = subsequence(vec![1, 2, 3_u8], 0..=3);
    let subjects = prop_oneof![
        Just(Subjects::Any),
        dids.prop_map(|numbers| Subjects::Dids(numbers.into_iter().map(did).collect())),
    ];
    let namespaces = subsequence(NAMESPACES.to_vec(), 0..=2);
    (subjects, namespaces, any_actions(), 1_u64..9, 1_u64..8).prop_map(
        |(subjects, namespaces, actions, lifetime, depth)| Offer {
            subjects,
            namespaces: namespaces.into_iter().map(str::to_owned).collect(),
            actions,
            lifetime: Duration::from_secs(lifetime),
            depth,
        },
    )
}

/// The offers that speak of this DID in this namespace.
fn fitting<'a>(offers: &'a [Offer], did: &'a Did, namespace: &'a str) -> impl Iterator<Item = &'a Offer> {
    offers.iter().filter(move |offer| {
        let named = match &offer.subjects {
            Subjects::Any => true,
            Subjects::Dids(dids) => dids.contains(did),
        };
        named && (offer.namespaces.is_empty() || offer.namespaces.contains(namespace))
    })
}

proptest! {
    #[test]
    fn what_is_given_was_offered_and_is_all_that_was_asked_for(
        offers in vec(any_offer(), 0..5),
        asked in subsequence(GrantAction::ALL.to_vec(), 0..=5),
        number in 1_u8..5,
        namespace in 0_usize..3,
    ) {
        let (did, namespace) = (did(number), NAMESPACES[namespace]);
        let wish = Wish { did: &did, namespace, actions: &asked };
        let offered: BTreeSet<GrantAction> =
            fitting(&offers, &did, namespace).flat_map(|offer| offer.actions.clone()).collect();
        let wanted: BTreeSet<GrantAction> =
            if asked.is_empty() { offered.clone() } else { asked.iter().copied().collect() };
        match decide(&offers, &BTreeSet::new(), true, &wish) {
            Ok(Given { actions, lifetime, depth }) => {
                prop_assert_eq!(&actions, &wanted);
                prop_assert!(!actions.is_empty() && actions.is_subset(&offered));
                let by = |action: &GrantAction| {
                    fitting(&offers, &did, namespace).find(|offer| offer.actions.contains(action)).unwrap()
                };
                prop_assert_eq!(lifetime, actions.iter().map(|action| by(action).lifetime).min().unwrap());
                prop_assert_eq!(depth, actions.iter().map(|action| by(action).depth).min().unwrap());
                prop_assert!(depth >= 1 && !lifetime.is_zero());
            }
            Err(Declined { reason, message }) => {
                prop_assert_eq!(reason, Reason::NotInPolicy);
                prop_assert!(offered.is_empty() || !wanted.is_subset(&offered), "{}", message);
            }
        }
        let nobody = decide(&offers, &BTreeSet::from([did.clone()]), true, &wish);
        prop_assert_eq!(nobody.map_err(|refused| refused.reason), Err(capability::Reason::Denied.into()));
        let nowhere = decide(&offers, &BTreeSet::new(), false, &wish);
        prop_assert_eq!(nowhere.map_err(|refused| refused.reason), Err(Reason::NamespaceNotAllowed));
    }
}

fn spec() -> GrantOffer {
    GrantOffer {
        subjects: GrantSubjects { any: Some(AnySubject {}), dids: None },
        namespaces: vec![],
        actions: vec![GrantAction::Apply],
        lifetime: None,
        max_delegations: None,
    }
}

#[test]
fn absent_members_have_the_documented_defaults() {
    let offer = Offer {
        subjects: Subjects::Any,
        namespaces: BTreeSet::new(),
        actions: [GrantAction::Apply].into(),
        lifetime: Duration::from_hours(720),
        depth: 3,
    };
    assert_eq!(offers(&[spec()]), Ok(vec![offer.clone()]));
    let dids = GrantSubjects { any: None, dids: Some(vec![did(1).to_string()]) };
    let named = GrantOffer {
        subjects: dids,
        namespaces: vec!["shop".to_owned()],
        lifetime: Some("90s".to_owned()),
        max_delegations: Some(0),
        ..spec()
    };
    let read = Offer {
        subjects: Subjects::Dids([did(1)].into()),
        namespaces: ["shop".to_owned()].into(),
        lifetime: Duration::from_secs(90),
        depth: 1,
        ..offer
    };
    assert_eq!(offers(&[named]), Ok(vec![read]));
}

#[test]
fn what_cannot_be_used_is_named() {
    let subjects = |any: bool, dids: Option<&str>| GrantSubjects {
        any: any.then_some(AnySubject {}),
        dids: dids.map(|did| vec![did.to_owned()]),
    };
    let cases = [
        (GrantOffer { subjects: subjects(false, None), ..spec() }, "spec.grants[].subjects"),
        (GrantOffer { subjects: subjects(true, Some(did(1).as_str())), ..spec() }, "spec.grants[].subjects"),
        (GrantOffer { subjects: subjects(false, Some("did:key:z6Mk")), ..spec() }, "spec.grants[].subjects.dids"),
        (GrantOffer { lifetime: Some("0s".to_owned()), ..spec() }, "spec.grants[].lifetime"),
        (GrantOffer { lifetime: Some("soon".to_owned()), ..spec() }, "spec.grants[].lifetime"),
        (GrantOffer { max_delegations: Some(7), ..spec() }, "spec.grants[].maxDelegations"),
        (GrantOffer { max_delegations: Some(-1), ..spec() }, "spec.grants[].maxDelegations"),
    ];
    for (offer, field) in cases {
        assert_eq!(offers(&[offer]).map_err(|error| error.field), Err(field));
    }
}
