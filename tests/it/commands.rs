//! Every `kubectl hosting …` that is named to anybody, in a message, a help text or a page, is a command of the binary.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;
use dms_operator::command::Arguments;

use crate::{definitions::root, timed::Timed};

const PREFIX: &str = "kubectl hosting";
/// Commands that are named and not there yet. Each entry is a debt, and one that is paid must go.
const NOT_YET_THERE: &[&str] = &[];

/// Every file below a path.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// Without indentation and marks of comments, and with continued lines joined.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    for line in text.lines() {
        plain.push_str(line.trim_start_matches([' ', '/', '!', '#']));
        if plain.ends_with('\\') {
            plain.pop();
        } else {
            plain.push('\n');
        }
    }
    plain
}

/// The words after each mention: up to the closing backtick, or else on the same line of shell.
fn mentions(text: &str) -> Vec<String> {
    let text = plain(text);
    let mention = |(at, _): (usize, &str)| {
        let rest = &text[at + PREFIX.len()..];
        let rest = rest.starts_with([' ', '\n']).then_some(rest)?;
        let paragraph = rest.split("\n\n").next()?;
        let quoted = text[..at].ends_with('`');
        let ends: &[char] = if quoted { &['`'] } else { &['\n', '`', '"', '\'', ',', ')'] };
        let words = if quoted { paragraph } else { paragraph.trim_start() }.split(ends).next()?;
        let command = words.split(['|', '>', ';']).next()?;
        Some(command.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    text.match_indices(PREFIX).filter_map(mention).collect()
}

/// Whether the binary takes these subcommands and options; what is between them stands for anything.
fn exists(words: &str) -> Result<(), String> {
    let mut command = Arguments::command();
    command.build();
    let mut words = words.split(' ').filter(|word| !word.is_empty() && *word != "…").peekable();
    while command.has_subcommands() {
        let Some(word) = words.next() else { return Ok(()) };
        command = command.find_subcommand(word).cloned().ok_or(format!("there is no command {word}"))?;
    }
    for word in words.filter(|word| word.starts_with('-')) {
        let known = command.get_arguments().any(|argument| {
            argument.get_long().is_some_and(|long| word == format!("--{long}"))
                || argument.get_short().is_some_and(|short| word == format!("-{short}"))
        });
        if !known {
            return Err(format!("{} has no option {word}", command.get_name()));
        }
    }
    Ok(())
}

#[test]
fn every_command_that_is_named_exists() {
    let _timed = Timed::start();
    let mut seen = 0;
    let mut owed = BTreeSet::new();
    for file in
        ["README.md", "src", "docs", "crds", "charts", "examples"].iter().flat_map(|path| files(&root().join(path)))
    {
        for mention in mentions(&fs::read_to_string(&file).unwrap()) {
            seen += 1;
            if let Err(cause) = exists(&mention) {
                let debt = NOT_YET_THERE.iter().find(|debt| mention.starts_with(**debt));
                owed.insert(*debt.unwrap_or_else(|| panic!("{}: {PREFIX} {mention}: {cause}", file.display())));
            }
        }
    }
    assert!(seen >= 60, "only {seen} mentions were found");
    assert_eq!(owed, NOT_YET_THERE.iter().copied().collect(), "what exists or is not named any more is no debt");
}

#[test]
fn mentions_are_read_wherever_they_stand() {
    let text = "run `kubectl hosting\n    /// sign -f A | kubectl apply -f -` or\n$ kubectl hosting token grant --to X…  \\\n   \
                --out Y > z\nlet a = \"kubectl hosting crd\"; kubectl hosting-other, `kubectl hosting …`, kubectl-hosting x";
    assert_eq!(mentions(text), ["sign -f A", "token grant --to X… --out Y", "crd", "…"]);
    for right in ["", "…", "sign", "sign -f A --key B", "token", "token grant --to X… --out Y", "token inspect --help"]
    {
        assert_eq!(exists(right), Ok(()), "{right}");
    }
    for wrong in ["publish", "token publish", "sign --nothing", "sign -y A", "wallet new --to X"] {
        assert!(exists(wrong).is_err(), "{wrong}");
    }
}
