//! Signing, renewing and judging files, without a cluster.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use dms_operator::{
    capability::{Capability, Context, Minting, Nanos},
    controller::clock::wall,
};

use super::*;
use crate::{timed::Timed, world::release_of};

/// An owner with a grant in the environment, and a manifest.
fn desk(hours: u64) -> (Desk, Pair, String) {
    let (mut desk, pair) = (Desk::new(), Pair::new(hours));
    let seed = desk.guard(&pair.owner);
    desk.file("web.yaml", &manifest("dms-operator", Some("shop"), "web", "hello"));
    (desk, pair, seed)
}

#[test]
fn a_file_is_signed_in_place_and_keeps_everything_else() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    let variables = variables(&seed, &grant);
    let before = desk.text("web.yaml");
    let path = desk.folder.join("web.yaml");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("web.yaml", desk.folder.join("link.yaml")).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();

    let out = desk.run(&["sign", "-i", "-f", "link.yaml"], &variables, "").done();
    assert!(out.starts_with("link.yaml: HostingDeployment shop/web signed by did:key:"), "{out}");
    let after = desk.text("web.yaml");
    let (new, gone) = changes(&before, &after);
    assert_eq!(gone, Vec::<&str>::new());
    let release = release_of(&files("hello"));
    assert_eq!(new[0], format!("  owner: {}", pair.owner.did()));
    assert_eq!(new[1], format!("      release: {release}"));
    assert_eq!((new[2], new.len()), ("  authorization:", 4));
    assert!(new[3].starts_with("    invocation: eyJ"), "{new:?}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_ne!(fs::metadata(&path).unwrap().ino(), inode, "it is replaced at once, never half written");
    assert!(fs::symlink_metadata(desk.folder.join("link.yaml")).unwrap().is_symlink());
    let left: Vec<_> = fs::read_dir(&desk.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");

    // Once more: only the invocation changes; and through a pipe the same text comes out.
    desk.run(&["sign", "-i", "-f", "web.yaml"], &variables, "").done();
    let again = desk.text("web.yaml");
    let (new, gone) = changes(&after, &again);
    assert!(new.len() == 1 && gone.len() == 1 && new[0].starts_with("    invocation: "), "{new:?} {gone:?}");
    let piped = desk.run(&["sign", "-f", "-"], &variables, &before).done();
    assert_eq!(changes(&before, &piped).1, Vec::<&str>::new());

    // What cannot be signed leaves the file as it is.
    let broken = desk.text("web.yaml").replace("access: Public", "acess: Public");
    desk.file("web.yaml", &broken);
    let ended = desk.run(&["sign", "-i", "-f", "web.yaml"], &variables, "");
    ended.refused_saying(1, &["spec.content.acess (perhaps access is meant)", "correct or remove"]);
    assert_eq!(desk.text("web.yaml"), broken);
    desk.run(&["sign", "-i", "-f", "-"], &variables, &before)
        .refused_saying(1, &["standard input cannot be written in place"]);
}

#[test]
fn several_files_make_one_stream_and_json_comes_out_where_it_is_asked_for() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    let whole = desk.text("web.yaml");
    let (page, site) = whole.split_once("---\n").unwrap();
    desk.file("page.yaml", page.trim_end());
    desk.file("site.yaml", site);
    let line = ["sign", "-f", "page.yaml", "-f", "site.yaml"];
    let out = desk.run(&line, &variables(&seed, &grant), "").done();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&out).unwrap();
    assert_eq!(documents.len(), 2, "{out}");
    let json = desk.run(&[&line[..], &["-o", "json"]].concat(), &variables(&seed, &grant), "").done();
    let objects: Vec<Value> = serde_json::Deserializer::from_str(&json).into_iter().map(Result::unwrap).collect();
    assert_eq!((&objects[0], objects[1]["spec"]["owner"].as_str()), (&documents[0], Some(pair.owner.did().as_str())));
    desk.file("signed.json", &json);
    desk.run(&["verify", "-f", "signed.json"], &[], "").done();
}

