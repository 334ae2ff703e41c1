//! Decoders and schemas say the same: what one takes the other takes, key by key and value by value.

use serde_json::{Map, Value as Json, json};

use super::made::{GOOD, connectors};
use crate::read::{Asking, Cx, Mentioned, Read};
use crate::{playbook, root, scenario_file, segment, steps, yaml};

/// Whether a tree fits a schema: the part of JSON Schema that ours are made of, without patterns of texts.
fn fits(value: &Json, schema: &Json, whole: &Json) -> bool {
    let Some(schema) = schema.as_object() else { return schema != &json!(false) };
    schema.iter().all(|(word, wants)| match word.as_str() {
        "$ref" => fits(value, whole.pointer(wants.as_str().unwrap().trim_start_matches('#')).unwrap(), whole),
        "type" => match wants {
            Json::Array(kinds) => kinds.iter().any(|kind| is_a(value, kind.as_str().unwrap())),
            kind => is_a(value, kind.as_str().unwrap()),
        },
        "enum" => wants.as_array().unwrap().contains(value),
        "const" => value == wants,
        "minimum" => value.as_f64().is_none_or(|number| number >= wants.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= wants.as_f64().unwrap()),
        "minItems" => value.as_array().is_none_or(|items| items.len() as u64 >= wants.as_u64().unwrap()),
        "minProperties" => {
            value.as_object().is_none_or(|object| object.len() as u64 >= wants.as_u64().unwrap())
        }
        "items" => value.as_array().is_none_or(|items| items.iter().all(|item| fits(item, wants, whole))),
        "anyOf" => wants.as_array().unwrap().iter().any(|one| fits(value, one, whole)),
        "allOf" => wants.as_array().unwrap().iter().all(|one| fits(value, one, whole)),
        "oneOf" => wants.as_array().unwrap().iter().filter(|one| fits(value, one, whole)).count() == 1,
        "required" => value.as_object().is_none_or(|object| {
            wants.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
        }),
        "dependentRequired" => value.as_object().is_none_or(|object| {
            let together = |(key, others): (&String, &Json)| {
                !object.contains_key(key)
                    || others
                        .as_array()
                        .unwrap()
                        .iter()
                        .all(|other| object.contains_key(other.as_str().unwrap()))
            };
            wants.as_object().unwrap().iter().all(together)
        }),
        "properties" => value.as_object().is_none_or(|object| properties_fit(object, schema, whole)),
        "additionalProperties" if !schema.contains_key("properties") => {
            value.as_object().is_none_or(|object| properties_fit(object, schema, whole))
        }
        "additionalProperties"
        | "patternProperties"
        | "propertyNames"
        | "pattern"
        | "description"
        | "title"
        | "$schema"
        | "$defs" => true,
        other => panic!("the test does not know `{other}`"),
    })
}

fn properties_fit(object: &Map<String, Json>, schema: &Map<String, Json>, whole: &Json) -> bool {
    object.iter().all(|(key, value)| {
        if let Some(property) = schema.get("properties").and_then(|properties| properties.get(key)) {
            return fits(value, property, whole);
        }
        let patterns = schema.get("patternProperties").and_then(Json::as_object);
        let prefix = |pattern: &str| pattern.trim_start_matches('^').replace('\\', "");
        if let Some((_, found)) =
            patterns.into_iter().flatten().find(|(pattern, _)| key.starts_with(&prefix(pattern)))
        {
            return fits(value, found, whole);
        }
        schema.get("additionalProperties").is_none_or(|more| fits(value, more, whole))
    })
}

fn is_a(value: &Json, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "object" => value.is_object(),
        "array" => value.is_array(),
        "null" => value.is_null(),
        other => panic!("no type `{other}`"),
    }
}

/// Whether the decoder takes a tree.
fn reads<T: Read>(value: &Json, references: bool) -> bool {
    let connectors = connectors();
    let lookup = |_: &str| Some("looked-up".to_owned());
    let dir = tempfile::tempdir().unwrap();
    let mut cx = Cx::new(dir.path(), &lookup, &connectors);
    std::fs::create_dir(dir.path().join("sql")).unwrap();
    std::fs::write(dir.path().join("sql/open_ticket.sql"), "select 1 as id").unwrap();
    (cx.references, cx.asking) = (references, if references { Asking::People } else { Asking::UnderWay });
    steps::begin(&mut cx);
    let file = cx.files.add("it.yml".to_owned(), value.to_string());
    let mut mistakes = Vec::new();
    let node = yaml::parse(&cx.files, file, &mut mistakes).unwrap_or_else(|| panic!("{mistakes:?}"));
    let taken = T::read(&node, &mut cx).is_some() && !cx.mistakes.iter().any(|mistake| !mistake.warning);
    // What cannot be a name is refused when names are looked up.
    taken
        && cx
            .mentions
            .iter()
            .all(|mention| !matches!(&mention.what, Mentioned::Name(_, name) if !model::name::is_name(name)))
}

type Reads = fn(&Json, bool) -> bool;

