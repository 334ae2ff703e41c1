//! What HubSpot says, and what it means.

use std::collections::BTreeMap;

use connector::{
    Described, Found, HttpReply, Looked, Object, Outcome, Reply, Row, Said, Written, Wrote, in_order,
    same_key,
};
use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::{ID, MORE_EMAILS, Names};
use crate::crm::{
    broken, for_everybody, halted, kept, later, not_believed, rejected, slower, unknown, yes, yes_to_write,
};
use crate::over_http::text_at;

/// HubSpot counts requests over ten seconds; searches, over one.
const TEN_SECONDS: SignedDuration = SignedDuration::from_secs(10);
const A_SECOND: SignedDuration = SignedDuration::from_secs(1);
/// A day's requests are used up until midnight, where the account is: nobody here knows where that is.
const SOME_HOURS: SignedDuration = SignedDuration::from_hours(2);
/// A record that somebody else is writing.
const LOCKED: SignedDuration = SignedDuration::from_secs(2);
/// An account that is being moved.
const MOVING: SignedDuration = SignedDuration::from_mins(10);

/// Records, each with a key by which it is known.
pub(super) type Keyed = Vec<(String, Found)>;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) names: Names,
    pub(super) fields: Vec<String>,
    pub(super) keys: Vec<String>,
}

/// What its properties say of an object.
pub(super) fn described(reply: &Reply, names: &Names, object: &Object) -> Described {
    let body = match answered(reply) {
        Ok((_, body)) => body,
        Err(outcome) => return for_everybody(outcome).into(),
    };
    let property =
        |field: &str| list(&body, "results").find(|property| property["name"] == names.property(field));
    let why = |field: &str| match property(field) {
        None => Some("is not a property there"),
        Some(found) if found["archived"] == true => Some("is archived there"),
        Some(found) if found.pointer("/modificationMetadata/readOnlyValue") == Some(&Value::Bool(true)) => {
            Some("is written by HubSpot only")
        }
        Some(_) => None,
    };
    let is_id = names.key == ID;
    let key = (!is_id).then_some(&object.key);
    let unusable = key
        .into_iter()
        .chain(&object.fields)
        .filter_map(|field| Some((field.clone(), why(field)?)))
        .collect();
    let is_email = names.object == "contacts" && names.key == "email";
    let is_said = property(&object.key).is_some_and(|property| property["hasUniqueValue"] == true);
    Described::Object { is_unique: is_id || is_email || is_said, unusable }
}

/// The records of a batch that is read by a unique key. Those that are not there are no error of ours.
pub(super) fn read(reply: &Reply, reading: &Reading) -> Looked {
    let body = match answered(reply) {
        Ok((_, body)) => body,
        Err(outcome) => return outcome.into(),
    };
    if let Some(error) = list(&body, "errors").find(|error| error["category"] != "OBJECT_NOT_FOUND") {
        return judge_one(error).into();
    }
    let found: Option<Vec<Keyed>> = list(&body, "results").map(|record| known_by(record, reading)).collect();
    match found {
        Some(found) => Looked::Found(in_order(&reading.keys, found.into_iter().flatten().collect())),
        None => broken("a record without an id or properties".to_owned()).into(),
    }
}

/// The records of a page of a search, and where the next one begins.
pub(super) fn page(reply: &Reply, reading: &Reading) -> Result<(Keyed, Option<String>), Outcome> {
    let (_, body) = answered(reply)?;
    let found: Option<Vec<Keyed>> = list(&body, "results").map(|record| known_by(record, reading)).collect();
    let found = found.ok_or_else(|| broken("a record without an id or properties".to_owned()))?;
    Ok((found.into_iter().flatten().collect(), text_at(&body, "/paging/next/after")))
}

/// A record under each of the keys by which HubSpot knows it.
fn known_by(record: &Value, reading: &Reading) -> Option<Keyed> {
    let id = text_at(record, "/id").filter(|id| !id.is_empty())?;
    let properties = record.get("properties")?.as_object()?;
    let fields = fields(&reading.names, &reading.fields, properties);
    let key = match reading.names.key == ID {
        true => id.clone(),
        false => properties.get(&reading.names.key).and_then(Value::as_str).unwrap_or_default().to_owned(),
    };
    let more = properties.get(MORE_EMAILS).and_then(Value::as_str).filter(|_| reading.names.key == "email");
    let mut keys = vec![key];
    for one in more.unwrap_or_default().split(';').map(str::trim) {
        if !one.is_empty() && keys.iter().all(|known| same_key(known) != same_key(one)) {
            keys.push(one.to_owned());
        }
    }
    let found = Found { id, fields };
    Some(keys.into_iter().map(|key| (key, found.clone())).collect())
}

