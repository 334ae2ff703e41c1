//! Messages, audiences and records for a service of one's own, as Standard Webhooks 1.0 (<https://www.standardwebhooks.com>), signed with HMAC-SHA256.
//!
//! Class A by that contract: `webhook-id` is the same for every attempt, and whoever receives it acts on it once. Not supported: `v1a` signatures.

mod settings;
pub mod trial;

use connector::feedback::{Hearing, Inbound, NotHeard, Told, ToldKind, read_echo};
use connector::http::{host_and_port, outcome};
use connector::{
    AudienceKind, Audiences, Built, Change, Changed, Connector, Described, Exchange, HttpReply, HttpRequest,
    Idempotency, Identifier, Item, Kind, Member, Method, Object, Opened, Outcome, Reach, RecordKind, Records,
    Reply, Request, Said, SettingsMistake, Write, Written, Wrote, once, read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::profile::Profile;
use model::settings::ConnectorSettings;
use model::{Channel, Reason};
use serde_json::{Value, json};

pub use self::settings::Settings;
use crate::crm::written_only;
use crate::identifiers;
use crate::over_http::{
    WEBHOOK_KEY, base64, connections_mistake, hmac_sha256, standard_event, text_at, webhook_key,
};

/// Messages for a service of one's own.
pub const KIND: Kind = Kind {
    name: "webhook",
    messages: Some(Channel::Email),
    idempotency: Idempotency::Key,
    audiences: Some(AudienceKind {
        identifiers: &[
            Identifier { column: "id", normaliser: "as it is/1", is_hashed: false },
            Identifier { column: "email", normaliser: "lower case/1", is_hashed: false },
        ],
        // Standard Webhooks ask for bodies of less than 20 kB.
        members_max: 100,
        bytes_max: 16 * 1024,
        people_min: 0,
        renew_after: None,
    }),
    records: Some(RecordKind { rows_max: 50, reads: false }),
    summary: "Messages, audiences and records for a service of your own, as signed webhooks: it does with them what it likes.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

struct Webhook {
    url: String,
    /// The present secret, and the one before it while it is being replaced.
    keys: Vec<Vec<u8>>,
    reach: Reach,
    connections: usize,
    private: bool,
    columns: Vec<String>,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Webhook").field("reach", &self.reach).finish_non_exhaustive()
    }
}

impl Connector for Webhook {
    fn exchange(&self, item: &Item) -> Box<dyn Exchange> {
        once(Request::Http(self.request(item)), |reply| judge(&reply))
    }

    fn audiences(&self) -> Option<&dyn Audiences> {
        Some(self)
    }

    fn records(&self) -> Option<&dyn Records> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        self.reach.clone()
    }

    fn connections(&self) -> usize {
        self.connections
    }

    fn hear(&self, inbound: &Inbound, _answers: &[HttpReply]) -> Result<Hearing, NotHeard> {
        let (id, event) = standard_event(&self.keys, inbound, "webhook")?;
        let text = |path: &str| text_at(&event, path).unwrap_or_default();
        let kind = match text("/type").as_str() {
            "message.accepted" => ToldKind::Accepted,
            "message.delivered" => ToldKind::Delivered,
            "message.bounced" if event.pointer("/data/permanent") == Some(&Value::Bool(true)) => {
                ToldKind::BouncedForGood
            }
            "message.bounced" => ToldKind::Bounced,
            "message.complained" => ToldKind::Complained,
            "message.unsubscribed" => ToldKind::Unsubscribed,
            "message.opened" => ToldKind::Opened,
            "message.clicked" => ToldKind::Clicked,
            _ => return Ok(Hearing::nothing()),
        };
        let Some(about) = read_echo(&text("/data/echo")) else { return Ok(Hearing::nothing()) };
        let at = text("/timestamp").parse().unwrap_or(inbound.at);
        Ok(Hearing::Told(vec![Told { about, proof: None, kind, at, event: id }]))
    }

    fn is_private(&self) -> bool {
        self.private
    }
}

impl Audiences for Webhook {
    fn member(&self, profile: &Profile) -> Option<Member> {
        identifiers::columns(profile, &self.columns)
    }

    fn open(&self, name: &str, _at: Timestamp) -> Box<dyn Exchange<Opened>> {
        settled(Opened::Found { id: name.to_owned() })
    }

    fn change(&self, change: &Change) -> Box<dyn Exchange<Changed>> {
        let members = change.members.len();
        once(Request::Http(self.change_request(change)), move |reply| {
            match judge_each(&reply, "member", members) {
                Ok(each) => Changed::Each(each),
                Err(outcome) => Changed::All(outcome),
            }
        })
    }
}

impl Records for Webhook {
    fn describe(&self, object: &Object, _at: Timestamp) -> Box<dyn Exchange<Described>> {
        settled(written_only(object))
    }

    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>> {
        let count = write.rows.len();
        once(Request::Http(self.write_request(write)), move |reply| {
            match judge_each(&reply, "record", count) {
                Ok(each) => Wrote::Each(each.into_iter().map(Written::from).collect()),
                Err(outcome) => Wrote::All(outcome),
            }
        })
    }
}

