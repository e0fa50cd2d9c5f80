//! What is known of a device, and how it is told.

use std::fmt::Write as _;
use std::io::IsTerminal as _;

use jiff::Timestamp;
use kube::{ResourceExt as _, api::DynamicObject};
use serde::Serialize;
use serde_json::Value;

use crate::capability::{Did, Nanos, Token, printable};

/// What object and status say of a device; `None` is what is not known.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct View {
    pub(super) name: String,
    namespace: String,
    did: String,
    peer_id: Option<String>,
    addresses: Vec<String>,
    pub(super) unschedulable: bool,
    ready: Option<String>,
    pub(super) reason: Option<String>,
    message: Option<String>,
    reachability: Option<String>,
    onboarded: Option<bool>,
    reply_spelling: Option<String>,
    grant_expires: Option<String>,
    #[serde(skip)]
    grant: Grant,
    sentinel: Option<String>,
    conditions: Vec<Condition>,
    /// `None`, when those of all namespaces cannot be listed.
    pub(super) deployments: Option<Vec<Deployed>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Grant {
    None,
    Until(Nanos),
    Unreadable(String),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
    last_transition_time: String,
}

/// A deployment that is recorded on a device.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Deployed {
    namespace: String,
    name: String,
    id: Option<String>,
    ready: Option<String>,
    reason: Option<String>,
}

impl Deployed {
    fn of(object: &DynamicObject) -> Self {
        let conditions = conditions_of(object);
        let ready = conditions.into_iter().find(|condition| condition.kind == "Ready");
        let (ready, reason) = ready.map(|ready| (ready.status, ready.reason)).unzip();
        let id = text(object, "/status/deployment/id");
        Self { namespace: object.namespace().unwrap_or_default(), name: object.name_any(), id, ready, reason }
    }

