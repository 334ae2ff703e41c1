//! Sessions, proofs, settings, and what becomes of people when settings change.

use connector::{Call, Step};

use super::*;
use crate::tests::opened_by_the_same_answer;

#[test]
fn a_proof_is_what_metas_library_makes() {
    assert_eq!(
        proof("APPSECRET", "EAATOKEN"),
        "5e86e82e8afd344a7d2f6319b40b596571b9c7a72815fa79c42ac33e06d91770"
    );
}

#[test]
fn a_session_follows_from_the_key_and_has_no_sign() {
    assert_eq!(session("00f1e2d3c4b5a697"), 0x0078_f169_e25a_d34b);
    assert!(i64::try_from(session("ffffffffffffffff")).is_ok());
}

fn mistakes(settings: Value) -> Vec<String> {
    let settings = ConnectorSettings(settings.as_object().cloned().unwrap_or_default());
    let mistakes = build(&settings).err().unwrap_or_default();
    mistakes.into_iter().map(|mistake| mistake.key).collect()
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    assert_eq!(mistakes(json!({ "token": "t", "ad_account": "7" })), Vec::<String>::new());
    for (key, value) in [
        ("ad_account", json!("act_act_7")),
        ("ad_account", json!("act_")),
        ("ad_account", json!("7/customaudiences")),
        ("version", json!("26.0")),
        ("version", json!("v26")),
        ("version", json!("v26.0/me")),
        ("identifiers", json!([])),
        ("identifiers", json!(["email", "birthday"])),
        ("identifiers", json!(["first_name", "city"])),
        ("token", json!("a b")),
        ("app_secret", json!("")),
        ("customer_file_source", json!("guessed")),
    ] {
        let mut settings = json!({ "token": "t", "ad_account": "7" });
        settings[key] = value;
        assert_eq!(mistakes(settings.clone()), [key], "{settings}");
    }
}

/// What was allowed once is removed by what it is known by; nothing is added by it any more.
#[test]
fn settings_that_allow_less_let_go_of_what_was_there() {
    let built = |identifiers: Value| {
        let settings = json!({ "token": "t", "ad_account": "7", "identifiers": identifiers });
        build(&ConnectorSettings(settings.as_object().cloned().unwrap_or_default()))
            .expect("settings that fit")
    };
    let (wide, narrow) = (built(json!(["email", "phone"])), built(json!(["phone"])));
    let body = |verb| {
        let members = wide.audiences().map(|wide| connector::golden::sample_change(wide, verb, "900"));
        let change = members.expect("it has audiences");
        let mut exchange = narrow.audiences().expect("it has audiences").change(&change);
        let Step::Call(Call { request: Request::Http(request), .. }) = exchange.next(None) else {
            panic!("no request")
        };
        serde_json::from_slice::<Value>(&request.body).expect("JSON")
    };
    assert_eq!(body(Verb::Add)["payload"]["schema"], json!(["PHONE"]));
    assert_eq!(body(Verb::Remove)["payload"]["schema"], json!(["EMAIL", "PHONE"]));
}

#[test]
fn an_account_without_end_is_looked_through_for_a_while() {
    let settings = json!({ "token": "t", "ad_account": "7" });
    let meta = build(&ConnectorSettings(settings.as_object().cloned().unwrap_or_default()))
        .expect("settings that fit");
    let page =
        r#"{"data":[{"id":"1","name":"a"}],"paging":{"cursors":{"after":"A"},"next":"https://a.test"}}"#;
    let (calls, ended) = opened_by_the_same_answer(meta.as_ref(), page);
    assert_eq!(calls, PAGES_MAX);
    assert!(matches!(ended, Opened::Not(Outcome::Halt { .. })), "{ended:?}");
}
