//! Confirmations: an owner is told over libp2p, and a webhook of the provider's, what became of a spec.
//!
//! What is due stands as an annotation at the accepted revision, so that it is told at least once, whatever ends this
//! process; the id of a notice tells repeats apart. Telling never holds up a pass.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use futures::{
    StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use serde_json::json;

use super::{context::Context, revisions::Due};
use crate::{
    api::door::{self, Notice},
    capability::{Capability, Did, Token},
    device::actor::Letter,
    plan::backoff::OUTSIDE,
};

/// How long a webhook may take to answer.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(10);
/// How long a notice may take to be written to its owner.
const INBOX_WITHIN: Duration = Duration::from_secs(5);
/// Notices on their way at a time.
const UNDER_WAY: usize = 16;
/// Owners whose way to be told is remembered.
const SUBSCRIPTIONS: usize = 10_000;

/// How an owner can be told: as was said at login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The owner's delegation to the provider of [`door::NOTICE`].
    pub right: Token,
    /// Peer ID of the node where the owner listens.
    pub host: String,
    /// The inbox there.
    pub inbox: String,
}

/// Who can be told, by owner. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions(Arc<RwLock<HashMap<Did, Subscription>>>);

impl Subscriptions {
    /// How an owner is told from now on; the latest counts.
    pub fn set(&self, owner: Did, subscription: Subscription) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() < SUBSCRIPTIONS || known.contains_key(&owner) {
            known.insert(owner, subscription);
        }
    }

    /// How an owner is told.
    #[must_use]
    pub fn of(&self, owner: &Did) -> Option<Subscription> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(owner).cloned()
    }
}

/// What came of a spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It was accepted.
    Accepted,
    /// It is served, and its use is counted.
    Served,
    /// It was refused.
    Refused,
}

impl Came {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Served => "served",
            Self::Refused => "refused",
        }
    }
}

/// A notice to be sent.
#[derive(Clone, Debug)]
pub struct Telling {
    /// What is told.
    pub notice: Notice,
    /// What it is about.
    pub came: Came,
    /// To whom.
    pub owner: Did,
    /// Where it is noted that it was told; `None`: nowhere.
    pub revision: Option<String>,
}

/// Takes notices to be sent.
#[derive(Debug)]
pub struct Notices {
    queue: UnboundedSender<Telling>,
    under_way: Mutex<HashSet<String>>,
}

impl Notices {
    /// A queue, and what [`send_all`] takes from it.
    #[must_use]
    pub fn new() -> (Self, UnboundedReceiver<Telling>) {
        let (queue, taken) = unbounded();
        (Self { queue, under_way: Mutex::default() }, taken)
    }

    /// Sends a notice that is not on its way already.
    pub fn tell(&self, telling: Telling) {
        if self.lock().insert(telling.notice.id.clone()) {
            // Nobody takes any more only when the process ends.
            drop(self.queue.unbounded_send(telling));
        }
    }

