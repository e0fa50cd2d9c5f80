//! How long each test took, for the list of the slowest that `make test` ends with.

use std::{fs::OpenOptions, io::Write as _, thread, time::Instant};

/// Measures the test that holds it. Take one in the first line: `let _timed = Timed::start();`.
pub struct Timed {
    name: String,
    started: Instant,
}

impl Timed {
    pub fn start() -> Self {
        // The test runner names each thread after its test.
        Self::of(thread::current().name().unwrap_or("unknown"))
    }

    /// Measures what has this name.
    pub fn of(name: &str) -> Self {
        Self { name: name.to_owned(), started: Instant::now() }
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        // One write of a short line at the end of a file is whole, also with tests side by side.
        let line = format!("{:.2} {}\n", self.started.elapsed().as_secs_f64(), self.name);
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/test-seconds");
        if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path) {
            let _ = file.write_all(line.as_bytes());
        }
    }
}
