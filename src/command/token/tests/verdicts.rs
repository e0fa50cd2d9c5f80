use serde_json::{Value, json};

use super::super::judge::Question;
use super::super::report::Report;
use super::*;
use crate::capability::{Context, KnownDids, Refusal, parse_known_tokens, token_list};

#[derive(clap::Parser)]
struct Bare {
    #[command(flatten)]
    manner: Manner,
}

/// What is asked, beside the token.
struct Asked {
    trust: Option<(Context, Did)>,
    capabilities: Vec<Capability>,
    manner: Manner,
    obeyed: bool,
    now: Nanos,
}

impl Asked {
    fn decide(&self, tokens: Result<Vec<Token>, Refusal>) -> Result<Report, String> {
        let Self { trust, capabilities, manner, obeyed, now } = self;
        let question = Question { trust: trust.clone(), manner, capabilities, obeyed: *obeyed, now: *now };
        question.decide(tokens).map_err(|error| error.to_string())
    }

    fn value(&self, token: &Token) -> Value {
        value(&self.decide(Ok(vec![token.clone()])).unwrap())
    }
}

fn asked(capabilities: &[&str], manner: &[&str]) -> Asked {
    let provider = key(1).did().clone();
    let manner = Bare::try_parse_from(std::iter::once("x").chain(manner.iter().copied())).unwrap().manner;
    let context = Context {
        did: provider.clone(),
        roots: Vec::new(),
        require: Vec::new(),
        provide: Vec::new(),
        revoke: Vec::new(),
    };
    let capabilities = capabilities.iter().map(|path| Capability::parse(path).unwrap()).collect();
    Asked { trust: Some((context, provider)), capabilities, manner, obeyed: true, now: NOW }
}

fn by_itself() -> Asked {
    Asked { trust: None, ..asked(&[], &[]) }
}

fn value(report: &Report) -> Value {
    serde_json::from_str(&written(report, Output::Json, String::new).unwrap()).unwrap()
}

#[test]
fn an_accepted_chain_is_told_link_by_link() {
    let asked = asked(&["/hosting/shop/apply/web"], &[]);
    let [provider, owner, pipeline] = [1, 2, 3].map(|number| key(number).did().to_string());
    let until = NOW.plus(Duration::from_hours(1));
    let link = |link: u64, action: &str, issuer: &str, subject: &Key, path: &str| {
        json!({
            "link": link, "action": action, "issuer": issuer, "subject": subject.did().as_str(),
            "audience": provider, "capabilities": [path], "topics": [], "expires": until.0, "depth": null,
            "nonce": hex::encode([subject.did().public_key()[0]; 12]),
        })
    };
    let expected = json!({
        "verdict": "accept",
        "reason": null,
        "message": format!("{pipeline} may invoke /hosting/shop/apply/web at {provider} until {until}"),
        "not_after": until.0,
        "chain": [
            link(1, "delegate", &provider, &key(2), "/hosting/shop"),
            link(2, "delegate", &owner, &key(3), "/hosting/shop/apply"),
            link(3, "invoke", &pipeline, &key(3), "/hosting/shop/apply/web"),
        ],
    });
    assert_eq!(asked.value(&chain()), expected);
    let report = asked.decide(Ok(vec![chain()])).unwrap();
    let yaml = written(&report, Output::Yaml, String::new).unwrap();
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), expected);
}

#[test]
fn a_refused_chain_says_which_link_and_why_and_not_until_when() {
    let late = Asked { now: NOW.plus(Duration::from_hours(2)), ..asked(&["/hosting/shop/apply/web"], &[]) };
    let value = late.value(&chain());
    assert_eq!(
        (&value["verdict"], &value["reason"], &value["not_after"]),
        (&json!("reject"), &json!("Expired"), &json!(null))
    );
    assert!(value["message"].as_str().unwrap().starts_with("link 1 of 3: "), "{value}");
    assert_eq!(value["chain"].as_array().unwrap().len(), 3);

    let unreadable = value_of_unreadable(b"\xff");
    assert_eq!((&unreadable["reason"], &unreadable["chain"]), (&json!("Malformed"), &json!([])));
}

fn value_of_unreadable(bytes: &[u8]) -> Value {
    value(&asked(&["/a"], &[]).decide(Token::parse(bytes).map(|token| vec![token])).unwrap())
}

#[test]
fn everything_that_is_asked_must_be_given_by_one_token() {
    let wanted = ["/hosting/shop/apply/web", "/hosting/shop/read"];
    assert_eq!(asked(&wanted[..1], &[]).value(&chain())["verdict"], "accept");
    assert_eq!(asked(&wanted, &[]).value(&chain())["reason"], "CapabilityMissing");
    // By what it says itself it is judged when nothing is asked.
    assert_eq!(asked(&[], &[]).value(&chain())["verdict"], "accept");
}