/// Fields in the words that they were asked for. What HubSpot does not mention is empty.
fn fields(names: &Names, wanted: &[String], properties: &Map<String, Value>) -> BTreeMap<String, Value> {
    let value = |field: &str| properties.get(names.property(field)).map_or(Value::Null, kept);
    wanted.iter().map(|field| (field.clone(), value(field))).collect()
}

/// What came of a batch. Results and errors say of which row they are by the trace that we gave it; they come in any order.
pub(super) fn wrote(reply: &Reply, names: &Names, rows: &[Row]) -> Wrote {
    let (answer, body) = match yes_to_write(reply, message) {
        Ok(answered) => answered,
        Err(outcome) => {
            return match (refined(reply, outcome), reply) {
                // It was there when it was read.
                (Outcome::Halt { detail, .. }, Reply::Http(answer)) if answer.status == 404 => {
                    later(None, detail).into()
                }
                (outcome, _) => outcome.into(),
            };
        }
    };
    let mut written: Vec<Option<Written>> = vec![None; rows.len()];
    for result in list(&body, "results") {
        if let (Some(place), Some((id, properties))) =
            (place_of(result, names, rows, &written), taken(result))
        {
            let written_fields = rows.get(place).into_iter().flat_map(|row| row.fields.keys());
            let fields = written_fields
                .filter_map(|field| Some((field.clone(), kept(properties.get(names.property(field))?))))
                .collect();
            let outcome = Outcome::Accepted { receipt: Said::of(&id).to_string() };
            set(&mut written, place, Written { outcome, fields });
        }
    }
    let mut of_nobody: Vec<Outcome> = Vec::new();
    for error in list(&body, "errors") {
        let outcome = judge_one(error);
        let places: Vec<usize> =
            rows.iter().enumerate().filter(|(_, row)| is_about(error, row)).map(|(place, _)| place).collect();
        if places.is_empty() {
            of_nobody.push(outcome.clone());
        }
        for place in places {
            set(&mut written, place, outcome.clone().into());
        }
    }
    let open = written.iter().filter(|one| one.is_none()).count();
    let gravest = of_nobody.into_iter().min_by_key(gravity);
    match gravest {
        // None was taken, or one is left: so it is about them.
        Some(outcome) if open == rows.len() => Wrote::All(outcome),
        Some(outcome) if open == 1 => fill(written, &outcome),
        Some(_) => fill(written, &unknown("HubSpot does not say which of them it refuses".to_owned())),
        None if open == rows.len() => Wrote::All(not_believed(answer)),
        None => fill(written, &unknown("HubSpot says nothing of it".to_owned())),
    }
}

fn set(written: &mut [Option<Written>], place: usize, one: Written) {
    if let Some(open @ None) = written.get_mut(place) {
        *open = Some(one);
    }
}

fn fill(written: Vec<Option<Written>>, otherwise: &Outcome) -> Wrote {
    Wrote::Each(written.into_iter().map(|one| one.unwrap_or_else(|| otherwise.clone().into())).collect())
}

/// What befalls everybody before what passes, and that before what befalls one.
fn gravity(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Halt { .. } => 0,
        Outcome::Retry { .. } | Outcome::InDoubt { .. } | Outcome::NotArmed => 1,
        Outcome::Rejected { .. } | Outcome::Accepted { .. } => 2,
    }
}

/// The id and the properties of a record that was taken.
fn taken(result: &Value) -> Option<(String, &Map<String, Value>)> {
    let id = text_at(result, "/id").filter(|id| !id.is_empty())?;
    Some((id, result.get("properties")?.as_object()?))
}

/// Of which row a result is: by its trace, or where HubSpot does not repeat that, by the id or by the key.
fn place_of(result: &Value, names: &Names, rows: &[Row], written: &[Option<Written>]) -> Option<usize> {
    let is_open = |place: &usize| written.get(*place).is_some_and(Option::is_none);
    if let Some(trace) = result["objectWriteTraceId"].as_str() {
        return rows.iter().position(|row| row.trace == trace).filter(is_open);
    }
    let id = result["id"].as_str()?;
    let by_id = rows
        .iter()
        .position(|row| row.id.as_deref().unwrap_or_default() == id || names.key == ID && row.key == id);
    let by_key = || {
        let key = same_key(result.get("properties")?.get(&names.key)?.as_str()?);
        rows.iter().position(|row| same_key(&row.key) == key)
    };
    by_id.or_else(by_key).filter(is_open)
}

