//! What Meta's errors mean. Their HTTP status is 400 for nearly everything: their codes say more
//! (<https://developers.facebook.com/docs/graph-api/guides/error-handling>).

use connector::{HttpReply, Outcome, Schedule};
use jiff::SignedDuration;
use model::{Reason, Secret};
use serde_json::Value;

/// Without an audience that can be changed, nobody can be removed either.
const FLAGGED: &str =
    "Meta flagged this audience, and lets nobody be added or removed: look at it in the Ads Manager";

/// What a refusal means; `None`: it is none, or its code says no more than its status.
pub(super) fn refusal(answer: &HttpReply, token: &Secret) -> Option<Outcome> {
    let body = answer.json();
    let code = body["error"]["code"].as_i64()?;
    let subcode = body["error"]["error_subcode"].as_i64().unwrap_or_default();
    let detail = answer.said(|body| message(body, token));
    let halt = |reason, detail| Some(Outcome::Halt { reason, detail });
    let retry = |reason, after, slower, detail| {
        Some(Outcome::Retry { reason, after, schedule: Schedule::Connect, slower, detail })
    };
    match (code, subcode) {
        // The token is not valid any more, or has not the rights.
        (190 | 10 | 200..=299, _) => halt(Reason::FailAuth, detail),
        (100, 1_713_230) => halt(Reason::FailRemote4xx, format!("{FLAGGED} ({detail})")),
        // The audience or the account is gone, is not shared, is blocked, or its terms are not accepted.
        (100, 33) | (2650 | 2655 | 1_487_301 | 1_487_366, _) | (_, 1_487_301 | 1_487_366) => {
            halt(Reason::FailRemote4xx, detail)
        }
        // Limits of the app, of the person, of the page, of calls, and of a business.
        (4 | 17 | 32 | 613 | 80_000..=80_014, _) => retry(Reason::Remote429, wait(answer), true, detail),
        // Limits that go on for about an hour.
        (341 | 368, _) => retry(Reason::Remote429, Some(SignedDuration::from_hours(1)), true, detail),
        (1 | 2 | 5000 | 21_009, _) => retry(Reason::FailRemote5xx, answer.retry_after(), false, detail),
        _ if body["error"]["is_transient"] == true => {
            retry(Reason::FailRemote5xx, answer.retry_after(), false, detail)
        }
        // 105 is "too much at once": halves of it are tried.
        (100 | 105, _) => Some(Outcome::Rejected { reason: Reason::FailRemote4xx, bounce: None, detail }),
        _ => None,
    }
}

/// What an error says, after its code. Where the token cannot be read at all, Meta repeats it.
pub(super) fn message(body: &Value, token: &Secret) -> Option<String> {
    let error = body.get("error")?;
    let code = error["code"].as_i64()?;
    let subcode = error["error_subcode"].as_i64().map(|code| format!("/{code}")).unwrap_or_default();
    let said = error["message"].as_str().unwrap_or_default().replace(token.reveal(), "[token]");
    Some(format!("{code}{subcode} {said}"))
}

