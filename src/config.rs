//! How the operator is told to work: the arguments of `dms-operator run`.

use std::{net::SocketAddr, time::Duration};

use clap::builder::NonEmptyStringValueParser;

use crate::{plan::span::parse_span, telemetry::LogFormat};

/// DMS devices refuse a deployment that expires sooner.
const SHORTEST_WINDOW: Duration = Duration::from_mins(1);

/// The arguments of the operator.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub struct OperatorConfig {
    /// The HostingProvider to serve, as NAMESPACE/NAME. Its namespace is the operator's own.
    #[arg(long, value_name = "NAMESPACE/NAME", env = "DMS_OPERATOR_PROVIDER", default_value = "dms-operator/default")]
    #[arg(value_parser = parse_provider)]
    pub provider: ProviderName,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_bind: SocketAddr,

    /// Address at which sites on devices ask what to serve.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8081")]
    pub site_bind: SocketAddr,

    /// Where sites on devices reach --site-bind, for example https://sites.example.org. Absent: the address that
    /// --site-bind got, which only devices on this machine can reach.
    #[arg(long, value_name = "URL", value_parser = parse_site_url)]
    pub site_url: Option<String>,

    /// Address at which the provider's actor takes messages over HTTP, at the path /v1/actor.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8082")]
    pub actor_bind: SocketAddr,

    /// Where the provider's actor is reached, as its users are told: a multiaddress, for example
    /// /dns4/hosting.example.org/tcp/9000, or http://HOST[:PORT] or https://HOST[:PORT]; give it once for each. The host
    /// of the first of the latter is the name that challenges show. Absent: what --p2p-listen and --actor-bind got.
    #[arg(long, value_name = "ADDRESS", value_parser = parse_advertised)]
    pub advertise: Vec<String>,

    /// Image of the site server, by digest. Absent: this executable's own digest, which only the embedded device of
    /// the same build runs.
    #[arg(long, value_name = "NAME@sha256:DIGEST", value_parser = parse_image)]
    pub site_image: Option<String>,

    /// Address for libp2p to listen at, for example /ip4/0.0.0.0/tcp/9000; give it once for each. Absent: the operator
    /// only dials.
    #[arg(long = "p2p-listen", value_name = "MULTIADDRESS", value_parser = NonEmptyStringValueParser::new())]
    pub p2p_listen: Vec<String>,

    /// How long a device may take to accept a new deployment, before another attempt may be made; at least 60s.
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = parse_window)]
    pub device_window: Duration,

    /// How long after its last sign of life another replica may take the operator's place; at least 5s.
    #[arg(long, value_name = "SPAN", default_value = "30s", value_parser = parse_lease)]
    pub lease_duration: Duration,

    /// How often every object, and what deleted ones left, is looked at again, although nothing has changed.
    #[arg(long, value_name = "SPAN", default_value = "60s", value_parser = parse_resync)]
    pub resync: Duration,

    /// How many objects of a kind are worked on at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,

    /// Fetch archives from private addresses too. With it, who may sign a HostingDeployment can make the operator ask
    /// any address that it can reach.
    #[arg(long)]
    pub allow_private_archives: bool,

    /// Form of log lines. What is logged is chosen by the environment variable RUST_LOG (default: info).
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Which HostingProvider is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderName {
    /// Its namespace, which is the operator's own.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

fn parse_provider(text: &str) -> Result<ProviderName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if is_name(namespace, 63) && is_name(name, 253) => {
            Ok(ProviderName { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("write it as NAMESPACE/NAME, for example dms-operator/default".to_owned()),
    }
}

fn is_name(text: &str, longest: usize) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= longest
        && text.bytes().all(|byte| plain(byte) || byte == b'-' || byte == b'.')
        && text.bytes().next().is_some_and(plain)
        && text.bytes().next_back().is_some_and(plain)
}

fn parse_site_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.contains(['?', '#', '@', ' ']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err("write it as http://HOST[:PORT] or https://HOST[:PORT], without query or credentials".to_owned()),
    }
}

fn parse_advertised(text: &str) -> Result<String, String> {
    if text.len() > 400 {
        return Err("it is longer than 400 characters".to_owned());
    }
    if text.strip_prefix('/').is_some_and(|rest| rest.split('/').count() >= 2 && !rest.contains([' ', '\n'])) {
        return Ok(text.trim_end_matches('/').to_owned());
    }
    parse_site_url(text).map_err(|error| format!("write a multiaddress that begins with /, or else {error}"))
}

fn parse_image(text: &str) -> Result<String, String> {
    match text.rsplit_once("@sha256:") {
        Some((name, digest))
            if !name.is_empty()
                && !name.contains([' ', '@'])
                && digest.len() == 64
                && digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("write it as NAME@sha256:DIGEST with 64 hex digits; a tag can change under a running site".to_owned()),
    }
}

