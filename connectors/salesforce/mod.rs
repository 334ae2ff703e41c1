//! Records at Salesforce: contacts, accounts, opportunities, leads, tasks and objects of one's own, through its REST API, version 67.0
//! (<https://developer.salesforce.com/docs/atlas.en-us.api_rest.meta/api_rest>).
//!
//! Class S: a record is written by an external id where there is one, and by its own id otherwise. Each conversation begins with a token.
//! Not supported: Bulk API, deleting, fields of other records (`Account.Name`), record types, attachments.

mod answers;
mod login;
mod settings;
mod soql;

use std::collections::{BTreeMap, VecDeque};

use connector::http::{base_url_mistake, host_and_port};
use connector::{
    Built, Connector, Described, Exchange, HttpRequest, Idempotency, Kind, Looked, Method, Object, Outcome,
    Reach, RecordKind, Records, Request, Row, SettingsMistake, Write, Wrote, ask, ask_first, in_order, once,
    read_settings, schema_of, settled,
};
use jiff::Timestamp;
use model::Secret;
use model::settings::ConnectorSettings;
use serde_json::{Map, Value, json};

use self::login::Login;
pub use self::settings::Settings;
use crate::crm::{Words, as_day, halted, rejected, theirs};
use crate::oauth::{PRIVATE_KEY, Signer};
use crate::over_http::{Api, secret_mistake};

/// Records at Salesforce.
pub const KIND: Kind = Kind {
    name: "salesforce",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: None,
    // It takes 200 to write; the keys of so many would make a long URL.
    records: Some(RecordKind { rows_max: 100, reads: true }),
    summary: "Contacts, accounts, opportunities, leads and tasks at Salesforce.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// Plain words for objects.
const OBJECTS: Words = &[
    ("contact", "Contact"),
    ("company", "Account"),
    ("account", "Account"),
    ("deal", "Opportunity"),
    ("opportunity", "Opportunity"),
    ("lead", "Lead"),
    ("task", "Task"),
];
/// Plain words for fields of tasks.
const TASK: Words = &[
    ("subject", "Subject"),
    ("body", "Description"),
    ("due", "ActivityDate"),
    ("owner", "OwnerId"),
    ("priority", "Priority"),
    ("status", "Status"),
    ("type", "TaskSubtype"),
];
/// Salesforce's id of a record, as a field.
const ID: &str = "Id";

#[derive(Debug)]
struct Salesforce {
    api: Api,
    login: Login,
    version: String,
}

/// Salesforce's words for an object.
#[derive(Debug, Clone)]
struct Names {
    object: String,
    words: Words,
    /// The field by which a record is found.
    key: String,
}

impl Names {
    /// # Errors
    /// A name that is none, and would be read as something else.
    fn of(object: &Object) -> Result<Self, Outcome> {
        let name = theirs(OBJECTS, &object.name);
        let words = if name == "Task" { TASK } else { &[] };
        let key = theirs(words, &object.key);
        let fields = object.fields.iter().map(|field| theirs(words, field));
        if let Some(wrong) = [name, key].into_iter().chain(fields).find(|name| !soql::is_name(name)) {
            let wrong: String = wrong.chars().take(60).collect();
            return Err(halted(format!(
                "`{wrong}` is no name at Salesforce: it has letters, digits and `_`"
            )));
        }
        Ok(Self { object: name.to_owned(), words, key: key.to_owned() })
    }

    fn field<'a>(&self, field: &'a str) -> &'a str {
        theirs(self.words, field)
    }

    /// A value as it is written.
    fn value(&self, field: &str, value: &Value) -> Value {
        if self.field(field) == "ActivityDate" { as_day(value) } else { value.clone() }
    }

    /// The fields that are written in another form than they came in.
    fn reformed(&self, row: &Row) -> BTreeMap<String, Value> {
        let written = row.fields.iter().map(|(field, value)| (field, value, self.value(field, value)));
        let changed = written.filter(|(_, value, written)| *value != written);
        changed.map(|(field, _, written)| (field.clone(), written)).collect()
    }

    /// A record as it is written: its type, what it is known by, and its fields.
    fn record(&self, row: &Row, known_by: Option<(&str, &str)>) -> Value {
        let mut record = Map::new();
        record.insert("attributes".to_owned(), json!({ "type": self.object }));
        for (field, value) in &row.fields {
            record.insert(self.field(field).to_owned(), self.value(field, value));
        }
        if let Some((field, value)) = known_by {
            record.insert(field.to_owned(), Value::from(value));
        }
        Value::Object(record)
    }
}

