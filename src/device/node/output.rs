//! What a child prints: counters of network traffic are read, everything else is kept, the newest of it, and can be read
//! by offset.
//!
//! Each piece of a log is a file named by the offset of its first byte, `stdout.<offset>.log`. When the last has grown
//! full the next is begun and all but these two are removed, so a log does not grow for ever and an offset always means
//! the same byte, unless somebody takes files away or cuts them: a log that ends before the byte asked for was truncated, and
//! is read from what is its first byte now.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::figures::Figures;
use crate::device::dms::Stream;

/// Longest piece of a line that is held in memory.
const LONGEST_LINE: u64 = 8 * 1024;
/// How often a log is read anew whose pieces change meanwhile.
const TRIES: u32 = 5;
/// A piece that has grown to this is followed by another.
const LARGEST_PIECE: u64 = 8 * 1024 * 1024;

/// What one allocation has printed.
#[derive(Clone, Debug)]
pub(super) struct Log {
    directory: PathBuf,
}

/// Some bytes of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Excerpt {
    /// Where they begin; later than asked for, when what was before is gone, and earlier, when the log was truncated.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Where the log ends for now.
    pub end: u64,
}

impl Excerpt {
    /// Where the next one begins.
    pub(super) fn next(&self) -> u64 {
        self.offset.saturating_add(length(&self.bytes))
    }
}

impl Log {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// At most `most` bytes from `offset` on.
    pub(super) fn read(&self, stream: Stream, offset: u64, most: u64) -> io::Result<Excerpt> {
        let mut tries = TRIES;
        loop {
            match self.read_once(stream, offset, most) {
                // A piece was taken away after it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries > 0 => tries -= 1,
                read => return read,
            }
        }
    }

    fn read_once(&self, stream: Stream, offset: u64, most: u64) -> io::Result<Excerpt> {
        let pieces = self.pieces(stream)?;
        let (Some((first, _)), Some((last, path))) = (pieces.first_key_value(), pieces.last_key_value()) else {
            return Ok(Excerpt::default());
        };
        let end = last.saturating_add(std::fs::metadata(path)?.len());
        let from = if offset > end { *first } else { offset.max(*first) };
        let mut excerpt = Excerpt { offset: from, bytes: Vec::new(), end };
        for (begins, path) in &pieces {
            let (at, left) = (excerpt.next(), most.saturating_sub(length(&excerpt.bytes)));
            if left == 0 {
                break;
            }
            if *begins > at {
                // The piece before was cut: what is missing is passed over, but only before the first byte.
                if !excerpt.bytes.is_empty() {
                    break;
                }
                excerpt.offset = *begins;
            }
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(at.max(*begins) - begins))?;
            file.take(left).read_to_end(&mut excerpt.bytes)?;
        }
        // It may have grown meanwhile.
        excerpt.end = excerpt.end.max(if excerpt.bytes.is_empty() { 0 } else { excerpt.next() });
        Ok(excerpt)
    }

    /// The files by the offset of their first byte; none when nothing was printed yet.
    fn pieces(&self, stream: Stream) -> io::Result<BTreeMap<u64, PathBuf>> {
        let entries = match std::fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            entries => entries?,
        };
        let mut pieces = BTreeMap::new();
        for entry in entries {
            let entry = entry?;
            if let Some(begins) = begins_of(&entry.file_name().to_string_lossy(), stream) {
                pieces.insert(begins, entry.path());
            }
        }
        Ok(pieces)
    }

    /// The piece to write to: the last one, or one after it when that is full.
    fn open(&self, stream: Stream) -> io::Result<Piece> {
        std::fs::create_dir_all(&self.directory)?;
        let mut pieces = self.pieces(stream)?;
        let mut begins = 0;
        if let Some((last, path)) = pieces.last_key_value() {
            let size = std::fs::metadata(path)?.len();
            begins = if size < LARGEST_PIECE { *last } else { last.saturating_add(size) };
        }
        let path = self.directory.join(format!("{}.{begins}.log", stream.name()));
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let size = file.metadata()?.len();
        pieces.insert(begins, path);
        for gone in pieces.values().rev().skip(2) {
            std::fs::remove_file(gone)?;
        }
        Ok(Piece { file, size })
    }
}

