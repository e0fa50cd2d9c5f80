//! Asking the person at the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use super::CommandError;

/// Whether the person says yes; nothing and anything else is no. `None`: nobody can be asked.
pub(super) fn confirmed(question: &str) -> Result<Option<bool>, CommandError> {
    let answer = asked(&format!("{question} [y/N] "))?;
    Ok(answer.map(|answer| matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes")))
}

/// Which of the lines the person picks. `None`: none of them, or nobody can be asked.
pub(super) fn picked(question: &str, lines: &[String]) -> Result<Option<usize>, CommandError> {
    if lines.is_empty() {
        return Ok(None);
    }
    let list: Vec<String> = (1..).zip(lines).map(|(number, line)| format!("{number}  {line}")).collect();
    let answer = asked(&format!("{}\n{question} [1-{}] ", list.join("\n"), lines.len()))?;
    let number = answer.and_then(|answer| answer.parse::<usize>().ok());
    Ok(number.and_then(|number| number.checked_sub(1)).filter(|index| *index < lines.len()))
}

/// What the person says. `None`: nobody can be asked.
fn asked(question: &str) -> Result<Option<String>, CommandError> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let failed = |error| CommandError::because("the terminal could not be asked", error);
    let mut out = std::io::stderr().lock();
    write!(out, "{question}").and_then(|()| out.flush()).map_err(failed)?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer).map_err(failed)?;
    Ok(Some(answer.trim().to_owned()))
}
