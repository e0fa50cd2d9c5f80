use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;
use crate::{api::door::SIGNED_PREFIX, plan::grants::Subjects};

const NOW: Nanos = Nanos(1_800_000_000_000_000_000);

struct Scene {
    provider: Key,
    owner: Key,
    offers: Vec<Offer>,
    denied: BTreeSet<Did>,
    desk: Desk,
}

impl Scene {
    fn new() -> Self {
        let provider = Key::from_seed([9; 32]);
        let offer = Offer {
            subjects: Subjects::Any,
            namespaces: BTreeSet::new(),
            actions: GrantAction::ALL.into(),
            lifetime: Duration::from_hours(1),
            depth: 3,
        };
        let desk = Desk::new(Challenger::new(provider.did().clone(), "host", &[3; 64]));
        Self { provider, owner: Key::from_seed([1; 32]), offers: vec![offer], denied: BTreeSet::new(), desk }
    }

    fn policy(&self) -> Policy<'_> {
        let Self { provider, owner: _, offers, denied, desk: _ } = self;
        Policy { key: provider, offers, denied, admits: &|namespace| namespace != "closed" }
    }

    fn ask(&self, request: &Value) -> Result<(Claim, Challenge), Declined> {
        self.desk.challenge(request.to_string().as_bytes(), self.owner.did(), &self.policy(), [5; 16], NOW)
    }

    fn answer(&self, notice: Option<Value>) -> Value {
        let (_, challenge) = self.ask(&json!({"did": self.owner.did(), "namespace": "shop"})).unwrap();
        let signature = self.owner.sign(format!("{SIGNED_PREFIX}{}", challenge.text).as_bytes());
        let mut answer = json!({"state": challenge.state, "signature": STANDARD.encode(signature)});
        if let Some(notice) = notice {
            answer["notice"] = notice;
        }
        answer
    }

    fn grant(&self, request: &Value) -> Result<Issued, Declined> {
        self.desk.grant(request.to_string().as_bytes(), self.owner.did(), &self.policy(), [6; 12], NOW)
    }
}

fn reason<T: std::fmt::Debug>(result: Result<T, Declined>) -> Reason {
    result.unwrap_err().reason
}

#[test]
fn a_grant_says_what_the_provider_offers_and_nothing_else() {
    let scene = Scene::new();
    let Issued { claim, token, issued, notice } = scene.grant(&scene.answer(None)).unwrap();
    let expected = Minting {
        subject: scene.owner.did().clone(),
        audience: Some(scene.provider.did().clone()),
        capabilities: ["apply", "publish", "read", "usage", "delete"]
            .map(|action| Capability::parse(&format!("/hosting/shop/{action}")).unwrap())
            .into(),
        topics: vec![],
        expires: NOW.plus(Duration::from_hours(1)),
        depth: 3,
        nonce: [6; 12],
    };
    assert_eq!(token, Token::delegate(&scene.provider, expected, None).unwrap());
    assert_eq!((issued, notice, claim.did), (NOW, None, scene.owner.did().clone()));
}

#[test]
fn of_many_at_once_one_gets_the_grant() {
    let scene = Scene::new();
    let answer = scene.answer(None);
    let (given, used) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| match scene.grant(&answer) {
                Ok(_) => given.fetch_add(1, Ordering::Relaxed),
                Err(declined) => {
                    assert_eq!(declined.reason, Reason::ChallengeUsed);
                    used.fetch_add(1, Ordering::Relaxed)
                }
            });
        }
    });
    assert_eq!((given.into_inner(), used.into_inner()), (1, 63));
}

#[test]
fn what_was_promised_is_decided_again() {
    let mut scene = Scene::new();
    let answer = scene.answer(None);
    let offers = std::mem::take(&mut scene.offers);
    assert_eq!(reason(scene.grant(&answer)), Reason::NotInPolicy);
    scene.offers = offers;
    scene.denied.insert(scene.owner.did().clone());
    assert_eq!(reason(scene.grant(&answer)), crate::capability::Reason::Denied.into());
    scene.denied.clear();
    // A refusal uses nothing up.
    assert!(scene.grant(&answer).is_ok());
}

