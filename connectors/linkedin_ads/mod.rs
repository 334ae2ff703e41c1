//! Audiences at LinkedIn (Matched Audiences) through its DMP segments, an API with a version for each month
//! (<https://learn.microsoft.com/en-us/linkedin/marketing/matched-audiences/create-and-manage-segment-users>).
//!
//! Class S: who is in stays in, and who is out stays out, however often it is said. Not supported: segments of companies, Google's advertising ids,
//! SHA-512, refreshing the token.

mod people;
mod settings;

use std::sync::Arc;

use connector::http::outcome;
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Exchange, HttpReply, HttpRequest,
    Idempotency, Identifier, Kind, Member, Method, Opened, Outcome, Reach, Reply, Request, Schedule,
    SettingsMistake, ask, ask_first, once, read_settings, schema_of, settled,
};
use jiff::{SignedDuration, Timestamp};
use model::profile::Profile;
use model::settings::ConnectorSettings;
use model::{Reason, Secret};
use serde_json::{Value, json};

use self::settings::Known;
pub use self::settings::Settings;
use crate::over_http::{Api, percent, secret_mistake, text_at};

/// Audiences at LinkedIn.
pub const KIND: Kind = Kind {
    name: "linkedin_ads",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "email", normaliser: "lower case/1", is_hashed: true },
            Identifier { column: "first_name", normaliser: "trimmed/1", is_hashed: false },
            Identifier { column: "last_name", normaliser: "trimmed/1", is_hashed: false },
            Identifier { column: "title", normaliser: "trimmed/1", is_hashed: false },
            Identifier { column: "company", normaliser: "trimmed/1", is_hashed: false },
            Identifier { column: "country", normaliser: "upper case/1", is_hashed: false },
        ],
        // It takes 5,000, and answers for each: of so long an answer only the beginning would be kept.
        members_max: 1_000,
        bytes_max: 1024 * 1024,
        people_min: 300,
        renew_after: None,
    }),
    records: None,
    summary: "Audiences at LinkedIn (Matched Audiences).",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// A new segment is not everywhere at once: it takes a minute or two until people can be added.
const SETTLES_IN: SignedDuration = SignedDuration::from_mins(1);

#[derive(Debug)]
struct LinkedIn {
    api: Api,
    token: Secret,
    account: String,
    source_platform: String,
    version: String,
    known: Vec<Known>,
}

impl Connector for LinkedIn {
    fn audiences(&self) -> Option<&dyn Audiences> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        self.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.api.connections
    }
}

impl Audiences for LinkedIn {
    fn member(&self, profile: &Profile) -> Option<Member> {
        people::member(profile, &self.known)
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        let account = format!("urn:li:sponsoredAccount:{}", self.account);
        let query = format!(
            "q=account&account={}&sourceSegmentId={}&sourcePlatform={}",
            percent(&account),
            percent(name),
            percent(&self.source_platform)
        );
        let find = self.request(Method::Get, &format!("?{query}"), "FINDER", &Value::Null).without_body();
        let segment = json!({
            "name": name, "sourcePlatform": self.source_platform, "sourceSegmentId": name, "account": account,
            "accessPolicy": "PRIVATE", "type": "USER", "destinations": [{ "destination": "LINKEDIN" }],
        });
        let make = Request::Http(self.request(Method::Post, "", "CREATE", &segment));
        let (name, version) = (name.to_owned(), self.version.clone());
        ask_first(Request::Http(find), move |reply| match found(&reply, &name, &version) {
            Ok(Some(id)) => settled(Opened::Found { id }),
            Ok(None) => ask(make, move |reply| {
                let id = |reply: &HttpReply| reply.header("x-restli-id").and_then(digits);
                match for_everybody(judge(&reply, id, &version)) {
                    Outcome::Accepted { receipt } => Opened::Found { id: receipt },
                    outcome => Opened::Not(outcome),
                }
            }),
            Err(outcome) => settled(outcome.into()),
        })
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let elements: Vec<Value> =
            change.members.iter().map(|member| people::element(member, change.verb)).collect();
        let (count, version, segment) = (elements.len(), self.version.clone(), change.audience.clone());
        let path = format!("/{}/users", percent(&change.audience));
        let request = self.request(Method::Post, &path, "BATCH_CREATE", &json!({ "elements": elements }));
        once(Request::Http(request), move |reply| changed(&reply, count, &segment, &version))
    }
}

