use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Handle, Key, Minting, key::counted, token_list};
use super::*;

pub(in super::super) const NOW: Nanos = Nanos(1_767_225_600_000_000_000);
const BEHAVIOUR: &str = "/hosting/shop/apply/web";

fn path(text: &str) -> Capability {
    Capability::parse(text).unwrap()
}

pub(in super::super) fn later(seconds: u64) -> Nanos {
    NOW.plus(Duration::from_secs(seconds))
}

/// Provider → owner → pipeline, and an invocation by the pipeline.
pub(in super::super) struct Scene {
    pub(in super::super) provider: Key,
    pub(in super::super) owner: Key,
    pub(in super::super) pipeline: Key,
    pub(in super::super) stranger: Key,
    pub(in super::super) anchors: [Did; 1],
    pub(in super::super) behaviour: Capability,
}

impl Scene {
    pub(in super::super) fn new(seed: u8) -> Self {
        let key = |number| Key::from_seed([seed.wrapping_mul(7).wrapping_add(number); 32]);
        let anchors = [key(1).did().clone()];
        let behaviour = path(BEHAVIOUR);
        Self { provider: key(1), owner: key(2), pipeline: key(3), stranger: key(4), anchors, behaviour }
    }

    pub(in super::super) fn minting(&self, subject: &Key, capability: &str, expires: Nanos, depth: u64) -> Minting {
        Minting {
            subject: subject.did().clone(),
            audience: Some(self.provider.did().clone()),
            capabilities: vec![path(capability)],
            topics: Vec::new(),
            expires,
            depth,
            nonce: subject.did().public_key()[..12].try_into().unwrap(),
        }
    }

    pub(in super::super) fn grant(&self) -> Token {
        let minting = self.minting(&self.owner, "/hosting/shop", later(300), 3);
        Token::delegate(&self.provider, minting, None).unwrap()
    }

    pub(in super::super) fn delegation(&self) -> Token {
        let minting = self.minting(&self.pipeline, "/hosting/shop/apply", later(200), 0);
        Token::delegate(&self.owner, minting, Some(&self.grant())).unwrap()
    }

    pub(in super::super) fn invocation(&self) -> Token {
        let minting = self.minting(&self.pipeline, BEHAVIOUR, later(100), 0);
        Token::invoke(&self.pipeline, minting, Some(&self.delegation())).unwrap()
    }

    pub(in super::super) fn unsigned(&self, token: &Token) -> Envelope {
        Envelope {
            to: Handle::root_of(self.provider.did()),
            behaviour: BEHAVIOUR.to_owned(),
            from: Handle::of(self.pipeline.did(), None, None),
            nonce: 7,
            expires: token.not_after(),
            continuation: None,
            topic: None,
            message: b"{\"digest\":\"00\"}".to_vec(),
            capabilities: token_list(std::slice::from_ref(token)),
            signature: None,
        }
    }

    pub(in super::super) fn envelope(&self) -> Envelope {
        self.unsigned(&self.invocation()).sign(&self.pipeline)
    }

    pub(in super::super) fn expectation(&self) -> Expectation<'_> {
        Expectation {
            provider: self.provider.did(),
            anchors: &self.anchors,
            owner: self.owner.did(),
            behaviour: &self.behaviour,
            revoked: &|_| false,
            denied: &|_| false,
            now: NOW,
        }
    }

    pub(in super::super) fn judged<'a>(
        &'a self,
        bytes: &[u8],
        change: impl FnOnce(&mut Expectation<'a>),
    ) -> Result<Verdict, Refusal> {
        let mut expectation = self.expectation();
        change(&mut expectation);
        judge(bytes, &expectation)
    }

    /// The reason and how many signatures were checked to find it.
    fn refused(&self, envelope: &Envelope) -> (Option<Reason>, usize) {
        let (result, checks) = counted::during(|| self.judged(&envelope.to_json(), |_| ()));
        (result.err().map(|refusal| refusal.reason), checks)
    }

    fn refused_token(&self, token: &Token) -> (Option<Reason>, usize) {
        self.refused(&self.unsigned(token).sign(&self.pipeline))
    }
}

/// Puts another chain above a token without asking whether it fits, and signs the token again.
fn forced(token: &Token, key: &Key, change: impl FnOnce(&mut Token)) -> Token {
    let mut token = token.clone();
    change(&mut token);
    token.signature = key.sign(&token.signed_bytes());
    token
}

