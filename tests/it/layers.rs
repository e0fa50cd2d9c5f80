//! The order of the rooms, the purity of the pure ones, and the words and sizes that the design holds.

use std::{collections::BTreeSet, fs, iter::Peekable, str::Chars};

use crate::{definitions::root, fields::rust_files};

/// Room → rooms that it may name. What is not listed is forbidden, so a new room has to be placed here.
const ORDER: &[(&str, &[&str])] = &[
    ("capability", &[]),
    ("api", &["capability"]),
    ("plan", &["api", "capability"]),
    ("usage", &["api", "capability"]),
    ("telemetry", &[]),
    ("metrics", &["api", "capability", "usage"]),
    ("server", &["metrics"]),
    ("config", &["api", "plan", "telemetry"]),
    ("store", &["api", "capability", "metrics", "plan", "usage"]),
    ("device", &["api", "capability", "metrics", "plan", "usage"]),
    ("gateway", &["api", "capability", "metrics", "plan", "store", "usage"]),
    (
        "controller",
        &[
            "api",
            "capability",
            "config",
            "device",
            "gateway",
            "metrics",
            "plan",
            "server",
            "store",
            "telemetry",
            "usage",
        ],
    ),
    (
        "dev",
        &[
            "api",
            "capability",
            "config",
            "controller",
            "device",
            "gateway",
            "metrics",
            "plan",
            "server",
            "store",
            "telemetry",
            "usage",
        ],
    ),
    (
        "command",
        &[
            "api",
            "capability",
            "config",
            "controller",
            "dev",
            "device",
            "gateway",
            "metrics",
            "plan",
            "server",
            "store",
            "telemetry",
            "usage",
        ],
    ),
];

/// Rooms that take `now` and their inputs, and what they therefore never name.
const PURE: &[&str] = &["api", "capability", "plan", "usage"];
const IMPURE: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "Utc::now",
    "getrandom",
    "rand::",
    "tokio::",
    "reqwest",
    "kube::Client",
    "kube::client",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
];

/// Words that say nothing about what a thing does.
const EMPTY_WORDS: &[&str] = &["manager", "handler", "processor", "helper", "utils"];
/// Other people's names for their own things.
const FOREIGN_NAMES: &[&str] = &["field_manager", "controller_manager"];

/// One file of `src`, without comments and without the contents of strings.
struct Source {
    /// Path below `src`, with `/`.
    path: String,
    room: String,
    code: String,
    lines: usize,
}

impl Source {
    /// How many `super::` lead from this file's module to the root of the crate.
    fn depth(&self) -> usize {
        let stem = self.path.strip_suffix(".rs").unwrap();
        stem.strip_suffix("/mod").unwrap_or(stem).split('/').count()
    }

    /// The code without its unit tests, which stand at the end of a file or in a file of their own.
    fn product_code(&self) -> &str {
        if self.path.split('/').any(|part| part == "tests.rs" || part == "tests") {
            return "";
        }
        let tests = self.code.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|&at| {
            self.code[at..].lines().nth(1).is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
        });
        &self.code[..tests.unwrap_or(self.code.len())]
    }
}

fn sources() -> Vec<Source> {
    let folder = root().join("src");
    rust_files(&folder)
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let path = file.strip_prefix(&folder).unwrap().to_string_lossy().replace('\\', "/");
            let room = path.split(['/', '.']).next().unwrap().to_owned();
            Source { path, room, code: code_only(&text), lines: text.lines().count() }
        })
        .filter(|source| source.room != "main" && source.room != "lib")
        .collect()
}

/// Replaces comments by nothing and string contents by nothing, and keeps every line break.
fn code_only(text: &str) -> String {
    let mut code = String::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '/' if chars.peek() == Some(&'/') => {
                skip_until(&mut chars, &mut code, |rest| rest.peek() == Some(&'\n'));
            }
            '/' if chars.peek() == Some(&'*') => skip_block_comment(&mut chars, &mut code),
            'r' if is_raw_string(&chars) && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                skip_raw_string(&mut chars, &mut code);
            }
            '"' => skip_string(&mut chars, &mut code),
            '\'' => skip_character(&mut chars),
            _ => code.push(char),
        }
    }
    code
}

fn skip_until(chars: &mut Peekable<Chars<'_>>, code: &mut String, end: impl Fn(&mut Peekable<Chars<'_>>) -> bool) {
    while chars.peek().is_some() && !end(chars) {
        if chars.next() == Some('\n') {
            code.push('\n');
        }
    }
}

fn skip_block_comment(chars: &mut Peekable<Chars<'_>>, code: &mut String) {
    skip_until(chars, code, |rest| {
        let mut ahead = rest.clone();
        ahead.next() == Some('*') && ahead.next() == Some('/')
    });
    chars.next();
    chars.next();
}

fn is_raw_string(chars: &Peekable<Chars<'_>>) -> bool {
    let mut ahead = chars.clone();
    while ahead.peek() == Some(&'#') {
        ahead.next();
    }
    // `r#name` is an identifier: it has no quote after its hash.
    ahead.peek() == Some(&'"')
}

