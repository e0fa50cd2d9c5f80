//! Values that are right but as awkward as they can be, and spellings of their JSON that only a strict reader and Go's
//! must take for the same.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::capability::{ActorId, Capability, Contract, Handle, Key, Location};
use proptest::{collection::vec, option, prelude::*, sample::select};

const AWKWARD: [char; 44] = [
    '<',
    '>',
    '&',
    '"',
    '\\',
    '/',
    '\'',
    '\u{2028}',
    '\u{2029}',
    '\u{2027}',
    '\u{202a}',
    '\0',
    '\u{1}',
    '\u{7}',
    '\u{8}',
    '\t',
    '\n',
    '\u{b}',
    '\u{c}',
    '\r',
    '\u{e}',
    '\u{1f}',
    ' ',
    '\u{7f}',
    '\u{80}',
    '\u{85}',
    '\u{a0}',
    '\u{d7ff}',
    '\u{e000}',
    '\u{fdd0}',
    '\u{feff}',
    '\u{fffd}',
    '\u{fffe}',
    '\u{ffff}',
    '\u{10000}',
    '\u{10ffff}',
    '\u{17f}',
    '\u{212a}',
    '\u{301}',
    '\u{200d}',
    '😀',
    '👩',
    'é',
    'u',
];

pub fn letter() -> impl Strategy<Value = char> + Clone {
    prop_oneof![4 => select(&AWKWARD[..]), 1 => any::<char>(), 1 => (0..=127_u8).prop_map(char::from)]
}

pub fn text() -> impl Strategy<Value = String> + Clone {
    vec(letter(), 0..16).prop_map(String::from_iter)
}

pub fn some_text() -> impl Strategy<Value = String> + Clone {
    vec(letter(), 1..12).prop_map(String::from_iter)
}

pub fn integer() -> impl Strategy<Value = u64> + Clone {
    let edges = [0, 1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, i64::MAX as u64, 1 << 63, u64::MAX - 1, u64::MAX];
    prop_oneof![select(edges.to_vec()), any::<u64>()]
}

pub fn bytes() -> impl Strategy<Value = Vec<u8>> + Clone {
    prop_oneof![4 => vec(any::<u8>(), 0..5), 1 => vec(any::<u8>(), 200..3000)]
}

/// One part of a path.
pub fn segment() -> impl Strategy<Value = String> + Clone {
    let letter = letter().prop_filter("no letter of a path", |letter| *letter >= ' ' && *letter != '/');
    vec(letter, 1..6).prop_map(String::from_iter).prop_filter("no part of a path", |part| part != "." && part != "..")
}

pub fn path() -> impl Strategy<Value = Capability> + Clone {
    vec(segment(), 0..4).prop_map(|parts| Capability::parse(&format!("/{}", parts.join("/"))).unwrap())
}

pub fn key() -> impl Strategy<Value = Key> + Clone {
    any::<[u8; 32]>().prop_map(Key::from_seed)
}

pub fn handle() -> impl Strategy<Value = Handle> + Clone {
    let id = prop_oneof![
        Just(ActorId::default()),
        key().prop_map(|key| ActorId::of(key.did())),
        vec(any::<u8>(), 0..40).prop_map(|raw| ActorId::parse(&data_encoding::BASE32.encode(&raw)).unwrap()),
    ];
    let did = option::of(key().prop_map(|key| key.did().clone()));
    (id, did, option::of(some_text()), option::of(some_text())).prop_map(|(id, did, host, inbox)| Handle {
        id,
        did,
        host,
        inbox,
    })
}

pub fn location() -> impl Strategy<Value = Location> + Clone {
    (text(), text(), text(), text(), text()).prop_map(|(continent, country, city, asn, isp)| Location {
        continent,
        country,
        city,
        asn,
        isp,
    })
}

pub fn contract() -> impl Strategy<Value = Contract> + Clone {
    (text(), text(), text(), text()).prop_map(|(did, host, provider, requestor)| Contract {
        did,
        host,
        provider,
        requestor,
    })
}

/// A JSON value before it is decided how it is spelled.
#[derive(Clone, Debug)]
pub enum Doc {
    Number(u64),
    Text(String),
    List(Vec<Doc>),
    Object(Vec<(&'static str, Doc)>),
}

impl Doc {
    pub fn base64(raw: &[u8]) -> Self {
        Self::Text(STANDARD.encode(raw))
    }

    /// The JSON, with the choices that its form leaves taken one after the other; all 0: the plainest.
    pub fn spelled(&self, choices: &[u8]) -> Vec<u8> {
        let mut out = String::new();
        Spelling { choices, at: 0 }.write(&mut out, self);
        out.into_bytes()
    }
}

struct Spelling<'a> {
    choices: &'a [u8],
    at: usize,
}

impl Spelling<'_> {
    fn choose(&mut self, among: usize) -> usize {
        self.at += 1;
        self.choices.get(self.at % self.choices.len().max(1)).map_or(0, |choice| usize::from(*choice) % among)
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(["", "", "", "", " ", "\n", "\t\r", "  "][self.choose(8)]);
    }

    fn write(&mut self, out: &mut String, doc: &Doc) {
        self.space(out);
        match doc {
            Doc::Number(number) => out.push_str(&number.to_string()),
            Doc::Text(text) => self.text(out, text),
            Doc::List(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    self.write(out, item);
                }
                self.space(out);
                out.push(']');
            }
            Doc::Object(members) => self.object(out, members.clone()),
        }
        self.space(out);
    }

    fn object(&mut self, out: &mut String, mut left: Vec<(&'static str, Doc)>) {
        out.push('{');
        while !left.is_empty() {
            // Half of the objects stay in their order.
            let next = if self.choose(2) == 0 { 0 } else { self.choose(left.len()) };
            let (name, value) = left.remove(next);
            self.space(out);
            self.text(out, name);
            self.space(out);
            out.push(':');
            self.write(out, &value);
            out.push_str(if left.is_empty() { "" } else { "," });
        }
        self.space(out);
        out.push('}');
    }

    fn text(&mut self, out: &mut String, text: &str) {
        out.push('"');
        for letter in text.chars() {
            let must = letter < ' ' || letter == '"' || letter == '\\';
            let short = match letter {
                '"' | '\\' | '/' => Some(letter),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                '\u{8}' => Some('b'),
                '\u{c}' => Some('f'),
                _ => None,
            };
            match (self.choose(5), short) {
                (0..=2, _) if !must => out.push(letter),
                (0..=2, Some(short)) => out.extend(['\\', short]),
                (3, _) => escaped(out, letter, |unit| format!("\\u{unit:04x}")),
                _ => escaped(out, letter, |unit| format!("\\u{unit:04X}")),
            }
        }
        out.push('"');
    }
}

fn escaped(out: &mut String, letter: char, write: impl Fn(u16) -> String) {
    for unit in letter.encode_utf16(&mut [0; 2]) {
        out.push_str(&write(*unit));
    }
}
