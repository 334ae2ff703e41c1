//! What Salesforce says, and what it means.

use std::collections::BTreeMap;

use connector::{Described, Found, Object, Outcome, Reply, Said, Written, Wrote};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{ID, Names};
use crate::crm::{
    broken, for_everybody, halted, kept, later, not_believed, rejected, slower, yes, yes_to_write,
};
use crate::over_http::text_at;

/// The requests of a day are used up; they come back hour by hour.
const HALF_AN_HOUR: SignedDuration = SignedDuration::from_mins(30);
/// Too many long requests at the same time.
const A_MINUTE: SignedDuration = SignedDuration::from_mins(1);
/// What no text is.
const NO_TEXTS: &[&str] = &[
    "address", "base64", "boolean", "currency", "date", "datetime", "double", "int", "location", "long",
    "percent", "time",
];

/// Records, each with its key.
pub(super) type Keyed = Vec<(String, Found)>;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) names: Names,
    pub(super) fields: Vec<String>,
    pub(super) keys: Vec<String>,
}

/// What Salesforce says of an object.
pub(super) fn described(reply: &Reply, names: &Names, object: &Object) -> Described {
    let body = match yes(reply, message) {
        Ok((_, body)) => body,
        Err(outcome) => return for_everybody(refined(reply, outcome)).into(),
    };
    let Some(fields) = body.get("fields").and_then(Value::as_array) else {
        return broken("what Salesforce says of the object has no fields".to_owned()).into();
    };
    let field = |name: &str| fields.iter().find(|field| field["name"] == names.field(name));
    let is_written = |field: &Value| field["createable"] == true || field["updateable"] == true;
    let why = |name: &str| match field(name) {
        None => Some("is not a field there, or not one that may be seen"),
        Some(field) if !is_written(field) => Some("cannot be written"),
        Some(_) => None,
    };
    let why_not_key = |name: &str| match field(name) {
        Some(_) if names.key == ID => None,
        Some(field) if field["type"].as_str().is_some_and(|kind| NO_TEXTS.contains(&kind)) => {
            Some("is no text, and records are found by a text")
        }
        Some(field) if field["filterable"] == false => Some("is not what records can be found by"),
        _ => why(name),
    };
    let key = why_not_key(&object.key).map(|why| (object.key.clone(), why));
    let rest = object.fields.iter().filter(|field| **field != object.key);
    let rest = rest.filter_map(|field| Some((field.clone(), why(field)?)));
    let is_external = field(&object.key).is_some_and(|field| field["externalId"] == true);
    Described::Object {
        is_unique: names.key == ID || is_external,
        unusable: key.into_iter().chain(rest).collect(),
    }
}

/// The records that answer a question.
pub(super) fn found(reply: &Reply, reading: &Reading) -> Result<Keyed, Outcome> {
    let (_, body) = yes(reply, message).map_err(|outcome| refined(reply, outcome))?;
    let records = body.get("records").and_then(Value::as_array);
    let records = records.ok_or_else(|| broken("an answer without records".to_owned()))?;
    if body["done"] == false {
        return Err(rejected("more records have these keys than are read at once".to_owned()));
    }
    let one = |record: &Value| {
        let id = text_at(record, "/Id").filter(|id| !id.is_empty())?;
        let key = record.get(&reading.names.key)?;
        let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
        let value = |field: &str| record.get(reading.names.field(field)).map_or(Value::Null, ours);
        let fields: BTreeMap<String, Value> =
            reading.fields.iter().map(|field| (field.clone(), value(field))).collect();
        Some((key, Found { id, fields }))
    };
    let all: Option<Keyed> = records.iter().map(one).collect();
    all.ok_or_else(|| broken("a record without an id or a key".to_owned()))
}

/// A value as we write it. Salesforce gives times as `2026-03-02T09:00:00.000+0000`.
fn ours(value: &Value) -> Value {
    let time = value.as_str().and_then(|text| text.strip_suffix("+0000"));
    let time = time.and_then(|text| format!("{text}Z").parse::<Timestamp>().ok());
    time.map_or_else(|| kept(value), |time| Value::from(time.to_string()))
}