#[test]
fn the_release_is_that_of_a_folder_or_an_archive() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    let variables = variables(&seed, &grant);
    desk.file("site/index.html", "hello");
    desk.shell("tar -czf site.tar.gz -C site index.html && sha256sum site.tar.gz > sum", &[]).done();
    let sum = desk.text("sum").split_whitespace().next().unwrap().to_owned();
    let archived = |sum: &str| {
        let site = desk.text("web.yaml").split_once("---\n").unwrap().1.to_owned();
        let from = format!("archive: {{url: 'https://example.org/site.tar.gz', sha256: '{sum}'}}");
        site.replace("configMap:\n          name: web", &from)
    };
    let release = release_of(&files("hello"));
    for content in ["site", "site.tar.gz"] {
        let out = desk.run(&["sign", "-f", "-", "--content", content], &variables, &archived(&sum)).done();
        assert_eq!(deployment(&out)["spec"]["content"]["release"], release, "{content}");
    }
    let ended = desk.run(&["sign", "-f", "-", "--content", "site.tar.gz"], &variables, &archived(&"0".repeat(64)));
    ended.refused_saying(1, &["comes from another archive", &sum, "name the archive that is published there"]);
    let ended = desk.run(&["sign", "-f", "-", "--content", "web.yaml"], &variables, &archived(&sum));
    ended.refused_saying(1, &["the archive web.yaml gives no files"]);
    desk.run(&["sign", "-f", "-"], &variables, &archived(&sum))
        .refused_saying(1, &["or name a folder or an archive with --content"]);
}

#[test]
fn what_kustomize_and_helm_render_goes_through_a_pipe() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    let variables = variables(&seed, &grant);
    desk.file("kustomization.yaml", "namePrefix: my-\nnamespace: shop\nresources: [site.yaml]\n");
    let site = desk.text("web.yaml").split_once("---\n").unwrap().1.to_owned();
    let site = site
        .replace("from:\n        configMap:\n          name: web", &format!("release: {}", release_of(&files("x"))));
    desk.file("site.yaml", &site);
    let out =
        desk.shell("kubectl kustomize . | tee rendered.yaml | kubectl hosting sign -f - | tee signed.yaml", &variables);
    let (rendered, out) = (desk.text("rendered.yaml"), out.done());
    assert_eq!(changes(&rendered, &out).1, Vec::<&str>::new());
    assert_eq!(deployment(&out)["metadata"]["name"], "my-web");
    desk.run(&["verify", "-f", "signed.yaml"], &[], "").done();

    desk.file("chart/Chart.yaml", "apiVersion: v2\nname: web\nversion: 0.1.0\n");
    desk.file(
        "chart/templates/site.yaml",
        &site.replace("\"web\"", "{{ .Release.Name }}").replace("shop", "{{ .Release.Namespace }}"),
    );
    let line =
        "helm template --namespace shop two ./chart | tee rendered.yaml | kubectl hosting sign -f - | tee signed.yaml";
    let out = desk.shell(line, &variables).done();
    let rendered = desk.text("rendered.yaml");
    assert!(
        rendered.contains("# Source: web/templates/site.yaml\n") && out.contains("# Source: web/templates/site.yaml\n")
    );
    assert_eq!(changes(&rendered, &out).1, Vec::<&str>::new());
    assert_eq!(deployment(&out)["metadata"]["name"], "two");
    desk.run(&["verify", "-f", "signed.yaml"], &[], "").done();
}

/// A context as DMS keeps it, with grants that may be presented.
fn context(owner: &Wallet, provide: Vec<Token>) -> String {
    let (roots, require, revoke) = (vec![], vec![], vec![]);
    String::from_utf8(Context { did: owner.did().clone(), roots, require, provide, revoke }.to_json()).unwrap()
}

