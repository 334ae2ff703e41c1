//! Records at Pipedrive: persons, organizations and deals, through its API v2 (<https://developers.pipedrive.com/docs/api/v1>).
//!
//! Class S: a record is looked for before it is written, and written by its id. Pipedrive holds no key unique, and takes one record a request.
//! Not supported: activities, leads, notes, OAuth, deleting, fields that have more than one value.

mod answers;
mod objects;
mod settings;

use std::collections::VecDeque;

use connector::{
    Built, Connector, Described, Exchange, Found, HttpRequest, Idempotency, Kind, Looked, Method, Object,
    Outcome, Reach, RecordKind, Records, Request, Write, Wrote, ask_first, once, read_settings, schema_of,
    settled,
};
use jiff::Timestamp;
use model::settings::ConnectorSettings;
use model::{Reason, Secret};
use serde_json::Value;

use self::objects::Sort;
pub use self::settings::Settings;
use crate::crm::rejected;
use crate::over_http::{Api, percent, secret_mistake};

/// Records at Pipedrive.
pub const KIND: Kind = Kind {
    name: "pipedrive",
    messages: None,
    idempotency: Idempotency::Natural,
    audiences: None,
    records: Some(RecordKind { rows_max: 1, reads: true }),
    summary: "Persons, organizations and deals at Pipedrive.",
    example: settings::EXAMPLE,
    schema: schema_of::<Settings>,
    build,
};

/// Fields of a page: as many as Pipedrive gives. And pages that are read.
const FIELDS_PAGE: usize = 500;
const FIELDS_PAGES_MAX: usize = 5;
/// Records that are looked at, of those that a search finds.
const CANDIDATES_MAX: usize = 10;

#[derive(Debug)]
struct Pipedrive {
    api: Api,
    token: Secret,
}

impl Connector for Pipedrive {
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

impl Records for Pipedrive {
    fn describe(&self, object: &Object, _at: Timestamp) -> Box<dyn Exchange<Described>> {
        let sort = match Sort::of(object) {
            Ok(sort) => sort,
            Err(outcome) => return settled(outcome.into()),
        };
        let (start, token) = (self.url(sort.fields_path), self.token.clone());
        let request = move |cursor: Option<&str>| {
            let cursor = cursor.map(|cursor| format!("&cursor={}", percent(cursor))).unwrap_or_default();
            get(&format!("{start}?limit={FIELDS_PAGE}{cursor}"), &token)
        };
        let first = request(None);
        page(first, request, Describing { sort, object: object.clone() }, Vec::new(), FIELDS_PAGES_MAX)
    }

    fn read(
        &self,
        object: &Object,
        _is_unique: bool,
        keys: &[String],
        _at: Timestamp,
    ) -> Box<dyn Exchange<Looked>> {
        let sort = match Sort::of(object) {
            Ok(sort) => sort,
            Err(outcome) => return settled(outcome.into()),
        };
        let [key] = keys else { return settled(one_at_a_time().into()) };
        let url = format!(
            "{}/search?term={}&fields={}&exact_match=true",
            self.url(sort.name),
            percent(key),
            sort.searched(&object.key)
        );
        let (start, token) = (self.url(sort.name), self.token.clone());
        let reading = answers::Reading { sort, object: object.clone(), key: key.clone() };
        ask_first(get(&url, &self.token), move |reply| match answers::searched(&reply) {
            Err(outcome) => settled(outcome.into()),
            Ok(ids) => {
                let more = ids.len().saturating_sub(CANDIDATES_MAX);
                let ids = ids.iter().take(CANDIDATES_MAX);
                let candidates = ids.map(|id| get(&format!("{start}/{id}"), &token)).collect();
                look_at(candidates, more, reading, Vec::new())
            }
        })
    }

    fn write(&self, write: &Write) -> Box<dyn Exchange<Wrote>> {
        let sort = match Sort::of(&write.object) {
            Ok(sort) => sort,
            Err(outcome) => return settled(outcome.into()),
        };
        let [row] = &*write.rows else { return settled(one_at_a_time().into()) };
        let url = self.url(sort.name);
        let (method, url) = match &row.id {
            None => (Method::Post, url),
            Some(id) if answers::is_id(id) => (Method::Patch, format!("{url}/{id}")),
            Some(_) => return settled(rejected("its id is none of Pipedrive's".to_owned()).into()),
        };
        let request = HttpRequest::json(method, url, &sort.record(&write.object.key, row));
        let row = row.clone();
        once(with_token(request, &self.token), move |reply| answers::wrote(&reply, sort, &row))
    }
}

impl Pipedrive {
    fn url(&self, path: &str) -> String {
        format!("{}/api/v2/{path}", self.api.base)
    }
}

fn with_token(request: HttpRequest, token: &Secret) -> Request {
    Request::Http(request.secret("x-api-token", token.reveal()))
}

fn get(url: &str, token: &Secret) -> Request {
    with_token(HttpRequest::get(url), token)
}

/// More than one would be a mistake of ours.
fn one_at_a_time() -> Outcome {
    let detail = "Pipedrive takes one record at a time".to_owned();
    Outcome::Halt { reason: Reason::FailInternal, detail }
}

/// What is described.
struct Describing {
    sort: &'static Sort,
    object: Object,
}

/// A page of fields, and those after it.
fn page(
    request: Request,
    next: impl Fn(Option<&str>) -> Request + Send + 'static,
    about: Describing,
    mut fields: Vec<Value>,
    left: usize,
) -> Box<dyn Exchange<Described>> {
    ask_first(request, move |reply| match answers::fields(&reply) {
        Err(outcome) => settled(outcome.into()),
        Ok((more, cursor)) => {
            fields.extend(more);
            match cursor.filter(|_| left > 1) {
                Some(cursor) => page(next(Some(&cursor)), next, about, fields, left - 1),
                None => settled(answers::described(about.sort, &about.object, &fields)),
            }
        }
    })
}

/// Looks at one record after the other; `more` are not looked at.
fn look_at(
    mut candidates: VecDeque<Request>,
    more: usize,
    reading: answers::Reading,
    mut found: Vec<Found>,
) -> Box<dyn Exchange<Looked>> {
    let Some(candidate) = candidates.pop_front() else {
        return settled(match found.is_empty() && more > 0 {
            // It may be among those.
            true => rejected(format!("a search finds {more} more records than are looked at")).into(),
            false => Looked::Found(vec![found]),
        });
    };
    ask_first(candidate, move |reply| match answers::found(&reply, &reading) {
        Err(outcome) => settled(outcome.into()),
        Ok(one) => {
            found.extend(one);
            look_at(candidates, more, reading, found)
        }
    })
}

fn build(settings: &ConnectorSettings) -> Built {
    let settings: Settings = read_settings(&KIND, settings)?;
    let mut mistakes = Vec::new();
    let base_url = settings.base_url.as_deref();
    let api = Api::of("https://api.pipedrive.com", base_url, settings.connections, &mut mistakes);
    mistakes.extend(secret_mistake("token", &settings.token));
    match api {
        Some(api) if mistakes.is_empty() => {
            Ok(Box::new(Pipedrive { api, token: Secret::new(settings.token) }))
        }
        _ => Err(mistakes),
    }
}
