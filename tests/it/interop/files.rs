//! Key files and capability contexts: what either side writes the other opens, and judges alike.

use std::{cell::Cell, fs, path::Path, process::Output};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dms_operator::capability::{
    Capability, Context, Did, Key, Nanos, Token, Usage, keystore, parse_token_list, token_list,
};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::{
    answers::{GoAnswers, runner, shown},
    hostile,
    peers::go_peer,
    seed,
};
use crate::{cluster::scratch, timed::Timed, world::name};

/// Runs one of the two programs with a passphrase, in a wallet folder below `folder`.
fn run(program: &Path, folder: &Path, passphrase: &str, arguments: &[&str]) -> Output {
    let mut command = std::process::Command::new(program);
    command.args(arguments).current_dir(folder).env("DMS_PASSPHRASE", passphrase);
    command.env("DMS_GENERAL_USER_DIR", folder.join("user")).output().unwrap()
}

fn go_opens(folder: &Path, file: &str, passphrase: &str) -> Result<Value, String> {
    let output = run(go_peer(), folder, passphrase, &["keystore", "open", "--file", file]);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).unwrap())
    } else {
        Err(shown(&output.stderr))
    }
}

fn go_seals(folder: &Path, key: &Key, called: &str, passphrase: &str) -> String {
    let seed = hex::encode(key.expose_seed());
    let output = run(go_peer(), folder, passphrase, &["keystore", "seal", "--seed", &seed, "--id", called]);
    assert!(output.status.success(), "{output:?}");
    shown(&output.stdout)
}

/// A passphrase with everything that a terminal and an environment let through.
fn passphrase() -> String {
    format!("<{}> \"\\'&é\u{301}😀\u{2028} ", name())
}

#[test]
fn a_key_file_made_here_opens_in_go() {
    let _timed = Timed::start();
    let folder = scratch(&format!("keystore-{}", name()));
    let (key, passphrase, called) = (Key::from_seed(seed()), passphrase(), format!("\"<é😀>\\{}", name()));
    let text = keystore::encrypt(&key, &called, &passphrase, rand::random(), rand::random()).unwrap();
    fs::write(folder.join("key.json"), text).unwrap();
    let opened = go_opens(&folder, "key.json", &passphrase).unwrap();
    assert_eq!(opened, json!({ "id": called, "seed": hex::encode(key.expose_seed()), "did": key.did() }));
    let refused = go_opens(&folder, "key.json", passphrase.trim_end()).unwrap_err();
    assert!(refused.contains("the passphrase does not open"), "{refused}");

    let made = run(Path::new(OPERATOR), &folder, &passphrase, &["wallet", "new", "--name", "ci"]);
    let opened = go_opens(&folder, "user/key/ci.json", &passphrase).unwrap();
    assert_eq!((&opened["id"], &opened["did"]), (&json!("ci"), &json!(shown(&made.stdout).trim())));
}

const OPERATOR: &str = env!("CARGO_BIN_EXE_dms-operator");

#[test]
fn a_key_file_made_by_go_opens_here() {
    let _timed = Timed::start();
    let folder = scratch(&format!("keystore-{}", name()));
    let (key, passphrase) = (Key::from_seed(seed()), passphrase());
    let text = go_seals(&folder, &key, "<node>", &passphrase);
    assert_eq!(keystore::decrypt(&text, &passphrase).unwrap().expose_seed(), key.expose_seed());
    fs::write(folder.join("go.json"), text).unwrap();
    let import = ["wallet", "import", "--name", "node", "--key", "go.json"];
    let imported = run(Path::new(OPERATOR), &folder, &passphrase, &import);
    assert_eq!(shown(&imported.stdout).trim(), key.did().as_str(), "{imported:?}");
    let shows = run(Path::new(OPERATOR), &folder, &passphrase, &["wallet", "show", "go.json"]);
    assert!(shown(&shows.stdout).contains(&key.did().peer_id()), "{shows:?}");
}

const NOW: u64 = 1_767_225_600_000_000_000;
/// Who takes part: the node itself first.
const PEOPLE: usize = 5;

/// One link: issuer, subject and audience by number, capabilities and how much later than now it ends.
#[derive(Clone, Debug)]
struct Link {
    action: &'static str,
    issuer: usize,
    subject: usize,
    audience: Option<usize>,
    paths: Vec<usize>,
    nonce: [u8; 12],
    ends: u64,
    depth: u64,
}