#[test]
fn a_fitting_invocation_is_accepted_with_all_its_links() {
    let scene = Scene::new(1);
    let (verdict, checks) = counted::during(|| scene.judged(&scene.envelope().to_json(), |_| ()));
    let links = [scene.grant(), scene.delegation(), scene.invocation()].map(|token| token.revocation_key());
    assert_eq!(
        verdict,
        Ok(Verdict {
            signer: scene.pipeline.did().clone(),
            message: b"{\"digest\":\"00\"}".to_vec(),
            not_after: later(100),
            links: links.into(),
        })
    );
    assert_eq!(checks, 4, "one envelope and three links");
}

#[test]
fn the_owner_may_invoke_without_a_delegation() {
    let scene = Scene::new(2);
    let minting = scene.minting(&scene.owner, BEHAVIOUR, later(100), 0);
    let token = Token::invoke(&scene.owner, minting, Some(&scene.grant())).unwrap();
    let from = Handle::of(scene.owner.did(), None, None);
    let envelope = Envelope { from, ..scene.unsigned(&token) }.sign(&scene.owner);
    let verdict = scene.judged(&envelope.to_json(), |_| ()).unwrap();
    assert_eq!((&verdict.signer, verdict.links.len()), (scene.owner.did(), 2));
}

#[test]
fn expiry_counts_for_the_envelope_and_every_link_and_not_at_its_own_moment() {
    let scene = Scene::new(3);
    let at = |now| {
        let (result, checks) =
            counted::during(|| scene.judged(&scene.envelope().to_json(), |expectation| expectation.now = now));
        (result.err().map(|refusal| (refusal.reason, refusal.link.is_some())), checks)
    };
    assert_eq!(at(later(100)), (None, 4));
    // Envelope and leaf end together, and the link is what is named: the one to be renewed.
    assert_eq!(at(later(100).plus(Duration::from_nanos(1))), (Some((Reason::Expired, true)), 0));

    let short = Envelope { expires: later(99), ..scene.unsigned(&scene.invocation()) }.sign(&scene.pipeline);
    let refusal = scene.judged(&short.to_json(), |expectation| expectation.now = later(100)).unwrap_err();
    assert_eq!((refusal.reason, refusal.link), (Reason::Expired, None));

    let long = Envelope { expires: Nanos::MAX, ..scene.unsigned(&scene.invocation()) }.sign(&scene.pipeline);
    let refusal = scene.judged(&long.to_json(), |expectation| expectation.now = later(250)).unwrap_err();
    let (owner, pipeline) = (scene.owner.did(), scene.pipeline.did());
    let link = format!("link 2 of 3: {owner} → {pipeline}");
    let message = format!(
        "{link} expired at 2026-01-01T00:03:20Z. Ask the issuer for a new grant and run `kubectl hosting sign` again."
    );
    assert_eq!(refusal, Refusal::new(Reason::Expired, Some(link), message));
}

#[test]
fn cheap_refusals_check_no_signature() {
    let scene = Scene::new(4);
    let good = scene.unsigned(&scene.invocation());
    let signed = |change: &dyn Fn(&mut Envelope)| {
        let mut envelope = good.clone();
        change(&mut envelope);
        scene.refused(&envelope.sign(&scene.pipeline))
    };
    let stranger = Handle::root_of(scene.stranger.did());
    let from_stranger = Handle::of(scene.stranger.did(), None, None);
    let two = token_list(&[scene.invocation(), scene.invocation()]);
    assert_eq!(signed(&|envelope| envelope.to = stranger.clone()), (Some(Reason::WrongRecipient), 0));
    assert_eq!(signed(&|envelope| envelope.to.did = stranger.did.clone()), (Some(Reason::WrongRecipient), 0));
    assert_eq!(signed(&|envelope| envelope.topic = Some("/t".to_owned())), (Some(Reason::WrongRecipient), 0));
    assert_eq!(signed(&|envelope| envelope.from = from_stranger.clone()), (Some(Reason::SignerMismatch), 0));
    assert_eq!(signed(&|envelope| envelope.behaviour.push('x')), (Some(Reason::WrongBehaviour), 0));
    assert_eq!(signed(&|envelope| envelope.capabilities.clear()), (Some(Reason::CapabilityMissing), 0));
    assert_eq!(signed(&|envelope| envelope.capabilities = b"{}".to_vec()), (Some(Reason::CapabilityMissing), 0));
    assert_eq!(signed(&|envelope| envelope.capabilities = two.clone()), (Some(Reason::Malformed), 0));
    assert_eq!(signed(&|envelope| envelope.message = vec![b'x'; MAX_INVOCATION]), (Some(Reason::TooLarge), 0));
    assert_eq!(signed(&|envelope| envelope.expires = NOW.minus(Duration::from_nanos(1))), (Some(Reason::Expired), 0));
    assert_eq!(scene.refused(&good), (Some(Reason::NotSigned), 0));

    let text = String::from_utf8(good.clone().sign(&scene.pipeline).to_json()).unwrap();
    let parsed = |text: String| {
        let (result, checks) = counted::during(|| scene.judged(text.as_bytes(), |_| ()));
        (result.err().map(|refusal| refusal.reason), checks)
    };
    assert_eq!(parsed(text.replacen("\"nonce\":7", "\"nonce\":7,\"nonce\":7", 1)), (Some(Reason::DuplicateMember), 0));
    assert_eq!(parsed(text.replacen("\"nonce\":7", "\"nonce\":7,\"x\":7", 1)), (Some(Reason::UnknownMember), 0));
    assert_eq!(parsed(format!("{text}{{}}")), (Some(Reason::Malformed), 0));
    assert_eq!(parsed(text), (None, 4));
}

