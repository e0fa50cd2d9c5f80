//! What the demo prints: plain text, with emphasis only on a terminal.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Instant,
};

/// Standard output, and the time since the start.
pub(super) struct Screen {
    started: Instant,
    styled: bool,
}

impl Screen {
    pub fn new() -> Self {
        let styled =
            std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { started: Instant::now(), styled }
    }

    /// A new part of the story.
    pub fn heading(&self, text: &str) {
        let seconds = self.started.elapsed().as_secs_f64();
        self.put(&format!("\n{} {}", self.style("1", text), self.style("2", &format!("({seconds:.1} s)"))));
    }

    /// A command, as it would be typed.
    pub fn command(&self, text: &str) {
        self.put(&format!("  {} {}", self.style("2", "$"), self.style("36", text)));
    }

    /// A line of a command's output, or a fact.
    pub fn line(&self, text: &str) {
        self.put(&format!("    {text}"));
    }

    /// A remark.
    pub fn remark(&self, text: &str) {
        self.put(&format!("  {}", self.style("2", &format!("# {text}"))));
    }

    fn style(&self, code: &str, text: &str) -> String {
        if self.styled { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    #[allow(clippy::unused_self)]
    fn put(&self, text: &str) {
        // Nobody reads any more, say after `| head`: the demo still ends in order.
        let _ = writeln!(std::io::stdout().lock(), "{text}");
    }
}