impl LinkedIn {
    /// `method` is the word of Rest.li for what is asked.
    fn request(&self, verb: Method, path: &str, method: &str, body: &Value) -> HttpRequest {
        HttpRequest::json(verb, format!("{}/rest/dmpSegments{path}", self.api.base), body)
            .secret("authorization", format!("Bearer {}", self.token.reveal()))
            .header("linkedin-version", self.version.as_str())
            .header("x-restli-protocol-version", "2.0.0")
            .header("x-restli-method", method)
    }
}

/// The id of the segment that has this name of ours; `None`: there is none.
fn found(reply: &Reply, name: &str, version: &str) -> Result<Option<String>, Outcome> {
    let has_list =
        |reply: &HttpReply| reply.json().get("elements").is_some_and(Value::is_array).then(String::new);
    match for_everybody(judge(reply, has_list, version)) {
        Outcome::Accepted { .. } => {}
        outcome => return Err(outcome),
    }
    let Reply::Http(reply) = reply else { return Ok(None) };
    let body = reply.json();
    let segments = body.get("elements").and_then(Value::as_array);
    // It was asked for by its name; what has another is none of ours.
    let segment = segments
        .into_iter()
        .flatten()
        .find(|segment| segment.get("sourceSegmentId").is_none_or(|theirs| theirs == name));
    Ok(segment.and_then(|segment| match &segment["id"] {
        Value::String(id) => digits(id),
        id => id.as_u64().map(|id| id.to_string()),
    }))
}

