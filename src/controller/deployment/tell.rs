//! What the owner and the provider's webhook are told of a spec.

use super::{Subject, authority::Authority};
use crate::{
    api::{Reason, door::Notice},
    controller::{
        context::Context,
        notices::{self, Came, Telling},
        revisions::Due,
    },
    plan::conditions::Outcome,
};

/// Hands over what is due: that a spec was accepted, that it is served, that it was refused.
pub(super) fn owner(subject: &Subject, context: &Context, authority: &Authority, outcome: &Outcome) {
    for (revision, accepted) in &authority.untold {
        // A notice may have been sent since this pass began.
        let due = context.remember(&subject.uid, |memory| {
            let kept = memory.revisions.iter().flatten().find(|kept| kept.name == revision.name);
            kept.map_or(revision.due, |kept| kept.due)
        });
        let newest = authority.candidates.first().is_some_and(|candidate| candidate.accepted == *accepted);
        let (came, reason, message) = match (due, outcome) {
            (Due::Accepted, _) => {
                let message = format!("signed by {}, valid until {}", accepted.signer, accepted.not_after);
                (Came::Accepted, Reason::Verified, message)
            }
            (Due::Served, Outcome::Ready(message)) if newest => {
                (Came::Served, Reason::Succeeded, format!("{message}; its use is counted from now on"))
            }
            (Due::Served | Due::Nothing, _) => continue,
        };
        let about = format!("{}@{}", accepted.digest, accepted.signed.0);
        tell(subject, context, came, &about, (reason, message), Some(revision.name.clone()), true);
    }
    let refusal = authority.refusal.as_ref().map(|refusal| (subject.generation, refusal.reason.code()));
    let before = context.remember(&subject.uid, |memory| std::mem::replace(&mut memory.refusal_told, refusal));
    if let (Some(refusal), true) = (&authority.refusal, refusal != before) {
        let about = format!("{}/{}", subject.generation.unwrap_or_default(), refusal.reason.code());
        let said = (Reason::Token(refusal.reason), refusal.to_string());
        tell(subject, context, Came::Refused, &about, said, None, authority.of_owner);
    }
}

fn tell(
    subject: &Subject,
    context: &Context,
    came: Came,
    about: &str,
    (reason, message): (Reason, String),
    revision: Option<String>,
    of_owner: bool,
) {
    let Subject { namespace, name, uid, owner, .. } = subject;
    let notice = Notice {
        id: notices::id(uid, came, about),
        namespace: namespace.clone(),
        name: name.clone(),
        uid: uid.clone(),
        reason: reason.as_str().to_owned(),
        message,
        time: context.clock.now().to_string(),
    };
    context.notices.tell(Telling { notice, came, owner: of_owner.then(|| owner.clone()), revision });
}
