//! The adapter between the real multistream-select and bytes written by hand.

use std::time::Duration;

use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _};
use multistream_select::{Version, dialer_select_proto, listener_select_proto};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::time::timeout;

use super::rig::{Choppy, choppy, compat};
use super::substream::{NotAgreed, Substream};

const HEADER: &str = "/multistream/1.0.0\n";
const ROOM: usize = 1 << 16;

/// A message as the specification of multistream-select writes it.
fn message(text: &str) -> Vec<u8> {
    let length = text.len();
    assert!(length < 1 << 14);
    let mut out = if length < 128 {
        vec![u8::try_from(length).unwrap()]
    } else {
        vec![u8::try_from(length % 128).unwrap() + 128, u8::try_from(length / 128).unwrap()]
    };
    out.extend_from_slice(text.as_bytes());
    out
}

fn line(name: &str) -> Vec<u8> {
    message(&format!("{name}\n"))
}

/// The peer: it has no idea of any mark.
struct Peer(DuplexStream);

impl Peer {
    async fn says(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    async fn hears(&mut self, want: &[u8]) {
        let mut got = vec![0; want.len()];
        self.0.read_exact(&mut got).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(want));
    }

    async fn hears_the_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }
}

fn pipe(piece: usize) -> (Choppy, Peer) {
    let (here, there) = duplex(ROOM);
    (choppy(here, piece), Peer(there))
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("the negotiation hangs")
}

/// A bare name of that many bytes; its local name is three longer, which crosses the second byte of the length.
fn bare_name(length: usize) -> String {
    format!("a/{}", "n".repeat(length - 2))
}

#[tokio::test]
async fn a_dialer_proposes_bare_names() {
    for version in [Version::V1, Version::V1Lazy] {
        for refused_first in [false, true] {
            for piece in [1, 2, 7, 5000] {
                for length in [26, 123, 124, 126, 127, 128, 900] {
                    soon(dial(version, refused_first, piece, &bare_name(length))).await;
                }
            }
        }
    }
}

async fn dial(version: Version, refused_first: bool, piece: usize, name: &str) {
    let (here, mut peer) = pipe(piece);
    let mut proposals = vec![format!("/~/{name}")];
    if refused_first {
        proposals.insert(0, "/~/other".to_owned());
    }
    let last = proposals.last().cloned();
    let local = async {
        let (agreed, mut stream) = dialer_select_proto(Substream::dialer(here), proposals, version).await.unwrap();
        assert_eq!(Some(agreed), last);
        stream.write_all(b"\x05data of ours").await.unwrap();
        stream.close().await.unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x0adata of theirs");
    };
    let remote = async {
        peer.hears(&line("/multistream/1.0.0")).await;
        peer.says(&line("/multistream/1.0.0")).await;
        if refused_first {
            peer.hears(&line("other")).await;
            peer.says(&line("na")).await;
        }
        peer.hears(&line(name)).await;
        // The answer and the data in one packet.
        peer.says(&[&line(name)[..], b"\x0adata of theirs"].concat()).await;
        peer.hears(b"\x05data of ours").await;
        peer.hears_the_end().await;
        peer.0.shutdown().await.unwrap();
    };
    tokio::join!(local, remote);
}

/// What the peer of a dialer that takes a name for granted does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Agree,
    Refuse,
    End,
    Babble,
}

#[tokio::test]
async fn a_name_taken_for_granted_costs_no_waiting_and_a_refusal_is_learned() {
    for answer in [Answer::Agree, Answer::Refuse, Answer::End, Answer::Babble] {
        for piece in [1, 2, 7, 5000] {
            for length in [26, 123, 124, 127, 900] {
                soon(assume(answer, piece, &bare_name(length))).await;
            }
        }
    }
}

