//! What every connector must hold to, checked by playing replies through it. One test runs this over all kinds.

use std::sync::Arc;

use model::EmailAddress;
use model::profile::Profile;
use model::settings::ConnectorSettings;
use serde_json::{Map, Value};

use crate::audience::{AudienceKind, Audiences, Changed, Opened, Verb};
use crate::exchange::{Call, Exchange, Failure, Reply, Request, SmtpPhase, Step, mapped};
use crate::golden::{STEPS_MAX, sample_change, sample_item, sample_people};
use crate::http::HttpReply;
use crate::kind::{Connector, Idempotency, Kind};
use crate::outcome::{Bounce, Outcome};
use crate::record::{Described, Looked, Object, RecordKind, Records, Row, Write, Wrote};
use crate::said::{SAID_CHARS_MAX, Said};

/// Replies played in a row: to messages, which may be asked about in several ways; and to the rest, which is asked in fewer words.
const REPLIES_MAX: usize = 4;
const REPLIES_MAX_OF_OTHERS: usize = 3;
/// The longest text an outcome may carry: what a provider said, and a few words of ours.
const TEXT_CHARS_MAX: usize = SAID_CHARS_MAX + 200;

/// Checks a kind; gives what is wrong with it, in sentences.
///
/// The name is a lower-case noun. The example in the kind is accepted and is an object of the schema; unknown keys are
/// refused, and named. Every sequence of replies ends in one outcome within [`STEPS_MAX`] steps, whatever the texts. Nothing
/// is accepted that was not, nothing is tried again by itself that may have arrived unless the class allows it, and only a
/// refusal for good can be a bounce. `Debug` and outcomes show neither secrets nor addresses. Equal items make equal requests.
pub fn conformance(kind: &Kind) -> Vec<String> {
    let mut wrong = Vec::new();
    if !model::name::is_name(kind.name) {
        wrong.push(format!("`{}` is not a lower-case noun", kind.name));
    }
    let example = match serde_json::from_str::<Map<String, Value>>(kind.example) {
        Ok(example) => example,
        Err(error) => return vec![format!("the example is not a JSON object: {error}")],
    };
    let connector = match (kind.build)(&ConnectorSettings(example.clone())) {
        Ok(connector) => connector,
        Err(mistakes) => return vec![format!("the example is refused: {mistakes:?}")],
    };
    settings_are_checked(kind, &example, &mut wrong);
    if connector.connections() == 0 {
        wrong.push("it allows no connection at all".to_owned());
    }
    let shown = Shown::of(kind, &example);
    shown.check(&format!("{connector:?}"), "the connector's Debug", &mut wrong);
    let mut talks: Vec<Talk<'_>> = Vec::new();
    if kind.messages.is_some() {
        talks.push(Talk {
            name: "a message",
            is_message: true,
            may_arm: true,
            begin: Box::new(|| message(connector.as_ref())),
        });
    }
    match (kind.audiences, connector.audiences()) {
        (Some(declared), Some(audiences)) => {
            audiences_are_sound(&declared, audiences, &shown, &mut wrong);
            talks.extend(audience_talks(audiences));
        }
        (None, None) => {}
        _ => wrong.push("whether it has audiences is said in two ways".to_owned()),
    }
    match (kind.records, connector.records()) {
        (Some(declared), Some(records)) => {
            if declared.rows_max == 0 {
                wrong.push("its records take nothing".to_owned());
            }
            talks.extend(record_talks(declared, records));
        }
        (None, None) => {}
        _ => wrong.push("whether it has records is said in two ways".to_owned()),
    }
    if talks.is_empty() {
        wrong.push("it can do nothing".to_owned());
    }
    for talk in &talks {
        if first_call(talk) != first_call(talk) {
            wrong.push(format!("{}: equal items make different requests", talk.name));
        }
    }
    let mut sequences = vec![vec![]];
    for many in 1..=REPLIES_MAX {
        sequences = sequences
            .iter()
            .flat_map(|start| {
                few_replies().into_iter().map(move |reply| [start.clone(), vec![reply]].concat())
            })
            .collect();
        for sequence in &sequences {
            for talk in talks.iter().filter(|talk| talk.is_message || many <= REPLIES_MAX_OF_OTHERS) {
                play(kind, talk, sequence, &shown, &mut wrong);
            }
        }
    }
    for reply in many_replies() {
        // What is not about a message speaks HTTP or writes files: one answer of a mail server is like another there, and some are played above.
        let is_mail = matches!(reply, Reply::Smtp { .. });
        for talk in talks.iter().filter(|talk| talk.is_message || !is_mail) {
            play(kind, talk, std::slice::from_ref(&reply), &shown, &mut wrong);
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

fn settings_are_checked(kind: &Kind, example: &Map<String, Value>, wrong: &mut Vec<String>) {
    let schema = (kind.schema)();
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        wrong.push("its schema takes unknown keys".to_owned());
    }
    let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
    for (key, property) in &properties {
        if property.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
            wrong.push(format!("setting `{key}` has no description"));
        }
        if !example.contains_key(key) {
            wrong.push(format!("setting `{key}` is not in the example"));
        }
        let mut broken = example.clone();
        broken.insert(key.clone(), serde_json::json!({ "canary": "value-that-must-not-be-repeated" }));
        match (kind.build)(&ConnectorSettings(broken)) {
            Ok(_) => wrong.push(format!("setting `{key}` takes anything")),
            Err(mistakes) if !mistakes.iter().any(|mistake| mistake.key == *key) => {
                wrong.push(format!("a wrong `{key}` is not named: {mistakes:?}"));
            }
            Err(mistakes) if format!("{mistakes:?}").contains("must-not-be-repeated") => {
                wrong.push(format!("a wrong `{key}` is repeated in the message"));
            }
            Err(_) => {}
        }
    }
    let mut unknown = example.clone();
    unknown.insert("no_such_setting".to_owned(), Value::Bool(true));
    match (kind.build)(&ConnectorSettings(unknown)) {
        Err(mistakes) if mistakes.iter().any(|mistake| mistake.key == "no_such_setting") => {}
        _ => wrong.push("an unknown setting is not refused by its name".to_owned()),
    }
}

/// What must not be shown: the values of settings that are only written, and the addresses of the message.
struct Shown {
    hidden: Vec<(String, &'static str)>,
}

impl Shown {
    fn of(kind: &Kind, example: &Map<String, Value>) -> Self {
        let schema = (kind.schema)();
        let is_secret = |key: &str| schema["properties"][key]["writeOnly"] == Value::Bool(true);
        let mut hidden: Vec<(String, &'static str)> = example
            .iter()
            .filter(|(key, _)| is_secret(key))
            .filter_map(|(_, value)| Some((value.as_str()?.to_owned(), "a secret")))
            .collect();
        let item = sample_item();
        let address = |address: &EmailAddress| (address.as_string(), "an address");
        hidden.extend([address(&item.mail_from), address(&item.rcpt_to)]);
        let emails = sample_people().into_iter().filter_map(|person| person.email()?.ok());
        hidden.extend(
            emails.flat_map(|email| [(email.as_string(), "an address"), (email.normalised(), "an address")]),
        );
        Self { hidden }
    }

    fn check(&self, text: &str, place: &str, wrong: &mut Vec<String>) {
        for (hidden, what) in &self.hidden {
            if text.contains(hidden) {
                wrong.push(format!("{place} shows {what}"));
            }
        }
    }
}

/// A conversation that is played: it ends with outcomes, each of which must follow from what was told.
struct Talk<'a> {
    name: &'static str,
    is_message: bool,
    may_arm: bool,
    begin: Begin<'a>,
}

/// Begins it anew.
type Begin<'a> = Box<dyn Fn() -> Box<dyn Exchange<Vec<Outcome>>> + 'a>;

fn message(connector: &dyn Connector) -> Box<dyn Exchange<Vec<Outcome>>> {
    mapped(connector.exchange(&sample_item()), |outcome| vec![outcome])
}

fn audience_talks(audiences: &dyn Audiences) -> Vec<Talk<'_>> {
    let accepted = |receipt: String| Outcome::Accepted { receipt };
    let open = move || -> Box<dyn Exchange<Vec<Outcome>>> {
        let judged = move |opened| match opened {
            Opened::Found { id } => vec![accepted(id)],
            Opened::Not(outcome) => vec![outcome],
        };
        mapped(audiences.open("drumbeat-mvzgc43vom", sample_item().at), judged)
    };
    let change = move |verb: Verb| {
        // Made once: it is played some ten thousand times.
        let change = sample_change(audiences, verb, "900");
        let members = change.members.len();
        move || -> Box<dyn Exchange<Vec<Outcome>>> {
            let judged = move |changed| match changed {
                Changed::All(outcome) => vec![outcome],
                Changed::AllBut { receipt, .. } => vec![accepted(receipt)],
                // Too few or too many are found by there being none.
                Changed::Each(outcomes) if outcomes.len() != members => vec![],
                Changed::Each(outcomes) => outcomes,
            };
            mapped(audiences.change(&change), judged)
        }
    };
    vec![
        Talk { name: "finding an audience", is_message: false, may_arm: false, begin: Box::new(open) },
        Talk {
            name: "adding to an audience",
            is_message: false,
            may_arm: true,
            begin: Box::new(change(Verb::Add)),
        },
        Talk {
            name: "removing from an audience",
            is_message: false,
            may_arm: true,
            begin: Box::new(change(Verb::Remove)),
        },
    ]
}

/// A contact and what is to stand in it, in two rows, or in one where it takes no more.
fn record_talks(declared: RecordKind, records: &dyn Records) -> Vec<Talk<'_>> {
    let at = sample_item().at;
    let object =
        Object { name: "contact".to_owned(), key: "email".to_owned(), fields: vec!["plan".to_owned()] };
    let keys: Vec<String> = sample_people()
        .into_iter()
        .filter_map(|person| person.email()?.ok().map(|email| email.normalised()))
        .take(declared.rows_max)
        .collect();
    let talk = |name, may_arm, begin| Talk { name, is_message: false, may_arm, begin };
    let yes = || vec![Outcome::Accepted { receipt: String::new() }];
    let asked = object.clone();
    let describe = move || -> Box<dyn Exchange<Vec<Outcome>>> {
        mapped(records.describe(&asked, at), move |described| match described {
            Described::Object { .. } => yes(),
            Described::Not(outcome) => vec![outcome],
        })
    };
    let mut talks = vec![talk("describing an object", false, Box::new(describe) as Begin<'_>)];
    for is_unique in [true, false] {
        let (object, keys) = (object.clone(), keys.clone());
        let (asked, wanted) = (object.clone(), keys.clone());
        let read = move || -> Box<dyn Exchange<Vec<Outcome>>> {
            let count = wanted.len();
            mapped(records.read(&asked, is_unique, &wanted, at), move |looked| match looked {
                Looked::Found(found) if found.len() != count => vec![],
                Looked::Found(_) => yes(),
                Looked::Not(outcome) => vec![outcome],
            })
        };
        if declared.reads {
            talks.push(talk("reading records", false, Box::new(read)));
        }
        for id in [None, Some("501".to_owned())] {
            let row = |(place, key): (usize, &String)| Row {
                key: key.clone(),
                id: id.clone(),
                fields: [("plan".to_owned(), Value::from("team")), ("note".to_owned(), Value::Null)].into(),
                trace: format!("00f1e2d3c4b5a69{place:x}"),
            };
            let rows: Vec<Row> = keys.iter().enumerate().map(row).collect();
            let (count, key) = (rows.len(), "00f1e2d3c4b5a697".to_owned());
            let write = Write { object: object.clone(), is_unique, rows: Arc::from(rows), key, at };
            let begin = move || -> Box<dyn Exchange<Vec<Outcome>>> {
                mapped(records.write(&write), move |wrote| match wrote {
                    Wrote::All(outcome) => vec![outcome],
                    Wrote::Each(all) if all.len() != count => vec![],
                    Wrote::Each(all) => all.into_iter().map(|one| one.outcome).collect(),
                })
            };
            talks.push(talk("writing records", true, Box::new(begin)));
        }
    }
    talks
}

/// What it says of its members holds.
fn audiences_are_sound(
    declared: &AudienceKind,
    audiences: &dyn Audiences,
    shown: &Shown,
    wrong: &mut Vec<String>,
) {
    if declared.members_max == 0 || declared.bytes_max == 0 || declared.identifiers.is_empty() {
        wrong.push("its audiences take nobody".to_owned());
    }
    for person in sample_people() {
        match (audiences.member(&person), audiences.member(&person)) {
            (Some(one), Some(other)) if one == other => {
                shown.check(&format!("{one:?}"), "a member's Debug", wrong);
                let is_clear = declared.identifiers.iter().all(|identifier| identifier.is_hashed)
                    && one.as_str().to_lowercase().contains("@example.test");
                if is_clear {
                    wrong.push("a member is in the clear, and is said to be hashed".to_owned());
                }
            }
            _ => wrong.push("a person with a mail address is nobody, or somebody else each time".to_owned()),
        }
        let nobody = Profile { attributes: std::collections::BTreeMap::new(), id: String::new(), ..person };
        if audiences.member(&nobody).is_some() {
            wrong.push("somebody without any identifier is a member".to_owned());
        }
    }
}

/// The call before the first reply.
fn first_call(talk: &Talk<'_>) -> Option<Call> {
    match (talk.begin)().next(None) {
        Step::Call(call) => Some(call),
        Step::Done(_) => None,
    }
}

/// Plays replies, the last of them again and again if the conversation goes on.
fn play(kind: &Kind, talk: &Talk<'_>, replies: &[Reply], shown: &Shown, wrong: &mut Vec<String>) {
    let mut exchange = (talk.begin)();
    let mut replies_left = replies.iter();
    let (mut last, mut armed, mut armings): (Option<&Reply>, bool, usize) = (None, false, 0);
    let mut is_http = false;
    let name = talk.name;
    for _ in 0..STEPS_MAX {
        match exchange.next(last.cloned()) {
            Step::Call(call) => {
                shown.check(&format!("{call:?}"), "a call's Debug", wrong);
                armings += usize::from(call.arms);
                armed = call.arms;
                is_http = matches!(call.request, Request::Http(_));
                last = replies_left.next().or(last);
            }
            Step::Done(outcomes) => {
                if armings > usize::from(talk.may_arm) {
                    wrong.push(format!("{name} arms {armings} times"));
                }
                if outcomes.is_empty() {
                    wrong.push(format!("{name} does not end with an outcome for each"));
                }
                for outcome in outcomes {
                    shown.check(&format!("{outcome:?}"), "an outcome", wrong);
                    if let Some(reply) = last {
                        judge(kind, armed, is_http, reply, &outcome, wrong);
                    }
                }
                return;
            }
        }
    }
    wrong.push(format!("{name}: no end within {STEPS_MAX} steps after {replies:?}"));
}

/// Whether an outcome may follow from the last reply.
fn judge(kind: &Kind, armed: bool, is_http: bool, reply: &Reply, outcome: &Outcome, wrong: &mut Vec<String>) {
    let mut says = |what: &str| wrong.push(format!("{what}: {reply:?} became {outcome:?}"));
    if text_of(outcome).chars().count() > TEXT_CHARS_MAX {
        says("the text of an outcome is not bounded");
    }
    let taken = match reply {
        Reply::Wrote | Reply::Smtp { at: SmtpPhase::Body, code: 200..300, .. } => true,
        // 409 may say that it was taken before, where the provider knows a key again.
        Reply::Http(reply) => {
            (200..300).contains(&reply.status)
                || (reply.status == 409 && kind.idempotency == Idempotency::Key)
        }
        Reply::Smtp { .. } | Reply::NotArmed | Reply::Failed { .. } => false,
    };
    if matches!(outcome, Outcome::Accepted { .. }) && !taken {
        says("accepted what was not");
    }
    if matches!(outcome, Outcome::NotArmed) != matches!(reply, Reply::NotArmed) {
        says("the last look is not reported as it was");
    }
    let lost = match reply {
        Reply::Failed { handed_over, .. } => *handed_over,
        // What a server of theirs broke down over may have been taken before.
        Reply::Http(reply) => is_http && matches!(reply.status, 500 | 502 | 504),
        Reply::Smtp { .. } | Reply::Wrote | Reply::NotArmed => false,
    };
    let sent_again =
        matches!(outcome, Outcome::Retry { .. } | Outcome::Rejected { .. } | Outcome::Halt { .. });
    if armed && lost && sent_again && !kind.idempotency.may_repeat() {
        says("a lost answer is taken for a refusal");
    }
    if matches!(reply, Reply::Failed { handed_over: false, .. }) && matches!(outcome, Outcome::InDoubt { .. })
    {
        says("in doubt, though nothing was handed over");
    }
    if let Reply::Http(reply) = reply
        && is_http
    {
        if reply.status == 401 && !matches!(outcome, Outcome::Halt { .. }) {
            says("our credentials are refused, and the destination is not held");
        }
        let waits =
            matches!(outcome, Outcome::Retry { after, slower: true, .. } if *after == reply.retry_after());
        if reply.status == 429 && !waits {
            says("told to be slower, and for how long, it is not");
        }
    }
    if let Outcome::Rejected { bounce: Some(bounce), .. } = outcome {
        let for_good = match reply {
            Reply::Smtp { code, .. } => (500..600).contains(code),
            Reply::Http(reply) => (400..500).contains(&reply.status),
            Reply::Wrote | Reply::NotArmed | Reply::Failed { .. } => false,
        };
        let policy = matches!(reply, Reply::Smtp { enhanced: Some((_, 7, _)), .. });
        if !for_good || policy && *bounce == Bounce::Hard {
            says("the person is blamed");
        }
    }
}

fn text_of(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Accepted { receipt } => receipt,
        Outcome::Rejected { detail, .. }
        | Outcome::Retry { detail, .. }
        | Outcome::InDoubt { detail }
        | Outcome::Halt { detail, .. } => detail,
        Outcome::NotArmed => "",
    }
}

/// One of each sort, to be played in all orders.
fn few_replies() -> Vec<Reply> {
    let said = || Said::of("5.1.1 <ana@example.test> unknown");
    let failed = |handed_over, kind| Reply::Failed { handed_over, kind, text: said() };
    vec![
        Reply::smtp(SmtpPhase::Body, 250, Said::of("2.0.0 queued")),
        Reply::smtp(SmtpPhase::Rcpt, 550, said()),
        Reply::smtp(SmtpPhase::Mail, 451, Said::of("4.7.1 greylisted")),
        Reply::smtp(SmtpPhase::Auth, 535, Said::of("5.7.8 no")),
        Reply::Wrote,
        http(200, r#"{"id": "x", "MessageID": "x", "MessageId": "x", "ErrorCode": 0, "access_token": "x"}"#),
        http(500, ""),
        Reply::NotArmed,
        failed(false, Failure::Timeout),
        failed(true, Failure::Closed),
    ]
}

/// What an HTTP server says, with a time to wait.
fn http(status: u16, body: &str) -> Reply {
    let headers = vec![("retry-after".to_owned(), "7".to_owned())];
    Reply::Http(HttpReply { status, headers, body: Arc::from(body.as_bytes()), is_cut: false })
}

/// Every phase with every code and a choice of texts, and every failure.
fn many_replies() -> Vec<Reply> {
    let mut replies = vec![Reply::Wrote, Reply::NotArmed];
    let bodies = [
        "",
        "{",
        "[]",
        "null",
        r#"{"message": "ana@example.test is no address", "errors": [{"message": "ana@example.test", "field": 7}], "ErrorCode": "x", "id": {}}"#,
        r#"{"ErrorCode": 406, "Message": "inactive: ana@example.test"}"#,
    ];
    for status in (100..600).chain([0, 999, u16::MAX]) {
        replies.extend(bodies.iter().map(|body| http(status, body)));
    }
    replies.push(http(200, &"[".repeat(60_000)));
    let huge = "5.7.1 <ana@example.test> \u{0}\u{7f}\u{202e} ".repeat(50_000);
    let texts = [
        "",
        "5.1.1 <ana@example.test> unknown",
        "4.2.2 full",
        "5.7.26 return@acme.test",
        "99.99.99",
        "\u{ff20}\r\n.\r\n",
    ];
    for (_, at) in SmtpPhase::ALL {
        for code in (0..=999).chain([u16::MAX]) {
            replies.extend(texts.iter().map(|text| Reply::smtp(*at, code, Said::of(text))));
        }
        replies.push(Reply::smtp(*at, 550, Said::of(&huge)));
    }
    for (_, kind) in Failure::ALL {
        for handed_over in [false, true] {
            replies.push(Reply::Failed { handed_over, kind: *kind, text: Said::of(&huge) });
        }
    }
    replies
}
