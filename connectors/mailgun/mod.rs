//! Mail through Mailgun's API (<https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages>), as whole messages (`messages.mime`).
//!
//! Class E: it knows no key again, and tells later by its events what it took. Domains in the EU: `base_url: https://api.eu.mailgun.net`.
//! Not supported: several people in one request, its own templates and tracking.

mod settings;

use std::sync::Arc;

use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::{HeaderText, outcome};
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, SettingsMistake, once, read_settings, schema_of,
};
use jiff::Timestamp;
use model::id::hex;
use model::settings::ConnectorSettings;
use model::{Channel, Reason, Secret};
use serde_json::Value;

pub use self::settings::Settings;
use crate::over_http::{self, Api, base64, hmac_sha256, is_equal, percent, text_at};

/// Mail through Mailgun's API.
pub const KIND: Kind = Kind {
    name: "mailgun",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Echo,
    audiences: None,
    records: None,
    summary: "Mail through Mailgun's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Mailgun {
    api: Api,
    domain: String,
    token: Secret,
    signing_key: Option<Secret>,
}

impl Connector for Mailgun {
    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let key = self.signing_key.as_ref().ok_or(NotHeard::NotSetUp)?;
        let body: Value = serde_json::from_slice(&inbound.body).map_err(|_| NotHeard::Forged)?;
        let text = |path: &str| text_at(&body, path).unwrap_or_default();
        let (stamp, token) = (text("/signature/timestamp"), text("/signature/token"));
        let expected = hex(&hmac_sha256(key.reveal().as_bytes(), format!("{stamp}{token}").as_bytes()));
        // Over time and token only, so that both must be new: the token is kept as the event's id, and told twice it is one.
        let is_theirs = is_equal(expected.as_bytes(), text("/signature/signature").as_bytes());
        if !is_theirs || !inbound.is_about_now(&stamp) || token.len() < 32 {
            return Err(NotHeard::Forged);
        }
        let kind = match (text("/event-data/event").as_str(), text("/event-data/severity").as_str()) {
            ("accepted", _) => ToldKind::Accepted,
            ("delivered", _) => ToldKind::Delivered,
            ("failed", "permanent") if is_of_the_address(&text("/event-data/reason")) => {
                ToldKind::BouncedForGood
            }
            ("failed", _) => ToldKind::Bounced,
            ("complained", _) => ToldKind::Complained,
            ("unsubscribed", _) => ToldKind::Unsubscribed,
            ("opened", _) => ToldKind::Opened,
            ("clicked", _) => ToldKind::Clicked,
            _ => return Ok(Hearing::nothing()),
        };
        let Some(about) = read_echo(&text("/event-data/user-variables/delivery")) else {
            return Ok(Hearing::nothing());
        };
        let at = body.pointer("/event-data/timestamp").and_then(Value::as_f64).and_then(time);
        Ok(Hearing::Told(vec![Told { about, proof: None, kind, at: at.unwrap_or(inbound.at), event: token }]))
    }

    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        once(Request::Http(self.request(item)), |reply| judge(&reply))
    }

    fn reach(&self) -> Reach {
        self.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.api.connections
    }
}

impl Mailgun {
    fn with_token(&self, request: HttpRequest) -> HttpRequest {
        let login = base64(format!("api:{}", self.token.reveal()).as_bytes());
        request.secret("authorization", format!("Basic {login}"))
    }

    fn request(&self, item: &Item) -> HttpRequest {
        // A boundary that no part can hold: nothing else is called like the delivery, but its Message-ID, and that in another place of a line.
        let boundary = format!("drumbeat-{}", item.delivery);
        let mut body = Vec::with_capacity(item.bytes.len() + 1_024);
        let mut part = |disposition: &str, content: &[u8]| {
            body.extend(
                format!("--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n").into_bytes(),
            );
            body.extend(b"\r\n");
            body.extend(content);
            body.extend(b"\r\n");
        };
        part("name=\"to\"", item.rcpt_to.as_string().as_bytes());
        part("name=\"v:delivery\"", item.echo().as_bytes());
        part("name=\"message\"; filename=\"message.mime\"\r\nContent-Type: message/rfc822", &item.bytes);
        body.extend(format!("--{boundary}--\r\n").into_bytes());
        let headers = vec![
            ("accept", HeaderText::Plain("application/json".to_owned())),
            ("content-type", HeaderText::Plain(format!("multipart/form-data; boundary={boundary}"))),
        ];
        let url = format!("{}/v3/{}/messages.mime", self.api.base, percent(&self.domain));
        self.with_token(HttpRequest { method: Method::Post, url, headers, body: Arc::from(body) })
    }
}

/// Whether a failure says that the address does not exist.
fn is_of_the_address(reason: &str) -> bool {
    matches!(reason, "bounce" | "suppress-bounce")
}

/// Seconds since 1970, with a fraction.
#[expect(clippy::cast_possible_truncation, reason = "out of range is no time")]
fn time(seconds: f64) -> Option<Timestamp> {
    Timestamp::from_millisecond((seconds * 1_000.0) as i64).ok()
}

fn judge(reply: &Reply) -> Outcome {
    let message = |body: &Value| text_at(body, "/message");
    if let Reply::Http(reply) = reply {
        let detail = reply.said(message);
        match reply.status {
            // Not paid, or no such domain.
            402 | 404 => return Outcome::Halt { reason: Reason::FailAuth, detail },
            413 => return Outcome::Rejected { reason: Reason::ContentTooLarge, bounce: None, detail },
            _ => {}
        }
    }
    outcome(KIND.idempotency, reply, |reply: &HttpReply| text_at(&reply.json(), "/id"), message)
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let api =
        Api::of("https://api.mailgun.net", settings.base_url.as_deref(), settings.connections, &mut mistakes);
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if settings.domain.is_empty() || !settings.domain.chars().all(plain) {
        mistakes.push(SettingsMistake::new("domain", "expected a domain, such as `mg.acme.example`"));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(Mailgun {
            domain: settings.domain,
            token: Secret::new(settings.token),
            signing_key: settings.webhook_signing_key.map(Secret::new),
            api,
        })),
        _ => Err(mistakes),
    }
}
