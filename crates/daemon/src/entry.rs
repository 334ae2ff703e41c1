//! The columns of an entry, sealed: the only values of the warehouse that state keeps, until the enrollment ends.

use std::collections::BTreeMap;

use model::Value;
use serde_json::json;
use state::Keys;

use crate::daemon::DaemonError;

/// What the seal is bound to.
const PURPOSE: &str = "enrollment.entry";

/// Seals the columns.
pub(crate) fn seal(keys: &Keys, entry: &BTreeMap<String, Value>) -> Result<Vec<u8>, state::StateError> {
    let json: serde_json::Map<String, serde_json::Value> =
        entry.iter().map(|(name, value)| (name.clone(), to_json(value))).collect();
    keys.seal(serde_json::Value::Object(json).to_string().as_bytes(), PURPOSE)
}

/// Opens them again.
pub(crate) fn open(keys: &Keys, sealed: Option<&[u8]>) -> Result<BTreeMap<String, Value>, DaemonError> {
    let Some(sealed) = sealed else { return Ok(BTreeMap::new()) };
    let plain = keys.open(sealed, PURPOSE).map_err(|_| DaemonError::Sealed)?;
    let json: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&plain).map_err(|_| DaemonError::Sealed)?;
    Ok(json.into_iter().map(|(name, value)| (name, from_json(&value))).collect())
}

/// A tagged value, so that a time comes back as a time.
fn to_json(value: &Value) -> serde_json::Value {
    match value {
        Value::Missing => serde_json::Value::Null,
        Value::Boolean(boolean) => json!({ "b": boolean }),
        Value::Integer(integer) => json!({ "i": integer }),
        Value::Number(number) => json!({ "n": number }),
        Value::Text(text) => json!({ "t": text }),
        Value::Date(date) => json!({ "d": date.to_string() }),
        Value::Time(time) => json!({ "z": time.to_string() }),
        Value::Json(inner) => json!({ "j": inner }),
    }
}

fn from_json(json: &serde_json::Value) -> Value {
    let Some((tag, inner)) = json.as_object().and_then(|object| object.iter().next()) else {
        return Value::Missing;
    };
    let value = match tag.as_str() {
        "b" => inner.as_bool().map(Value::Boolean),
        "i" => inner.as_i64().map(Value::Integer),
        "n" => inner.as_f64().map(Value::Number),
        "t" => inner.as_str().map(|text| Value::Text(text.to_owned())),
        "d" => inner.as_str().and_then(|text| text.parse().ok()).map(Value::Date),
        "z" => inner.as_str().and_then(|text| text.parse().ok()).map(Value::Time),
        "j" => Some(Value::Json(inner.clone())),
        _ => None,
    };
    value.unwrap_or(Value::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back_as_it_was() {
        let values = [
            Value::Missing,
            Value::Boolean(true),
            Value::Integer(-7),
            Value::Number(1.5),
            Value::Text("x".to_owned()),
            Value::Date("2026-01-05".parse().unwrap()),
            Value::Time("2026-01-05T09:00:00Z".parse().unwrap()),
            Value::Json(json!({ "i": [1] })),
        ];
        for value in values {
            assert_eq!(from_json(&to_json(&value)), value);
        }
    }
}
