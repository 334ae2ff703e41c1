//! Three made-up people for `check`: one of whom everything is known, one of whom nothing is, and a hostile one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::date;
use model::Value;
use model::value::ValueType;
use serde_json::json;

/// A column: its name, its type where it is declared, and the values it may have where they are.
pub type Column = (String, Option<ValueType>, Vec<String>);

/// People with these columns: `full`, `empty`, `hostile`.
pub fn samples(columns: &[Column]) -> [(&'static str, BTreeMap<String, Value>); 3] {
    let all = |make: &dyn Fn(&Column) -> Value| {
        columns.iter().map(|column| (column.0.clone(), make(column))).collect()
    };
    [("full", all(&full)), ("empty", all(&|_| Value::Missing)), ("hostile", all(&|column| hostile(column.1)))]
}

fn full((name, kind, values): &Column) -> Value {
    let guessed = || match name.as_str() {
        "email" => "ana@example.test".to_owned(),
        "phone" => "+493012345678".to_owned(),
        "timezone" => "Europe/Berlin".to_owned(),
        "locale" => "en".to_owned(),
        "country" => "DE".to_owned(),
        "first_name" => "Ana".to_owned(),
        "last_name" => "Schröder-Nguyễn".to_owned(),
        name if name.ends_with("_at") || name.ends_with("_on") => "2026-03-03T09:00:00Z".to_owned(),
        name => name.replace('_', " "),
    };
    match kind {
        Some(ValueType::Integer) => {
            Value::Integer(values.first().and_then(|value| value.parse().ok()).unwrap_or(42))
        }
        Some(ValueType::Number) => {
            Value::Number(values.first().and_then(|value| value.parse().ok()).unwrap_or(1234.5))
        }
        Some(ValueType::Boolean) => Value::Boolean(true),
        Some(ValueType::Date) => Value::Date(date(2026, 3, 3)),
        Some(ValueType::Time) => Value::Time(Timestamp::constant(1_772_528_400, 0)),
        Some(ValueType::Json) => {
            Value::Json(json!({"name": "Ana", "items": [{"sku": "a1", "qty": 2, "price": 9.5}]}))
        }
        Some(ValueType::Text) | None => Value::Text(values.first().cloned().unwrap_or_else(guessed)),
    }
}

fn hostile(kind: Option<ValueType>) -> Value {
    match kind {
        Some(ValueType::Integer) => Value::Integer(i64::MIN),
        Some(ValueType::Number) => Value::Number(f64::MAX),
        Some(ValueType::Boolean) => Value::Boolean(false),
        Some(ValueType::Date) => Value::Date(jiff::civil::Date::MIN),
        Some(ValueType::Time) => Value::Time(Timestamp::MAX),
        Some(ValueType::Json) => {
            Value::Json(json!({"name": hostile_text(), "items": [null, [], {}, hostile_text()]}))
        }
        Some(ValueType::Text) | None => Value::Text(hostile_text()),
    }
}

/// Quotes, markup, template tags, line breaks that would be headers, text from right to left, emoji, NUL; 10 kB.
fn hostile_text() -> String {
    let start = "\"'`</td></table><script>alert(1)</script><!-- --> {{ 7*7 }}{% for x in y %}{# &amp; =?utf-8?Q?=0D=0A?= \
        \r\nBcc: eve@example.test\r\n\r\n.\r\n\u{0} \u{202e}שלום مرحبا\u{202c} 👩‍👩‍👧‍👦 \u{feff}%0d%0a javascript:alert(1) ";
    start.chars().cycle().take(10_000 / 2).collect::<String>() + &"x".repeat(5_000)
}