impl Connector for Salesforce {
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

impl Records for Salesforce {
    fn describe(&self, object: &Object, at: Timestamp) -> Box<dyn Exchange<Described>> {
        let names = match Names::of(object) {
            Ok(names) => names,
            Err(outcome) => return settled(outcome.into()),
        };
        let url = self.url(&format!("sobjects/{}/describe", names.object));
        let object = object.clone();
        self.login.with_token(&self.api.base, at, move |token| {
            ask(get(&url, token), move |reply| answers::described(&reply, &names, &object))
        })
    }

    fn read(
        &self,
        object: &Object,
        _is_unique: bool,
        keys: &[String],
        at: Timestamp,
    ) -> Box<dyn Exchange<Looked>> {
        let names = match Names::of(object) {
            Ok(names) => names,
            Err(outcome) => return settled(outcome.into()),
        };
        let mut fields = vec![ID];
        for field in
            [names.key.as_str()].into_iter().chain(object.fields.iter().map(|field| names.field(field)))
        {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        let urls = soql::questions(&self.url("query/"), &names.object, &fields, &names.key, keys);
        let Some(urls) = urls else {
            return settled(rejected("a key is too long to be asked for".to_owned()).into());
        };
        let reading = answers::Reading { names, fields: object.fields.clone(), keys: keys.to_vec() };
        self.login.with_token(&self.api.base, at, move |token| {
            let questions = urls.iter().map(|url| get(url, token)).collect();
            answer_each(questions, reading, Vec::new())
        })
    }

    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>> {
        let names = match Names::of(&write.object) {
            Ok(names) => names,
            Err(outcome) => return settled(outcome.into()),
        };
        let rows = write.rows.iter();
        let (method, path, records): (_, _, Vec<Value>) = if names.key == ID {
            let records = rows.map(|row| names.record(row, Some((ID, &row.key)))).collect();
            (Method::Patch, "composite/sobjects".to_owned(), records)
        } else if write.is_unique {
            let path = format!("composite/sobjects/{}/{}", names.object, names.key);
            let records = rows.map(|row| names.record(row, Some((&names.key, &row.key)))).collect();
            (Method::Patch, path, records)
        } else if write.rows.iter().all(|row| row.id.is_none()) {
            let records = rows.map(|row| names.record(row, Some((&names.key, &row.key)))).collect();
            (Method::Post, "composite/sobjects".to_owned(), records)
        } else {
            let known_by = |row: &Row| Some(names.record(row, Some((ID, row.id.as_deref()?))));
            let Some(records) = rows.map(known_by).collect() else {
                let detail = "some of the records are there, and some are not: they are not written together";
                return settled(rejected(detail.to_owned()).into());
            };
            (Method::Patch, "composite/sobjects".to_owned(), records)
        };
        let body = json!({ "allOrNone": false, "records": records });
        let request = HttpRequest::json(method, self.url(&path), &body);
        let stands: Vec<_> = write.rows.iter().map(|row| names.reformed(row)).collect();
        self.login.with_token(&self.api.base, write.at, move |token| {
            let request = request.secret("authorization", format!("Bearer {token}"));
            once(Request::Http(request), move |reply| answers::wrote(&reply, &stands))
        })
    }
}

impl Salesforce {
    fn url(&self, path: &str) -> String {
        format!("{}/services/data/v{}/{path}", self.api.base, self.version)
    }
}

fn get(url: &str, token: &str) -> Request {
    let request = HttpRequest::get(url);
    Request::Http(request.secret("authorization", format!("Bearer {token}")))
}

/// Asks one after the other.
fn answer_each(
    mut questions: VecDeque<Request>,
    reading: answers::Reading,
    mut found: answers::Keyed,
) -> Box<dyn Exchange<Looked>> {
    let Some(question) = questions.pop_front() else {
        return settled(Looked::Found(in_order(&reading.keys, found)));
    };
    ask_first(question, move |reply| match answers::found(&reply, &reading) {
        Err(outcome) => settled(outcome.into()),
        Ok(records) => {
            found.extend(records);
            answer_each(questions, reading, found)
        }
    })
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    if let Some(mistake) = domain_mistake(&settings.my_domain) {
        mistakes.push(SettingsMistake::new("my_domain", mistake));
    }
    let base_url = settings.base_url.as_deref();
    let api = Api::of(&settings.my_domain, base_url, settings.connections, &mut mistakes);
    mistakes.extend(secret_mistake("client_id", &settings.client_id));
    if let Some(mistake) = base_url_mistake(&settings.audience) {
        mistakes.push(SettingsMistake::new("audience", mistake));
    }
    let digits = settings.version.strip_suffix(".0").unwrap_or_default();
    if !(1..=3).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        mistakes.push(SettingsMistake::new("version", "expected a version such as 67.0"));
    }
    let version = settings.version.clone();
    match (api, login(settings, &mut mistakes)) {
        (Some(api), Some(login)) if mistakes.is_empty() => Ok(Box::new(Salesforce { api, login, version })),
        _ => Err(mistakes),
    }
}

/// What the settings say of how to come in.
fn login(settings: Settings, mistakes: &mut Vec<SettingsMistake>) -> Option<Login> {
    let client_id = settings.client_id;
    match (settings.private_key, settings.username, settings.client_secret) {
        (Some(pem), Some(username), _) => {
            let signer = Signer::of(&pem);
            if signer.is_none() {
                mistakes.push(SettingsMistake::new("private_key", PRIVATE_KEY));
            }
            let audience = settings.audience.trim_end_matches('/').to_owned();
            signer.map(|signer| Login::Key { client_id, username, audience, signer })
        }
        (Some(_), None, _) => {
            mistakes.push(SettingsMistake::new("username", "is missing: a `private_key` is of a user"));
            None
        }
        (None, _, Some(secret)) => {
            mistakes.extend(secret_mistake("client_secret", &secret));
            Some(Login::Secret { client_id, client_secret: Secret::new(secret) })
        }
        (None, _, None) => {
            let what = "is missing: expected it, or `private_key` and `username`";
            mistakes.push(SettingsMistake::new("client_secret", what));
            None
        }
    }
}

/// The org's own address. Those where everybody logs in have no records.
fn domain_mistake(url: &str) -> Option<&'static str> {
    let (host, _) = host_and_port(url).unwrap_or_default();
    match base_url_mistake(url) {
        Some(mistake) => Some(mistake),
        None if ["login.salesforce.com", "test.salesforce.com"].contains(&host.as_str()) => {
            Some("expected the org's own address, such as https://acme.my.salesforce.com")
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistaken(changes: Value) -> Vec<String> {
        let mut settings = ConnectorSettings(serde_json::from_str(KIND.example).unwrap());
        for (key, value) in changes.as_object().unwrap().clone() {
            match value {
                Value::Null => settings.0.remove(&key),
                value => settings.0.insert(key, value),
            };
        }
        build(&settings).err().unwrap_or_default().into_iter().map(|mistake| mistake.key).collect()
    }

    #[test]
    fn settings_that_cannot_be_meant_are_refused() {
        for (changes, key) in [
            (json!({ "my_domain": "acme.my.salesforce.com" }), "my_domain"),
            (json!({ "my_domain": "https://login.salesforce.com" }), "my_domain"),
            (json!({ "client_id": "a b" }), "client_id"),
            (json!({ "private_key": "-----BEGIN PRIVATE KEY-----" }), "private_key"),
            (json!({ "username": null }), "username"),
            (json!({ "private_key": null, "client_secret": null }), "client_secret"),
            (json!({ "private_key": null, "client_secret": "a\nb" }), "client_secret"),
            (json!({ "audience": "login.salesforce.com" }), "audience"),
            (json!({ "version": "v67.0" }), "version"),
            (json!({ "version": "67" }), "version"),
        ] {
            assert_eq!(mistaken(changes.clone()), [key], "{changes}");
        }
        for changes in
            [json!({}), json!({ "private_key": null, "username": null }), json!({ "client_secret": null })]
        {
            assert_eq!(mistaken(changes.clone()), Vec::<String>::new(), "{changes}");
        }
    }

    #[test]
    fn fields_of_tasks_have_plain_words_and_other_names_are_names() {
        let object =
            |name: &str, key: &str| Object { name: name.to_owned(), key: key.to_owned(), fields: vec![] };
        let names = Names::of(&object("task", "subject")).unwrap();
        let row = Row {
            key: "Call".to_owned(),
            id: None,
            fields: [
                ("due".to_owned(), json!("2026-03-02T09:00:00Z")),
                ("body".to_owned(), Value::Null),
                ("Score__c".to_owned(), json!(7.5)),
            ]
            .into(),
            trace: "t".to_owned(),
        };
        assert_eq!(
            names.record(&row, Some((&names.key, &row.key))),
            json!({
                "attributes": { "type": "Task" }, "Score__c": 7.5, "Description": null, "ActivityDate": "2026-03-02",
                "Subject": "Call",
            })
        );
        assert!(Names::of(&object("Contact", "Email, (SELECT Id FROM Cases)")).is_err());
        assert!(Names::of(&object("../Contact", "Email")).is_err());
    }
}