async fn assume(answer: Answer, piece: usize, name: &str) {
    let (here, mut peer) = pipe(piece);
    // More than goes out in one piece with the name, where that is quick.
    let data = vec![0x5a; if piece == 5000 { 20_000 } else { 500 }];
    let (written, all_written) = tokio::sync::oneshot::channel();
    let local = async {
        let proposal = format!("/~~/{name}");
        let (_, mut stream) = dialer_select_proto(Substream::dialer(here), [proposal], Version::V1).await.unwrap();
        stream.write_all(&data).await.unwrap();
        stream.close().await.unwrap();
        written.send(()).unwrap();
        let mut got = Vec::new();
        let read = stream.read_to_end(&mut got).await.map_err(|error| NotAgreed::of(&error).unwrap());
        let want = match answer {
            Answer::Agree => Ok(b"\x0adata of theirs".len()),
            Answer::Refuse => Err(NotAgreed::NoSuchInbox),
            Answer::End | Answer::Babble => Err(NotAgreed::Ended),
        };
        assert_eq!(read, want);
    };
    let remote = async {
        // All of it is here before the peer says a word.
        all_written.await.unwrap();
        peer.hears(&[message(HEADER), line(name), data.clone()].concat()).await;
        peer.hears_the_end().await;
        match answer {
            Answer::Agree => peer.says(&[&message(HEADER)[..], &line(name), b"\x0adata of theirs"].concat()).await,
            Answer::Refuse => peer.says(&[message(HEADER), line("na")].concat()).await,
            Answer::End => peer.says(&message(HEADER)[..5]).await,
            Answer::Babble => peer.says(&[message(HEADER), line("something else")].concat()).await,
        }
        peer.0.shutdown().await.unwrap();
    };
    tokio::join!(local, remote);
}

#[tokio::test]
async fn a_short_message_leaves_in_one_piece_with_its_name() {
    let (here, mut peer) = pipe(5000);
    let proposal = "/~~/actor/root/messages/0.0.1";
    let (_, mut stream) = soon(dialer_select_proto(Substream::dialer(here), [proposal], Version::V1)).await.unwrap();
    let mut first = [0; 4000];
    assert!(peer.0.read(&mut first).now_or_never().is_none(), "something left before the message");
    soon(stream.write_all(&[0x5a; 1355])).await.unwrap();
    soon(stream.flush()).await.unwrap();
    let want = [message(HEADER), line("actor/root/messages/0.0.1"), vec![0x5a; 1355]].concat();
    assert_eq!(soon(peer.0.read(&mut first)).await.unwrap(), want.len());
    assert_eq!(first[..want.len()], want);
}

#[tokio::test]
async fn a_refused_dialer_learns_it() {
    let (here, mut peer) = pipe(3);
    let local = async {
        let proposals = ["/~/actor/nobody/messages/0.0.1"];
        let refused = dialer_select_proto(Substream::dialer(here), proposals, Version::V1).await.map(|_| ());
        assert!(matches!(refused, Err(multistream_select::NegotiationError::Failed)), "{refused:?}");
    };
    let remote = async {
        peer.hears(&[line("/multistream/1.0.0"), line("actor/nobody/messages/0.0.1")].concat()).await;
        peer.says(&[message(HEADER), line("na")].concat()).await;
    };
    soon(async { tokio::join!(local, remote) }).await;
}

#[tokio::test]
async fn a_listener_accepts_bare_names() {
    for all_at_once in [false, true] {
        for refused_first in [false, true] {
            for piece in [1, 2, 7, 5000] {
                for length in [26, 123, 124, 126, 127, 128, 900] {
                    soon(listen(all_at_once, refused_first, piece, &bare_name(length))).await;
                }
            }
        }
    }
}

/// With `all_at_once` the peer is lazy: its data follow the proposal before it has an answer.
async fn listen(all_at_once: bool, refused_first: bool, piece: usize, name: &str) {
    let (here, mut peer) = pipe(piece);
    let offered = ["/ipfs/id/1.0.0".to_owned(), format!("/~/{name}")];
    let local = async {
        let (agreed, mut stream) = listener_select_proto(Substream::listener(here), offered.clone()).await.unwrap();
        assert_eq!(agreed, offered[1]);
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"\x05data of theirs");
        stream.write_all(b"\x0adata of ours").await.unwrap();
        stream.close().await.unwrap();
    };
    let remote = async {
        peer.says(&message(HEADER)).await;
        if refused_first {
            peer.says(&line("unknown")).await;
            peer.hears(&[message(HEADER), line("na")].concat()).await;
        }
        if all_at_once {
            peer.says(&[&line(name)[..], b"\x05data of theirs"].concat()).await;
        } else {
            peer.says(&line(name)).await;
        }
        if !refused_first {
            peer.hears(&message(HEADER)).await;
        }
        peer.hears(&line(name)).await;
        if !all_at_once {
            peer.says(b"\x05data of theirs").await;
        }
        peer.0.shutdown().await.unwrap();
        peer.hears(b"\x0adata of ours").await;
        peer.hears_the_end().await;
    };
    tokio::join!(local, remote);
}