/// Every file of the good project as a tree, with its decoder and its schema.
fn files() -> Vec<(&'static str, Json, Reads, bool, Json)> {
    let schemas = crate::schemas(&connectors());
    let mut files = Vec::new();
    let mut root = Map::new();
    for (path, text) in GOOD.iter().filter(|(path, _)| path.ends_with(".yml")) {
        let mut sources = crate::source::Files::default();
        let file = sources.add((*path).to_owned(), (*text).to_owned());
        let tree = crate::values::to_json(&yaml::parse(&sources, file, &mut Vec::new()).unwrap());
        match path.split('/').next().unwrap() {
            "segments" => files.push((
                *path,
                tree,
                reads::<segment::RawSegment> as Reads,
                false,
                schemas["segment"].clone(),
            )),
            "playbooks" => {
                files.push((*path, tree, reads::<playbook::RawPlaybook>, false, schemas["playbook"].clone()))
            }
            "tests" => {
                files.push((*path, tree, reads::<scenario_file::RawScenario>, false, schemas["test"].clone()))
            }
            _ => root.extend(tree.as_object().unwrap().clone()),
        }
    }
    let mut schema = schemas["drumbeat"].clone();
    // In one file none of the keys is required; of all files together some are.
    schema["$defs"]["Root"]["required"] = json!(["version", "project", "warehouse", "profiles"]);
    files.push(("root", Json::Object(root), reads::<root::Root>, true, schema));
    files
}

/// Every tree that differs in one place: the place as a pointer, with the tree.
fn variants(tree: &Json, change: &dyn Fn(&Json) -> Vec<Json>) -> Vec<(String, Json)> {
    fn walk(at: &Json, pointer: &str, change: &dyn Fn(&Json) -> Vec<Json>, found: &mut Vec<(String, Json)>) {
        found.extend(change(at).into_iter().map(|changed| (pointer.to_owned(), changed)));
        match at {
            Json::Object(object) => object.iter().for_each(|(key, value)| {
                walk(value, &format!("{pointer}/{}", key.replace('/', "~1")), change, found)
            }),
            Json::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(position, item)| walk(item, &format!("{pointer}/{position}"), change, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(tree, "", change, &mut found);
    found
        .into_iter()
        .map(|(pointer, changed)| {
            let mut whole = tree.clone();
            *whole.pointer_mut(&pointer).unwrap() = changed;
            (pointer, whole)
        })
        .collect()
}

#[test]
fn the_good_project_fits_its_schemas() {
    for (path, tree, reads, references, schema) in files() {
        assert!(reads(&tree, references), "{path}: decoder");
        assert!(fits(&tree, &schema, &schema), "{path}: schema");
    }
}

#[test]
fn an_unknown_key_and_a_missing_one_are_refused_by_both_or_by_neither() {
    let change = |at: &Json| {
        let Json::Object(object) = at else { return Vec::new() };
        let mut more = object.clone();
        more.insert("zzz".to_owned(), json!(1));
        let mut all = vec![Json::Object(more)];
        for key in object.keys() {
            let mut fewer = object.clone();
            fewer.remove(key);
            all.push(Json::Object(fewer));
        }
        all
    };
    let mut tried = 0;
    for (path, tree, reads, references, schema) in files() {
        for (pointer, changed) in variants(&tree, &change) {
            // What a connector takes is its own schema; what goes with what is said by `query` and the like, not by the schema.
            if pointer.starts_with("/destinations/") || pointer.starts_with("/environments/") {
                continue;
            }
            tried += 1;
            assert_eq!(
                reads(&changed, references),
                fits(&changed, &schema, &schema),
                "{path}{pointer}: {}",
                changed.pointer(&pointer).unwrap()
            );
        }
    }
    assert!(tried > 200, "{tried}");
}

#[test]
fn what_a_decoder_takes_the_schema_takes() {
    let others = [
        json!(""),
        json!("text"),
        json!("3d"),
        json!(7),
        json!(true),
        json!([]),
        json!(["mon"]),
        json!({}),
        json!({"env": "X"}),
        json!({"not": "active"}),
    ];
    // `true` or `7` without quotes would do for a name; no editor need say so.
    let fair = |at: &Json, other: &&Json| {
        (!other.is_boolean() || at.is_boolean()) && (!other.is_number() || !at.is_string())
    };
    let change = |at: &Json| others.iter().filter(|other| fair(at, other)).cloned().collect();
    let mut taken = 0;
    for (path, tree, reads, references, schema) in files() {
        for (pointer, changed) in variants(&tree, &change) {
            // Destinations are read when their connector is known.
            if !pointer.starts_with("/destinations/") && reads(&changed, references) {
                taken += 1;
                assert!(
                    fits(&changed, &schema, &schema),
                    "{path}{pointer}: {}",
                    changed.pointer(&pointer).unwrap()
                );
            }
        }
    }
    assert!(taken > 200, "{taken}");
}

#[test]
fn every_schema_has_a_title_and_every_key_a_sentence() {
    let schemas = crate::schemas(&connectors());
    let kinds: Vec<&str> = schemas.keys().map(String::as_str).collect();
    assert_eq!(
        kinds,
        [
            "connector.ledger",
            "connector.pigeon",
            "connector.smtp",
            "connector.text",
            "data",
            "drumbeat",
            "playbook",
            "policy",
            "segment",
            "sync",
            "test"
        ]
    );
    for (kind, schema) in schemas.iter().filter(|(kind, _)| !kind.starts_with("connector.")) {
        assert!(schema["title"].is_string() && schema["$schema"].is_string(), "{kind}");
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            for (key, property) in
                definition.get("properties").and_then(Json::as_object).into_iter().flatten()
            {
                if !["Condition", "ValueTest", "Destination", "Environments", "Reference"]
                    .contains(&name.as_str())
                {
                    assert!(property.get("description").is_some(), "{kind}: {name}.{key}");
                }
            }
        }
    }
}