#[test]
fn a_claim_is_read_strictly() {
    let scene = Scene::new();
    let did = scene.owner.did().as_str();
    let other = Key::from_seed([2; 32]);
    let aliases = [
        format!("{did}#key-1"),
        format!("{did}#{}", &did[8..]),
        format!("{did} "),
        did.to_uppercase(),
        did.replace("did:key:", "did:key:%7A").replacen("%7Az", "%7A", 1),
        did.replace("did:key:", "DID:key:"),
        format!("did:key:u{}", &did[9..]),
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme".to_owned(),
        "did:web:example.org".to_owned(),
        String::new(),
    ];
    for alias in aliases {
        let asked = scene.ask(&json!({"did": alias, "namespace": "shop"}));
        assert_eq!(reason(asked), Reason::DidRefused, "{alias}");
    }
    let cases = [
        (json!({"did": other.did(), "namespace": "shop"}), Reason::SenderMismatch),
        (json!({"did": did, "namespace": "closed"}), Reason::NamespaceNotAllowed),
        (json!({"did": did, "namespace": "shop\nURI: x"}), Reason::RequestMalformed),
        (json!({"did": did, "namespace": "shop/apply"}), Reason::RequestMalformed),
        (json!({"did": did, "namespace": "Shop"}), Reason::RequestMalformed),
        (json!({"did": did, "namespace": ""}), Reason::RequestMalformed),
        (json!({"did": did, "namespace": "shop", "actions": ["everything"]}), Reason::RequestMalformed),
        (json!({"did": did, "namespace": "shop", "depth": 0}), Reason::RequestMalformed),
        (json!({"namespace": "shop"}), Reason::RequestMalformed),
        (json!([]), Reason::RequestMalformed),
    ];
    for (request, expected) in cases {
        assert_eq!(reason(scene.ask(&request)), expected, "{request}");
    }
    let more = |member: &str, value: Value| {
        let mut answer = scene.answer(None);
        answer[member] = value;
        answer
    };
    for (member, value) in
        [("capability", json!("/")), ("audience", json!(did)), ("depth", json!(0)), ("chain", json!({}))]
    {
        assert_eq!(reason(scene.grant(&more(member, value))), Reason::RequestMalformed, "{member}");
    }
}

#[test]
fn a_delegation_for_notices_is_of_nothing_else() {
    let scene = Scene::new();
    let minting = |capabilities: &[&str]| Minting {
        subject: scene.provider.did().clone(),
        audience: Some(scene.owner.did().clone()),
        capabilities: capabilities.iter().map(|path| Capability::parse(path).unwrap()).collect(),
        topics: vec![],
        expires: NOW.plus(Duration::from_hours(1)),
        depth: 1,
        nonce: [8; 12],
    };
    let made = |key: &Key, minting: Minting| Token::delegate(key, minting, None).unwrap();
    let value = |token: &Token| serde_json::from_slice::<Value>(&token.to_json()).unwrap();
    let good = made(&scene.owner, minting(&[NOTICE]));
    let stranger = Key::from_seed([2; 32]);
    let mut forged = value(&good);
    forged["dms"]["exp"] = json!(NOW.0 + 1);
    let bad = [
        value(&made(&stranger, minting(&[NOTICE]))),
        value(&made(&scene.owner, minting(&[NOTICE, "/dms"]))),
        value(&made(&scene.owner, minting(&["/"]))),
        value(&made(&scene.owner, Minting { audience: None, ..minting(&[NOTICE]) })),
        value(&made(&scene.owner, Minting { subject: stranger.did().clone(), ..minting(&[NOTICE]) })),
        value(&made(&scene.owner, Minting { expires: NOW.minus(Duration::from_nanos(1)), ..minting(&[NOTICE]) })),
        value(&Token::invoke(&scene.owner, minting(&[NOTICE]), None).unwrap()),
        value(&made(&scene.owner, Minting { topics: vec![Capability::parse("/t").unwrap()], ..minting(&[NOTICE]) })),
        forged,
        json!("notice"),
    ];
    for token in bad {
        let refused = scene.grant(&scene.answer(Some(token.clone())));
        assert_eq!(reason(refused), Reason::RequestMalformed, "{token}");
    }
    let issued = scene.grant(&scene.answer(Some(value(&good)))).unwrap();
    assert_eq!(issued.notice, Some(good));
}

#[test]
fn who_asks_too_often_is_told_to_wait() {
    let desk = Scene::new().desk;
    let did = Key::from_seed([1; 32]).did().clone();
    let by_did = (0..300).filter(|_| desk.ask_by(&did, NOW).is_ok()).count();
    let from = (0..1000).filter(|_| desk.ask_from("192.0.2.1", NOW).is_ok()).count();
    assert_eq!((by_did, from), (100, 240));
    let refused = desk.ask_from("192.0.2.1", NOW).unwrap_err();
    assert_eq!(refused.reason, Reason::TooManyRequests);
    assert!(refused.message.contains("from 192.0.2.1"), "{refused}");
    assert!(desk.ask_from("192.0.2.2", NOW).is_ok());
    assert!(desk.ask_by(&did, NOW.plus(Duration::from_secs(1))).is_ok());
}
