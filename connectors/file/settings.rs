//! What the connector `file` takes.

use schemars::JsonSchema;
use serde::Deserialize;

/// Every setting once.
pub(super) const EXAMPLE: &str = r#"{ "path": "outbox", "format": "both" }"#;

/// Settings of a folder.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The folder, relative to the project. It is made if it is not there.
    pub path: String,
    /// What is written: `eml` (a file a message, as mail programs open it), `jsonl` (a line a message in `log.jsonl`) or
    /// `both`.
    #[serde(default)]
    pub format: Format,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Format {
    /// A file a message.
    Eml,
    /// A line a message.
    Jsonl,
    /// Both.
    #[default]
    Both,
}
