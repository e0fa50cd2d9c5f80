use super::*;

fn envelope(chain: &Chain) -> Envelope {
    Envelope {
        to: Handle::root_of(chain.provider.did()),
        behaviour: ASKED.to_owned(),
        from: Handle::of(chain.pipeline.did(), None, None),
        nonce: rand::random(),
        expires: in_future(Duration::from_secs(600)),
        continuation: None,
        topic: None,
        message: b"{\"a\":1}".to_vec(),
        capabilities: token_list(&chain.links[2..]),
        signature: None,
    }
}

#[test]
fn an_envelope_is_judged_as_its_recipient_does() {
    let _timed = Timed::start();
    let chain = Chain::new();
    let good = envelope(&chain).sign(&chain.pipeline.key);
    let judged = |bytes: &[u8], extra: &[&str]| {
        chain.put("envelope.json", bytes);
        let line = ["envelope", "verify", "--envelope", "envelope.json", "--capability", ASKED, "-o", "json"];
        let ended = chain.desk.run(&[&line[..], extra].concat());
        let value = ended.read();
        (ended.code, value["reason"].as_str().map(str::to_owned), value)
    };
    let context = ["--context", "context.cap"];
    let refused = |bytes: &[u8], reason: &str| {
        let (code, found, value) = judged(bytes, &context);
        assert_eq!((code, found.as_deref()), (2, Some(reason)), "{value}");
        value
    };

    let (code, reason, value) = judged(&[&good.to_json(), &b"\n"[..]].concat(), &context);
    assert_eq!((code, reason, &value["not_after"]), (0, None, &json!(good.expires.0)), "{value}");
    assert_eq!(value["chain"][2]["subject"], chain.pipeline.did().as_str());
    let (_, _, alone) = judged(&good.to_json(), &["--audience", chain.provider.did().as_str()]);
    assert_eq!(alone, value);

    let (code, reason, _) = judged(&good.to_json(), &["--audience", chain.owner.did().as_str()]);
    assert_eq!((code, reason.as_deref()), (2, Some("WrongRecipient")));
    let elsewhere = Envelope { to: Handle::root_of(chain.owner.did()), ..envelope(&chain) };
    refused(&elsewhere.sign(&chain.pipeline.key).to_json(), "WrongRecipient");
    let (code, reason, _) = judged(&good.to_json(), &[&context[..], &["--topic", "/news"]].concat());
    assert_eq!((code, reason.as_deref()), (2, Some("WrongRecipient")));

    let text = String::from_utf8(good.to_json()).unwrap();
    let other = text.replace(&STANDARD.encode("{\"a\":1}"), &STANDARD.encode("{\"a\":2}"));
    assert_ne!(other, text);
    refused(other.as_bytes(), "BadSignature");
    // Whoever steals the tokens has not the key that they name.
    let stolen = Envelope { from: Handle::of(chain.owner.did(), None, None), ..envelope(&chain) };
    refused(&stolen.sign(&chain.owner.key).to_json(), "SignerMismatch");
    let bare = Envelope { capabilities: token_list(&[]), ..envelope(&chain) };
    assert_eq!(refused(&bare.sign(&chain.pipeline.key).to_json(), "CapabilityMissing")["chain"], json!([]));
    refused(&Envelope { expires: Nanos(1), ..envelope(&chain) }.sign(&chain.pipeline.key).to_json(), "Expired");
    assert_eq!(refused(b"\xff", "Malformed")["chain"], json!([]));
    // The chain inside is judged too.
    let changed = chain.with(2, |link| link.saying("\"depth\":1", "\"depth\":2"));
    let list = [b"{\"tok\":[", &changed[..], b"]}"].concat();
    let value = refused(
        &Envelope { capabilities: list, ..envelope(&chain) }.sign(&chain.pipeline.key).to_json(),
        "BadSignature",
    );
    assert!(value["message"].as_str().unwrap().starts_with(&chain.link(2)), "{value}");

    let both = [&context[..], &["--audience", chain.owner.did().as_str()]].concat();
    chain.put("envelope.json", &good.to_json());
    let line = ["envelope", "verify", "--envelope", "envelope.json", "--capability", ASKED];
    assert_eq!(chain.desk.run(&[&line[..], &both].concat()).code, 1, "two recipients contradict each other");
    assert_eq!(chain.desk.run(&line).code, 1, "nobody's trust is named");
}
