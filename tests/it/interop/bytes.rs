//! What is read here is written as Go's own encoder writes it.

use std::cell::Cell;

use dms_operator::capability::{
    Handle, MAX_CAPABILITIES,
    rewrite::{Kind, rewrite},
};
use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{Index, select},
};

use super::{
    answers::{GoAnswers, runner, shown},
    hostile::{Doc, bytes, handle, integer, key, path, some_text, text},
};
use crate::timed::Timed;

const CASES: u32 = 500;

fn name_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "string",
        Kind::Integer => "uint64",
        Kind::Bytes => "bytes",
        Kind::Did => "did",
        Kind::ActorId => "id",
        Kind::Handle => "handle",
        Kind::Token => "token",
        Kind::TokenList => "tokenlist",
        Kind::Envelope => "envelope",
        Kind::Context => "context-file",
    }
}

fn did_doc() -> impl Strategy<Value = Doc> + Clone {
    key().prop_map(|key| Doc::Object(vec![("uri", Doc::Text(key.did().to_string()))]))
}

/// A DID, or none.
fn did_or_none() -> impl Strategy<Value = Doc> + Clone {
    prop_oneof![Just(Doc::Object(vec![])), did_doc()]
}

fn optional(name: &'static str, value: Option<Doc>) -> Option<(&'static str, Doc)> {
    value.map(|value| (name, value))
}

fn handle_doc(handle: Handle) -> Doc {
    let Handle { id, did, host, inbox } = handle;
    let address = [optional("host", host.map(Doc::Text)), optional("inbox", inbox.map(Doc::Text))];
    Doc::Object(vec![
        ("id", Doc::Object(vec![("pub", Doc::Text(id.to_string()))])),
        ("did", Doc::Object(did.map(|did| ("uri", Doc::Text(did.to_string()))).into_iter().collect())),
        ("addr", Doc::Object(address.into_iter().flatten().collect())),
    ])
}

/// The members of one link, signed by nobody.
fn link() -> impl Strategy<Value = Vec<(&'static str, Doc)>> + Clone {
    let paths = |some| vec(path().prop_map(|path| Doc::Text(path.as_str().to_owned())), some);
    (
        select(vec!["invoke", "delegate", "broadcast", "revoke"]),
        did_doc(),
        did_doc(),
        did_or_none(),
        option::of(paths(1..3)),
        paths(0..4),
        any::<[u8; 12]>(),
        integer(),
        option::of(integer().prop_filter("0 is left out", |depth| *depth > 0)),
        vec(any::<u8>(), 64),
    )
        .prop_map(|(action, issuer, subject, audience, topics, paths, nonce, expires, depth, signature)| {
            let members = [
                Some(("act", Doc::Text(action.to_owned()))),
                Some(("iss", issuer)),
                Some(("sub", subject)),
                Some(("aud", audience)),
                optional("topic", topics.map(Doc::List)),
                Some(("cap", Doc::List(paths))),
                Some(("nonce", Doc::base64(&nonce))),
                Some(("exp", Doc::Number(expires))),
                optional("depth", depth.map(Doc::Number)),
                Some(("sig", Doc::base64(&signature))),
            ];
            members.into_iter().flatten().collect()
        })
}

fn token() -> impl Strategy<Value = Doc> + Clone {
    vec(link(), 1..=8).prop_map(|links| {
        let wrapped = |link| Doc::Object(vec![("dms", Doc::Object(link))]);
        let chained = |above: Option<Doc>, mut link: Vec<_>| {
            link.extend(optional("chain", above));
            Some(wrapped(link))
        };
        links.into_iter().fold(None, chained).unwrap()
    })
}

fn token_list() -> impl Strategy<Value = Doc> + Clone {
    vec(token(), 0..3).prop_map(|tokens| Doc::Object(vec![("tok", Doc::List(tokens))]))
}

