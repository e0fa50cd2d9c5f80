//! What signing does to a text, byte by byte.

use pretty::{pairs, replaced};

use super::*;

pub(super) mod pretty {
    /// What was put into a text and what was taken out, line by line.
    pub fn pairs(before: &str, after: &str) -> (Vec<String>, Vec<String>) {
        let (mut before, mut after): (Vec<&str>, Vec<&str>) =
            (before.split('\n').collect(), after.split('\n').collect());
        while before.last().is_some_and(|last| after.last() == Some(last)) {
            before.pop();
            after.pop();
        }
        let same = before.iter().zip(&after).take_while(|(one, other)| one == other).count();
        let (before, after) = (&before[same..], &after[same..]);
        let mut table = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
        for (i, one) in before.iter().enumerate().rev() {
            for (j, other) in after.iter().enumerate().rev() {
                table[i][j] = if one == other { table[i + 1][j + 1] + 1 } else { table[i + 1][j].max(table[i][j + 1]) };
            }
        }
        let (mut i, mut j, mut gone, mut new) = (0, 0, Vec::new(), Vec::new());
        while i < before.len() || j < after.len() {
            if i < before.len() && j < after.len() && before[i] == after[j] {
                (i, j) = (i + 1, j + 1);
            } else if j == after.len() || (i < before.len() && table[i + 1][j] >= table[i][j + 1]) {
                gone.push(before[i].to_owned());
                i += 1;
            } else {
                new.push(after[j].to_owned());
                j += 1;
            }
        }
        (gone, new)
    }

    /// A line with its invocation made readable.
    pub fn replaced(line: &str) -> String {
        let start = line.find("eyJ").unwrap_or(line.len());
        let rest = &line[start..];
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "+/=".contains(c))).unwrap_or(rest.len());
        if start == line.len() { line.to_owned() } else { format!("{}…{}", &line[..start], &rest[end..]) }
    }
}

/// What signing takes out of a text, and what it puts in.
fn change(text: &str) -> (Vec<String>, Vec<String>) {
    let after = signed(&owner(), text);
    let object = stream(&after).into_iter().find(is_deployment);
    if let Some(object) = object {
        accepted_signer(&object);
    }
    let (gone, new) = pairs(text, &after);
    (gone, new.iter().map(|line| replaced(line)).collect())
}

fn lines(lines: &[&str]) -> Vec<String> {
    let (did, release) = (key(2).did().to_string(), release_of("<p>hello</p>"));
    lines.iter().map(|line| line.replace("DID", &did).replace("RELEASE", &release)).collect()
}

#[test]
fn a_text_gains_lines_and_loses_none() {
    let text = format!(
        "# Source: shop/templates/page.yaml\n{PAGE}---\n# Source: shop/templates/web.yaml\napiVersion: \
         \"hosting.nunet.io/v1alpha1\"\nkind: 'HostingDeployment'   # what it is\nmetadata:\n    # its name\n    name: web\n\n\
         spec: # all of it is signed\n    # who hosts it\n    providerRef:\n      name: default\n      namespace: \
         dms-operator   # of the operator\n    content:\n      # the page\n      from:\n        configMap: {{ name: page }}\n\
         \n    # the end\n    onExpiry: \"Stop\" # at once\n    # nothing follows\n"
    );
    let (gone, new) = change(&text);
    assert_eq!(gone, Vec::<String>::new());
    let wanted = [
        "    namespace: shop",
        "    owner: DID",
        "      release: RELEASE",
        "    authorization:",
        "        invocation: …",
    ];
    assert_eq!(new, lines(&wanted));
}

