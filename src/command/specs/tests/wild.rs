//! Texts of every style, by chance.

use proptest::prelude::*;
use serde_json::{Map, json};

use super::texts::pretty::pairs;
use super::*;

/// Throws dice, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.next(sides) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[usize::try_from(self.next(choices.len() as u64)).unwrap()]
    }

    fn text(&mut self) -> String {
        let parts = ["a", "b c", ": ", " #x", "'", "\"", "ü", "{", "- ", "\\", "1", "\n", "&a ", "*b", "%", "no"];
        (0..self.next(5)).map(|_| self.of(&parts)).collect()
    }
}

/// An object as people and tools write it, signed or not.
fn object(dice: &mut Dice) -> Value {
    let mut metadata = Map::from_iter([("name".to_owned(), json!("web"))]);
    if dice.one_in(2) {
        metadata.insert("namespace".to_owned(), json!("shop"));
    }
    if dice.one_in(2) {
        let texts: Map<String, Value> =
            (0..dice.next(4)).map(|number| (format!("k/{number}"), dice.text().into())).collect();
        metadata.insert("annotations".to_owned(), texts.into());
    }
    let mut content = Map::from_iter([("from".to_owned(), json!({"configMap": {"name": "page"}}))]);
    match dice.next(3) {
        0 => drop(content.insert("release".to_owned(), json!("auto"))),
        1 => drop(content.insert("release".to_owned(), json!(release_of("y")))),
        _ => {}
    }
    let mut spec = Map::from_iter([
        ("providerRef".to_owned(), json!({"namespace": "dms-operator", "name": "default"})),
        ("content".to_owned(), content.into()),
    ]);
    if dice.one_in(2) {
        spec.insert("owner".to_owned(), key(2).did().as_str().into());
    }
    if dice.one_in(2) {
        spec.insert("onExpiry".to_owned(), "Stop".into());
    }
    match dice.next(4) {
        0 => drop(spec.insert("authorization".to_owned(), Value::Null)),
        1 => drop(spec.insert("authorization".to_owned(), json!({"invocation": "b2xk"}))),
        2 => drop(spec.insert("authorization".to_owned(), json!({}))),
        _ => {}
    }
    json!({"apiVersion": "hosting.nunet.io/v1alpha1", "kind": "HostingDeployment", "metadata": metadata, "spec": spec})
}

/// Writes a value in a style that the dice choose.
struct Writer<'a> {
    dice: &'a mut Dice,
    line_end: &'static str,
}

impl Writer<'_> {
    fn noise(&mut self, indent: usize) -> String {
        let mut out = String::new();
        while self.dice.one_in(3) {
            let blank = if self.dice.one_in(2) {
                String::new()
            } else {
                format!("{}# it's: {{a}} \"comment\"", " ".repeat(indent))
            };
            out.push_str(&blank);
            out.push_str(self.line_end);
        }
        out
    }

    fn end_of_line(&mut self) -> String {
        let comment = if self.dice.one_in(4) { self.dice.of(&[" # c", "   #", " # {x: y}"]) } else { "" };
        format!("{comment}{}", self.line_end)
    }

    fn scalar(&mut self, value: &Value, flow: bool) -> String {
        let Value::String(text) = value else { return value.to_string() };
        let simple = text.starts_with(|first: char| first.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "-./".contains(c) || (!flow && c == ':'))
            && text != "no";
        match self.dice.next(3) {
            0 if simple => text.clone(),
            1 if !text.contains('\n') && !text.is_empty() => format!("'{}'", text.replace('\'', "''")),
            _ => Value::from(text.as_str()).to_string(),
        }
    }

    fn key(&mut self, key: &str) -> String {
        match self.dice.next(4) {
            0 => format!("\"{key}\""),
            1 => format!("'{key}'"),
            _ => key.to_owned(),
        }
    }

    fn flow(&mut self, value: &Value) -> String {
        let Value::Object(members) = value else { return self.scalar(value, true) };
        let members: Vec<String> = shuffled(self.dice, members)
            .into_iter()
            .map(|(key, value)| format!("{}: {}", self.key(&key), self.flow(&value)))
            .collect();
        let (open, close) = match self.dice.next(3) {
            0 => ("{ ", " }"),
            _ => ("{", "}"),
        };
        let trailing = if !members.is_empty() && self.dice.one_in(5) { "," } else { "" };
        format!("{open}{}{trailing}{close}", members.join(self.dice.of(&[", ", ",", " , "])))
    }

    /// The lines of a mapping.
    fn block(&mut self, members: &Map<String, Value>, indent: usize) -> String {
        let step = 1 + usize::try_from(self.dice.next(4)).unwrap();
        let mut out = String::new();
        for (key, value) in shuffled(self.dice, members) {
            out.push_str(&self.noise(indent));
            let key = self.key(&key);
            out.push_str(&" ".repeat(indent));
            out.push_str(&key);
            out.push(':');
            let rest = match &value {
                Value::Object(inner) if !inner.is_empty() && !self.dice.one_in(4) => {
                    let end = self.end_of_line();
                    format!("{end}{}", self.block(inner, indent + step))
                }
                Value::Object(_) => format!(" {}{}", self.flow(&value), self.end_of_line()),
                Value::Null => format!("{}{}", self.dice.of(&["", " null", " ~"]), self.end_of_line()),
                Value::String(text) if fits_a_block(text) && self.dice.one_in(3) => {
                    let header = self.dice.of(&[" |-", " >-", "   |- # c"]);
                    format!("{header}{}{}{text}{}", self.line_end, " ".repeat(indent + step), self.line_end)
                }
                value => format!("{}{}{}", self.dice.of(&[" ", "  "]), self.scalar(value, false), self.end_of_line()),
            };
            out.push_str(&rest);
        }
        out
    }
}