/// Whether an error is about a row: by its trace, by its id, or by its key.
fn is_about(error: &Value, row: &Row) -> bool {
    let has = |name: &str, text: &str| match &error["context"][name] {
        Value::Array(all) => all.iter().any(|one| one == text),
        one => one == text,
    };
    let is_known = |text: &str| has("ids", text) || has("id", text);
    has("objectWriteTraceId", &row.trace) || row.id.as_deref().is_some_and(is_known) || is_known(&row.key)
}

/// What an error within an answer means, by its category.
fn judge_one(error: &Value) -> Outcome {
    let category = error["category"].as_str().unwrap_or("no category");
    let detail =
        Said::of(&format!("{category}: {}", error["message"].as_str().unwrap_or_default())).to_string();
    match category {
        "MISSING_SCOPES" | "INVALID_AUTHENTICATION" | "EXPIRED_AUTHENTICATION" => {
            Outcome::Halt { reason: model::Reason::FailAuth, detail }
        }
        "RATE_LIMITS" | "RATE_LIMIT" => slower(Some(TEN_SECONDS), detail),
        // It was there when it was read, or was not: it is read again.
        "OBJECT_NOT_FOUND" | "CONFLICT" | "OBJECT_ALREADY_EXISTS" => later(None, detail),
        "INTERNAL_ERROR" | "SERVICE_UNAVAILABLE" => broken(detail),
        _ => rejected(detail),
    }
}

/// The body of an answer that has a list of results.
fn answered(reply: &Reply) -> Result<(&HttpReply, Value), Outcome> {
    let (answer, body) = yes(reply, message).map_err(|outcome| refined(reply, outcome))?;
    match body.get("results").is_some_and(Value::is_array) {
        true => Ok((answer, body)),
        false => Err(broken(format!("HTTP {}, and no results in it", answer.status))),
    }
}

/// What a no means, where HubSpot has words or a status of its own for it.
fn refined(reply: &Reply, outcome: Outcome) -> Outcome {
    let Reply::Http(answer) = reply else { return outcome };
    let after = answer.retry_after();
    match (answer.status, outcome) {
        (429, Outcome::Retry { detail, .. }) => {
            let policy = text_at(&answer.json(), "/policyName").unwrap_or_default();
            let wait = match policy.as_str() {
                "DAILY" => SOME_HOURS,
                "SECONDLY" => A_SECOND,
                _ => TEN_SECONDS,
            };
            slower(after.or(Some(wait)), detail)
        }
        // What nobody can read is taken to be about what was asked, and found by halves.
        (400 | 413 | 414 | 422, outcome @ Outcome::Rejected { .. }) => outcome,
        (409, Outcome::Rejected { detail, .. }) => later(after, detail),
        (423, Outcome::Rejected { detail, .. }) => later(after.or(Some(LOCKED)), detail),
        (477, Outcome::Rejected { detail, .. }) => later(after.or(Some(MOVING)), detail),
        (_, Outcome::Rejected { detail, .. }) => halted(detail),
        (_, outcome) => outcome,
    }
}

/// HubSpot's own words, and its word for what is wrong.
fn message(body: &Value) -> Option<String> {
    let text = text_at(body, "/message")?;
    let word = text_at(body, "/policyName").or_else(|| text_at(body, "/category"));
    Some(word.map_or_else(|| text.clone(), |word| format!("{word}: {text}")))
}