#[test]
fn key_and_grant_come_from_the_wallet() {
    let _timed = Timed::start();
    let (mut desk, pair, seed) = desk(5);
    let passphrase = name();
    desk.secrets.push(passphrase.clone());
    let unlock = [("DMS_PASSPHRASE", passphrase.as_str())];
    desk.file("owner.seed", &seed);
    let none = desk.run(&["sign", "-f", "web.yaml"], &unlock, "");
    none.refused_saying(1, &["no key to sign with is named", "--key FILE|NAME", "DMS_OPERATOR_KEY_SEED"]);
    desk.run(&["wallet", "import", "--name", "owner", "--seed-file", "owner.seed"], &unlock, "").done();
    let none = desk.run(&["sign", "-f", "web.yaml"], &unlock, "");
    none.refused_saying(1, &["the wallet holds no grant for", pair.owner.did().as_str(), "--grant FILE"]);

    let short = pair.provider.grant(pair.owner.did(), "shop", in_future(Duration::from_hours(2))).unwrap();
    let elsewhere = pair.provider.grant(pair.owner.did(), "other", in_future(Duration::from_hours(9))).unwrap();
    desk.file("user/cap/owner.cap", &context(&pair.owner, vec![short, elsewhere, pair.grant.clone()]));
    for line in [&["sign", "-f", "web.yaml"][..], &["sign", "-f", "web.yaml", "--key", "owner"]] {
        let out = desk.run(line, &unlock, "").done();
        desk.file("signed.yaml", &out);
        let judged = desk.run(&["verify", "-f", "signed.yaml", "-o", "json"], &[], "").read();
        assert_eq!(judged["objects"][0]["notAfter"], pair.grant.not_after().0, "the grant that lasts longest");
    }
    let text = desk.text("web.yaml").replace("namespace: shop", "namespace: third");
    let ended = desk.run(&["sign", "-f", "-"], &unlock, &text);
    ended.refused_saying(1, &["none of the 3 grants of the wallet lets", "does not give /hosting/third/apply/web"]);
    let stranger = Wallet::random().unwrap();
    let line = ["sign", "-f", "web.yaml", "--provider", stranger.did().as_str()];
    desk.run(&line, &unlock, "").refused_saying(1, &["not by did:key:"]);
    desk.run(&["sign", "-f", "web.yaml", "--key", "nobody"], &unlock, "")
        .refused_saying(1, &["there is no key nobody"]);

    // A pipeline has neither wallet nor passphrase.
    let bad = [("DMS_OPERATOR_KEY_SEED", "abc")];
    desk.run(&["sign", "-f", "web.yaml"], &bad, "").refused_saying(1, &["DMS_OPERATOR_KEY_SEED does not hold a seed"]);
    let bad = [("DMS_OPERATOR_KEY_SEED", seed.as_str()), ("DMS_OPERATOR_GRANT", "{}")];
    desk.run(&["sign", "-f", "web.yaml"], &bad, "").refused_saying(1, &["DMS_OPERATOR_GRANT holds no token"]);
}

