//! Walks the corpus of verdicts that DMS's own code gave, or the one that `DMS_CORPUS` names.
//!
//! Every case that upstream refuses is refused here. Every case that it accepts is accepted here, unless the corpus permits
//! to be stricter, or one of the [`DECISIONS`] applies: `docs/strictness.md` lists them all.

use std::{collections::BTreeMap, env, error::Error, fmt::Write as _, fs};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::capability::{
    ActorId, Capability, Context, Did, DidError, Envelope, Key, MintError, Minting, Nanos, Reason, Refusal, Token,
    Usage, parse_token_list,
    rewrite::{Kind, rewrite},
    verify_revocation,
};
use serde::Deserialize;
use serde_json::Value;

use crate::definitions::root;

const OURS: &str = "tests/fixtures/capability/corpus.json";
const CASES: usize = 479;

/// Why cases are refused here that upstream accepts, although the corpus does not say that they may be.
struct Decision {
    name: &'static str,
    why: &'static str,
    applies: fn(&Case, &Refused) -> bool,
}

const DECISIONS: [Decision; 3] = [
    Decision {
        name: "Ed25519 only",
        why: "keys of other types are refused by name: one key has several spellings upstream, and nobody signs with them here",
        applies: |_, refused| refused.reason == Some(Reason::UnsupportedKey),
    },
    Decision {
        name: "nothing unsigned",
        why: "no signature covers a member that is not known; the corpus permits to refuse one inside a token, and the list \
              around the tokens is read by the same rule",
        applies: |case, refused| case.kind == "require" && refused.reason == Some(Reason::UnknownMember),
    },
    Decision {
        name: "one form",
        why: "a piece is read by itself as strictly as inside a token or an envelope, where the corpus permits that: every \
              member is there, once, not null, in its canonical encoding, and a DID is a DID",
        applies: |case, _| PIECES.contains(&case.name.as_str()),
    },
];

/// Single pieces in a form that no token may hold.
const PIECES: [&str; 16] = [
    "jb-bytes-array",
    "jb-bytes-array-empty",
    "jb-bytes-bits",
    "jb-bytes-null",
    "jb-context-old-names",
    "jb-context-roots-empty",
    "jb-did-null",
    "jb-did-uri",
    "jb-dmstoken-order",
    "jb-dmstoken-topic-empty",
    "jb-envelope-empty",
    "jb-envelope-msg-empty",
    "jb-handle-null",
    "jb-id-bits",
    "jb-id-null",
    "jb-str-null",
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
    note: String,
    #[serde(default)]
    stricter_ok: bool,
    #[serde(default)]
    stricter_reason: String,
}

#[derive(Debug)]
struct Refused {
    reason: Option<Reason>,
    message: String,
}

/// Why a case was not accepted as upstream accepts it.
enum No {
    Refused(Refused),
    /// Accepted, but something that upstream answered beside its verdict is different here.
    Differs(String),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Refused { reason: Some(refusal.reason), message: refusal.message })
    }
}

impl From<DidError> for No {
    fn from(error: DidError) -> Self {
        let unsupported = matches!(error, DidError::UnsupportedKey { .. });
        Self::Refused(Refused { reason: unsupported.then_some(Reason::UnsupportedKey), message: error.to_string() })
    }
}

impl From<MintError> for No {
    fn from(error: MintError) -> Self {
        refused(error)
    }
}

impl From<dms_operator::capability::PathError> for No {
    fn from(error: dms_operator::capability::PathError) -> Self {
        refused(error)
    }
}

fn refused(why: impl Into<Box<dyn Error>>) -> No {
    No::Refused(Refused { reason: None, message: why.into().to_string() })
}

