//! Audiences at Google Ads (Customer Match) through its Data Manager API, version 1 (<https://developers.google.com/data-manager/api>).
//!
//! Class S: who is in stays in, and who is out stays out, however often it is said. Not supported: the older way through the Google Ads API, which
//! takes nobody new since April 2026; asking what became of a request that was taken, which Google works through afterwards; destinations
//! other than Google Ads; encryption by keys of one's own; mobile and user ids.

mod people;
mod settings;
mod token;

use connector::http::{host_and_port, is_this_machine, outcome};
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Exchange, HttpReply, HttpRequest,
    Idempotency, Identifier, Kind, Member, Method, Opened, Outcome, Reach, Reply, Request, Schedule,
    SettingsMistake, Verb, ask, ask_first, once, read_settings, schema_of, settled,
};
use jiff::{SignedDuration, Timestamp};
use model::Reason;
use model::profile::Profile;
use model::settings::ConnectorSettings;
use serde_json::{Value, json};

use self::settings::Known;
pub use self::settings::Settings;
use self::token::ServiceAccount;
use crate::oauth::{PRIVATE_KEY, Signer};
use crate::over_http::{Api, percent, text_at};

/// Audiences at Google Ads.
pub const KIND: Kind = Kind {
    name: "google_ads",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "email", normaliser: "lower case, one Gmail/1", is_hashed: true },
            Identifier { column: "phone", normaliser: "E.164/1", is_hashed: true },
            Identifier { column: "first_name", normaliser: "lower case, no title/1", is_hashed: true },
            Identifier { column: "last_name", normaliser: "lower case, no suffix/1", is_hashed: true },
            Identifier { column: "country", normaliser: "upper case/1", is_hashed: false },
            Identifier { column: "postal_code", normaliser: "trimmed/1", is_hashed: false },
        ],
        members_max: 10_000,
        bytes_max: 5 * 1024 * 1024,
        people_min: 100,
        // It forgets after 540 days, and wants a list that was not renewed for 90 days to be renewed.
        renew_after: Some(SignedDuration::from_hours(60 * 24)),
    }),
    records: None,
    summary: "Audiences at Google Ads (Customer Match).",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// The longest that it keeps anybody: 540 days, in seconds.
const MEMBERSHIP: &str = "46656000s";

#[derive(Debug)]
struct Google {
    api: Api,
    account: ServiceAccount,
    operating: String,
    login: String,
    known: Vec<Known>,
}

impl Connector for Google {
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

impl Audiences for Google {
    fn member(&self, profile: &Profile) -> Option<Member> {
        people::member(profile, &self.known)
    }

    fn open(&self, name: &str, at: Timestamp) -> Box<dyn Exchange<Opened>> {
        let lists =
            format!("{}/v1/accountTypes/GOOGLE_ADS/accounts/{}/userLists", self.api.base, self.operating);
        // A text in a filter is quoted as JSON quotes it (AIP-160).
        let filter = percent(&format!("display_name = {}", json!(name)));
        let find = HttpRequest::json(Method::Get, format!("{lists}?filter={filter}"), &Value::Null);
        let make = HttpRequest::json(Method::Post, lists, &self.new_list(name));
        let login = format!("accountTypes/GOOGLE_ADS/accounts/{}", self.login);
        let name = name.to_owned();
        self.account.with_token(at, move |token| {
            let with = |request: HttpRequest| {
                Request::Http(bearer(request, token).header("login-account", login.as_str()))
            };
            let make = with(make);
            ask_first(with(find.without_body()), move |reply| match found(&reply, &name) {
                Ok(Some(opened)) => settled(opened),
                Ok(None) => ask(make, |reply| made(&reply)),
                Err(outcome) => settled(outcome.into()),
            })
        })
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let word = match change.verb {
            Verb::Add => "ingest",
            Verb::Remove => "remove",
        };
        let url = format!("{}/v1/audienceMembers:{word}", self.api.base);
        let request = HttpRequest::json(Method::Post, url, &self.body(change));
        self.account.with_token(change.at, |token| {
            once(Request::Http(bearer(request, token)), |reply| {
                let receipt =
                    |reply: &HttpReply| text_at(&reply.json(), "/requestId").filter(|id| !id.is_empty());
                Changed::All(judge(&reply, receipt, names_a_member))
            })
        })
    }
}

impl Google {
    fn new_list(&self, name: &str) -> Value {
        json!({
            "displayName": name, "description": "Drumbeat adds people to it and removes them.",
            "membershipStatus": "OPEN", "membershipDuration": MEMBERSHIP,
            "ingestedUserListInfo": {
                "uploadKeyTypes": ["CONTACT_ID"],
                "contactIdInfo": { "dataSourceType": "DATA_SOURCE_TYPE_FIRST_PARTY" },
            },
        })
    }

