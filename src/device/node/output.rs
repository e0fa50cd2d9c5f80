//! What a child prints: counters of network traffic are read, everything else goes into a file of bounded size.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::figures::Figures;

/// Longest piece of a line that is held in memory.
const LONGEST_LINE: u64 = 8 * 1024;
/// A log that has grown to this is put aside as `<name>.log.1`, in place of the one before.
const LARGEST_LOG: u64 = 8 * 1024 * 1024;

/// The directory into which the output of one deployment is written.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
}

impl Log {
    pub(super) const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }
}

/// Copies `pipe` into `<name>.log` until its end; lines with counters go to `figures` instead.
pub(super) async fn follow(pipe: impl AsyncRead + Unpin, name: &str, log: &Log, figures: Option<&Figures>) {
    let path = log.directory.join(format!("{name}.log"));
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
        } else if let Err(error) = append(&path, &line) {
            tracing::debug!(%error, file = %path.display(), "output of an allocation was lost");
        }
    }
}

/// The counters in a line `usage rx=<bytes> tx=<bytes>`.
fn usage_of(line: &[u8]) -> Option<(u64, u64)> {
    let line = std::str::from_utf8(line).ok()?.trim_end().strip_prefix("usage ")?;
    let (received, sent) = line.split_once(' ')?;
    Some((received.strip_prefix("rx=")?.parse().ok()?, sent.strip_prefix("tx=")?.parse().ok()?))
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = open(path)?;
    if file.metadata()?.len() >= LARGEST_LOG {
        std::fs::rename(path, path.with_extension("log.1"))?;
        file = open(path)?;
    }
    file.write_all(bytes)
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
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
        let log = Log::new(directory.path().to_owned());
        follow(output.as_bytes(), "stdout", &log, Some(&figures)).await;
        let written = std::fs::read_to_string(directory.path().join("stdout.log")).unwrap();
        assert_eq!(written, format!("one\n{endless}\nlast"));
        assert_eq!(figures.end(), (105, 206));
    }

    #[test]
    fn a_log_does_not_grow_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("stdout.log");
        let full = vec![b'a'; usize::try_from(LARGEST_LOG).unwrap()];
        append(&path, &full).unwrap();
        append(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read(directory.path().join("stdout.log.1")).unwrap(), full);
    }
}