fn fits_a_block(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || ":+/=-.".contains(c))
}

fn shuffled(dice: &mut Dice, members: &Map<String, Value>) -> Vec<(String, Value)> {
    let mut left: Vec<_> = members.clone().into_iter().collect();
    let mut out = Vec::new();
    while !left.is_empty() {
        out.push(left.swap_remove(usize::try_from(dice.next(left.len() as u64)).unwrap()));
    }
    out
}

/// A stream with the page and some objects, and what it says.
fn text(dice: &mut Dice) -> (String, Vec<Value>) {
    let line_end = if dice.one_in(4) { "\r\n" } else { "\n" };
    let page = stream(PAGE).remove(0);
    let mut values = vec![page];
    values.extend((0..=dice.next(2)).map(|_| object(dice)));
    let mut out = String::new();
    let mut writer = Writer { dice, line_end };
    for (value, number) in values.iter().zip(0..) {
        if number > 0 || writer.dice.one_in(2) {
            out.push_str("---");
            out.push_str(line_end);
        }
        let members = value.as_object().unwrap();
        let whole =
            if writer.dice.one_in(6) { format!("{}{line_end}", writer.flow(value)) } else { writer.block(members, 0) };
        out.push_str(&writer.noise(0));
        out.push_str(&whole);
        out.push_str(&writer.noise(0));
    }
    if dice.one_in(3) {
        out.truncate(out.trim_end().len());
    }
    (out, values)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn whatever_its_style_only_what_signing_writes_changes(seed in any::<u64>()) {
        let (before, values) = text(&mut Dice(seed));
        let stream = Stream::parse(before.clone()).unwrap();
        prop_assert_eq!(stream.documents(), &values[..], "the test wrote something else:\n{}", before);
        let mut wanted = values.clone();
        let count = owner().sign_all(&mut wanted).unwrap().len();
        let after = match stream.rewritten(&wanted) {
            Ok(after) => after,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{before}"))),
        };
        let read = super::stream(&after);
        prop_assert_eq!(&read, &wanted, "{}\n{}", before, after);
        for object in read.iter().filter(|object| is_deployment(object)) {
            accepted_signer(object);
        }
        // All other lines are there, in their order.
        let (gone, _) = pairs(&before.replace('\r', ""), &after.replace('\r', ""));
        let touched = ["metadata", "spec", "release", "authorization", "invocation", "sha256:", "auto", "b2xk", "content", "{"];
        prop_assert!(gone.len() <= 8 * count, "{}\n{}", before, after);
        for line in gone {
            prop_assert!(touched.iter().any(|word| line.contains(word)), "{:?} is gone\n{}\n{}", line, before, after);
        }

        let later = Signing { now: NOW.plus(Duration::from_secs(1)), ..owner() };
        let mut renewed = wanted.clone();
        later.sign_all(&mut renewed).unwrap();
        let twice = Stream::parse(after.clone()).unwrap().rewritten(&renewed).unwrap();
        let (once, twice): (Vec<&str>, Vec<&str>) = (after.lines().collect(), twice.lines().collect());
        prop_assert_eq!(once.len(), twice.len());
        let differing = once.iter().zip(&twice).filter(|(one, other)| one != other);
        prop_assert_eq!(differing.filter(|(one, _)| one.contains("eyJ")).count(), count);
    }
}