fn envelope() -> impl Strategy<Value = Doc> + Clone {
    let signature = option::of(vec(any::<u8>(), 64));
    let some_bytes = option::of(bytes().prop_filter("none is left out", |bytes| !bytes.is_empty()));
    (handle(), text(), handle(), integer(), integer(), option::of(some_text()), option::of(some_text()), bytes())
        .prop_flat_map(move |parts| (Just(parts), some_bytes.clone(), signature.clone()))
        .prop_map(|((to, behaviour, from, nonce, expires, reply, topic, message), capabilities, signature)| {
            let options = [
                Some(("exp", Doc::Number(expires))),
                optional("cont", reply.map(Doc::Text)),
                optional("topic", topic.map(Doc::Text)),
            ];
            let members = [
                Some(("to", handle_doc(to))),
                Some(("be", Doc::Text(behaviour))),
                Some(("from", handle_doc(from))),
                Some(("nonce", Doc::Number(nonce))),
                Some(("opt", Doc::Object(options.into_iter().flatten().collect()))),
                Some(("msg", Doc::base64(&message))),
                optional("cap", capabilities.map(|raw| Doc::base64(&raw))),
                optional("sig", signature.map(|raw| Doc::base64(&raw))),
            ];
            Doc::Object(members.into_iter().flatten().collect())
        })
}

fn context() -> impl Strategy<Value = Doc> + Clone {
    let old = any::<bool>();
    (old, did_doc(), vec(did_doc(), 0..3), token_list(), token_list(), token_list()).prop_map(
        |(old, did, roots, require, provide, revoke)| {
            let names = if old {
                ["DID", "Roots", "Require", "Provide", "Revoke"]
            } else {
                ["did", "roots", "require", "provide", "revoke"]
            };
            Doc::Object(names.into_iter().zip([did, Doc::List(roots), require, provide, revoke]).collect())
        },
    )
}

fn values() -> impl Strategy<Value = (Kind, Doc)> + Clone {
    prop_oneof![
        6 => text().prop_map(|text| (Kind::Text, Doc::Text(text))),
        1 => integer().prop_map(|number| (Kind::Integer, Doc::Number(number))),
        2 => bytes().prop_map(|raw| (Kind::Bytes, Doc::base64(&raw))),
        1 => did_or_none().prop_map(|did| (Kind::Did, did)),
        1 => handle().prop_map(|handle| (Kind::ActorId, Doc::Object(vec![("pub", Doc::Text(handle.id.to_string()))]))),
        2 => handle().prop_map(|handle| (Kind::Handle, handle_doc(handle))),
        3 => token().prop_map(|token| (Kind::Token, token)),
        1 => token_list().prop_map(|list| (Kind::TokenList, list)),
        3 => envelope().prop_map(|envelope| (Kind::Envelope, envelope)),
        1 => context().prop_map(|context| (Kind::Context, context)),
    ]
}

#[test]
fn go_writes_what_is_written_here() {
    let _timed = Timed::start();
    let go = GoAnswers::start("rewrite");
    let spelled = (values(), vec(any::<u8>(), 0..64));
    let run = runner(CASES).run(&spelled, |((kind, doc), choices)| {
        let mut json = doc.spelled(&choices);
        if kind == Kind::Token && json.len() > MAX_CAPABILITIES {
            json = doc.spelled(&[]);
        }
        let here = rewrite(kind, &json);
        prop_assert!(here.is_ok(), "{kind:?}: refused, though it is right: {here:?}\n{}", shown(&json));
        let here = here.unwrap();
        let there = go.ask_about(name_of(kind), &json).map_err(TestCaseError::fail)?;
        prop_assert_eq!(shown(&here), shown(&there), "of {}", shown(&json));
        // And what is written here is read there, and stays as it is.
        prop_assert_eq!(go.ask_about(name_of(kind), &here), Ok(here));
        Ok(())
    });
    run.unwrap();
}

