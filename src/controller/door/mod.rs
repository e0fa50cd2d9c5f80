//! The door without `kubectl`: who has proved a DID is given a grant, and with it applies and deletes what is theirs.
//!
//! [`Desk`] decides over grants and remembers nothing that must outlive the process; [`GrantBook`] keeps what was given in
//! the operator's namespace; [`objects`] writes on an owner's behalf. What is refused is answered, signed, with the reason.

mod grant_book;
mod objects;
mod request;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use futures::FutureExt as _;
use kube::ResourceExt as _;
use serde::Serialize;
use serde_json::{Value, json};

pub use self::grant_book::GrantBook;
pub(super) use self::grant_book::{load, sweep};
use self::request::{Request, Target};
use super::{
    Guarded,
    context::{Context, Served},
};
use crate::{
    api::{
        HostingProvider, Reason,
        door::{ApplyRequest, ChallengeRequest, Declined, DeleteRequest, GrantRequest, Granted, Refused},
        names::is_label,
    },
    capability::{self, Did},
    device::{
        actor::{Asked, Origin},
        random,
    },
    plan::{
        authorise::SKEW,
        challenge::{Challenger, Claim},
        login::{Desk, Policy, read},
        once::{NotOnce, Once},
        validate::namespace_allowed,
    },
};

/// How long a request may live.
const LIVES: Duration = Duration::from_mins(5);
/// How long one may take to be answered.
const LIMIT: Duration = Duration::from_secs(20);
/// How long one waits for new terms that are being taken over, and between two looks for them.
const TERMS_WITHIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(20));
/// Requests that were acted on and have not expired.
const TAKEN: usize = 1 << 16;

/// Gives grants, and changes objects for those who hold them.
#[derive(Debug)]
pub struct Door {
    desk: Desk,
    grants: GrantBook,
    taken: Mutex<Once<(Did, u64)>>,
    turns: Mutex<HashMap<Target, Weak<tokio::sync::Mutex<()>>>>,
    context: OnceLock<Weak<Context>>,
}

/// What was asked, for the log.
#[derive(Default)]
struct About {
    namespace: String,
    name: String,
    actions: String,
    id: String,
}