#[test]
fn chains_that_give_no_right_are_refused_before_signatures() {
    let scene = Scene::new(5);
    let Scene { provider, owner, pipeline, stranger, .. } = &scene;
    let invocation = scene.invocation();
    let above = |chain: Token| forced(&invocation, pipeline, |token| token.chain = Some(Box::new(chain)));

    // A foreign anchor: the same grant by somebody else.
    let foreign = Token::delegate(stranger, scene.minting(owner, "/hosting/shop", later(300), 3), None).unwrap();
    let foreign = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(foreign)));
    assert_eq!(scene.refused_token(&above(foreign)), (Some(Reason::NotAnchored), 0));

    // An anchor in the middle: a stranger's grant to the provider, who passes it on.
    let to_provider = Token::delegate(stranger, scene.minting(provider, "/hosting/shop", later(400), 0), None).unwrap();
    let middle = forced(&scene.grant(), provider, |token| token.chain = Some(Box::new(to_provider)));
    let middle = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(middle)));
    assert_eq!(scene.refused_token(&above(middle)), (Some(Reason::NotAnchored), 0));
    let own = Token::delegate(provider, scene.minting(provider, "/hosting/shop", later(400), 0), None).unwrap();
    let own = forced(&scene.grant(), provider, |token| token.chain = Some(Box::new(own)));
    let own = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(own)));
    let owned_by_provider = |bytes: &[u8]| scene.judged(bytes, |expectation| expectation.owner = provider.did());
    let bytes = scene.unsigned(&above(own)).sign(pipeline).to_json();
    assert_eq!(owned_by_provider(&bytes).map_err(|refusal| refusal.reason), Err(Reason::AnchorInMiddle));

    // Another owner's grant.
    let bytes = scene.envelope().to_json();
    let (result, checks) = counted::during(|| scene.judged(&bytes, |expectation| expectation.owner = stranger.did()));
    assert_eq!((result.map_err(|refusal| refusal.reason), checks), (Err(Reason::OwnerMismatch), 0));

    // Wider than the link above, here and there.
    let wide = forced(&scene.delegation(), owner, |token| token.capabilities.push(path("/hosting/other")));
    assert_eq!(scene.refused_token(&above(wide)), (Some(Reason::Widened), 0));
    let narrow = forced(&scene.grant(), provider, |token| token.capabilities = vec![path("/hosting/shop/read")]);
    let narrow = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(narrow)));
    assert_eq!(scene.refused_token(&above(narrow)), (Some(Reason::CapabilityMissing), 0));

    // Audience, action, continuity, life time, depth.
    let elsewhere = forced(&invocation, pipeline, |token| token.audience = Some(stranger.did().clone()));
    assert_eq!(scene.refused_token(&elsewhere), (Some(Reason::WrongAudience), 0));
    let anywhere = forced(&invocation, pipeline, |token| token.audience = None);
    assert_eq!(scene.refused_token(&anywhere), (Some(Reason::WrongAudience), 0));
    let other_audience = forced(&scene.delegation(), owner, |token| token.audience = None);
    assert_eq!(scene.refused_token(&above(other_audience)), (Some(Reason::Widened), 0));
    let delegate = forced(&invocation, pipeline, |token| token.action = Action::Delegate);
    assert_eq!(scene.refused_token(&delegate), (Some(Reason::CapabilityMissing), 0));
    let invoke = forced(&scene.delegation(), owner, |token| token.action = Action::Invoke);
    assert_eq!(scene.refused_token(&above(invoke)), (Some(Reason::NotDelegable), 0));
    let to_other = forced(&scene.delegation(), owner, |token| token.subject = stranger.did().clone());
    assert_eq!(scene.refused_token(&above(to_other)), (Some(Reason::ChainBroken), 0));
    let short = forced(&scene.delegation(), owner, |token| token.expires = later(99));
    assert_eq!(scene.refused_token(&above(short)), (Some(Reason::Outlives), 0));
    let shallow = forced(&scene.grant(), provider, |token| token.depth = 1);
    let shallow = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(shallow)));
    assert_eq!(scene.refused_token(&above(shallow)), (Some(Reason::DepthExceeded), 0));
}