#[tokio::test]
async fn a_list_of_protocols_has_bare_names() {
    let long = bare_name(126);
    let (here, mut peer) = pipe(5);
    let offered = ["/ipfs/id/1.0.0".to_owned(), "/~/actor/root/messages/0.0.1".to_owned(), format!("/~/{long}")];
    let local = async {
        let (agreed, _) = listener_select_proto(Substream::listener(here), offered.clone()).await.unwrap();
        assert_eq!(agreed, offered[0]);
    };
    let remote = async {
        peer.says(&[message(HEADER), line("ls")].concat()).await;
        let names = [line("/ipfs/id/1.0.0"), line("actor/root/messages/0.0.1"), line(&long), b"\n".to_vec()].concat();
        let list = message(std::str::from_utf8(&names).unwrap());
        peer.hears(&[message(HEADER), list].concat()).await;
        peer.says(&line("/ipfs/id/1.0.0")).await;
        peer.hears(&line("/ipfs/id/1.0.0")).await;
    };
    soon(async { tokio::join!(local, remote) }).await;
}

#[tokio::test]
async fn names_that_look_like_ours_are_refused() {
    for twin in ["/~/actor/root/messages/0.0.1", "/actor/root/messages/0.0.1", "actor/root/messages/0.0.2", "", "~"] {
        let (here, mut peer) = pipe(4);
        let local = async {
            let offered = ["/~/actor/root/messages/0.0.1"];
            assert!(listener_select_proto(Substream::listener(here), offered).await.is_err(), "{twin:?}");
        };
        let remote = async move {
            peer.says(&[message(HEADER), line(twin)].concat()).await;
            peer.hears(&[message(HEADER), line("na")].concat()).await;
            peer.0.shutdown().await.unwrap();
        };
        soon(async { tokio::join!(local, remote) }).await;
    }
}

#[tokio::test]
async fn two_adapters_and_plain_protocols_agree() {
    for version in [Version::V1, Version::V1Lazy] {
        for name in ["/ipfs/ping/1.0.0", "/~/actor/user-1/messages/0.0.1"] {
            let (here, there) = duplex(ROOM);
            let dialing = async {
                let stream = Substream::dialer(choppy(here, 6));
                let (_, mut stream) = dialer_select_proto(stream, [name], version).await.unwrap();
                stream.write_all(&[7; 3000]).await.unwrap();
                stream.close().await.unwrap();
            };
            let listening = async {
                let stream = Substream::listener(choppy(there, 9));
                let (agreed, mut stream) = listener_select_proto(stream, [name]).await.unwrap();
                assert_eq!(agreed, name);
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                assert_eq!(got, [7; 3000]);
            };
            soon(async { tokio::join!(dialing, listening) }).await;
        }
    }
}

#[tokio::test]
async fn nothing_is_in_the_way_once_settled() {
    let (here, mut peer) = pipe(5000);
    let mut stream = Substream::listener(here);
    let mut got = [0; 64];
    peer.says(&[message(HEADER), line("x")].concat()).await;
    soon(async {
        stream.read_exact(&mut got[..20]).await.unwrap();
        stream.write_all(&message(HEADER)).await.unwrap();
        stream.read_exact(&mut got[..6]).await.unwrap();
        assert_eq!(got[..6], line("/~/x"));
        assert!(!stream.is_settled());
        stream.write_all(&line("/~/x")).await.unwrap();
        stream.flush().await.unwrap();
    })
    .await;
    assert!(stream.is_settled());
    peer.hears(&[message(HEADER), line("x")].concat()).await;
}

/// An identify message with two protocols, one of them marked, and the same as it belongs on the wire.
fn identify() -> (Vec<u8>, Vec<u8>) {
    let with = |root: &str| {
        let root = [&[0x1a, u8::try_from(root.len()).unwrap()], root.as_bytes()].concat();
        let ping = [&b"\x1a\x10"[..], b"/ipfs/ping/1.0.0"].concat();
        let agent = [&b"\x32\x64"[..], &[b'a'; 100]].concat();
        let body = [root, ping, agent].concat();
        message(std::str::from_utf8(&body).unwrap())
    };
    (with("/~/actor/root/messages/0.0.1"), with("actor/root/messages/0.0.1"))
}