/// A yes may name those of whom it is none: `{"rejected": [{"member": 3, "why": "..."}]}`, by their places.
///
/// # Errors
/// What holds for all of them alike.
fn judge_each(reply: &Reply, what: &str, count: usize) -> Result<Vec<Outcome>, Outcome> {
    let outcome = judge(reply);
    let (Outcome::Accepted { .. }, Reply::Http(answer)) = (&outcome, reply) else {
        return Err(outcome);
    };
    let answer = answer.json();
    let Some(rejected) = answer["rejected"].as_array().filter(|rejected| !rejected.is_empty()) else {
        return Err(outcome);
    };
    let mut each = vec![outcome; count];
    for one in rejected {
        let place = one[what].as_u64().and_then(|place| usize::try_from(place).ok());
        if let Some(outcome) = place.and_then(|place| each.get_mut(place)) {
            let detail = Said::of(one["why"].as_str().unwrap_or("no reason is given")).to_string();
            *outcome = Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail };
        }
    }
    Ok(each)
}

impl Webhook {
    fn request(&self, item: &Item) -> HttpRequest {
        let content = &item.content;
        let body = json!({
            "type": "message.email",
            "timestamp": item.at.to_string(),
            "data": {
                "delivery": item.delivery.as_str(), "echo": item.echo(), "attempt": item.attempt, "playbook": item.playbook.as_str(),
                "step": item.step.as_str(), "template": item.template.as_str(), "from": content.from.to_string(),
                "reply_to": content.reply_to.as_ref().map(ToString::to_string), "to": content.to.address.as_string(),
                "to_name": content.to.name, "subject": content.subject, "html": content.html.as_deref(), "text": &*content.text,
                "headers": crate::over_http::header_map(&content.headers),
            },
        });
        self.signed(item.delivery.as_str(), item.at, &body)
    }

    fn change_request(&self, change: &Change) -> HttpRequest {
        let told: Vec<Value> =
            change.members.iter().map(|member| Value::Object(member.identifiers())).collect();
        let body = json!({
            "type": "audience.changed",
            "timestamp": change.at.to_string(),
            "data": { "audience": change.audience, "do": change.verb.as_str(), "members": told },
        });
        self.signed(&format!("aud_{}", change.key), change.at, &body)
    }

    fn write_request(&self, write: &Write) -> HttpRequest {
        let rows = write.rows.iter();
        let records: Vec<Value> = rows
            .map(|row| json!({ "match": { &write.object.key: row.key }, "fields": row.fields }))
            .collect();
        let body = json!({
            "type": "records.changed",
            "timestamp": write.at.to_string(),
            "data": { "object": write.object.name, "records": records },
        });
        self.signed(&format!("rec_{}", write.key), write.at, &body)
    }

    /// A request under this id, signed as of a time.
    fn signed(&self, id: &str, at: Timestamp, body: &Value) -> HttpRequest {
        let seconds = at.as_second();
        let signed = format!("{id}.{seconds}.{body}");
        let signatures: Vec<String> = self
            .keys
            .iter()
            .map(|key| format!("v1,{}", base64(&hmac_sha256(key, signed.as_bytes()))))
            .collect();
        HttpRequest::json(Method::Post, &*self.url, body)
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signatures.join(" "))
    }
}

/// Any 2xx is a yes; 410 says that nobody is there any more.
fn judge(reply: &Reply) -> Outcome {
    if let Reply::Http(reply) = reply
        && reply.status == 410
    {
        let detail = "HTTP 410: the receiver says that it is gone".to_owned();
        return Outcome::Halt { reason: Reason::FailRemote4xx, detail };
    }
    let receipt = |reply: &HttpReply| Some(format!("HTTP {}", reply.status));
    outcome(KIND.idempotency, reply, receipt, |_| None)
}

fn build(settings: &ConnectorSettings) -> Built {
    Ok(Box::new(made(settings)?))
}

fn made(settings: &ConnectorSettings) -> Result<Webhook, Vec<SettingsMistake>> {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::from_iter(connections_mistake(settings.connections));
    if let Some(mistake) =
        connector::http::base_url_mistake(settings.url.split('?').next().unwrap_or_default())
    {
        mistakes.push(SettingsMistake::new("url", mistake));
    }
    let mut keys = Vec::new();
    for (name, text) in
        [("secret", Some(&settings.secret)), ("secret_before", settings.secret_before.as_ref())]
    {
        match text.map(|text| webhook_key(text)) {
            Some(None) => mistakes.push(SettingsMistake::new(name, WEBHOOK_KEY)),
            Some(Some(bytes)) => keys.push(bytes),
            None => {}
        }
    }
    match host_and_port(&settings.url) {
        Some((host, port)) if mistakes.is_empty() => Ok(Webhook {
            reach: Reach::Network { host, port },
            connections: usize::from(settings.connections),
            private: settings.private,
            columns: settings.columns,
            url: settings.url,
            keys,
        }),
        _ => Err(mistakes),
    }
}

#[cfg(test)]
mod tests;