/// What makes readers differ, put into JSON that is right.
const PIECES: &[&[u8]] = &[
    br"\ud800",
    br"\udfff",
    br"\ud83d\ude00",
    br"\ude00\ud83d",
    br"\ud83d\u0041",
    br"\u0000",
    br"\u003c",
    br"\u2028",
    br"\u",
    br"\x41",
    br"\/",
    br"\'",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xe2\x82",
    b"\xc0\xaf",
    b"\xf4\x90\x80\x80",
    b"\xe2\x80\xa8",
    b"\x7f",
    b"\x00",
    b"\n",
    b"<&>",
    b"null",
    b"-0",
    b"1e3",
    b"1.0",
    b"18446744073709551616",
    b"00",
    b"[]",
    b"{}",
    br#""""#,
    b",",
    b" ",
    b"=",
    b"_-",
];
/// The same as members of an object: most are there already, under this name or one that Go takes for it.
const MEMBERS: &[&[u8]] = &[
    br#""exp":1,"#,
    br#""EXP":1,"#,
    br#""nonce":1,"#,
    br#""nonce":"AAAAAAAAAAAAAAAA","#,
    br#""cap":["/x"],"#,
    br#""cap":null,"#,
    br#""act":"invoke","#,
    br#""sub":{},"#,
    br#""\u017fub":{},"#,
    br#""be":"x","#,
    br#""msg":"AA==","#,
    br#""pub":"","#,
    br#""uri":"did:key:z6Mko9hTggMwjSTEaJaPUfE6tqcy2xvU6BnNq3e3o8qVBiyH","#,
    br#""host":"x","#,
    br#""x":1,"#,
    br#""depth":0,"#,
    br#""depth":7,"#,
];

fn spoiling() -> impl Strategy<Value = (&'static [u8], Index, usize)> {
    prop_oneof![(select(PIECES), any::<Index>(), 0..4_usize), (select(MEMBERS), any::<Index>(), Just(0))]
}

/// Puts a fragment over so many bytes: a member where members begin, a piece where a text begins or anywhere.
fn spoiled(mut json: Vec<u8>, (fragment, at, over): (&[u8], Index, usize)) -> Vec<u8> {
    let is_member = MEMBERS.contains(&fragment);
    let before: &[u8] = if is_member { b"{," } else { b"\"" };
    let mut places: Vec<_> = (0..json.len()).filter(|at| before.contains(&json[*at])).map(|at| at + 1).collect();
    if places.is_empty() || over % 2 == 1 {
        places = (0..=json.len()).collect();
    }
    let at = *at.get(&places);
    let over = at..(at + over).min(json.len());
    json.splice(over, fragment.iter().copied());
    json
}

/// Whatever else is accepted here, Go accepts, and writes alike: nothing is read here that Go reads otherwise.
#[test]
fn nothing_is_read_here_that_go_reads_otherwise() {
    let _timed = Timed::start();
    let go = GoAnswers::start("rewrite");
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let run =
        runner(2 * CASES).run(&(values(), vec(any::<u8>(), 0..64), spoiling()), |((kind, doc), choices, spoiling)| {
            let json = spoiled(doc.spelled(&choices), spoiling);
            let Ok(here) = rewrite(kind, &json) else {
                refused.set(refused.get() + 1);
                return Ok(());
            };
            accepted.set(accepted.get() + 1);
            let there = go.ask_about(name_of(kind), &json).map_err(TestCaseError::fail)?;
            let mut there = shown(&there);
            if kind == Kind::Context {
                // No signature covers a context file, and no list of roots is an empty one.
                there = there.replace("\"roots\":null", "\"roots\":[]");
            }
            prop_assert_eq!(shown(&here), there, "of {}", shown(&json));
            Ok(())
        });
    run.unwrap();
    let (accepted, refused) = (accepted.get(), refused.get());
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted >= 10 && refused >= 100, "{accepted} accepted, {refused} refused: this says little");
}
