//! Adds what was measured to `docs/measurements.md`, into the table of its section.

use std::process::Command;

use crate::definitions::root;

const FILE: &str = "docs/measurements.md";

/// Adds rows at the end of the last table of a section, under a line that says when, on which commit, and how.
pub fn append(section: &str, how: &str, rows: &[String]) {
    let text = std::fs::read_to_string(root().join(FILE)).unwrap();
    let (date, commit) = now();
    let head = format!("**{date}, `{commit}`**: {how}.");
    let table = [
        &["", head.as_str(), "", COLUMNS, "|---|---|---|---|---|---|---|"],
        &rows.iter().map(String::as_str).collect::<Vec<_>>()[..],
    ]
    .concat();
    std::fs::write(root().join(FILE), inserted(&text, section, &table)).unwrap();
}

const COLUMNS: &str =
    "| fault | deployments | duplicates | lost | deleted falsely | converged after, s | operator, MiB |";

/// Adds a row to the table at the end of a section.
pub fn append_row(section: &str, row: impl FnOnce(&str, &str) -> String) {
    let text = std::fs::read_to_string(root().join(FILE)).unwrap();
    let (date, commit) = now();
    let row = row(&date, &commit);
    std::fs::write(root().join(FILE), inserted(&text, section, &[&row])).unwrap();
}

/// Today, and the commit that is checked out.
fn now() -> (String, String) {
    let output = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).current_dir(root()).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    (output("date", &["-u", "+%Y-%m-%d"]), output("git", &["rev-parse", "--short", "HEAD"]))
}

/// The text with lines behind the last that is not empty of a section.
fn inserted(text: &str, section: &str, lines: &[&str]) -> String {
    let mut all: Vec<&str> = text.lines().collect();
    let start = all.iter().position(|line| *line == format!("## {section}")).unwrap_or_else(|| panic!("no {section}"));
    let end =
        all.iter().skip(start + 1).position(|line| line.starts_with("## ")).map_or(all.len(), |more| start + 1 + more);
    let behind = all[..end].iter().rposition(|line| !line.is_empty()).unwrap() + 1;
    all.splice(behind..behind, lines.iter().copied());
    all.join("\n") + "\n"
}

#[test]
fn rows_go_to_the_end_of_their_own_section() {
    let text = "# M\n\n## A\n\n| a |\n|---|\n| 1 |\n\n## B\n\n| b |\n";
    assert_eq!(inserted(text, "A", &["| 2 |"]), "# M\n\n## A\n\n| a |\n|---|\n| 1 |\n| 2 |\n\n## B\n\n| b |\n");
    assert_eq!(inserted(text, "B", &["| c |"]), format!("{text}| c |\n"));
}