impl Door {
    /// A door of `provider`, closed until the operator works. `host` is the name that challenges show.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new(provider: Did, host: &str) -> Result<Self, getrandom::Error> {
        let desk = Desk::new(Challenger::new(provider, host, &random()?));
        Ok(Self {
            desk,
            grants: GrantBook::default(),
            taken: Mutex::new(Once::new(TAKEN)),
            turns: Mutex::default(),
            context: OnceLock::new(),
        })
    }

    /// What was given.
    #[must_use]
    pub const fn grants(&self) -> &GrantBook {
        &self.grants
    }

    /// From now on the operator works.
    pub fn open(&self, context: &Arc<Context>) {
        // It works once.
        let _ = self.context.set(Arc::downgrade(context));
    }

    /// Whether such a thing is asked here.
    #[must_use]
    pub fn serves(behaviour: &str) -> bool {
        Request::parse(behaviour).is_some()
    }

    /// Whether a message from there is looked at.
    #[must_use]
    pub fn admits(&self, origin: &Origin, at: capability::Nanos) -> bool {
        match origin {
            // A peer is told so by an answer.
            Origin::Peer(_) => true,
            Origin::Address(_) => self.desk.ask_from(&origin.counted_as(), at).is_ok(),
        }
    }

    /// Acts on a request, and says what to answer.
    pub async fn answer(&self, asked: &Asked) -> Option<Value> {
        let request = Request::parse(&asked.envelope.behaviour)?;
        let mut about = About::of(&request);
        let served = tokio::time::timeout(LIMIT, self.serve(&request, asked, &mut about)).await;
        let served = served.unwrap_or_else(|_| {
            let message = format!(
                "the API server did not answer within {} s, so what became of the request is not known. Ask again",
                LIMIT.as_secs()
            );
            Err(Declined::new(Reason::ClusterUnavailable, message))
        });
        let About { namespace, name, actions, id } = about;
        let (decision, reason) = match (&served, &request) {
            (Ok(_), Request::Challenge) => ("challenged", Reason::Succeeded),
            (Ok(_), Request::Grant | Request::Apply(_) | Request::Delete(_)) => ("granted", Reason::Succeeded),
            (Err(declined), _) => ("refused", declined.reason),
        };
        tracing::info!(
            target: "audit", did = %asked.sender, address = %asked.origin, request = request.what(), namespace, name,
            actions, decision, %reason, id, "a request to the provider was decided"
        );
        Some(served.unwrap_or_else(|declined| json!({"refused": Refused::from(declined)})))
    }

    async fn serve(&self, request: &Request, asked: &Asked, about: &mut About) -> Result<Value, Declined> {
        let Asked { envelope, sender, via: _, origin, at } = asked;
        if let Origin::Peer(_) = origin {
            self.desk.ask_from(&origin.counted_as(), *at)?;
        }
        about.read(request, &envelope.message)?;
        if envelope.expires > at.plus(LIVES + SKEW) {
            let message = format!(
                "the request lives until {}, and no request may live for more than {} minutes. Send another one, and see \
                 that your clock is right",
                envelope.expires,
                LIVES.as_secs() / 60
            );
            return Err(Declined::new(Reason::RequestMalformed, message));
        }
        let not_ready = || {
            let message = "the provider is being started. Ask again in a moment";
            Declined::new(Reason::ProviderNotReady, message)
        };
        let context = self.context.get().and_then(Weak::upgrade).ok_or_else(not_ready)?;
        if context.clock.suspect() {
            let message =
                "the provider's clocks disagree, and until they agree nothing is given or taken. Ask again later";
            return Err(Declined::new(Reason::ClockSuspect, message));
        }
        let served = current(&context).await?;
        // Only now: what is signed by a DID and stands in public, as the invocations in objects do, is no request of it.
        self.desk.ask_by(sender, *at)?;
        match request {
            Request::Challenge => self.challenge(&context, &served, asked, about),
            Request::Grant => self.grant(&context, &served, asked, about).await,
            Request::Apply(target) => {
                let done = objects::apply(self, &context, &served, asked, target).await?;
                about.id.clone_from(&done.uid);
                value(&done)
            }
            Request::Delete(target) => {
                let done = objects::delete(self, &context, &served, asked, target).await?;
                about.id.clone_from(&done.uid);
                value(&done)
            }
        }
    }

    fn challenge(
        &self,
        context: &Context,
        served: &Served,
        asked: &Asked,
        about: &mut About,
    ) -> Result<Value, Declined> {
        let Asked { envelope, sender, at, .. } = asked;
        let nonce = random().map_err(no_random)?;
        let admits = |namespace: &str| admits(context, served, namespace);
        let policy = policy(context, served, &admits);
        let (claim, challenge) = self.desk.challenge(&envelope.message, sender, &policy, nonce, *at)?;
        about.note(&claim);
        about.id = hex::encode(nonce);
        value(&challenge)
    }

    async fn grant(
        &self,
        context: &Context,
        served: &Served,
        asked: &Asked,
        about: &mut About,
    ) -> Result<Value, Declined> {
        let Asked { envelope, sender, at, .. } = asked;
        let nonce = random().map_err(no_random)?;
        self.grants.check_room(sender)?;
        let issued = {
            let admits = |namespace: &str| admits(context, served, namespace);
            let policy = policy(context, served, &admits);
            self.desk.grant(&envelope.message, sender, &policy, nonce, *at)?
        };
        about.note(&issued.claim);
        about.id = hex::encode(nonce);
        self.grants.keep(context, &issued, asked).await?;
        let grant = serde_json::from_slice(&issued.token.to_json()).map_err(unwritable)?;
        value(&Granted { grant, expires: issued.token.expires() })
    }

    /// Whose turn it is to change an object; the last one to hold it takes it away.
    fn turn(&self, target: &Target) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns.get(target).and_then(Weak::upgrade).unwrap_or_default();
        turns.insert(target.clone(), Arc::downgrade(&turn));
        turn
    }

    /// Lets each message of a sender count once.
    fn take(&self, asked: &Asked) -> Result<(), Declined> {
        let Asked { envelope, sender, at, .. } = asked;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.consume((sender.clone(), envelope.nonce), envelope.expires, *at).map_err(|refused| match refused {
            NotOnce::Used => Declined::new(
                capability::Reason::Replayed.into(),
                format!("message {} of {sender} was acted on before. Send another one", envelope.nonce),
            ),
            NotOnce::Full => Declined::new(
                Reason::TooManyRequests,
                "more requests were acted on than the provider keeps in mind. Ask again in a few minutes",
            ),
        })
    }
}

