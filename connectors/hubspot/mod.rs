//! Records at HubSpot: contacts, companies, deals, tasks and objects of one's own, through the CRM API, version `v3` or one of those that are named
//! by a month (<https://developers.hubspot.com/docs/api/crm/understanding-the-crm>).
//!
//! Class S: a record is written by its key where HubSpot holds it unique, and by its id otherwise. Not supported: associations, lists, OAuth,
//! deleting, sensitive properties.

mod answers;
mod settings;

use connector::{
    Built, Connector, Described, Exchange, HttpRequest, Idempotency, Kind, Looked, Method, Object, Reach,
    RecordKind, Records, Request, Row, SettingsMistake, Write, Wrote, ask, ask_first, in_order, once,
    read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::Secret;
use model::settings::ConnectorSettings;
use serde_json::{Map, Value, json};

pub use self::settings::Settings;
use crate::crm::{Words, as_time, is_segment, no_object, rejected, theirs};
use crate::over_http::{Api, secret_mistake};

/// Records at HubSpot.
pub const KIND: Kind = Kind {
    name: "hubspot",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: None,
    records: Some(RecordKind { rows_max: 100, reads: true }),
    summary: "Contacts, companies, deals and tasks at HubSpot.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// Plain words for objects.
const OBJECTS: Words = &[
    ("contact", "contacts"),
    ("company", "companies"),
    ("deal", "deals"),
    ("task", "tasks"),
    ("ticket", "tickets"),
];
/// Plain words for fields of tasks.
const TASK: Words = &[
    ("subject", "hs_task_subject"),
    ("body", "hs_task_body"),
    ("due", "hs_timestamp"),
    ("owner", "hubspot_owner_id"),
    ("priority", "hs_task_priority"),
    ("status", "hs_task_status"),
    ("type", "hs_task_type"),
];
/// HubSpot's id of a record, as a property.
const ID: &str = "hs_object_id";
/// Further addresses of a contact, by which HubSpot knows it, too: one text, with `;` between them.
const MORE_EMAILS: &str = "hs_additional_emails";
/// Records of a page of a search: as many as HubSpot gives.
const PAGE: usize = 200;
/// Pages of a search that are read.
const PAGES_MAX: usize = 5;

#[derive(Debug)]
struct HubSpot {
    api: Api,
    token: Secret,
    version: String,
}

/// Where requests about an object go, and what their words are.
#[derive(Debug, Clone)]
struct Names {
    /// HubSpot's word for the object.
    object: String,
    words: Words,
    /// The property by which a record is found.
    key: String,
}

impl Names {
    /// `None`: a name that cannot stand in a path.
    fn of(object: &Object) -> Option<Self> {
        let name = theirs(OBJECTS, &object.name);
        let words = if name == "tasks" { TASK } else { &[] };
        let key = theirs(words, &object.key).to_owned();
        is_segment(name).then(|| Self { object: name.to_owned(), words, key })
    }

    fn property<'a>(&self, field: &'a str) -> &'a str {
        theirs(self.words, field)
    }

    /// What is written into properties, all of which are texts.
    fn properties(&self, row: &Row) -> Map<String, Value> {
        let text = |field: &str, value: &Value| match (self.property(field), value) {
            (_, Value::Null) => String::new(),
            (_, Value::String(text)) if self.words.is_empty() || field != "due" => text.clone(),
            (_, value) => match as_time(value) {
                Value::String(text) => text,
                value => value.to_string(),
            },
        };
        let written = row.fields.iter();
        written.map(|(field, value)| (self.property(field).to_owned(), text(field, value).into())).collect()
    }

    /// The same, with the key where the record is to be made. One that is there keeps its own: it may be a contact that HubSpot knows by a
    /// further address, which is not to become its first.
    fn properties_with_key(&self, row: &Row) -> Map<String, Value> {
        let mut properties = self.properties(row);
        if row.id.is_some() {
            return properties;
        }
        properties.insert(self.key.clone(), Value::from(row.key.clone()));
        properties
    }
}

impl Connector for HubSpot {
    fn records(&self) -> Option<&dyn Records> {
        Some(self)
    }

    fn reach(&self) -> Reach {
        self.api.reach.clone()
    }

    fn connections(&self) -> usize {
        self.api.connections
    }
}

