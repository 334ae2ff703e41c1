//! Mail through Amazon SES, API v2 (<https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html>), as whole messages.
//!
//! Class E: it knows no key again, and tells later by the events of a configuration set what it took; the tag `delivery` is in each. Not
//! supported: its own templates and lists, keys that a role of the machine lends.

mod hear;
mod settings;

use connector::feedback::{Hearing, Inbound, NotHeard};
use connector::http::outcome;
use connector::{
    Built, Connector, Exchange, HttpReply, HttpRequest, Idempotency, Item, Kind, Method, Outcome, Reach,
    Reply, Request, Schedule, SettingsMistake, once, read_settings, schema_of,
};
use model::settings::ConnectorSettings;
use model::{Channel, Reason};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::aws_sign::Credentials;
use crate::over_http::{Api, base64, text_at};

/// Mail through Amazon SES.
pub const KIND: Kind = Kind {
    name: "ses",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Echo,
    audiences: None,
    records: None,
    summary: "Mail through Amazon SES.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

#[derive(Debug)]
struct Ses {
    api: Api,
    credentials: Credentials,
    configuration_set: Option<String>,
    topic: Option<String>,
}

impl Connector for Ses {
    fn hear(&self, inbound: &Inbound, answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        hear::hear(self.topic.as_deref().ok_or(NotHeard::NotSetUp)?, inbound, answers)
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

impl Ses {
    fn request(&self, item: &Item) -> HttpRequest {
        let mut body = json!({
            "FromEmailAddress": item.mail_from.as_string(),
            "Destination": { "ToAddresses": [item.rcpt_to.as_string()] },
            "Content": { "Raw": { "Data": base64(&item.bytes) } },
            "EmailTags": [{ "Name": "delivery", "Value": item.echo() }],
        });
        if let Some(set) = &self.configuration_set {
            body["ConfigurationSetName"] = json!(set);
        }
        let request =
            HttpRequest::json(Method::Post, format!("{}/v2/email/outbound-emails", self.api.base), &body);
        self.credentials.sign("ses", request, item.at)
    }
}

/// The error is named in a header; what stands behind a colon is an address of documentation.
fn judge(reply: &Reply) -> Outcome {
    let message = |body: &Value| text_at(body, "/message").or_else(|| text_at(body, "/Message"));
    if let Reply::Http(reply) = reply {
        let name = reply.header("x-amzn-errortype").unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        let detail = match name {
            "" => reply.said(message),
            name => format!("{name}: {}", reply.said(message)),
        };
        let halt = |reason, detail| Outcome::Halt { reason, detail };
        match (reply.status, name) {
            (400, "ThrottlingException" | "LimitExceededException") => {
                return Outcome::Retry {
                    reason: Reason::Remote429,
                    after: reply.retry_after(),
                    schedule: Schedule::Connect,
                    slower: true,
                    detail,
                };
            }
            (400, "MailFromDomainNotVerifiedException") => return halt(Reason::FailSmtpSender, detail),
            (400, "AccountSuspendedException" | "SendingPausedException") | (404, _) => {
                return halt(Reason::FailAuth, detail);
            }
            // It also says so of a sender that is not verified.
            (400, "MessageRejected") if detail.contains("not verified") => {
                return halt(Reason::FailSmtpSender, detail);
            }
            (400, "MessageRejected") => {
                return Outcome::Rejected { reason: Reason::FailSmtpPolicy, bounce: None, detail };
            }
            (_, _) => {}
        }
    }
    outcome(KIND.idempotency, reply, |reply: &HttpReply| text_at(&reply.json(), "/MessageId"), message)
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let own = format!("https://email.{}.amazonaws.com", settings.region);
    let api = Api::of(&own, settings.base_url.as_deref(), settings.connections, &mut mistakes);
    let credentials = Credentials::of(
        &settings.region,
        &settings.access_key_id,
        &settings.secret_access_key,
        settings.session_token.as_deref(),
        &mut mistakes,
    );
    if settings.configuration_set.as_deref().is_some_and(str::is_empty) {
        mistakes.push(SettingsMistake::new("configuration_set", "expected the name of a configuration set"));
    }
    if settings
        .webhook_topic
        .as_deref()
        .is_some_and(|topic| !topic.starts_with("arn:") || !topic.contains(":sns:"))
    {
        mistakes.push(SettingsMistake::new(
            "webhook_topic",
            "expected the ARN of an SNS topic, such as `arn:aws:sns:eu-central-1:123456789012:mail`",
        ));
    }
    match api {
        Some(api) if mistakes.is_empty() => Ok(Box::new(Ses {
            credentials,
            configuration_set: settings.configuration_set,
            topic: settings.webhook_topic,
            api,
        })),
        _ => Err(mistakes),
    }
}
