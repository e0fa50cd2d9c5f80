//! An owner who is connected to the provider and let it send notices.

use std::collections::VecDeque;

use dms_operator::{
    api::door::{GRANT, NOTICE, Notice},
    capability::{Capability, Context, Envelope, Handle, Minting, Token},
    controller::clock::wall,
    dev::{installation::Installation, wallet::Wallet},
    device::libp2p::{InboundFrame, Link, LinkConfig},
};
use serde_json::Value;
use tokio::{sync::mpsc::Receiver, time::timeout};

use super::asking::{Asker, SOON, Way, later, reached};
use crate::world::name;

pub struct Listener {
    pub asker: Asker,
    pub link: Link,
    provider: String,
    addresses: Vec<String>,
    inbox: String,
    arrived: Receiver<InboundFrame>,
    /// What came while something else was awaited.
    earlier: VecDeque<InboundFrame>,
}

impl Listener {
    /// A node of the owner's at which the provider can reach an inbox.
    pub async fn start(installation: &Installation, wallet: Wallet) -> Self {
        let inbox = name();
        let config = LinkConfig { key: wallet.key.clone(), listen: vec![], inboxes: vec![inbox.clone()], topics: None };
        let (link, arrived) = Link::start(config).await.unwrap();
        let asker = Asker::with(installation, wallet).await;
        let (provider, addresses) = (asker.provider.peer_id(), reached(installation).await.libp2p);
        Self { asker, link, provider, addresses, inbox, arrived, earlier: VecDeque::new() }
    }

    /// Signs in, by a message from this node. `permits`: with a delegation to send notices.
    pub async fn login(&mut self, namespace: &str, permits: bool) -> Token {
        let Self { asker, link, provider, addresses, inbox, arrived, earlier } = self;
        let own = asker.wallet.did();
        let mut message = asker.signed(&asker.challenge(Way::Http, namespace, &[]).await.unwrap());
        if permits {
            let minting = Minting {
                subject: asker.provider.clone(),
                audience: Some(own.clone()),
                capabilities: vec![Capability::parse(NOTICE).unwrap()],
                topics: vec![],
                expires: later(std::time::Duration::from_hours(1)),
                depth: 1,
                nonce: rand::random(),
            };
            let right = Token::delegate(&asker.wallet.key, minting, None).unwrap();
            message["notice"] = serde_json::from_slice(&right.to_json()).unwrap();
        }
        // Over this connection the notices come, since the provider saw from where the request came.
        let mut envelope = asker.envelope(GRANT, &message, None);
        envelope.from = Handle::of(own, Some(own.peer_id()), Some(inbox.clone()));
        let envelope = envelope.sign(&asker.wallet.key);
        link.send(provider, addresses, "root", envelope.to_json(), SOON).await.unwrap();
        let reply = loop {
            let frame = timeout(SOON, arrived.recv()).await.expect("the owner is not answered").unwrap();
            assert_eq!(frame.peer, *provider);
            let reply = Envelope::parse(&frame.body).unwrap();
            if Some(&reply.behaviour) == envelope.continuation.as_ref() {
                break reply;
            }
            earlier.push_back(frame);
        };
        assert_eq!((reply.verify(wall()).unwrap(), &reply.to), (asker.provider.clone(), &envelope.from));
        let granted: Value = serde_json::from_slice(&reply.message).unwrap();
        assert!(granted.get("refused").is_none(), "{granted}");
        Token::parse(granted["grant"].to_string().as_bytes()).unwrap()
    }

    /// The next notice: from the provider, signed by it, under the right that it was given.
    pub async fn told(&mut self) -> Notice {
        let own = self.asker.wallet.did().clone();
        let frame = match self.earlier.pop_front() {
            Some(frame) => frame,
            None => timeout(SOON, self.arrived.recv()).await.expect("the owner is not told").unwrap(),
        };
        assert_eq!(frame.peer, self.provider);
        let envelope = Envelope::parse(&frame.body).unwrap();
        assert_eq!((&*envelope.behaviour, envelope.verify(wall()).unwrap()), (NOTICE, self.asker.provider.clone()));
        let context = Context { did: own, roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
        context.authorise(&envelope, &Capability::parse(NOTICE).unwrap(), wall()).unwrap();
        serde_json::from_slice(&envelope.message).unwrap()
    }
}