/// How long to wait: the longest time of any that it gives, which are in minutes.
fn wait(answer: &HttpReply) -> Option<SignedDuration> {
    let usage: Value = serde_json::from_str(answer.header("x-business-use-case-usage").unwrap_or_default())
        .unwrap_or_default();
    let kinds = usage.as_object().into_iter().flat_map(|businesses| businesses.values());
    let minutes = kinds
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|kind| kind["estimated_time_to_regain_access"].as_i64())
        .max();
    match minutes {
        Some(minutes @ 1..) => Some(SignedDuration::from_mins(minutes.min(24 * 60))),
        _ => answer.retry_after(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn judged(headers: &[(&str, &str)], body: &str) -> Option<Outcome> {
        let headers = headers.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let answer = HttpReply { status: 400, headers, body: Arc::from(body.as_bytes()), is_cut: false };
        refusal(&answer, &Secret::new("EAAB"))
    }

    #[test]
    fn a_code_means_what_it_means() {
        let of = |code: i64, subcode: i64| {
            let body =
                format!(r#"{{"error": {{"code": {code}, "error_subcode": {subcode}, "message": "m"}}}}"#);
            match judged(&[], &body) {
                Some(Outcome::Halt { reason, .. }) => format!("halt {}", reason.as_str()),
                Some(Outcome::Retry { reason, slower, .. }) => format!("retry {} {slower}", reason.as_str()),
                Some(Outcome::Rejected { bounce: None, .. }) => "rejected".to_owned(),
                None => "by its status".to_owned(),
                Some(other) => format!("{other:?}"),
            }
        };
        for (code, subcode, expected) in [
            (190, 463, "halt fail.auth"),
            (190, 460, "halt fail.auth"),
            (10, 0, "halt fail.auth"),
            (200, 0, "halt fail.auth"),
            (294, 0, "halt fail.auth"),
            (100, 1_713_230, "halt fail.remote_4xx"),
            (100, 33, "halt fail.remote_4xx"),
            (2650, 0, "halt fail.remote_4xx"),
            (2655, 0, "halt fail.remote_4xx"),
            (1_487_301, 0, "halt fail.remote_4xx"),
            (100, 1_487_366, "halt fail.remote_4xx"),
            (4, 0, "retry rate.remote_429 true"),
            (17, 2_446_079, "retry rate.remote_429 true"),
            (32, 0, "retry rate.remote_429 true"),
            (613, 0, "retry rate.remote_429 true"),
            (80_003, 0, "retry rate.remote_429 true"),
            (341, 0, "retry rate.remote_429 true"),
            (368, 0, "retry rate.remote_429 true"),
            (1, 0, "retry fail.remote_5xx false"),
            (2, 0, "retry fail.remote_5xx false"),
            (21_009, 0, "retry fail.remote_5xx false"),
            (5000, 0, "retry fail.remote_5xx false"),
            (105, 0, "rejected"),
            (100, 0, "rejected"),
            (999_999, 0, "by its status"),
        ] {
            assert_eq!(of(code, subcode), expected, "{code}/{subcode}");
        }
        let transient = r#"{"error": {"code": 100, "is_transient": true}}"#;
        assert!(matches!(judged(&[], transient), Some(Outcome::Retry { .. })));
        assert_eq!(judged(&[], "<html>"), None);
    }

    #[test]
    fn a_wait_is_the_longest_that_is_said() {
        let body = r#"{"error": {"code": 80003}}"#;
        let after =
            |usage: &str| match judged(&[("x-business-use-case-usage", usage), ("retry-after", "7")], body) {
                Some(Outcome::Retry { after, .. }) => after.map(|after| after.as_secs()),
                other => panic!("{other:?}"),
            };
        let entry = |minutes: &str| {
            format!(r#"{{"type": "custom_audience", "estimated_time_to_regain_access": {minutes}}}"#)
        };
        assert_eq!(
            after(&format!(r#"{{"1": [{}, {}], "2": [{}]}}"#, entry("3"), entry("19"), entry("5"))),
            Some(19 * 60)
        );
        assert_eq!(after(&format!(r#"{{"1": [{}]}}"#, entry("99999999"))), Some(24 * 3_600));
        assert_eq!(after(&format!(r#"{{"1": [{}]}}"#, entry("0"))), Some(7));
        assert_eq!(after(&format!(r#"{{"1": [{}]}}"#, entry("-9223372036854775808"))), Some(7));
    }

    #[test]
    fn a_token_that_meta_repeats_is_not_kept() {
        let body = r#"{"error": {"code": 190, "message": "Malformed access token EAAB"}}"#;
        let Some(Outcome::Halt { detail, .. }) = judged(&[], body) else { panic!("not held") };
        assert_eq!(detail, "HTTP 400: 190 Malformed access token [token]");
    }
}