    fn over(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends notices, for ever.
pub async fn send_all(context: Arc<Context>, taken: UnboundedReceiver<Telling>) {
    taken
        .for_each_concurrent(UNDER_WAY, |telling| {
            let context = Arc::clone(&context);
            async move {
                send(&context, &telling).await;
                context.notices.over(&telling.notice.id);
            }
        })
        .await;
}

/// The owner is told once, if that is possible now; the webhook is told until it takes the notice or the object is gone.
async fn send(context: &Context, telling: &Telling) {
    let Telling { notice, came, owner, revision } = telling;
    tell_owner(context, owner, notice).await;
    let mut failures = 0_u32;
    while let Err(cause) = tell_webhook(context, *came, notice).await {
        failures = failures.saturating_add(1);
        tracing::warn!(id = notice.id, cause, "a webhook did not take a notice; it is told again");
        tokio::time::sleep(OUTSIDE.pause(failures, rand::random())).await;
        if !context.is_there(&notice.namespace, &notice.name, &notice.uid) {
            return;
        }
    }
    let due = match came {
        Came::Accepted => Due::Served,
        Came::Served => Due::Nothing,
        Came::Refused => return,
    };
    if let Some(revision) = revision {
        match super::revisions::note_due(&context.client, &notice.namespace, revision, due).await {
            Ok(()) => context.remember(&notice.uid, |memory| {
                let kept = memory.revisions.iter_mut().flatten();
                kept.filter(|kept| kept.name == *revision).for_each(|kept| kept.due = due);
            }),
            Err(error) => {
                tracing::warn!(%error, revision, "a notice is told once more later: that it was could not be noted");
            }
        }
    }
}

async fn tell_owner(context: &Context, owner: &Did, notice: &Notice) {
    let Some(Subscription { right, host, inbox }) = context.subscriptions.of(owner) else { return };
    let Ok(behaviour) = Capability::parse(door::NOTICE) else { return };
    let message = json!(notice);
    let letter =
        Letter { to: owner, host: &host, inbox: &inbox, behaviour: &behaviour, message: &message, right: &right };
    match context.broadcaster.tell_one(letter, context.clock.now(), INBOX_WITHIN).await {
        Ok(()) => tracing::info!(%owner, id = notice.id, "an owner was told"),
        // As a rule: it is not connected now. Conditions and Events say the same.
        Err(error) => tracing::debug!(%owner, %error, "an owner could not be told over libp2p"),
    }
}

/// Success also when there is no webhook.
async fn tell_webhook(context: &Context, came: Came, notice: &Notice) -> Result<(), String> {
    let Ok(served) = context.serving() else { return Err("the provider's terms are not known yet".to_owned()) };
    let Some(webhook) = served.spec.notices.as_ref().and_then(|notices| notices.webhook.as_ref()) else {
        return Ok(());
    };
    let event = cloud_event(context.provider(), came, notice);
    let post = context
        .http
        .post(&webhook.url)
        .header("content-type", "application/cloudevents+json")
        .timeout(WEBHOOK_WITHIN)
        .body(event.to_string());
    let answer = post.send().await.map_err(|error| error.to_string())?;
    if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status())) }
}

/// A notice as a CloudEvent 1.0 in structured JSON.
fn cloud_event(provider: &Did, came: Came, notice: &Notice) -> serde_json::Value {
    json!({
        "specversion": "1.0",
        "id": notice.id,
        "source": provider.as_str(),
        "type": format!("io.nunet.hosting.deployment.{}", came.as_str()),
        "subject": format!("{}/{}", notice.namespace, notice.name),
        "time": notice.time,
        "datacontenttype": "application/json",
        "data": notice,
    })
}

/// Names what a notice is about: repeats of it have the same id, and nothing else has.
#[must_use]
pub fn id(uid: &str, came: Came, about: &str) -> String {
    format!("{uid}/{about}/{}", came.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Key;

    #[test]
    fn a_notice_is_a_cloud_event() {
        let provider = Key::from_seed(rand::random()).did().clone();
        let notice = Notice {
            id: id("u-1", Came::Served, "abc@5"),
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u-1".into(),
            reason: "Succeeded".into(),
            message: "it is served".into(),
            time: "2027-01-15T08:00:00Z".into(),
        };
        let event = cloud_event(&provider, Came::Served, &notice);
        assert_eq!(
            event,
            json!({
                "specversion": "1.0", "id": "u-1/abc@5/served", "source": provider.as_str(),
                "type": "io.nunet.hosting.deployment.served", "subject": "shop/web",
                "time": "2027-01-15T08:00:00Z", "datacontenttype": "application/json",
                "data": {
                    "id": "u-1/abc@5/served", "namespace": "shop", "name": "web", "uid": "u-1", "reason": "Succeeded",
                    "message": "it is served", "time": "2027-01-15T08:00:00Z",
                },
            })
        );
    }

    #[test]
    fn what_is_on_its_way_is_not_sent_twice() {
        let (notices, mut taken) = Notices::new();
        let owner = Key::from_seed(rand::random()).did().clone();
        let telling = |about: &str| Telling {
            notice: Notice {
                id: id("u", Came::Accepted, about),
                namespace: String::new(),
                name: String::new(),
                uid: String::new(),
                reason: String::new(),
                message: String::new(),
                time: String::new(),
            },
            came: Came::Accepted,
            owner: owner.clone(),
            revision: None,
        };
        notices.tell(telling("1"));
        notices.tell(telling("1"));
        notices.tell(telling("2"));
        let ids = [taken.try_recv().unwrap().notice.id, taken.try_recv().unwrap().notice.id];
        assert_eq!(ids, ["u/1/accepted", "u/2/accepted"]);
        assert!(taken.try_recv().is_err());
        notices.over("u/1/accepted");
        notices.tell(telling("1"));
        assert!(taken.try_recv().is_ok());
    }
}