fn parse_window(text: &str) -> Result<Duration, String> {
    at_least(text, SHORTEST_WINDOW, "60s: DMS devices refuse shorter ones")
}

fn parse_lease(text: &str) -> Result<Duration, String> {
    at_least(text, Duration::from_secs(5), "5s: a shorter one is lost at the first slow answer of the API server")
}

fn parse_resync(text: &str) -> Result<Duration, String> {
    at_least(text, Duration::from_secs(1), "1s")
}

fn at_least(text: &str, least: Duration, why: &str) -> Result<Duration, String> {
    let span = parse_span(text).map_err(|error| error.to_string())?;
    if span < least { Err(format!("it must be at least {why}")) } else { Ok(span) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        config: OperatorConfig,
    }

    fn parse(arguments: &[&str]) -> Result<OperatorConfig, String> {
        Line::try_parse_from(std::iter::once(&"run").chain(arguments))
            .map(|line| line.config)
            .map_err(|error| error.to_string())
    }

    fn defaults() -> OperatorConfig {
        OperatorConfig {
            provider: ProviderName { namespace: "dms-operator".into(), name: "default".into() },
            http_bind: "0.0.0.0:8080".parse().unwrap(),
            site_bind: "0.0.0.0:8081".parse().unwrap(),
            site_url: None,
            actor_bind: "0.0.0.0:8082".parse().unwrap(),
            advertise: vec![],
            site_image: None,
            p2p_listen: vec![],
            device_window: Duration::from_mins(5),
            lease_duration: Duration::from_secs(30),
            resync: Duration::from_mins(1),
            concurrency: 16,
            allow_private_archives: false,
            log_format: LogFormat::Text,
        }
    }

    #[test]
    fn without_arguments_the_documented_defaults_hold() {
        assert_eq!(parse(&[]).unwrap(), defaults());
    }

    #[test]
    fn every_argument_is_taken() {
        let image = format!("registry.example.org/dms-operator@sha256:{}", "a".repeat(64));
        let config = parse(&[
            "--provider=hosting/second",
            "--http-bind=127.0.0.1:1",
            "--site-bind=[::1]:2",
            "--site-url=https://sites.example.org/",
            "--actor-bind=127.0.0.1:3",
            "--advertise=/dns4/hosting.example.org/tcp/9000",
            "--advertise=https://hosting.example.org/",
            "--site-image",
            &image,
            "--p2p-listen=/ip4/0.0.0.0/tcp/9000",
            "--device-window=60s",
            "--lease-duration=15s",
            "--resync=1h",
            "--concurrency=1",
            "--allow-private-archives",
            "--log-format=json",
        ])
        .unwrap();
        assert_eq!(
            config,
            OperatorConfig {
                provider: ProviderName { namespace: "hosting".into(), name: "second".into() },
                http_bind: "127.0.0.1:1".parse().unwrap(),
                site_bind: "[::1]:2".parse().unwrap(),
                site_url: Some("https://sites.example.org".into()),
                actor_bind: "127.0.0.1:3".parse().unwrap(),
                advertise: vec!["/dns4/hosting.example.org/tcp/9000".into(), "https://hosting.example.org".into()],
                site_image: Some(image),
                p2p_listen: vec!["/ip4/0.0.0.0/tcp/9000".into()],
                device_window: Duration::from_mins(1),
                lease_duration: Duration::from_secs(15),
                resync: Duration::from_hours(1),
                concurrency: 1,
                allow_private_archives: true,
                log_format: LogFormat::Json,
            }
        );
    }

    #[test]
    fn what_cannot_work_is_refused_with_a_sentence() {
        for (argument, sentence) in [
            ("--device-window=59s", "it must be at least 60s: DMS devices refuse shorter ones"),
            ("--device-window=5", "\"5\" is not a span of time"),
            ("--lease-duration=4s", "it must be at least 5s"),
            ("--resync=0s", "it must be at least 1s"),
            ("--provider=default", "write it as NAMESPACE/NAME"),
            ("--provider=a/b/c", "write it as NAMESPACE/NAME"),
            ("--provider=/default", "write it as NAMESPACE/NAME"),
            ("--provider=Upper/default", "write it as NAMESPACE/NAME"),
            ("--site-image=nginx:latest", "write it as NAME@sha256:DIGEST"),
            ("--site-image=nginx@sha256:00", "write it as NAME@sha256:DIGEST"),
            ("--site-url=sites.example.org", "write it as http://HOST[:PORT]"),
            ("--site-url=https://user:secret@sites.example.org", "write it as http://HOST[:PORT]"),
            ("--advertise=hosting.example.org", "write a multiaddress that begins with /, or else write it as http://"),
            ("--advertise=/", "write a multiaddress that begins with /"),
            ("--concurrency=0", "0 is not in 1..=1024"),
        ] {
            let error = parse(&[argument]).unwrap_err();
            assert!(error.contains(sentence), "{argument}: {error}");
        }
    }
}
