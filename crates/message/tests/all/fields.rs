//! Fields of a record: values keep their kind, what is missing is none, and what cannot be a value is refused.

use jiff::civil::date;
use message::{FieldText, Fields};
use model::{Reason, Value};
use serde_json::{Value as Json, json};

use crate::given::{Reader, text, values};

fn template(text: &str) -> FieldText {
    FieldText::Template(text.to_owned())
}

fn reader() -> Reader {
    let mut reader = Reader::new(&[("first_name", text("Ana")), ("empty", text(""))]);
    reader.account = values(&[
        ("arr", Value::Number(1_200.0)),
        ("ratio", Value::Number(0.25)),
        ("seats", Value::Integer(7)),
        ("paid", Value::Boolean(true)),
        ("renews", Value::Date(date(2026, 5, 1))),
        ("seen_at", Value::Time("2026-03-02T08:00:00Z".parse().unwrap())),
        ("tags", Value::Json(json!(["a", "b"]))),
    ]);
    reader
}

fn made(text: &str) -> Result<Json, model::Refusal> {
    let fields = Fields::compile(&[("field".to_owned(), template(text))], &["profile", "account"]).unwrap();
    Ok(fields.render(&reader().scope())?.remove("field").unwrap())
}

#[test]
fn one_tag_keeps_the_kind_of_its_value_and_a_text_is_a_text() {
    for (text, value) in [
        ("{{ account.arr }}", json!(1200)),
        ("{{ account.ratio }}", json!(0.25)),
        ("{{- account.seats -}}", json!(7)),
        (" {{ account.seats + 1 }} ", json!(8)),
        ("{{ account.paid }}", json!(true)),
        ("{{ account.renews }}", json!("2026-05-01")),
        ("{{ account.seen_at }}", json!("2026-03-02T08:00:00Z")),
        ("{{ account.tags | join('; ') }}", json!("a; b")),
        ("{{ profile.first_name | upper }}", json!("ANA")),
        ("Call {{ profile.first_name }} <b>", json!("Call Ana <b>")),
        ("{{ account.seats }} of {{ account.arr }}", json!("7 of 1200")),
        ("{% if account.paid %}yes{% endif %}", json!("yes")),
        ("{{ profile.empty }}", Json::Null),
        ("{{ profile.nothing }}", Json::Null),
        ("{{ account.nothing | default('none') }}", json!("none")),
        ("{% if account.nothing %}yes{% endif %}", Json::Null),
    ] {
        assert_eq!(made(text).unwrap(), value, "{text}");
    }
}

#[test]
fn what_is_no_value_is_refused_with_its_field() {
    for (text, reason, saw) in [
        ("Call {{ profile.nothing }}", Reason::VarMissing, "`profile.nothing` is missing (in the field)"),
        (
            "{{ account.tags }}",
            Reason::VarInvalid,
            "a list or a map is no value of a field: join it, as in `| join(\"; \")` (in the field)",
        ),
        ("{{ skip('no') }}", Reason::AuthorAbort, "no (in the field)"),
    ] {
        let refusal = made(text).unwrap_err();
        assert_eq!((refusal.reason, refusal.saw.as_str()), (reason, saw), "{text}");
    }
}

#[test]
fn mistakes_are_said_with_their_field_and_all_at_once() {
    let fields = [
        ("a".to_owned(), template("{{ account.arr")),
        ("b".to_owned(), template("{{ entry.plan }}")),
        ("c".to_owned(), template("{{ profil.plan }}")),
        ("d".to_owned(), FieldText::Constant(json!(1))),
    ];
    let wrong = Fields::compile(&fields, &["profile", "account"]).unwrap_err();
    let names: Vec<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(wrong[1].1.message, "there is no `entry` here");
    assert_eq!((wrong[1].1.line, wrong[1].1.column), (1, 4));
}
