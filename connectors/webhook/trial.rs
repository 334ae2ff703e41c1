//! What a service of one's own is tried with: events as this connector sends them and as nobody may, and which answers are right.
//!
//! Absent: sending. Whoever tries a service asks for the [`checks`], sends the [`Trial::request`] of each in their order, and shows the answer
//! to [`Check::judge`].

use std::collections::BTreeMap;
use std::sync::Arc;

use connector::golden::{sample_change, sample_item, sample_people};
use connector::http::HeaderText;
use connector::{HttpReply, HttpRequest, Object, Reply, Row, Said, SettingsMistake, Verb, Write};
use jiff::{SignedDuration, Timestamp};
use model::DeliveryId;
use model::settings::ConnectorSettings;
use serde_json::{Value, json};

use super::{Webhook, made};

/// What nobody's service knows: forged events are signed with it.
const ANOTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// How old an event is that must be refused: the standard's libraries let five minutes pass.
const OLD: SignedDuration = SignedDuration::from_mins(10);
/// The domains of the companies whose records are written.
const COMPANIES: [&str; 2] = ["acme.test", "beta.test"];

/// What a service may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Mail.
    Messages,
    /// Who comes into an audience, and who leaves it.
    Audiences,
    /// Fields of companies.
    Records,
}

impl Part {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Messages, Self::Audiences, Self::Records];

    fn event(self) -> Event {
        match self {
            Self::Messages => Event::Message,
            Self::Audiences => Event::Added,
            Self::Records => Event::Records,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Message,
    Added,
    Removed,
    Records,
}

/// What is done to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twist {
    /// Nothing.
    None,
    /// It is the second attempt.
    Again,
    /// It is signed with another secret and with the right one, as while a secret is being replaced.
    TwoSecrets,
    AnotherSecret,
    NoSignature,
    Old,
    AnotherBody,
    AnotherId,
    UnknownType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// 2xx.
    Taken,
    /// A 4xx that does not say "later".
    Refused,
    /// 2xx or 4xx.
    Answered,
}

/// One thing that a service must do.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name, which stays.
    pub name: &'static str,
    /// What must be, in a sentence.
    pub about: &'static str,
    event: Event,
    /// Those of the same number are the same event, under the same id.
    number: u8,
    twist: Twist,
    wanted: Wanted,
}

/// What is to be tried of a service that takes these parts, in this order. Whatever is forged is an event of the first of them.
pub fn checks(parts: &[Part]) -> Vec<Check> {
    use self::{Twist as T, Wanted as W};
    let check =
        |name, about, event, number, twist, wanted| Check { name, about, event, number, twist, wanted };
    let again = "the same again, under the same webhook-id, is taken again";
    let mut all = Vec::new();
    if parts.contains(&Part::Messages) {
        let event = Event::Message;
        all.extend([
            check("message_taken", "a message is taken", event, 1, T::None, W::Taken),
            check("message_again", again, event, 1, T::Again, W::Taken),
        ]);
    }
    if parts.contains(&Part::Audiences) {
        let (added, removed) = (Event::Added, Event::Removed);
        let (adding, removing) = ("two people come into an audience", "they leave it");
        all.extend([
            check("audience_added", adding, added, 2, T::None, W::Taken),
            check("audience_added_again", again, added, 2, T::Again, W::Taken),
            check("audience_removed", removing, removed, 3, T::None, W::Taken),
            check("audience_removed_again", again, removed, 3, T::Again, W::Taken),
        ]);
    }
    if parts.contains(&Part::Records) {
        let event = Event::Records;
        all.extend([
            check("records_written", "the records of two companies are written", event, 4, T::None, W::Taken),
            check("records_written_again", again, event, 4, T::Again, W::Taken),
        ]);
    }
    let event = parts.first().map_or(Event::Message, |part| part.event());
    let two = "signed with two secrets, of which the service knows the second, it is taken";
    all.extend([
        check("signature_second", two, event, 5, T::TwoSecrets, W::Taken),
        check(
            "signature_wrong",
            "signed with another secret, it is refused",
            event,
            6,
            T::AnotherSecret,
            W::Refused,
        ),
        check(
            "signature_missing",
            "without a signature, it is refused",
            event,
            7,
            T::NoSignature,
            W::Refused,
        ),
        check("timestamp_old", "signed ten minutes ago, it is refused", event, 8, T::Old, W::Refused),
        check(
            "body_changed",
            "its body changed after signing, it is refused",
            event,
            9,
            T::AnotherBody,
            W::Refused,
        ),
        check(
            "id_changed",
            "its webhook-id changed after signing, it is refused",
            event,
            10,
            T::AnotherId,
            W::Refused,
        ),
        check(
            "type_unknown",
            "of a type that nobody knows, it is taken or refused, not an error",
            event,
            11,
            T::UnknownType,
            W::Answered,
        ),
    ]);
    all
}

/// A service, as it is tried once.
#[derive(Debug)]
pub struct Trial {
    right: Webhook,
    forger: Webhook,
    both: Webhook,
    /// What its ids begin with: those of another trial are others.
    start: i64,
}

