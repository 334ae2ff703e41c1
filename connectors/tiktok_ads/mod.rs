//! Audiences at TikTok: its API for Business, v1.3 (<https://business-api.tiktok.com/portal/docs>). They are made and changed through its
//! streaming ("segment") API.
//!
//! Class S: who is in an audience is a set, so a change may be repeated. Not supported: its API for files, device ids, lookalikes.

mod settings;

use std::sync::Arc;

use connector::http::answered;
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Exchange, HttpReply, HttpRequest,
    Idempotency, Identifier, Kind, Member, Method, Opened, Outcome, Reach, Reply, Request, Schedule,
    SettingsMistake, Verb, ask, ask_first, once, read_settings, schema_of, settled,
};
use jiff::{SignedDuration, Timestamp};
use model::profile::Profile;
use model::settings::ConnectorSettings;
use model::{Reason, Secret};
use serde_json::{Map, Value, json};

pub use self::settings::Settings;
use crate::identifiers::{self, email, hashed, phone, text};
use crate::over_http::{self, Api, percent, text_at};

/// Audiences at TikTok.
pub const KIND: Kind = Kind {
    name: "tiktok_ads",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "email", normaliser: "lower case/1", is_hashed: true },
            Identifier { column: "phone", normaliser: "e.164/1", is_hashed: true },
        ],
        members_max: 1_000,
        // The audience's id comes to every identifier; with it a request stays below 1 MB.
        bytes_max: 512 * 1024,
        // No ad can use a smaller one.
        people_min: 1_000,
        // An audience expires 365 days after it was last changed or used: half of that is early enough to be held up for long.
        renew_after: Some(SignedDuration::from_hours(180 * 24)),
    }),
    records: None,
    summary: "Audiences at TikTok, for ads.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// The columns that may leave, with TikTok's key for each, in the order of every request.
const COLUMNS: &[(&str, &str)] = &[("email", "EMAIL_SHA256"), ("phone", "PHONE_SHA256")];

/// An account's audiences are looked through so many pages far: with making one, a conversation stays within its steps.
const PAGES_MAX: u64 = 14;
/// So many on a page: the answer must fit into what is kept of one, and all pages hold the 400 that an account may have.
const PAGE: u64 = 30;

#[derive(Debug)]
struct TikTok {
    account: Arc<Account>,
}

/// An ad account, and how it is spoken to.
#[derive(Debug)]
struct Account {
    api: Api,
    token: Secret,
    advertiser: String,
    /// TikTok's keys of what it may be told, in the order of every request.
    allowed: Vec<&'static str>,
}

impl Connector for TikTok {
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

impl Audiences for TikTok {
    fn member(&self, profile: &Profile) -> Option<Member> {
        let known = COLUMNS.iter().filter(|(_, key)| self.account.allowed.contains(key));
        let cells: Map<String, Value> = known
            .filter_map(|(column, key)| Some(((*key).to_owned(), cell(profile, column)?.into())))
            .collect();
        Member::of(cells)
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        look(self.account.clone(), name.to_owned(), 1)
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let account = self.account.clone();
        once(Request::Http(account.change(change)), move |reply| {
            Changed::All(match account.answer(&reply, |_| true) {
                Ok(body) => Outcome::Accepted { receipt: receipt(&body) },
                Err(outcome) => outcome,
            })
        })
    }
}

/// One column as TikTok takes it; `None`: nothing, or nothing that could match.
fn cell(profile: &Profile, column: &str) -> Option<String> {
    let raw = text(profile, column)?;
    // What was hashed before it came to us is not to be normalised.
    if let Some(hash) = hashed(&raw).filter(|hash| hash.eq_ignore_ascii_case(&raw)) {
        return Some(hash);
    }
    let normalised = if column == "email" { email(profile)? } else { phone(profile)? };
    hashed(&normalised)
}

/// What TikTok calls a request.
fn receipt(body: &Value) -> String {
    let id = text_at(body, "/request_id").unwrap_or_else(|| "without an id".to_owned());
    connector::Said::of(&format!("request {id}")).to_string()
}

impl Account {
    fn request(&self, method: Method, path: &str, body: &Value) -> HttpRequest {
        let request = HttpRequest::json(method, format!("{}/open_api/v1.3/{path}", self.api.base), body)
            .secret("access-token", self.token.reveal());
        if body.is_null() { request.without_body() } else { request }
    }

    fn page(&self, page: u64) -> HttpRequest {
        let path = format!(
            "dmp/custom_audience/list/?advertiser_id={}&page={page}&page_size={PAGE}",
            percent(&self.advertiser)
        );
        self.request(Method::Get, &path, &Value::Null)
    }

    fn creation(&self, name: &str) -> HttpRequest {
        let body = json!({
            "custom_audience_name": name, "advertiser_id": self.advertiser, "action": "create",
        });
        self.request(Method::Post, "segment/audience/", &body)
    }

