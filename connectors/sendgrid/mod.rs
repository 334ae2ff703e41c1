//! Mail through SendGrid's API, v3 (<https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>).
//!
//! Class E: it knows no key again, and tells later by its events what it took. Accounts in the EU: `base_url: https://api.eu.sendgrid.com`.
//! Not supported: several people in one request, its own templates and suppression groups.

mod settings;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::outcome;
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, SettingsMistake, once, read_settings, schema_of,
};
use jiff::{SignedDuration, Timestamp};
use model::mail::Party;
use model::settings::ConnectorSettings;
use model::{Channel, Reason, Secret};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::over_http::{self, Api, header_map, text_at};

/// Mail through SendGrid's API.
pub const KIND: Kind = Kind {
    name: "sendgrid",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Echo,
    audiences: None,
    records: None,
    summary: "Mail through SendGrid's API.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct SendGrid {
    api: Api,
    token: Secret,
    /// The public key of its event webhook: an uncompressed point of P-256.
    hears: Option<Vec<u8>>,
}

impl Connector for SendGrid {
    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let key = self.hears.as_ref().ok_or(NotHeard::NotSetUp)?;
        let stamp = inbound.header("x-twilio-email-event-webhook-timestamp");
        let signature = STANDARD
            .decode(inbound.header("x-twilio-email-event-webhook-signature"))
            .map_err(|_| NotHeard::Forged)?;
        let signed = [stamp.as_bytes(), &inbound.body].concat();
        let verified = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed, &signature);
        if verified.is_err() || !inbound.is_about_now(stamp) {
            return Err(NotHeard::Forged);
        }
        let events: Vec<Value> = serde_json::from_slice(&inbound.body).map_err(|_| NotHeard::Garbled)?;
        Ok(Hearing::Told(events.iter().filter_map(told).collect()))
    }

    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        let at = item.at;
        once(Request::Http(self.request(item)), move |reply| judge(&reply, at))
    }

    fn reach(&self) -> Reach {
        self.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.api.connections
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
            "personalizations": [{ "to": [party(&content.to)], "custom_args": { "delivery": item.echo() } }],
        });
        if let Some(reply_to) = &content.reply_to {
            body["reply_to"] = party(reply_to);
        }
        HttpRequest::json(Method::Post, format!("{}/v3/mail/send", self.api.base), &body)
            .secret("authorization", format!("Bearer {}", self.token.reveal()))
    }
}

/// One event; `None`: it is none of ours, or says nothing that counts.
fn told(event: &Value) -> Option<Told> {
    let text = |path: &str| text_at(event, path).unwrap_or_default();
    let kind = match (text("/event").as_str(), text("/type").as_str()) {
        ("processed", _) => ToldKind::Accepted,
        ("delivered", _) => ToldKind::Delivered,
        // `blocked` is a server's mood.
        ("bounce", "blocked") => ToldKind::Bounced,
        ("bounce", _) => ToldKind::BouncedForGood,
        ("dropped", _) if matches!(text("/reason").as_str(), "Bounced Address" | "Invalid") => {
            ToldKind::BouncedForGood
        }
        ("dropped", _) if text("/reason") == "Spam Reporting Address" => ToldKind::Complained,
        ("dropped", _) if text("/reason") == "Unsubscribed Address" => ToldKind::Unsubscribed,
        ("spamreport", _) => ToldKind::Complained,
        ("unsubscribe" | "group_unsubscribe", _) => ToldKind::Unsubscribed,
        ("open", _) => ToldKind::Opened,
        ("click", _) => ToldKind::Clicked,
        _ => return None,
    };
    let about = read_echo(&text("/delivery"))?;
    let at = event
        .pointer("/timestamp")
        .and_then(Value::as_i64)
        .and_then(|seconds| Timestamp::from_second(seconds).ok())?;
    Some(Told {
        about,
        proof: None,
        kind,
        at,
        event: text_at(event, "/sg_event_id").filter(|id| !id.is_empty())?,
    })
}

/// The point in a key as SendGrid shows it: base64 of a SubjectPublicKeyInfo of P-256 (RFC 5480), which ends with it.
fn point(text: &str) -> Option<Vec<u8>> {
    /// What stands before the point.
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let der = STANDARD.decode(text.trim()).ok()?;
    let point = der.strip_prefix(&HEAD)?;
    (point.len() == 65 && point[0] == 4).then(|| point.to_vec())
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
    let mut mistakes = Vec::new();
    let api = Api::of(
        "https://api.sendgrid.com",
        settings.base_url.as_deref(),
        settings.connections,
        &mut mistakes,
    );
    mistakes.extend(over_http::secret_mistake("token", &settings.token));
    let hears = settings.webhook_public_key.as_deref().map(point);
    if hears == Some(None) {
        mistakes.push(SettingsMistake::new(
            "webhook_public_key",
            "expected the verification key as SendGrid shows it: `MFkwEwYHKoZIzj0CAQ...`",
        ));
    }
    match api {
        Some(api) if mistakes.is_empty() => {
            Ok(Box::new(SendGrid { token: Secret::new(settings.token), hears: hears.flatten(), api }))
        }
        _ => Err(mistakes),
    }
}