#[tokio::test]
async fn identify_shows_bare_names_however_it_is_cut() {
    let (written, wanted) = identify();
    for cut in 0..=written.len() {
        for piece in [1, 5000] {
            let (here, mut peer) = pipe(piece);
            let local = async {
                let name = "/ipfs/id/1.0.0";
                let (_, mut stream) = listener_select_proto(Substream::listener(here), [name]).await.unwrap();
                stream.write_all(&written[..cut]).await.unwrap();
                stream.flush().await.unwrap();
                stream.write_all(&written[cut..]).await.unwrap();
                stream.write_all(b"rest").await.unwrap();
                stream.close().await.unwrap();
            };
            let remote = async {
                peer.says(&[message(HEADER), line("/ipfs/id/1.0.0")].concat()).await;
                peer.hears(&[message(HEADER), line("/ipfs/id/1.0.0"), wanted.clone(), b"rest".to_vec()].concat()).await;
                peer.hears_the_end().await;
            };
            soon(async { tokio::join!(local, remote) }).await;
        }
    }
}

#[tokio::test]
async fn a_pushed_identify_shows_bare_names_too() {
    let (written, wanted) = identify();
    for version in [Version::V1, Version::V1Lazy] {
        let (here, mut peer) = pipe(3);
        let local = async {
            let name = "/ipfs/id/push/1.0.0";
            let (_, mut stream) = dialer_select_proto(Substream::dialer(here), [name], version).await.unwrap();
            stream.write_all(&written).await.unwrap();
            stream.close().await.unwrap();
        };
        let remote = async {
            peer.says(&[message(HEADER), line("/ipfs/id/push/1.0.0")].concat()).await;
            peer.hears(&[message(HEADER), line("/ipfs/id/push/1.0.0"), wanted.clone()].concat()).await;
            peer.hears_the_end().await;
        };
        soon(async { tokio::join!(local, remote) }).await;
    }
}

#[tokio::test]
async fn an_identify_that_is_cut_short_goes_out_as_it_is() {
    let (written, _) = identify();
    for cut in 0..written.len() {
        let (here, mut peer) = pipe(5000);
        let local = async {
            let name = "/ipfs/id/1.0.0";
            let (_, mut stream) = listener_select_proto(Substream::listener(here), [name]).await.unwrap();
            stream.write_all(&written[..cut]).await.unwrap();
            stream.close().await.unwrap();
        };
        let remote = async {
            peer.says(&[message(HEADER), line("/ipfs/id/1.0.0")].concat()).await;
            peer.hears(&[message(HEADER), line("/ipfs/id/1.0.0"), written[..cut].to_vec()].concat()).await;
            peer.hears_the_end().await;
        };
        soon(async { tokio::join!(local, remote) }).await;
    }
}

/// Bytes that begin well more often than chance would have it.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop_oneof![
        Just(message(HEADER)),
        Just(line("na")),
        Just(line("ls")),
        Just(line("actor/root/messages/0.0.1")),
        Just(line("/~/x")),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    proptest::collection::vec(whole, 0..5).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn garbage_ends_in_an_answer_or_an_error(bytes in garbage(), lazy: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let names = ["/~/actor/root/messages/0.0.1", "/~/x"];
            let (here, mut there) = duplex(ROOM);
            there.write_all(&bytes).await.unwrap();
            there.shutdown().await.unwrap();
            let listening = async {
                if let Ok((_, mut stream)) = listener_select_proto(Substream::listener(compat(here)), names).await {
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            };
            soon(listening).await;
            let (here, mut there) = duplex(ROOM);
            there.write_all(&bytes).await.unwrap();
            there.shutdown().await.unwrap();
            let version = if lazy { Version::V1Lazy } else { Version::V1 };
            let dialing = async {
                if let Ok((_, mut stream)) = dialer_select_proto(Substream::dialer(compat(here)), names, version).await {
                    let _ = stream.write_all(b"data").await;
                    let _ = stream.read_to_end(&mut Vec::new()).await;
                }
            };
            soon(dialing).await;
        });
    }
}
