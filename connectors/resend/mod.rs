//! Mail through Resend's API (<https://resend.com/docs/api-reference/emails/send-email>).
//!
//! Class A: the header `Idempotency-Key` is known again for 24 hours, and then answered as the first time. Not supported: batches, attachments,
//! its own templates.

mod settings;

use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::outcome;
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, Schedule, SettingsMistake, once, read_settings, schema_of,
};
use model::settings::ConnectorSettings;
use model::{Channel, Reason, Secret};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::over_http::{self, Api, WEBHOOK_KEY, header_map, standard_event, text_at, webhook_key};

/// Mail through Resend's API.
pub const KIND: Kind = Kind {
    name: "resend",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Key,
    audiences: None,
    records: None,
    summary: "Mail through Resend's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Resend {
    api: Api,
    token: Secret,
    hears: Option<Secret>,
}

impl Connector for Resend {
    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let key =
            self.hears.as_ref().and_then(|secret| webhook_key(secret.reveal())).ok_or(NotHeard::NotSetUp)?;
        let (id, event) = standard_event(&[key], inbound, "svix")?;
        let text = |path: &str| text_at(&event, path).unwrap_or_default();
        let kind = match text("/type").as_str() {
            "email.sent" => ToldKind::Accepted,
            "email.delivered" => ToldKind::Delivered,
            "email.bounced" if text("/data/bounce/type") == "Permanent" => ToldKind::BouncedForGood,
            "email.bounced" => ToldKind::Bounced,
            "email.complained" => ToldKind::Complained,
            "email.opened" => ToldKind::Opened,
            "email.clicked" => ToldKind::Clicked,
            _ => return Ok(Hearing::nothing()),
        };
        // Tags come as an object.
        let Some(about) = read_echo(&text("/data/tags/delivery")) else { return Ok(Hearing::nothing()) };
        let at = text("/created_at").parse().unwrap_or(inbound.at);
        Ok(Hearing::Told(vec![Told { about, proof: None, kind, at, event: id }]))
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

impl Resend {
    fn request(&self, item: &Item) -> HttpRequest {
        let content = &item.content;
        let mut body = json!({
            "from": content.from.to_string(), "to": [content.to.to_string()], "subject": content.subject, "text": &*content.text,
            "headers": header_map(&content.headers),
            // Comes back in every event.
            "tags": [{ "name": "delivery", "value": item.echo() }],
        });
        if let Some(html) = &content.html {
            body["html"] = json!(&**html);
        }
        if let Some(reply_to) = &content.reply_to {
            body["reply_to"] = json!(reply_to.to_string());
        }
        HttpRequest::json(Method::Post, format!("{}/emails", self.api.base), &body)
            .secret("authorization", format!("Bearer {}", self.token.reveal()))
            .header("idempotency-key", item.delivery.as_str())
    }
}

/// Its errors have a `name` (<https://resend.com/docs/api-reference/errors>).
fn judge(reply: &Reply) -> Outcome {
    let message = |body: &Value| text_at(body, "/message");
    if let Reply::Http(reply) = reply {
        let detail = reply.said(message);
        match (reply.status, text_at(&reply.json(), "/name").unwrap_or_default().as_str()) {
            // A request with this key has arrived that said something else (a value of the person changed meanwhile): that is the message.
            (409, "invalid_idempotent_request") => {
                return Outcome::Accepted { receipt: "an earlier attempt, known by its key".to_owned() };
            }
            (409, _) => {
                return Outcome::Retry {
                    reason: Reason::FailRemote5xx,
                    after: reply.retry_after(),
                    schedule: Schedule::Connect,
                    slower: false,
                    detail,
                };
            }
            (422 | 400, "invalid_from_address") => {
                return Outcome::Halt { reason: Reason::FailSmtpSender, detail };
            }
            (_, _) => {}
        }
    }
    let receipt = |reply: &HttpReply| text_at(&reply.json(), "/id").filter(|id| !id.is_empty());
    outcome(KIND.idempotency, reply, receipt, message)
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let api =
        Api::of("https://api.resend.com", settings.base_url.as_deref(), settings.connections, &mut mistakes);
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    if settings.webhook_secret.as_deref().is_some_and(|secret| webhook_key(secret).is_none()) {
        mistakes.push(SettingsMistake::new("webhook_secret", WEBHOOK_KEY));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(Resend {
            token: Secret::new(settings.token),
            hears: settings.webhook_secret.map(Secret::new),
            api,
        })),
        _ => Err(mistakes),
    }
}
