//! Whole conversations as text, to be read by people and replayed by a test.
//!
//! ```text
//! # The mailbox is not there.
//! $ {"host": "mail.example.test"}
//! > smtp mail.example.test:587 starttls
//! > from <return@acme.test> to <ana@example.test>, 163 bytes, arms
//! < rcpt 550 5.1.1 No such user
//! = rejected fail.smtp_5xx_recipient hard: RCPT TO: 550 5.1.1 No such user
//! ```
//! `$` are the settings, `>` what the connector asks, `<` what it is told, `=` what it makes of it. Conversations are
//! separated by empty lines; each carries [`sample_item`]. One about an audience says so after its settings: `! open NAME`, or `! add ID` and
//! `! remove ID`, of the two [`sample_people`]. One about records says so in JSON ([`AboutRecords`]):
//! ```text
//! ! records {"object": "companies", "key": "domain", "fields": ["health"], "do": "read", "keys": ["example.test"]}
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use model::mail::{Content, Party};
use model::profile::Profile;
use model::settings::ConnectorSettings;
use model::{DeliveryId, EmailAddress, PlaybookName, ProfileNumber, StepId, TemplateName, Value};
use serde::Deserialize;
use serde_json::json;

use crate::audience::{Audiences, Change, Changed, Member, Opened, Verb};
use crate::exchange::{Call, Exchange, Failure, FilePut, Reply, Request, SmtpPhase, Step, Tls, mapped};
use crate::http::{HEADERS_KEPT, HeaderText, HttpReply, HttpRequest};
use crate::item::Item;
use crate::kind::{Connector, Kind};
use crate::outcome::{Bounce, Outcome, Schedule};
use crate::record::{Described, Looked, Object, Records, Row, Write, Wrote};
use crate::said::Said;

/// A conversation that goes on for longer is broken.
pub const STEPS_MAX: usize = 16;

/// The message of every golden conversation.
///
/// # Panics
/// Never: its addresses are addresses.
pub fn sample_item() -> Item {
    let address = |text: &str| EmailAddress::parse(text).expect("a constant that is an address");
    let body = "From: Acme <hello@acme.test>\r\nTo: <ana@example.test>\r\nSubject: We miss you\r\n\
                Message-ID: <mvzgc43vom2tqmrtha3dkmjsgq2tmnzy@acme.test>\r\n\r\nHello Ana,\r\n.. come back.\r\n";
    Item {
        delivery: DeliveryId::known("mvzgc43vom2tqmrtha3dkmjsgq2tmnzy"),
        attempt: 1,
        profile: ProfileNumber(7),
        playbook: PlaybookName::known("win_back"),
        step: StepId::known("nudge"),
        template: TemplateName::known("we_miss_you"),
        at: "2026-03-02T09:00:00Z".parse().expect("a constant that is a time"),
        content: Content {
            from: Party { name: "Acme".to_owned(), address: address("hello@acme.test") },
            reply_to: Some(Party { name: String::new(), address: address("help@acme.test") }),
            to: Party { name: "Ana".to_owned(), address: address("ana@example.test") },
            subject: "We miss you".to_owned(),
            html: Some(Arc::from("<p>Hello Ana,</p>\n<p>come back.</p>")),
            text: Arc::from("Hello Ana,\ncome back."),
            headers: vec![
                ("List-Unsubscribe".to_owned(), "<https://mail.acme.test/u/u1.x>".to_owned()),
                ("List-Unsubscribe-Post".to_owned(), "List-Unsubscribe=One-Click".to_owned()),
            ],
        },
        mail_from: address("return@acme.test"),
        rcpt_to: address("ana@example.test"),
        bytes: Arc::from(body.as_bytes()),
    }
}

/// The people of every golden conversation about an audience.
pub fn sample_people() -> [Profile; 2] {
    let person = |number: u32, columns: &[(&str, &str)]| Profile {
        number: ProfileNumber(number),
        id: format!("c-{number}"),
        attributes: columns
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Value::Text((*text).to_owned())))
            .collect(),
        account: Arc::default(),
    };
    [
        person(
            7,
            &[
                ("email", " Ana.Maria+offers@Example.test"),
                ("phone", "+49 30 901820"),
                ("first_name", "Ana"),
                ("last_name", "O'Brien"),
                ("city", "San Francisco"),
                ("state", "CA"),
                ("postal_code", "94107-1234"),
                ("country", "US"),
            ],
        ),
        person(8, &[("email", "bo@example.test")]),
    ]
}

