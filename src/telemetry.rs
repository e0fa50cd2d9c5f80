//! Logs: one line per event on standard error, as text for people or JSON for collectors.

use std::io::IsTerminal as _;

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What is logged when `RUST_LOG` does not say.
const DEFAULT_FILTER: &str = "info";

/// Form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, the fields of the event at its top level.
    Json,
}

/// Sends logs to standard error, filtered by `RUST_LOG` (default `info`). A filter that cannot be read is told of and
/// replaced by the default; a second call changes nothing.
pub fn install(format: LogFormat) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let (filter, fault) = filter(&wanted);
    let colours = std::io::stderr().is_terminal();
    if tracing::subscriber::set_global_default(subscriber(format, filter, colours, std::io::stderr)).is_err() {
        return;
    }
    if let Some(error) = fault {
        tracing::warn!(RUST_LOG = wanted, error, "the log filter cannot be read; {DEFAULT_FILTER} is used");
    }
}

fn filter(wanted: &str) -> (EnvFilter, Option<String>) {
    let text = if wanted.trim().is_empty() { DEFAULT_FILTER } else { wanted };
    match EnvFilter::try_new(text) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new(DEFAULT_FILTER), Some(error.to_string())),
    }
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, colours: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => Box::new(lines.finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).with_span_list(false).finish()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, wanted: &str) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, filter(wanted).0, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("pass", object = "shop/web");
            let _inside = span.enter();
            tracing::info!(reason = "Running", "it runs");
            tracing::debug!("a detail");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_carry_fields_and_the_object() {
        let text = logged(LogFormat::Json, "");
        let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
        line.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "level": "INFO", "message": "it runs", "reason": "Running", "target": "dms_operator::telemetry::tests",
                "span": {"name": "pass", "object": "shop/web"}
            })
        );
    }

    #[test]
    fn text_lines_are_for_people() {
        let text = logged(LogFormat::Text, "debug");
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.contains("it runs reason=\"Running\"") && text.contains("a detail"), "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_falls_back() {
        assert!(filter("info,kube=debug").1.is_none());
        let (filter, fault) = filter("info,=[=");
        assert_eq!(filter.to_string(), "info");
        assert!(fault.is_some());
    }
}
