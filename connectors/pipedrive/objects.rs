//! What Pipedrive keeps, and how fields of it are written and read.

use connector::{Object, Outcome, Row, same_key};
use serde_json::{Map, Value, json};

use crate::crm::{as_day, halted, kept};

/// One sort of records.
#[derive(Debug)]
pub(super) struct Sort {
    /// As it stands in paths.
    pub(super) name: &'static str,
    /// Its plain words.
    words: &'static [&'static str],
    /// Where its fields are described.
    pub(super) fields_path: &'static str,
    /// Its own fields that can be written. Any other is one of the company's own (`custom_fields`).
    own: &'static [&'static str],
    /// Those of them by which it can be searched.
    found_by: &'static [&'static str],
}

/// All sorts.
pub(super) const SORTS: &[Sort] = &[
    Sort {
        name: "persons",
        words: &["person", "contact", "contacts"],
        fields_path: "personFields",
        own: &["name", "email", "phone", "owner_id", "org_id", "visible_to", "marketing_status"],
        found_by: &["email", "phone", "name"],
    },
    Sort {
        name: "organizations",
        words: &["organization", "company", "companies"],
        fields_path: "organizationFields",
        own: &["name", "address", "owner_id", "visible_to"],
        found_by: &["name"],
    },
    Sort {
        name: "deals",
        words: &["deal"],
        fields_path: "dealFields",
        own: &[
            "title",
            "value",
            "currency",
            "status",
            "owner_id",
            "person_id",
            "org_id",
            "pipeline_id",
            "stage_id",
            "probability",
            "lost_reason",
            "expected_close_date",
            "visible_to",
        ],
        found_by: &["title"],
    },
];

/// The kinds of a company's own fields whose values are one text or one number.
const KINDS: &[&str] =
    &["varchar", "varchar_auto", "text", "double", "date", "enum", "phone", "user", "org", "people"];

impl Sort {
    /// # Errors
    /// There is no such sort, or it is not spoken of here.
    pub(super) fn of(object: &Object) -> Result<&'static Self, Outcome> {
        let name = object.name.as_str();
        let sort = SORTS.iter().find(|sort| sort.name == name || sort.words.contains(&name));
        sort.ok_or_else(|| {
            let name: String = name.chars().take(60).collect();
            halted(format!("`{name}` is not supported: persons, organizations and deals are"))
        })
    }

    /// Whether it is one of Pipedrive's own fields, and not of the company's.
    fn is_own(&self, field: &str) -> bool {
        self.own.contains(&field)
    }

    /// In what a search looks for a key.
    pub(super) fn searched<'a>(&self, key: &'a str) -> &'a str {
        if self.found_by.contains(&key) { key } else { "custom_fields" }
    }

    /// Why a field cannot be used; `described` is what Pipedrive says of it. Its words for addresses and numbers are `email` and `phone` in one
    /// place, and `emails` and `phones` in the other.
    pub(super) fn why_not(&self, field: &str, described: Option<&Value>) -> Option<&'static str> {
        match described {
            None => Some("is not a field there"),
            Some(described) if described["is_custom_field"] == true => {
                let is_one = described["field_type"].as_str().is_some_and(|kind| KINDS.contains(&kind));
                (!is_one).then_some("is of a kind that is not supported")
            }
            Some(_) if self.is_own(field) => None,
            Some(_) => Some("is not written by this connector"),
        }
    }

    /// The same of the key.
    pub(super) fn why_not_key(&self, key: &str, described: Option<&Value>) -> Option<&'static str> {
        self.why_not(key, described).or_else(|| {
            let is_found = self.found_by.contains(&key) || !self.is_own(key);
            (!is_found).then_some("is not what records can be found by")
        })
    }

    /// Whether what Pipedrive describes under this name is the field.
    pub(super) fn is_called(field: &str, described: &Value) -> bool {
        let code = described["field_code"].as_str().unwrap_or_default();
        code == field || ["email", "phone"].contains(&field) && code.strip_suffix('s') == Some(field)
    }

    /// A record as it is written; with its key if it is to be made.
    pub(super) fn record(&self, key: &str, row: &Row) -> Value {
        let mut record = Map::new();
        let mut custom = Map::new();
        let made_with = (row.id.is_none()).then(|| (key.to_owned(), Value::from(row.key.clone())));
        for (field, value) in made_with.into_iter().chain(row.fields.clone()) {
            match field.as_str() {
                "email" | "phone" if self.is_own(&field) => {
                    record.insert(format!("{field}s"), several(&value));
                }
                "address" if self.is_own(&field) => {
                    let address = if value.is_null() { Value::Null } else { json!({ "value": value }) };
                    record.insert(field, address);
                }
                "expected_close_date" if self.is_own(&field) => {
                    record.insert(field, as_day(&value));
                }
                _ if self.is_own(&field) => {
                    record.insert(field, value);
                }
                _ => {
                    custom.insert(field, value);
                }
            }
        }
        if !custom.is_empty() {
            record.insert("custom_fields".to_owned(), Value::Object(custom));
        }
        Value::Object(record)
    }

    /// A field of a record, as Pipedrive gives it; `None`: it does not.
    pub(super) fn value(&self, record: &Value, field: &str) -> Option<Value> {
        let value = match field {
            "email" | "phone" if self.is_own(field) => first(record.get(format!("{field}s"))?),
            "address" if self.is_own(field) => record.get(field)?.get("value").cloned().unwrap_or_default(),
            _ if self.is_own(field) => record.get(field)?.clone(),
            _ => record.get("custom_fields")?.get(field)?.clone(),
        };
        Some(kept(&value))
    }

    /// Whether a record has this key: one of its addresses or numbers, where it has several.
    pub(super) fn has_key(&self, record: &Value, field: &str, key: &str) -> bool {
        let is_it = |value: &Value| match value {
            Value::String(text) => same_key(text) == same_key(key),
            Value::Number(number) => number.to_string() == key.trim(),
            _ => false,
        };
        match field {
            "email" | "phone" if self.is_own(field) => {
                all(record.get(format!("{field}s")).unwrap_or(&Value::Null)).any(|one| is_it(&one["value"]))
            }
            _ => self.value(record, field).is_some_and(|value| is_it(&value)),
        }
    }
}