/// A change of an audience by the people whom the connector can name.
pub fn sample_change(audiences: &dyn Audiences, verb: Verb, audience: &str) -> Change {
    let members: Vec<Member> = sample_people().iter().filter_map(|person| audiences.member(person)).collect();
    Change {
        audience: audience.to_owned(),
        verb,
        members: Arc::from(members),
        key: "00f1e2d3c4b5a697".to_owned(),
        at: sample_item().at,
    }
}

/// Replays every conversation of a file. The error says, for the first that differs, what was written and what happened.
pub fn replay(kind: &Kind, text: &str) -> Result<usize, String> {
    let mut count = 0;
    for conversation in
        text.split("\n\n").map(str::trim).filter(|text| text.lines().any(|line| !line.starts_with('#')))
    {
        let happened = play(kind, conversation)?.lines;
        let written: Vec<&str> = conversation.lines().filter(|line| !line.starts_with('#')).collect();
        if happened != written {
            return Err(format!("written:\n{}\n\nhappened:\n{}", written.join("\n"), happened.join("\n")));
        }
        count += 1;
    }
    Ok(count)
}

/// A file as it would be with what happens now: what a person reads, and then keeps. Comments stay.
pub fn rewritten(kind: &Kind, text: &str) -> Result<String, String> {
    let mut conversations = Vec::new();
    for conversation in text.split("\n\n").map(str::trim).filter(|text| !text.is_empty()) {
        let mut lines: Vec<String> =
            conversation.lines().filter(|line| line.starts_with('#')).map(str::to_owned).collect();
        if conversation.lines().any(|line| !line.starts_with('#')) {
            lines.extend(play(kind, conversation)?.lines);
        }
        conversations.push(lines.join("\n"));
    }
    Ok(conversations.join("\n\n") + "\n")
}

/// What a connector asks over HTTP in a file's conversations, as it is sent, secrets and all, and what it would ask to learn what became of
/// the message; each once. For verifiers that were not written here.
pub fn requests(kind: &Kind, text: &str) -> Result<Vec<HttpRequest>, String> {
    let mut all: Vec<HttpRequest> = Vec::new();
    for conversation in text.split("\n\n").filter(|text| text.lines().any(|line| line.starts_with("$ "))) {
        let looks_up = built(kind, conversation)?.1.look_up(&sample_item().echo());
        let question = looks_up.and_then(|mut exchange| match exchange.next(None) {
            Step::Call(Call { request: Request::Http(request), .. }) => Some(request),
            _ => None,
        });
        for request in play(kind, conversation)?.requests.into_iter().chain(question) {
            if !all.contains(&request) {
                all.push(request);
            }
        }
    }
    Ok(all)
}

/// What a golden conversation asks of records.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AboutRecords {
    object: String,
    key: String,
    #[serde(default)]
    fields: Vec<String>,
    /// `describe`, `read` with `keys`, or `write` with `rows`.
    #[serde(rename = "do")]
    verb: String,
    /// Whether no two records have the same key.
    #[serde(default)]
    unique: bool,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    rows: Vec<RowWritten>,
}

/// A row as it stands in a golden conversation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowWritten {
    key: String,
    #[serde(default)]
    id: Option<String>,
    fields: BTreeMap<String, serde_json::Value>,
}

impl AboutRecords {
    fn begin(self, records: &dyn Records) -> Option<Box<dyn Exchange<Vec<String>>>> {
        let at = sample_item().at;
        let object = Object { name: self.object, key: self.key, fields: self.fields };
        Some(match self.verb.as_str() {
            "describe" => mapped(records.describe(&object, at), described_lines),
            "read" => mapped(records.read(&object, self.unique, &self.keys, at), looked_lines),
            "write" => {
                let row = |(place, row): (usize, RowWritten)| {
                    let trace = format!("00f1e2d3c4b5a69{place:x}");
                    Row { key: row.key, id: row.id, fields: row.fields, trace }
                };
                let rows: Vec<Row> = self.rows.into_iter().enumerate().map(row).collect();
                let key = "00f1e2d3c4b5a697".to_owned();
                mapped(
                    records.write(&Write { object, is_unique: self.unique, rows: Arc::from(rows), key, at }),
                    wrote_lines,
                )
            }
            _ => return None,
        })
    }
}

fn described_lines(described: Described) -> Vec<String> {
    match described {
        Described::Object { is_unique, unusable } => {
            let first = if is_unique { "there, its key is unique" } else { "there, its key may be shared" };
            let rest = unusable.into_iter().map(|(field, why)| format!("{field}: {why}"));
            std::iter::once(first.to_owned()).chain(rest).collect()
        }
        Described::Not(outcome) => vec![outcome_line(&outcome)],
    }
}

