use super::*;

/// The value of `exp` in a link, as its text says it.
fn expiry(token: &Token) -> String {
    format!("\"exp\":{}", token.expires().0)
}

#[test]
fn a_chain_that_holds_is_accepted_and_shown() {
    let _timed = Timed::start();
    let chain = Chain::new();
    let ended = chain.verify(&[]);
    let value = ended.read();
    assert_eq!((ended.code, &value["verdict"], &value["reason"]), (0, &json!("accept"), &json!(null)), "{value}");
    assert_eq!(value["not_after"], json!(chain.links[2].expires().0), "{value}");
    for (link, token) in value["chain"].as_array().unwrap().iter().zip(&chain.links) {
        let paths: Vec<_> = token.capabilities().iter().map(Capability::as_str).collect();
        assert_eq!(link["issuer"], token.issuer().as_str());
        assert_eq!(link["subject"], token.subject().as_str());
        assert_eq!(link["audience"], chain.provider.did().as_str());
        assert_eq!(link["capabilities"], json!(paths));
        assert_eq!(link["expires"], json!(token.expires().0));
        assert_eq!(link["nonce"], hex::encode(token.nonce()));
    }
    let yaml = chain.desk.run(&[
        "token",
        "verify",
        "--token",
        "token.json",
        "--audience",
        chain.provider.did().as_str(),
        "--capability",
        ASKED,
        "-o",
        "yaml",
    ]);
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml.done()).unwrap(), value, "the audience alone trusts itself");

    let tree = chain.desk.run(&["token", "explain", "--token", "token.json"]).done();
    let [provider, owner, pipeline] = chain.signers().map(|wallet| wallet.did().to_string());
    let [first, second, third] = chain.links.each_ref().map(|token| token.expires().to_string());
    let all = ["apply", "publish", "read", "usage", "delete"].map(|action| format!("/hosting/shop/{action}")).join(" ");
    let expected = format!(
        "{provider}\n\
         └─ 1 delegate → {owner}  {all}  for {provider}  at most 3 below  until {first}\n\
         {0:3}└─ 2 delegate → {pipeline}  /hosting/shop/apply  for {provider}  at most 1 below  until {second}\n\
         {0:6}└─ 3 invoke → {pipeline}  {ASKED}  for {provider}  until {third}\n\
         ✓  every signature fits and nothing is wider; valid until {third}\n",
        ""
    );
    assert_eq!(tree, expected);
    let lines = chain.desk.run(&["token", "inspect", "--token", "token.json"]).done();
    assert_eq!(lines.lines().count(), 4, "{lines}");
}

#[test]
fn each_link_in_turn_expired_is_named() {
    let _timed = Timed::start();
    let chain = Chain::new();
    for number in 1..=3 {
        let token = &chain.links[number - 1];
        let expired = chain.with(number, |link| {
            link.saying(&expiry(token), "\"exp\":1700000000000000000").signed_by(&chain.signers()[number - 1].key)
        });
        chain.refused(&expired, "Expired", number);
    }
    // The same chain, judged at the end of its last link and a nanosecond later.
    chain.put("token.json", &chain.links[2].to_json());
    let end = chain.links[2].expires().0;
    assert_eq!(chain.verify(&["--now", &end.to_string()]).code, 0);
    let late = chain.verify(&["--now", &(end + 1).to_string()]);
    assert_eq!((late.code, late.read()["reason"].as_str().unwrap()), (2, "Expired"));
}

#[test]
fn each_link_in_turn_widened_is_named() {
    let _timed = Timed::start();
    let chain = Chain::new();
    for number in 2..=3 {
        let wider = chain.with(number, |link| {
            let extra = "\"cap\":[\"/hosting/elsewhere\",";
            link.saying("\"cap\":[", extra).signed_by(&chain.signers()[number - 1].key)
        });
        chain.refused(&wider, "Widened", number);
    }
    // Nothing stands above the root: who widens it is not its issuer. Here it is the owner.
    let own = chain.with(1, |link| link.saying("\"cap\":[", "\"cap\":[\"/\",").signed_by(&chain.owner.key));
    chain.refused(&own, "BadSignature", 1);
}

#[test]
fn each_link_in_turn_tampered_is_named() {
    let _timed = Timed::start();
    let chain = Chain::new();
    for number in 1..=3 {
        let token = &chain.links[number - 1];
        let sooner = format!("\"exp\":{}", token.expires().0 - 1);
        // Below it nothing outlives it: only the signature tells.
        let below = chain.links.get(number).map_or(0, |link| link.expires().0);
        assert!(token.expires().0 > below);
        chain.refused(&chain.with(number, |link| link.saying(&expiry(token), &sooner)), "BadSignature", number);
    }
}