#[test]
fn a_folder_is_renewed_where_it_is_time_and_nowhere_else() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(24 * 10);
    let old = text(&pair.grant);
    let sign =
        |file: &str, grant: &str| drop(desk.run(&["sign", "-i", "-f", file], &variables(&seed, grant), "").done());
    let long = pair.provider.grant(pair.owner.did(), "shop", in_future(Duration::from_hours(24 * 90))).unwrap();
    let long = text(&long);
    for (file, grant) in [("git/ends.yaml", &old), ("git/deep/lasts.yml", &long), ("git/edited.yaml", &old)] {
        let called = Path::new(file).file_stem().unwrap().to_str().unwrap();
        desk.file(file, &manifest("dms-operator", Some("shop"), called, "hello"));
        sign(file, grant);
    }
    let edited = desk.text("git/edited.yaml").replace("access: Public", "access: Owner");
    desk.file("git/edited.yaml", &edited);
    desk.file("git/plain.yaml", &manifest("dms-operator", Some("shop"), "plain", "hello"));
    desk.file("git/other.yaml", "a: [1, 2]\n");
    desk.file("git/chart/template.yaml", "{{- if .Values.x }}\n");
    desk.file("git/.hidden/ends.yaml", &desk.text("git/ends.yaml"));
    let all = ["git/ends.yaml", "git/deep/lasts.yml", "git/edited.yaml", "git/plain.yaml", "git/.hidden/ends.yaml"];
    let texts = || all.map(|file| desk.text(file));

    let before = texts();
    let line = |within| ["sign", "--renew", "--within", within, "-f", "git", "-o", "json"];
    let idle = desk.run(&line("5d"), &[], "");
    let outcomes = |ended: &Ended| -> BTreeMap<String, String> {
        let rows = ended.read();
        let text = |row: &Value, member: &str| row[member].as_str().unwrap().to_owned();
        rows.as_array().unwrap().iter().map(|row| (text(row, "name"), text(row, "outcome"))).collect()
    };
    let expected = |rows: [(&str, &str); 4]| rows.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).into();
    assert_eq!(idle.code, 0, "nothing ends soon, so no key is needed: {idle:?}");
    let kept = [("ends", "kept"), ("lasts", "kept"), ("edited", "kept"), ("plain", "unsigned")];
    assert_eq!(outcomes(&idle), expected(kept));
    assert_eq!(texts(), before);

    // With the same grant nothing is gained.
    let vain = desk.run(&line("30d"), &variables(&seed, &old), "");
    vain.refused_saying(1, &["with the newest grant at hand no later", "2 of 4 could not be renewed"]);
    assert_eq!(texts(), before);

    let ended = desk.run(&line("30d"), &variables(&seed, &long), "");
    let rows = [("ends", "renewed"), ("lasts", "kept"), ("edited", "failed"), ("plain", "unsigned")];
    assert_eq!(outcomes(&ended), expected(rows));
    ended.refused_saying(1, &["it was changed since it was signed", "1 of 4 could not be renewed"]);
    let after = texts();
    assert_eq!(after[1..], before[1..], "the others are as they were");
    let (new, gone) = changes(&before[0], &after[0]);
    assert!(new.len() == 1 && gone.len() == 1 && new[0].starts_with("    invocation: "), "{new:?} {gone:?}");
    let (was, is) = (deployment(&before[0]), deployment(&after[0]));
    let statement = |object: &Value| -> Value {
        let invocation = STANDARD.decode(object["spec"]["authorization"]["invocation"].as_str().unwrap()).unwrap();
        let envelope: Value = serde_json::from_slice(&invocation).unwrap();
        serde_json::from_slice(&STANDARD.decode(envelope["msg"].as_str().unwrap()).unwrap()).unwrap()
    };
    let (was, is) = (statement(&was), statement(&is));
    assert_eq!(was["digest"], is["digest"]);
    assert!(was["time"].as_u64() < is["time"].as_u64());

    desk.file("git/edited.yaml", "nothing: here\n");
    let table = desk.run(&["sign", "--renew", "--within", "30d", "-f", "git"], &[], "").done();
    assert!(table.contains("kept      git/ends.yaml  shop/ends: valid until "), "{table}");
    desk.run(&["sign", "--renew", "-f", "git"], &[], "").refused_saying(1, &["--within"]);
}

