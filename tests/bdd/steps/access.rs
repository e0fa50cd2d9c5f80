//! Who may read. The gateway's steps come with the gateway.

use cucumber::then;

use crate::{
    cluster::eventually,
    stage::Stage,
    world::{fetch, port_of},
};

#[then("whoever finds the site gets 403 and nothing of the page")]
async fn forbidden(stage: &mut Stage) {
    let status = stage.tenant().status(stage.applied_name()).await;
    assert_eq!(status.url, None, "nobody is sent there");
    let site = format!("http://127.0.0.1:{}/", port_of(stage.installation(), &status));
    let text = eventually("the site knows what it may not serve", async || match fetch(&site).await {
        (403, text) => Ok(text),
        (503, _) => Err("it waits to be told".to_owned()),
        other => panic!("{other:?}"),
    })
    .await;
    assert!(text.contains("not public") && !text.contains(&stage.page.body), "{text}");
}
