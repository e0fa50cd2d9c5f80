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
    FutureExt as _, StreamExt as _,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
    stream::FuturesUnordered,
};
use serde_json::json;

use super::{
    context::{Context, Wake},
    revisions::Due,
};
use crate::{
    api::door::{self, Notice},
    capability::{Capability, Did, Nanos, Token},
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
    /// How an owner is told from now on; the latest counts. Those whose right has ended by `now` make room.
    pub fn set(&self, owner: Did, subscription: Subscription, now: Nanos) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= SUBSCRIPTIONS {
            known.retain(|_, subscription| subscription.right.not_after() >= now);
        }
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
    /// To whom, beside the webhook; `None`: it is not known whose object it is.
    pub owner: Option<Did>,
    /// Where it is noted that it was told; `None`: nowhere.
    pub revision: Option<String>,
}

/// Takes notices to be sent.
#[derive(Debug)]
pub struct Notices {
    owners: UnboundedSender<Telling>,
    webhook: UnboundedSender<Telling>,
    pending: Mutex<Pending>,
}

/// What is on its way.
#[derive(Debug, Default)]
struct Pending {
    ids: HashSet<String>,
    /// The last refusal of each object: what was refused before it is of no use to anybody any more.
    refusals: HashMap<String, String>,
}

/// What [`send_all`] sends. Owners are told whatever becomes of the webhook.
#[derive(Debug)]
pub struct Taken {
    owners: UnboundedReceiver<Telling>,
    webhook: UnboundedReceiver<Telling>,
}

impl Notices {
    /// A queue, and what [`send_all`] takes from it.
    #[must_use]
    pub fn new() -> (Self, Taken) {
        let ((owners, for_owners), (webhook, for_webhook)) = (unbounded(), unbounded());
        (Self { owners, webhook, pending: Mutex::default() }, Taken { owners: for_owners, webhook: for_webhook })
    }

    /// Sends a notice that is not on its way already.
    pub fn tell(&self, telling: Telling) {
        let Telling { notice, came, owner, revision: _ } = &telling;
        let mut pending = self.lock();
        if !pending.ids.insert(notice.id.clone()) {
            return;
        }
        if *came == Came::Refused {
            pending.refusals.insert(notice.uid.clone(), notice.id.clone());
        }
        // Nobody takes any more only when the process ends.
        if owner.is_some() {
            drop(self.owners.unbounded_send(telling.clone()));
        }
        drop(self.webhook.unbounded_send(telling));
    }

    fn is_superseded(&self, telling: &Telling) -> bool {
        let Telling { notice, came, owner: _, revision: _ } = telling;
        *came == Came::Refused && self.lock().refusals.get(&notice.uid).is_some_and(|last| *last != notice.id)
    }

