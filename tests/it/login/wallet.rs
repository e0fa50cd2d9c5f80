//! What is done with a grant that is in the wallet.

use dms_operator::capability::{Action, Nanos, verify_revocation};
use dms_operator::dev::wallet::in_future;

use super::*;

async fn logged_in(person: &Person, provider: &Provider, namespace: &str) {
    person.run(&["login", &provider.multiaddress, "-n", namespace, "-y"]).await.done();
}

#[tokio::test]
async fn a_wallet_tells_who_it_is_and_what_it_holds() {
    let _timed = Timed::start();
    let person = Person::new();
    let (one, other) = (Provider::start(Misdeed::Nothing).await, Provider::start(Misdeed::Nothing).await);
    let owner = person.with_key("owner").await;
    person.run(&["whoami", "--name", "x"]).await.refused_at_last(1, "there is no key x");
    assert!(person.run(&["grants"]).await.done().contains("kubectl hosting login"));
    // Before there is a context, the key is opened.
    let fresh = person.run(&["whoami", "-o", "json"]).await.json();
    assert_eq!((&fresh["did"], &fresh["grants"]), (&json!(owner.did().as_str()), &json!([])));

    logged_in(&person, &one, "shop").await;
    logged_in(&person, &other, "blog").await;
    // From here on nobody needs the passphrase.
    let mut closed =
        Person { folder: person.folder.clone(), passphrase: name(), kubeconfig: person.kubeconfig.clone() };
    let told = closed.run(&["whoami", "-o", "json"]).await.json();
    assert_eq!(
        (&told["did"], &told["peerId"], &told["key"], &told["context"]),
        (
            &json!(owner.did().as_str()),
            &json!(owner.did().peer_id()),
            &json!(person.key("owner")),
            &json!(person.context("owner"))
        )
    );
    let rows = closed.run(&["grants", "-o", "json"]).await.json();
    assert_eq!(rows, told["grants"]);
    let expected = |row: usize, provider: &Provider, namespace: &str| {
        let token = &person.provide("owner")[row];
        json!({
            "id": &hex::encode(token.nonce())[..12], "key": "owner", "provider": provider.did().as_str(),
            "subject": owner.did().as_str(), "namespace": namespace, "actions": ["apply", "publish", "read"], "names": [],
            "capabilities": token.capabilities().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "expires": token.expires().to_string(), "expired": false,
            "revocationWritten": false, "delegations": 2,
        })
    };
    assert_eq!(rows, json!([expected(0, &one, "shop"), expected(1, &other, "blog")]));
    assert_eq!(serde_saphyr::from_str::<Value>(&closed.run(&["grants", "-o", "yaml"]).await.done()).unwrap(), rows);
    let table = closed.run(&["whoami"]).await.done();
    assert!(table.contains(owner.did().as_str()) && table.contains("apply, publish, read in blog by"), "{table}");
    assert_eq!(closed.run(&["grants", "--name", "owner"]).await.done().lines().count(), 3);

    // Several keys are told apart by name, unless one is the default.
    closed.passphrase.clone_from(&person.passphrase);
    closed.with_key("second").await;
    closed.run(&["whoami"]).await.refused_at_last(1, "say with --name which is meant, owner, second");
    closed.run(&["wallet", "new", "--name", "default"]).await.done();
    assert_eq!(closed.run(&["whoami", "-o", "json"]).await.json()["name"], "default");
}

