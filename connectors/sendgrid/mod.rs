//! Mail through SendGrid's API, v3 (<https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>).
//!
//! Class E: it knows no key again, and tells later by its events what it took. Accounts in the EU: `base_url: https://api.eu.sendgrid.com`.
//! Not supported: several people in one request, its own templates and suppression groups.

mod settings;

use connector::http::{host_and_port, outcome};
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, once, read_settings, schema_of,
};
use jiff::{SignedDuration, Timestamp};
use model::mail::Party;
use model::settings::ConnectorSettings;
use model::{Channel, Reason, Secret};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::over_http::{self, base, header_map, text_at};

/// Mail through SendGrid's API.
pub const KIND: Kind = Kind {
    name: "sendgrid",
    channel: Channel::Email,
    idempotency: Idempotency::Echo,
    summary: "Mail through SendGrid's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct SendGrid {
    base: String,
    token: Secret,
    reach: Reach,
    connections: usize,
}

impl Connector for SendGrid {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        let at = item.at;
        once(Request::Http(self.request(item)), move |reply| judge(&reply, at))
    }

    fn reach(&self) -> Reach {
        self.reach.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }
}

impl SendGrid {
    fn request(&self, item: &Item) -> HttpRequest {
        let content = &item.content;
        // Text comes first, or it is refused.
        let mut parts = vec![json!({ "type": "text/plain", "value": &*content.text })];
        if let Some(html) = &content.html {
            parts.push(json!({ "type": "text/html", "value": &**html }));
        }
        let mut body = json!({
            "from": party(&content.from), "subject": content.subject, "content": parts, "headers": header_map(&content.headers),
            // `custom_args` come back in every event.
            "personalizations": [{ "to": [party(&content.to)], "custom_args": { "delivery": item.delivery.as_str() } }],
        });
        if let Some(reply_to) = &content.reply_to {
            body["reply_to"] = party(reply_to);
        }
        HttpRequest::json(Method::Post, format!("{}/v3/mail/send", self.base), &body)
            .secret("authorization", format!("Bearer {}", self.token.reveal()))
    }
}

fn party(party: &Party) -> Value {
    let mut object = json!({ "email": party.address.as_string() });
    if !party.name.is_empty() {
        object["name"] = json!(party.name);
    }
    object
}

/// `at` is when it was asked: it says until when to wait as a time.
fn judge(reply: &Reply, at: Timestamp) -> Outcome {
    let message = |body: &Value| text_at(body, "/errors/0/message");
    if let Reply::Http(reply) = reply
        && reply.status == 403
    {
        return Outcome::Halt { reason: Reason::FailSmtpSender, detail: reply.said(message) };
    }
    let receipt = |reply: &HttpReply| {
        Some(reply.header("x-message-id").map_or_else(|| format!("HTTP {}", reply.status), str::to_owned))
    };
    match (outcome(KIND.idempotency, reply, receipt, message), reply) {
        (Outcome::Retry { reason, after: None, schedule, slower: true, detail }, Reply::Http(reply)) => {
            Outcome::Retry { reason, after: until_reset(reply, at), schedule, slower: true, detail }
        }
        (outcome, _) => outcome,
    }
}

/// `X-RateLimit-Reset` is a time in seconds since 1970.
fn until_reset(reply: &HttpReply, at: Timestamp) -> Option<SignedDuration> {
    let reset: i64 = reply.header("x-ratelimit-reset")?.trim().parse().ok()?;
    let wait = reset.checked_sub(at.as_second())?;
    (1..=3_600).contains(&wait).then(|| SignedDuration::from_secs(wait))
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = over_http::mistakes(settings.base_url.as_deref(), settings.connections);
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    let base = base(settings.base_url.as_deref(), "https://api.sendgrid.com");
    match host_and_port(&base) {
        Some((host, port)) if mistakes.is_empty() => Ok(Box::new(SendGrid {
            base,
            token: Secret::new(settings.token),
            reach: Reach::Network { host, port },
            connections: usize::from(settings.connections),
        })),
        _ => Err(mistakes),
    }
}
