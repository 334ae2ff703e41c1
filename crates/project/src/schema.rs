//! JSON Schemas of the files, made from the same types that read them.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json, json};

use crate::KnownConnector;
use crate::read::Read;
use crate::{playbook, root, scenario_file, segment, sync};

/// Collects the definitions of one schema.
pub(crate) struct Schemas {
    definitions: BTreeMap<String, Json>,
    /// Whether `{env: NAME}` and its kin may stand for a single value.
    references: bool,
}

/// One key of a record.
pub(crate) struct Property {
    pub(crate) key: &'static str,
    pub(crate) doc: &'static str,
    pub(crate) required: bool,
    pub(crate) schema: Json,
}

impl Schemas {
    /// A map with known keys, defined once and referred to.
    pub(crate) fn record(
        &mut self,
        name: &str,
        doc: &str,
        properties: impl FnOnce(&mut Self) -> Vec<Property>,
    ) -> Json {
        self.define(name, |schemas| {
            let (mut all, mut required) = (Map::new(), Vec::new());
            for property in properties(schemas) {
                if property.required {
                    required.push(property.key);
                }
                all.insert(property.key.to_owned(), described(property.schema, property.doc));
            }
            json!({"description": doc.trim(), "type": "object", "properties": all, "required": required, "additionalProperties": false})
        })
    }

    /// Anything that is defined once and referred to, so that it may contain itself.
    pub(crate) fn define(&mut self, name: &str, make: impl FnOnce(&mut Self) -> Json) -> Json {
        if !self.definitions.contains_key(name) {
            self.definitions.insert(name.to_owned(), Json::Null);
            let made = make(self);
            self.definitions.insert(name.to_owned(), made);
        }
        json!({"$ref": format!("#/$defs/{name}")})
    }

    /// A single value, for which a reference may stand in a root file.
    pub(crate) fn single(&mut self, schema: Json) -> Json {
        if !self.references {
            return schema;
        }
        let reference = self.define("Reference", |_| {
            let one = |key: &str| json!({"type": "object", "properties": {key: {"type": "string"}}, "required": [key], "additionalProperties": false});
            json!({
                "description": "A value that is looked up: in the environment, in a file, or among systemd's credentials.",
                "anyOf": [
                    {"type": "object", "properties": {"env": {"type": "string"}, "default": {"type": ["string", "number", "boolean"]}}, "required": ["env"], "additionalProperties": false},
                    one("file"),
                    one("credential"),
                ],
            })
        });
        json!({"anyOf": [schema, reference]})
    }
}

fn described(schema: Json, doc: &str) -> Json {
    match schema {
        Json::Object(mut object) => {
            object.insert("description".to_owned(), Json::from(doc.trim()));
            Json::Object(object)
        }
        other => other,
    }
}

/// The schema of one kind of file.
pub(crate) fn of<T: Read>(title: &str, references: bool) -> Json {
    let mut schemas = Schemas { definitions: BTreeMap::new(), references };
    let Json::Object(root) = T::schema(&mut schemas) else { return json!(true) };
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    whole.insert("title".to_owned(), json!(title));
    whole.extend(root);
    whole.insert("$defs".to_owned(), schemas.definitions.into_iter().collect());
    Json::Object(whole)
}

/// The schema of every kind of file, and of what each connector takes.
///
/// The keys of the three root files may stand in any of them, so that `drumbeat`, `data` and `policy` have the same
/// keys, and none of them is required in one file.
pub fn schemas(connectors: &[KnownConnector]) -> BTreeMap<String, Json> {
    let mut all = BTreeMap::new();
    for (kind, title) in [("drumbeat", "drumbeat.yml"), ("data", "data.yml"), ("policy", "policy.yml")] {
        let mut schema = of::<root::Root>(title, true);
        if let Some(required) = schema.pointer_mut("/$defs/Root/required") {
            *required = json!([]);
        }
        all.insert(kind.to_owned(), schema);
    }
    all.insert("segment".to_owned(), of::<segment::RawSegment>("segments/NAME.yml", false));
    all.insert("playbook".to_owned(), of::<playbook::RawPlaybook>("playbooks/NAME.yml", false));
    all.insert("sync".to_owned(), of::<sync::RawSync>("syncs/NAME.yml", false));
    all.insert("test".to_owned(), of::<scenario_file::RawScenario>("tests/NAME.yml", false));
    for connector in connectors {
        all.insert(format!("connector.{}", connector.name), (connector.schema)());
    }
    all
}
