//! Audiences at Meta, for ads on Facebook and Instagram: its Graph API, v26.0
//! (<https://developers.facebook.com/docs/marketing-api/audiences/guides/custom-audiences>).
//!
//! Class S: who is in an audience is a set, so a change may be repeated. Not supported: replacing a whole audience, lookalikes, values of
//! customers, device ids, dates of birth, and Limited Data Use.

mod errors;
mod people;
mod settings;

use std::sync::Arc;

use connector::http::answered;
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Exchange, HttpRequest, Idempotency, Kind,
    Member, Method, Opened, Outcome, Reach, Reply, Request, SettingsMistake, Verb, ask, ask_first, once,
    read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::id::hex;
use model::profile::Profile;
use model::settings::ConnectorSettings;
use model::{Reason, Secret};
use serde_json::{Map, Value, json};

pub use self::settings::{Settings, Source};
use crate::identifiers;
use crate::over_http::{self, Api, hmac_sha256, percent, text_at};

/// Audiences at Meta.
pub const KIND: Kind = Kind {
    name: "meta_ads",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: people::IDENTIFIERS,
        members_max: 10_000,
        // With its brackets a request stays below 5 MB.
        bytes_max: 4 * 1024 * 1024,
        people_min: 100,
        // It forgets no members; an audience that no ad uses for two years is flagged as a whole.
        renew_after: None,
    }),
    records: None,
    summary: "Audiences at Meta, for ads on Facebook and Instagram.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// An account's audiences are looked through so many pages far: with making one, a conversation stays within its steps.
const PAGES_MAX: u64 = 14;

#[derive(Debug)]
struct Meta {
    account: Arc<Account>,
}

/// An ad account, and how it is spoken to.
#[derive(Debug)]
struct Account {
    api: Api,
    token: Secret,
    /// Proves that a request comes from the app; hexadecimal.
    proof: Option<Secret>,
    /// `act_` and digits.
    id: String,
    version: String,
    /// Meta's keys of what it may be told, in the order of every request.
    allowed: Vec<&'static str>,
    source: Source,
    consent: bool,
}

impl Connector for Meta {
    fn audiences(&self) -> Option<&dyn Audiences> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        self.account.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.account.api.connections
    }
}

impl Audiences for Meta {
    fn member(&self, profile: &Profile) -> Option<Member> {
        people::member(profile, &self.account.allowed)
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        look(self.account.clone(), name.to_owned(), 1, None)
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let (account, members) = (self.account.clone(), change.members.len());
        once(Request::Http(account.change(change)), move |reply| account.changed(&reply, members))
    }
}

impl Account {
    /// A request. The token is in a header and not in the address, which others log; the proof has no header, and is of no use without the
    /// token.
    fn request(&self, method: Method, path: &str, query: &[(&str, &str)], body: &Value) -> HttpRequest {
        let proof = self.proof.iter().map(|proof| ("appsecret_proof", proof.reveal()));
        let query: Vec<String> = query
            .iter()
            .copied()
            .chain(proof)
            .map(|(name, text)| format!("{name}={}", percent(text)))
            .collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let url = format!("{}/{}/{path}{mark}{}", self.api.base, self.version, query.join("&"));
        let request = HttpRequest::json(method, url, body)
            .secret("authorization", format!("Bearer {}", self.token.reveal()));
        if body.is_null() { request.without_body() } else { request }
    }

    fn audiences(&self, after: Option<&str>) -> HttpRequest {
        let query: Vec<(&str, &str)> = [("fields", "id,name"), ("limit", "100")]
            .into_iter()
            .chain(after.map(|after| ("after", after)))
            .collect();
        self.request(Method::Get, &format!("{}/customaudiences", self.id), &query, &Value::Null)
    }

    fn creation(&self, name: &str) -> HttpRequest {
        let body = json!({ "name": name, "subtype": "CUSTOM", "customer_file_source": self.source.as_str() });
        self.request(Method::Post, &format!("{}/customaudiences", self.id), &[], &body)
    }

    fn change(&self, change: &Change) -> HttpRequest {
        let members: Vec<Map<String, Value>> = change.members.iter().map(Member::identifiers).collect();
        let is_removal = change.verb == Verb::Remove;
        let schema = identifiers::schema(people::COLUMNS, &self.allowed, change);
        let unknown = json!("");
        let row = |member: &Map<String, Value>| -> Value {
            schema.iter().map(|key| member.get(*key).unwrap_or(&unknown).clone()).collect()
        };
        let data: Vec<Value> = members.iter().map(row).collect();
        let mut body = json!({
            // "Raw" are rows of several keys; what is in them is hashed all the same.
            "payload": { "schema": schema, "is_raw": true, "data": data },
            // Each change is a session of its own; a repeat of it is the same one.
            "session": {
                "session_id": session(&change.key), "batch_seq": 1, "last_batch_flag": true,
                "estimated_num_total": members.len(),
            },
        });
        // Who is removed may have taken their consent back.
        if self.consent && !is_removal {
            body["customer_consent"] = json!(true);
        }
        let method = if is_removal { Method::Delete } else { Method::Post };
        self.request(method, &format!("{}/users", percent(&change.audience)), &[], &body)
    }