fn begins_of(name: &str, stream: Stream) -> Option<u64> {
    name.strip_prefix(stream.name())?.strip_prefix('.')?.strip_suffix(".log")?.parse().ok()
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

struct Piece {
    file: File,
    size: u64,
}

/// Writes one stream of one process.
struct Writer<'a> {
    log: &'a Log,
    stream: Stream,
    piece: Option<Piece>,
}

impl Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut piece = match self.piece.take() {
            Some(piece) if piece.size < LARGEST_PIECE => piece,
            _ => self.log.open(self.stream)?,
        };
        // After an error the piece is opened anew, since nobody knows how much of the line it took.
        piece.file.write_all(bytes)?;
        piece.size = piece.size.saturating_add(length(bytes));
        self.piece = Some(piece);
        Ok(())
    }
}

/// Keeps what comes out of `pipe` until its end; lines with counters go to `figures` instead.
pub(super) async fn follow(pipe: impl AsyncRead + Unpin, stream: Stream, log: &Log, figures: Option<&Figures>) {
    let mut writer = Writer { log, stream, piece: None };
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let (Some(figures), Some((received, sent))) = (figures, usage_of(&line)) {
            figures.count(received, sent);
        } else if let Err(error) = writer.write(&line) {
            tracing::debug!(%error, directory = %log.directory.display(), "output of an allocation was lost");
        }
    }
}

/// The counters in a line `usage rx=<bytes> tx=<bytes>`.
fn usage_of(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line).ok()?.trim_end().strip_prefix("usage ")?;
    let (received, sent) = line.split_once(' ')?;
    Some((received.strip_prefix("rx=")?.parse().ok()?, sent.strip_prefix("tx=")?.parse().ok()?))
}

/// What was copied of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Copied {
    /// Where it goes on.
    pub next: u64,
    /// Whether the log was truncated before it, so that its offsets begin anew.
    pub truncated: bool,
}

/// Copies all that is there of a log into a file, from `offset` on.
pub(super) fn copy(log: &Log, stream: Stream, offset: u64, into: &mut File, most: u64) -> io::Result<Copied> {
    const AT_ONCE: u64 = 1 << 20;
    let (mut copied, mut left) = (Copied { next: offset, truncated: false }, most);
    loop {
        let excerpt = log.read(stream, copied.next, left.min(AT_ONCE))?;
        into.write_all(&excerpt.bytes)?;
        left = left.saturating_sub(length(&excerpt.bytes));
        copied.truncated |= excerpt.offset < copied.next;
        copied.next = excerpt.next();
        if excerpt.bytes.is_empty() || copied.next >= excerpt.end {
            return Ok(copied);
        }
    }
}

