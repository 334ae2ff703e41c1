//! What Pipedrive says, and what it means.

use std::collections::BTreeMap;

use connector::{Described, Found, HttpReply, Object, Outcome, Reply, Row, Said, Written, Wrote};
use jiff::SignedDuration;
use serde_json::Value;

use super::objects::Sort;
use crate::crm::{broken, for_everybody, halted, later, not_believed, rejected, slower, yes, yes_to_write};
use crate::over_http::text_at;

/// Bursts are counted over two seconds.
const TWO_SECONDS: SignedDuration = SignedDuration::from_secs(2);
/// The longest that a burst is waited for: what is told to be longer is another thing.
const RESET_MAX: i64 = 3_600;
/// A day's tokens are used up until midnight, where the company is: nobody here knows where that is.
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What was asked for.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) sort: &'static Sort,
    pub(super) object: Object,
    pub(super) key: String,
}

/// Whether a text is an id of Pipedrive's: it stands in a path.
pub(super) fn is_id(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A page of fields, and where the next one begins.
pub(super) fn fields(reply: &Reply) -> Result<(Vec<Value>, Option<String>), Outcome> {
    let body = answered(reply).map_err(for_everybody)?;
    let fields = body["data"].as_array().cloned();
    let fields = fields.ok_or_else(|| broken("an answer without fields".to_owned()))?;
    Ok((fields, text_at(&body, "/additional_data/next_cursor").filter(|cursor| !cursor.is_empty())))
}

/// What the fields say of an object.
pub(super) fn described(sort: &Sort, object: &Object, fields: &[Value]) -> Described {
    let field = |name: &str| fields.iter().find(|field| Sort::is_called(name, field));
    let key = sort.why_not_key(&object.key, field(&object.key)).map(|why| (object.key.clone(), why));
    let rest = object.fields.iter().filter(|name| **name != object.key);
    let rest = rest.filter_map(|name| Some((name.clone(), sort.why_not(name, field(name))?)));
    Described::Object { is_unique: false, unusable: key.into_iter().chain(rest).collect() }
}

/// The ids that a search finds.
pub(super) fn searched(reply: &Reply) -> Result<Vec<String>, Outcome> {
    let body = answered(reply)?;
    let items = body.pointer("/data/items").and_then(Value::as_array);
    let items = items.ok_or_else(|| broken("an answer without items".to_owned()))?;
    let ids: Option<Vec<String>> = items.iter().map(|item| item.get("item").and_then(id_of)).collect();
    ids.ok_or_else(|| broken("an item without an id".to_owned()))
}

/// A record, if it is one with this key; a search may have found it by something else.
pub(super) fn found(reply: &Reply, reading: &Reading) -> Result<Option<Found>, Outcome> {
    if let Reply::Http(HttpReply { status: 404 | 410, .. }) = reply {
        // It was deleted since it was found.
        return Ok(None);
    }
    let body = answered(reply)?;
    let record = &body["data"];
    let id = id_of(record).ok_or_else(|| broken("a record without an id".to_owned()))?;
    let (sort, object) = (reading.sort, &reading.object);
    if record["is_deleted"] == true || !sort.has_key(record, &object.key, &reading.key) {
        return Ok(None);
    }
    let value = |field: &str| sort.value(record, field).unwrap_or_default();
    let fields: BTreeMap<String, Value> =
        object.fields.iter().map(|field| (field.clone(), value(field))).collect();
    Ok(Some(Found { id, fields }))
}

/// What came of one record.
pub(super) fn wrote(reply: &Reply, sort: &Sort, row: &Row) -> Wrote {
    let (answer, body) = match yes_to_write(reply, message) {
        Ok(answered) => answered,
        Err(outcome) => {
            return match (refined(reply, outcome), reply) {
                // It was there when it was read; or it is another that it names.
                (Outcome::Halt { detail, .. }, Reply::Http(answer))
                    if [404, 410].contains(&answer.status) =>
                {
                    rejected(detail).into()
                }
                (outcome, _) => outcome.into(),
            };
        }
    };
    let Some(id) = id_of(&body["data"]).filter(|_| body["success"] != false) else {
        return not_believed(answer).into();
    };
    let fields = row.fields.keys();
    let fields =
        fields.filter_map(|field| Some((field.clone(), sort.value(&body["data"], field)?))).collect();
    let outcome = Outcome::Accepted { receipt: Said::of(&id).to_string() };
    Wrote::Each(vec![Written { outcome, fields }])
}

fn id_of(record: &Value) -> Option<String> {
    let id = &record["id"];
    id.as_u64().map(|id| id.to_string()).or_else(|| id.as_str().filter(|id| is_id(id)).map(str::to_owned))
}

/// The body of an answer that says that it succeeded.
fn answered(reply: &Reply) -> Result<Value, Outcome> {
    let (answer, body) = yes(reply, message).map_err(|outcome| refined(reply, outcome))?;
    match body["success"] == true {
        true => Ok(body),
        false => Err(broken(format!("HTTP {}, and no success in it", answer.status))),
    }
}

/// What a no means, where Pipedrive has a status or words of its own for it.
fn refined(reply: &Reply, outcome: Outcome) -> Outcome {
    let Reply::Http(answer) = reply else { return outcome };
    match (answer.status, outcome) {
        (429, Outcome::Retry { detail, .. }) => {
            let is_daily = detail.to_lowercase().contains("daily");
            let wait = if is_daily { AN_HOUR } else { reset(answer).unwrap_or(TWO_SECONDS) };
            slower(answer.retry_after().or(Some(wait)), detail)
        }
        (400 | 413 | 422, outcome @ Outcome::Rejected { .. }) => outcome,
        (409 | 423, Outcome::Rejected { detail, .. }) => later(answer.retry_after(), detail),
        (_, Outcome::Rejected { detail, .. }) => halted(detail),
        (_, outcome) => outcome,
    }
}

/// In how many seconds the burst is over.
fn reset(answer: &HttpReply) -> Option<SignedDuration> {
    let seconds: i64 = answer.header("x-ratelimit-reset")?.trim().parse().ok()?;
    (1..=RESET_MAX).contains(&seconds).then(|| SignedDuration::from_secs(seconds))
}

/// Pipedrive's own words. What it adds in `error_info` speaks of its manual.
fn message(body: &Value) -> Option<String> {
    text_at(body, "/error")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::objects::SORTS;
    use super::*;

    fn http(status: u16, headers: &[(&str, &str)], body: &str) -> Reply {
        let headers = headers.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        Reply::Http(HttpReply { status, headers, body: Arc::from(body.as_bytes()), is_cut: false })
    }

    fn row() -> Row {
        Row { key: "k".to_owned(), id: None, fields: BTreeMap::new(), trace: "t".to_owned() }
    }

    #[test]
    fn a_yes_that_shows_nothing_is_not_believed() {
        for body in ["", "{}", "[]", r#"{"success":true}"#, r#"{"success":false,"data":{"id":1}}"#] {
            let wrote = wrote(&http(200, &[], body), &SORTS[0], &row());
            let Wrote::All(Outcome::Retry { reason, .. }) = &wrote else { panic!("{body}: {wrote:?}") };
            assert_eq!(*reason, model::Reason::OutcomeUnknown);
        }
    }

    #[test]
    fn a_limit_is_waited_for_as_long_as_is_said_or_known() {
        for (headers, body, seconds) in [
            (&[("retry-after", "7"), ("x-ratelimit-reset", "2")][..], "{}", 7),
            (&[("x-ratelimit-reset", "1")][..], "{}", 1),
            (&[("x-ratelimit-reset", "1772442000")][..], "{}", 2),
            (&[][..], "{}", 2),
            (&[("x-ratelimit-reset", "1")][..], r#"{"error":"Daily request limit exceeded"}"#, 3_600),
        ] {
            let wrote = wrote(&http(429, headers, body), &SORTS[0], &row());
            let Wrote::All(Outcome::Retry { after, slower: true, .. }) = wrote else { panic!("{body}") };
            assert_eq!(after, Some(SignedDuration::from_secs(seconds)), "{headers:?}");
        }
    }
}