fn digits(id: &str) -> Option<String> {
    (!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then(|| id.to_owned())
}

/// What came of a batch: an answer for each, in their order.
fn changed(reply: &Reply, count: usize, segment: &str, version: &str) -> Changed {
    let taken = format!("segment {segment}");
    let Reply::Http(HttpReply { status: 200..300, is_cut, .. }) = reply else {
        return Changed::All(judge(reply, |_| None, version));
    };
    if *is_cut {
        // Many were refused, each with its reason. Half as many have half as much to say, and who is taken twice is taken once.
        return Changed::All(Outcome::Rejected {
            reason: Reason::FailRemote4xx,
            bounce: None,
            detail: "what LinkedIn says of each of them is too long to be read".to_owned(),
        });
    }
    let each = |reply: &HttpReply| -> Option<Vec<Outcome>> {
        let body = reply.json();
        let elements = body.get("elements")?.as_array().filter(|elements| elements.len() == count)?;
        elements.iter().map(|element| judge_one(element, &taken, version)).collect()
    };
    match reply {
        Reply::Http(reply) => each(reply).map(Changed::Each),
        _ => None,
    }
    .unwrap_or_else(|| Changed::All(judge(reply, |_| None, version)))
}

/// What became of one member: an answer within the answer.
fn judge_one(element: &Value, taken: &str, version: &str) -> Option<Outcome> {
    let status = element.get("status")?.as_u64().and_then(|status| u16::try_from(status).ok())?;
    let error = element.get("error").unwrap_or(&Value::Null).to_string();
    let body = Arc::from(error.into_bytes());
    let reply = Reply::Http(HttpReply { status, headers: Vec::new(), body, is_cut: false });
    Some(judge(&reply, |_| Some(taken.to_owned()), version))
}

/// What an answer means. LinkedIn has words of its own in `code`; its statuses say as much.
fn judge(reply: &Reply, receipt: impl FnOnce(&HttpReply) -> Option<String>, version: &str) -> Outcome {
    let outcome = outcome(KIND.idempotency, reply, receipt, |body| text_at(body, "/message"));
    let (Reply::Http(reply), Outcome::Rejected { detail, .. }) = (reply, &outcome) else { return outcome };
    let later = |after| Outcome::Retry {
        reason: Reason::FailRemote4xx,
        after,
        schedule: Schedule::Connect,
        slower: false,
        detail: detail.clone(),
    };
    match reply.status {
        404 => later(Some(reply.retry_after().unwrap_or(SETTLES_IN))),
        409 | 423 => later(reply.retry_after()),
        426 => Outcome::Halt {
            reason: Reason::FailRemote4xx,
            detail: format!(
                "LinkedIn no longer serves version {version}: set `version` to a newer one ({detail})"
            ),
        },
        400 | 413 | 422 => outcome,
        _ => Outcome::Halt { reason: Reason::FailRemote4xx, detail: detail.clone() },
    }
}

/// A segment that is refused is refused for what stands in the settings: any other would be, too.
fn for_everybody(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Rejected { reason, detail, .. } => Outcome::Halt { reason, detail },
        outcome => outcome,
    }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let base_url = settings.base_url.as_deref();
    let api = Api::of("https://api.linkedin.com", base_url, settings.connections, &mut mistakes);
    mistakes.extend(secret_mistake("token", &settings.token));
    if digits(&settings.account).is_none() {
        mistakes.push(SettingsMistake::new(
            "account",
            "expected the digits of `urn:li:sponsoredAccount:512345678`",
        ));
    }
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if settings.source_platform.is_empty() || !settings.source_platform.chars().all(is_word) {
        mistakes.push(SettingsMistake::new(
            "source_platform",
            "expected a name in capitals, as LinkedIn gave it",
        ));
    }
    if !is_version(&settings.version) {
        mistakes.push(SettingsMistake::new("version", "expected a year and a month, such as 202604"));
    }
    let knows = |one| settings.identifiers.contains(&one);
    let is_enough = knows(Known::Email) || knows(Known::FirstName) && knows(Known::LastName);
    if !is_enough {
        mistakes
            .push(SettingsMistake::new("identifiers", "expected `email`, or `first_name` and `last_name`"));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(LinkedIn {
            api,
            token: Secret::new(settings.token),
            account: settings.account,
            source_platform: settings.source_platform,
            version: settings.version,
            known: settings.identifiers,
        })),
        _ => Err(mistakes),
    }
}

/// A year and a month.
fn is_version(text: &str) -> bool {
    let month = text.get(4..).and_then(|month| month.parse::<u8>().ok());
    text.len() == 6 && digits(text).is_some() && month.is_some_and(|month| (1..=12).contains(&month))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(body: &str, is_cut: bool) -> Reply {
        let body = Arc::from(body.as_bytes());
        Reply::Http(HttpReply { status: 200, headers: Vec::new(), body, is_cut })
    }

    #[test]
    fn an_answer_that_is_not_one_for_each_is_no_answer() {
        for body in
            ["{}", r#"{"elements":[]}"#, r#"{"elements":[{"status":201}]}"#, r#"{"elements":[{},{}]}"#]
        {
            let changed = changed(&answered(body, false), 2, "1", "202604");
            assert!(matches!(changed, Changed::All(Outcome::Retry { .. })), "{body}: {changed:?}");
        }
    }

    #[test]
    fn an_answer_too_long_to_be_read_is_asked_for_by_halves() {
        let changed = changed(&answered(r#"{"elements":[{"status":201},{"sta"#, true), 2, "1", "202604");
        assert!(matches!(changed, Changed::All(Outcome::Rejected { .. })));
    }

    #[test]
    fn a_version_is_a_month() {
        for (text, is_one) in
            [("202604", true), ("202613", false), ("2026-4", false), ("2604", false), ("2026é", false)]
        {
            assert_eq!(is_version(text), is_one, "{text}");
        }
    }
}