#[tokio::test]
async fn a_part_is_passed_on_and_taken_back() {
    let _timed = Timed::start();
    let person = Person::new();
    let provider = Provider::start_with(Misdeed::Nothing, Duration::from_hours(40 * 24)).await;
    let owner = person.with_key("owner").await;
    let pipeline = Wallet::random().unwrap();
    let to = pipeline.did().to_string();
    let line = ["delegate", "--to", &to, "--can", "apply,read", "--only", "web", "--for", "30d"];
    person.run(&line).await.refused_at_last(1, "the key owner holds no grant");
    logged_in(&person, &provider, "shop").await;

    person.run(&[&line[..], &["--out", "ci.token"]].concat()).await.done();
    assert_eq!(mode(&person.folder.join("ci.token")), 0o600);
    let token = Token::parse(fs::read(person.folder.join("ci.token")).unwrap().trim_ascii()).unwrap();
    token.verify(in_future(Duration::ZERO), &|_| false).unwrap();
    let paths: Vec<_> = token.capabilities().iter().map(ToString::to_string).collect();
    assert_eq!(paths, ["/hosting/shop/apply/web", "/hosting/shop/read/web"]);
    assert_eq!(
        (token.issuer(), token.subject(), token.chain()),
        (owner.did(), pipeline.did(), person.provide("owner").first())
    );
    assert_eq!((token.action(), token.depth(), token.audience()), (Action::Delegate, 1, Some(provider.did())));
    let (from, until) = (in_future(Duration::from_hours(30 * 24 - 1)), in_future(Duration::from_hours(30 * 24)));
    assert!((from..=until).contains(&token.expires()), "{}", token.expires());
    let printed = person.run(&[&line[..], &["--out", "-"]].concat()).await.done();
    let second = Token::parse(printed.trim().as_bytes()).unwrap();

    // Nothing outlasts the grant, and that is said.
    let ended = person.run(&["delegate", "--to", &to, "--can", "read", "--for", "41d", "--out", "long.token"]).await;
    assert!(ended.err.contains("The grant ends earlier than --for says"), "{ended:?}");
    ended.done();
    let long = Token::parse(fs::read(person.folder.join("long.token")).unwrap().trim_ascii()).unwrap();
    assert_eq!(long.not_after(), person.provide("owner")[0].not_after());

    // What is not in the grant is not passed on, and nothing is written.
    for (extra, says) in [
        (&["--can", "delete"][..], "the first does not give /hosting/shop/delete"),
        (&["--can", "read", "--in", "blog"], "the first does not give /hosting/blog/read"),
        (&["--can", "read", "--max-delegations", "2"], "may be passed on 2 times in a row"),
        (&["--can", "read", "--out", "ci.token"], "exists already"),
    ] {
        let mut line = vec!["delegate", "--to", &to];
        if !extra.contains(&"--out") {
            line.extend(["--out", "wide.token"]);
        }
        person.run(&[&line, extra].concat()).await.refused_at_last(1, says);
        assert!(!person.folder.join("wide.token").exists());
    }
    let rows = person.run(&["grants", "--delegated", "-o", "json"]).await.json();
    let ids: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    let id = |token: &Token| hex::encode(token.nonce())[..12].to_owned();
    assert_eq!(ids.len(), 3, "{rows}");
    assert!([&token, &second, &long].iter().all(|token| ids.contains(&id(token))), "{rows}");
    assert!(rows.as_array().unwrap().iter().all(|row| row["revocationWritten"] == false), "{rows}");

    person.run(&["revoke"]).await.refused_at_last(1, "name what is to be taken back");
    person.run(&["revoke", &to]).await.refused_at_last(1, "is more than one token");
    person.run(&["revoke", "ffffffffffff"]).await.refused_at_last(1, "no token that this wallet passed on");
    for which in [id(&token), "ci.token".to_owned()] {
        let manifest = person.run(&["revoke", &which, "-n", "shop"]).await.done();
        let object: Value = serde_saphyr::from_str(&manifest).unwrap();
        assert_eq!(
            (&object["kind"], &object["metadata"]["namespace"]),
            (&json!("CapabilityRevocation"), &json!("shop"))
        );
        let revocation = Token::parse(object["spec"]["token"].as_str().unwrap().as_bytes()).unwrap();
        verify_revocation(&revocation).unwrap();
        assert_eq!(revocation.revocation_key(), token.revocation_key());
        assert!(token.verify(Nanos(1), &|key| *key == revocation.revocation_key()).is_err());
    }
    let rows = person.run(&["grants", "--delegated", "-o", "json"]).await.json();
    for row in rows.as_array().unwrap() {
        assert_eq!(row["revocationWritten"], json!(row["id"] == json!(id(&token))), "{rows}");
    }
    let shown = person.run(&["grants", "--delegated"]).await.done();
    assert_eq!(shown.matches(" (revocation written)").count(), 1, "{shown}");
    // A grant can be taken back by its provider alone.
    fs::write(person.folder.join("grant.token"), person.provide("owner")[0].to_json()).unwrap();
    person.run(&["revoke", "grant.token"]).await.refused_at_last(1, "Only its issuer takes it back");
    let line = ["revoke", &id(&second), "--apply"];
    person.run(&line).await.refused_at_last(1, "nothing was revoked: no Kubernetes API server is configured");

    // At a terminal one is picked from those there are.
    let passphrase = person.passphrase.clone();
    let dialogue = [("Which is taken back? [1-", "1"), ("Passphrase of", &passphrase)];
    let (code, screen) = person.run_on_terminal(&["revoke", "--out", "revocation.yaml"], &dialogue).await;
    assert!(
        code == 0 && fs::read_to_string(person.folder.join("revocation.yaml")).unwrap().contains("act"),
        "{screen}"
    );
}