/// One signed manifest, and what the gate says to each way of spoiling it.
#[test]
fn the_gate_lets_through_what_the_provider_accepts_and_nothing_else() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    desk.run(&["sign", "-i", "-f", "web.yaml"], &variables(&seed, &grant), "").done();
    let good = desk.text("web.yaml");
    let provider = pair.provider.did().as_str();
    let verify = |text: &str, more: &[&str]| desk.run(&[&["verify", "-f", "-"], more].concat(), &[], text);

    let told = verify(&good, &[]);
    told.refused_saying(
        0,
        &["✓  shop/web: signed by ", "judged as the provider", "whom it is addressed to", "--provider DID"],
    );
    let told = verify(&good, &["--provider", provider]).done();
    assert!(!told.contains("judged as"), "{told}");
    let json = verify(&good, &["-o", "json"]).read();
    assert_eq!(json["verdict"], "accept");
    let object = &json["objects"][0];
    assert_eq!((&object["providerFrom"], &object["provider"]), (&json!("envelope"), &json!(provider)));
    assert_eq!((&object["signer"], &object["unknownFields"]), (&json!(pair.owner.did()), &json!([])));
    let yaml: Value = serde_saphyr::from_str(&verify(&good, &["-o", "yaml"]).done()).unwrap();
    assert_eq!(yaml, json);

    // YAML that differs only in order, style and comments is accepted.
    let value = deployment(&good);
    verify(&serde_json::to_string(&value).unwrap(), &[]).done();

    let stranger = Wallet::random().unwrap();
    let unsigned: String = good.split_inclusive('\n').filter(|line| !line.contains("invocation")).collect();
    let unsigned = unsigned.replace("  authorization:\n", "");
    for (text, more, code, sentences) in [
        (
            good.replace("access: Public", "access: Owner"),
            &[][..],
            "DigestMismatch",
            ["it differs in: content", "kubectl hosting sign"],
        ),
        (
            good.replace("name: \"web\"", "name: my-web"),
            &[],
            "WrongBehaviour",
            ["/hosting/shop/apply/web", "kubectl hosting sign -n NAMESPACE"],
        ),
        (
            good.replace("namespace: shop", "namespace: test"),
            &[],
            "WrongBehaviour",
            ["/hosting/test/apply/web", "kubectl hosting sign"],
        ),
        (
            good.clone(),
            &["--provider", stranger.did().as_str()],
            "WrongRecipient",
            ["not addressed to the provider", "sign --provider"],
        ),
        (
            good.replace(pair.owner.did().as_str(), stranger.did().as_str()),
            &[],
            "OwnerMismatch",
            ["link 1 of 2", "spec.owner"],
        ),
        (unsigned, &[], "NotSigned", ["the spec is not signed", "kubectl hosting sign -f FILE | kubectl apply -f -"]),
        (
            good.replace("invocation: eyJ", "invocation: !!str fyJ"),
            &[],
            "Malformed",
            ["the signature cannot be read", "kubectl hosting sign"],
        ),
    ] {
        let ended = verify(&text, more);
        ended.refused_saying(2, &sentences);
        assert!(ended.out.contains(&format!(": {code}: ")), "{code}: {ended:?}");
        assert_eq!(verify(&text, &[more, &["-o", "json"]].concat()).read()["objects"][0]["reason"], code);
    }

    let misspelt = good.replace("spec:\n", "spec:\n  onexpiry: Stop\n");
    verify(&misspelt, &[])
        .refused_saying(2, &["unknown field spec.onexpiry (perhaps onExpiry is meant)", "sign again"]);
    let beside = good.replace("kind: HostingDeployment", "kind: HostingDeployment\nstats: {}");
    verify(&beside, &[]).refused_saying(2, &["✓  shop/web", "unknown field stats (perhaps status is meant)"]);
    verify("a: b\n", &[]).refused_saying(1, &["standard input holds no HostingDeployment"]);
    verify("a: [", &[]).refused_saying(1, &["is not a stream of YAML documents"]);
}