/// What came of a collection: an answer for each, in their order. Salesforce says nothing of fields; `stands` are those of each that were written
/// in another form than they came in.
pub(super) fn wrote(reply: &Reply, stands: &[BTreeMap<String, Value>]) -> Wrote {
    let (answer, body) = match yes_to_write(reply, message) {
        Ok(answered) => answered,
        Err(outcome) => return refined(reply, outcome).into(),
    };
    let results = body.as_array().filter(|results| results.len() == stands.len());
    let each: Option<Vec<Written>> =
        results.and_then(|results| results.iter().zip(stands).map(wrote_one).collect());
    each.map_or_else(|| not_believed(answer).into(), Wrote::Each)
}

/// What became of one; `None`: nobody says.
fn wrote_one((result, stands): (&Value, &BTreeMap<String, Value>)) -> Option<Written> {
    Some(match result["success"].as_bool()? {
        true => {
            let id = text_at(result, "/id").filter(|id| !id.is_empty())?;
            let outcome = Outcome::Accepted { receipt: Said::of(&id).to_string() };
            Written { outcome, fields: stands.clone() }
        }
        false => refusal(&result["errors"], "statusCode").into(),
    })
}

/// What a list of errors means, by the gravest of their codes.
fn refusal(errors: &Value, code: &str) -> Outcome {
    let errors: Vec<&Value> = errors.as_array().into_iter().flatten().collect();
    let codes: Vec<&str> = errors.iter().filter_map(|error| error[code].as_str()).collect();
    let messages: Vec<&str> = errors.iter().filter_map(|error| error["message"].as_str()).collect();
    let text = format!("{}: {}", codes.join(", "), messages.join("; "));
    let detail = Said::of(&text).to_string();
    let is_one_of = |words: &[&str]| codes.iter().any(|code| words.contains(code));
    // A trigger that meets a lock fails under another code, and says so in its words.
    let is_locked = text.contains("UNABLE_TO_LOCK_ROW");
    if is_one_of(&[
        "INVALID_FIELD",
        "INVALID_TYPE",
        "NOT_FOUND",
        "INVALID_SESSION_ID",
        "API_DISABLED_FOR_ORG",
    ]) {
        halted(detail)
    } else if is_one_of(&["REQUEST_LIMIT_EXCEEDED"]) {
        slower(Some(limited(&text)), detail)
    } else if is_locked || is_one_of(&["SERVER_UNAVAILABLE", "QUERY_TIMEOUT"]) {
        later(None, detail)
    } else {
        rejected(detail)
    }
}

/// How long to wait: Salesforce does not say.
fn limited(text: &str) -> SignedDuration {
    if text.contains("oncurrent") { A_MINUTE } else { HALF_AN_HOUR }
}

/// What a no means, where Salesforce has words of its own for it. Its errors are a list, and have codes.
fn refined(reply: &Reply, outcome: Outcome) -> Outcome {
    let Reply::Http(answer) = reply else { return outcome };
    let body = answer.json();
    let has_code = |code: &str| body.as_array().into_iter().flatten().any(|error| error["errorCode"] == code);
    match (answer.status, outcome) {
        (403, Outcome::Halt { detail, .. }) if has_code("REQUEST_LIMIT_EXCEEDED") => {
            slower(answer.retry_after().or(Some(limited(&detail))), detail)
        }
        (429, Outcome::Retry { detail, .. }) => {
            slower(answer.retry_after().or(Some(limited(&detail))), detail)
        }
        (400, Outcome::Rejected { detail, .. }) => match refusal(&body, "errorCode") {
            Outcome::Halt { .. } => halted(detail),
            Outcome::Retry { after, slower: true, .. } => slower(after, detail),
            Outcome::Retry { .. } => later(answer.retry_after(), detail),
            // A value of the wrong kind spoils the whole request; which one it is is found by halves.
            _ => rejected(detail),
        },
        // What is too long, or too large.
        (413 | 414 | 431, outcome @ Outcome::Rejected { .. }) => outcome,
        (_, Outcome::Rejected { detail, .. }) => halted(detail),
        (_, outcome) => outcome,
    }
}