#[test]
fn a_chain_of_eight_links_is_read_and_one_of_nine_is_not() {
    let scene = Scene::new(6);
    let mut chain =
        Token::delegate(&scene.provider, scene.minting(&scene.owner, "/hosting", later(300), 0), None).unwrap();
    let again = |chain: &Token, signer: &Key, to: &Key| {
        forced(chain, signer, |token| {
            *token = Token {
                issuer: signer.did().clone(),
                subject: to.did().clone(),
                chain: Some(Box::new(chain.clone())),
                ..chain.clone()
            };
        })
    };
    let leaf = |chain: &Token| {
        forced(&scene.invocation(), &scene.pipeline, |token| token.chain = Some(Box::new(chain.clone())))
    };
    for _ in 0..5 {
        chain = again(&chain, &scene.owner, &scene.owner);
    }
    let eight = leaf(&again(&chain, &scene.owner, &scene.pipeline));
    assert_eq!(scene.refused_token(&eight), (None, 9));
    chain = again(&chain, &scene.owner, &scene.owner);
    let nine = leaf(&again(&chain, &scene.owner, &scene.pipeline));
    assert_eq!(scene.refused_token(&nine), (Some(Reason::TooDeep), 0));
}

#[test]
fn a_revoked_link_anywhere_refuses_the_whole() {
    let scene = Scene::new(7);
    let bytes = scene.envelope().to_json();
    for (number, token) in [scene.grant(), scene.delegation(), scene.invocation()].iter().enumerate() {
        let seen = RefCell::new(Vec::new());
        let revoked = |key: &RevocationKey| {
            seen.borrow_mut().push(key.clone());
            *key == token.revocation_key()
        };
        let (result, checks) = counted::during(|| scene.judged(&bytes, |expectation| expectation.revoked = &revoked));
        let refusal = result.unwrap_err();
        assert_eq!((refusal.reason, checks), (Reason::Revoked, 0));
        let place = format!("link {} of 3", number + 1);
        assert!(refusal.link.unwrap().starts_with(&place), "{place}");
        assert!(refusal.message.starts_with(&place));
        assert_eq!(seen.into_inner().len(), number + 1);
    }
}

#[test]
fn nobody_in_the_chain_may_be_denied() {
    let scene = Scene::new(11);
    let bytes = scene.envelope().to_json();
    let Scene { provider, owner, pipeline, stranger, .. } = &scene;
    let denying = |did: &Did| {
        let denied = |other: &Did| other == did;
        let expectation = Expectation { denied: &denied, ..scene.expectation() };
        let (result, checks) = counted::during(|| judge(&bytes, &expectation));
        (result.err().map(|refusal| (refusal.reason, refusal.link.map(|link| link[..11].to_owned()))), checks)
    };
    assert_eq!(denying(stranger.did()), (None, 4));
    for (key, link) in [(provider, "link 1 of 3"), (owner, "link 1 of 3"), (pipeline, "link 2 of 3")] {
        assert_eq!(denying(key.did()), (Some((Reason::Denied, Some(link.to_owned()))), 0));
    }
}

