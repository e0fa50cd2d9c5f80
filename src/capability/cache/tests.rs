use std::time::Duration;

use super::super::key::counted;
use super::super::verdict::tests::{NOW, Scene, later};
use super::super::{Envelope, Reason};
use super::*;

const FIRST: Epochs = Epochs { revocations: 1, anchors: 1 };
const ROOM: usize = 1 << 20;

/// The answer, and how many signatures were checked for it.
fn asked(
    cache: &mut VerdictCache,
    bytes: &[u8],
    expectation: &Expectation<'_>,
    epochs: Epochs,
) -> (Result<Arc<Verdict>, Reason>, usize) {
    let (result, checks) = counted::during(|| cache.judge(bytes, expectation, epochs));
    (result.map_err(|refusal| refusal.reason), checks)
}

#[test]
fn the_same_question_is_answered_without_a_signature_check() {
    let (scene, mut cache) = (Scene::new(20), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    let (first, checks) = asked(&mut cache, &bytes, &scene.expectation(), FIRST);
    assert_eq!((first.as_deref(), checks), (Ok(&scene.judged(&bytes, |_| ()).unwrap()), 4));
    assert_eq!(asked(&mut cache, &bytes, &scene.expectation(), FIRST), (first, 0));
    assert_eq!(cache.len(), 1);
}

#[test]
fn a_verdict_ends_with_its_chain() {
    let (scene, mut cache) = (Scene::new(21), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    let at = |now| Expectation { now, ..scene.expectation() };
    assert_eq!(asked(&mut cache, &bytes, &at(NOW), FIRST).1, 4);
    assert_eq!(asked(&mut cache, &bytes, &at(later(100)), FIRST).1, 0);
    let after = later(100).plus(Duration::from_nanos(1));
    assert_eq!(asked(&mut cache, &bytes, &at(after), FIRST), (Err(Reason::Expired), 0));
    assert!(cache.is_empty());
}

#[test]
fn a_new_epoch_forgets_everything() {
    let (scene, mut cache) = (Scene::new(22), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    assert_eq!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).1, 4);
    let revoked = scene.delegation().revocation_key();
    let expectation = Expectation { revoked: &|key| *key == revoked, ..scene.expectation() };
    let revocation = Epochs { revocations: 2, ..FIRST };
    assert_eq!(asked(&mut cache, &bytes, &expectation, revocation), (Err(Reason::Revoked), 0));

    let anchors = [scene.stranger.did().clone()];
    let expectation = Expectation { anchors: &anchors, ..scene.expectation() };
    for epochs in [Epochs { anchors: 2, ..FIRST }, FIRST] {
        assert_eq!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).1, 4);
        assert_eq!(asked(&mut cache, &bytes, &expectation, epochs), (Err(Reason::NotAnchored), 0));
    }
    let anchors = [scene.provider.did().clone(), scene.owner.did().clone()];
    let expectation = Expectation { anchors: &anchors, ..scene.expectation() };
    assert_eq!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).1, 4);
    assert_eq!(asked(&mut cache, &bytes, &expectation, FIRST), (Err(Reason::AnchorInMiddle), 0));
}

#[test]
fn another_question_about_the_same_bytes_is_judged_anew() {
    let (scene, mut cache) = (Scene::new(23), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    let (stranger, elsewhere) = (scene.stranger.did(), Capability::parse("/hosting/shop/apply/other").unwrap());
    let questions = [
        (Expectation { provider: stranger, ..scene.expectation() }, Reason::WrongRecipient),
        (Expectation { owner: stranger, ..scene.expectation() }, Reason::OwnerMismatch),
        (Expectation { behaviour: &elsewhere, ..scene.expectation() }, Reason::WrongBehaviour),
    ];
    for (question, reason) in questions {
        assert!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).0.is_ok());
        assert_eq!(asked(&mut cache, &bytes, &question, FIRST), (Err(reason), 0));
    }
}

#[test]
fn other_bytes_are_another_entry_even_when_they_mean_the_same() {
    let (scene, mut cache) = (Scene::new(24), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    let spaced = [&bytes[..], b" "].concat();
    assert_eq!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).1, 4);
    assert_eq!(asked(&mut cache, &spaced, &scene.expectation(), FIRST).1, 4);
    let mut changed = bytes;
    let last = changed.len() - 4;
    changed[last] ^= 1;
    assert!(asked(&mut cache, &changed, &scene.expectation(), FIRST).0.is_err());
    assert_eq!(cache.len(), 2, "a refusal is not kept");
}

#[test]
fn what_is_oldest_goes_when_the_cache_is_full() {
    let scene = Scene::new(25);
    let envelopes: Vec<_> = (0..8_u8)
        .map(|number| {
            let message = vec![number; 100];
            Envelope { message, ..scene.unsigned(&scene.invocation()) }.sign(&scene.pipeline).to_json()
        })
        .collect();
    let one = {
        let mut cache = VerdictCache::new(ROOM);
        cache.judge(&envelopes[0], &scene.expectation(), FIRST).unwrap();
        cache.bytes
    };
    let mut cache = VerdictCache::new(3 * one);
    for bytes in &envelopes {
        assert_eq!(asked(&mut cache, bytes, &scene.expectation(), FIRST).1, 4);
        assert!(cache.bytes <= cache.max_bytes);
    }
    assert_eq!((cache.len(), cache.oldest_first.len(), cache.bytes), (3, 3, 3 * one));
    let kept: Vec<_> =
        envelopes.iter().rev().map(|bytes| asked(&mut cache, bytes, &scene.expectation(), FIRST).1).collect();
    assert_eq!(kept[..4], [0, 0, 0, 4]);

    let mut none = VerdictCache::new(one - 1);
    assert_eq!(asked(&mut none, &envelopes[0], &scene.expectation(), FIRST).1, 4);
    assert_eq!((none.len(), none.bytes), (0, 0));
}

#[test]
fn known_dids_are_read_once_and_stay_bounded() {
    let mut known = KnownDids::default();
    assert!(known.parse("did:key:z6Mk").is_err());
    assert_eq!(known.0.len(), 0);
    for number in 0..=MAX_DIDS {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let did = super::super::Key::from_seed(seed).did().clone();
        assert_eq!(known.parse(did.as_str()), Ok(did.clone()));
        assert_eq!(known.parse(did.as_str()), Ok(did));
    }
    assert_eq!(known.0.len(), 1);
}

/// Even a caller that forgets to count an epoch, or that asked before without revocations, is answered as if anew.
#[test]
fn a_kept_verdict_gives_way_to_revocation_and_denial() {
    let (scene, mut cache) = (Scene::new(26), VerdictCache::new(ROOM));
    let bytes = scene.envelope().to_json();
    for link in [scene.grant(), scene.delegation(), scene.invocation()].map(|token| token.revocation_key()) {
        assert!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).0.is_ok());
        let revoked = Expectation { revoked: &|key| *key == link, ..scene.expectation() };
        assert_eq!(asked(&mut cache, &bytes, &revoked, FIRST), (Err(Reason::Revoked), 0));
        for did in [&link.issuer, &link.subject] {
            assert!(asked(&mut cache, &bytes, &scene.expectation(), FIRST).0.is_ok());
            let denied = Expectation { denied: &|other| other == did, ..scene.expectation() };
            assert_eq!(asked(&mut cache, &bytes, &denied, FIRST), (Err(Reason::Denied), 0));
        }
    }
}