/// Who is asked by whom for what, with which tokens; everybody is a number.
#[derive(Clone, Debug)]
struct Scene {
    seeds: Vec<[u8; 32]>,
    awkward: String,
    roots: Vec<usize>,
    require: Vec<Link>,
    provide: Vec<Link>,
    /// Takes back the link at this place of the presented chain.
    revoked: Option<usize>,
    presented: Vec<Link>,
    sender: usize,
    asked: usize,
}

/// A link; `widest` of ten times with the widest path.
fn link(widest: u32) -> impl Strategy<Value = Link> {
    let audience = prop_oneof![3 => Just(None), 3 => Just(Some(0)), 1 => (1..PEOPLE).prop_map(Some)];
    let paths = vec(prop_oneof![widest => Just(0), 10 - widest => 0..5_usize], 1..3);
    let people = (0..PEOPLE, 0..PEOPLE);
    let (ends, depth) = (prop_oneof![4 => Just(9), 1 => 0..9_u64], prop_oneof![2 => Just(0), 1 => 1..3_u64]);
    (people, audience, paths, any::<[u8; 12]>(), ends, depth).prop_map(
        |((issuer, subject), audience, paths, nonce, ends, depth)| Link {
            action: "delegate",
            issuer,
            subject,
            audience,
            paths,
            nonce,
            ends,
            depth,
        },
    )
}

fn scene() -> impl Strategy<Value = Scene> {
    let others = || subsequence((1..PEOPLE).collect::<Vec<_>>(), 0..3);
    let who = (vec(any::<[u8; 32]>(), PEOPLE), hostile::segment(), others(), 0..5_usize);
    let context = (vec(link(3), 0..3), vec(link(5), 0..3));
    let broken = option::weighted(0.3, (0..5_usize, 0..PEOPLE, any::<bool>()));
    (who, context, vec(link(8), 1..5), option::weighted(0.2, 0..3_usize), broken).prop_map(
        |((seeds, awkward, roots, asked), (mut require, mut provide), mut presented, revoked, broken)| {
            let first = presented[0].issuer;
            for (at, anchor) in require.iter_mut().enumerate() {
                // A root issues it, or the node itself; to who begins the chain, and to somebody else, so that none makes
                // another superfluous.
                anchor.issuer = roots.get(at).copied().unwrap_or_default();
                anchor.subject = if at == 0 { first } else { first % (PEOPLE - 1) + 1 };
            }
            for (at, anchor) in provide.iter_mut().enumerate() {
                (anchor.issuer, anchor.subject) = (at + 1, 0);
            }
            for at in 1..presented.len() {
                presented[at].issuer = presented[at - 1].subject;
                presented[at].ends = presented[at].ends.min(presented[at - 1].ends);
                if presented[at - 1].audience.is_some() {
                    presented[at].audience = presented[at - 1].audience;
                }
            }
            if let Some((at, other, whom)) = broken {
                let at = at % presented.len();
                let link = &mut presented[at];
                if whom { link.audience = Some(other).filter(|other| *other < 3) } else { link.issuer = other }
            }
            let last = presented.last_mut().unwrap();
            (last.action, last.depth) = ("invoke", 0);
            let sender = last.subject;
            Scene { seeds, awkward, roots, require, provide, revoked, presented, sender, asked }
        },
    )
}

impl Scene {
    fn did(&self, number: usize) -> Did {
        Key::from_seed(self.seeds[number]).did().clone()
    }

    fn path(&self, number: usize) -> String {
        let awkward = &self.awkward;
        ["/a".to_owned(), "/a/b".to_owned(), format!("/a/{awkward}"), format!("/a/{awkward}/b"), "/c".to_owned()]
            [number]
            .clone()
    }

    /// A chain, signed by Go without looking at what it says.
    fn minted(&self, mints: &GoAnswers, links: &[Link]) -> Token {
        let claims = |link: &Link| {
            let paths: Vec<_> = link.paths.iter().map(|path| self.path(*path)).collect();
            let audience = link.audience.map_or(json!({}), |audience| json!({ "uri": self.did(audience) }));
            json!({
                "act": link.action, "iss": { "uri": self.did(link.issuer) }, "sub": { "uri": self.did(link.subject) },
                "aud": audience, "cap": paths, "nonce": link.nonce, "exp": NOW + link.ends, "depth": link.depth,
            })
        };
        let seeds: Vec<_> = links.iter().map(|link| self.seeds[link.issuer]).collect();
        let json = mints.mint("token", &links.iter().map(claims).collect(), &seeds).unwrap();
        Token::parse(&json).unwrap()
    }