/// What upstream answered beside its verdict must be the same here.
#[expect(clippy::needless_pass_by_value, reason = "most of what is compared is made for it")]
fn same<T: PartialEq + std::fmt::Debug>(what: &str, here: T, upstream: T) -> Result<(), No> {
    if here == upstream { Ok(()) } else { Err(No::Differs(format!("{what} is {here:?}, upstream {upstream:?}"))) }
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        match (&self.input, &self.input_b64) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(encoded)) => STANDARD.decode(encoded).unwrap(),
            (None, None) => panic!("{} has no input", self.name),
        }
    }

    fn string(&self) -> Result<String, No> {
        String::from_utf8(self.bytes()).map_err(refused)
    }

    fn now(&self) -> Nanos {
        Nanos(self.now_ns)
    }

    fn text(&self, name: &str) -> &str {
        self.context[name].as_str().unwrap_or_default()
    }

    fn tokens(&self, name: &str) -> Result<Vec<Token>, No> {
        match &self.context[name] {
            Value::Null => Ok(Vec::new()),
            list => Ok(parse_token_list(list.to_string().as_bytes())?),
        }
    }

    fn paths(&self, name: &str) -> Result<Vec<Capability>, No> {
        let listed = self.context[name].as_array().cloned().unwrap_or_default();
        listed.iter().map(|path| Ok(Capability::parse(path.as_str().unwrap_or("not text"))?)).collect()
    }

    fn own(&self) -> Result<Context, No> {
        let did = Did::parse(self.text("self_did"))?;
        Ok(Context { did, roots: vec![], require: vec![], provide: vec![], revoke: vec![] })
    }

    fn trust(&self) -> Result<Context, No> {
        let roots = self.context["roots"].as_array().cloned().unwrap_or_default();
        Ok(Context {
            roots: roots.iter().map(|root| Did::parse(root.as_str().unwrap_or_default())).collect::<Result<_, _>>()?,
            require: self.tokens("require")?,
            revoke: self.tokens("revoke")?,
            ..self.own()?
        })
    }
}

fn judge(case: &Case) -> Result<(), No> {
    match (case.kind.as_str(), case.text("op")) {
        ("token-verify", _) => token_verify(case),
        ("require", "consume+require" | "consume+require-broadcast") => consume_require(case),
        ("require", "add-roots") => add_roots(case),
        ("require", "load-context") => load_context(case),
        ("require", "delegate-helper") => mint(case),
        ("envelope", _) => envelope(case),
        ("did-parse", _) => did_parse(case),
        ("capability-implies", _) => implies(case),
        ("json-bytes", _) => json_bytes(case),
        (kind, op) => panic!("{}: nobody judges {kind:?} {op:?}", case.name),
    }
}

fn token_verify(case: &Case) -> Result<(), No> {
    // Upstream takes no revocation that has expired.
    let revocations = case.tokens("revoke")?.into_iter().filter(|token| token.expires() >= case.now());
    let revoked: Vec<_> = revocations.filter_map(|token| verify_revocation(&token).ok()).collect();
    Ok(Token::parse(&case.bytes())?.verify(case.now(), &|key| revoked.contains(key))?)
}

fn consume_require(case: &Case) -> Result<(), No> {
    let context = case.trust()?;
    let did = |name| {
        let did = ActorId::parse(case.text(name)).and_then(|id| id.did());
        let unsupported = || Refused { reason: Some(Reason::UnsupportedKey), message: "no Ed25519 key".to_owned() };
        did.ok_or_else(|| No::Refused(unsupported()))
    };
    let sender = did("subject_id")?;
    let audience = did("audience_id").unwrap_or_else(|_| context.did.clone());
    let topic = case.context["topic"].as_str().map(Capability::parse).transpose()?;
    let usage = match &topic {
        None => Usage::Invocation { audience: &audience },
        Some(topic) => Usage::Broadcast { topic },
    };
    let later = case.context["require_now_ns"].as_u64().unwrap_or(case.now_ns);
    for now in [case.now_ns, later] {
        context.require(&case.bytes(), &sender, &usage, &case.paths("caps")?, Nanos(now))?;
    }
    Ok(())
}

fn same_counts(case: &Case, context: &Context) -> Result<(), No> {
    let Context { did: _, roots, require, provide, revoke } = context;
    let here = [roots.len(), require.len(), provide.len(), revoke.len()].map(|count| Some(count as u64));
    let upstream = ["roots", "require", "provide", "revoke"].map(|name| case.detail["after"][name].as_u64());
    if case.stricter_ok { Ok(()) } else { same("what is held", here, upstream) }
}

fn add_roots(case: &Case) -> Result<(), No> {
    let empty = case.own()?;
    let mut addition: Value = serde_json::from_slice(&case.bytes()).map_err(refused)?;
    addition["did"] = serde_json::json!({ "uri": empty.did });
    let mut context = empty.clone();
    let result =
        Context::parse(addition.to_string().as_bytes()).and_then(|addition| context.extend(addition, case.now()));
    if result.is_err() {
        assert_eq!(context, empty, "{}: a refused addition leaves nothing", case.name);
    }
    result?;
    same_counts(case, &context)
}