fn looked_lines(looked: Looked) -> Vec<String> {
    match looked {
        Looked::Found(all) => all
            .iter()
            .map(|records| {
                let shown = records.iter().map(|found| format!("{} {}", found.id, json!(found.fields)));
                let shown: Vec<String> = shown.collect();
                if shown.is_empty() { "none".to_owned() } else { shown.join(" and ") }
            })
            .collect(),
        Looked::Not(outcome) => vec![outcome_line(&outcome)],
    }
}

fn wrote_lines(wrote: Wrote) -> Vec<String> {
    match wrote {
        Wrote::All(outcome) => vec![format!("all {}", outcome_line(&outcome))],
        Wrote::Each(all) => all
            .iter()
            .map(|one| {
                let fields =
                    if one.fields.is_empty() { String::new() } else { format!(" {}", json!(one.fields)) };
                format!("{}{fields}", outcome_line(&one.outcome))
            })
            .collect(),
    }
}

/// A conversation's connector, and its settings as they are written.
fn built<'a>(kind: &Kind, conversation: &'a str) -> Result<(&'a str, Box<dyn Connector>), String> {
    let mut lines = conversation.lines().filter_map(|line| line.strip_prefix("$ "));
    let written = lines.next().ok_or("a conversation begins with `$ {settings}`")?;
    let settings =
        serde_json::from_str(written).map_err(|error| format!("the settings are not JSON: {error}"))?;
    let connector = (kind.build)(&ConnectorSettings(settings));
    Ok((written, connector.map_err(|mistakes| format!("the settings: {mistakes:?}"))?))
}

/// A conversation as it went.
struct Played {
    lines: Vec<String>,
    requests: Vec<HttpRequest>,
}

fn play(kind: &Kind, conversation: &str) -> Result<Played, String> {
    let lines = |mark: &'static str| conversation.lines().filter_map(move |line| line.strip_prefix(mark));
    let (settings_text, connector) = built(kind, conversation)?;
    let mut requests = Vec::new();
    let mut happened = vec![format!("$ {settings_text}")];
    let asked = lines("! ").next();
    happened.extend(asked.map(|asked| format!("! {asked}")));
    let mut exchange = begin(connector.as_ref(), asked).ok_or("not something to ask of this connector")?;
    let mut replies = lines("< ");
    let mut reply = None;
    for _ in 0..STEPS_MAX {
        match exchange.next(reply.take()) {
            Step::Call(call) => {
                if let Request::Http(request) = &call.request {
                    requests.push(request.clone());
                }
                happened.extend(call_lines(&call).into_iter().map(|line| format!("> {line}")));
                let told = replies
                    .next()
                    .ok_or_else(|| format!("no reply is written for:\n{}", happened.join("\n")))?;
                happened.push(format!("< {told}"));
                reply = Some(parse_reply(told).ok_or_else(|| format!("not a reply: {told}"))?);
            }
            Step::Done(end) => {
                happened.extend(end.into_iter().map(|line| format!("= {line}")));
                return Ok(Played { lines: happened, requests });
            }
        }
    }
    Err(format!("the conversation does not end:\n{}", happened.join("\n")))
}

fn begin(connector: &dyn Connector, asked: Option<&str>) -> Option<Box<dyn Exchange<Vec<String>>>> {
    let Some(asked) = asked else {
        let exchange = connector.exchange(&sample_item());
        return Some(mapped(exchange, |outcome| vec![outcome_line(&outcome)]));
    };
    let (word, name) = asked.split_once(' ')?;
    if word == "records" {
        return serde_json::from_str::<AboutRecords>(name).ok()?.begin(connector.records()?);
    }
    let audiences = connector.audiences()?;
    let verb = match word {
        "open" => return Some(mapped(audiences.open(name, sample_item().at), opened_lines)),
        "add" => Verb::Add,
        "remove" => Verb::Remove,
        _ => return None,
    };
    Some(mapped(audiences.change(&sample_change(audiences, verb, name)), changed_lines))
}

fn opened_lines(opened: Opened) -> Vec<String> {
    match opened {
        Opened::Found { id } => vec![format!("found {id}")],
        Opened::Not(outcome) => vec![outcome_line(&outcome)],
    }
}

fn changed_lines(changed: Changed) -> Vec<String> {
    match changed {
        Changed::All(outcome) => vec![format!("all {}", outcome_line(&outcome))],
        Changed::Each(outcomes) => outcomes.iter().map(outcome_line).collect(),
        Changed::AllBut { refused, receipt } => vec![format!("all but {refused} accepted {receipt}")],
    }
}

