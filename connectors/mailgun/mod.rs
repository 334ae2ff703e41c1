//! Mail through Mailgun's API (<https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages>), as whole messages (`messages.mime`).
//!
//! Class B: it knows no key again, and can be asked by our Message-ID what it has. Domains in the EU: `base_url: https://api.eu.mailgun.net`.
//! Not supported: several people in one request, its own templates and tracking.

mod settings;

use std::sync::Arc;

use connector::http::{HeaderText, host_and_port, outcome};
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, SettingsMistake, ask, once, read_settings, schema_of,
};
use model::settings::ConnectorSettings;
use model::{Channel, DeliveryId, Reason, Secret};
use serde_json::Value;

pub use self::settings::Settings;
use crate::over_http::{self, base, base64, percent, text_at};

/// Mail through Mailgun's API.
pub const KIND: Kind = Kind {
    name: "mailgun",
    channel: Channel::Email,
    idempotency: Idempotency::Lookup,
    summary: "Mail through Mailgun's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Mailgun {
    base: String,
    domain: String,
    token: Secret,
    reach: Reach,
    connections: usize,
}

impl Connector for Mailgun {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        once(Request::Http(self.request(item)), |reply| judge(&reply))
    }

    fn reach(&self) -> Reach {
        self.reach.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn look_up(&self, delivery: &DeliveryId) -> Option<Box<dyn Exchange>> {
        // `v:delivery` is a variable of the message, by which events are found.
        let url = format!(
            "{}/v3/{}/events?limit=1&event=accepted&user-variables={}",
            self.base,
            percent(&self.domain),
            percent(&format!("{{\"delivery\":\"{delivery}\"}}"))
        );
        let request = HttpRequest::json(Method::Get, url, &Value::Null).without_body();
        Some(ask(Request::Http(self.with_token(request)), |reply| found(&reply)))
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
        part("name=\"v:delivery\"", item.delivery.as_str().as_bytes());
        part("name=\"message\"; filename=\"message.mime\"\r\nContent-Type: message/rfc822", &item.bytes);
        body.extend(format!("--{boundary}--\r\n").into_bytes());
        let headers = vec![
            ("accept", HeaderText::Plain("application/json".to_owned())),
            ("content-type", HeaderText::Plain(format!("multipart/form-data; boundary={boundary}"))),
        ];
        let url = format!("{}/v3/{}/messages.mime", self.base, percent(&self.domain));
        self.with_token(HttpRequest { method: Method::Post, url, headers, body: Arc::from(body) })
    }
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

/// What it says of a delivery: that it has it, or that it has none.
fn found(reply: &Reply) -> Outcome {
    if let Reply::Http(reply) = reply
        && reply.status == 200
        && reply.json().pointer("/items").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        let detail = "Mailgun has no event of this delivery".to_owned();
        return Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail };
    }
    let receipt = |reply: &HttpReply| text_at(&reply.json(), "/items/0/message/headers/message-id");
    outcome(KIND.idempotency, reply, receipt, |body: &Value| text_at(body, "/message"))
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = over_http::mistakes(settings.base_url.as_deref(), settings.connections);
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    if settings.domain.is_empty() || !settings.domain.chars().all(plain) {
        mistakes.push(SettingsMistake::new("domain", "expected a domain, such as `mg.acme.example`"));
    }
    let base = base(settings.base_url.as_deref(), "https://api.mailgun.net");
    match host_and_port(&base) {
        Some((host, port)) if mistakes.is_empty() => Ok(Box::new(Mailgun {
            base,
            domain: settings.domain,
            token: Secret::new(settings.token),
            reach: Reach::Network { host, port },
            connections: usize::from(settings.connections),
        })),
        _ => Err(mistakes),
    }
}