fn load_context(case: &Case) -> Result<(), No> {
    let context = Context::load(&case.bytes(), case.now())?;
    let again = Context::load(&context.to_json(), case.now())?;
    same("what is written and read again", &again, &context)?;
    if case.verdict == "accept" { same_counts(case, &context) } else { Ok(()) }
}

fn mint(case: &Case) -> Result<(), No> {
    // The seeds of the corpus' keys are one repeated byte each.
    let key = (1..=9).map(|byte| Key::from_seed([byte; 32])).find(|key| key.did().as_str() == case.text("self_did"));
    let did = |name| Some(case.text(name)).filter(|text| !text.is_empty()).map(Did::parse).transpose();
    let provide = parse_token_list(&case.bytes())?;
    let above = provide.first();
    let ends = above.map_or(Nanos::MAX, Token::not_after);
    let expires = case.context["expire"].as_u64().filter(|expires| *expires > 0).map_or(ends, Nanos);
    let minting = Minting {
        subject: did("subject")?.ok_or_else(|| refused("no subject"))?,
        audience: did("audience")?,
        capabilities: case.paths("caps")?,
        topics: case.paths("topics")?,
        expires,
        depth: case.context["depth"].as_u64().unwrap_or_default(),
        nonce: [1; 12],
    };
    let key = key.ok_or_else(|| refused("an unknown key"))?;
    let minted = match case.text("mode") {
        "delegate" => Token::delegate(&key, minting, above),
        "invoke" => Token::invoke(&key, minting, above),
        "broadcast" => Token::broadcast(&key, minting, above),
        other => panic!("{}: nobody mints tokens to {other}", case.name),
    };
    let upstream = &case.detail;
    match minted {
        // Upstream answers with no token at all.
        Err(MintError::NoCapability) => same("how many are minted", Some(0), upstream["tokens"].as_u64()),
        Err(error) => Err(error.into()),
        Ok(token) => {
            token.verify(case.now(), &|_| false)?;
            same("expiry", Some(token.expires().0), upstream["expire"].as_u64())
        }
    }
}

fn envelope(case: &Case) -> Result<(), No> {
    let envelope = Envelope::parse(&case.bytes())?;
    if case.text("check") == "verify" {
        let signer = envelope.verify(case.now())?;
        same("signer", Some(signer.as_str()), case.detail["did_of_from_id"].as_str())?;
        same("a broadcast", Some(envelope.is_broadcast()), case.detail["is_broadcast"].as_bool())?;
        let length = envelope.signed_bytes().len() as u64;
        return same("the number of signed bytes", length, case.detail["signed_bytes_len"].as_u64().unwrap_or(length));
    }
    let (context, capabilities) = (case.trust()?, case.paths("caps")?);
    let capability = capabilities.first().ok_or_else(|| refused("no capability"))?;
    if case.text("check") == "verify+require" {
        return Ok(context.authorise(&envelope, capability, case.now())?);
    }
    let topic = Capability::parse(case.text("topic"))?;
    Ok(context.authorise_broadcast(&envelope, &topic, capability, case.now())?)
}

fn did_parse(case: &Case) -> Result<(), No> {
    let did = Did::parse(&case.string()?)?;
    let upstream = ["actor_id", "peer_id", "raw_key_hex"].map(|name| case.detail[name].as_str().map(str::to_owned));
    same("its names", [did.actor_id(), did.peer_id(), hex::encode(did.public_key())].map(Some), upstream)?;
    same("the DID of the peer ID", Did::from_peer_id(&did.peer_id()).ok(), Some(did.clone()))?;
    same("the DID of the actor ID", ActorId::of(&did).did(), Some(did))
}

fn implies(case: &Case) -> Result<(), No> {
    let pair: BTreeMap<String, String> = serde_json::from_slice(&case.bytes()).map_err(refused)?;
    let path = |name: &str| Capability::parse(&pair[name]);
    if path("granted")?.implies(&path("requested")?) { Ok(()) } else { Err(refused("not implied")) }
}

fn json_bytes(case: &Case) -> Result<(), No> {
    let kind = match case.text("type") {
        "string" => Kind::Text,
        "uint64" => Kind::Integer,
        "bytes" => Kind::Bytes,
        "did" => Kind::Did,
        "id" => Kind::ActorId,
        "handle" => Kind::Handle,
        "tokenlist" => Kind::TokenList,
        "dms-token" => Kind::Token,
        "envelope" => Kind::Envelope,
        "context-file" => Kind::Context,
        other => panic!("{}: nobody writes the type {other:?}", case.name),
    };
    // The corpus shows the inner token alone.
    let inner = kind == Kind::Token;
    let bytes = if inner { [b"{\"dms\":", &case.bytes()[..], b"}"].concat() } else { case.bytes() };
    let written = String::from_utf8(rewrite(kind, &bytes)?).unwrap();
    let written = if inner { written["{\"dms\":".len()..written.len() - 1].to_owned() } else { written };
    same("what is written", Some(written.as_str()), case.detail["output"].as_str())
}

