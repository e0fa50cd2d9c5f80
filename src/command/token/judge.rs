//! Judging tokens as a node judges them, or by themselves.

use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::report::Report;
use super::{CommandError, now, read_bytes, shown};
use crate::capability::{
    Action, Capability, Context, Did, KnownDids, Nanos, Reason, Refusal, Token, Usage, parse_known_tokens,
    verify_revocation,
};

/// Whose trust counts, and when.
#[derive(Debug, clap::Args)]
pub(in crate::command) struct Trust {
    /// DMS context file (`.cap`) of whom the judgement is made for: its own DID, its roots, its require anchors and
    /// revocations count. Absent: the DID of --audience is the one anchor.
    #[arg(long, value_name = "FILE")]
    context: Option<PathBuf>,
    /// DID of whom is asked. Absent: the one of the context.
    #[arg(long, value_name = "DID", value_parser = Did::parse)]
    audience: Option<Did>,
    /// The time that counts, in nanoseconds since 1970. Absent: now.
    #[arg(long, value_name = "NS")]
    now: Option<u64>,
}

impl Trust {
    /// The context to judge by, and who is asked; `None`, when neither is named.
    pub(in crate::command) fn open(&self) -> Result<Option<(Context, Did)>, CommandError> {
        let Self { context, audience, now: _ } = self;
        Ok(match (context, audience) {
            (Some(file), audience) => {
                let context = read_context(file)?;
                let audience = audience.clone().unwrap_or_else(|| context.did.clone());
                Some((context, audience))
            }
            (None, Some(audience)) => Some((Context::empty(audience.clone()), audience.clone())),
            (None, None) => None,
        })
    }

    /// The same where one of the two must be named.
    pub(in crate::command) fn required(&self) -> Result<(Context, Did), CommandError> {
        self.open()?.ok_or_else(|| {
            CommandError::new(
                "nobody is named whose trust counts: name a context with --context FILE, or --audience DID",
            )
        })
    }

    pub(in crate::command) fn now(&self) -> Nanos {
        self.now.map_or_else(now, Nanos)
    }
}

pub(in crate::command) fn read_context(file: &Path) -> Result<Context, CommandError> {
    Context::parse(&read_bytes(file)?)
        .map_err(|refusal| CommandError::because(format!("{} is no DMS context file", shown(file)), refusal))
}

/// What the token is to be used for.
#[derive(Debug, clap::Args)]
pub(super) struct Manner {
    /// What the token is used for. Absent: to invoke, or to broadcast on --topic; `explain`: what it is made for.
    #[arg(long, value_enum)]
    action: Option<Purpose>,
    /// Topic of a broadcast.
    #[arg(long, value_name = "PATH", value_parser = Capability::parse)]
    topic: Option<Capability>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// Its subject asks for something.
    Invoke,
    /// Its subject passes it on.
    Delegate,
    /// Its subject tells everybody on a topic.
    Broadcast,
}

impl Manner {
    /// What the token is to be used for. Not said, it is to ask or to tell, as a node judges it; only whether a delegation
    /// holds otherwise is looked at first, so that what is wrong with its chain is said before that it is one.
    fn usage<'a>(&'a self, token: &Token, audience: &'a Did) -> Usage<'a> {
        match (self.action, &self.topic, token.action()) {
            (Some(Purpose::Delegate), _, _) | (None, None, Action::Delegate) => Usage::Delegation { audience },
            (_, Some(topic), _) => Usage::Broadcast { topic },
            _ => Usage::Invocation { audience },
        }
    }

    /// A delegation that holds is still nothing that a node obeys.
    fn check_action(&self, token: &Token) -> Result<(), Refusal> {
        if self.action.is_some() || token.action() != Action::Delegate {
            return Ok(());
        }
        let message = "its chain holds, but the token is one to delegate, not to invoke: a node obeys an invocation below \
                       it. Ask whether it may be passed on with `kubectl hosting token verify --action delegate`";
        Err(Refusal::new(Reason::CapabilityMissing, None, message))
    }
}

fn no_topic() -> CommandError {
    CommandError::new("a token to broadcast is judged for one topic: name it with --topic PATH")
}

/// What is asked about a token.
pub(super) struct Question<'a> {
    /// By whose trust, and who is asked. `None`: by the token itself.
    pub(super) trust: Option<(Context, Did)>,
    pub(super) manner: &'a Manner,
    /// All of these must be given. None: what the token itself gives.
    pub(super) capabilities: &'a [Capability],
    /// Whether it must be something that a node obeys as it is.
    pub(super) obeyed: bool,
    pub(super) now: Nanos,
}