/// What kubectl applies of a list is judged.
#[test]
fn the_gate_opens_every_list() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    desk.run(&["sign", "-i", "-f", "web.yaml"], &variables(&seed, &text(&pair.grant)), "").done();
    let signed = deployment(&desk.text("web.yaml"));
    let version = "hosting.nunet.io/v1alpha1";
    let list = |item: &Value| json!({"apiVersion": version, "kind": "HostingDeploymentList", "items": [item]});
    let verify = |list: &Value| desk.run(&["verify", "-f", "-"], &[], &list.to_string());
    verify(&list(&signed)).done();
    let mut edited = signed.clone();
    edited["spec"]["content"]["access"] = json!("Owner");
    for list in [list(&edited), json!({"apiVersion": "v1", "kind": "List", "items": [signed.clone(), list(&edited)]})] {
        verify(&list).refused_saying(2, &["DigestMismatch", "it differs in: content"]);
    }
    edited.as_object_mut().unwrap().remove("kind");
    for command in ["verify", "sign"] {
        let ended = desk.run(&[command, "-f", "-"], &variables(&seed, &text(&pair.grant)), &list(&edited).to_string());
        ended.refused_saying(1, &["was not looked at", "give every item its own kind and apiVersion"]);
    }
    let ended = desk.run(&["plan", "--offline", "-f", "-"], &[], &list(&edited).to_string());
    ended.refused_saying(1, &["give every item its own kind and apiVersion"]);
}

#[test]
fn what_was_taken_back_or_is_over_is_not_let_through() {
    let _timed = Timed::start();
    let (desk, pair, seed) = desk(1);
    let grant = text(&pair.grant);
    desk.run(&["sign", "-i", "-f", "web.yaml"], &variables(&seed, &grant), "").done();
    let taken_back = Token::revoke(&pair.provider.key, &pair.grant).unwrap();
    let foreign = Token::revoke(&pair.owner.key, &{
        let owner = &pair.owner;
        owner
            .delegate(pair.provider.did(), None, &["/a".to_owned()], in_future(Duration::from_hours(1)), 0, None)
            .unwrap()
    });
    desk.file("bare.json", &text(&taken_back));
    desk.file("foreign.json", &text(&foreign.unwrap()));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        revocation("broken", &pair.grant), revocation("right", &taken_back),
    ]});
    desk.file("list.json", &list.to_string());
    let (did, none) = (pair.provider.did().clone(), Vec::new);
    let context = Context { did, roots: none(), require: vec![], provide: vec![], revoke: vec![taken_back] };
    desk.file("provider.cap", &String::from_utf8(context.to_json()).unwrap());
    let verify = |more: &[&str]| desk.run(&[&["verify", "-f", "web.yaml"], more].concat(), &[], "");
    for more in [&["--revocations", "bare.json"][..], &["--revocations", "list.json"], &["--context", "provider.cap"]] {
        verify(more).refused_saying(2, &["Revoked: link 1 of 2", "was revoked by", "Ask the issuer for a new grant"]);
    }
    let warned = verify(&["--revocations", "list.json"]);
    assert!(warned.err.contains("CapabilityRevocation broken in list.json takes nothing back"), "{warned:?}");
    verify(&["--revocations", "foreign.json"]).done();
    verify(&["--revocations", "web.yaml"]).done();
    verify(&["--revocations", "nothing.json"]).refused_saying(1, &["nothing.json could not be read"]);

    // Signed an hour ago, and over since: made by hand, since `sign` does not make it.
    let minting = |expires: Nanos| Minting {
        subject: pair.owner.did().clone(),
        audience: Some(pair.provider.did().clone()),
        capabilities: vec![Capability::parse("/hosting/shop").unwrap()],
        topics: vec![],
        expires,
        depth: 3,
        nonce: [7; 12],
    };
    let then = wall().minus(Duration::from_hours(1));
    let over = Token::delegate(&pair.provider.key, minting(then.plus(Duration::from_secs(60))), None).unwrap();
    let mut object = deployment(&desk.text("web.yaml"));
    pair.owner.sign(&mut object, &over, pair.provider.did(), then).unwrap();
    desk.file("web.yaml", &object.to_string());
    verify(&[]).refused_saying(2, &["Expired: link 1 of 2", "expired at", "Ask the issuer for a new grant"]);
}