#[test]
fn of_a_list_the_first_that_is_accepted_counts_else_the_first_refusal() {
    let asked = asked(&["/hosting/shop/apply/web"], &[]);
    let foreign = Token::invoke(&key(7), minting(&key(7), "/hosting/shop/apply/web"), None).unwrap();
    let other = Token::invoke(&key(1), minting(&key(7), "/hosting/other"), None).unwrap();
    let decide = |tokens: &[Token]| {
        value(&asked.decide(parse_known_tokens(&token_list(tokens), &mut KnownDids::default())).unwrap())
    };
    let accepted = decide(&[foreign.clone(), chain(), other.clone()]);
    assert_eq!((&accepted["verdict"], accepted["chain"].as_array().unwrap().len()), (&json!("accept"), 3));
    let refused = decide(&[foreign.clone(), other]);
    assert_eq!(
        (&refused["reason"], &refused["chain"][0]["issuer"]),
        (&json!("NotAnchored"), &json!(foreign.issuer().as_str()))
    );
    assert_eq!(decide(&[])["reason"], "CapabilityMissing");
}

#[test]
fn a_delegation_may_be_passed_on_and_is_nothing_that_a_node_obeys() {
    let path = "/hosting/shop/apply";
    let delegation = chain().chain().unwrap().clone();
    let obeyed = asked(&[path], &[]).value(&delegation);
    assert_eq!((&obeyed["verdict"], &obeyed["reason"]), (&json!("reject"), &json!("CapabilityMissing")));
    assert!(obeyed["message"].as_str().unwrap().contains("--action delegate"), "{obeyed}");
    assert_eq!(asked(&[path], &["--action", "delegate"]).value(&delegation)["verdict"], "accept");
    assert_eq!(Asked { obeyed: false, ..asked(&[path], &[]) }.value(&delegation)["verdict"], "accept");
    // What is wrong with its chain is said before that it is a delegation.
    let late = Asked { now: delegation.not_after().plus(Duration::from_nanos(1)), ..asked(&[path], &[]) };
    assert_eq!(late.value(&delegation)["reason"], "Expired");
    assert_eq!(asked(&[path], &["--action", "invoke"]).value(&delegation)["reason"], "CapabilityMissing");
    let last = Minting { depth: 1, ..minting(&key(2), "/hosting/shop") };
    let grant = Token::delegate(&key(1), last, None).unwrap();
    let link = Token::delegate(&key(2), minting(&key(3), path), Some(&grant));
    assert!(link.is_err(), "nothing could hang below it");

    let topics = vec![Capability::parse("/shop/news").unwrap()];
    let telling = Minting { topics, audience: None, ..minting(&key(2), path) };
    let grant = Token::delegate(&key(1), telling.clone(), None).unwrap();
    let telling = Minting { subject: key(3).did().clone(), ..telling };
    let link = Token::delegate(&key(2), telling.clone(), Some(&grant)).unwrap();
    let told = Token::broadcast(&key(3), Minting { subject: key(3).did().clone(), ..telling.clone() }, None).unwrap();
    assert_eq!(asked(&[path], &[]).value(&told)["reason"], "CapabilityMissing", "a verdict, not a wrong argument");
    // A delegation may be judged for a topic, but does not let anybody tell it.
    assert_eq!(asked(&[path], &["--topic", "/shop/news"]).value(&link)["reason"], "CapabilityMissing");
    assert_eq!(asked(&[path], &["--topic", "/shop/news"]).value(&chain())["reason"], "CapabilityMissing");
}

#[test]
fn what_contradicts_itself_is_no_verdict() {
    let error = |asked: &Asked| asked.decide(Ok(vec![chain()])).unwrap_err();
    assert!(error(&asked(&["/a"], &["--action", "broadcast"])).contains("--topic PATH"));
    assert!(error(&asked(&["/a"], &["--action", "invoke", "--topic", "/t"])).contains("only broadcasts"));
    assert!(error(&Asked { trust: None, ..asked(&["/a"], &[]) }).contains("--context FILE"));
}