    fn changed(&self, reply: &Reply, members: usize) -> Changed {
        let body = match self.answer(reply, |body| body["num_received"].is_u64()) {
            Ok(body) => body,
            Err(outcome) => return Changed::All(outcome),
        };
        let session = match &body["session_id"] {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        let receipt = connector::Said::of(&format!("session {session}")).to_string();
        match body["num_invalid_entries"].as_u64().unwrap_or_default() {
            0 => Changed::All(Outcome::Accepted { receipt }),
            refused if refused >= members as u64 => Changed::All(Outcome::Rejected {
                reason: Reason::FailRemote4xx,
                bounce: None,
                detail: "Meta cannot read what it is told of them".to_owned(),
            }),
            refused => Changed::AllBut { refused, receipt },
        }
    }

    /// The body of a yes, which is one if `is_answer` knows it; otherwise what became of it.
    fn answer(&self, reply: &Reply, is_answer: impl Fn(&Value) -> bool) -> Result<Value, Outcome> {
        if let Reply::Http(answer) = reply
            && let Some(refusal) = errors::refusal(answer, &self.token)
        {
            return Err(refusal);
        }
        answered(KIND.idempotency, reply, is_answer, |body| errors::message(body, &self.token))
    }
}

/// A session's number from the key of a change: 63 bits, so that it is a number wherever numbers have a sign.
fn session(key: &str) -> u64 {
    u64::from_str_radix(key, 16).unwrap_or_default() >> 1
}

/// Finds an audience among the account's, from this page on, or makes it.
fn look(account: Arc<Account>, name: String, page: u64, after: Option<&str>) -> Box<dyn Exchange<Opened>> {
    ask_first(Request::Http(account.audiences(after)), move |reply| {
        let body = match account.answer(&reply, |body| body["data"].is_array()) {
            Ok(body) => body,
            Err(outcome) => return settled(outcome.into()),
        };
        let listed = body["data"].as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(audience) = listed.iter().find(|audience| audience["name"] == name.as_str()) {
            return settled(found(audience));
        }
        // There is another page where its address is given; the address itself is not followed, since it holds a token.
        let after = text_at(&body, "/paging/cursors/after").filter(|_| body["paging"]["next"].is_string());
        match after {
            Some(_) if page >= PAGES_MAX => settled(Opened::Not(Outcome::Halt {
                reason: Reason::FailRemote4xx,
                detail: format!("the ad account has more than {} audiences: delete some", PAGES_MAX * 100),
            })),
            Some(after) => look(account, name, page + 1, Some(&after)),
            None => ask(Request::Http(account.creation(&name)), move |reply| {
                let is_made = |body: &Value| text_at(body, "/id").is_some_and(|id| !id.is_empty());
                account.answer(&reply, is_made).map_or_else(Opened::Not, |body| found(&body))
            }),
        }
    })
}

fn found(audience: &Value) -> Opened {
    Opened::Found { id: text_at(audience, "/id").unwrap_or_default() }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let api = Api::of(
        "https://graph.facebook.com",
        settings.base_url.as_deref(),
        settings.connections,
        &mut mistakes,
    );
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    mistakes.extend(
        settings.app_secret.as_deref().and_then(|secret| over_http::secret_mistake("app_secret", secret)),
    );
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = settings.ad_account.strip_prefix("act_").unwrap_or(&settings.ad_account);
    if !is_digits(number) {
        mistakes.push(SettingsMistake::new(
            "ad_account",
            "expected the number of an ad account, such as `act_1234567890`",
        ));
    }
    let version = settings.version.strip_prefix('v').and_then(|version| version.split_once('.'));
    if !version.is_some_and(|(major, minor)| is_digits(major) && is_digits(minor)) {
        mistakes.push(SettingsMistake::new("version", "expected a version such as `v26.0`"));
    }
    let allowed = people::allowed(&settings.identifiers);
    mistakes
        .extend(allowed.as_ref().err().map(|mistake| SettingsMistake::new("identifiers", mistake.as_str())));
    let proof = settings.app_secret.as_deref().map(|secret| proof(secret, &settings.token));
    match (api, allowed) {
        (Some(api), Ok(allowed)) if mistakes.is_empty() => Ok(Box::new(Meta {
            account: Arc::new(Account {
                api,
                id: format!("act_{number}"),
                version: settings.version,
                allowed,
                source: settings.customer_file_source,
                consent: settings.customer_consent,
                proof: proof.map(Secret::new),
                token: Secret::new(settings.token),
            }),
        })),
        _ => Err(mistakes),
    }
}

/// What only the app can make of a token (<https://developers.facebook.com/docs/graph-api/securing-requests>).
fn proof(app_secret: &str, token: &str) -> String {
    hex(&hmac_sha256(app_secret.as_bytes(), token.as_bytes()))
}

#[cfg(test)]
mod tests;
