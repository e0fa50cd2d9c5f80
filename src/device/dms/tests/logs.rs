//! Logs as the client reads them: whole chunks in order, never more than the bounds.

use super::*;

const BOUNDS: LogBounds = LogBounds { bytes: 10, chunks: 4 };

fn source(stream: Stream) -> LogSource<'static> {
    LogSource { deployment: ID, allocation: "device.web", stream }
}

fn chunk(offset: u64, data: &str, total: u64, eof: bool) -> Value {
    let data = Base64(data.as_bytes().to_vec());
    let next_offset = offset + u64::try_from(data.0.len()).unwrap();
    json!(ChunkReply { offset, next_offset, total_size: total, eof, data, ..ChunkReply::default() })
}

async fn read(client: &Scripted, from: u64) -> Result<LogRead, CallError> {
    allocation_log(client, &target(), source(Stream::Stderr), from, BOUNDS).await
}

fn log(begins: u64, bytes: &str, next: Option<u64>) -> LogRead {
    LogRead { begins, bytes: Base64(bytes.as_bytes().to_vec()), next, ..LogRead::default() }
}

#[tokio::test]
async fn chunks_are_asked_for_until_the_end() {
    let client = Scripted::with([chunk(2, "abc", 5, false), chunk(5, "de", 7, true)]);
    assert_eq!(read(&client, 2).await.unwrap(), log(2, "abcde", None));
    let path = format!("/dms/ensemble/{ID}/allocation/logs");
    let asked = |at, most| {
        let request =
            json!({"AllocName": "device.web", "ack": at, "offset": at, "max_bytes": most, "Stream": "stderr"});
        (path.clone(), request)
    };
    assert_eq!(client.asked(), [asked(2, 10), asked(5, 7)]);

    let empty = Scripted::with([json!({"eof": true, "Error": ""})]);
    assert_eq!(read(&empty, 0).await.unwrap(), log(0, "", None));
}

#[tokio::test]
async fn a_bound_that_is_met_says_where_to_go_on() {
    let client = Scripted::with([chunk(0, "abcde", 99, false), chunk(5, "fghij", 99, false)]);
    assert_eq!(read(&client, 0).await.unwrap(), log(0, "abcdefghij", Some(10)));
    let slow = Scripted::with((0..99).map(|at| chunk(at, "x", 99, false)));
    assert_eq!(read(&slow, 0).await.unwrap(), log(0, "xxxx", Some(4)));
    assert_eq!(slow.asked().len(), BOUNDS.chunks);
}

#[tokio::test]
async fn what_the_device_has_dropped_is_passed_over_once() {
    let client = Scripted::with([chunk(7, "abc", 12, false), chunk(10, "de", 12, true)]);
    assert_eq!(read(&client, 0).await.unwrap(), log(7, "abcde", None));
    let twice = Scripted::with([chunk(0, "abc", 12, false), chunk(10, "de", 12, true)]);
    assert!(matches!(read(&twice, 0).await, Err(CallError::BadReply { .. })));
}