impl Trial {
    /// A trial that begins now, by the settings of a destination. No two begin in the same millisecond.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub fn new(settings: &ConnectorSettings, now: Timestamp) -> Result<Self, Vec<SettingsMistake>> {
        let with = |changes: &[(&str, &Value)]| {
            let mut settings = settings.clone();
            settings.0.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).clone())));
            made(&settings)
        };
        let (another, right) = (json!(ANOTHER_SECRET), settings.0.get("secret").cloned().unwrap_or_default());
        Ok(Self {
            right: with(&[])?,
            forger: with(&[("secret", &another)])?,
            both: with(&[("secret", &another), ("secret_before", &right)])?,
            start: now.as_millisecond(),
        })
    }

    /// What is sent for a check, at this time.
    pub fn request(&self, check: &Check, now: Timestamp) -> HttpRequest {
        let signs = match check.twist {
            Twist::AnotherSecret => &self.forger,
            Twist::TwoSecrets => &self.both,
            _ => &self.right,
        };
        let at = if check.twist == Twist::Old { now - OLD } else { now };
        let mut request = self.event(signs, check, at);
        match check.twist {
            Twist::None | Twist::Again | Twist::TwoSecrets | Twist::AnotherSecret | Twist::Old => {}
            Twist::NoSignature => request.headers.retain(|(name, _)| *name != "webhook-signature"),
            // To whom it is: what a forger would change.
            Twist::AnotherBody => {
                let body = String::from_utf8_lossy(&request.body).replacen(".test", ".example", 1);
                request.body = Arc::from(body.into_bytes());
            }
            Twist::AnotherId => {
                for (_, text) in request.headers.iter_mut().filter(|(name, _)| *name == "webhook-id") {
                    *text = HeaderText::Plain(format!("{}x", text.reveal()));
                }
            }
            Twist::UnknownType => {
                let mut body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
                body["type"] = json!("drumbeat.unknown");
                request = self.right.signed(&format!("unk_{}", self.key(check)), at, &body);
            }
        }
        request
    }

    fn event(&self, signs: &Webhook, check: &Check, at: Timestamp) -> HttpRequest {
        let change = |verb| {
            let change = sample_change(signs, verb, "drumbeat-trial");
            signs.change_request(&connector::Change { key: self.key(check), at, ..change })
        };
        match check.event {
            Event::Message => {
                let mut item = sample_item();
                item.delivery = DeliveryId::known(format!("trial{:0>27}", self.key(check)));
                item.attempt = if check.twist == Twist::Again { 2 } else { 1 };
                item.at = at;
                signs.request(&item)
            }
            Event::Added => change(Verb::Add),
            Event::Removed => change(Verb::Remove),
            Event::Records => {
                let object = Object {
                    name: "company".to_owned(),
                    key: "domain".to_owned(),
                    fields: vec!["health".to_owned()],
                };
                let rows = COMPANIES.iter().zip([json!(80), Value::Null]).map(|(domain, health)| Row {
                    key: (*domain).to_owned(),
                    id: None,
                    fields: BTreeMap::from([("health".to_owned(), health)]),
                    trace: self.key(check),
                });
                let rows = rows.collect();
                signs.write_request(&Write { object, is_unique: true, rows, key: self.key(check), at })
            }
        }
    }

    /// The same for the same event: 16 letters of hexadecimal.
    fn key(&self, check: &Check) -> String {
        format!("{:016x}", self.start * 0x100 + i64::from(check.number))
    }
}

impl Check {
    /// Whether an answer is right, and what it was.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge(&self, reply: &Reply) -> Result<String, String> {
        let reply = match reply {
            Reply::Http(reply) => reply,
            Reply::Failed { text, .. } => return Err(text.to_string()),
            _ => return Err("no answer of HTTP".to_owned()),
        };
        let saw = format!("HTTP {}", reply.status);
        let is_later = matches!(reply.status, 408 | 425 | 429);
        let why = match (self.wanted, reply.status) {
            (Wanted::Taken | Wanted::Answered, 200..300) => return Ok(saw),
            (Wanted::Refused | Wanted::Answered, 400..500) if !is_later => return Ok(saw),
            (Wanted::Refused, 200..300) => "it was taken, and must be refused with a 4xx",
            (Wanted::Taken, 400..500) if !is_later => "it was refused, and must be taken with a 2xx",
            (_, 300..400) => "a redirect is not followed",
            (_, _) if is_later => "that is: later; so it would come again and again",
            (_, 500..600) => "that is an error of the service, after which it would come again and again",
            (_, _) => "that is neither a yes nor a no",
        };
        // Its own words, of which no address stays.
        let said = Said::of(&String::from_utf8_lossy(&reply.body)).to_string();
        let said = if said.trim().is_empty() { String::new() } else { format!(" ({})", said.trim()) };
        Err(format!("{saw}: {why}{said}"))
    }

    /// How many a yes names as not taken. There are two of each, and a message is one that nothing can be named of.
    ///
    /// # Errors
    /// What is wrong with how it names them: they would count as taken.
    pub fn rejected(&self, reply: &Reply) -> Result<usize, String> {
        let word = match self.event {
            Event::Message => return Ok(0),
            Event::Added | Event::Removed => "member",
            Event::Records => "record",
        };
        let answer = match reply {
            Reply::Http(answer @ HttpReply { status: 200..300, .. }) => answer.json(),
            _ => return Ok(0),
        };
        let Some(rejected) = answer.get("rejected") else { return Ok(0) };
        let Some(all) = rejected.as_array() else {
            return Err(format!("{}: `rejected` is no list", self.name));
        };
        let last = sample_people().len() as u64 - 1;
        let is_there = |one: &&Value| one[word].as_u64().is_some_and(|place| place <= last);
        match all.iter().find(|one| !is_there(one)) {
            None => Ok(all.len()),
            Some(one) => {
                let found = Said::of(&one.to_string());
                Err(format!("{}: `rejected` holds {found}; `{word}` is to be from 0 to {last}", self.name))
            }
        }
    }
}