    fn change(&self, change: &Change) -> HttpRequest {
        let members: Vec<Map<String, Value>> = change.members.iter().map(Member::identifiers).collect();
        let schema = identifiers::schema(COLUMNS, &self.allowed, change);
        let cell = |member: &Map<String, Value>, key: &str| match member.get(key) {
            Some(id) => json!({ "id": id, "audience_ids": [change.audience] }),
            None => json!({}),
        };
        let rows = members.iter().map(|member| schema.iter().map(|key| cell(member, key)).collect::<Value>());
        let body = json!({
            "advertiser_ids": [self.advertiser],
            "action": match change.verb {
                Verb::Add => "add",
                Verb::Remove => "delete",
            },
            "id_schema": schema,
            "batch_data": rows.collect::<Vec<_>>(),
        });
        self.request(Method::Post, "segment/mapping/", &body)
    }

    /// The body of a yes, which is one if its `code` says so and `is_answer` knows it; otherwise what became of it.
    fn answer(&self, reply: &Reply, is_answer: impl Fn(&Value) -> bool) -> Result<Value, Outcome> {
        let message = |body: &Value| self.message(body);
        if let Reply::Http(answer) = reply
            && let Some(refusal) = refusal(answer, message)
        {
            return Err(refusal);
        }
        answered(KIND.idempotency, reply, |body| body["code"] == 0 && is_answer(body), message)
    }

    /// What an error says, after its code.
    fn message(&self, body: &Value) -> Option<String> {
        let said = body["message"].as_str().unwrap_or_default().replace(self.token.reveal(), "[token]");
        Some(format!("{} {said}", body["code"].as_i64()?))
    }
}

/// What a refusal means: HTTP says 200 for nearly everything, and the body's `code` what it is. `None`: it is none, or has no code.
fn refusal(answer: &HttpReply, message: impl FnOnce(&Value) -> Option<String>) -> Option<Outcome> {
    let code = answer.json()["code"].as_i64()?;
    let detail = answer.said(message);
    let retry = |reason, slower, detail| Outcome::Retry {
        reason,
        after: answer.retry_after(),
        schedule: Schedule::Connect,
        slower,
        detail,
    };
    Some(match code {
        0 => return None,
        // No right to this account, and everything about the token.
        40_001 | 40_101..=40_199 => Outcome::Halt { reason: Reason::FailAuth, detail },
        40_100 => retry(Reason::Remote429, true, detail),
        40_000..50_000 => Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail },
        // 50000 to 51999 are its own errors; a code that nobody knows is no reason to give people up.
        _ => retry(Reason::FailRemote5xx, false, detail),
    })
}

/// Finds an audience among the account's, from the page of this number on, or makes it. The first is 1.
fn look(account: Arc<Account>, name: String, page: u64) -> Box<dyn Exchange<Opened>> {
    ask_first(Request::Http(account.page(page)), move |reply| {
        let body = match account.answer(&reply, |body| body["data"]["list"].is_array()) {
            Ok(body) => body,
            Err(outcome) => return settled(outcome.into()),
        };
        let listed = body["data"]["list"].as_array().map(Vec::as_slice).unwrap_or_default();
        // One that another account shares cannot be changed, and one that expired takes nobody.
        let is_it = |audience: &&Value| {
            audience["name"] == name.as_str()
                && audience["is_creator"] != false
                && audience["is_expired"] != true
        };
        if let Some(id) = listed.iter().find(is_it).and_then(audience_id) {
            return settled(Opened::Found { id });
        }
        // Where it does not say how many pages there are, one that is not full is the last.
        let is_last = match body["data"]["page_info"]["total_page"].as_u64() {
            Some(pages) => page >= pages,
            None => (listed.len() as u64) < PAGE,
        };
        match is_last {
            true => ask(Request::Http(account.creation(&name)), move |reply| {
                match account.answer(&reply, |body| audience_id(&body["data"]).is_some()) {
                    Ok(body) => Opened::Found { id: audience_id(&body["data"]).unwrap_or_default() },
                    Err(outcome) => Opened::Not(outcome),
                }
            }),
            false if page >= PAGES_MAX => settled(Opened::Not(Outcome::Halt {
                reason: Reason::FailRemote4xx,
                detail: format!("the ad account has more than {} audiences: delete some", PAGES_MAX * PAGE),
            })),
            false => look(account, name, page + 1),
        }
    })
}

/// The id in what TikTok says of an audience.
fn audience_id(audience: &Value) -> Option<String> {
    match audience.get("audience_id")? {
        Value::String(id) if !id.is_empty() => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    }
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let api = Api::of(
        "https://business-api.tiktok.com",
        settings.base_url.as_deref(),
        settings.connections,
        &mut mistakes,
    );
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    if settings.advertiser.is_empty() || !settings.advertiser.bytes().all(|byte| byte.is_ascii_digit()) {
        mistakes.push(SettingsMistake::new(
            "advertiser",
            "expected the number of an ad account, such as `7000000000000000001`",
        ));
    }
    let is_column = |named: &String| COLUMNS.iter().any(|(column, _)| column == named);
    if settings.identifiers.is_empty() || !settings.identifiers.iter().all(is_column) {
        mistakes.push(SettingsMistake::new("identifiers", "expected a list of some of email, phone"));
    }
    let allowed =
        COLUMNS.iter().filter(|(column, _)| settings.identifiers.iter().any(|named| named == column));
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(TikTok {
            account: Arc::new(Account {
                api,
                allowed: allowed.map(|(_, key)| *key).collect(),
                token: Secret::new(settings.token),
                advertiser: settings.advertiser,
            }),
        })),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
