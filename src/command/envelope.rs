//! `dms-operator envelope`: whether a node would do what a message asks.

use std::path::PathBuf;
use std::process::ExitCode;

use super::CommandError;
use super::token::judge::Trust;
use super::token::report::{Report, written};
use super::token::{Output, VERDICTS};
use super::wallet::{print, read_bytes};
use crate::capability::{
    Capability, Context, Did, Envelope, KnownDids, Nanos, Reason, Refusal, Token, Usage, parse_known_tokens,
};

/// Arguments of `envelope`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Envelopes,
}

#[derive(Debug, clap::Subcommand)]
enum Envelopes {
    /// Judges an envelope as the node does to which it is addressed.
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
#[command(after_help = VERDICTS)]
struct Verify {
    /// File with the envelope; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    envelope: PathBuf,
    #[command(flatten)]
    trust: Trust,
    /// The behaviour that it must ask for, and that its tokens must give. Absent: what it asks for.
    #[arg(long, value_name = "PATH", value_parser = Capability::parse)]
    capability: Option<Capability>,
    /// Judge it as a broadcast on this topic.
    #[arg(long, value_name = "PATH", value_parser = Capability::parse)]
    topic: Option<Capability>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Envelopes::Verify(Verify { envelope, trust, capability, topic, output }) = args.command;
    let (context, audience) = trust.required()?;
    if context.did != audience {
        let message = format!(
            "the context is that of {}, and an envelope is judged for whom it is addressed to: leave out --audience",
            context.did
        );
        return Err(CommandError::new(message));
    }
    let question = Question { context, capability, topic, now: trust.now() };
    let report = question.decide(&read_bytes(&envelope)?);
    print(&written(&report, output, || report.lines())?)?;
    Ok(report.code())
}

/// What is asked about an envelope.
struct Question {
    context: Context,
    capability: Option<Capability>,
    topic: Option<Capability>,
    now: Nanos,
}

impl Question {
    fn decide(&self, bytes: &[u8]) -> Report {
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(refusal) => return Report::refused(None, &refusal),
        };
        let tokens = parse_known_tokens(&envelope.capabilities, &mut KnownDids::default()).unwrap_or_default();
        match self.judge(&envelope) {
            Ok((sender, behaviour)) => self.accepted(&envelope, &sender, &behaviour, &tokens),
            Err(refusal) => Report::refused(tokens.first(), &refusal),
        }
    }

    /// Who sent it and for what, when it is what is asked and everything for it is given.
    fn judge(&self, envelope: &Envelope) -> Result<(Did, Capability), Refusal> {
        let Self { context, capability, topic, now } = self;
        let behaviour = Capability::parse(&envelope.behaviour).map_err(|error| {
            Refusal::explained(Reason::Malformed, format!("the envelope asks for what no capability gives: {error}"))
        })?;
        if let Some(wanted) = capability.as_ref().filter(|wanted| **wanted != behaviour) {
            let message = format!("the envelope asks for {behaviour}, not for {wanted}");
            return Err(Refusal::explained(Reason::WrongBehaviour, message));
        }
        match topic {
            None => context.authorise(envelope, &behaviour, *now)?,
            Some(topic) => context.authorise_broadcast(envelope, topic, &behaviour, *now)?,
        }
        Ok((envelope.verify(*now)?, behaviour))
    }

    /// The acceptance holds as long as the envelope and the token that it rests on.
    fn accepted(&self, envelope: &Envelope, sender: &Did, behaviour: &Capability, tokens: &[Token]) -> Report {
        let Self { context, capability: _, topic, now } = self;
        let usage =
            topic.as_ref().map_or(Usage::Invocation { audience: &context.did }, |topic| Usage::Broadcast { topic });
        let carrier = tokens.iter().find(|token| context.check(token, sender, &usage, behaviour, *now).is_ok());
        let not_after = carrier.map_or(envelope.expires, |token| envelope.expires.min(token.not_after()));
        let message = match topic {
            None => format!("{sender} may invoke {behaviour} at {} until {not_after}", context.did),
            Some(topic) => format!("{sender} may broadcast {behaviour} on {topic} until {not_after}"),
        };
        Report::accepted(carrier.or(tokens.first()), not_after, message)
    }
}

#[cfg(test)]
mod tests;