    fn body(&self, change: &Change) -> Value {
        let account = |id: &str| json!({ "accountType": "GOOGLE_ADS", "accountId": id });
        let mut body = json!({
            "destinations": [{
                "loginAccount": account(&self.login), "operatingAccount": account(&self.operating),
                "productDestinationId": change.audience,
            }],
            "audienceMembers": change.members.iter().map(people::audience_member).collect::<Vec<_>>(),
            "encoding": "HEX",
        });
        // Whoever is to be added has consented: nobody else comes as far as this. To be removed takes no consent.
        if change.verb == Verb::Add {
            body["consent"] =
                json!({ "adUserData": "CONSENT_GRANTED", "adPersonalization": "CONSENT_GRANTED" });
            body["termsOfService"] = json!({ "customerMatchTermsOfServiceStatus": "ACCEPTED" });
        }
        body
    }
}

fn bearer(request: HttpRequest, token: &str) -> HttpRequest {
    request.secret("authorization", format!("Bearer {token}"))
}

/// The list of this name among those that were found; `None`: there is none.
fn found(reply: &Reply, name: &str) -> Result<Option<Opened>, Outcome> {
    let lists = |reply: &HttpReply| reply.json().is_object().then(String::new);
    match judge(reply, lists, |_| false) {
        Outcome::Accepted { .. } => {}
        outcome => return Err(outcome),
    }
    let Reply::Http(reply) = reply else { return Ok(None) };
    let body = reply.json();
    let lists = body.get("userLists").and_then(Value::as_array);
    // What others share with the account has a name, too, and cannot be changed.
    let list =
        lists.into_iter().flatten().find(|list| list["displayName"] == name && list["readOnly"] != true);
    Ok(list.and_then(|list| match list_id(list) {
        Some(_) if list["membershipStatus"] == "CLOSED" => Some(Opened::Not(Outcome::Rejected {
            reason: Reason::FailRemote4xx,
            bounce: None,
            detail: format!("the list {name} is closed at Google, and takes nobody"),
        })),
        id => id.map(|id| Opened::Found { id }),
    }))
}

fn made(reply: &Reply) -> Opened {
    let is_about_the_name = |body: &Value| {
        reasons(body)
            .iter()
            .any(|reason| ["INVALID_DISPLAY_NAME", "USER_LIST_NAME_RESERVED"].contains(reason))
    };
    match judge(reply, |reply| list_id(&reply.json()), is_about_the_name) {
        Outcome::Accepted { receipt } => Opened::Found { id: receipt },
        outcome => Opened::Not(outcome),
    }
}

/// The id of a list: a number, which JSON of Google's writes as a text.
fn list_id(list: &Value) -> Option<String> {
    let id = &list["id"];
    let text = id.as_str().map(str::to_owned).or_else(|| id.as_u64().map(|id| id.to_string()))?;
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

/// What an answer means. A refusal is one of what was asked only where `is_about_it` finds that it says so; any other would befall everything else
/// alike: the terms are not signed, the account is not the right one, the list is gone.
fn judge(
    reply: &Reply,
    receipt: impl FnOnce(&HttpReply) -> Option<String>,
    is_about_it: impl FnOnce(&Value) -> bool,
) -> Outcome {
    let outcome = outcome(KIND.idempotency, reply, receipt, message);
    let (Reply::Http(reply), Outcome::Rejected { detail, .. }) = (reply, &outcome) else { return outcome };
    let body = reply.json();
    let is_taken = |reason: &&str| ["ALREADY_EXISTS", "DISPLAY_NAME_ALREADY_USED"].contains(reason);
    match reply.status {
        // Somebody else has just made the list, or is changing it: the next time it is found.
        409 => again(detail),
        400 if reasons(&body).iter().any(is_taken) => again(detail),
        400 if is_about_it(&body) => outcome,
        413 => outcome,
        _ => Outcome::Halt { reason: Reason::FailRemote4xx, detail: detail.clone() },
    }
}

fn again(detail: &str) -> Outcome {
    Outcome::Retry {
        reason: Reason::FailRemote4xx,
        after: None,
        schedule: Schedule::Connect,
        slower: false,
        detail: detail.to_owned(),
    }
}

/// What Google says to people, and its word for it.
fn message(body: &Value) -> Option<String> {
    let text = text_at(body, "/error/message")?;
    let reasons = reasons(body);
    Some(if reasons.is_empty() { text } else { format!("{text} ({})", reasons.join(", ")) })
}

/// Its words for what is wrong, each once: of the request, and of single fields.
fn reasons(body: &Value) -> Vec<&str> {
    let mut reasons = Vec::new();
    let own = details(body).filter_map(|detail| detail["reason"].as_str());
    for reason in own.chain(violations(body).filter_map(|violation| violation["reason"].as_str())) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

/// Whether a field that is refused is one of a member. The whole request is refused with it; which one it was is found by halves, since the path
/// to it is for people.
fn names_a_member(body: &Value) -> bool {
    let fields = violations(body).filter_map(|violation| violation["field"].as_str());
    fields.into_iter().any(|field| field.contains("audience_members") || field.contains("audienceMembers"))
}

fn details(body: &Value) -> impl Iterator<Item = &Value> {
    body.pointer("/error/details").and_then(Value::as_array).into_iter().flatten()
}

fn violations(body: &Value) -> impl Iterator<Item = &Value> {
    details(body).filter_map(|detail| detail["fieldViolations"].as_array()).flatten()
}

/// The digits of an account, which people write as 123-456-7890.
fn account(key: &str, text: &str, mistakes: &mut Vec<SettingsMistake>) -> String {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    if digits.len() != 10 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        mistakes
            .push(SettingsMistake::new(key, "expected the ten digits of an account, such as 123-456-7890"));
    }
    digits
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let base_url = settings.base_url.as_deref();
    let api = Api::of("https://datamanager.googleapis.com", base_url, settings.connections, &mut mistakes);
    let operating = account("operating_account", &settings.operating_account, &mut mistakes);
    let login = match &settings.login_account {
        Some(login) => account("login_account", login, &mut mistakes),
        None => operating.clone(),
    };
    if !settings.client_email.contains('@') {
        mistakes.push(SettingsMistake::new("client_email", "expected the address of a service account"));
    }
    if settings.identifiers.is_empty() {
        mistakes.push(SettingsMistake::new("identifiers", "expected at least one of email, phone, address"));
    }
    let url = settings.token_url.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned());
    if let Some(mistake) = connector::http::base_url_mistake(&url) {
        mistakes.push(SettingsMistake::new("token_url", mistake));
    }
    let is_here = |url: &str| host_and_port(url).is_some_and(|(host, _)| is_this_machine(&host));
    if base_url.is_some_and(is_here) != is_here(&url) {
        // A key for tests has no business at Google, and Google's token none at a server for tests.
        mistakes
            .push(SettingsMistake::new("token_url", "`base_url` and it: both on this machine, or neither"));
    }
    let signer = Signer::of(&settings.private_key);
    if signer.is_none() {
        mistakes.push(SettingsMistake::new("private_key", PRIVATE_KEY));
    }
    match (api, signer) {
        (Some(api), Some(signer)) if mistakes.is_empty() => Ok(Box::new(Google {
            api,
            account: ServiceAccount::new(settings.client_email, signer, url),
            operating,
            login,
            known: settings.identifiers,
        })),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistaken(key: &str, value: Value) -> Vec<String> {
        let mut settings = ConnectorSettings(serde_json::from_str(KIND.example).unwrap());
        settings.0.insert(key.to_owned(), value);
        build(&settings).err().unwrap_or_default().into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        for (key, value) in [
            ("client_email", json!("drumbeat")),
            ("private_key", json!("-----BEGIN PRIVATE KEY-----")),
            ("operating_account", json!("123-456-789")),
            ("login_account", json!("customers/1234567890")),
            ("identifiers", json!([])),
            ("token_url", json!("https://oauth2.googleapis.com/token")),
            ("token_url", json!(null)),
        ] {
            assert_eq!(mistaken(key, value.clone()), [key], "{value}");
        }
        assert_eq!(mistaken("operating_account", json!("1234567890")), Vec::<String>::new());
    }
}