impl Records for HubSpot {
    fn describe(&self, object: &Object, _at: Timestamp) -> Box<dyn Exchange<Described>> {
        let Some(names) = Names::of(object) else { return settled(no_object(&object.name).into()) };
        let mut properties = vec![names.key.clone()];
        for field in &object.fields {
            let property = names.property(field).to_owned();
            if !properties.contains(&property) {
                properties.push(property);
            }
        }
        let inputs: Vec<Value> = properties.iter().map(|name| json!({ "name": name })).collect();
        let body = json!({ "archived": false, "dataSensitivity": "non_sensitive", "inputs": inputs });
        let request = self.request(&self.url("properties", &names, "batch/read"), &body);
        let object = object.clone();
        ask(request, move |reply| answers::described(&reply, &names, &object))
    }

    fn read(
        &self,
        object: &Object,
        is_unique: bool,
        keys: &[String],
        _at: Timestamp,
    ) -> Box<dyn Exchange<Looked>> {
        let Some(names) = Names::of(object) else { return settled(no_object(&object.name).into()) };
        let mut properties = vec![names.key.clone()];
        let wanted = object.fields.iter().map(|field| names.property(field));
        let more = (names.object == "contacts" && names.key == "email" && is_unique).then_some(MORE_EMAILS);
        for property in wanted.chain(more) {
            if properties.iter().all(|known| known != property) {
                properties.push(property.to_owned());
            }
        }
        let reading = answers::Reading { names, fields: object.fields.clone(), keys: keys.to_vec() };
        if !is_unique {
            let first = self.search(&reading.names, keys, &properties);
            return page("0", first, reading, Vec::new(), PAGES_MAX);
        }
        let inputs: Vec<Value> = keys.iter().map(|key| json!({ "id": key })).collect();
        let mut body = json!({ "inputs": inputs, "properties": properties, "propertiesWithHistory": [] });
        if reading.names.key != ID {
            body["idProperty"] = Value::from(reading.names.key.clone());
        }
        let request = self.request(&self.url("objects", &reading.names, "batch/read"), &body);
        ask(request, move |reply| answers::read(&reply, &reading))
    }

    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>> {
        let Some(names) = Names::of(&write.object) else {
            return settled(no_object(&write.object.name).into());
        };
        // Without an id, a record is only made.
        let ids: Option<Vec<&str>> = match names.key == ID {
            true => Some(write.rows.iter().map(|row| row.key.as_str()).collect()),
            false => write.rows.iter().map(|row| row.id.as_deref()).collect(),
        };
        let (verb, inputs): (_, Vec<Value>) = match ids {
            _ if write.is_unique && names.key != ID => {
                let input = |row: &Row| {
                    json!({
                        "id": row.key, "idProperty": names.key, "objectWriteTraceId": row.trace,
                        "properties": names.properties_with_key(row),
                    })
                };
                ("batch/upsert", write.rows.iter().map(input).collect())
            }
            Some(ids) => {
                let input = |(row, id): (&Row, &str)| {
                    let properties = names.properties(row);
                    json!({ "id": id, "objectWriteTraceId": row.trace, "properties": properties })
                };
                ("batch/update", write.rows.iter().zip(ids).map(input).collect())
            }
            None if write.rows.iter().all(|row| row.id.is_none()) => {
                let input = |row: &Row| {
                    json!({
                        "associations": [], "objectWriteTraceId": row.trace,
                        "properties": names.properties_with_key(row),
                    })
                };
                ("batch/create", write.rows.iter().map(input).collect())
            }
            None => {
                let detail = "some of the records are there, and some are not: they are not written together";
                return settled(rejected(detail.to_owned()).into());
            }
        };
        let request = self.request(&self.url("objects", &names, verb), &json!({ "inputs": inputs }));
        let rows = write.rows.clone();
        once(request, move |reply| answers::wrote(&reply, &names, &rows))
    }
}

impl HubSpot {
    /// `part` is `objects` or `properties`.
    fn url(&self, part: &str, names: &Names, verb: &str) -> String {
        let (base, version, object) = (&self.api.base, &self.version, &names.object);
        match version.as_str() {
            "v3" => format!("{base}/crm/v3/{part}/{object}/{verb}"),
            month => format!("{base}/crm/{part}/{month}/{object}/{verb}"),
        }
    }

    fn request(&self, url: &str, body: &Value) -> Request {
        let bearer = format!("Bearer {}", self.token.reveal());
        Request::Http(HttpRequest::json(Method::Post, url, body).secret("authorization", bearer))
    }