/// How a case was judged here, next to upstream.
enum Finding {
    Agrees,
    /// Accepted, and the corpus says why it may be.
    Better,
    /// Refused on purpose; the corpus permits it, or a decision says why.
    Stricter {
        refused: Refused,
        decision: Option<&'static Decision>,
    },
    Disagrees(String),
}

fn find(case: &Case) -> Finding {
    match (judge(case), case.verdict.as_str()) {
        (Ok(()), "accept") if case.stricter_ok => Finding::Disagrees("accepted, and it should be refused".to_owned()),
        (Ok(()), "accept") | (Err(No::Refused(_)), "reject") => Finding::Agrees,
        (Ok(()), "reject") if case.stricter_ok => Finding::Better,
        (Ok(()), _) => Finding::Disagrees("accepted, and upstream refuses it".to_owned()),
        (Err(No::Differs(how)), _) => Finding::Disagrees(how),
        (Err(No::Refused(refused)), _) => {
            let decision = DECISIONS.iter().find(|decision| (decision.applies)(case, &refused));
            match (case.stricter_ok, decision) {
                (true, _) => Finding::Stricter { refused, decision: None },
                (false, Some(decision)) => Finding::Stricter { refused, decision: Some(decision) },
                (false, None) => Finding::Disagrees(format!("refused, and upstream accepts it: {}", refused.message)),
            }
        }
    }
}

fn cases(path: &std::path::Path) -> Vec<Case> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{} cannot be read: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{} is not a corpus: {error}", path.display()))
}

#[test]
fn the_corpus_is_judged_as_upstream_does_or_stricter_on_purpose() {
    let theirs = env::var_os("DMS_CORPUS").filter(|path| !path.is_empty());
    let cases = cases(&theirs.clone().map_or_else(|| root().join(OURS), Into::into));
    let (mut agree, mut permitted, mut disagree) = (0, 0, 0);
    for case in &cases {
        match find(case) {
            Finding::Agrees => agree += 1,
            Finding::Better => {
                println!("better: {} ({}): {}", case.name, case.kind, case.stricter_reason);
                permitted += 1;
            }
            Finding::Stricter { decision: None, .. } => permitted += 1,
            Finding::Stricter { refused, decision: Some(decision) } => {
                println!("stricter: {} ({}), {}: {}", case.name, case.kind, decision.name, refused.message);
                permitted += 1;
            }
            Finding::Disagrees(how) => {
                println!(
                    "disagreement: {} ({}): {how}. Upstream: {} {}",
                    case.name, case.kind, case.verdict, case.note
                );
                disagree += 1;
            }
        }
    }
    println!("{} cases: {agree} as upstream, {permitted} otherwise on purpose, {disagree} disagreements", cases.len());
    assert_eq!(disagree, 0, "each stands in a line above that begins with `disagreement:`");
    assert!(theirs.is_some() || cases.len() == CASES, "{} cases", cases.len());
}

/// The other rows of `docs/strictness.md`: what upstream refuses and is accepted here.
pub fn leniency() -> String {
    let mut table = "| case | what upstream refuses | why it is taken |\n|---|---|---|\n".to_owned();
    for case in cases(&root().join(OURS)) {
        if let Finding::Better = find(&case) {
            writeln!(table, "| `{}` | {} | {} |", case.name, case.note, case.stricter_reason).unwrap();
        }
    }
    table
}

/// The rows of `docs/strictness.md`: what is refused here and accepted upstream.
pub fn strictness() -> String {
    let mut table = "| case | what upstream takes | refused as | why |\n|---|---|---|---|\n".to_owned();
    for case in cases(&root().join(OURS)) {
        let Finding::Stricter { refused, decision } = find(&case) else { continue };
        let reason = refused.reason.map_or("a path or a key that is not read", Reason::code);
        let why = decision.map_or_else(|| case.stricter_reason.clone(), |one| format!("*{}*: {}", one.name, one.why));
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        writeln!(table, "| `{}` | {} | {reason} | {} |", case.name, cell(&case.note), cell(&why)).unwrap();
    }
    table
}
