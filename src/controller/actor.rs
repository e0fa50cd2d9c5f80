//! What the operator's own actor serves: it answers who greets it or looks after it, hears of revocations, and opens the
//! door to who has only a DID.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::channel::mpsc::UnboundedSender;
use serde_json::{Value, json};

use super::{
    clock::Clock,
    context::Wake,
    door::Door,
    revocation::{self, RevocationBook},
};
use crate::{
    capability::{Did, Nanos},
    device::{
        actor::{Asked, Origin, Right, Serves},
        dms::{
            AnchorRequest, DidText, Hello, NodeNetwork, NodeStatus, NodeStatuses, Outcome, PeersSelf,
            RevokeBroadcastReply, path, tolerant,
        },
        libp2p::Via,
    },
};

/// Topics whose broadcasts the operator takes and passes on.
pub const TOPICS: [&str; 3] = [path::TOPIC_HELLO, path::TOPIC_STATUS, path::TOPIC_REVOCATION];

/// Revocations of one broadcast that are looked at: each costs a signature.
const REVOCATIONS: usize = 64;

/// Serves under the provider's DID.
#[derive(Debug)]
pub struct OperatorActor {
    /// The provider.
    pub did: Did,
    /// Where it listens, as it tells those who look for nodes.
    pub addresses: Vec<String>,
    /// Revocations in force.
    pub revocations: RevocationBook,
    /// Gives grants, and changes objects for those who hold them.
    pub door: Arc<Door>,
    /// Wakes passes over HostingDeployments.
    pub wake: UnboundedSender<Wake>,
    /// The time.
    pub clock: Clock,
}

#[derive(Clone, Copy)]
enum Behaviour {
    Hello,
    Status,
    Healthcheck,
    HearOfRevocations,
    AskAtDoor,
}

fn find(via: &Via, behaviour: &str) -> Option<(Behaviour, Right)> {
    match (via, behaviour) {
        (Via::Inbox(_), path::PUBLIC_HELLO) => Some((Behaviour::Hello, Right::Anybody)),
        (Via::Inbox(_), path::HEALTHCHECK) => Some((Behaviour::Healthcheck, Right::Capability)),
        (Via::Topic(topic), path::BROADCAST_HELLO) if topic == path::TOPIC_HELLO => {
            Some((Behaviour::Hello, Right::Anybody))
        }
        (Via::Topic(topic), path::BROADCAST_STATUS) if topic == path::TOPIC_STATUS => {
            Some((Behaviour::Status, Right::Capability))
        }
        // Each revocation is worth what its issuer's signature is, whoever tells of it.
        (Via::Topic(topic), path::CAP_REVOKE_BROADCAST) if topic == path::TOPIC_REVOCATION => {
            Some((Behaviour::HearOfRevocations, Right::Anybody))
        }
        // Who may is judged there, so that a refusal is answered.
        (Via::Inbox(_), _) if Door::serves(behaviour) => Some((Behaviour::AskAtDoor, Right::Anybody)),
        _ => None,
    }
}

#[async_trait]
impl Serves for OperatorActor {
    fn right(&self, via: &Via, behaviour: &str) -> Option<Right> {
        find(via, behaviour).map(|(_, right)| right)
    }

    fn admits(&self, origin: &Origin, at: Nanos) -> bool {
        self.door.admits(origin, at)
    }

    async fn answer(&self, asked: &Asked) -> Option<Value> {
        let (behaviour, _) = find(&asked.via, &asked.envelope.behaviour)?;
        Some(match behaviour {
            Behaviour::Hello => json!(Hello { did: DidText::from(&self.did) }),
            Behaviour::Status => json!(self.status()),
            Behaviour::Healthcheck => json!(Outcome { ok: true, error: String::new() }),
            Behaviour::HearOfRevocations => json!(self.hear_of_revocations(asked)),
            Behaviour::AskAtDoor => return self.door.answer(asked).await,
        })
    }
}

impl OperatorActor {
    /// As an actor that offers no resources.
    fn status(&self) -> NodeStatuses {
        let id = self.did.peer_id();
        let p2p = PeersSelf { id: id.clone(), listen_addr: self.addresses.join(",") };
        let network = NodeNetwork { interfaces: Vec::new(), p2p };
        BTreeMap::from([(id, NodeStatus { did: self.did.to_string(), network, ..NodeStatus::default() })])
    }

    /// A bad revocation costs no other one.
    fn hear_of_revocations(&self, asked: &Asked) -> RevokeBroadcastReply {
        let refused = |error: String| RevokeBroadcastReply { error, ..RevokeBroadcastReply::default() };
        let read = serde_json::from_slice(&asked.envelope.message).and_then(tolerant::decode);
        let AnchorRequest { token } = match read {
            Ok(request) => request,
            Err(error) => return refused(error.to_string()),
        };
        let mut reply = RevokeBroadcastReply { ok: true, ..RevokeBroadcastReply::default() };
        for token in token.list.iter().take(REVOCATIONS) {
            match revocation::read(&token.to_string()) {
                Ok(revocation) => {
                    reply.tokens_count += 1;
                    if self.revocations.hear(&revocation, self.clock.now()) {
                        tracing::info!(
                            issuer = %revocation.key.issuer, subject = %revocation.key.subject, teller = %asked.sender,
                            "a revocation was broadcast and is in force"
                        );
                        // Nobody listens any more only when the process ends.
                        drop(self.wake.unbounded_send(Wake::Revoked(revocation.key)));
                    }
                }
                Err(refusal) => {
                    tracing::info!(%refusal, teller = %asked.sender, "a revocation that was broadcast is left out");
                    (reply.ok, reply.error) = (false, refusal.to_string());
                }
            }
        }
        reply
    }
}