#[test]
fn what_is_there_is_replaced_as_it_was_written() {
    let head =
        "apiVersion: hosting.nunet.io/v1alpha1\nkind: HostingDeployment\nmetadata: {name: web, namespace: shop}\n";
    let owner = key(2).did().clone();
    for (content, authorization, gone, new) in [
        (
            "content: {release: auto, from: {configMap: {name: page}}} # c",
            "authorization: {invocation: \"old\"}",
            vec![
                "  content: {release: auto, from: {configMap: {name: page}}} # c",
                "  authorization: {invocation: \"old\"}",
            ],
            vec![
                "  content: {release: \"RELEASE\", from: {configMap: {name: page}}} # c",
                "  authorization: {invocation: \"…\"}",
            ],
        ),
        (
            "content:\n    release: 'auto' # c\n    from: {configMap: {name: page}}",
            "authorization:\n    invocation: >-\n      old\n      older\n    # below",
            vec!["    release: 'auto' # c", "    invocation: >-", "      old", "      older"],
            vec!["    release: 'RELEASE' # c", "    invocation: …"],
        ),
        (
            "content:\n    release:\n    from: {configMap: {name: page}}",
            "authorization:  # none yet",
            vec!["    release:", "  authorization:  # none yet"],
            vec!["    release: RELEASE", "  authorization: {invocation: \"…\"}  # none yet"],
        ),
        (
            "\"content\": {\"from\": {\"configMap\": {\"name\": \"page\"}}}",
            "\"authorization\": null",
            vec!["  \"content\": {\"from\": {\"configMap\": {\"name\": \"page\"}}}", "  \"authorization\": null"],
            vec![
                "  \"content\": {\"release\": \"RELEASE\", \"from\": {\"configMap\": {\"name\": \"page\"}}}",
                "  \"authorization\": {\"invocation\": \"…\"}",
            ],
        ),
    ] {
        let text =
            format!("{PAGE}---\n{head}spec:\n  owner: {owner}\n  {PROVIDER_REF}\n  {content}\n  {authorization}\n");
        assert_eq!(change(&text), (lines(&gone), lines(&new)), "{text}");
    }
}

#[test]
fn the_last_line_needs_no_end_and_line_ends_stay_as_they_are() {
    let text = deployment(&format!("{{release: '{}'}}", release_of("x")));
    let bare = text.trim_end();
    let (gone, new) = change(bare);
    assert_eq!(gone, lines(&["metadata: {name: web}"]));
    let wanted =
        ["metadata: {namespace: \"shop\", name: web}", "  owner: DID", "  authorization:", "    invocation: …"];
    assert_eq!(new, lines(&wanted));
    assert!(!signed(&owner(), bare).ends_with('\n'));

    let dos = text.replace('\n', "\r\n");
    let after = signed(&owner(), &dos);
    assert_eq!(after.matches('\n').count(), after.matches("\r\n").count(), "{after:?}");
}

#[test]
fn blank_lines_below_a_kept_block_stay_part_of_it() {
    let text = deployment(&format!("{{release: '{}'}}", release_of("x")));
    let text = format!("{text}  onExpiry: |-\n    Stop\n\n\n---\n{PAGE}");
    let after = signed(&owner(), &text);
    assert_eq!(stream(&after)[0]["spec"]["onExpiry"], "Stop");
    assert!(after.contains("    Stop\n\n\n  authorization:\n"), "{after}");
}

#[test]
fn json_stays_json() {
    let pretty = format!(
        "{{\n    \"apiVersion\": \"hosting.nunet.io/v1alpha1\",\n    \"kind\": \"HostingDeployment\",\n    \"metadata\": {{\n\
         \x20       \"name\": \"web\"\n    }},\n    \"spec\": {{\n        \"providerRef\": {{\"namespace\": \"a\", \"name\": \"b\"}},\n\
         \x20       \"content\": {{\"release\": \"{}\"}}\n    }}\n}}\n",
        release_of("x")
    );
    let (gone, new) = change(&pretty);
    assert_eq!(gone, Vec::<String>::new());
    let wanted = [
        "        \"namespace\": \"shop\",",
        "        \"owner\": \"DID\",",
        "        \"authorization\": {\"invocation\": \"…\"},",
    ];
    assert_eq!(new, lines(&wanted));
    let twice = format!("{pretty}{pretty}");
    let after = signed(&owner(), &twice);
    let values: Vec<Value> = serde_json::Deserializer::from_str(&after).into_iter().map(Result::unwrap).collect();
    assert_eq!(values.len(), 2);
    for object in &values {
        accepted_signer(object);
    }
    let mut open = values[0].clone();
    open["spec"]["authorization"] = serde_json::json!({});
    let open: Value = serde_json::from_str(&signed(&owner(), &open.to_string())).unwrap();
    accepted_signer(&open);
    let compact = serde_json::to_string(&values[0]).unwrap();
    let again: Value = serde_json::from_str(&signed(&owner(), &compact)).unwrap();
    accepted_signer(&again);
}

