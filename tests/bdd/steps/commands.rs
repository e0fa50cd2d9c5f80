//! What the command line says before anything is sent, and what it signs anew.

use cucumber::{given, then, when};
use serde_json::{Value, json};

use crate::{stage::Stage, world::name};

/// What the last command printed.
fn printed(stage: &Stage) -> Value {
    let ended = stage.ended.as_ref().expect("a command ended");
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

#[when("the owner plans a deployment of the page")]
async fn plan(stage: &mut Stage) {
    let name = name();
    let objects = stage.site(&name, &stage.page);
    let text = stage.owner().sign(&objects, stage.grant.as_deref()).await;
    stage.applying(&name, &text);
    stage.owner().write("plan.yaml", &text);
    stage.ended = Some(stage.owner().run("kubectl hosting plan -f plan.yaml -o json").await);
}

#[then("the plan names what would be uploaded, and that the signature will pass")]
fn planned(stage: &mut Stage) {
    assert_eq!(stage.ended.as_ref().unwrap().code, 0, "{:?}", stage.ended);
    let plan = printed(stage);
    let [object] = &**plan["objects"].as_array().unwrap() else { panic!("{plan}") };
    assert_eq!((&object["change"], &object["refusals"]), (&json!("create"), &json!([])), "{plan}");
    let bytes: usize = stage.page.files.values().map(String::len).sum();
    assert_eq!(object["transfer"]["files"], json!(stage.page.files.len()), "{plan}");
    assert_eq!(object["transfer"]["bytes"], json!(bytes), "{plan}");
    assert_eq!(object["signature"]["verdict"], "accept", "{plan}");
}

#[then("to the provider, who sees all devices, it names the device too")]
async fn planned_by_provider(stage: &mut Stage) {
    let text = stage.applied.as_ref().unwrap().text.clone();
    let provider = stage.provider().await;
    provider.write("plan.yaml", &text);
    let ended = provider.run("kubectl hosting plan -f plan.yaml -o json").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    stage.ended = Some(ended);
    let plan = printed(stage);
    assert_eq!(plan["objects"][0]["device"], json!(stage.installation().devices[0].name), "{plan}");
}

#[when("the owner verifies a signed deployment that was changed after signing")]
async fn verify(stage: &mut Stage) {
    let name = name();
    let objects = stage.site(&name, &stage.page);
    let text = stage.owner().sign(&objects, stage.grant.as_deref()).await;
    let (provider, line) = (stage.installation().provider.did(), "kubectl hosting verify -f git.yaml -o json");
    let line = format!("{line} --provider {provider}");
    stage.owner().write("git.yaml", &text);
    let before = stage.owner().run(&line).await;
    assert_eq!(before.code, 0, "{before:?}");
    let mut documents = super::documents(&text);
    documents[1]["spec"]["onExpiry"] = json!("Stop");
    let changed: Vec<_> = documents.iter().map(Value::to_string).collect();
    stage.owner().write("git.yaml", &changed.join("\n"));
    stage.ended = Some(stage.owner().run(&line).await);
}

#[then(regex = r"^the command rejects it because of (\w+)$")]
fn rejected(stage: &mut Stage, reason: String) {
    assert_eq!(stage.ended.as_ref().unwrap().code, 2, "{:?}", stage.ended);
    let report = printed(stage);
    assert_eq!((&report["verdict"], &report["objects"][0]["reason"]), (&json!("reject"), &json!(reason)), "{report}");
}

/// Two files as they lie in Git, with comments. The one ends with the grant; the other with a grant of sixty days.
#[given("a folder with a signed deployment and one that is good for long")]
async fn folder(stage: &mut Stage) {
    std::fs::create_dir(stage.owner().file("git")).unwrap();
    let short = stage.grant.clone().unwrap();
    super::beginning::the_provider_grants(stage, "1440h".to_owned()).await;
    let long = stage.owner().write("long.json", &std::fs::read_to_string(stage.grant.as_ref().unwrap()).unwrap());
    // The step before wrote over the file of the first.
    super::beginning::the_provider_grants(stage, "48h".to_owned()).await;
    assert_eq!(stage.grant.as_ref(), Some(&short));
    for (called, grant) in [("soon", &short), ("long", &long)] {
        let (provider, release) = (&stage.installation().plan.namespace, &stage.page.release);
        let text = format!(
            "# {called}: kept by hand\napiVersion: hosting.nunet.io/v1alpha1\nkind: HostingDeployment\nmetadata:\n  \
             name: {called} # its name\n  namespace: {}\nspec:\n  content: {{access: Public, release: '{release}'}}\n  \
             providerRef:\n    namespace: {provider}\n    name: default\n",
            stage.namespace
        );
        let file = stage.owner().write(&format!("git/{called}.yaml"), &text);
        let (file, key, grant) = (file.display(), stage.owner().key.display(), grant.display());
        stage.owner().run(&format!("kubectl hosting sign -i -f {file} --key {key} --grant {grant}")).await.done();
        std::fs::copy(stage.owner().file(&format!("git/{called}.yaml")), stage.owner().file(called)).unwrap();
    }
}

#[when(regex = r"^the owner renews what ends within (\w+) in the folder$")]
async fn renew(stage: &mut Stage, within: String) {
    let (key, grant) = (stage.owner().key.display(), stage.grant.as_ref().unwrap().display());
    let line = format!("kubectl hosting sign --renew --within {within} -f git --key {key} --grant {grant} -o json");
    stage.ended = Some(stage.owner().run(&line).await);
}

#[then("only the one that ends soon was signed again, and nothing else in it changed")]
async fn renewed(stage: &mut Stage) {
    assert_eq!(stage.ended.as_ref().unwrap().code, 0, "{:?}", stage.ended);
    let rows = printed(stage);
    let mut outcomes: Vec<_> =
        rows.as_array().unwrap().iter().map(|row| (row["name"].clone(), row["outcome"].clone())).collect();
    outcomes.sort_by_key(|(name, _)| name.to_string());
    assert_eq!(outcomes, [(json!("long"), json!("kept")), (json!("soon"), json!("renewed"))]);
    let read = |called: &str| std::fs::read_to_string(stage.owner().file(called)).unwrap();
    assert_eq!(read("long"), read("git/long.yaml"));
    let (before, after) = (read("soon"), read("git/soon.yaml"));
    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.trim_start().starts_with("invocation:")).map(str::to_owned).collect()
    };
    assert_ne!(before, after);
    assert_eq!(others(&before), others(&after));
    let provider = stage.installation().provider.did();
    let verdict = stage.owner().run(&format!("kubectl hosting verify -f git/soon.yaml --provider {provider}")).await;
    assert_eq!(verdict.code, 0, "{verdict:?}");
}