    fn context(&self, mints: &GoAnswers) -> (Context, Token) {
        let presented = self.minted(mints, &self.presented);
        let one_by_one =
            |links: &[Link]| links.iter().map(|link| self.minted(mints, std::slice::from_ref(link))).collect();
        let issuer = |link: &Token| {
            (0..PEOPLE).map(|number| Key::from_seed(self.seeds[number])).find(|key| key.did() == link.issuer()).unwrap()
        };
        let revoked = self.revoked.and_then(|at| presented.links().nth(at));
        let context = Context {
            did: self.did(0),
            roots: self.roots.iter().map(|number| self.did(*number)).collect(),
            require: one_by_one(&self.require),
            provide: one_by_one(&self.provide),
            revoke: revoked.map(|link| Token::revoke(&issuer(link), link).unwrap()).into_iter().collect(),
        };
        (context, presented)
    }
}

#[test]
fn a_context_is_read_and_judged_by_as_in_go() {
    let _timed = Timed::start();
    let [mints, rewrites, judges] = ["mint", "rewrite", "judge"].map(GoAnswers::start);
    let (allowed, refused) = (Cell::new(0), Cell::new(0));
    let run = runner(300).run(&scene(), |scene| {
        let (context, presented) = scene.context(&mints);
        let here = context.to_json();
        let there = rewrites.ask_about("context-file", &here).map_err(TestCaseError::fail)?;
        prop_assert_eq!(shown(&there), shown(&here));
        let loaded = Context::load(&there, Nanos(NOW)).map_err(|refusal| TestCaseError::fail(refusal.message))?;
        prop_assert_eq!(&loaded, &context);

        let (sender, list) = (scene.did(scene.sender), token_list(&[presented]));
        let (own, asked) = (scene.did(0), scene.path(scene.asked));
        for now in [NOW, NOW + 3] {
            let usage = Usage::Invocation { audience: &own };
            let capability = Capability::parse(&asked).unwrap();
            let loaded = Context::load(&here, Nanos(now)).map_err(|refusal| TestCaseError::fail(refusal.message))?;
            let verdict = loaded.require(&list, &sender, &usage, &[capability], Nanos(now));
            let question = json!({
                "json": STANDARD.encode(&here), "tokens": STANDARD.encode(&list), "subject": { "uri": sender },
                "capability": asked, "now": now,
            });
            let in_go = judges.ask(&question);
            let counted = if in_go.is_ok() { &allowed } else { &refused };
            counted.set(counted.get() + 1);
            prop_assert_eq!(verdict.is_ok(), in_go.is_ok(), "here {:?}, in Go {:?}", verdict, in_go);
        }
        Ok(())
    });
    run.unwrap();
    let (allowed, refused) = (allowed.get(), refused.get());
    println!("{allowed} allowed, {refused} refused");
    assert!(allowed >= 30 && refused >= 30, "{allowed} allowed, {refused} refused: this says little");
}

/// Go writes `null` for a list of roots that was never made, and nothing for a list of tokens.
#[test]
fn a_context_with_nothing_in_it_is_read_as_go_writes_it() {
    let _timed = Timed::start();
    let rewrites = GoAnswers::start("rewrite");
    let did = Key::from_seed(seed()).did().clone();
    let bare = json!({ "did": { "uri": did } }).to_string();
    let written = rewrites.ask_about("context-file", bare.as_bytes()).unwrap();
    let expected = format!(r#"{{"did":{{"uri":"{did}"}},"roots":null,"require":{{}},"provide":{{}},"revoke":{{}}}}"#);
    assert_eq!(shown(&written), expected);
    let read = Context::load(&written, Nanos(NOW)).unwrap();
    let empty = Context { did, roots: vec![], require: vec![], provide: vec![], revoke: vec![] };
    assert_eq!(read, empty);
    assert_eq!(shown(&read.to_json()), expected.replace("null", "[]"));
    assert_eq!(rewrites.ask_about("context-file", &read.to_json()), Ok(read.to_json()));
    assert_eq!(parse_token_list(b"{}"), Ok(vec![]));
}