impl Question<'_> {
    /// The verdict over a list: its first token that is accepted, else the first refusal.
    pub(super) fn decide(&self, tokens: Result<Vec<Token>, Refusal>) -> Result<Report, CommandError> {
        self.check()?;
        let tokens = match tokens {
            Ok(tokens) => tokens,
            Err(refusal) => return Ok(Report::refused(None, &refusal)),
        };
        let mut first = None;
        for token in &tokens {
            match self.judge(token) {
                Ok(message) => return Ok(Report::accepted(Some(token), token.not_after(), message)),
                Err(refusal) => first = first.or_else(|| Some(Report::refused(Some(token), &refusal))),
            }
        }
        Ok(first.unwrap_or_else(|| Report::refused(None, &no_token())))
    }

    /// Arguments that contradict each other are an error, whatever the token says.
    fn check(&self) -> Result<(), CommandError> {
        let Self { trust, manner: Manner { action, topic }, capabilities, obeyed: _, now: _ } = self;
        if trust.is_none() && (action.is_some() || topic.is_some() || !capabilities.is_empty()) {
            return Err(CommandError::new(
                "by itself a token is not judged for a use: name whose trust counts, with --context FILE or --audience DID",
            ));
        }
        match (action, topic) {
            (Some(Purpose::Broadcast), None) => Err(no_topic()),
            (Some(Purpose::Invoke | Purpose::Delegate), Some(_)) => {
                Err(CommandError::new("only broadcasts have a topic: leave out --topic, or write --action broadcast"))
            }
            _ => Ok(()),
        }
    }

    /// What the token lets its subject do, in words.
    fn judge(&self, token: &Token) -> Result<String, Refusal> {
        let Self { trust, manner, capabilities, obeyed, now } = self;
        let Some((context, audience)) = trust else { return by_itself(token, *now) };
        let usage = manner.usage(token, audience);
        let asked = if capabilities.is_empty() { token.capabilities() } else { capabilities };
        if asked.is_empty() {
            return Err(Refusal::new(Reason::CapabilityMissing, None, "the token gives nothing"));
        }
        for capability in asked {
            context.check(token, token.subject(), &usage, capability, *now)?;
        }
        if *obeyed {
            manner.check_action(token)?;
        }
        let (does, whereto) = match usage {
            Usage::Invocation { audience } => ("invoke", format!("at {audience}")),
            Usage::Delegation { audience } => ("pass on", format!("for {audience}")),
            Usage::Broadcast { topic } => ("broadcast", format!("on {topic}")),
        };
        let paths = asked.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
        Ok(format!("{} may {does} {paths} {whereto} until {}", token.subject(), token.not_after()))
    }
}

/// Judges a token by itself: whom a verifier trusts, and what was revoked, is not looked at.
fn by_itself(token: &Token, now: Nanos) -> Result<String, Refusal> {
    if token.action() == Action::Revoke {
        verify_revocation(token)?;
        return Ok(format!("{} takes back what it gave to {}", token.issuer(), token.subject()));
    }
    token.verify(now, &|_| false)?;
    Ok(format!("every signature fits and nothing is wider; valid until {}", token.not_after()))
}

/// The verdict over each token of a list by itself.
pub(super) fn each_by_itself(tokens: Result<Vec<Token>, Refusal>, now: Nanos) -> Vec<Report> {
    let report = |token: &Token| match by_itself(token, now) {
        Ok(message) => Report::accepted(Some(token), token.not_after(), message),
        Err(refusal) => Report::refused(Some(token), &refusal),
    };
    match tokens {
        Ok(tokens) if tokens.is_empty() => vec![Report::refused(None, &no_token())],
        Ok(tokens) => tokens.iter().map(report).collect(),
        Err(refusal) => vec![Report::refused(None, &refusal)],
    }
}

fn no_token() -> Refusal {
    Refusal::new(Reason::CapabilityMissing, None, "the list holds no token that could be judged")
}

/// Reads a file with a token, `{"dms":…}`, or with a list of them, `{"tok":[…]}`. Of a list, tokens of other key types are
/// left out, as a node leaves them out.
pub(super) fn read_tokens(file: &Path) -> Result<Result<Vec<Token>, Refusal>, CommandError> {
    let bytes = read_bytes(file)?;
    Ok(if is_list(&bytes) {
        parse_known_tokens(&bytes, &mut KnownDids::default())
    } else {
        Token::parse(&bytes).map(|token| vec![token])
    })
}

/// Whether the first member is that of a list.
fn is_list(bytes: &[u8]) -> bool {
    let inside = bytes.trim_ascii_start().strip_prefix(b"{").unwrap_or_default();
    inside.trim_ascii_start().starts_with(b"\"tok\"")
}
