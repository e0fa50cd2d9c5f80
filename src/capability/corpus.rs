//! Walks the corpus of verdicts that DMS's own code gave.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use super::context::Usage;
use super::strict::{self, Members, Tree};
use super::token::{did_of, list_of, write_did};
use super::*;

const CORPUS: &str = include_str!("../../tests/fixtures/capability/corpus.json");

const OTHER_KEY_TYPE: &str = "only Ed25519 keys are read";
const EVERY_MEMBER: &str = "every member must be there, in the one form that DMS writes";
const CANONICAL: &str = "only canonical encodings are read";

/// Where this reader is stricter than upstream although the corpus does not say that it may: all of it, and why.
const STRICTER: &[(&str, &str)] = &[
    ("dp-eth", OTHER_KEY_TYPE),
    ("dp-nunet-org", OTHER_KEY_TYPE),
    ("dp-secp256k1", OTHER_KEY_TYPE),
    ("jb-bytes-array", CANONICAL),
    ("jb-bytes-array-empty", CANONICAL),
    ("jb-bytes-bits", CANONICAL),
    ("jb-bytes-null", CANONICAL),
    ("jb-context-old-names", "its DIDs are not DIDs"),
    ("jb-context-roots-empty", EVERY_MEMBER),
    ("jb-did-null", EVERY_MEMBER),
    ("jb-did-uri", "its DID is not a DID"),
    ("jb-dmstoken-order", "its members are not those of a whole token"),
    ("jb-dmstoken-topic-empty", "its members are not those of a whole token"),
    ("jb-envelope-empty", EVERY_MEMBER),
    ("jb-envelope-msg-empty", EVERY_MEMBER),
    ("jb-handle-null", EVERY_MEMBER),
    ("jb-id-bits", CANONICAL),
    ("jb-id-null", EVERY_MEMBER),
    ("jb-str-null", EVERY_MEMBER),
    ("rq-delegate-empty-caps", "a token without capabilities is not minted"),
    ("rq-size-16384", "it is filled up with a member that no signature covers"),
    ("tv-cardano-ok", OTHER_KEY_TYPE),
    ("tv-secp-ok", OTHER_KEY_TYPE),
];

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    input: Option<String>,
    input_b64: Option<String>,
    now_ns: u64,
    #[serde(default)]
    context: Value,
    verdict: String,
    #[serde(default)]
    detail: Value,
    #[serde(default)]
    stricter_ok: bool,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        match (&self.input, &self.input_b64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(encoded)) => STANDARD.decode(encoded).unwrap(),
            (None, None) => panic!("{} has no input", self.name),
        }
    }

    fn now(&self) -> Nanos {
        Nanos(self.now_ns)
    }

    fn text(&self, name: &str) -> &str {
        self.context[name].as_str().unwrap_or_default()
    }

    fn tokens(&self, name: &str) -> Result<Vec<Token>, Refusal> {
        match &self.context[name] {
            Value::Null => Ok(Vec::new()),
            list => parse_token_list(list.to_string().as_bytes()),
        }
    }

    fn capabilities(&self) -> Result<Vec<Capability>, String> {
        let listed = self.context["caps"].as_array().cloned().unwrap_or_default();
        listed.iter().map(|path| Capability::parse(path.as_str().unwrap_or("not text")).map_err(text)).collect()
    }

    fn trust(&self) -> Result<Context, String> {
        let roots = self.context["roots"].as_array().cloned().unwrap_or_default();
        Ok(Context {
            did: Did::parse(self.text("self_did")).map_err(text)?,
            roots: roots
                .iter()
                .map(|root| Did::parse(root.as_str().unwrap_or_default()).map_err(text))
                .collect::<Result<_, _>>()?,
            require: self.tokens("require").map_err(text)?,
            provide: Vec::new(),
            revoke: self.tokens("revoke").map_err(text)?,
        })
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// `Ok`: accepted here. What upstream answered beside its verdict is compared too.
fn verdict(case: &Case) -> Result<(), String> {
    match case.kind.as_str() {
        "token-verify" => token_verify(case),
        "require" => match case.text("op") {
            "consume+require" | "consume+require-broadcast" => consume_require(case),
            "add-roots" => add_roots(case),
            "load-context" => load_context(case),
            "delegate-helper" => mint(case),
            other => panic!("unknown op {other}"),
        },
        "envelope" => envelope(case),
        "did-parse" => did_parse(case),
        "capability-implies" => implies(case),
        "json-bytes" => json_bytes(case),
        other => panic!("unknown kind {other}"),
    }
}

fn token_verify(case: &Case) -> Result<(), String> {
    let revocations: Vec<_> = case
        .tokens("revoke")
        .map_err(text)?
        .into_iter()
        .filter(|token| token.verify(case.now(), &|_| false).is_ok())
        .map(|token| token.revocation_key())
        .collect();
    let token = Token::parse(&case.bytes()).map_err(text)?;
    token.verify(case.now(), &|key| revocations.contains(key)).map_err(text)
}

fn consume_require(case: &Case) -> Result<(), String> {
    let context = case.trust()?;
    let did = |name| ActorId::parse(case.text(name)).and_then(|id| id.did()).ok_or(OTHER_KEY_TYPE);
    let (sender, audience) = (did("subject_id")?, did("audience_id").unwrap_or_else(|_| context.did.clone()));
    let topic = match case.context["topic"].as_str() {
        None => None,
        Some(topic) => Some(Capability::parse(topic).map_err(text)?),
    };
    let usage = match &topic {
        None => Usage::Invocation { audience: &audience },
        Some(topic) => Usage::Broadcast { topic },
    };
    let capabilities = case.capabilities()?;
    let later = case.context["require_now_ns"].as_u64().unwrap_or(case.now_ns);
    for now in [case.now_ns, later] {
        context.require(&case.bytes(), &sender, &usage, &capabilities, Nanos(now)).map_err(text)?;
    }
    Ok(())
}

fn check_counts(case: &Case, context: &Context) {
    let after = &case.detail["after"];
    let Context { did: _, roots, require, provide, revoke } = context;
    for (name, count) in
        [("roots", roots.len()), ("require", require.len()), ("provide", provide.len()), ("revoke", revoke.len())]
    {
        if !case.stricter_ok {
            assert_eq!(after[name].as_u64(), Some(count as u64), "{} {name}", case.name);
        }
    }
}

fn add_roots(case: &Case) -> Result<(), String> {
    let did = Did::parse(case.text("self_did")).map_err(text)?;
    let mut addition: Value = serde_json::from_slice(&case.bytes()).map_err(text)?;
    addition["did"] = serde_json::json!({ "uri": did.as_str() });
    let empty = Context { did, roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
    let mut context = empty.clone();
    let result = Context::parse(addition.to_string().as_bytes())
        .and_then(|addition| context.extend(addition, case.now()))
        .map_err(text);
    if result.is_err() {
        assert_eq!(context, empty, "{}: a refused addition leaves nothing", case.name);
    } else {
        check_counts(case, &context);
    }
    result
}

fn load_context(case: &Case) -> Result<(), String> {
    let context = Context::load(&case.bytes(), case.now()).map_err(text)?;
    if case.verdict == "accept" {
        check_counts(case, &context);
    }
    assert_eq!(Context::load(&context.to_json(), case.now()).as_ref(), Ok(&context), "{}", case.name);
    Ok(())
}

fn mint(case: &Case) -> Result<(), String> {
    let key = (1..=9).map(|byte| Key::from_seed([byte; 32])).find(|key| key.did().as_str() == case.text("self_did"));
    let parse_did = |name| match case.text(name) {
        "" => Ok(None),
        did => Did::parse(did).map(Some).map_err(text),
    };
    let provide = parse_token_list(&case.bytes()).map_err(text)?;
    let expires = case.context["expire"].as_u64().filter(|expires| *expires > 0).map(Nanos);
    let minting = Minting {
        subject: parse_did("subject")?.ok_or("no subject")?,
        audience: parse_did("audience")?,
        capabilities: case.capabilities()?,
        topics: Vec::new(),
        expires: expires.unwrap_or_else(|| provide[0].not_after()),
        depth: case.context["depth"].as_u64().unwrap_or_default(),
        nonce: [1; 12],
    };
    let key = key.ok_or("unknown key")?;
    let token = match case.text("mode") {
        "delegate" => Token::delegate(&key, minting, provide.first()).map_err(text)?,
        "invoke" => Token::invoke(&key, minting, provide.first()).map_err(text)?,
        other => return Err(format!("tokens to {other} are not minted here")),
    };
    assert_eq!(token.verify(case.now(), &|_| false), Ok(()), "{}", case.name);
    assert_eq!(Some(token.expires().0), case.detail["expire"].as_u64(), "{}", case.name);
    Ok(())
}

fn envelope(case: &Case) -> Result<(), String> {
    let envelope = Envelope::parse(&case.bytes()).map_err(text)?;
    if let Some(length) = case.detail["signed_bytes_len"].as_u64() {
        assert_eq!(envelope.signed_bytes().len() as u64, length, "{}", case.name);
    }
    if case.text("check") == "verify" {
        let signer = envelope.verify(case.now()).map_err(text)?;
        assert_eq!(Some(signer.as_str()), case.detail["did_of_from_id"].as_str(), "{}", case.name);
        assert_eq!(Some(envelope.is_broadcast()), case.detail["is_broadcast"].as_bool(), "{}", case.name);
        return Ok(());
    }
    let context = case.trust()?;
    let capability = case.capabilities()?.remove(0);
    if case.text("check") == "verify+require" {
        return context.authorise(&envelope, &capability, case.now()).map_err(text);
    }
    let topic = Capability::parse(case.text("topic")).map_err(text)?;
    context.authorise_broadcast(&envelope, &topic, &capability, case.now()).map_err(text)
}

fn did_parse(case: &Case) -> Result<(), String> {
    let did = Did::parse(&String::from_utf8(case.bytes()).map_err(text)?).map_err(text)?;
    let detail = |name: &str| case.detail[name].as_str().map(str::to_owned);
    assert_eq!(Some(did.actor_id()), detail("actor_id"));
    assert_eq!(Some(did.peer_id()), detail("peer_id"));
    assert_eq!(Some(hex::encode(did.public_key())), detail("raw_key_hex"));
    assert_eq!(Did::from_peer_id(&did.peer_id()).as_ref(), Ok(&did));
    assert_eq!(ActorId::of(&did).did().as_ref(), Some(&did));
    Ok(())
}

fn implies(case: &Case) -> Result<(), String> {
    let pair: BTreeMap<String, String> = serde_json::from_slice(&case.bytes()).map_err(text)?;
    let path = |name: &str| Capability::parse(&pair[name]).map_err(text);
    if path("granted")?.implies(&path("requested")?) { Ok(()) } else { Err("not implied".to_owned()) }
}

fn json_bytes(case: &Case) -> Result<(), String> {
    let bytes = case.bytes();
    let read = || strict::read(&bytes, MAX_ENVELOPE, "value").map_err(text);
    let mut out = String::new();
    match case.text("type") {
        "string" => match read()? {
            Tree::Text(value) => gojson::string(&mut out, &value),
            _ => return Err("not text".to_owned()),
        },
        "uint64" => match read()? {
            Tree::Unsigned(value) => out = value.to_string(),
            _ => return Err("not an integer".to_owned()),
        },
        "bytes" => {
            let object = Tree::Object(vec![("b".into(), read()?)]);
            let bytes = Members::of(object, "value", &["b"]).map_err(text)?.bytes("b").map_err(text)?;
            out = format!("\"{}\"", STANDARD.encode(bytes));
        }
        "did" => write_did(&mut out, did_of(read()?, &mut KnownDids::default()).map_err(text)?.as_ref()),
        "id" => {
            let id = Members::of(read()?, "id", &["pub"]).map_err(text)?.text("pub").map_err(text)?;
            out = format!("{{\"pub\":\"{}\"}}", ActorId::parse(&id).ok_or("not canonical base32")?);
        }
        "handle" => Handle::from_tree(read()?, &mut KnownDids::default()).map_err(text)?.write(&mut out),
        "tokenlist" => {
            let tokens: Vec<_> = list_of(read()?, &mut KnownDids::default())
                .map_err(text)?
                .into_iter()
                .collect::<Result<_, _>>()
                .map_err(text)?;
            out = String::from_utf8(token_list(&tokens)).map_err(text)?;
        }
        "dms-token" => out = format!("{:?}", Token::parse(&case.bytes()).map_err(text)?),
        "envelope" => out = String::from_utf8(Envelope::parse(&case.bytes()).map_err(text)?.to_json()).map_err(text)?,
        "context-file" => {
            out = String::from_utf8(Context::parse(&case.bytes()).map_err(text)?.to_json()).map_err(text)?;
        }
        other => panic!("unknown type {other}"),
    }
    assert_eq!(Some(out.as_str()), case.detail["output"].as_str(), "{}", case.name);
    Ok(())
}

#[test]
fn the_corpus_is_judged_as_upstream_does_or_stricter() {
    let cases: Vec<Case> = serde_json::from_str(CORPUS).unwrap();
    assert_eq!(cases.len(), 479);
    let (mut looser, mut stricter, mut permitted) = (Vec::new(), BTreeMap::new(), Vec::new());
    for case in &cases {
        match (verdict(case), case.verdict.as_str()) {
            (Ok(()), "accept") | (Err(_), "reject") => {}
            (answer, _) if case.stricter_ok => permitted.push((case.name.clone(), answer)),
            (Err(why), _) => drop(stricter.insert(case.name.as_str(), why)),
            (Ok(()), _) => looser.push(case.name.as_str()),
        }
    }
    for (name, answer) in &permitted {
        println!("differs where the corpus permits it: {name}: {answer:?}");
    }
    for (name, why) in &stricter {
        let intended = STRICTER.iter().find(|(known, _)| known == name).map_or("NOT INTENDED", |(_, reason)| reason);
        println!("stricter: {name}, because {intended}: {why}");
    }
    assert_eq!(looser, Vec::<&str>::new(), "upstream refuses these");
    let (found, expected): (Vec<_>, Vec<_>) =
        (stricter.into_keys().collect(), STRICTER.iter().map(|(name, _)| *name).collect());
    assert_eq!(found, expected, "upstream accepts the first list, and only the second is refused on purpose");
}