    fn over(&self, notice: &Notice) {
        let mut pending = self.lock();
        pending.ids.remove(&notice.id);
        if pending.refusals.get(&notice.uid) == Some(&notice.id) {
            pending.refusals.remove(&notice.uid);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends notices, for ever.
pub async fn send_all(context: Arc<Context>, taken: Taken) {
    let Taken { owners, webhook } = taken;
    let told = owners.for_each_concurrent(UNDER_WAY, |Telling { notice, came: _, owner, revision: _ }| {
        let context = Arc::clone(&context);
        async move {
            if let Some(owner) = owner {
                tell_owner(&context, &owner, &notice).await;
            }
        }
    });
    futures::join!(told, serve_webhook(&context, webhook));
}

/// Tells the webhook what it did not take again and again, until it takes it, or its object is gone. What waits for the next
/// try takes nobody's place.
async fn serve_webhook(context: &Context, mut taken: UnboundedReceiver<Telling>) {
    let mut trying = FuturesUnordered::new();
    let mut waiting = FuturesUnordered::new();
    loop {
        let room = trying.len() < UNDER_WAY;
        let (telling, failures) = tokio::select! {
            Some(tried) = trying.next() => {
                if let Some((telling, failures)) = tried {
                    let pause = OUTSIDE.pause(failures, rand::random());
                    waiting.push(tokio::time::sleep(pause).map(move |()| (telling, failures)));
                }
                continue;
            }
            Some(due) = waiting.next(), if room => due,
            Some(telling) = taken.next(), if room => (telling, 0),
            else => return,
        };
        trying.push(try_webhook(context, telling, failures));
    }
}

/// One try. Gives back what has to be tried again, and how often it failed.
async fn try_webhook(context: &Context, telling: Telling, failures: u32) -> Option<(Telling, u32)> {
    let Telling { notice, came, owner: _, revision } = &telling;
    let is_gone = failures > 0 && !context.is_there(&notice.namespace, &notice.name, &notice.uid);
    if is_gone || context.notices.is_superseded(&telling) {
        context.notices.over(notice);
        return None;
    }
    if let Err(cause) = tell_webhook(context, *came, notice).await {
        tracing::warn!(id = notice.id, cause, "a webhook did not take a notice; it is told again");
        return Some((telling, failures.saturating_add(1)));
    }
    if let Some(revision) = revision {
        note_told(context, *came, notice, revision).await;
    }
    context.notices.over(notice);
    None
}

/// What could not be written down is told once more by the next process, and not by this one.
async fn note_told(context: &Context, came: Came, notice: &Notice, revision: &str) {
    let due = match came {
        Came::Accepted => Due::Served,
        Came::Served => Due::Nothing,
        Came::Refused => return,
    };
    if let Err(error) = super::revisions::note_due(&context.client, &notice.namespace, revision, due).await {
        tracing::warn!(%error, revision, "that a notice was sent could not be noted; it may be sent once more");
    }
    context.remember(&notice.uid, |memory| {
        let kept = memory.revisions.iter_mut().flatten();
        kept.filter(|kept| kept.name == *revision).for_each(|kept| kept.due = due);
    });
    if due == Due::Served {
        // It may be served already.
        context.wake(Wake::Object { namespace: notice.namespace.clone(), name: notice.name.clone() });
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
    fn what_is_on_its_way_is_not_sent_twice_and_a_later_refusal_counts() {
        let (notices, mut taken) = Notices::new();
        let owner = Key::from_seed(rand::random()).did().clone();
        let telling = |about: &str, came: Came| Telling {
            notice: Notice {
                id: id("u", came, about),
                namespace: String::new(),
                name: String::new(),
                uid: "u".into(),
                reason: String::new(),
                message: String::new(),
                time: String::new(),
            },
            came,
            owner: Some(owner.clone()).filter(|_| came != Came::Refused),
            revision: None,
        };
        notices.tell(telling("1", Came::Accepted));
        notices.tell(telling("1", Came::Accepted));
        notices.tell(telling("2", Came::Accepted));
        let ids = [taken.webhook.try_recv().unwrap().notice.id, taken.webhook.try_recv().unwrap().notice.id];
        assert_eq!(ids, ["u/1/accepted", "u/2/accepted"]);
        assert!(taken.webhook.try_recv().is_err());
        notices.over(&telling("1", Came::Accepted).notice);
        notices.tell(telling("1", Came::Accepted));
        assert!(taken.webhook.try_recv().is_ok());
        for id in ["u/1/accepted", "u/2/accepted", "u/1/accepted"] {
            assert_eq!(taken.owners.try_recv().unwrap().notice.id, id);
        }

        let (first, second) = (telling("1", Came::Refused), telling("2", Came::Refused));
        notices.tell(first.clone());
        assert!(!notices.is_superseded(&first));
        notices.tell(second.clone());
        assert!(notices.is_superseded(&first) && !notices.is_superseded(&second));
        notices.over(&first.notice);
        assert!(!notices.is_superseded(&second));
        assert!(taken.owners.try_recv().is_err(), "whose object it is, is not known");
    }
}
