//! How people are known at TikTok, and what its codes mean.

use std::collections::BTreeMap;

use super::*;
use crate::tests::opened_by_the_same_answer;

fn of(column: &str, raw: &str) -> Option<String> {
    let mut profile = connector::golden::sample_people()[0].clone();
    profile.attributes = BTreeMap::from([(column.to_owned(), model::Value::Text(raw.to_owned()))]);
    cell(&profile, column)
}

/// TikTok's help pages contradict each other; the newest is followed. What is in the column, what is hashed, and the hash.
#[test]
fn people_are_known_as_tiktoks_newest_page_says() {
    for (column, raw, normalised, sha256) in [
        // Published by TikTok.
        (
            "email",
            "JaneDoe@gmail.com",
            "janedoe@gmail.com",
            "d6117306485ed0e50afab3ac871e98f81699151f30281527d63ff5f233656c69",
        ),
        // An older page drops what follows a plus; others drop the dots as well. The newest keeps both.
        (
            "email",
            " Cloudy.SanFrancisco+shopping@gmail.com ",
            "cloudy.sanfrancisco+shopping@gmail.com",
            "8dd4a9bf850242873c14976125edabc35096192b784626a5641a7d2de56e3c1e",
        ),
        // With the plus, as the newest page says; the page of the month before left it out, and printed a hash for this number that no
        // spelling of it has.
        (
            "phone",
            "+1 (657) 777-0000",
            "+16577770000",
            "a6e82c2f4091baff57a4f33d01efb65bfbeacbbfbcfaa9d0ff9f57d28d78fedb",
        ),
    ] {
        assert_eq!(hashed(normalised).as_deref(), Some(sha256), "the table: {normalised}");
        assert_eq!(of(column, raw).as_deref(), Some(sha256), "{raw}");
    }
    let hash = "D6117306485ED0E50AFAB3AC871E98F81699151F30281527D63FF5F233656C69";
    assert_eq!(of("email", hash), Some(hash.to_lowercase()), "what is hashed stays");
    // The older page makes `16577770000` and `37493828222` of these: it guesses the country of the first. Nobody is known by a guess.
    for raw in ["(657)777-0000", "374-93-828222", "+0000000000", "+44 (0)20 7123 4567", ""] {
        assert_eq!(of("phone", raw), None, "{raw}");
    }
    assert_eq!(of("email", "jane doe@gmail.com"), None, "no address, and whose it is nobody knows");
}

#[test]
fn a_code_means_what_it_means() {
    let of = |code: i64| {
        let body = format!(r#"{{"code": {code}, "message": "m", "data": {{}}}}"#);
        let answer =
            HttpReply { status: 200, headers: vec![], body: Arc::from(body.as_bytes()), is_cut: false };
        match refusal(&answer, |_| None) {
            None => "taken".to_owned(),
            Some(Outcome::Halt { reason, .. }) => format!("halt {}", reason.as_str()),
            Some(Outcome::Retry { reason, slower, .. }) => format!("retry {} {slower}", reason.as_str()),
            Some(Outcome::Rejected { bounce: None, .. }) => "rejected".to_owned(),
            Some(other) => format!("{other:?}"),
        }
    };
    for (code, expected) in [
        (0, "taken"),
        (40_000, "rejected"),
        (40_001, "halt fail.auth"),
        (40_002, "rejected"),
        (40_100, "retry rate.remote_429 true"),
        (40_102, "halt fail.auth"),
        (40_104, "halt fail.auth"),
        (40_105, "halt fail.auth"),
        (40_700, "rejected"),
        (50_000, "retry fail.remote_5xx false"),
        (50_002, "retry fail.remote_5xx false"),
        (51_010, "retry fail.remote_5xx false"),
        (-1, "retry fail.remote_5xx false"),
    ] {
        assert_eq!(of(code), expected, "{code}");
    }
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let mistakes = |settings: &Value| {
        let settings = ConnectorSettings(settings.as_object().cloned().unwrap_or_default());
        let mistakes = build(&settings).err().unwrap_or_default();
        mistakes.into_iter().map(|mistake| mistake.key).collect::<Vec<_>>()
    };
    let good = json!({ "token": "t", "advertiser": "7000" });
    assert_eq!(mistakes(&good), Vec::<String>::new());
    for (key, value) in [
        ("advertiser", json!("")),
        ("advertiser", json!("act_7000")),
        ("identifiers", json!([])),
        ("identifiers", json!(["email", "id"])),
        ("token", json!("a b")),
    ] {
        let mut settings = good.clone();
        settings[key] = value;
        assert_eq!(mistakes(&settings), [key], "{settings}");
    }
}

#[test]
fn an_account_without_end_is_looked_through_for_a_while() {
    let settings = json!({ "token": "t", "advertiser": "7000" });
    let tiktok = build(&ConnectorSettings(settings.as_object().cloned().unwrap_or_default()))
        .expect("settings that fit");
    let page =
        r#"{"code":0,"data":{"list":[{"audience_id":"1","name":"a"}],"page_info":{"total_page":999}}}"#;
    let (calls, ended) = opened_by_the_same_answer(tiktok.as_ref(), page);
    assert_eq!(calls, PAGES_MAX);
    assert!(matches!(ended, Opened::Not(Outcome::Halt { .. })), "{ended:?}");
}
