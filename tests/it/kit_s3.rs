//! The kit's S3 service keeps what it was given, counts what it was asked, and can be away.

use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
    primitives::ByteStream,
};
use dms_operator::dev::{S3Request, S3Server};

use crate::{cluster::scratch, timed::Timed};

fn client(server: &S3Server, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(server.endpoint())
        .force_path_style(true)
        .retry_config(aws_sdk_s3::config::retry::RetryConfig::disabled())
        .credentials_provider(Credentials::new(server.access_key(), secret, None, None, "kit"))
        .build();
    Client::from_conf(config)
}

#[tokio::test]
async fn what_was_put_is_still_there_after_an_outage() {
    let _timed = Timed::start();
    let folder = scratch("s3");
    let mut server = S3Server::start(&folder).await.unwrap();
    let s3 = client(&server, server.secret_key());
    let bytes = b"<h1>hello</h1>".to_vec();
    let put = s3.put_object().bucket(server.bucket()).key("a/b.html").body(ByteStream::from(bytes.clone()));
    put.send().await.unwrap();
    let bucket = server.bucket().to_owned();
    let get = async || s3.get_object().bucket(&bucket).key("a/b.html").send().await;
    assert_eq!(get().await.unwrap().body.collect().await.unwrap().to_vec(), bytes);

    let endpoint = server.endpoint();
    server.stop();
    let refusal = get().await.unwrap_err();
    assert!(refusal.as_service_error().is_none(), "nobody answers: {refusal:?}");
    server.resume().await.unwrap();
    assert_eq!(server.endpoint(), endpoint);
    assert_eq!(get().await.unwrap().body.collect().await.unwrap().to_vec(), bytes);

    let path = format!("/{bucket}/a/b.html");
    let request = |method: &str, query: &str| S3Request {
        method: method.into(),
        path: path.clone(),
        query: query.into(),
        host: endpoint.trim_start_matches("http://").into(),
        region: "us-east-1".into(),
    };
    assert_eq!(
        server.requests(),
        [request("PUT", "x-id=PutObject"), request("GET", "x-id=GetObject"), request("GET", "x-id=GetObject")]
    );
}

#[tokio::test]
async fn a_wrong_secret_is_refused_and_counted() {
    let _timed = Timed::start();
    let folder = scratch("s3-refusal");
    let server = S3Server::start(&folder).await.unwrap();
    let s3 = client(&server, "guessed");
    let refusal = s3.list_objects_v2().bucket(server.bucket()).send().await.unwrap_err();
    assert_eq!(refusal.raw_response().map(|response| response.status().as_u16()), Some(403));
    assert_eq!(server.requests().len(), 1);
}