/// Reads `rcpt 550 5.1.1 text`, `wrote`, `not_armed`, `failed timeout text` (nothing handed over) or `lost timeout text`.
fn parse_reply(line: &str) -> Option<Reply> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let failed = |handed_over| {
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let (_, kind) = Failure::ALL.iter().find(|(known, _)| *known == name)?;
        Some(Reply::Failed { handed_over, kind: *kind, text: Said::of(text) })
    };
    match word {
        "wrote" => Some(Reply::Wrote),
        "not_armed" => Some(Reply::NotArmed),
        "http" => parse_http(rest).map(Reply::Http),
        "failed" => failed(false),
        "lost" => failed(true),
        phase => {
            let (_, at) = SmtpPhase::ALL.iter().find(|(known, _)| *known == phase)?;
            let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
            Some(Reply::smtp(*at, code.parse().ok()?, Said::of(text)))
        }
    }
}

/// Reads `200 retry-after=7 {"id": "x"}`: the status, headers, and the rest as the body.
fn parse_http(line: &str) -> Option<HttpReply> {
    let (status, mut rest) = line.split_once(' ').unwrap_or((line, ""));
    let mut headers = Vec::new();
    while let Some((name, value)) = rest.split(' ').next().and_then(|word| word.split_once('='))
        && HEADERS_KEPT.contains(&name)
    {
        headers.push((name.to_owned(), value.to_owned()));
        rest = rest.split_once(' ').map_or("", |(_, rest)| rest);
    }
    Some(HttpReply { status: status.parse().ok()?, headers, body: Arc::from(rest.as_bytes()), is_cut: false })
}

fn call_lines(call: &Call) -> Vec<String> {
    let arms = if call.arms { ", arms" } else { "" };
    match &call.request {
        Request::Smtp(request) => {
            let server = &request.server;
            let tls = match server.tls {
                Tls::None => "in the clear",
                Tls::Starttls => "starttls",
                Tls::Implicit => "implicit tls",
            };
            let name = server.credentials.as_ref().map(|(name, _)| format!(" as {name}")).unwrap_or_default();
            let hello = server.hello.as_ref().map(|hello| format!(" hello {hello}")).unwrap_or_default();
            vec![
                format!("smtp {}:{} {tls}{name}{hello}", server.host, server.port),
                format!(
                    "from <{}> to <{}>, {} bytes{arms}",
                    request.mail_from.as_string(),
                    request.rcpt_to.as_string(),
                    request.body.len()
                ),
            ]
        }
        Request::Http(request) => {
            let mut lines = vec![format!("{} {}{arms}", request.method.as_str(), request.url)];
            lines.extend(request.headers.iter().map(|(name, text)| match text {
                HeaderText::Plain(text) => format!("{name}: {text}"),
                HeaderText::Secret(_) => format!("{name}: [secret]"),
            }));
            let body = String::from_utf8_lossy(&request.body).replace("\r\n", "\\r\\n").replace('\n', "\\n");
            lines.extend((!body.is_empty()).then_some(body));
            lines
        }
        Request::File(request) => {
            let mut lines = vec![format!("folder {}{arms}", request.folder.display())];
            lines.extend(request.puts.iter().map(|put| match put {
                FilePut::Whole { name, bytes } => format!("write {name}, {} bytes", bytes.len()),
                FilePut::Line { name, line, unless_begins: None } => format!("append {name} {line}"),
                FilePut::Line { name, line, unless_begins: Some(start) } => {
                    format!("append {name} unless there is {start} {line}")
                }
            }));
            lines
        }
    }
}

fn outcome_line(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Accepted { receipt } => format!("accepted {receipt}"),
        Outcome::Rejected { reason, bounce, detail } => {
            let bounce = match bounce {
                Some(Bounce::Hard) => " hard",
                Some(Bounce::Soft) => " soft",
                None => "",
            };
            format!("rejected {}{bounce}: {detail}", reason.as_str())
        }
        Outcome::Retry { reason, after, schedule, slower, detail } => {
            let schedule = match schedule {
                Schedule::Smtp4xx => "smtp_4xx",
                Schedule::Connect => "connect",
            };
            let after = after.map(|after| format!(" after {}s", after.as_secs())).unwrap_or_default();
            let slower = if *slower { " slower" } else { "" };
            format!("retry {} {schedule}{after}{slower}: {detail}", reason.as_str())
        }
        Outcome::InDoubt { detail } => format!("in_doubt: {detail}"),
        Outcome::NotArmed => "not_armed".to_owned(),
        Outcome::Halt { reason, detail } => format!("halt {}: {detail}", reason.as_str()),
    }
}
