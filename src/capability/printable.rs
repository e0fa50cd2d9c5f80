//! Text of others, on its way to a terminal.

/// The text with every control character masked: none of them moves the cursor or ends the line.
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// The same with blanks in their place, for text that belongs in a sentence.
#[must_use]
pub fn on_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_moves_the_cursor() {
        assert_eq!(printable("dms/1\u{1b}[2J\n\u{9b}2J\u{7f}"), "dms/1\u{fffd}[2J\u{fffd}\u{fffd}2J\u{fffd}");
        assert_eq!(printable("/größe/ё → 日"), "/größe/ё → 日");
        assert_eq!(on_one_line("dms/1\u{1b}[2J\nё\u{7f}"), "dms/1 [2J ё ");
    }
}