/// The directory in which an allocation's log is kept, below that of its deployment.
pub(super) fn directory(deployment: &Path, key: &str) -> PathBuf {
    deployment.join("output").join(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_of_the_one_form_are_counters() {
        assert_eq!(usage_of(b"usage rx=12 tx=18446744073709551615\n"), Some((12, u64::MAX)));
        assert_eq!(usage_of(b"usage rx=0 tx=0"), Some((0, 0)));
        for line in ["usage rx=1", "usage tx=1 rx=2", " usage rx=1 tx=2", "usage rx=-1 tx=2", "usage rx=1 tx=2 x", ""] {
            assert_eq!(usage_of(line.as_bytes()), None, "{line:?}");
        }
    }

    #[tokio::test]
    async fn output_is_split_into_counters_and_log() {
        let directory = tempfile::tempdir().unwrap();
        let figures = Figures::new(100, 200);
        let endless = "x".repeat(20_000);
        let output = format!("one\nusage rx=1 tx=2\n{endless}\nusage rx=5 tx=6\nlast");
        let log = Log::new(directory.path().join("new"));
        follow(output.as_bytes(), Stream::Stdout, &log, Some(&figures)).await;
        let expected = format!("one\n{endless}\nlast").into_bytes();
        let end = length(&expected);
        assert_eq!(log.read(Stream::Stdout, 0, 1 << 20).unwrap(), Excerpt { offset: 0, bytes: expected, end });
        assert_eq!(log.read(Stream::Stderr, 0, 1 << 20).unwrap(), Excerpt::default());
        assert_eq!(figures.end(), (105, 206));
        // The next process goes on where this one ended.
        follow(&b"more"[..], Stream::Stdout, &log, None).await;
        let tail = log.read(Stream::Stdout, end - 4, 6).unwrap();
        assert_eq!((tail.bytes.as_slice(), tail.end), (&b"lastmo"[..], end + 4));
        let mut copied = tempfile::tempfile().unwrap();
        let on = |next| Copied { next, truncated: false };
        assert_eq!(copy(&log, Stream::Stdout, end, &mut copied, 3).unwrap(), on(end + 3));
        assert_eq!(copied.metadata().unwrap().len(), 3);
    }

    #[test]
    fn a_log_does_not_grow_for_ever_and_offsets_stay() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().to_owned());
        let mut writer = Writer { log: &log, stream: Stream::Stderr, piece: None };
        for letter in *b"abc" {
            writer.write(&vec![letter; usize::try_from(LARGEST_PIECE).unwrap()]).unwrap();
        }
        writer.write(b"dd").unwrap();
        let read = |offset, most| log.read(Stream::Stderr, offset, most).unwrap();
        let end = 3 * LARGEST_PIECE + 2;
        // What was printed first is gone; that is told by where the rest begins.
        let expected = Excerpt { offset: 2 * LARGEST_PIECE, bytes: b"cc".to_vec(), end };
        assert_eq!(read(0, 2), expected);
        let across = Excerpt { offset: end - 3, bytes: b"cdd".to_vec(), end };
        assert_eq!(read(end - 3, 9), across);
        assert_eq!(read(end, 9), Excerpt { offset: end, bytes: vec![], end });
        assert_eq!(log.pieces(Stream::Stderr).unwrap().len(), 2);
    }

    #[tokio::test]
    async fn a_truncated_log_is_read_from_its_first_byte_on() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().to_owned());
        follow(&b"one\ntwo\n"[..], Stream::Stdout, &log, None).await;
        let piece = directory.path().join("stdout.0.log");
        let told = |offset| log.read(Stream::Stdout, offset, 99).unwrap();
        std::fs::write(&piece, "3\n").unwrap();
        let anew = Excerpt { offset: 0, bytes: b"3\n".to_vec(), end: 2 };
        assert_eq!((told(8), told(3)), (anew.clone(), anew));
        assert_eq!(told(2), Excerpt { offset: 2, bytes: vec![], end: 2 }, "who is at its end follows it");
        let mut copied = tempfile::tempfile().unwrap();
        let reached = copy(&log, Stream::Stdout, 8, &mut copied, 99).unwrap();
        assert_eq!(reached, Copied { next: 2, truncated: true });
        assert_eq!(copied.metadata().unwrap().len(), 2);

        std::fs::write(&piece, "").unwrap();
        assert_eq!(told(2), Excerpt::default());
        std::fs::remove_file(&piece).unwrap();
        assert_eq!(told(2), Excerpt::default());
        assert_eq!(copy(&log, Stream::Stdout, 2, &mut copied, 99).unwrap(), Copied { next: 0, truncated: true });
        assert_eq!(copy(&log, Stream::Stdout, 0, &mut copied, 99).unwrap(), Copied::default());
    }

    #[test]
    fn what_is_missing_inside_a_log_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::new(directory.path().to_owned());
        let write = |begins: u64, text: &str| {
            std::fs::write(directory.path().join(format!("stderr.{begins}.log")), text).unwrap();
        };
        write(0, "abcd");
        write(10, "klm");
        let read = |offset, most| log.read(Stream::Stderr, offset, most).unwrap();
        assert_eq!(read(0, 99), Excerpt { offset: 0, bytes: b"abcd".to_vec(), end: 13 });
        assert_eq!(read(4, 99), Excerpt { offset: 10, bytes: b"klm".to_vec(), end: 13 });
        assert_eq!(read(11, 1), Excerpt { offset: 11, bytes: b"l".to_vec(), end: 13 });
        let mut copied = tempfile::tempfile().unwrap();
        assert_eq!(copy(&log, Stream::Stderr, 0, &mut copied, 99).unwrap(), Copied { next: 13, truncated: false });
        assert_eq!(copied.metadata().unwrap().len(), 7);
    }
}
