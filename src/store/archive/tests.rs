use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse as _,
    routing::get,
};
use flate2::{Compression, write::GzEncoder};
use futures::{FutureExt as _, StreamExt as _, stream};
use tar::{EntryType, Header};
use tokio::net::TcpListener;

use super::*;

fn small() -> ArchivePolicy {
    ArchivePolicy { max_archive_bytes: 1 << 20, max_bytes: 4 << 20, max_files: 10, ..ArchivePolicy::default() }
}

/// No quota, so that the policy alone holds.
const UNLIMITED: Quota = Quota { max_bytes: u64::MAX, max_files: u64::MAX };

fn operator(most: u64) -> Bound {
    Bound { most, whose: Whose::Operator }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// One entry with its name written into the header as it is, since the builder refuses what an attacker would write.
fn entry(tar: &mut Vec<u8>, name: &str, kind: EntryType, target: &str, body: &[u8]) {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(body.len() as u64);
    header.set_cksum();
    tar.extend_from_slice(header.as_bytes());
    tar.extend_from_slice(body);
    tar.resize(tar.len().next_multiple_of(512), 0);
}

fn archive(entries: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (name, kind, body) in entries {
        entry(&mut tar, name, *kind, "/etc/passwd", body);
    }
    tar.extend([0; 1024]);
    gzip(&tar)
}

fn refusal(bytes: &[u8]) -> Refused {
    match unpack(bytes, &small().within(UNLIMITED)) {
        Err(ArchiveError::Refused(what)) => what,
        other => panic!("not refused: {other:?}"),
    }
}

const FILE: EntryType = EntryType::Regular;

#[test]
fn plain_files_come_out_whatever_wrote_them() {
    let long = format!("{}/page.html", "d".repeat(150));
    let mut builder = tar::Builder::new(Vec::new());
    for path in ["./index.html", long.as_str()] {
        let mut header = Header::new_gnu();
        header.set_size(2);
        header.set_mode(0o600);
        header.set_cksum();
        builder.append_data(&mut header, path, b"hi".as_slice()).unwrap();
    }
    let tar = builder.into_inner().unwrap();
    let expected = Files::from([("index.html".to_owned(), Bytes::from("hi")), (long, Bytes::from("hi"))]);
    assert_eq!(unpack(&gzip(&tar), &small().within(UNLIMITED)).unwrap(), expected);

    let folders = archive(&[
        ("./", EntryType::Directory, b""),
        ("pax", EntryType::XGlobalHeader, b"19 comment=abcdefg\n"),
        ("a/", EntryType::Directory, b""),
        ("./a/b", FILE, b"x"),
    ]);
    let expected = Files::from([("a/b".to_owned(), Bytes::from("x"))]);
    assert_eq!(unpack(&folders, &small().within(UNLIMITED)).unwrap(), expected);
}

#[test]
fn each_attack_is_refused_with_its_own_reason() {
    for (name, kind) in [
        ("../x", FILE),
        ("a/../../x", FILE),
        ("/etc/x", FILE),
        ("a\\x", FILE),
        ("a/./b", FILE),
        ("../", EntryType::Directory),
        ("/tmp/", EntryType::Directory),
    ] {
        let refused = refusal(&archive(&[("ok", FILE, b""), (name, kind, b"")]));
        assert!(matches!(&refused, Refused::Path { path, .. } if path == name), "{name}: {refused}");
    }
    for (kind, expected) in [
        (EntryType::Symlink, "symbolic link"),
        (EntryType::Link, "hard link"),
        (EntryType::Char, "character device"),
        (EntryType::Block, "block device"),
        (EntryType::Fifo, "pipe"),
        (EntryType::new(b'Z'), "special entry"),
    ] {
        let refused = refusal(&archive(&[("ok", FILE, b""), ("bad", kind, b"")]));
        assert_eq!(refused, Refused::NotAFile { path: "bad".into(), kind: expected });
    }
    let twice = archive(&[("a", FILE, b"1"), ("b", FILE, b""), ("./a", FILE, b"2")]);
    assert_eq!(refusal(&twice), Refused::Duplicate("a".into()));
    assert!(matches!(refusal(b"no gzip at all"), Refused::Format(_)));
    let whole = archive(&[("a", FILE, &[7; 5000])]);
    assert!(matches!(refusal(&whole[..whole.len() / 2]), Refused::Format(_)), "a cut archive gives no files");
}

#[test]
fn limits_hold_at_their_edge() {
    let policy = ArchivePolicy { max_bytes: 1000, max_files: 2, ..small() };
    let result = |entries: &[(&str, EntryType, &[u8])]| {
        unpack(&archive(entries), &policy.within(UNLIMITED)).map(|files| files.len())
    };
    assert_eq!(result(&[("a", FILE, &[1; 600]), ("b", FILE, &[1; 400])]).unwrap(), 2);
    assert!(matches!(
        result(&[("a", FILE, &[1; 600]), ("b", FILE, &[1; 401])]),
        Err(ArchiveError::TooLarge(TooLarge::Unpacked(bound))) if bound == operator(1000)
    ));
    assert!(matches!(
        result(&[("a", FILE, b""), ("b", FILE, b""), ("c", FILE, b"")]),
        Err(ArchiveError::TooLarge(TooLarge::Files(bound))) if bound == operator(2)
    ));
}

#[test]
fn of_policy_and_quota_the_smaller_one_holds_and_the_sentence_says_whose_it_is() {
    let entries: &[(&str, EntryType, &[u8])] = &[("a", FILE, &[1; 600]), ("b", FILE, &[1; 400])];
    let policy = |max_bytes, max_files| ArchivePolicy { max_bytes, max_files, ..small() };
    let quota = |max_bytes, max_files| Quota { max_bytes, max_files };
    let own = "the most that the operator takes from an archive. Make it smaller and sign again";
    let theirs =
        "the most that this provider's quota leaves room for. Make it smaller and sign again, or ask the provider";
    for (policy, quota, expected) in [
        (policy(1000, 2), quota(1000, 2), None),
        (policy(999, 2), quota(1000, 2), Some(format!("more than 999 bytes unpacked, {own}"))),
        (policy(1000, 2), quota(999, 2), Some(format!("more than 999 bytes unpacked, {theirs}"))),
        (policy(999, 2), quota(999, 2), Some(format!("more than 999 bytes unpacked, {own}"))),
        (policy(1000, 1), quota(1000, 2), Some(format!("more than 1 files, {own}"))),
        (policy(1000, 2), quota(1000, 1), Some(format!("more than 1 files, {theirs}"))),
    ] {
        let error = unpack(&archive(entries), &policy.within(quota)).err().map(|error| error.to_string());
        assert_eq!(
            error,
            expected.map(|sentence| format!("the archive is too large: {sentence}")),
            "{policy:?} {quota:?}"
        );
    }
}

/// What the quota leaves room for unpacked must not fail for being packed.
#[test]
fn an_archive_of_a_whole_quota_is_always_small_enough_to_be_downloaded() {
    let policy = ArchivePolicy { max_archive_bytes: 64 << 20, ..small() };
    for (size, files) in [(0, 1), (1, 10), (100_000, 10), (2 << 20, 2)] {
        let mut tar = Vec::new();
        for number in 0..files {
            let name = format!("{}{number}", "n".repeat(90));
            entry(&mut tar, &name, FILE, "", &rand::random_iter().take(size).collect::<Vec<u8>>());
        }
        tar.resize(tar.len().next_multiple_of(10_240) + 10_240, 0);
        // Stored without compression: the largest form.
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(&tar).unwrap();
        let packed = encoder.finish().unwrap();
        let quota = Quota { max_bytes: (size * files) as u64, max_files: files as u64 };
        let limits = policy.within(quota);
        assert_eq!(limits.archive_bytes.whose, Whose::Provider);
        assert!(packed.len() as u64 <= limits.archive_bytes.most, "{} {limits:?}", packed.len());
        assert_eq!(unpack(&packed, &limits).unwrap().len(), files);
    }
}

/// The bomb claims to be one small file; only the bytes that come tell. Hidden in a long-name entry, it never becomes
/// a file at all.
#[test]
fn a_bomb_stops_at_the_limit_wherever_it_hides() {
    let zeros = vec![0; 3 << 20];
    for kind in [FILE, EntryType::GNULongName, EntryType::XHeader, EntryType::Directory] {
        let bomb = archive(&[("bomb", kind, &zeros), ("after", FILE, b"")]);
        assert!(bomb.len() < 8 << 10, "it is a bomb: {}", bomb.len());
        assert_eq!(refusal(&bomb), Refused::Bomb(200), "{kind:?}");
    }
    let policy = ArchivePolicy { max_ratio: 1_000_000, max_files: 10, max_bytes: 1 << 20, ..small() };
    let bomb = archive(&[("bomb", EntryType::GNULongName, &zeros), ("after", FILE, b"")]);
    assert!(matches!(unpack(&bomb, &policy.within(UNLIMITED)), Err(ArchiveError::TooLarge(TooLarge::Unpacked(_)))));
}

#[test]
fn a_config_map_gives_text_and_binary_files() {
    let data = BTreeMap::from([("index.html".to_owned(), "<p>".to_owned())]);
    let binary = BTreeMap::from([("logo.png".to_owned(), ByteString(vec![0xff, 0]))]);
    let expected = Files::from([
        ("index.html".to_owned(), Bytes::from("<p>")),
        ("logo.png".to_owned(), Bytes::from_static(&[0xff, 0])),
    ]);
    assert_eq!(from_config_map(Some(&data), Some(&binary)), expected);
    assert_eq!(from_config_map(None, None), Files::new());
}

static INNER_HITS: AtomicUsize = AtomicUsize::new(0);

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn page(body: Vec<u8>) -> Router {
    Router::new().route(
        "/site.tar.gz",
        get(move || async move {
            INNER_HITS.fetch_add(1, Ordering::SeqCst);
            body
        }),
    )
}

/// A fetcher that judges as in production but for one address, the server of the test.
fn fetcher(policy: ArchivePolicy, door: SocketAddr) -> ArchiveFetcher {
    let strict = ArchiveFetcher::new(policy.clone()).admission;
    let admission = move |address: SocketAddr| if address == door { Ok(()) } else { strict(address) };
    ArchiveFetcher::with_admission(policy, Arc::new(admission))
}

fn tls() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

#[tokio::test]
async fn private_addresses_are_refused_before_anything_is_sent() {
    tls();
    let bytes = archive(&[("index.html", FILE, b"hello")]);
    let digest = BlobDigest::of(&bytes);
    let inner = serve(page(bytes)).await;
    let port = inner.port();
    let redirect = |to: String| get(move || async move { (StatusCode::FOUND, [(header::LOCATION, to)]) });
    let door = serve(
        Router::new()
            .route("/literal", redirect(format!("http://127.0.0.1:{port}/site.tar.gz")))
            .route("/name", redirect(format!("http://localhost:{port}/site.tar.gz")))
            .route("/six", redirect(format!("http://[::ffff:127.0.0.1]:{port}/site.tar.gz")))
            .route("/decimal", redirect(format!("http://2130706433:{port}/site.tar.gz")))
            .route("/metadata", redirect("http://169.254.169.254/latest/meta-data".into()))
            .route("/file", redirect("file:///etc/passwd".into()))
            .route("/loop", redirect("/loop".into())),
    )
    .await;

    let fetcher = fetcher(small(), door);
    let loopback = |host: &str| Refused::Address {
        host: host.to_owned(),
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        kind: AddressKind::Loopback,
    };
    let refused = |url: String| {
        let fetcher = fetcher.clone();
        async move {
            match fetcher.fetch(&url, digest, UNLIMITED).await {
                Err(ArchiveError::Refused(what)) => what,
                other => panic!("{url} was not refused: {other:?}"),
            }
        }
    };
    assert_eq!(refused(format!("http://127.0.0.1:{port}/site.tar.gz")).await, loopback("127.0.0.1"));
    assert_eq!(refused(format!("http://{door}/literal")).await, loopback("127.0.0.1"));
    assert_eq!(refused(format!("http://{door}/decimal")).await, loopback("127.0.0.1"));
    for url in [format!("http://localhost:{port}/site.tar.gz"), format!("http://{door}/name")] {
        let what = refused(url).await;
        assert!(matches!(&what, Refused::Address { host, kind: AddressKind::Loopback, .. } if host == "localhost"));
    }
    for (path, kind) in [("six", AddressKind::Loopback), ("metadata", AddressKind::LinkLocal)] {
        let what = refused(format!("http://{door}/{path}")).await;
        assert!(matches!(&what, Refused::Address { kind: found, .. } if *found == kind), "{path}: {what}");
    }
    assert_eq!(refused(format!("http://{door}/file")).await, Refused::Url("file:///etc/passwd".into()));
    assert!(matches!(refused(format!("http://{door}/loop")).await, Refused::Redirect(_)));
    for url in ["ftp://example.org/x", "http://user:pass@example.org/x", "http://", "x"] {
        assert!(matches!(refused(url.to_owned()).await, Refused::Url(_)), "{url}");
    }
    assert_eq!(INNER_HITS.load(Ordering::SeqCst), 0, "the inner server was never asked");

    let open = ArchiveFetcher::new(ArchivePolicy { allow_private_addresses: true, ..small() });
    let fetched = open.fetch(&format!("http://{door}/name"), digest, UNLIMITED).await.unwrap();
    assert_eq!(fetched.files, Files::from([("index.html".to_owned(), Bytes::from("hello"))]));
    assert_eq!(INNER_HITS.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn wrong_late_large_and_missing_archives_are_told_apart() {
    tls();
    let bytes = archive(&[("index.html", FILE, b"hello")]);
    let digest = BlobDigest::of(&bytes);
    let large = vec![0_u8; (1 << 20) + 2];
    let streamed = large.clone();
    let router = Router::new()
        .route("/site", get(move || async move { bytes }))
        .route("/large", get(move || async move { large }))
        .route(
            "/streamed",
            get(move || async move {
                let chunks =
                    streamed.chunks(1000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect::<Vec<_>>();
                axum::body::Body::from_stream(futures::stream::iter(chunks)).into_response()
            }),
        )
        .route("/hangs", get(std::future::pending::<()>));
    let address = serve(router).await;
    let policy = ArchivePolicy { allow_private_addresses: true, timeout: Duration::from_millis(500), ..small() };
    let fetcher = ArchiveFetcher::new(policy);
    let fetch = |path: &str, digest| {
        let (fetcher, url) = (fetcher.clone(), format!("http://{address}/{path}"));
        async move { fetcher.fetch(&url, digest, UNLIMITED).await }
    };

    assert!(fetch("site", digest).await.is_ok());
    let other = BlobDigest::of(b"other");
    let wrong = fetch("site", other).await;
    assert!(
        matches!(&wrong, Err(ArchiveError::DigestMismatch { expected, found, .. }) if (*expected, *found) == (other, digest)),
        "{wrong:?}"
    );
    for path in ["large", "streamed"] {
        let result = fetch(path, digest).await;
        assert!(
            matches!(result, Err(ArchiveError::TooLarge(TooLarge::Download(bound))) if bound == operator(1 << 20)),
            "{path}: {result:?}"
        );
    }
    // The whole of it would come under the policy alone.
    let roomy = ArchiveFetcher::new(ArchivePolicy { max_archive_bytes: 2 << 20, ..fetcher.policy.clone() });
    for path in ["large", "streamed"] {
        let result =
            roomy.fetch(&format!("http://{address}/{path}"), digest, Quota { max_bytes: 1, max_files: 0 }).await;
        let bound = Bound { most: 1 << 20 | 1, whose: Whose::Provider };
        assert!(
            matches!(result, Err(ArchiveError::TooLarge(TooLarge::Download(found))) if found == bound),
            "{path}: {result:?}"
        );
    }
    for path in ["hangs", "missing"] {
        let result = fetch(path, digest).await;
        assert!(matches!(&result, Err(ArchiveError::Unavailable { .. })), "{path}: {result:?}");
    }
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let result = fetcher.fetch(&format!("http://{free}/site"), digest, UNLIMITED).await;
    assert!(matches!(&result, Err(ArchiveError::Unavailable { cause, .. }) if cause.contains("refused")), "{result:?}");
}

#[tokio::test]
async fn archives_in_memory_are_few_and_nobody_waits_for_them() {
    tls();
    let bytes = archive(&[("index.html", FILE, b"hello")]);
    let digest = BlobDigest::of(&bytes);
    let drips = || {
        stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>("x"), ()))
        })
    };
    let router = Router::new()
        .route("/site", get(move || async move { bytes }))
        .route("/drips", get(async move || axum::body::Body::from_stream(drips())))
        .route(
            "/stops",
            get(async || {
                axum::body::Body::from_stream(stream::iter([Ok::<_, std::io::Error>("x")]).chain(stream::pending()))
            }),
        );
    let address = serve(router).await;
    let silence = Duration::from_millis(500);
    let policy = ArchivePolicy {
        allow_private_addresses: true,
        read_timeout: silence,
        timeout: Duration::from_mins(10),
        ..small()
    };
    let fetcher = ArchiveFetcher::new(policy);
    let fetch = |path: &str| {
        let (fetcher, url) = (fetcher.clone(), format!("http://{address}/{path}"));
        async move { fetcher.fetch(&url, digest, UNLIMITED).await }
    };

    let published = fetch("site").await.unwrap();
    let dripping = tokio::spawn(fetch("drips"));
    let begun = async {
        while fetcher.slots.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), begun).await.expect("both count as in memory");
    let turned_away = fetch("site").now_or_never().unwrap();
    assert!(
        matches!(&turned_away, Err(ArchiveError::Unavailable { cause, .. }) if cause == "2 others are being fetched"),
        "{turned_away:?}"
    );
    drop(published);
    assert!(fetch("site").await.is_ok(), "one of them is published");
    let silent = tokio::time::timeout(Duration::from_secs(20), fetch("stops")).await.unwrap();
    assert!(matches!(silent, Err(ArchiveError::Unavailable { .. })), "{silent:?}");
    assert!(!dripping.is_finished(), "whoever is not silent has the whole time");
    dripping.abort();
}

#[test]
fn files_take_the_memory_that_they_need() {
    let file = vec![7; 100_001];
    let mut files = unpack(&archive(&[("a", FILE, &file)]), &small().within(UNLIMITED)).unwrap();
    let bytes = files.remove("a").unwrap().try_into_mut().unwrap();
    assert_eq!((bytes.len(), bytes.capacity()), (file.len(), file.len()));
}