#[test]
fn every_signature_counts() {
    let scene = Scene::new(8);
    let envelope = Envelope { nonce: 8, ..scene.envelope() };
    assert_eq!(scene.refused(&envelope), (Some(Reason::BadSignature), 1));
    let by_stranger = scene.unsigned(&scene.invocation()).sign(&scene.stranger);
    assert_eq!(scene.refused(&by_stranger), (Some(Reason::BadSignature), 1));

    // Each link signed by the stranger, and everything below it signed anew by its rightful issuer.
    let Scene { owner, pipeline, stranger, .. } = &scene;
    let grant = forced(&scene.grant(), stranger, |_| ());
    let delegation = forced(&scene.delegation(), owner, |token| token.chain = Some(Box::new(grant)));
    let invocation = forced(&scene.invocation(), pipeline, |token| token.chain = Some(Box::new(delegation)));
    assert_eq!(scene.refused_token(&invocation), (Some(Reason::BadSignature), 2));
    let delegation = forced(&scene.delegation(), stranger, |_| ());
    let invocation = forced(&scene.invocation(), pipeline, |token| token.chain = Some(Box::new(delegation)));
    assert_eq!(scene.refused_token(&invocation), (Some(Reason::BadSignature), 3));
    let invocation = forced(&scene.invocation(), stranger, |_| ());
    assert_eq!(scene.refused_token(&invocation), (Some(Reason::BadSignature), 4));
}

#[test]
fn nothing_is_minted_that_would_be_refused() {
    let scene = Scene::new(9);
    let Scene { owner, pipeline, stranger, .. } = &scene;
    let grant = scene.grant();
    let refused = |key: &Key, minting: Minting, chain: &Token| match Token::delegate(key, minting, Some(chain)) {
        Err(super::super::MintError::NotPermitted { reason, .. }) => Some(reason),
        _ => None,
    };
    let minting = |capability: &str, expires, depth| scene.minting(pipeline, capability, expires, depth);
    assert_eq!(refused(owner, minting("/hosting/other", later(1), 1), &grant), Some(Reason::Widened));
    assert_eq!(refused(owner, minting("/hosting/shop", later(301), 1), &grant), Some(Reason::Outlives));
    assert_eq!(refused(stranger, minting("/hosting/shop", later(1), 1), &grant), Some(Reason::ChainBroken));
    let invoke = Token::invoke(owner, minting("/hosting/shop", later(1), 0), Some(&grant)).unwrap();
    assert_eq!(refused(pipeline, minting("/hosting/shop", later(1), 1), &invoke), Some(Reason::NotDelegable));
    let nowhere = Minting { audience: None, ..minting("/hosting/shop", later(1), 1) };
    assert_eq!(refused(owner, nowhere, &grant), Some(Reason::Widened));
    // Depth 3 lets three links hang below: delegate, delegate, invoke; a third delegation could not be used.
    let second = Token::delegate(owner, scene.minting(owner, "/hosting/shop", later(1), 1), Some(&grant)).unwrap();
    let unlimited = Minting { depth: 0, ..scene.minting(owner, "/hosting/shop", later(1), 0) };
    let second_unlimited = Token::delegate(owner, unlimited, Some(&grant)).unwrap();
    assert_eq!(refused(owner, minting("/hosting/shop", later(1), 1), &second), Some(Reason::DepthExceeded));
    let third =
        Token::delegate(owner, scene.minting(owner, "/hosting/shop", later(1), 0), Some(&second_unlimited)).unwrap();
    assert_eq!(refused(owner, minting("/hosting/shop", later(1), 1), &third), Some(Reason::DepthExceeded));
    let nothing = Minting { capabilities: Vec::new(), ..minting("/hosting/shop", later(1), 1) };
    assert_eq!(Token::delegate(owner, nothing, Some(&grant)), Err(super::super::MintError::NoCapability));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nobody can change any one byte of a signed invocation.
    #[test]
    fn no_changed_byte_is_accepted(seed: u8, difference in 1_u8..) {
        let scene = Scene::new(seed);
        let good = scene.envelope().to_json();
        prop_assert!(scene.judged(&good, |_| ()).is_ok());
        for index in 0..good.len() {
            let mut bytes = good.clone();
            bytes[index] ^= difference;
            prop_assert!(scene.judged(&bytes, |_| ()).is_err(), "{index}: {}", String::from_utf8_lossy(&bytes));
        }
    }

    /// Neither can the signer of the envelope change any one byte of the tokens that it presents.
    #[test]
    fn no_changed_byte_in_the_tokens_is_accepted(seed: u8, difference in 1_u8..) {
        let scene = Scene::new(seed);
        let good = scene.unsigned(&scene.invocation());
        for index in 0..good.capabilities.len() {
            let mut envelope = good.clone();
            envelope.capabilities[index] ^= difference;
            let bytes = envelope.sign(&scene.pipeline).to_json();
            prop_assert!(scene.judged(&bytes, |_| ()).is_err(), "{index}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}
