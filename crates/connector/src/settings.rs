//! Reading a destination's settings: every mistake at once, each with its key, none with its value.

use model::settings::ConnectorSettings;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::kind::Kind;

/// What is wrong with one setting. The message does not repeat the value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsMistake {
    /// The key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl SettingsMistake {
    /// A mistake.
    pub fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into() }
    }
}

/// The JSON Schema of a type of settings.
pub fn schema_of<T: JsonSchema>() -> Value {
    schemars::schema_for!(T).to_value()
}

/// Reads settings into their type. Unknown keys, missing keys and wrong values are all found at once: each value is tried
/// on its own in the kind's example, and what is expected is said in the words of the schema.
pub fn read_settings<T: DeserializeOwned>(
    kind: &Kind,
    settings: &ConnectorSettings,
) -> Result<T, Vec<SettingsMistake>> {
    let schema = (kind.schema)();
    let no_properties = Map::new();
    let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&no_properties);
    let mut mistakes = Vec::new();
    for (key, value) in &settings.0 {
        match properties.get(key) {
            None => mistakes.push(SettingsMistake::new(key, unknown(kind, key, properties))),
            Some(property) if !fits::<T>(kind, key, value) => {
                mistakes.push(SettingsMistake::new(key, format!("expected {}", expected(property))));
            }
            Some(_) => {}
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for key in required.into_iter().flatten().filter_map(Value::as_str) {
        if !settings.0.contains_key(key) {
            mistakes
                .push(SettingsMistake::new(key, format!("is missing: connector `{}` needs it", kind.name)));
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    serde_json::from_value(Value::Object(settings.0.clone())).map_err(|_unnamed| {
        vec![SettingsMistake::new("", format!("these are not settings of connector `{}`", kind.name))]
    })
}

fn fits<T: DeserializeOwned>(kind: &Kind, key: &str, value: &Value) -> bool {
    let Ok(mut example) = serde_json::from_str::<Map<String, Value>>(kind.example) else { return true };
    example.insert(key.to_owned(), value.clone());
    serde_json::from_value::<T>(Value::Object(example)).is_ok()
}

fn unknown(kind: &Kind, key: &str, properties: &Map<String, Value>) -> String {
    let closest = properties.keys().map(|known| (distance(key, known), known)).min();
    match closest {
        Some((distance, known)) if distance <= 2 => {
            format!("connector `{}` has no such setting; did you mean `{known}`?", kind.name)
        }
        _ => {
            let known: Vec<&str> = properties.keys().map(String::as_str).collect();
            format!("connector `{}` has no such setting; it takes {}", kind.name, known.join(", "))
        }
    }
}

/// What a property of a schema takes, for people.
fn expected(property: &Value) -> String {
    let words: Vec<&str> = ["enum", "oneOf", "anyOf"]
        .iter()
        .filter_map(|key| property.get(key).and_then(Value::as_array))
        .flatten()
        .filter_map(|one| one.as_str().or_else(|| one.get("const").and_then(Value::as_str)))
        .collect();
    if !words.is_empty() {
        return format!("one of {}", words.join(", "));
    }
    let kind =
        property.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0).and_then(Value::as_str)));
    match kind {
        Some("integer") => {
            let bound = |key| property.get(key).and_then(Value::as_u64);
            match (bound("minimum"), bound("maximum")) {
                (Some(from), Some(to)) => format!("a whole number from {from} to {to}"),
                (Some(from), None) => format!("a whole number from {from}"),
                _ => "a whole number".to_owned(),
            }
        }
        Some("boolean") => "true or false".to_owned(),
        _ => "text".to_owned(),
    }
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[right.len()]
}