#[test]
fn a_tree_shows_who_gave_what_to_whom() {
    let grant = granted(&["--actions", "apply"]);
    let token = delegated(&grant, &[]).unwrap();
    let [provider, owner, pipeline] = [1, 2, 3].map(|number| key(number).did().to_string());
    let tree = |asked: &Asked| asked.decide(Ok(vec![token.clone()])).unwrap().tree();
    let until = "until 2026-01-31T00:00:00Z";
    let first = format!("└─ 1 delegate → {owner}  /hosting/shop/apply  for {provider}  at most 3 below  {until}\n");
    let second =
        format!("   └─ 2 delegate → {pipeline}  /hosting/shop/apply  for {provider}  at most 1 below  {until}\n");
    let good = "✓  every signature fits and nothing is wider; valid until 2026-01-31T00:00:00Z\n";
    assert_eq!(tree(&by_itself()), format!("{provider}\n{first}{second}{good}"));

    let late = Asked { now: NOW.plus(Duration::from_hours(721)), ..by_itself() };
    let why = format!(
        "   ✗  Expired: link 1 of 2: {provider} → {owner} expired at 2026-01-31T00:00:00Z. Ask the issuer for a new grant \
         and run `kubectl hosting sign` again.\n"
    );
    assert_eq!(tree(&late), format!("{provider}\n{first}{why}{second}"));

    let missing = asked(&["/hosting/shop/read"], &[]);
    let why = format!(
        "      ✗  CapabilityMissing: link 2 of 2: {owner} → {pipeline} does not give /hosting/shop/read. Ask the issuer \
         for a grant with this capability and run `kubectl hosting sign` again.\n"
    );
    assert_eq!(tree(&missing), format!("{provider}\n{first}{second}{why}"));
}

#[test]
fn a_tree_shows_an_issuer_that_is_not_whom_the_link_above_names() {
    let stranger = Token::delegate(&key(9), minting(&key(3), "/hosting/shop"), None).unwrap();
    let above = String::from_utf8(chain().root().to_json()).unwrap();
    let text =
        String::from_utf8(stranger.to_json()).unwrap().replace(",\"sig\"", &format!(",\"chain\":{above},\"sig\""));
    let token = Token::parse(text.as_bytes()).unwrap();
    let tree = by_itself().decide(Ok(vec![token])).unwrap().tree();
    let line = format!("   └─ 2 delegate by {} → {}  ", key(9).did(), key(3).did());
    assert!(tree.contains(&line), "{tree}");
    assert!(tree.contains("      ✗  ChainBroken: link 2 of 2: "), "{tree}");
}

#[test]
fn what_cannot_be_drawn_is_still_explained() {
    let report = by_itself().decide(Token::parse(b"{\"dms\":{},\"dms\":{}}").map(|token| vec![token])).unwrap();
    assert!(report.tree().starts_with("✗  DuplicateMember: "), "{}", report.tree());
    assert_eq!(report.tree(), report.lines());
}

#[test]
fn lines_show_the_same() {
    let report = asked(&["/hosting/shop/read"], &[]).decide(Ok(vec![chain()])).unwrap();
    let lines: Vec<_> = report.lines().lines().map(|line| line.split("  ").next().unwrap().to_owned()).collect();
    assert_eq!(lines, ["1", "2", "3", "✗"]);
}

#[test]
fn a_control_character_of_a_path_is_not_printed() {
    let token = Token::invoke(&key(1), minting(&key(1), "/a\u{9b}2J"), None).unwrap();
    for asked in [by_itself(), Asked { obeyed: false, ..asked(&[], &[]) }, asked(&["/b"], &[])] {
        let tree = asked.decide(Ok(vec![token.clone()])).unwrap().tree();
        assert!(tree.contains("/a\u{fffd}2J") && !tree.contains('\u{9b}'), "{tree}");
    }
}

#[test]
fn files_hold_one_token_or_a_list_and_may_end_with_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let read = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        read_tokens(&file).unwrap().map_err(|refusal| refusal.reason.code())
    };
    let one = chain().to_json();
    assert_eq!(read(&one), Ok(vec![chain()]));
    assert_eq!(read(&[&one, &b"\r\n"[..]].concat()), Ok(vec![chain()]));
    let list = token_list(&[chain(), chain()]);
    assert_eq!(read(&list), Ok(vec![chain(), chain()]));
    assert_eq!(read(&[b" {\n", &list[1..]].concat()), Ok(vec![chain(), chain()]));
    assert_eq!(read(b"{}"), Err("Malformed"));
    assert_eq!(read(b"{\"tok\":[],\"tok\":[]}"), Err("DuplicateMember"));
    assert_eq!(read(b"\xff\xfe"), Err("Malformed"));
    // A key type that is not read is left out of a list, as a node leaves it out, and refused alone.
    let other = String::from_utf8(one).unwrap().replacen("did:key:", "did:ethr:", 1);
    assert_eq!(
        read(format!("{{\"tok\":[{other},{}]}}", String::from_utf8(chain().to_json()).unwrap()).as_bytes()),
        Ok(vec![chain()])
    );
    assert_eq!(read(&vec![b' '; 16_385]), Err("TooLarge"));
}