#[test]
fn lists_are_signed_in_their_text() {
    let content = format!("{{release: '{}'}}", release_of("x"));
    let item = deployment(&content).replace('\n', "\n  ");
    let text = format!("apiVersion: v1\nkind: List\nitems:\n- {item}\n# between\n- {}\n", PAGE.replace('\n', "\n  "));
    let (gone, new) = change(&text);
    assert_eq!(gone, ["  metadata: {name: web}"]);
    assert_eq!(new.len(), 4, "{new:?}");
    let after = signed(&owner(), &text);
    accepted_signer(&stream(&after)[0]["items"][0]);
}

#[test]
fn signing_again_changes_the_invocation_and_nothing_else() {
    let text = format!("{PAGE}---\n{}", deployment("{from: {configMap: {name: page}}}"));
    let once = signed(&owner(), &text);
    let twice = signed(&Signing { now: NOW.plus(Duration::from_secs(1)), ..owner() }, &once);
    let (gone, new) = pairs(&once, &twice);
    let invocation = |lines: &[String]| lines.iter().all(|line| line.trim().starts_with("invocation: eyJ"));
    assert_eq!((gone.len(), new.len()), (1, 1));
    assert!(invocation(&gone) && invocation(&new));
}

/// What cannot be changed in its text is refused, and nothing is written that says something else.
#[test]
fn a_text_that_would_say_something_else_is_refused() {
    let release = release_of("x");
    let head =
        "apiVersion: hosting.nunet.io/v1alpha1\nkind: HostingDeployment\nmetadata: {name: web, namespace: shop}\n";
    for (text, said) in [
        (
            format!(
                "{head}x: &content {{release: '{release}'}}\nspec: &s\n  {PROVIDER_REF}\n  content: *content\ny: *s\n"
            ),
            "something else than what was signed",
        ),
        (
            format!("x: &spec {{{PROVIDER_REF}, content: {{release: '{release}'}}}}\n{head}spec: *spec\n"),
            "spec does not stand in its text",
        ),
    ] {
        let stream = Stream::parse(text.clone()).unwrap();
        let mut documents = stream.documents().to_vec();
        owner().sign_all(&mut documents).unwrap();
        let refusal = stream.rewritten(&documents).unwrap_err().to_string();
        assert!(refusal.contains(said), "{text}{refusal}");
    }
    // A change beside what signing writes is never written.
    let stream = Stream::parse(deployment(&format!("{{release: '{release}'}}"))).unwrap();
    let mut documents = stream.documents().to_vec();
    owner().sign_all(&mut documents).unwrap();
    documents[0]["metadata"]["labels"] = serde_json::json!({"a": "b"});
    assert!(stream.rewritten(&documents).is_err());
}

#[test]
fn a_namespace_that_reads_as_something_else_is_quoted() {
    let text = deployment(&format!("{{release: '{}'}}", release_of("x"))).replace("{name: web}", "\n  name: web");
    for namespace in ["no", "123", "1e3", "null", "n", "0x1"] {
        let grant = token(1, 2, &format!("/hosting/{namespace}"), None);
        let after = signed(&Signing { namespace: Some(namespace.to_owned()), ..signing(2, grant) }, &text);
        assert!(after.contains(&format!("\n  namespace: \"{namespace}\"\n")), "{after}");
    }
}
