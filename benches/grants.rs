//! `make bench-grants`: how many grants one core gives in a second, from the bytes of a request to those of its reply.
//!
//! Counted is what the provider does for one grant: two envelopes read and verified, the challenge composed and written
//! anew, its answer verified, the grant made, and both replies made and counter-signed; not the record of it in the API
//! server, and not what the wallet does. Time is that of the thread on its core, so that others on the machine count for
//! little.

// What a bench needs and lacks ends it.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::{collections::BTreeSet, fs, net::Ipv4Addr, sync::Arc, time::Duration};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::{
    api::door::{CHALLENGE, Challenge, GRANT, GrantAction, Granted, SIGNED_PREFIX},
    capability::{Capability, Context, Envelope, Handle, Key, Minting, Token, token_list},
    controller::clock::wall,
    device::{
        actor::{Actor, ActorConfig, Asked, Right, Serves},
        libp2p::{Link, LinkConfig, Via},
    },
    plan::{
        challenge::Challenger,
        grants::{Offer, Subjects},
        login::{Desk, Policy},
    },
};
use serde_json::{Value, json};

const ROUNDS: usize = 12;
const GRANTS: usize = 250;

struct Provider {
    key: Key,
    desk: Desk,
    offers: Vec<Offer>,
}

#[async_trait]
impl Serves for Provider {
    fn right(&self, _: &Via, behaviour: &str) -> Option<Right> {
        [CHALLENGE, GRANT].contains(&behaviour).then_some(Right::Anybody)
    }

    async fn answer(&self, asked: &Asked) -> Option<Value> {
        let Asked { envelope, sender, at, .. } = asked;
        let denied = BTreeSet::new();
        let policy = Policy { key: &self.key, offers: &self.offers, denied: &denied, admits: &|_| true };
        if envelope.behaviour == CHALLENGE {
            let (_, challenge) = self.desk.challenge(&envelope.message, sender, &policy, rand::random(), *at).unwrap();
            return Some(json!(challenge));
        }
        let issued = self.desk.grant(&envelope.message, sender, &policy, rand::random(), *at).unwrap();
        let grant = serde_json::from_slice(&issued.token.to_json()).unwrap();
        Some(json!(Granted { grant, expires: issued.token.expires() }))
    }
}

/// A request as a wallet makes it.
fn request(user: &Key, provider: &Key, behaviour: &str, message: &Value) -> Vec<u8> {
    let expires = wall().plus(Duration::from_mins(2));
    let continuation = format!("/dms/actor/replyto/{:032x}", rand::random::<u128>());
    let minting = |subject: &Key, audience: &Key, path: &str, depth| Minting {
        subject: subject.did().clone(),
        audience: Some(audience.did().clone()),
        capabilities: vec![Capability::parse(path).unwrap()],
        topics: vec![],
        expires,
        depth,
        nonce: rand::random(),
    };
    let tokens = [
        Token::invoke(user, minting(user, provider, behaviour, 0), None).unwrap(),
        Token::delegate(user, minting(provider, user, &continuation, 1), None).unwrap(),
    ];
    let envelope = Envelope {
        to: Handle::root_of(provider.did()),
        behaviour: behaviour.to_owned(),
        from: Handle::of(user.did(), None, None),
        nonce: rand::random(),
        expires,
        continuation: Some(continuation),
        topic: None,
        message: message.to_string().into_bytes(),
        capabilities: token_list(&tokens),
        signature: None,
    };
    envelope.sign(user).to_json()
}

/// Nanoseconds that this thread was on a core.
fn on_core() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

async fn ask(actor: &Actor, request: &[u8], spent: &mut u64) -> Value {
    let before = on_core();
    let reply = actor.exchange(request, Ipv4Addr::LOCALHOST.into()).await.unwrap().unwrap();
    *spent += on_core() - before;
    serde_json::from_slice(&Envelope::parse(&reply).unwrap().message).unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let key = Key::from_seed(rand::random());
    let offer = Offer {
        subjects: Subjects::Any,
        namespaces: BTreeSet::new(),
        actions: GrantAction::ALL.into(),
        lifetime: Duration::from_hours(720),
        depth: 3,
    };
    let mut seed = [0; 64];
    getrandom::fill(&mut seed).unwrap();
    let desk = Desk::new(Challenger::new(key.did().clone(), "hosting.example.org", &seed));
    let serves = Arc::new(Provider { key: key.clone(), desk, offers: vec![offer] });
    let context = Context { did: key.did().clone(), roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
    let config = LinkConfig { key: key.clone(), listen: vec![], inboxes: vec!["root".to_owned()], topics: None };
    let (link, _arrived) = Link::start(config).await.unwrap();
    let actor = Actor::new(ActorConfig { key: key.clone(), context, serves, clock: wall }, &link);

    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let mut spent = 0;
        for _ in 0..GRANTS {
            let user = Key::from_seed(rand::random());
            let asked = json!({"did": user.did(), "namespace": "shop", "actions": ["apply", "publish"]});
            let challenge = ask(&actor, &request(&user, &key, CHALLENGE, &asked), &mut spent).await;
            let Challenge { text, state, expires: _ } = serde_json::from_value(challenge).unwrap();
            let signature = STANDARD.encode(user.sign(format!("{SIGNED_PREFIX}{text}").as_bytes()));
            let answer = json!({"state": state, "signature": signature});
            let granted = ask(&actor, &request(&user, &key, GRANT, &answer), &mut spent).await;
            assert!(granted.get("grant").is_some(), "{granted}");
        }
        #[allow(clippy::cast_precision_loss)]
        rates.push(GRANTS as f64 / (spent as f64 / 1e9));
    }
    rates.sort_by(f64::total_cmp);
    let at = |share: usize| rates[(ROUNDS - 1) * share / 100];
    println!("grants per second on one core, {ROUNDS} rounds of {GRANTS}: median, tenth and ninetieth percentile");
    println!("{:.0}  {:.0}  {:.0}", at(50), at(10), at(90));
    assert!(at(50) >= 500.0, "fewer than 500 grants per second on one core");
}