fn skip_raw_string(chars: &mut Peekable<Chars<'_>>, code: &mut String) {
    let mut hashes = 0;
    while chars.next() == Some('#') {
        hashes += 1;
    }
    let end: String = std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
    skip_until(chars, code, |rest| rest.clone().take(end.len()).eq(end.chars()));
    for _ in 0..end.len() {
        chars.next();
    }
    code.push_str("\"\"");
}

fn skip_string(chars: &mut Peekable<Chars<'_>>, code: &mut String) {
    while let Some(char) = chars.next() {
        match char {
            // A line that is continued stays a line.
            '\\' if chars.next() == Some('\n') => code.push('\n'),
            '\n' => code.push('\n'),
            '"' => break,
            _ => {}
        }
    }
    code.push_str("\"\"");
}

/// A character literal can hold a quote; a lifetime only loses its tick.
fn skip_character(chars: &mut Peekable<Chars<'_>>) {
    let mut ahead = chars.clone();
    let escaped = ahead.next() == Some('\\');
    if escaped {
        chars.next();
        chars.next();
        while chars.peek().is_some_and(|char| *char != '\'') {
            chars.next();
        }
        chars.next();
    } else if ahead.next() == Some('\'') {
        chars.next();
        chars.next();
    }
}

/// The first path segments after each `crate::`, groups opened.
fn named_rooms(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_segments(group)),
            None => found.extend(leading_word(rest)),
        }
    }
    found
}

fn first_segments(group: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let mut depth = 0_usize;
    let mut at_start = true;
    for (position, char) in group.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_start = true,
            _ if char.is_whitespace() => {}
            _ if at_start => {
                segments.extend(leading_word(&group[position..]));
                at_start = false;
            }
            _ => {}
        }
    }
    segments
}

fn leading_word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!word.is_empty()).then_some(word)
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The longest chain of `super::` in the code.
fn longest_climb(code: &str) -> usize {
    code.match_indices("super::")
        .map(|(at, _)| code.as_bytes()[at..].chunks(7).take_while(|chunk| *chunk == b"super::").count())
        .max()
        .unwrap_or(0)
}

#[test]
fn rooms_name_only_rooms_below_them() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((_, below)) = ORDER.iter().find(|(room, _)| *room == source.room) else {
            wrong.push(format!("src/{}: the room {} has no place in ORDER", source.path, source.room));
            continue;
        };
        for named in named_rooms(&source.code) {
            if named != source.room && !below.contains(&named.as_str()) {
                wrong.push(format!("src/{}: {} may not name crate::{named}", source.path, source.room));
            }
        }
        let tests = &source.code[source.product_code().len()..];
        if longest_climb(source.product_code()) >= source.depth() || longest_climb(tests) > source.depth() {
            wrong.push(format!("src/{}: write crate:: instead of climbing to the root by super::", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_take_now_and_their_inputs() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.room.as_str())) {
        for forbidden in IMPURE {
            let found = source.product_code().match_indices(forbidden).any(|(at, _)| {
                // `operand::` is not `rand::`.
                !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
            });
            if found {
                wrong.push(format!("src/{}: {forbidden}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_stay_short() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.lines > 500)
        .map(|source| format!("src/{}: {} lines", source.path, source.lines))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn identifiers_say_what_a_thing_does() {
    let mut wrong = BTreeSet::new();
    for source in sources() {
        for word in words(&source.code) {
            let mut lower = word.to_lowercase();
            for foreign in FOREIGN_NAMES {
                lower = lower.replace(foreign, "");
            }
            if EMPTY_WORDS.iter().any(|empty| lower.contains(empty)) {
                wrong.insert(format!("src/{}: {word}", source.path));
            }
        }
        for part in source.path.split(['/', '.']) {
            if EMPTY_WORDS.iter().any(|empty| part.contains(empty)) {
                wrong.insert(format!("src/{}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_reader_of_sources_sees_code_only() {
    let code = code_only(
        "a // crate::x\nb /* crate::y \"\n */ c \"crate::z \\\" // \" d r#\"crate::\"w\"# e 'x' '\"' '\\'' &'a f\n'\\u{1F600}' r#type",
    );
    assert_eq!(code, "a \nb \n c \"\" d \"\" e    &a f\n r#type");
    let rooms = named_rooms("use crate::{a::{b, c::{d}}, e, f::*,\n g}; crate::h::i(); $crate::j; mycrate::k");
    assert_eq!(rooms.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "e", "f", "g", "h", "j"]);
    assert_eq!(longest_climb("super::a; super::super::b"), 2);
    let source = |path: &str, code: &str| Source { path: path.into(), room: "x".into(), code: code.into(), lines: 0 };
    assert_eq!(source("x.rs", "").depth(), 1);
    assert_eq!(source("x/mod.rs", "").depth(), 1);
    assert_eq!(source("x/y/z.rs", "").depth(), 3);
    assert_eq!(source("x.rs", "a\n#[cfg(test)]\nmod tests {\nb").product_code(), "a\n");
    assert_eq!(source("x.rs", "a\n#[cfg(test)]\nmod tests;\nb").product_code(), "a\n#[cfg(test)]\nmod tests;\nb");
}
