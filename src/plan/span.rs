//! Spans of time as the kinds write them: `90s`, `5m`, `72h`.

use std::time::Duration;

/// A text that is not a span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a span of time: write a whole number followed by s, m or h, for example 72h")]
pub struct SpanError(String);

/// Reads a whole number of seconds, minutes or hours.
///
/// # Errors
/// [`SpanError`] for any other text, and for spans beyond `u64` seconds.
pub fn parse_span(text: &str) -> Result<Duration, SpanError> {
    let refused = || SpanError(text.to_owned());
    let unit = match text.as_bytes().last() {
        Some(b's') => 1,
        Some(b'm') => 60,
        Some(b'h') => 3600,
        _ => return Err(refused()),
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(refused());
    }
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(refused)
}

/// Writes a span in the largest unit that divides it.
#[must_use]
pub fn format_span(span: Duration) -> String {
    match span.as_secs() {
        seconds if seconds > 0 && seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        seconds if seconds > 0 && seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        seconds => format!("{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "s", "5", "-5s", "+5s", "5.5h", "5d", "5 s", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(parse_span(text), Err(SpanError(text.to_owned())), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(seconds in 0_u64..10_000_000) {
            prop_assert_eq!(parse_span(&format_span(Duration::from_secs(seconds))), Ok(Duration::from_secs(seconds)));
        }
    }
}