#[tokio::test]
async fn a_log_that_does_not_go_forward_is_refused() {
    let mut stuck = chunk(0, "abc", 9, false);
    stuck["next_offset"] = json!(0);
    let mut ahead = chunk(0, "abc", 9, false);
    ahead["next_offset"] = json!(5);
    for (name, first, second, why) in [
        ("stuck", stuck, Value::Null, "does not go on"),
        ("ahead", ahead, Value::Null, "does not go on"),
        ("empty", chunk(0, "", 9, false), Value::Null, "does not go on"),
        ("again", chunk(0, "abc", 9, false), chunk(0, "abc", 9, false), "asked for"),
        ("from before", chunk(0, "abc", 9, false), chunk(2, "abc", 9, false), "asked for"),
        ("longer than it is", chunk(0, "abc", 2, true), Value::Null, "after the log"),
        ("too much", chunk(0, "abcdefghijk", 99, false), Value::Null, "larger"),
    ] {
        let client = Scripted::with([first, second]);
        match read(&client, 0).await {
            Err(CallError::BadReply { cause, .. }) => assert!(cause.contains(why), "{name}: {cause}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// Whichever way a device tells of it: by a log that is shorter than it was, that ends before the byte asked for, or that
/// is given from its first byte on again.
#[tokio::test]
async fn a_log_that_was_truncated_is_no_error_and_begins_anew() {
    let truncated = |begins, bytes: &str| LogRead { truncated: true, ..log(begins, bytes, Some(0)) };
    let ends_before = json!({"offset": 9, "next_offset": 9, "total_size": 2, "eof": true});
    for (name, replies, from, expected) in [
        ("shorter", vec![chunk(0, "abc", 9, false), chunk(3, "xyz", 8, false)], 0, truncated(0, "abc")),
        ("shorter than was read", vec![chunk(2, "abc", 9, false), chunk(0, "x", 1, true)], 2, truncated(2, "abc")),
        ("ends before", vec![ends_before], 9, truncated(9, "")),
        ("begins anew", vec![chunk(0, "xy", 2, true)], 9, truncated(9, "")),
        ("begins later anew", vec![chunk(1, "xy", 3, true)], 9, truncated(9, "")),
        ("is empty", vec![json!({"eof": true})], 9, truncated(9, "")),
    ] {
        assert_eq!(read(&Scripted::with(replies), from).await.unwrap(), expected, "{name}");
    }
    // Who follows a log asks at its end.
    let end = Scripted::with([chunk(9, "", 9, true)]);
    assert_eq!(read(&end, 9).await.unwrap(), log(9, "", None));
}

#[tokio::test]
async fn an_older_device_answers_with_everything() {
    let both = json!({"Stdout": "b3V0", "Stderr": "YWJjZGVmZ2hpamts", "Error": ""});
    let client = Scripted::with([both.clone(), both.clone(), both]);
    assert_eq!(read(&client, 0).await.unwrap(), log(0, "abcdefghij", Some(10)));
    assert_eq!(read(&client, 10).await.unwrap(), log(10, "kl", None));
    let out = allocation_log(&client, &target(), source(Stream::Stdout), 0, BOUNDS).await;
    assert_eq!(out.unwrap(), log(0, "out", None));
    let none = Scripted::with([json!({"Stdout": null, "Stderr": null, "Error": ""})]);
    assert_eq!(read(&none, 0).await.unwrap(), log(0, "", None));
}

#[tokio::test]
async fn what_the_device_says_is_told_and_no_byte_is_printed() {
    let client = Scripted::with([json!({"Error": "failed to get allocation"})]);
    assert_eq!(read(&client, 0).await.unwrap().error, "failed to get allocation");
    let printed = format!("{:?} {:?}", log(0, "secret", None), chunk(0, "", 0, true));
    assert!(!printed.contains("secret") && printed.contains("6 bytes"), "{printed}");
}

/// The owner of a device grants the operator five capabilities; whatever it asks needs no other.
#[tokio::test]
async fn the_operator_asks_for_nothing_that_it_is_not_granted() {
    let client = Scripted::default();
    let (target, none) = (target(), BTreeMap::new());
    let spec = crate::plan::build::EnsembleSpec { peer: "p".into(), allocations: vec![], metadata: none.clone() };
    let logs = LogsRequest::default();
    let silent = [
        peers_self(&client, &target).await.is_err(),
        peers_list(&client, &target).await.is_err(),
        peers_ping(&client, &target, "p").await.is_err(),
        peers_connect(&client, &target, "a").await.is_err(),
        peers_dht(&client, &target).await.is_err(),
        peers_score(&client, &target).await.is_err(),
        resources_free(&client, &target).await.is_err(),
        resources_allocated(&client, &target).await.is_err(),
        resources_onboarded(&client, &target).await.is_err(),
        onboarding_status(&client, &target).await.is_err(),
        deployment_status(&client, &target, ID, false).await.is_err(),
        deployment_manifest(&client, &target, ID).await.is_err(),
        deployment_info(&client, &target, &InfoRequest::default()).await.is_err(),
        deployment_list_all(&client, &target, &none).await.is_err(),
        deployment_update(&client, &target, ID, &spec).await.is_err(),
        deployment_shutdown(&client, &target, ID).await.is_err(),
        deployment_prune(&client, &target, &PruneRequest::default()).await.is_err(),
        deployment_delete(&client, &target, ID).await.is_err(),
        deployment_logs(&client, &target, ID, "device.web").await.is_err(),
        deployment_logs_start(&client, &target, &LogsJobRequest::default()).await.is_err(),
        deployment_logs_status(&client, &target, &logs).await.is_err(),
        deployment_logs_stop(&client, &target, &logs).await.is_err(),
        read(&client, 0).await.is_err(),
    ];
    assert!(silent.iter().all(|silent| *silent), "a device that is silent gave an answer");
    let asked = client.asked();
    assert_eq!(asked.len(), silent.len());
    let granted = path::GRANTED.map(|path| Capability::parse(path).unwrap());
    for (behaviour, _) in asked {
        let needed = Capability::parse(&behaviour).unwrap();
        assert!(granted.iter().any(|granted| granted.implies(&needed)), "{behaviour} needs more than the grant");
    }
}