impl About {
    fn of(request: &Request) -> Self {
        match request {
            Request::Challenge | Request::Grant => Self::default(),
            Request::Apply(Target { namespace, name }) | Request::Delete(Target { namespace, name }) => Self {
                namespace: namespace.clone(),
                name: name.clone(),
                actions: request.what().to_owned(),
                id: String::new(),
            },
        }
    }

    /// Notes what a request says, and refuses one that is not in its form.
    fn read(&mut self, request: &Request, message: &[u8]) -> Result<(), Declined> {
        match request {
            Request::Challenge => {
                let ChallengeRequest { did: _, namespace, actions } = read(message, "challenge")?;
                // Nothing of any length or form goes to the log.
                if is_label(&namespace) {
                    self.namespace = namespace;
                }
                let actions: BTreeSet<_> = actions.iter().map(|action| action.as_str()).collect();
                self.actions = actions.into_iter().collect::<Vec<_>>().join(",");
            }
            Request::Grant => drop(read::<GrantRequest>(message, "grant")?),
            Request::Apply(_) => drop(read::<ApplyRequest>(message, "change")?),
            Request::Delete(_) => drop(read::<DeleteRequest>(message, "deletion")?),
        }
        Ok(())
    }

    fn note(&mut self, claim: &Claim) {
        let Claim { did: _, namespace, actions } = claim;
        self.namespace.clone_from(namespace);
        self.actions = actions.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(",");
    }
}

fn policy<'a>(context: &'a Context, served: &'a Served, admits: &'a dyn Fn(&str) -> bool) -> Policy<'a> {
    let terms = &served.terms;
    Policy { key: &context.identity.key, offers: &terms.offers, denied: &terms.denied, admits }
}

/// The provider, when its terms are those that the watch shows: under others nothing is given or taken.
async fn current(context: &Context) -> Result<Arc<Served>, Declined> {
    let settling = async {
        while is_changing(context) {
            tokio::time::sleep(TERMS_WITHIN.1).await;
        }
    };
    // What takes longer is refused below.
    let _ = tokio::time::timeout(TERMS_WITHIN.0, settling).await;
    let not_ready = |message: String| Err(Declined::new(Reason::ProviderNotReady, message));
    // Until then, a namespace that is not shown may be there.
    if !matches!(context.namespaces.wait_until_ready().now_or_never(), Some(Ok(()))) {
        return not_ready("the namespaces were not read yet. Ask again in a moment".to_owned());
    }
    let served = context.serving().map_err(|(reason, message)| Declined { reason, message })?;
    let provider = format!("HostingProvider {}/{}", context.settings.namespace, context.settings.provider);
    let Some(shown) = shown(context) else {
        return not_ready(format!("{provider} does not exist any more. Ask again once it is there"));
    };
    match &shown.0 {
        Ok(shown) if shown.spec == served.spec => Ok(served),
        Ok(_) => {
            not_ready(format!("{provider} was changed, and its new terms are not in use yet. Ask again in a moment"))
        }
        Err(_) => not_ready(format!("{provider} cannot be read, so its terms are not known. Ask again in a while")),
    }
}

/// Whether the watch shows other terms than those in use.
fn is_changing(context: &Context) -> bool {
    let Ok(served) = context.serving() else { return false };
    shown(context).is_some_and(|shown| shown.0.as_ref().is_ok_and(|shown| shown.spec != served.spec))
}

/// The provider, as the watch shows it.
fn shown(context: &Context) -> Option<Arc<Guarded<HostingProvider>>> {
    context.providers.find(|shown| shown.name_any() == context.settings.provider)
}

/// Whether the provider takes deployments from a namespace, as the watch shows it.
fn admits(context: &Context, served: &Served, namespace: &str) -> bool {
    let labels = context.labels_of(namespace);
    labels.is_some_and(|labels| namespace_allowed(&served.spec, &context.settings.namespace, namespace, &labels))
}

fn value(answer: &impl Serialize) -> Result<Value, Declined> {
    serde_json::to_value(answer).map_err(unwritable)
}

// The signature is that of `map_err`.
#[allow(clippy::needless_pass_by_value)]
fn unwritable(error: serde_json::Error) -> Declined {
    Declined::new(Reason::RequestMalformed, format!("the answer could not be written down: {error}"))
}

fn no_random(error: getrandom::Error) -> Declined {
    Declined::new(
        Reason::ClusterUnavailable,
        format!("the provider's system gives no random bytes: {error}. Ask later"),
    )
}
