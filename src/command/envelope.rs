//! `dms-operator envelope`: whether a node would do what a message asks.

use std::path::PathBuf;
use std::process::ExitCode;

use super::CommandError;
use super::token::judge::Trust;
use super::token::report::{Report, written};
use super::token::{Output, VERDICTS};
use super::wallet::{print, read_bytes};
use crate::capability::{Capability, Context, Did, Envelope, Nanos, Refusal, Token, Usage, parse_known_tokens};

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
    /// What its tokens must let the sender do; may be given several times, and then all of it is asked.
    #[arg(long = "capability", value_name = "PATH", required = true, value_parser = Capability::parse)]
    capabilities: Vec<Capability>,
    /// Judge it as a broadcast on this topic.
    #[arg(long, value_name = "PATH", value_parser = Capability::parse)]
    topic: Option<Capability>,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

pub fn run(args: Args) -> Result<ExitCode, CommandError> {
    let Envelopes::Verify(Verify { envelope, trust, capabilities, topic, output }) = args.command;
    let (context, audience) = trust.required()?;
    if context.did != audience {
        let message = format!(
            "the context is that of {}, and an envelope is judged for whom it is addressed to: leave out --audience",
            context.did
        );
        return Err(CommandError::new(message));
    }
    let question = Question { context, capabilities, topic, now: trust.now() };
    let report = question.decide(&read_bytes(&envelope)?);
    print(&written(&report, output, || report.lines())?)?;
    Ok(report.code())
}

/// What is asked about an envelope.
struct Question {
    context: Context,
    capabilities: Vec<Capability>,
    topic: Option<Capability>,
    now: Nanos,
}

impl Question {
    fn decide(&self, bytes: &[u8]) -> Report {
        let envelope = match Envelope::parse(bytes) {
            Ok(envelope) => envelope,
            Err(refusal) => return Report::refused(None, &refusal),
        };
        let tokens = parse_known_tokens(&envelope.capabilities).unwrap_or_default();
        match self.judge(&envelope) {
            Ok(sender) => self.accepted(&envelope, &sender, &tokens),
            Err(refusal) => Report::refused(tokens.first(), &refusal),
        }
    }

    /// Who sent it, when everything that is asked is given.
    fn judge(&self, envelope: &Envelope) -> Result<Did, Refusal> {
        let Self { context, capabilities, topic, now } = self;
        for capability in capabilities {
            match topic {
                None => context.authorise(envelope, capability, *now)?,
                Some(topic) => context.authorise_broadcast(envelope, topic, capability, *now)?,
            }
        }
        envelope.verify(*now)
    }

    /// The acceptance holds as long as the envelope and each token that it rests on.
    fn accepted(&self, envelope: &Envelope, sender: &Did, tokens: &[Token]) -> Report {
        let Self { context, capabilities, topic, now } = self;
        let usage =
            topic.as_ref().map_or(Usage::Invocation { audience: &context.did }, |topic| Usage::Broadcast { topic });
        let carrying = |capability: &Capability| {
            tokens.iter().find(|token| context.check(token, sender, &usage, capability, *now).is_ok())
        };
        let carriers: Vec<_> = capabilities.iter().filter_map(carrying).collect();
        let not_after = carriers.iter().map(|token| token.not_after()).fold(envelope.expires, Nanos::min);
        let paths = capabilities.iter().map(Capability::as_str).collect::<Vec<_>>().join(" and ");
        let message = match topic {
            None => format!("{sender} may invoke {paths} at {} until {not_after}", context.did),
            Some(topic) => format!("{sender} may broadcast {paths} on {topic} until {not_after}"),
        };
        Report::accepted(carriers.first().copied().or(tokens.first()), not_after, message)
    }
}

#[cfg(test)]
mod tests;