fn list<'a>(body: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    body.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::strategy::Strategy as _;
    use serde_json::json;

    use super::*;

    fn http(status: u16, body: &Value) -> Reply {
        let body = Arc::from(body.to_string().into_bytes());
        Reply::Http(HttpReply { status, headers: Vec::new(), body, is_cut: false })
    }

    fn names() -> Names {
        let object = Object { name: "contact".to_owned(), key: "email".to_owned(), fields: vec![] };
        Names::of(&object).unwrap()
    }

    fn rows(count: usize) -> Vec<Row> {
        let row = |place: usize| Row {
            key: format!("p{place}@example.test"),
            id: None,
            fields: [("plan".to_owned(), json!("team"))].into(),
            trace: format!("trace-{place}"),
        };
        (0..count).map(row).collect()
    }

    fn receipts(wrote: &Wrote) -> Vec<String> {
        let Wrote::Each(all) = wrote else { panic!("{wrote:?}") };
        let name = |one: &Written| match &one.outcome {
            Outcome::Accepted { receipt } => receipt.clone(),
            Outcome::Rejected { .. } => "rejected".to_owned(),
            Outcome::Retry { reason, .. } => reason.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        all.iter().map(name).collect()
    }

    proptest::proptest! {
        #[test]
        fn results_find_their_rows_in_any_order(
            all in proptest::strategy::Just((0..12_usize).collect::<Vec<_>>()).prop_shuffle(),
            count in 1..12_usize,
        ) {
            let order = all[..count].to_vec();
            let result = |place: &usize| json!({
                "id": format!("50{place}"), "objectWriteTraceId": format!("trace-{place}"),
                "properties": { "email": "another@example.test", "plan": format!("plan {place}") },
            });
            let results: Vec<Value> = order.iter().map(result).collect();
            let wrote = wrote(&http(207, &json!({ "results": results })), &names(), &rows(12));
            for (place, said) in receipts(&wrote).iter().enumerate() {
                let expected = if order.contains(&place) { format!("50{place}") } else { "fail.outcome_unknown".to_owned() };
                proptest::prop_assert_eq!(said, &expected);
            }
            let Wrote::Each(all) = wrote else { panic!("not each") };
            for place in order {
                proptest::prop_assert_eq!(&all[place].fields["plan"], &json!(format!("plan {place}")));
            }
        }
    }

    #[test]
    fn without_a_trace_a_result_is_known_by_its_key() {
        let body = json!({ "results": [
            { "id": "2", "properties": { "email": "P1@Example.test" } },
            { "id": "1", "properties": { "email": "p0@example.test" } },
        ] });
        assert_eq!(receipts(&wrote(&http(201, &body), &names(), &rows(2))), ["1", "2"]);
    }

    #[test]
    fn a_yes_that_shows_nothing_is_not_believed() {
        for body in [
            json!({}),
            json!([]),
            json!({ "status": "COMPLETE", "results": [], "errors": [] }),
            json!({ "results": [{ "id": "", "properties": {} }] }),
            json!({ "results": [{ "id": "1", "objectWriteTraceId": "another", "properties": {} }] }),
        ] {
            let wrote = wrote(&http(200, &body), &names(), &rows(2));
            assert!(
                matches!(wrote, Wrote::All(Outcome::Retry { reason: model::Reason::OutcomeUnknown, .. })),
                "{body}: {wrote:?}"
            );
        }
    }

    #[test]
    fn an_error_is_of_the_row_that_it_names_or_of_the_one_that_is_left() {
        let taken = json!({ "id": "1", "objectWriteTraceId": "trace-1", "properties": {} });
        let error =
            |context: Value| json!({ "category": "VALIDATION_ERROR", "message": "no", "context": context });
        for (context, expected) in [
            (json!({ "objectWriteTraceId": ["trace-0"] }), vec!["rejected", "1", "fail.outcome_unknown"]),
            (json!({ "ids": ["p2@example.test"] }), vec!["fail.outcome_unknown", "1", "rejected"]),
            (json!({}), vec!["fail.outcome_unknown", "1", "fail.outcome_unknown"]),
        ] {
            let body = json!({ "results": [taken], "errors": [error(context)] });
            assert_eq!(receipts(&wrote(&http(207, &body), &names(), &rows(3))), expected);
        }
        let body = json!({ "results": [taken], "errors": [error(json!({}))] });
        assert_eq!(receipts(&wrote(&http(207, &body), &names(), &rows(2))), ["rejected", "1"]);
        let body = json!({ "results": [], "errors": [error(json!({}))] });
        let none = wrote(&http(207, &body), &names(), &rows(2));
        assert!(matches!(none, Wrote::All(Outcome::Rejected { .. })), "{none:?}");
    }

    #[test]
    fn a_wait_is_by_the_policy_where_no_time_is_said() {
        for (policy, seconds) in [("DAILY", 7_200), ("SECONDLY", 1), ("TEN_SECONDLY_ROLLING", 10), ("", 10)] {
            let body = json!({ "status": "error", "message": "limit", "policyName": policy });
            let Wrote::All(Outcome::Retry { after, slower: true, .. }) =
                wrote(&http(429, &body), &names(), &rows(1))
            else {
                panic!("{policy}")
            };
            assert_eq!(after, Some(SignedDuration::from_secs(seconds)), "{policy}");
        }
    }

    #[test]
    fn a_contact_is_known_by_its_further_addresses() {
        let reading = Reading {
            names: names(),
            fields: vec!["plan".to_owned()],
            keys: vec!["Old@example.test".to_owned(), "nobody@example.test".to_owned()],
        };
        let body = json!({ "results": [{ "id": "1", "properties": {
            "email": "new@example.test", "hs_additional_emails": "older@example.test;old@example.test", "plan": "",
        } }] });
        let Looked::Found(found) = read(&http(207, &body), &reading) else { panic!("not read") };
        assert_eq!(found[0][0].fields, [("plan".to_owned(), Value::Null)].into());
        assert!(found[1].is_empty());
    }
}
