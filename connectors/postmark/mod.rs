//! Mail through Postmark's API (<https://postmarkapp.com/developer/api/email-api>).
//!
//! Class B: it knows no key again, and can be asked by our metadata what it has. Not supported: batches, its own templates, tracking.

mod settings;

use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::outcome;
use connector::{
    Bounce, Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome,
    Reach, Reply, Request, SettingsMistake, ask, once, read_settings, schema_of,
};
use jiff::Timestamp;
use model::settings::ConnectorSettings;
use model::{Channel, Reason, Secret};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::over_http::{self, Api, header_objects, is_equal, percent, text_at};

/// Mail through Postmark's API.
pub const KIND: Kind = Kind {
    name: "postmark",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Lookup,
    audiences: None,
    records: None,
    summary: "Mail through Postmark's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Postmark {
    api: Api,
    token: Secret,
    stream: Option<String>,
    hears: Option<Secret>,
}

impl Connector for Postmark {
    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let expected = self.hears.as_ref().ok_or(NotHeard::NotSetUp)?;
        // It signs nothing: the address that it is given carries a name and a password.
        if !is_equal(inbound.header("authorization").as_bytes(), expected.reveal().as_bytes()) {
            return Err(NotHeard::Forged);
        }
        let event: Value = serde_json::from_slice(&inbound.body).map_err(|_| NotHeard::Garbled)?;
        let text = |path: &str| text_at(&event, path).unwrap_or_default();
        let kind = match text("/RecordType").as_str() {
            "Delivery" => ToldKind::Delivered,
            "Bounce" if text("/Type") == "HardBounce" => ToldKind::BouncedForGood,
            "Bounce" => ToldKind::Bounced,
            "SpamComplaint" => ToldKind::Complained,
            "SubscriptionChange" if event.pointer("/SuppressSending") == Some(&Value::Bool(true)) => {
                match text("/SuppressionReason").as_str() {
                    "HardBounce" => ToldKind::BouncedForGood,
                    "SpamComplaint" => ToldKind::Complained,
                    _ => ToldKind::Unsubscribed,
                }
            }
            "Open" => ToldKind::Opened,
            "Click" => ToldKind::Clicked,
            _ => return Ok(Hearing::nothing()),
        };
        let Some(about) = read_echo(&text("/Metadata/delivery")) else { return Ok(Hearing::nothing()) };
        let at = ["/DeliveredAt", "/BouncedAt", "/ChangedAt", "/ReceivedAt"]
            .iter()
            .find_map(|path| text(path).parse().ok());
        let number =
            event.pointer("/ID").and_then(Value::as_u64).map(|id| id.to_string()).unwrap_or_default();
        let event = format!(
            "{}.{}.{number}.{}",
            text("/MessageID"),
            text("/RecordType"),
            at.map_or_else(String::new, |at: Timestamp| at.to_string())
        );
        Ok(Hearing::Told(vec![Told { about, proof: None, kind, at: at.unwrap_or(inbound.at), event }]))
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

    fn look_up(&self, echo: &str) -> Option<Box<dyn Exchange>> {
        let stream = self
            .stream
            .as_ref()
            .map_or_else(String::new, |stream| format!("&messagestream={}", percent(stream)));
        let filter = format!("count=1&offset=0&metadata_delivery={}{stream}", percent(echo));
        let (url, echo) = (format!("{}/messages/outbound?{filter}", self.api.base), echo.to_owned());
        let request = HttpRequest::get(url);
        Some(ask(Request::Http(self.with_token(request)), move |reply| found(&reply, &echo)))
    }
}

impl Postmark {
    fn with_token(&self, request: HttpRequest) -> HttpRequest {
        request.secret("x-postmark-server-token", self.token.reveal())
    }

    fn request(&self, item: &Item) -> HttpRequest {
        let content = &item.content;
        let mut body = json!({
            "From": content.from.to_string(), "To": content.to.to_string(), "Subject": content.subject, "TextBody": &*content.text,
            "Headers": header_objects(&content.headers, "Name", "Value"), "Metadata": { "delivery": item.echo() },
        });
        if let Some(html) = &content.html {
            body["HtmlBody"] = json!(&**html);
        }
        if let Some(reply_to) = &content.reply_to {
            body["ReplyTo"] = json!(reply_to.to_string());
        }
        if let Some(stream) = &self.stream {
            body["MessageStream"] = json!(stream);
        }
        self.with_token(HttpRequest::json(Method::Post, format!("{}/email", self.api.base), &body))
    }
}

/// Its errors have a code in the body, some of which look like HTTP's (<https://postmarkapp.com/developer/api/overview#error-codes>).
fn judge(reply: &Reply) -> Outcome {
    let message = |body: &Value| text_at(body, "/Message");
    let code = |reply: &HttpReply| reply.json().pointer("/ErrorCode").and_then(Value::as_u64);
    if let Reply::Http(reply) = reply
        && reply.status == 422
    {
        let detail = reply.said(message);
        return match code(reply) {
            // The address bounced or complained before, and is not written to again.
            Some(406) => {
                Outcome::Rejected { reason: Reason::FailSmtpRecipient, bounce: Some(Bounce::Hard), detail }
            }
            Some(400 | 401) => Outcome::Halt { reason: Reason::FailSmtpSender, detail },
            Some(10 | 405 | 412 | 413) => Outcome::Halt { reason: Reason::FailAuth, detail },
            _ => Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail },
        };
    }
    let receipt =
        |reply: &HttpReply| (code(reply) == Some(0)).then(|| text_at(&reply.json(), "/MessageID")).flatten();
    outcome(KIND.idempotency, reply, receipt, message)
}

/// What it says of a delivery: that it has it, or that it has none.
fn found(reply: &Reply, echo: &str) -> Outcome {
    let message = |body: &Value| text_at(body, "/Message");
    if let Reply::Http(reply) = reply
        && reply.status == 200
        && reply.json().pointer("/TotalCount").and_then(Value::as_u64) == Some(0)
    {
        let detail = "Postmark has no message of this delivery".to_owned();
        return Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail };
    }
    // It must be this one: a filter that is not known is not applied.
    let receipt = |reply: &HttpReply| {
        let is_it = text_at(&reply.json(), "/Messages/0/Metadata/delivery").as_deref() == Some(echo);
        is_it.then(|| text_at(&reply.json(), "/Messages/0/MessageID")).flatten()
    };
    outcome(KIND.idempotency, reply, receipt, message)
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let api = Api::of(
        "https://api.postmarkapp.com",
        settings.base_url.as_deref(),
        settings.connections,
        &mut mistakes,
    );
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    let hears = match (&settings.webhook_username, &settings.webhook_password) {
        (Some(name), Some(password)) if !name.contains(':') => {
            Some(Secret::new(format!("Basic {}", over_http::base64(format!("{name}:{password}").as_bytes()))))
        }
        (None, None) => None,
        (None, Some(_)) => {
            mistakes
                .push(SettingsMistake::new("webhook_username", "is missing: `webhook_password` is given"));
            None
        }
        (Some(_), None) => {
            mistakes
                .push(SettingsMistake::new("webhook_password", "is missing: `webhook_username` is given"));
            None
        }
        (Some(_), Some(_)) => {
            mistakes.push(SettingsMistake::new("webhook_username", "expected a name without `:`"));
            None
        }
    };
    if settings.message_stream.as_deref().is_some_and(str::is_empty) {
        mistakes.push(SettingsMistake::new("message_stream", "expected the id of a message stream"));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(Postmark {
            token: Secret::new(settings.token),
            stream: settings.message_stream,
            hears,
            api,
        })),
        _ => Err(mistakes),
    }
}
