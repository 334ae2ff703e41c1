//! `schema`: the JSON Schemas of a project's files.

use crate::context::{Context, known_connectors};
use crate::failure::{Failure, code};

/// Prints one schema, or all of them by name.
pub(crate) fn schema(context: &Context, kind: Option<&str>) -> Result<u8, Failure> {
    let schemas = project::schemas(&known_connectors());
    let value = match kind {
        None => serde_json::Value::Object(schemas.into_iter().collect()),
        Some(kind) => {
            let names: Vec<String> = schemas.keys().cloned().collect();
            schemas.into_iter().find(|(name, _)| name == kind).map(|(_, schema)| schema).ok_or_else(|| {
                Failure::new(format!("there is no schema `{kind}`"))
                    .hint(format!("there are: {}", names.join(", ")))
            })?
        }
    };
    context.printer.text(&serde_json::to_string_pretty(&value).unwrap_or_default())?;
    Ok(code::DONE)
}