#[test]
fn each_link_in_turn_revoked_is_named() {
    let _timed = Timed::start();
    let chain = Chain::new();
    for (number, seed) in [(1, "provider.seed"), (2, "owner.seed"), (3, "pipeline.seed")] {
        let link = number.to_string();
        let line = ["token", "revoke", "--seed-file", seed, "--token", "token.json", "--link", &link];
        let printed = chain.desk.run(&line).done();
        let revocation = Token::parse(printed.trim_end().as_bytes()).unwrap();
        chain.put("context.cap", &chain.context(&[revocation]).to_json());
        chain.refused(&chain.links[2].to_json(), "Revoked", number);
    }
    let other = chain.desk.run(&["token", "revoke", "--seed-file", "owner.seed", "--token", "token.json"]);
    assert_eq!(other.code, 1);
    assert!(other.err.contains("--link 2") && other.err.contains(chain.pipeline.did().as_str()), "{}", other.err);
    let manifest = chain.desk.run(&[
        "token",
        "revoke",
        "--seed-file",
        "owner.seed",
        "--token",
        "token.json",
        "--link",
        "2",
        "--manifest",
        "lost",
        "-n",
        "hosting",
    ]);
    let object: Value = serde_saphyr::from_str(&manifest.done()).unwrap();
    assert_eq!(
        (&object["kind"], &object["metadata"]["namespace"]),
        (&json!("CapabilityRevocation"), &json!("hosting"))
    );
    let token = Token::parse(object["spec"]["token"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(token.revocation_key(), chain.links[1].revocation_key());
}

#[test]
fn of_a_list_one_token_is_enough() {
    let _timed = Timed::start();
    let chain = Chain::new();
    let good = String::from_utf8(chain.links[2].to_json()).unwrap();
    let bad = String::from_utf8(chain.with(2, |link| link.saying("\"depth\":1", "\"depth\":2"))).unwrap();
    chain.put("token.json", format!("{{\"tok\":[{bad},{good}]}}\n").as_bytes());
    let ended = chain.verify(&[]);
    assert_eq!((ended.code, ended.read()["chain"][1]["depth"].clone()), (0, json!(1)));
    chain.put("token.json", format!("{{\"tok\":[{bad},{bad}]}}").as_bytes());
    let ended = chain.verify(&[]);
    assert_eq!((ended.code, ended.read()["chain"][1]["depth"].clone()), (2, json!(2)));
    assert!(ended.read()["message"].as_str().unwrap().starts_with(&chain.link(2)));
}

#[test]
fn what_is_asked_of_a_chain_decides() {
    let _timed = Timed::start();
    let chain = Chain::new();
    let reason = |extra: &[&str]| {
        let ended = chain.verify(extra);
        (ended.code, ended.read()["reason"].as_str().map(str::to_owned))
    };
    let refused = |reason: &str| (2, Some(reason.to_owned()));
    assert_eq!(reason(&["--capability", "/hosting/shop/read"]), refused("CapabilityMissing"));
    assert_eq!(reason(&["--audience", chain.owner.did().as_str()]), refused("WrongAudience"));
    assert_eq!(reason(&["--action", "delegate"]), refused("CapabilityMissing"));
    // Another node's context trusts nobody here, unless it says so.
    let other = Wallet::random().unwrap();
    let mut context = Context { did: other.did().clone(), ..chain.context(&[]) };
    chain.put("context.cap", &context.to_json());
    assert_eq!(reason(&["--audience", chain.provider.did().as_str()]), refused("NotAnchored"));
    context.roots.push(chain.provider.did().clone());
    chain.put("context.cap", &context.to_json());
    assert_eq!(reason(&["--audience", chain.provider.did().as_str()]), (0, None));
}

#[test]
fn a_token_that_cannot_be_read_is_rejected_and_a_command_line_is_an_error() {
    let _timed = Timed::start();
    let chain = Chain::new();
    let good = chain.links[2].to_json();
    let twice = String::from_utf8(good.clone()).unwrap().replacen("\"act\"", "\"act\":\"invoke\",\"act\"", 1);
    let unknown = String::from_utf8(good.clone()).unwrap().replacen("\"act\"", "\"extra\":1,\"act\"", 1);
    for (bytes, reason) in [
        (&b"\xff\xfe{"[..], "Malformed"),
        (b"", "Malformed"),
        (&good[..good.len() - 1], "Malformed"),
        (twice.as_bytes(), "DuplicateMember"),
        (unknown.as_bytes(), "UnknownMember"),
        (&vec![b'['; 20_000], "TooLarge"),
    ] {
        chain.put("token.json", bytes);
        let ended = chain.verify(&[]);
        let value = ended.read();
        assert_eq!((ended.code, &value["reason"], &value["chain"]), (2, &json!(reason), &json!([])), "{value}");
        for command in ["inspect", "explain"] {
            assert_eq!(chain.desk.run(&["token", command, "--token", "token.json"]).code, 2);
        }
    }
    let line = ["token", "verify", "--token", "-", "--context", "context.cap", "--capability", ASKED];
    let piped = |bytes: &[u8]| chain.desk.run_with(&line, &[], bytes).code;
    assert_eq!((piped(&[&good, &b"\n"[..]].concat()), piped(b"{}")), (0, 2));

    chain.put("token.json", &good);
    chain.put("broken.cap", b"{}");
    let audience = chain.provider.did().as_str();
    for wrong in [
        &["token", "verify", "--token", "token.json", "--capability", ASKED][..],
        &["token", "verify", "--token", "token.json", "--audience", audience],
        &["token", "verify", "--token", "token.json", "--audience", audience, "--capability", "no path"],
        &["token", "verify", "--token", "token.json", "--audience", "did:key:zz", "--capability", ASKED],
        &["token", "verify", "--token", "token.json", "--audience", audience, "--capability", ASKED, "--now", "soon"],
        &["token", "verify", "--token", "token.json", "--context", "broken.cap", "--capability", ASKED],
        &["token", "verify", "--token", "absent.json", "--audience", audience, "--capability", ASKED],
        &["token", "explain", "--token", "token.json", "--capability", ASKED],
        &["token", "inspect", "--token", "absent.json"],
        &["token"],
        &["nothing"],
        &[],
    ] {
        let ended = chain.desk.run(wrong);
        assert_eq!((ended.code, ended.out.as_str()), (1, ""), "{wrong:?}: {ended:?}");
        assert!(!ended.err.is_empty(), "{wrong:?}");
    }
    for right in [&["--help"][..], &["--version"], &["token", "verify", "--help"]] {
        assert_eq!(chain.desk.run(right).code, 0, "{right:?}");
    }
    assert!(chain.desk.run(&["--help"]).out.contains("Exit codes: 0 "));
}