/// The one address or number that is to be there.
fn several(value: &Value) -> Value {
    match value {
        Value::Null => json!([]),
        value => json!([{ "value": value, "primary": true, "label": "work" }]),
    }
}

/// The first among several, as Pipedrive calls it, or as it stands.
fn first(several: &Value) -> Value {
    let one = all(several).find(|one| one["primary"] == true).or_else(|| all(several).next());
    one.map(|one| one["value"].clone()).unwrap_or_default()
}

fn all(several: &Value) -> impl Iterator<Item = &Value> {
    several.as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_as_it_was_written() {
        let sort = &SORTS[0];
        let row = Row {
            key: "ana@example.test".to_owned(),
            id: None,
            fields: [
                ("name".to_owned(), json!("Ana")),
                ("phone".to_owned(), json!("+4930901820")),
                ("org_id".to_owned(), json!(5)),
                ("dcf558aac1ae4e8c4f849ba5e668430d8df9be12".to_owned(), Value::Null),
            ]
            .into(),
            trace: "t".to_owned(),
        };
        let record = sort.record("email", &row);
        assert_eq!(
            record,
            json!({
                "name": "Ana", "org_id": 5,
                "emails": [{ "value": "ana@example.test", "primary": true, "label": "work" }],
                "phones": [{ "value": "+4930901820", "primary": true, "label": "work" }],
                "custom_fields": { "dcf558aac1ae4e8c4f849ba5e668430d8df9be12": null },
            })
        );
        for (field, value) in &row.fields {
            assert_eq!(sort.value(&record, field).as_ref(), Some(value), "{field}");
        }
        assert!(sort.has_key(&record, "email", "Ana@Example.test"));
        assert_eq!(sort.value(&json!({ "emails": [] }), "email"), Some(Value::Null));
        assert_eq!(sort.value(&json!({}), "email"), None);
        let there =
            Row { id: Some("7".to_owned()), fields: [("email".to_owned(), Value::Null)].into(), ..row };
        assert_eq!(sort.record("name", &there), json!({ "emails": [] }));
    }

    #[test]
    fn the_key_may_be_any_of_several_addresses() {
        let record = json!({ "emails": [{ "value": "b@x.test" }, { "value": "a@x.test", "primary": true }] });
        assert!(SORTS[0].has_key(&record, "email", "b@x.test"));
        assert_eq!(SORTS[0].value(&record, "email"), Some(json!("a@x.test")));
    }
}
