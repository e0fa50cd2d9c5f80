//! The door without `kubectl`: who has proved a DID is given a grant, and with it applies and deletes what is theirs.
//!
//! [`Desk`] decides over grants and remembers nothing that must outlive the process; [`GrantBook`] keeps what was given in
//! the operator's namespace; [`objects`] writes on an owner's behalf. What is refused is answered, signed, with the reason.

mod grant_book;
mod objects;
mod request;

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use serde::Serialize;
use serde_json::{Value, json};

pub use self::grant_book::GrantBook;
pub(super) use self::grant_book::sweep;
use self::request::Request;
use super::context::{Context, Served};
use crate::{
    api::{
        Reason,
        door::{Declined, Granted, Refused},
    },
    capability::{self, Did},
    device::{
        actor::{Asked, Origin},
        random,
    },
    plan::{
        authorise::SKEW,
        challenge::{Challenger, Claim},
        login::{Desk, Policy},
        once::{NotOnce, Once},
        validate::namespace_allowed,
    },
};

/// How long a request may live.
const LIVES: Duration = Duration::from_mins(5);
/// How long one may take to be answered.
const LIMIT: Duration = Duration::from_secs(20);
/// Requests that were acted on and have not expired.
const TAKEN: usize = 1 << 16;

/// Gives grants, and changes objects for those who hold them.
#[derive(Debug)]
pub struct Door {
    desk: Desk,
    grants: GrantBook,
    taken: Mutex<Once<(Did, u64)>>,
    context: OnceLock<Weak<Context>>,
}

/// What was asked, for the log.
#[derive(Default)]
struct About {
    namespace: String,
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
        Ok(Self { desk, grants: GrantBook::default(), taken: Mutex::new(Once::new(TAKEN)), context: OnceLock::new() })
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
        let mut about = About::default();
        let served = tokio::time::timeout(LIMIT, self.serve(&request, asked, &mut about)).await;
        let served = served.unwrap_or_else(|_| {
            let message = format!(
                "the API server did not answer within {} s, so what became of the request is not known. Ask again",
                LIMIT.as_secs()
            );
            Err(Declined::new(Reason::ClusterUnavailable, message))
        });
        let About { namespace, actions, id } = about;
        let (decision, reason) = match &served {
            Ok(_) => ("granted", Reason::Succeeded),
            Err(declined) => ("refused", declined.reason),
        };
        tracing::info!(
            target: "audit", did = %asked.sender, address = %asked.origin, request = request.what(), namespace, actions,
            decision, %reason, id, "a request to the provider was decided"
        );
        Some(served.unwrap_or_else(|declined| json!({"refused": Refused::from(declined)})))
    }

    async fn serve(&self, request: &Request, asked: &Asked, about: &mut About) -> Result<Value, Declined> {
        let Asked { envelope, sender, via: _, origin, at } = asked;
        if let Origin::Peer(_) = origin {
            self.desk.ask_from(&origin.counted_as(), *at)?;
        }
        self.desk.ask_by(sender, *at)?;
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
        let served = context.serving().map_err(|(reason, message)| Declined { reason, message })?;
        match request {
            Request::Challenge => self.challenge(&context, &served, asked, about),
            Request::Grant => self.grant(&context, &served, asked, about).await,
            Request::Apply(target) => {
                (about.namespace, about.actions) = (target.namespace.clone(), "apply".to_owned());
                let done = objects::apply(self, &context, &served, asked, target).await?;
                about.id.clone_from(&done.uid);
                value(&done)
            }
            Request::Delete(target) => {
                (about.namespace, about.actions) = (target.namespace.clone(), "delete".to_owned());
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
        self.grants.keep(context, &issued, &envelope.from).await?;
        let grant = serde_json::from_slice(&issued.token.to_json()).map_err(unwritable)?;
        value(&Granted { grant, expires: issued.token.expires() })
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