/// Salesforce's own words, and its code.
fn message(body: &Value) -> Option<String> {
    let error = body.get(0).unwrap_or(body);
    let text = text_at(error, "/message")?;
    Some(match text_at(error, "/errorCode") {
        Some(code) => format!("{code}: {text}"),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector::HttpReply;
    use serde_json::json;

    use super::*;

    fn http(status: u16, body: &Value, is_cut: bool) -> Reply {
        let body = Arc::from(body.to_string().into_bytes());
        Reply::Http(HttpReply { status, headers: Vec::new(), body, is_cut })
    }

    fn nothing(count: usize) -> Vec<BTreeMap<String, Value>> {
        vec![BTreeMap::new(); count]
    }

    #[test]
    fn times_and_numbers_are_read_as_they_are_written() {
        for (theirs, expected) in [
            (json!("2026-03-02T09:00:00.000+0000"), json!("2026-03-02T09:00:00Z")),
            (json!("2026-03-02T09:00:00.250+0000"), json!("2026-03-02T09:00:00.25Z")),
            (json!("2026-03-02"), json!("2026-03-02")),
            (json!("+0000"), json!("+0000")),
            (json!(7.0), json!(7)),
        ] {
            assert_eq!(ours(&theirs), expected, "{theirs}");
        }
    }

    fn word(outcome: &Outcome) -> &'static str {
        match outcome {
            Outcome::Accepted { .. } => "accepted",
            Outcome::Rejected { .. } => "rejected",
            Outcome::Retry { slower: true, .. } => "slower",
            Outcome::Retry { .. } => "retry",
            Outcome::Halt { .. } => "halt",
            Outcome::InDoubt { .. } | Outcome::NotArmed => "another",
        }
    }

    #[test]
    fn a_code_means_what_it_means() {
        for (code, message, expected) in [
            ("UNABLE_TO_LOCK_ROW", "", "retry"),
            ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "T: UNABLE_TO_LOCK_ROW, unable", "retry"),
            ("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", "T: a trigger failed", "rejected"),
            ("DUPLICATES_DETECTED", "", "rejected"),
            ("REQUIRED_FIELD_MISSING", "", "rejected"),
            ("ENTITY_IS_DELETED", "", "rejected"),
            ("INVALID_FIELD_FOR_INSERT_UPDATE", "", "rejected"),
            ("INVALID_FIELD", "", "halt"),
            ("INVALID_TYPE", "", "halt"),
            ("NOT_FOUND", "", "halt"),
            ("REQUEST_LIMIT_EXCEEDED", "", "slower"),
        ] {
            let row = json!([{ "success": false, "errors": [{ "statusCode": code, "message": message }] }]);
            let Wrote::Each(each) = wrote(&http(200, &row, false), &nothing(1)) else { panic!("{code}") };
            assert_eq!(word(&each[0].outcome), expected, "{code}");
            let whole = json!([{ "errorCode": code, "message": message }]);
            let Wrote::All(all) = wrote(&http(400, &whole, false), &nothing(1)) else { panic!("{code}") };
            assert_eq!(word(&all), expected, "{code} of the whole request");
        }
    }

    #[test]
    fn an_answer_that_is_not_one_for_each_is_not_believed() {
        let good = json!({ "id": "003", "success": true, "errors": [] });
        for body in [
            json!({}),
            json!([]),
            json!([good]),
            json!([good, {}]),
            json!([good, { "id": null, "success": true }]),
            json!([good, good, good]),
        ] {
            let wrote = wrote(&http(200, &body, false), &nothing(2));
            let Wrote::All(Outcome::Retry { reason, .. }) = &wrote else { panic!("{body}: {wrote:?}") };
            assert_eq!(*reason, model::Reason::OutcomeUnknown);
        }
    }

    #[test]
    fn an_object_of_which_too_much_is_said_is_held_and_not_guessed() {
        let object = Object { name: "contact".to_owned(), key: "Email".to_owned(), fields: vec![] };
        let names = Names::of(&object).unwrap();
        let described = described(&http(200, &json!({ "fields": [] }), true), &names, &object);
        assert!(matches!(described, Described::Not(Outcome::Halt { .. })), "{described:?}");
    }

    #[test]
    fn a_limit_is_waited_for() {
        for (text, seconds) in [("TotalRequests Limit exceeded.", 1_800), ("ConcurrentPerOrgLongTxn", 60)] {
            let body = json!([{ "errorCode": "REQUEST_LIMIT_EXCEEDED", "message": text }]);
            let Wrote::All(Outcome::Retry { after, slower: true, .. }) =
                wrote(&http(403, &body, false), &nothing(1))
            else {
                panic!("{text}")
            };
            assert_eq!(after, Some(SignedDuration::from_secs(seconds)));
        }
    }
}
