//! What connectors of CRMs have in common: words for objects and fields, and for what came of a request.

use connector::http::outcome;
use connector::{Described, HttpReply, Idempotency, Object, Outcome, Reply, Schedule};
use jiff::SignedDuration;
use model::Reason;
use serde_json::Value;

/// A plain word, and the provider's for it.
pub(crate) type Words = &'static [(&'static str, &'static str)];

/// The provider's word; a word that is none of the plain ones is the provider's own.
pub(crate) fn theirs(words: Words, plain: &str) -> &str {
    words.iter().find(|(known, _)| *known == plain).map_or(plain, |(_, word)| word)
}

/// Whether a text may stand in a path as it is: letters, digits, `_` and `-`.
pub(crate) fn is_segment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// What an object cannot be called.
pub(crate) fn no_object(name: &str) -> Outcome {
    let name: String = name.chars().take(60).collect();
    halted(format!("`{name}` is no name of an object: it has letters, digits, `_` and `-`"))
}

/// An object of which nothing can be asked.
pub(crate) fn written_only(object: &Object) -> Described {
    match is_segment(&object.name) {
        true => Described::Object { is_unique: true, unusable: Vec::new() },
        false => Described::Not(no_object(&object.name)),
    }
}

/// What would befall every record alike.
pub(crate) fn halted(detail: String) -> Outcome {
    Outcome::Halt { reason: Reason::FailRemote4xx, detail }
}

/// What befalls this record for good; or, said of several, one of them.
pub(crate) fn rejected(detail: String) -> Outcome {
    Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail }
}

/// A no that may become a yes by itself.
pub(crate) fn later(after: Option<SignedDuration>, detail: String) -> Outcome {
    retry(Reason::FailRemote4xx, after, false, detail)
}

/// A no because too much was asked.
pub(crate) fn slower(after: Option<SignedDuration>, detail: String) -> Outcome {
    retry(Reason::Remote429, after, true, detail)
}

/// Nobody said what became of it. It is read, and where it is not there written again.
pub(crate) fn unknown(detail: String) -> Outcome {
    retry(Reason::OutcomeUnknown, None, false, detail)
}

/// A definite no of a server in trouble.
pub(crate) fn broken(detail: String) -> Outcome {
    retry(Reason::FailRemote5xx, None, false, detail)
}

fn retry(reason: Reason, after: Option<SignedDuration>, slower: bool, detail: String) -> Outcome {
    Outcome::Retry { reason, after, schedule: Schedule::Connect, slower, detail }
}

/// What is refused of a question that names no record, such as one about an object, would be refused every time.
pub(crate) fn for_everybody(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Rejected { reason, detail, .. } => Outcome::Halt { reason, detail },
        outcome => outcome,
    }
}

/// The body of a yes, and its status; otherwise what the reply means by its status alone. An answer that was cut is none, and fewer records have
/// a shorter one: it is a rejection of them together.
///
/// # Errors
/// What it means, if it is not a yes.
pub(crate) fn yes(
    reply: &Reply,
    message: impl FnOnce(&Value) -> Option<String>,
) -> Result<(&HttpReply, Value), Outcome> {
    match reply {
        Reply::Http(HttpReply { status: 200..300, is_cut: true, .. }) => {
            Err(rejected("the answer is too long to be read".to_owned()))
        }
        Reply::Http(answer) if (200..300).contains(&answer.status) => Ok((answer, answer.json())),
        _ => Err(outcome(Idempotency::Natural, reply, |_| None, message)),
    }
}

/// The same of something that was to be written: a yes that was cut is one, of which nobody knows to what.
///
/// # Errors
/// What it means, if it is not a yes that can be read.
pub(crate) fn yes_to_write(
    reply: &Reply,
    message: impl FnOnce(&Value) -> Option<String>,
) -> Result<(&HttpReply, Value), Outcome> {
    match reply {
        Reply::Http(HttpReply { status: 200..300, is_cut: true, .. }) => {
            Err(unknown("the answer is too long to be read".to_owned()))
        }
        _ => yes(reply, message),
    }
}

/// A yes that shows nothing is not believed.
pub(crate) fn not_believed(answer: &HttpReply) -> Outcome {
    unknown(format!("HTTP {}, and nothing in it says that it was taken", answer.status))
}

/// A value as a provider has it: an empty text is no value, and `7.0` is 7.
pub(crate) fn kept(value: &Value) -> Value {
    match value {
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Number(number) => whole(number).map_or_else(|| value.clone(), Value::from),
        value => value.clone(),
    }
}

/// A number that is written as a fraction and is none.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let fraction = number.as_f64().filter(|_| number.is_f64())?;
    // Where every whole number can still be told from the next.
    let fits = fraction.fract() == 0.0 && fraction.abs() <= 9_007_199_254_740_992.0;
    fits.then(|| format!("{fraction:.0}").parse().ok()).flatten()
}

/// A day at its beginning in UTC, where a time is asked for; anything else stays.
pub(crate) fn as_time(value: &Value) -> Value {
    let day =
        value.as_str().and_then(|text| text.parse::<jiff::civil::Date>().ok().filter(|_| text.len() == 10));
    day.map_or_else(|| value.clone(), |day| Value::from(format!("{day}T00:00:00Z")))
}

/// The day of a time, where a day is asked for; anything else stays.
pub(crate) fn as_day(value: &Value) -> Value {
    let time = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
    time.map_or_else(
        || value.clone(),
        |time| Value::from(time.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_was_cut_is_a_yes_to_nothing_that_was_written() {
        let body = Arc::from(&b"[{"[..]);
        let reply = Reply::Http(HttpReply { status: 200, headers: Vec::new(), body, is_cut: true });
        assert!(matches!(yes(&reply, |_| None), Err(Outcome::Rejected { .. })));
        let Err(Outcome::Retry { reason, .. }) = yes_to_write(&reply, |_| None) else { panic!("believed") };
        assert_eq!(reason, Reason::OutcomeUnknown);
    }

    #[test]
    fn a_plain_word_is_theirs_and_theirs_stays() {
        let words: Words = &[("due", "hs_timestamp")];
        assert_eq!((theirs(words, "due"), theirs(words, "hs_timestamp")), ("hs_timestamp", "hs_timestamp"));
    }

    #[test]
    fn a_value_is_kept_as_one_would_write_it() {
        for (theirs, ours) in [
            (json!(""), json!(null)),
            (json!(" "), json!(" ")),
            (json!(7.0), json!(7)),
            (json!(-0.0), json!(0)),
            (json!(7.5), json!(7.5)),
            (json!(1e300), json!(1e300)),
            (json!(true), json!(true)),
        ] {
            assert_eq!(kept(&theirs), ours, "{theirs}");
        }
    }

    #[test]
    fn a_path_stays_where_it_is() {
        for (text, fits) in [
            ("contacts", true),
            ("2-1234", true),
            ("Car__c", true),
            ("", false),
            ("..", false),
            ("a/b", false),
            ("a?b", false),
            ("a%2e", false),
            ("\u{e9}", false),
        ] {
            assert_eq!(is_segment(text), fits, "{text}");
        }
    }

    #[test]
    fn a_day_and_a_time_become_each_other() {
        let (day, time) = (Value::from("2026-03-02"), Value::from("2026-03-02T09:00:00Z"));
        assert_eq!(as_time(&day), "2026-03-02T00:00:00Z");
        assert_eq!((as_time(&time), as_day(&time), as_day(&day)), (time.clone(), day.clone(), day));
        assert_eq!((as_time(&Value::Null), as_day(&Value::from("soon"))), (Value::Null, Value::from("soon")));
    }
}