    pub(super) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl View {
    /// `deployments`: those recorded on it, if they are known.
    pub(super) fn of(device: &DynamicObject, deployments: Option<Vec<&DynamicObject>>) -> Self {
        let did = text(device, "/spec/did").unwrap_or_default();
        let addresses = device.data.pointer("/spec/addresses").and_then(Value::as_array);
        let addresses = addresses.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
        let flag = |pointer: &str| device.data.pointer(pointer).and_then(Value::as_bool);
        let conditions = conditions_of(device);
        let ready = conditions.iter().find(|condition| condition.kind == "Ready");
        let grant = device.data.pointer("/spec/grant").and_then(Value::as_str);
        let grant = match grant.map(|grant| Token::parse(grant.trim().as_bytes())) {
            None => Grant::None,
            Some(Ok(token)) => Grant::Until(token.not_after()),
            Some(Err(refusal)) => Grant::Unreadable(refusal.to_string()),
        };
        Self {
            name: device.name_any(),
            namespace: device.namespace().unwrap_or_default(),
            peer_id: Did::parse(&did).ok().map(|did| did.peer_id()),
            did,
            addresses,
            unschedulable: flag("/spec/unschedulable").unwrap_or_default(),
            ready: ready.map(|ready| ready.status.clone()),
            reason: ready.map(|ready| ready.reason.clone()),
            message: ready.map(|ready| ready.message.clone()),
            reachability: text(device, "/status/reachability"),
            onboarded: flag("/status/onboarded"),
            reply_spelling: text(device, "/status/replySpelling"),
            grant_expires: match &grant {
                Grant::Until(until) => Some(seconds(*until)),
                Grant::None | Grant::Unreadable(_) => text(device, "/status/grantExpires"),
            },
            grant,
            sentinel: text(device, "/status/sentinel/id"),
            conditions,
            deployments: deployments.map(|deployments| deployments.into_iter().map(Deployed::of).collect()),
        }
    }

    fn standing(&self) -> Shade {
        match self.ready.as_deref() {
            Some("True") if self.unschedulable => Shade::Doubtful,
            Some("True") => Shade::Good,
            Some("False") => Shade::Bad,
            _ => Shade::Doubtful,
        }
    }

    fn state(&self) -> String {
        let ready = match self.ready.as_deref() {
            Some("True") => "Ready",
            Some("False") => "NotReady",
            _ => "Unknown",
        };
        if self.unschedulable { format!("{ready},Unschedulable") } else { ready.to_owned() }
    }

    fn grant_until(&self, now: Nanos) -> (String, Shade) {
        match (&self.grant, &self.grant_expires) {
            (Grant::Until(until), _) if *until < now => (format!("{} (over)", seconds(*until)), Shade::Bad),
            (Grant::Until(until), _) => (seconds(*until), Shade::Plain),
            (Grant::Unreadable(_), _) => ("unreadable".to_owned(), Shade::Bad),
            (Grant::None, Some(until)) => (until.clone(), Shade::Plain),
            (Grant::None, None) => ("-".to_owned(), Shade::Plain),
        }
    }
}

fn text(object: &DynamicObject, pointer: &str) -> Option<String> {
    object.data.pointer(pointer).and_then(Value::as_str).map(one_line)
}

/// A status may quote what a device said, and that goes to a terminal.
fn one_line(text: &str) -> String {
    printable(&text.replace('\n', " "))
}

fn conditions_of(object: &DynamicObject) -> Vec<Condition> {
    let conditions = object.data.pointer("/status/conditions").and_then(Value::as_array);
    let member = |condition: &Value, name: &str| one_line(condition[name].as_str().unwrap_or_default());
    let read = |condition: &Value| Condition {
        kind: member(condition, "type"),
        status: member(condition, "status"),
        reason: member(condition, "reason"),
        message: member(condition, "message"),
        last_transition_time: member(condition, "lastTransitionTime"),
    };
    conditions.into_iter().flatten().map(read).collect()
}

fn seconds(at: Nanos) -> String {
    let at: Timestamp = at.to_timestamp();
    at.strftime("%FT%TZ").to_string()
}

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shade {
    Plain,
    Good,
    Doubtful,
    Bad,
}

/// Whether colours are shown.
#[derive(Clone, Copy, Debug)]
pub(super) struct Colours(pub(super) bool);

impl Colours {
    /// On a terminal, unless its user wants none.
    pub(super) fn of_environment() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && std::io::stdout().is_terminal())
    }

    fn paint(self, text: &str, shade: Shade) -> String {
        let code = match shade {
            Shade::Plain => return text.to_owned(),
            Shade::Good => "32",
            Shade::Doubtful => "33",
            Shade::Bad => "31",
        };
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

const HEADINGS: [&str; 8] =
    ["NAME", "STATE", "REASON", "REACHABLE", "ONBOARDED", "REPLIES", "GRANT UNTIL", "DEPLOYMENTS"];

/// One line for each device, below headings.
pub(super) fn table(views: &[View], now: Nanos, colours: Colours) -> String {
    let mut rows = vec![HEADINGS.map(|heading| (heading.to_owned(), Shade::Plain))];
    rows.extend(views.iter().map(|view| row(view, now)));
    let width = |column: usize| rows.iter().map(|row| row[column].0.chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|((text, shade), width)| {
                let pad = " ".repeat(width - text.chars().count());
                colours.paint(text, *shade) + &pad
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn row(view: &View, now: Nanos) -> [(String, Shade); HEADINGS.len()] {
    let plain = |text: Option<&str>| (text.unwrap_or("-").to_owned(), Shade::Plain);
    let count = view.deployments.as_ref().map(|deployments| deployments.len().to_string());
    let onboarded = match view.onboarded {
        Some(false) => ("no".to_owned(), Shade::Bad),
        known => plain(known.map(yes_or_no)),
    };
    [
        plain(Some(&view.name)),
        (view.state(), view.standing()),
        plain(view.reason.as_deref()),
        plain(view.reachability.as_deref()),
        onboarded,
        plain(view.reply_spelling.as_deref()),
        view.grant_until(now),
        (count.unwrap_or_else(|| "?".to_owned()), Shade::Plain),
    ]
}

const fn yes_or_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// Everything about one device, for people.
pub(super) fn description(view: &View, now: Nanos, colours: Colours) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{:<15}{value}", format!("{name}:"));
    };
    let known = |value: &Option<String>| value.clone().unwrap_or_else(|| "not known".to_owned());
    let (until, shade) = view.grant_until(now);
    line("Name", &view.name);
    line("Namespace", &view.namespace);
    line("DID", &view.did);
    line("Peer ID", &known(&view.peer_id));
    line("Addresses", &view.addresses.join(", "));
    line("State", &colours.paint(&view.state(), view.standing()));
    line("Reachability", &known(&view.reachability));
    line("Onboarded", view.onboarded.map_or("not known", yes_or_no));
    line("Replies", &known(&view.reply_spelling));
    match &view.grant {
        Grant::None => line("Grant", "none: the provider must be a root of the device"),
        Grant::Unreadable(cause) => line("Grant", &colours.paint(&format!("cannot be read: {cause}"), shade)),
        Grant::Until(_) => line("Grant", &format!("until {}", colours.paint(&until, shade))),
    }
    line("Sentinel", &known(&view.sentinel));
    out.push_str("Conditions:\n");
    for Condition { kind, status, reason, message, last_transition_time } in &view.conditions {
        let _ = writeln!(out, "  {kind}={status}  {reason}  since {last_transition_time}\n    {message}");
    }
    match &view.deployments {
        None => out.push_str("Deployments:   not known: those of all namespaces cannot be listed\n"),
        Some(deployments) if deployments.is_empty() => out.push_str("Deployments:   none\n"),
        Some(deployments) => {
            out.push_str("Deployments:\n");
            for deployed in deployments {
                let Deployed { namespace: _, name: _, id, ready, reason } = deployed;
                let unknown = "not known".to_owned();
                let (ready, reason) = (ready.as_ref().unwrap_or(&unknown), reason.as_deref().unwrap_or_default());
                let id = id.as_deref().unwrap_or("no id yet");
                let _ = writeln!(out, "  {}  Ready={ready}  {reason}  {id}", deployed.full_name());
            }
        }
    }
    out
}