    /// How pages of a search are asked for, by where they begin.
    fn search(
        &self,
        names: &Names,
        keys: &[String],
        properties: &[String],
    ) -> impl Fn(&str) -> Request + Send + 'static {
        // Texts are compared in lower case, and are to be given so.
        let values: Vec<String> = keys.iter().map(|key| key.trim().to_lowercase()).collect();
        let filter = json!({ "operator": "IN", "propertyName": names.key, "values": values });
        let body = json!({
            "after": "0", "filterGroups": [{ "filters": [filter] }], "limit": PAGE, "properties": properties, "sorts": [],
        });
        let url = self.url("objects", names, "search");
        let bearer = format!("Bearer {}", self.token.reveal());
        move |after| {
            let mut body = body.clone();
            body["after"] = Value::from(after);
            Request::Http(
                HttpRequest::json(Method::Post, url.as_str(), &body).secret("authorization", bearer.as_str()),
            )
        }
    }
}

/// One page, and those after it.
fn page(
    from: &str,
    request: impl Fn(&str) -> Request + Send + 'static,
    reading: answers::Reading,
    mut found: answers::Keyed,
    left: usize,
) -> Box<dyn Exchange<Looked>> {
    ask_first(request(from), move |reply| match answers::page(&reply, &reading) {
        Err(outcome) => settled(outcome.into()),
        Ok((records, next)) => {
            found.extend(records);
            match next {
                None => settled(Looked::Found(in_order(&reading.keys, found))),
                Some(_) if left <= 1 => {
                    let detail = format!("more than {} records have these keys", PAGE * PAGES_MAX);
                    settled(rejected(detail).into())
                }
                Some(next) => page(&next, request, reading, found, left - 1),
            }
        }
    })
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let base_url = settings.base_url.as_deref();
    let api = Api::of("https://api.hubapi.com", base_url, settings.connections, &mut mistakes);
    mistakes.extend(secret_mistake("token", &settings.token));
    if settings.version != "v3" && !is_month(&settings.version) {
        mistakes
            .push(SettingsMistake::new("version", "expected `v3`, or a year and a month, such as 2026-03"));
    }
    match api {
        Some(api) if mistakes.is_empty() => {
            let token = Secret::new(settings.token);
            Ok(Box::new(HubSpot { api, token, version: settings.version }))
        }
        _ => Err(mistakes),
    }
}

/// A year and a month, with a dash between them.
fn is_month(text: &str) -> bool {
    let is_number =
        |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('-').is_some_and(|(year, month)| {
        is_number(year, 4)
            && is_number(month, 2)
            && month.parse::<u8>().is_ok_and(|month| (1..=12).contains(&month))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_v3_or_a_month() {
        for (text, is_one) in
            [("2026-03", true), ("2026-13", false), ("2026-3", false), ("v4", false), ("2026-\u{e9}", false)]
        {
            assert_eq!(is_month(text), is_one, "{text}");
        }
    }

    #[test]
    fn fields_of_tasks_have_plain_words_and_all_values_are_texts() {
        let object = |name: &str| Object { name: name.to_owned(), key: "subject".to_owned(), fields: vec![] };
        let row = Row {
            key: "Call".to_owned(),
            id: None,
            fields: [
                ("due".to_owned(), json!("2026-03-02")),
                ("priority".to_owned(), json!("HIGH")),
                ("owner".to_owned(), json!(7)),
                ("hs_task_status".to_owned(), json!("NOT_STARTED")),
                ("is_urgent".to_owned(), json!(true)),
                ("body".to_owned(), Value::Null),
            ]
            .into(),
            trace: "t".to_owned(),
        };
        for name in ["task", "tasks"] {
            assert_eq!(
                Value::Object(Names::of(&object(name)).unwrap().properties_with_key(&row)),
                json!({
                    "hs_task_body": "", "hs_timestamp": "2026-03-02T00:00:00Z", "hs_task_status": "NOT_STARTED",
                    "is_urgent": "true", "hubspot_owner_id": "7", "hs_task_priority": "HIGH", "hs_task_subject": "Call",
                })
            );
        }
        let elsewhere = Names::of(&object("deal")).unwrap();
        assert_eq!((elsewhere.object.as_str(), elsewhere.property("due")), ("deals", "due"));
        assert_eq!(elsewhere.properties(&row)["due"], "2026-03-02");
        assert!(Names::of(&object("../contacts")).is_none());
    }
}
